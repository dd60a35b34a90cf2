//! Sum, min and max.

use bytes::Bytes;
use kvasir_kv::{AtomicWrite, Error, Mutation, Outcome, SumBounds, Value};

use super::{Bed, json, key, later, set};
use crate::model::double;

fn sum(operand: Value) -> Mutation {
    bounded(operand, SumBounds::default())
}

fn bounded(operand: Value, bounds: SumBounds) -> Mutation {
    let key = key("n");
    Mutation::Sum {
        key,
        operand,
        bounds,
    }
}

impl Bed {
    /// The value of `n` after a mutation, or the error.
    async fn after(&self, stored: Option<Value>, mutation: Mutation) -> Result<Value, Error> {
        match stored {
            Some(value) => self.apply(Mutation::set(key("n"), value)).await,
            None => self.delete("n").await,
        };
        let outcome = self
            .store()
            .commit(AtomicWrite::new().push(mutation))
            .await?;
        assert!(matches!(outcome, Outcome::Committed(_)));
        Ok(self.entry("n").await.expect("just written").value)
    }
}

/// Modulo 2^64, as KV Connect says.
pub async fn sums_of_u64_wrap(bed: Bed) {
    let sums = [
        (1, 2, 3),
        (u64::MAX, 1, 0),
        (u64::MAX, u64::MAX, u64::MAX - 1),
    ];
    for (stored, operand, expected) in sums {
        let found = bed
            .after(Some(Value::u64(stored)), sum(Value::u64(operand)))
            .await;
        assert_eq!(found.unwrap(), Value::u64(expected));
    }
}

/// Its bytes as they are, for all three mutations.
pub async fn an_absent_key_takes_the_operand(bed: Bed) {
    let odd = Value::v8(vec![0xff, 13, b'I', 4]);
    assert_eq!(bed.after(None, sum(odd.clone())).await.unwrap(), odd);
    for operand in [Value::u64(3), json("3.0")] {
        let (min, max) = (operand.clone(), operand.clone());
        let min = Mutation::Min {
            key: key("n"),
            operand: min,
        };
        let max = Mutation::Max {
            key: key("n"),
            operand: max,
        };
        for mutation in [sum(operand.clone()), min, max] {
            assert_eq!(bed.after(None, mutation).await.unwrap(), operand);
        }
    }
}

/// Clamped or refused beyond them.
pub async fn v8_numbers_add_up_within_their_bounds(bed: Bed) {
    let bound = |number| -> Option<Bytes> { Some(double(number).bytes) };
    let bounds = |clamp| SumBounds {
        min: bound(0.0),
        max: bound(10.0),
        clamp,
    };
    let five = || Some(double(5.0));
    assert_eq!(
        bed.after(five(), sum(double(0.5))).await.unwrap(),
        double(5.5)
    );
    for (operand, clamped) in [(5.0, 10.0), (-5.0, 0.0)] {
        let exact = bounded(double(operand), bounds(false));
        assert_eq!(bed.after(five(), exact).await.unwrap(), double(clamped));
    }
    for (operand, clamped) in [(6.0, 10.0), (-6.0, 0.0)] {
        let clamping = bounded(double(operand), bounds(true));
        assert_eq!(bed.after(five(), clamping).await.unwrap(), double(clamped));
        let refusing = bounded(double(operand), bounds(false));
        let refused = bed.after(five(), refusing).await;
        assert!(
            matches!(refused, Err(Error::TypeMismatch(_))),
            "{refused:?}"
        );
    }
}

/// And stay JSON.
pub async fn json_numbers_add_up(bed: Bed) {
    let found = bed.after(Some(json("41")), sum(json("1"))).await;
    assert_eq!(found.unwrap(), json("42"));
    let found = bed.after(Some(json(" 0.5")), sum(json("-1"))).await;
    assert_eq!(found.unwrap(), json("-0.5"));
}

/// Of stored number and operand.
pub async fn min_and_max_keep_the_extreme(bed: Bed) {
    let pairs = [
        (Value::u64(3), Value::u64(5)),
        (Value::u64(u64::MAX - 1), Value::u64(u64::MAX)),
        (json("-3"), json("2.5")),
    ];
    for (small, large) in pairs {
        for (stored, operand) in [(&small, &large), (&large, &small), (&small, &small)] {
            let min = Mutation::Min {
                key: key("n"),
                operand: operand.clone(),
            };
            let smaller = if stored == operand { stored } else { &small };
            assert_eq!(
                bed.after(Some(stored.clone()), min).await.unwrap(),
                *smaller
            );
            let max = Mutation::Max {
                key: key("n"),
                operand: operand.clone(),
            };
            let larger = if stored == operand { stored } else { &large };
            assert_eq!(bed.after(Some(stored.clone()), max).await.unwrap(), *larger);
        }
    }
}

/// Whatever stood before it in the same write.
pub async fn a_refused_number_leaves_the_store_unchanged(bed: Bed) {
    bed.set("n", "\"text\"").await;
    let before = bed.all().await;
    let mutations = [
        sum(json("1")),
        sum(Value::u64(1)),
        Mutation::Min {
            key: key("n"),
            operand: Value::u64(1),
        },
        Mutation::Max {
            key: key("n"),
            operand: Value::u64(1),
        },
    ];
    for mutation in mutations {
        let write = AtomicWrite::new().push(set("other", "1")).push(mutation);
        let refused = bed.store().commit(write).await;
        assert!(
            matches!(refused, Err(Error::TypeMismatch(_))),
            "{refused:?}"
        );
        assert_eq!(bed.all().await, before);
    }
    // A failed check comes first: the write does not even get to its mutations.
    let write = AtomicWrite::new()
        .check_absent(key("n"))
        .push(sum(json("1")));
    let outcome = bed.store().commit(write).await.unwrap();
    assert_eq!(outcome, Outcome::Conflict { failed: vec![0] });
}

/// As in KV Connect, the result never expires.
pub async fn numbers_remove_the_expiry(bed: Bed) {
    let set = Mutation::set_expiring(key("n"), Value::u64(1), Some(later(10)));
    for mutation in [
        sum(Value::u64(1)),
        Mutation::Min {
            key: key("n"),
            operand: Value::u64(9),
        },
        Mutation::Max {
            key: key("n"),
            operand: Value::u64(0),
        },
    ] {
        bed.apply(set.clone()).await;
        bed.apply(mutation).await;
        assert_eq!(bed.entry("n").await.unwrap().expires_at, None);
    }
    bed.clock.set(later(20));
    assert!(bed.entry("n").await.is_some());
}

/// Even where the key is absent and nothing would have to be added.
pub async fn an_operand_that_is_no_number_is_invalid(bed: Bed) {
    for operand in [
        json("\"1\""),
        Value::bytes("1"),
        Value::v8(vec![0xff, 15, b'T']),
    ] {
        let (min, max) = (operand.clone(), operand.clone());
        let min = Mutation::Min {
            key: key("n"),
            operand: min,
        };
        let max = Mutation::Max {
            key: key("n"),
            operand: max,
        };
        for mutation in [sum(operand.clone()), min, max] {
            let refused = bed.after(None, mutation).await;
            assert!(
                matches!(refused, Err(Error::Invalid(_))),
                "{operand:?}: {refused:?}"
            );
        }
    }
}

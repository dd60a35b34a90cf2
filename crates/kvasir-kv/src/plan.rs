//! Decides what an atomic write does. The only place where the rules of a commit live.
//!
//! A backend loads what [`AtomicWrite::needs`] names, calls [`plan`], and stores the changes. That
//! is why two backends cannot disagree about sums, checks or versionstamped keys.

use std::collections::HashMap;

use crate::clock::UnixMillis;
use crate::entry::{Entry, Meta};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::number::{self, Number};
use crate::value::{Encoding, Value};
use crate::versionstamp::Versionstamp;
use crate::write::{AtomicWrite, Mutation, SumBounds};

/// What a write does to a given state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// All checks hold.
    Commit {
        /// The final state of each touched key, one per key, in order of first touch.
        changes: Vec<Change>,
        /// See [`crate::Committed::existed`].
        existed: Vec<bool>,
    },
    /// Checks fail; nothing is to be changed.
    Conflict {
        /// Indexes of all failing checks, rising.
        failed: Vec<u32>,
    },
}

/// The state of one key after a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// Its entry, or `None` if it is absent afterwards.
    pub after: Option<Entry>,
}

/// Decides what `write` does at the commit `stamp`.
///
/// `current` gives the stored entry of every key in [`AtomicWrite::needs`]; whether it has expired
/// at `now` is decided here.
///
/// # Errors
///
/// [`Error::TypeMismatch`] or [`Error::Invalid`] if a sum, min or max is refused. Then nothing of
/// the write is to be applied, whatever stood before the refused mutation.
pub fn plan(
    write: &AtomicWrite,
    current: impl Fn(&Key) -> Option<Entry>,
    stamp: Versionstamp,
    now: UnixMillis,
) -> Result<Plan> {
    let live = |key: &Key| current(key).filter(|entry| !entry.is_expired(now));

    let failed: Vec<u32> = (0..)
        .zip(&write.checks)
        .filter(|(_, check)| live(&check.key).map(|entry| entry.versionstamp) != check.versionstamp)
        .map(|(index, _)| index)
        .collect();
    if !failed.is_empty() {
        return Ok(Plan::Conflict { failed });
    }

    let mut draft = Draft {
        stamp,
        places: HashMap::new(),
        changes: Vec::new(),
    };
    let mut existed = Vec::new();
    for mutation in &write.mutations {
        let versionstamped = matches!(mutation, Mutation::SetVersionstamped { .. });
        if write.report_existed {
            existed.push(!versionstamped && draft.state(mutation.key(), &live).is_some());
        }
        draft.apply(mutation, &live)?;
    }
    Ok(Plan::Commit {
        changes: draft.changes,
        existed,
    })
}

/// The touched keys so far.
struct Draft {
    stamp: Versionstamp,
    /// Key to its place in `changes`. Left empty for a single change.
    places: HashMap<Key, usize>,
    changes: Vec<Change>,
}

impl Draft {
    fn place(&self, key: &Key) -> Option<usize> {
        match self.changes.as_slice() {
            [] => None,
            [only] => (only.key == *key).then_some(0),
            _ => self.places.get(key).copied(),
        }
    }

    /// The state of `key` as the next mutation sees it.
    fn state(&self, key: &Key, live: &impl Fn(&Key) -> Option<Entry>) -> Option<Entry> {
        match self.place(key) {
            Some(place) => self.changes[place].after.clone(),
            None => live(key),
        }
    }

    fn put(&mut self, key: Key, after: Option<Entry>) {
        match self.place(&key) {
            Some(place) => self.changes[place].after = after,
            None => {
                if let [first] = self.changes.as_slice() {
                    self.places.insert(first.key.clone(), 0);
                }
                if !self.changes.is_empty() {
                    self.places.insert(key.clone(), self.changes.len());
                }
                self.changes.push(Change { key, after });
            }
        }
    }

    fn put_value(
        &mut self,
        key: Key,
        value: Value,
        expires_at: Option<UnixMillis>,
        meta: Option<Meta>,
    ) {
        let entry = Entry {
            key: key.clone(),
            value,
            versionstamp: self.stamp,
            expires_at,
            meta: meta.filter(|meta| !meta.is_empty()).map(Into::into),
        };
        self.put(key, Some(entry));
    }

    fn apply(&mut self, mutation: &Mutation, live: &impl Fn(&Key) -> Option<Entry>) -> Result<()> {
        match mutation {
            Mutation::Set {
                key,
                value,
                expires_at,
                meta,
                keep_created,
            } => {
                let mut meta = meta.clone();
                if let Some(before) = keep_created.then(|| self.state(key, live)).flatten() {
                    meta.get_or_insert_default().created_at = Some(before.created_at());
                }
                self.put_value(key.clone(), value.clone(), *expires_at, meta);
            }
            Mutation::SetVersionstamped {
                prefix,
                suffix,
                value,
                expires_at,
            } => {
                let key = prefix
                    .with_string(&self.stamp.to_string())
                    .with_suffix(suffix.as_bytes());
                self.put_value(key, value.clone(), *expires_at, None);
            }
            Mutation::Delete { key } => self.put(key.clone(), None),
            Mutation::Sum {
                key,
                operand,
                bounds,
            } => {
                let stored = self.state(key, live).map(|entry| entry.value);
                let result = sum(stored.as_ref(), operand, bounds)?;
                self.put_value(key.clone(), result, None, None);
            }
            Mutation::Min { key, operand } => {
                let stored = self.state(key, live).map(|entry| entry.value);
                let result = extreme("min", stored.as_ref(), operand, |a, b| b < a)?;
                self.put_value(key.clone(), result, None, None);
            }
            Mutation::Max { key, operand } => {
                let stored = self.state(key, live).map(|entry| entry.value);
                let result = extreme("max", stored.as_ref(), operand, |a, b| b > a)?;
                self.put_value(key.clone(), result, None, None);
            }
        }
        Ok(())
    }
}

/// The sum of a stored value and an operand. KV Connect fixes the combinations and the texts;
/// JSON numbers, which it does not know, behave like V8 numbers and also add to a `U64`.
fn sum(stored: Option<&Value>, operand: &Value, bounds: &SumBounds) -> Result<Value> {
    let number = Number::read(operand).ok_or_else(|| {
        Error::Invalid("the operand of 'sum' is neither a u64, nor a number, nor a bigint".into())
    })?;
    let unbounded = bounds.min.is_none() && bounds.max.is_none() && !bounds.clamp;
    if matches!(number, Number::U64(_)) && !unbounded {
        return Err(Error::Invalid("a sum of u64 values has no bounds".into()));
    }
    let bounds = read_bounds(bounds, &number)?;
    let Some(stored) = stored else {
        return Ok(operand.clone());
    };

    let stored = Number::read(stored);
    let result = match (&stored, &number) {
        (Some(Number::U64(a)), Number::U64(b)) => Number::U64(a.wrapping_add(*b)),
        (_, Number::U64(_)) => return Err(not_u64_stored("sum")),
        (Some(Number::BigInt(a)), Number::BigInt(b)) => {
            Number::BigInt(bounds.apply(a + b, |bound| match bound {
                Number::BigInt(bound) => Some(bound),
                _ => None,
            })?)
        }
        (Some(Number::U64(a)), Number::BigInt(b)) if unbounded => match u64::try_from(b) {
            Ok(b) => Number::U64(a.wrapping_add(b)),
            Err(_) => return Err(cannot_sum(stored.as_ref(), &number)),
        },
        (Some(Number::U64(a)), Number::Json(b)) if unbounded && is_u64(*b) => {
            Number::U64(a.wrapping_add(*b as u64))
        }
        (Some(Number::Double(a)), Number::Double(b) | Number::Json(b)) => {
            Number::Double(bounds.apply(a + b, Number::as_f64)?)
        }
        (Some(Number::Json(a)), Number::Double(b) | Number::Json(b)) => {
            let total = bounds.apply(a + b, Number::as_f64)?;
            // JSON has no infinity; a V8 number does.
            if total.is_finite() {
                Number::Json(total)
            } else {
                Number::Double(total)
            }
        }
        _ => return Err(cannot_sum(stored.as_ref(), &number)),
    };
    Ok(result.to_value())
}

impl Number {
    fn as_f64(&self) -> Option<&f64> {
        match self {
            Number::Double(number) | Number::Json(number) => Some(number),
            Number::U64(_) | Number::BigInt(_) => None,
        }
    }
}

/// Whether a double is an integer that fits a `U64` exactly.
fn is_u64(number: f64) -> bool {
    // 2^64 as a double; every smaller double converts without saturating.
    number.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&number)
}

struct Bounds {
    min: Option<Number>,
    max: Option<Number>,
    clamp: bool,
}

fn read_bounds(bounds: &SumBounds, operand: &Number) -> Result<Bounds> {
    let read = |bound: &Option<bytes::Bytes>| match bound {
        None => Ok(None),
        Some(bytes) => match number::read_v8(bytes) {
            Some(bound) if bound.kind() == operand.kind() => Ok(Some(bound)),
            _ => Err(Error::Invalid(format!(
                "a bound of 'sum' has another type than its operand, a {}",
                operand.kind()
            ))),
        },
    };
    Ok(Bounds {
        min: read(&bounds.min)?,
        max: read(&bounds.max)?,
        clamp: bounds.clamp,
    })
}

impl Bounds {
    fn apply<T: Clone + PartialOrd>(
        &self,
        result: T,
        of_type: impl Fn(&Number) -> Option<&T>,
    ) -> Result<T> {
        let below = self
            .min
            .as_ref()
            .and_then(&of_type)
            .filter(|min| result < **min);
        let above = self
            .max
            .as_ref()
            .and_then(&of_type)
            .filter(|max| result > **max);
        match below.or(above) {
            None => Ok(result),
            Some(bound) if self.clamp => Ok(bound.clone()),
            Some(_) => Err(Error::TypeMismatch(
                "the result of 'sum' is out of its bounds".into(),
            )),
        }
    }
}

/// Min or max; `replaces(stored, operand)` says whether the operand wins.
fn extreme(
    name: &'static str,
    stored: Option<&Value>,
    operand: &Value,
    replaces: impl Fn(f64, f64) -> bool + Copy,
) -> Result<Value> {
    let number = Number::read(operand);
    let (Some(Number::U64(_) | Number::Json(_)), Encoding::U64 | Encoding::Json) =
        (&number, operand.encoding)
    else {
        return Err(Error::Invalid(format!(
            "Failed to perform '{name}' mutation on a non-U64 operand"
        )));
    };
    let Some(stored) = stored else {
        return Ok(operand.clone());
    };
    let operand_wins = match (Number::read(stored), number) {
        (Some(Number::U64(a)), Some(Number::U64(b))) => {
            // Doubles cannot tell large u64 apart, so compare the order as a sign.
            replaces(0.0, f64::from(b.cmp(&a) as i8))
        }
        (Some(Number::Json(a)), Some(Number::Json(b))) => replaces(a, b),
        _ => return Err(not_u64_stored(name)),
    };
    Ok(if operand_wins {
        operand.clone()
    } else {
        stored.clone()
    })
}

/// A text that Deno's own tests look for.
fn not_u64_stored(name: &str) -> Error {
    Error::TypeMismatch(format!(
        "Failed to perform '{name}' mutation on a non-U64 value in the database"
    ))
}

fn cannot_sum(stored: Option<&Number>, operand: &Number) -> Error {
    let stored = stored.map_or("a value that is no number", Number::kind);
    Error::TypeMismatch(format!("Cannot sum {stored} with {}", operand.kind()))
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);
    const STAMP: Versionstamp = Versionstamp::ZERO;

    fn key() -> Key {
        Key::from_strings(["k"])
    }

    fn stored(value: Value) -> Entry {
        Entry {
            key: key(),
            value,
            versionstamp: Versionstamp::new(7_000, 0),
            expires_at: None,
            meta: None,
        }
    }

    fn number(number: f64) -> Value {
        Number::Double(number).to_value()
    }

    fn bigint(text: &str) -> Value {
        Number::BigInt(text.parse::<BigInt>().unwrap()).to_value()
    }

    fn run(write: AtomicWrite, state: Option<Entry>) -> Result<Plan> {
        plan(
            &write,
            |asked| state.clone().filter(|entry| entry.key == *asked),
            STAMP,
            NOW,
        )
    }

    /// The value after one mutation, or the error text.
    fn after(mutation: Mutation, state: Option<Value>) -> Result<Value, String> {
        match run(AtomicWrite::new().push(mutation), state.map(stored)) {
            Ok(Plan::Commit { changes, .. }) => Ok(changes[0].after.clone().unwrap().value),
            Ok(Plan::Conflict { .. }) => unreachable!("no checks"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn sum_of(state: Option<Value>, operand: Value) -> Result<Value, String> {
        after(
            Mutation::Sum {
                key: key(),
                operand,
                bounds: SumBounds::default(),
            },
            state,
        )
    }

    #[test]
    fn u64_sums_wrap_and_an_absent_key_takes_the_operand() {
        assert_eq!(sum_of(None, Value::u64(5)), Ok(Value::u64(5)));
        assert_eq!(
            sum_of(Some(Value::u64(u64::MAX)), Value::u64(3)),
            Ok(Value::u64(2))
        );
    }

    #[test]
    fn v8_numbers_sum_to_doubles_and_bigints_exactly() {
        let int = Value::v8(vec![0xff, 15, b'I', 4]);
        assert_eq!(sum_of(Some(int), number(0.5)), Ok(number(2.5)));
        assert_eq!(
            sum_of(Some(bigint("18446744073709551616")), bigint("-1")),
            Ok(bigint("18446744073709551615"))
        );
        assert_eq!(sum_of(None, bigint("9")), Ok(bigint("9")));
    }

    #[test]
    fn a_u64_takes_a_bigint_operand_that_fits() {
        assert_eq!(sum_of(Some(Value::u64(1)), bigint("2")), Ok(Value::u64(3)));
        assert_eq!(
            sum_of(Some(Value::u64(1)), bigint("-2")),
            Err("Cannot sum KvU64 with BigInt".into())
        );
        assert_eq!(
            sum_of(Some(Value::u64(1)), bigint("18446744073709551616")),
            Err("Cannot sum KvU64 with BigInt".into())
        );
    }

    #[test]
    fn json_numbers_sum_like_numbers_and_stay_json() {
        assert_eq!(
            sum_of(Some(Value::json("1")), Value::json("2")),
            Ok(Value::json("3"))
        );
        assert_eq!(
            sum_of(Some(Value::u64(1)), Value::json("2")),
            Ok(Value::u64(3))
        );
        assert_eq!(sum_of(Some(number(1.0)), Value::json("2")), Ok(number(3.0)));
        assert!(sum_of(Some(Value::u64(1)), Value::json("-2")).is_err());
    }

    #[test]
    fn sums_of_different_types_are_refused_by_name() {
        assert_eq!(
            sum_of(Some(number(1.0)), bigint("1")),
            Err("Cannot sum Number with BigInt".into())
        );
        assert_eq!(
            sum_of(Some(bigint("1")), number(1.0)),
            Err("Cannot sum BigInt with Number".into())
        );
        assert_eq!(
            sum_of(Some(number(1.0)), Value::u64(1)),
            Err("Failed to perform 'sum' mutation on a non-U64 value in the database".into())
        );
        assert!(sum_of(None, Value::v8(vec![0xff, 15, b'"', 1, b'a'])).is_err());
        assert!(sum_of(Some(Value::bytes(vec![1])), number(1.0)).is_err());
    }

    #[test]
    fn bounds_clamp_or_refuse() {
        let bounded = |clamp, operand: f64| {
            let bounds = SumBounds {
                min: Some(number(-1.0).bytes),
                max: Some(number(10.0).bytes),
                clamp,
            };
            after(
                Mutation::Sum {
                    key: key(),
                    operand: number(operand),
                    bounds,
                },
                Some(number(5.0)),
            )
        };
        assert_eq!(bounded(true, 3.0), Ok(number(8.0)));
        assert_eq!(bounded(true, 30.0), Ok(number(10.0)));
        assert_eq!(bounded(true, -30.0), Ok(number(-1.0)));
        assert!(bounded(false, 30.0).is_err());
        assert!(bounded(false, -30.0).is_err());

        let wrong_type = SumBounds {
            min: Some(bigint("1").bytes),
            max: None,
            clamp: false,
        };
        let sum = Mutation::Sum {
            key: key(),
            operand: number(1.0),
            bounds: wrong_type.clone(),
        };
        assert!(after(sum, None).is_err());
        let sum = Mutation::Sum {
            key: key(),
            operand: Value::u64(1),
            bounds: wrong_type,
        };
        assert!(after(sum, None).is_err());
    }

    #[test]
    fn min_and_max_are_unsigned() {
        let min = |state, operand| {
            after(
                Mutation::Min {
                    key: key(),
                    operand,
                },
                state,
            )
        };
        let max = |state, operand| {
            after(
                Mutation::Max {
                    key: key(),
                    operand,
                },
                state,
            )
        };
        let big = Value::u64(u64::MAX);
        assert_eq!(min(None, big.clone()), Ok(big.clone()));
        assert_eq!(min(Some(big.clone()), Value::u64(1)), Ok(Value::u64(1)));
        assert_eq!(
            max(Some(Value::u64(u64::MAX - 1)), big.clone()),
            Ok(big.clone())
        );
        assert_eq!(max(Some(big.clone()), Value::u64(u64::MAX - 1)), Ok(big));
        assert_eq!(
            max(Some(Value::json("2")), Value::json("3")),
            Ok(Value::json("3"))
        );
        assert_eq!(
            min(Some(number(1.0)), Value::u64(1)),
            Err("Failed to perform 'min' mutation on a non-U64 value in the database".into())
        );
        assert_eq!(
            max(None, number(1.0)),
            Err("Failed to perform 'max' mutation on a non-U64 operand".into())
        );
    }

    #[test]
    fn all_failing_checks_are_named_and_an_expired_entry_is_absent() {
        let other = Key::from_strings(["other"]);
        let mut entry = stored(Value::json("1"));
        let write = AtomicWrite::new()
            .check(key(), Versionstamp::new(6, 0))
            .check_absent(other.clone())
            .check_absent(key())
            .check(other, Versionstamp::new(7_000, 0))
            .push(Mutation::delete(key()));
        let conflict = Plan::Conflict {
            failed: vec![0, 2, 3],
        };
        assert_eq!(run(write, Some(entry.clone())).unwrap(), conflict);

        entry.expires_at = Some(NOW);
        let write = AtomicWrite::new().check_absent(key());
        assert!(matches!(run(write, Some(entry)), Ok(Plan::Commit { .. })));
    }

    #[test]
    fn mutations_see_the_effects_of_earlier_ones_and_leave_one_change_per_key() {
        let other = Key::from_strings(["other"]);
        let write = AtomicWrite::new()
            .push(Mutation::set(key(), Value::u64(1)))
            .push(Mutation::set(other.clone(), Value::json("true")))
            .push(Mutation::delete(key()))
            .push(Mutation::Sum {
                key: key(),
                operand: Value::u64(4),
                bounds: SumBounds::default(),
            })
            .push(Mutation::Sum {
                key: key(),
                operand: Value::u64(4),
                bounds: SumBounds::default(),
            })
            .reporting_existed();
        let Ok(Plan::Commit { changes, existed }) = run(write, None) else {
            panic!("must commit")
        };
        assert_eq!(existed, [false, false, true, false, true]);
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0].after.as_ref().unwrap().value, Value::u64(8));
        assert_eq!(changes[1].key, other);
    }

    #[test]
    fn sums_remove_expiry_and_sets_replace_it() {
        let mut entry = stored(Value::u64(1));
        entry.expires_at = Some(UnixMillis(9_999));
        let sum = Mutation::Sum {
            key: key(),
            operand: Value::u64(1),
            bounds: SumBounds::default(),
        };
        let Ok(Plan::Commit { changes, .. }) = run(AtomicWrite::new().push(sum), Some(entry))
        else {
            panic!("must commit")
        };
        assert_eq!(changes[0].after.as_ref().unwrap().expires_at, None);
    }

    #[test]
    fn versionstamped_keys_end_in_the_hex_of_the_commit_and_the_suffix() {
        let suffix = Key::from_strings(["s"]);
        let mutation = Mutation::SetVersionstamped {
            prefix: key(),
            suffix: suffix.clone(),
            value: Value::json("1"),
            expires_at: None,
        };
        let Ok(Plan::Commit { changes, .. }) = run(AtomicWrite::new().push(mutation), None) else {
            panic!("must commit")
        };
        assert_eq!(
            changes[0].key,
            Key::from_strings(["k", "00000000000000000000", "s"])
        );
    }

    #[test]
    fn creation_time_is_carried_over_when_asked_for() {
        let set = |keep_created| Mutation::Set {
            key: key(),
            value: Value::json("2"),
            expires_at: None,
            meta: None,
            keep_created,
        };
        let created = |keep, state| match run(AtomicWrite::new().push(set(keep)), state) {
            Ok(Plan::Commit { changes, .. }) => changes[0].after.clone().unwrap().meta,
            other => panic!("{other:?}"),
        };
        let kept = created(true, Some(stored(Value::json("1")))).unwrap();
        assert_eq!(kept.created_at, Some(UnixMillis(7)));
        assert_eq!(created(false, Some(stored(Value::json("1")))), None);
        assert_eq!(created(true, None), None);
    }
}

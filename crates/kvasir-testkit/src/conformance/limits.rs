//! The limit passes, one more does not.

use kvasir_kv::{
    AtomicWrite, Error, Key, Meta, Mutation, RangeRead, SnapshotRead, Value, limits, write,
};

use super::{Bed, json, key};

impl Bed {
    async fn refused(&self, write: AtomicWrite) -> Error {
        let before = self
            .store()
            .versionstamp()
            .await
            .expect("the store can be read");
        let error = self.store().commit(write).await.expect_err("over a limit");
        let after = self
            .store()
            .versionstamp()
            .await
            .expect("the store can be read");
        assert_eq!(before, after, "a refused write leaves no trace");
        error
    }
}

fn one(mutation: Mutation) -> AtomicWrite {
    AtomicWrite::new().push(mutation)
}

/// Written or checked.
pub async fn the_largest_key_is_taken_and_a_larger_one_refused(bed: Bed) {
    let of_length = |length| Key::new(vec![2; length]);
    let largest = of_length(limits::STORED_KEY_BYTES_MAX);
    bed.apply(Mutation::set(largest.clone(), json("1"))).await;
    assert!(bed.store().get(&largest).await.unwrap().is_some());
    assert_eq!(bed.all().await[0].key, largest);
    bed.apply(Mutation::delete(largest)).await;
    assert_eq!(bed.all().await, []);

    let larger = of_length(limits::STORED_KEY_BYTES_MAX + 1);
    let writes = [
        one(Mutation::set(larger.clone(), json("1"))),
        one(Mutation::delete(larger.clone())),
        AtomicWrite::new().check_absent(larger),
    ];
    for write in writes {
        let error = bed.refused(write).await;
        assert!(
            matches!(error, Error::TooLarge { what: "key", .. }),
            "{error}"
        );
    }
}

/// With all bytes of the largest intact.
pub async fn the_largest_value_is_taken_and_a_larger_one_refused(bed: Bed) {
    let bytes: Vec<u8> = (0..limits::VALUE_BYTES_DEFAULT)
        .map(|n| (n % 251) as u8)
        .collect();
    let largest = Value::bytes(bytes);
    bed.apply(Mutation::set(key("a"), largest.clone())).await;
    assert_eq!(bed.entry("a").await.unwrap().value, largest);

    let larger = Value::bytes(vec![0; limits::VALUE_BYTES_DEFAULT + 1]);
    let error = bed.refused(one(Mutation::set(key("a"), larger))).await;
    assert!(
        matches!(error, Error::TooLarge { what: "value", .. }),
        "{error}"
    );
}

/// Over all its members.
pub async fn the_largest_meta_is_taken_and_a_larger_one_refused(bed: Bed) {
    let write = |extra: usize| {
        one(Mutation::Set {
            key: key("a"),
            value: json("1"),
            expires_at: None,
            meta: Some(Meta {
                content_type: Some("text/plain".into()),
                extra: Some(vec![7; extra].into()),
                ..Meta::default()
            }),
            keep_created: false,
        })
    };
    let most = limits::META_BYTES_MAX - "text/plain".len();
    bed.commit(write(most)).await;
    let meta = bed.entry("a").await.unwrap().meta.unwrap();
    assert_eq!(meta.cost_bytes(), limits::META_BYTES_MAX);
    let error = bed.refused(write(most + 1)).await;
    assert!(
        matches!(error, Error::TooLarge { what: "meta", .. }),
        "{error}"
    );
}

/// Not seven.
pub async fn a_u64_has_eight_bytes(bed: Bed) {
    let short = Value {
        bytes: vec![0; 7].into(),
        ..Value::u64(0)
    };
    let error = bed.refused(one(Mutation::set(key("a"), short))).await;
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}

/// All of them are checked.
pub async fn the_most_checks_are_taken_and_one_more_refused(bed: Bed) {
    let write = |checks: usize| {
        let named = |n: usize| Key::from_strings([format!("{n}")]);
        (0..checks).fold(AtomicWrite::new(), |write, n| write.check_absent(named(n)))
    };
    bed.commit(write(limits::CHECKS_MAX)).await;
    let error = bed.refused(write(limits::CHECKS_MAX + 1)).await;
    assert!(
        matches!(error, Error::TooMany { what: "checks", .. }),
        "{error}"
    );
}

/// The most itself would take too long for a test of every change.
pub async fn more_than_the_most_mutations_are_refused(bed: Bed) {
    let write = AtomicWrite {
        mutations: vec![Mutation::delete(key("a")); limits::MUTATIONS_MAX + 1],
        ..AtomicWrite::default()
    };
    let error = bed.refused(write).await;
    assert!(
        matches!(
            error,
            Error::TooMany {
                what: "mutations",
                ..
            }
        ),
        "{error}"
    );
}

/// All of them are answered.
pub async fn the_most_ranges_are_read_and_one_more_refused(bed: Bed) {
    bed.set("a", "1").await;
    let read = |ranges| SnapshotRead {
        ranges: vec![RangeRead::key(key("a")); ranges],
    };
    let snapshot = bed.store().read(read(limits::RANGES_MAX)).await.unwrap();
    assert_eq!(snapshot.into_firsts().flatten().count(), limits::RANGES_MAX);
    let error = bed
        .store()
        .read(read(limits::RANGES_MAX + 1))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::TooMany { what: "ranges", .. }),
        "{error}"
    );
}

/// Its 22 bytes are part of the key.
pub async fn a_versionstamped_key_counts_with_its_stamp(bed: Bed) {
    let write = |prefix: usize| {
        one(Mutation::SetVersionstamped {
            prefix: Key::new(vec![2; prefix]),
            suffix: Key::new(vec![2; 10]),
            value: json("1"),
            expires_at: None,
        })
    };
    let most = limits::STORED_KEY_BYTES_MAX - write::VERSIONSTAMP_PART_BYTES - 10;
    bed.commit(write(most)).await;
    assert_eq!(bed.all().await[0].key.len(), limits::STORED_KEY_BYTES_MAX);
    let error = bed.refused(write(most + 1)).await;
    assert!(
        matches!(error, Error::TooLarge { what: "key", .. }),
        "{error}"
    );
}

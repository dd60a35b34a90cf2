//! What outlives the process. A backend that keeps nothing passes these by having nothing to show.

use std::num::NonZeroU32;

use kvasir_kv::{AtomicWrite, Entry, Key, Meta, Mutation, SumBounds, Value, Versionstamp, limits};

use super::{Bed, START, json, key, later, names, set};

/// Values, versionstamps, expiries, meta.
pub async fn everything_is_there_after_reopening(mut bed: Bed) {
    for n in 0..50u64 {
        let name = format!("{n:02}");
        bed.apply(Mutation::Set {
            key: key(&name),
            value: Value::u64(n),
            expires_at: (n % 3 == 0).then(|| later(1_000)),
            meta: (n % 5 == 0).then(|| Meta {
                creator: Some(name.clone()),
                ..Meta::default()
            }),
            keep_created: n % 7 == 0,
        })
        .await;
    }
    let before = bed.all().await;
    assert_eq!(before.len(), 50);
    if bed.reopen().await {
        assert_eq!(bed.all().await, before);
        assert_eq!(bed.entry("07").await.as_ref(), Some(&before[7]));
    }
}

/// What was deleted stays deleted.
pub async fn deletions_last(mut bed: Bed) {
    bed.set("a", "1").await;
    bed.set("b", "1").await;
    if bed.reopen().await {
        bed.delete("a").await;
        assert!(bed.reopen().await);
        assert_eq!(names(&bed.all().await), ["b"]);
    }
}

/// By a day, between closing and opening.
pub async fn stamps_rise_across_reopening_and_a_clock_that_stepped_back(mut bed: Bed) {
    let before = bed.set("a", "1").await;
    bed.clock.set(later(-86_400_000));
    if bed.reopen().await {
        let after = bed.set("a", "2").await;
        assert!(after > before);
        assert!(bed.reopen().await);
        assert!(bed.set("a", "3").await > after);
    }
}

/// Though no entry shows it.
pub async fn the_stamp_of_a_deletion_is_not_given_again(mut bed: Bed) {
    bed.set("a", "1").await;
    bed.clock.set(later(1_000));
    let deleted = bed.delete("a").await;
    bed.clock.set(later(0));
    if bed.reopen().await {
        assert!(bed.set("a", "2").await > deleted);
    }
}

/// Not that of the newest entry, but of the newest commit.
pub async fn the_newest_stamp_is_kept(mut bed: Bed) {
    bed.set("a", "1").await;
    let deleted = bed.delete("a").await;
    if bed.reopen().await {
        assert_eq!(bed.store().versionstamp().await.unwrap(), deleted);
    }
}

/// Also where its entry is gone again.
pub async fn an_ingested_stamp_is_kept(mut bed: Bed) {
    let ahead = Versionstamp::new(
        u64::try_from(START.0).expect("after 1970") * 1_000 + 9_000_000,
        7,
    );
    let entry = Entry {
        key: key("a"),
        value: json("1"),
        versionstamp: ahead,
        expires_at: None,
        meta: None,
    };
    bed.store().ingest(vec![entry]).await.unwrap();
    if bed.reopen().await {
        assert_eq!(bed.store().versionstamp().await.unwrap(), ahead);
        assert!(bed.set("b", "1").await > ahead);
    }
}

/// Expiries are found again.
pub async fn entries_expire_and_are_swept_after_reopening(mut bed: Bed) {
    for n in 0..10 {
        bed.set_until(&n.to_string(), "1", later(10 + n % 2)).await;
    }
    if bed.reopen().await {
        assert_eq!(bed.all().await.len(), 10);
        bed.clock.set(later(10));
        assert_eq!(names(&bed.all().await), ["1", "3", "5", "7", "9"]);
        let limit = NonZeroU32::new(100).expect("not zero");
        assert_eq!(bed.store().sweep(later(10), limit).await.unwrap(), 5);
        assert!(bed.reopen().await);
        bed.clock.set(later(11));
        assert_eq!(bed.store().sweep(later(11), limit).await.unwrap(), 5);
    }
}

/// From where they were.
pub async fn sums_go_on_after_reopening(mut bed: Bed) {
    let sum = || Mutation::Sum {
        key: key("n"),
        operand: Value::u64(1),
        bounds: SumBounds::default(),
    };
    for round in 1..=3u64 {
        bed.commit(AtomicWrite::new().push(sum()).push(sum())).await;
        assert_eq!(bed.entry("n").await.unwrap().value, Value::u64(2 * round));
        if !bed.reopen().await {
            return;
        }
    }
}

/// Every byte of it.
pub async fn a_large_value_survives(mut bed: Bed) {
    let bytes: Vec<u8> = (0..limits::VALUE_BYTES_DEFAULT)
        .map(|n| (n % 253) as u8)
        .collect();
    let value = Value::bytes(bytes);
    bed.apply(Mutation::set(key("a"), value.clone())).await;
    if bed.reopen().await {
        assert_eq!(bed.entry("a").await.unwrap().value, value);
    }
}

/// Five times, with a write in between.
pub async fn reopening_again_and_again_changes_nothing(mut bed: Bed) {
    for n in 0..5 {
        let name = Key::from_strings([n.to_string()]);
        bed.commit(
            AtomicWrite::new()
                .check_absent(name)
                .push(set(&n.to_string(), "1")),
        )
        .await;
        let before = bed.all().await;
        let stamp = bed.store().versionstamp().await.unwrap();
        if !bed.reopen().await {
            return;
        }
        assert_eq!(bed.all().await, before);
        assert_eq!(bed.store().versionstamp().await.unwrap(), stamp);
    }
}

//! `ingest`.

use std::num::NonZeroU32;
use std::sync::Arc;

use kvasir_kv::{Entry, Error, Key, Meta, UnixMillis, Value, Versionstamp, limits};

use super::{Bed, START, json, key, later};

fn entry(name: &str, micros: u64) -> Entry {
    Entry {
        key: key(name),
        value: json("\"ingested\""),
        versionstamp: Versionstamp::new(micros, 3),
        expires_at: None,
        meta: None,
    }
}

/// A clock reading `ms` milliseconds after the start.
fn micros(ms: i64) -> u64 {
    u64::try_from((START.0 + ms) * 1_000).expect("after 1970")
}

/// Versionstamps, expiries and meta included, in key order whatever order they come in.
pub async fn entries_are_taken_as_they_are(bed: Bed) {
    let entries = [
        entry("a", 7),
        Entry {
            expires_at: Some(later(10)),
            meta: Some(Arc::new(Meta {
                content_type: Some("text/plain".into()),
                ..Meta::default()
            })),
            ..entry("b", 5)
        },
        Entry {
            value: Value::u64(1),
            ..entry("c", 5)
        },
    ];
    let mixed = [1, 2, 0].map(|n: usize| entries[n].clone());
    bed.store().ingest(mixed.into()).await.unwrap();
    assert_eq!(bed.all().await, entries);
}

/// Even an entry with a newer stamp.
pub async fn an_ingested_entry_replaces_what_was_there(bed: Bed) {
    bed.set_until("a", "1", later(10)).await;
    bed.store().ingest(vec![entry("a", 7)]).await.unwrap();
    assert_eq!(bed.all().await, [entry("a", 7)]);
    bed.clock.set(later(20));
    let limit = NonZeroU32::new(9).expect("not zero");
    assert_eq!(bed.store().sweep(later(20), limit).await.unwrap(), 0);
    assert_eq!(bed.all().await, [entry("a", 7)]);
}

/// Above all ingested ones, however far ahead those are.
pub async fn commits_after_an_ingest_get_larger_stamps(bed: Bed) {
    let ahead = entry("a", micros(3_600_000));
    bed.store()
        .ingest(vec![ahead.clone(), entry("b", 5)])
        .await
        .unwrap();
    assert_eq!(
        bed.store().versionstamp().await.unwrap(),
        ahead.versionstamp
    );
    let stamp = bed.set("c", "1").await;
    assert!(stamp > ahead.versionstamp);
    assert_eq!(bed.store().versionstamp().await.unwrap(), stamp);
}

/// The newest stamp stays the newest.
pub async fn an_old_stamp_does_not_turn_time_back(bed: Bed) {
    let before = bed.set("a", "1").await;
    bed.store().ingest(vec![entry("b", 5)]).await.unwrap();
    assert!(bed.store().versionstamp().await.unwrap() >= before);
    assert!(bed.set("a", "2").await > before);
}

/// Nothing happens.
pub async fn ingesting_nothing_is_no_error(bed: Bed) {
    bed.store().ingest(Vec::new()).await.unwrap();
    assert_eq!(bed.all().await, []);
}

/// One entry over a limit refuses them all.
pub async fn a_refused_ingest_changes_nothing(bed: Bed) {
    let long = Entry {
        key: Key::new(vec![2; limits::STORED_KEY_BYTES_MAX + 1]),
        ..entry("x", 5)
    };
    let large = Entry {
        value: Value::bytes(vec![0; limits::VALUE_BYTES_DEFAULT + 1]),
        ..entry("x", 5)
    };
    for bad in [long, large] {
        let refused = bed.store().ingest(vec![entry("a", 5), bad]).await;
        assert!(
            matches!(refused, Err(Error::TooLarge { .. })),
            "{refused:?}"
        );
        assert_eq!(bed.all().await, []);
    }
}

/// Like any other.
pub async fn an_ingested_entry_expires(bed: Bed) {
    let gone = Entry {
        expires_at: Some(UnixMillis(1)),
        ..entry("gone", 5)
    };
    let going = Entry {
        expires_at: Some(later(10)),
        ..entry("going", 5)
    };
    bed.store().ingest(vec![gone, going.clone()]).await.unwrap();
    assert_eq!(bed.all().await, [going]);
    bed.clock.set(later(10));
    assert_eq!(bed.all().await, []);
    let limit = NonZeroU32::new(9).expect("not zero");
    assert_eq!(bed.store().sweep(later(10), limit).await.unwrap(), 2);
}

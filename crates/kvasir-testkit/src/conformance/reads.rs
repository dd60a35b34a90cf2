//! `get` and `read`.

use std::sync::Arc;

use kvasir_kv::{
    AtomicWrite, Encoding, Entry, Key, KeyRange, Meta, Mutation, Part, RangeRead, SnapshotRead,
    Value,
};

use super::{Bed, between, everything, json, key, later, names, set};
use crate::model::double;

/// Nothing is there that was not written.
pub async fn an_empty_store_holds_nothing(bed: Bed) {
    assert_eq!(bed.entry("a").await, None);
    assert_eq!(bed.all().await, []);
}

/// Value of every encoding, expiry, meta and versionstamp come back as they were given.
pub async fn a_get_returns_what_was_written(bed: Bed) {
    let values = [
        json(r#"{"a": [1, 2.50]}"#),
        Value::u64(u64::MAX),
        Value::bytes(vec![0, 255, 0]),
        Value::bytes(Vec::new()),
        double(0.5),
    ];
    for value in values {
        for meta in [
            None,
            Some(Meta {
                content_type: Some("text/plain".into()),
                creator: Some("::1".into()),
                created_at: Some(later(-5)),
                extra: Some(vec![0, 1].into()),
            }),
        ] {
            for expires_at in [None, Some(later(10))] {
                let stamp = bed
                    .apply(Mutation::Set {
                        key: key("a"),
                        value: value.clone(),
                        expires_at,
                        meta: meta.clone(),
                        keep_created: false,
                    })
                    .await;
                let expected = Entry {
                    key: key("a"),
                    value: value.clone(),
                    versionstamp: stamp,
                    expires_at,
                    meta: meta.clone().map(Arc::new),
                };
                assert_eq!(bed.entry("a").await, Some(expected));
            }
        }
    }
    assert_eq!(Encoding::from_number(5), None, "every encoding was tried");
}

/// From the moment a commit has answered, every read shows it.
pub async fn a_read_sees_every_commit_acknowledged_before_it(bed: Bed) {
    for n in 0..100 {
        let stamp = bed.set("a", &n.to_string()).await;
        assert_eq!(bed.stamp("a").await, Some(stamp));
        assert_eq!(bed.all().await[0].versionstamp, stamp);
    }
}

/// What is at hand is what a read finds, also after changes and at an expiry.
pub async fn what_is_at_hand_is_never_out_of_date(bed: Bed) {
    let check = async || {
        let (at_hand, read) = (bed.store().at_hand(&key("a")), bed.entry("a").await);
        assert!(at_hand.is_none() || at_hand == read, "{at_hand:?} {read:?}");
        // The read may have brought it to hand.
        let at_hand = bed.store().at_hand(&key("a"));
        assert!(at_hand.is_none() || at_hand == read, "{at_hand:?} {read:?}");
    };
    check().await;
    bed.set("a", "1").await;
    check().await;
    bed.set_until("a", "2", later(10)).await;
    check().await;
    bed.clock.set(later(10));
    check().await;
    assert_eq!(bed.store().at_hand(&key("a")), None);
    bed.set("a", "3").await;
    check().await;
    bed.apply(Mutation::delete(key("a"))).await;
    check().await;
    assert_eq!(bed.store().at_hand(&key("a")), None);
}

/// No ranges, no results, no error.
pub async fn a_read_of_no_ranges_is_an_empty_snapshot(bed: Bed) {
    let snapshot = bed.store().read(SnapshotRead::default()).await.unwrap();
    assert_eq!(snapshot.ranges, []);
}

/// Whether or not one stands at the start of the range, which some clients read single keys by.
pub async fn the_first_entry_of_a_range_is_the_first_live_one(bed: Bed) {
    bed.set_until("b", "1", later(10)).await;
    bed.set("c", "2").await;
    let first = async |start: &str| bed.names(RangeRead::new(between(start, "z"), 1)).await;
    let none: [&str; 0] = [];
    assert_eq!(first("a").await, ["b"]);
    assert_eq!(first("b").await, ["b"]);
    assert_eq!(first("d").await, none);
    bed.clock.set(later(10));
    assert_eq!(first("b").await, ["c"]);
    bed.apply(Mutation::delete(key("c"))).await;
    assert_eq!(first("c").await, none);
}

/// Also where ranges overlap, repeat or find nothing.
pub async fn results_come_one_per_range_in_request_order(bed: Bed) {
    for name in ["a", "b", "c"] {
        bed.set(name, "1").await;
    }
    let ranges = vec![
        RangeRead::key(key("c")),
        RangeRead::new(between("a", "c"), 9),
        RangeRead::key(key("nobody")),
        RangeRead::new(between("a", "c"), 9).reversed(),
        RangeRead::key(key("c")),
    ];
    let snapshot = bed.store().read(SnapshotRead { ranges }).await.unwrap();
    let found: Vec<_> = snapshot
        .ranges
        .iter()
        .map(|range| names(&range.entries))
        .collect();
    assert_eq!(
        found,
        [vec!["c"], vec!["a", "b"], vec![], vec!["b", "a"], vec!["c"]]
    );
}

/// `[start, end)`, in both directions.
pub async fn a_range_holds_its_start_but_not_its_end(bed: Bed) {
    for name in ["a", "b", "c", "d"] {
        bed.set(name, "1").await;
    }
    let range = RangeRead::new(between("b", "d"), 9);
    assert_eq!(bed.names(range.clone()).await, ["b", "c"]);
    assert_eq!(bed.names(range.reversed()).await, ["c", "b"]);
}

/// Not an error.
pub async fn an_inverted_range_is_empty(bed: Bed) {
    bed.set("b", "1").await;
    for range in [between("c", "a"), between("b", "b")] {
        assert_eq!(bed.range(RangeRead::new(range.clone(), 9)).await, []);
        assert_eq!(bed.range(RangeRead::new(range, 9).reversed()).await, []);
    }
}

/// The low end, in reverse the high end.
pub async fn a_limit_counts_from_the_end_that_is_read_first(bed: Bed) {
    for name in ["a", "b", "c"] {
        bed.set(name, "1").await;
    }
    let read = |limit| RangeRead::new(everything(), limit);
    assert_eq!(bed.names(read(2)).await, ["a", "b"]);
    assert_eq!(bed.names(read(2).reversed()).await, ["c", "b"]);
    assert_eq!(bed.names(read(usize::MAX)).await, ["a", "b", "c"]);
    assert_eq!(
        bed.names(read(usize::MAX).reversed()).await,
        ["c", "b", "a"]
    );
}

/// Not everything, not one entry.
pub async fn a_limit_of_zero_reads_nothing(bed: Bed) {
    bed.set("a", "1").await;
    let snapshot = bed
        .store()
        .read(SnapshotRead::range(RangeRead::new(everything(), 0)))
        .await;
    let range = &snapshot.unwrap().ranges[0];
    assert_eq!((range.entries.len(), range.cut_by_bytes), (0, false));
}

/// `cut_by_bytes` tells a cut by bytes from a cut by the limit and from the end of the range.
pub async fn bytes_end_a_range_early_and_it_says_so(bed: Bed) {
    for name in ["a", "b", "c"] {
        bed.apply(Mutation::set(key(name), Value::bytes(vec![7; 100])))
            .await;
    }
    let each = key("a").len() + 100;
    for (limit, bytes_max, expected) in [
        (9, 3 * each, (3, false)),
        (9, 3 * each - 1, (2, true)),
        (9, 2 * each, (2, true)),
        (2, 2 * each, (2, false)),
        (1, 2 * each, (1, false)),
        (9, each, (1, true)),
    ] {
        let mut read = RangeRead::new(everything(), limit);
        read.bytes_max = bytes_max;
        for read in [read.clone(), read.reversed()] {
            let snapshot = bed.store().read(SnapshotRead::range(read)).await.unwrap();
            let range = &snapshot.ranges[0];
            let found = (range.entries.len(), range.cut_by_bytes);
            assert_eq!(found, expected, "limit {limit}, {bytes_max} bytes");
        }
    }
}

/// Otherwise a reader could not get on.
pub async fn the_first_entry_comes_whatever_the_bytes(bed: Bed) {
    bed.set("a", "\"long\"").await;
    bed.set("b", "\"long\"").await;
    let mut read = RangeRead::new(everything(), 9);
    read.bytes_max = 0;
    let snapshot = bed.store().read(SnapshotRead::range(read)).await.unwrap();
    assert_eq!(names(&snapshot.ranges[0].entries), ["a"]);
    assert!(snapshot.ranges[0].cut_by_bytes);
}

/// Which is the order of parts for keys that are tuples.
pub async fn keys_are_ordered_by_their_bytes(bed: Bed) {
    let mut keys: Vec<Key> = [
        Part::Bytes(vec![0].into()),
        Part::Bytes(vec![0, 0].into()),
        Part::from(""),
        Part::from("a"),
        Part::from("a\0"),
        Part::from("a\0b"),
        Part::from("aa"),
        Part::from("\u{7f}"),
        Part::from("\u{10ffff}"),
        Part::BigInt((-1).into()),
        Part::BigInt(0.into()),
        Part::BigInt(300.into()),
        Part::Number(-0.0),
        Part::Number(1e300),
        Part::Bool(false),
        Part::Bool(true),
    ]
    .map(|part| Key::from_parts(&[part]))
    .into();
    keys.push(Key::from_parts(&[Part::Bool(true), Part::from("")]));
    for key in keys.iter().rev() {
        bed.apply(Mutation::set(key.clone(), json("1"))).await;
    }
    let found: Vec<Key> = bed.all().await.into_iter().map(|entry| entry.key).collect();
    assert_eq!(found, keys);
}

/// The store treats keys as bytes.
pub async fn keys_need_not_be_tuples(bed: Bed) {
    let keys = [
        vec![0],
        vec![0, 0],
        vec![5, 5],
        vec![5, 5, 0],
        vec![0xff; 40],
    ]
    .map(Key::new);
    for key in &keys {
        bed.apply(Mutation::set(key.clone(), json("1"))).await;
    }
    let found: Vec<Key> = bed.all().await.into_iter().map(|entry| entry.key).collect();
    assert_eq!(found, keys);
    let below = KeyRange::starting_with(&keys[2]);
    assert_eq!(bed.range(RangeRead::new(below, 9)).await.len(), 2);
    assert!(bed.store().get(&keys[4]).await.unwrap().is_some());
}

/// While a writer keeps three far apart keys equal, no read sees them differ.
pub async fn all_ranges_are_read_from_one_snapshot(bed: Bed) {
    let names = ["a", "m", "z"];
    let write = |n: u32| {
        let sets = names.iter().map(|name| set(name, &n.to_string()));
        AtomicWrite {
            mutations: sets.collect(),
            ..AtomicWrite::default()
        }
    };
    bed.commit(write(0)).await;
    let store = bed.store().clone();
    let reader = tokio::spawn(async move {
        let mut states = 0;
        loop {
            let mut read = SnapshotRead::keys(names.map(key));
            read.ranges.push(RangeRead::new(everything(), 3).reversed());
            let snapshot = store.read(read).await.unwrap();
            let entries: Vec<&Entry> = snapshot
                .ranges
                .iter()
                .flat_map(|range| &range.entries)
                .collect();
            assert_eq!(entries.len(), 6);
            assert!(
                entries.iter().all(|entry| entry.value == entries[0].value),
                "two states in one snapshot: {entries:?}"
            );
            states += 1;
            if entries[0].value == json("100") {
                return states;
            }
        }
    });
    for n in 1..=100 {
        bed.commit(write(n)).await;
    }
    let states = crate::within(crate::DEADLINE, "the reader sees the last state", reader).await;
    assert!(states.expect("no torn snapshot") > 0);
}

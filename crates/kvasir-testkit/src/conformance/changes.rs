//! `changes`.

use std::num::NonZeroU32;

use futures_util::{StreamExt, poll};
use kvasir_kv::{AtomicWrite, ChangeStream, Changes, Entry, Key, KeyRange, Mutation, Versionstamp};

use super::{Bed, between, everything, json, key, later, set};
use crate::wait::{DEADLINE, within};

/// More keys than any follower's queue holds, so that it has to overflow.
const TOO_MANY: usize = 20_000;

impl Bed {
    /// A follower that was polled, so that all later commits have to be told.
    async fn follow(&self, range: KeyRange) -> ChangeStream {
        let mut changes = self.store().changes(range);
        assert!(
            poll!(changes.next()).is_pending(),
            "nothing has changed yet"
        );
        changes
    }
}

async fn next(changes: &mut ChangeStream) -> Changes {
    let item = within(DEADLINE, "a follower is told of a change", changes.next()).await;
    item.expect("the stream goes on")
}

/// Everything told up to the one that tells of `last`.
async fn until(changes: &mut ChangeStream, last: Versionstamp) -> Vec<(Key, bool)> {
    let mut told = Vec::new();
    loop {
        let item = next(changes).await;
        assert!(!item.missed);
        told.extend(item.keys);
        if item.versionstamp >= last {
            return told;
        }
    }
}

/// Across items and within them; stamps rise.
pub async fn changes_come_in_commit_order(bed: Bed) {
    let mut changes = bed.follow(everything()).await;
    let names: Vec<String> = (0..50).map(|n| format!("{}", (n * 37) % 50)).collect();
    let mut last = Versionstamp::ZERO;
    for name in &names {
        last = bed.set(name, "1").await;
    }
    let told = until(&mut changes, last).await;
    let expected: Vec<_> = names.iter().map(|name| (key(name), true)).collect();
    assert_eq!(told, expected);
}

/// And writes as presence, by what is there after the commit.
pub async fn deletions_are_told_as_absence(bed: Bed) {
    bed.set("a", "1").await;
    let mut changes = bed.follow(everything()).await;
    let write = AtomicWrite::new()
        .push(Mutation::delete(key("a")))
        .push(set("b", "1"))
        .push(set("c", "1"))
        .push(Mutation::delete(key("c")))
        .push(set("c", "2"));
    let last = bed.commit(write).await;
    let told = until(&mut changes, last).await;
    assert_eq!(
        told.iter().rfind(|(k, _)| *k == key("a")),
        Some(&(key("a"), false))
    );
    assert_eq!(
        told.iter().rfind(|(k, _)| *k == key("b")),
        Some(&(key("b"), true))
    );
    assert_eq!(
        told.iter().rfind(|(k, _)| *k == key("c")),
        Some(&(key("c"), true))
    );
}

/// `[start, end)`.
pub async fn only_the_range_is_told(bed: Bed) {
    let mut changes = bed.follow(between("b", "d")).await;
    let write = ["a", "b", "c", "d"]
        .iter()
        .fold(AtomicWrite::new(), |write, name| write.push(set(name, "1")));
    let last = bed.commit(write).await;
    let told = until(&mut changes, last).await;
    assert_eq!(told, [(key("b"), true), (key("c"), true)]);
}

/// Also those of many writers at once.
pub async fn every_commit_after_the_first_poll_is_told(bed: Bed) {
    let mut changes = bed.follow(everything()).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = bed.store().clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    let write = AtomicWrite::new().push(set(&format!("{writer}-{n}"), "1"));
                    store.commit(write).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let last = bed.store().versionstamp().await.unwrap();
    let mut told = until(&mut changes, last).await;
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 8 * 20);
}

/// A follower may stop after any item and go on from its versionstamp.
pub async fn a_commit_is_told_whole(bed: Bed) {
    let mut changes = bed.follow(everything()).await;
    let store = bed.store().clone();
    let writer = tokio::spawn(async move {
        for n in 0..300 {
            let text = n.to_string();
            let sets = ["a", "b", "c", "d"].map(|name| set(name, &text));
            let write = AtomicWrite {
                mutations: sets.into(),
                ..AtomicWrite::default()
            };
            store.commit(write).await.expect("the write is legal");
        }
        store.versionstamp().await.expect("the store can be read")
    });
    let whole = |item: Changes| {
        let times = |name: &str| item.keys.iter().filter(|(k, _)| *k == key(name)).count();
        let each = ["a", "b", "c", "d"].map(times);
        assert!(
            each[0] > 0 && each.iter().all(|&n| n == each[0]),
            "part of a commit: {each:?}"
        );
        item.versionstamp
    };
    // Reads while the writer writes, then goes on to the end.
    tokio::pin!(writer);
    let mut told = Versionstamp::ZERO;
    let last = loop {
        tokio::select! {
            item = next(&mut changes) => told = whole(item),
            last = &mut writer => break last.expect("the writer does not panic"),
        }
    };
    while told < last {
        told = whole(next(&mut changes).await);
    }
}

/// And then goes on.
pub async fn a_follower_that_is_too_slow_is_told_so(bed: Bed) {
    let mut changes = bed.follow(everything()).await;
    for some in 0..TOO_MANY / 1_000 {
        let write = (0..1_000).fold(AtomicWrite::new(), |write, n| {
            write.push(set(&format!("{some} {n}"), "1"))
        });
        bed.commit(write).await;
    }
    let mut missed = false;
    let last = bed.set("end", "1").await;
    loop {
        let item = next(&mut changes).await;
        missed |= item.missed;
        if item.versionstamp >= last {
            break;
        }
    }
    assert!(missed, "{TOO_MANY} changes waited for a follower");
    let last = bed.set("again", "1").await;
    assert_eq!(until(&mut changes, last).await, [(key("again"), true)]);
}

/// Once, as absence.
pub async fn sweeps_are_told(bed: Bed) {
    bed.set_until("a", "1", later(10)).await;
    let mut changes = bed.follow(everything()).await;
    bed.clock.set(later(10));
    let limit = NonZeroU32::new(10).expect("not zero");
    bed.store().sweep(later(10), limit).await.unwrap();
    bed.store().sweep(later(10), limit).await.unwrap();
    let last = bed.set("b", "1").await;
    let told = until(&mut changes, last).await;
    assert_eq!(told, [(key("a"), false), (key("b"), true)]);
}

/// As presence.
pub async fn ingests_are_told(bed: Bed) {
    let mut changes = bed.follow(everything()).await;
    let entry = Entry {
        key: key("a"),
        value: json("1"),
        versionstamp: Versionstamp::new(7, 0),
        expires_at: None,
        meta: None,
    };
    bed.store().ingest(vec![entry]).await.unwrap();
    let last = bed.set("b", "1").await;
    let told = until(&mut changes, last).await;
    assert_eq!(told, [(key("a"), true), (key("b"), true)]);
}

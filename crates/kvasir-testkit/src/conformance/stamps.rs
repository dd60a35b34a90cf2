//! Versionstamps.

use std::collections::BTreeSet;

use kvasir_kv::{AtomicWrite, Clock, Outcome, Versionstamp};

use super::{Bed, key, later, set};

/// The stamp that the commit answered.
pub async fn every_entry_of_a_commit_carries_its_stamp(bed: Bed) {
    let write = AtomicWrite::new()
        .push(set("a", "1"))
        .push(set("b", "1"))
        .push(set("a", "2"));
    let stamp = bed.commit(write).await;
    assert_eq!(bed.stamp("a").await, Some(stamp));
    assert_eq!(bed.stamp("b").await, Some(stamp));
}

/// While the clock stands still too.
pub async fn stamps_rise_with_every_commit(bed: Bed) {
    let mut last = Versionstamp::ZERO;
    for n in 0..50 {
        let stamp = match n % 3 {
            0 => bed.set("a", "1").await,
            1 => bed.delete("a").await,
            _ => bed.commit(AtomicWrite::new()).await,
        };
        assert!(stamp > last, "{stamp} after {last}");
        last = stamp;
    }
}

/// By a day.
pub async fn stamps_rise_when_the_clock_steps_back(bed: Bed) {
    let before = bed.set("a", "1").await;
    bed.clock.set(later(-86_400_000));
    let after = bed.set("a", "2").await;
    assert!(after > before);
    bed.clock.set(later(1));
    assert!(bed.set("a", "3").await > after);
}

/// So that a version is also the time of its write.
pub async fn stamps_follow_the_clock(bed: Bed) {
    for ms in [0, 1, 1_000, 86_400_000] {
        bed.clock.set(later(ms));
        let stamp = bed.set("a", "1").await;
        assert!(stamp.micros() >= bed.clock.now_micros());
        assert_eq!(stamp.time(), later(ms));
    }
}

/// However many commits share a group.
pub async fn stamps_of_concurrent_commits_are_unique(bed: Bed) {
    let tasks: Vec<_> = (0..16)
        .map(|n: u32| {
            let store = bed.store().clone();
            tokio::spawn(async move {
                let mut stamps = Vec::new();
                for _ in 0..20 {
                    let write = AtomicWrite::new().push(set(&n.to_string(), "1"));
                    let outcome = store.commit(write).await.unwrap();
                    stamps.push(outcome.committed().unwrap().versionstamp);
                }
                assert!(stamps.is_sorted(), "one client's own stamps rise");
                stamps
            })
        })
        .collect();
    let mut all = BTreeSet::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    assert_eq!(all.len(), 16 * 20);
    assert!(bed.store().versionstamp().await.unwrap() >= *all.last().unwrap());
}

/// Deletions count.
pub async fn the_newest_stamp_is_zero_at_first_and_that_of_the_last_commit_then(bed: Bed) {
    assert_eq!(
        bed.store().versionstamp().await.unwrap(),
        Versionstamp::ZERO
    );
    let stamp = bed.set("a", "1").await;
    assert_eq!(bed.store().versionstamp().await.unwrap(), stamp);
    let stamp = bed.delete("a").await;
    assert_eq!(bed.store().versionstamp().await.unwrap(), stamp);
}

/// Neither an entry nor a stamp that anybody could see.
pub async fn a_conflict_leaves_no_trace(bed: Bed) {
    let stamp = bed.set("a", "1").await;
    let write = AtomicWrite::new()
        .check_absent(key("a"))
        .push(set("b", "1"));
    let outcome = bed.store().commit(write).await.unwrap();
    assert_eq!(outcome, Outcome::Conflict { failed: vec![0] });
    assert_eq!(bed.store().versionstamp().await.unwrap(), stamp);
    assert_eq!(bed.all().await.len(), 1);
}

//! Entries that end, and `sweep`.

use std::num::NonZeroU32;

use kvasir_kv::{AtomicWrite, Mutation, Outcome, RangeRead, SumBounds, UnixMillis};

use super::{Bed, everything, json, key, later, names, set};

impl Bed {
    async fn sweep(&self, now: UnixMillis, limit: u32) -> u32 {
        let limit = NonZeroU32::new(limit).expect("not zero");
        self.store()
            .sweep(now, limit)
            .await
            .expect("the store takes writes")
    }
}

/// To the millisecond, swept or not, by every kind of read.
pub async fn an_entry_is_unseen_from_its_expiry_on(bed: Bed) {
    bed.set_until("a", "1", later(1_000)).await;
    bed.clock.set(later(999));
    assert!(bed.entry("a").await.is_some());
    assert_eq!(bed.all().await.len(), 1);
    bed.clock.set(later(1_000));
    assert_eq!(bed.entry("a").await, None);
    assert_eq!(bed.all().await, []);
    bed.sweep(later(1_000), 10).await;
    assert_eq!(bed.entry("a").await, None);
}

/// A check for absence holds, one for its version fails.
pub async fn an_expired_entry_counts_as_absent_for_checks(bed: Bed) {
    let stamp = bed.set_until("a", "1", later(10)).await;
    bed.clock.set(later(10));
    let outcome = bed
        .store()
        .commit(AtomicWrite::new().check(key("a"), stamp))
        .await;
    assert_eq!(outcome.unwrap(), Outcome::Conflict { failed: vec![0] });
    bed.commit(
        AtomicWrite::new()
            .check_absent(key("a"))
            .push(set("a", "2")),
    )
    .await;
    assert_eq!(bed.text("a").await.unwrap(), "2");
}

/// Sums begin anew, and nothing existed.
pub async fn an_expired_entry_counts_as_absent_for_mutations(bed: Bed) {
    bed.set_until("n", "5", later(10)).await;
    bed.set_until("a", "1", later(10)).await;
    bed.clock.set(later(10));
    let write = AtomicWrite::new()
        .push(Mutation::Sum {
            key: key("n"),
            operand: json("1"),
            bounds: SumBounds::default(),
        })
        .push(Mutation::Set {
            key: key("a"),
            value: json("2"),
            expires_at: None,
            meta: None,
            keep_created: true,
        })
        .reporting_existed();
    let outcome = bed.store().commit(write).await.unwrap();
    assert_eq!(outcome.committed().unwrap().existed, [false, false]);
    assert_eq!(bed.text("n").await.unwrap(), "1");
    assert_eq!(bed.entry("a").await.unwrap().created_at(), later(10));
}

/// A page is full of what can be seen.
pub async fn expired_entries_do_not_count_towards_a_limit(bed: Bed) {
    for name in ["a", "b", "c", "d"] {
        bed.set_until(name, "1", later(10)).await;
    }
    for name in ["b", "e"] {
        bed.set(name, "1").await;
    }
    bed.clock.set(later(10));
    let read = RangeRead::new(everything(), 2);
    assert_eq!(names(&bed.range(read.clone()).await), ["b", "e"]);
    assert_eq!(names(&bed.range(read.reversed()).await), ["e", "b"]);
}

/// Such a write is a commit; it replaces what was there.
pub async fn an_entry_written_already_expired_is_never_seen(bed: Bed) {
    bed.set("a", "1").await;
    for expires_at in [later(0), later(-1_000)] {
        bed.set_until("a", "2", expires_at).await;
        assert_eq!(bed.entry("a").await, None);
        assert_eq!(bed.all().await, []);
    }
}

/// By the time that it is given.
pub async fn a_sweep_removes_only_what_had_expired_and_says_how_many(bed: Bed) {
    for (name, at) in [("a", 10), ("b", 20), ("c", 30)] {
        bed.set_until(name, "1", later(at)).await;
    }
    bed.set("d", "1").await;
    bed.clock.set(later(25));
    assert_eq!(bed.sweep(later(9), 10).await, 0);
    assert_eq!(bed.sweep(later(10), 10).await, 1);
    assert_eq!(bed.sweep(later(25), 10).await, 1);
    assert_eq!(names(&bed.all().await), ["c", "d"]);
    assert_eq!(bed.sweep(later(25), 10).await, 0);
    bed.clock.set(later(30));
    assert_eq!(bed.sweep(later(30), 10).await, 1);
    assert_eq!(names(&bed.all().await), ["d"]);
}

/// The rest waits for the next one.
pub async fn a_sweep_removes_no_more_than_its_limit(bed: Bed) {
    let write = (0..25).fold(AtomicWrite::new(), |write, n| {
        let name = format!("{n:02}");
        write.push(Mutation::set_expiring(
            key(&name),
            json("1"),
            Some(later(10)),
        ))
    });
    bed.commit(write).await;
    bed.clock.set(later(10));
    let mut removed = Vec::new();
    for _ in 0..4 {
        removed.push(bed.sweep(later(10), 10).await);
    }
    assert_eq!(removed, [10, 10, 5, 0]);
}

/// With another expiry or none.
pub async fn a_sweep_spares_an_entry_that_was_written_again(bed: Bed) {
    for name in ["forever", "longer", "summed", "deleted", "same"] {
        bed.set_until(name, "1", later(10)).await;
    }
    bed.set("forever", "2").await;
    bed.set_until("longer", "2", later(50)).await;
    bed.apply(Mutation::Sum {
        key: key("summed"),
        operand: json("1"),
        bounds: SumBounds::default(),
    })
    .await;
    bed.delete("deleted").await;
    bed.set("deleted", "2").await;
    bed.set_until("same", "2", later(10)).await;
    bed.clock.set(later(10));
    assert_eq!(bed.sweep(later(10), 10).await, 1);
    assert_eq!(
        names(&bed.all().await),
        ["deleted", "forever", "longer", "summed"]
    );
}

/// And is no error.
pub async fn a_sweep_of_nothing_removes_nothing(bed: Bed) {
    assert_eq!(bed.sweep(later(1_000), 10).await, 0);
    let stamp = bed.set("a", "1").await;
    assert_eq!(bed.sweep(later(1_000), 10).await, 0);
    assert_eq!(bed.stamp("a").await, Some(stamp));
}

/// The last write decides.
pub async fn an_expiry_may_be_moved_in_both_directions(bed: Bed) {
    bed.set_until("sooner", "1", later(100)).await;
    bed.set_until("sooner", "1", later(10)).await;
    bed.set_until("later", "1", later(10)).await;
    bed.set_until("later", "1", later(100)).await;
    bed.clock.set(later(50));
    assert_eq!(names(&bed.all().await), ["later"]);
    assert_eq!(bed.sweep(later(50), 10).await, 1);
    assert_eq!(names(&bed.all().await), ["later"]);
    bed.clock.set(later(100));
    assert_eq!(bed.sweep(later(100), 10).await, 1);
    assert_eq!(bed.all().await, []);
}

/// A day that the clock steps back brings nothing back: reads, lists, checks and sums agree. What is
/// written then lasts as long as it was meant to, and is swept in its turn.
pub async fn what_has_expired_stays_expired_when_the_clock_steps_back(bed: Bed) {
    const DAY_MS: i64 = 86_400_000;
    let old = bed.set_until("a", "1", later(1_000)).await;
    bed.set_until("n", "5", later(1_000)).await;
    bed.set_until("kept", "1", later(2 * DAY_MS)).await;
    bed.clock.set(later(1_000));
    assert_eq!(bed.entry("a").await, None);

    bed.clock.set(later(1_000 - DAY_MS));
    assert_eq!(bed.entry("a").await, None);
    assert_eq!(names(&bed.all().await), ["kept"]);
    let stale = AtomicWrite::new().check(key("a"), old);
    let outcome = bed.store().commit(stale).await.unwrap();
    assert_eq!(outcome, Outcome::Conflict { failed: vec![0] });
    bed.apply(Mutation::Sum {
        key: key("n"),
        operand: json("1"),
        bounds: SumBounds::default(),
    })
    .await;
    assert_eq!(bed.text("n").await.unwrap(), "1");

    // By the time of day that a client sees now, in ten seconds.
    let stamp = bed.set_until("b", "1", later(11_000 - DAY_MS)).await;
    assert!(stamp > old);
    bed.clock.set(later(10_999 - DAY_MS));
    assert!(bed.entry("b").await.is_some());
    bed.clock.set(later(11_000 - DAY_MS));
    assert_eq!(bed.entry("b").await, None);
    assert_eq!(bed.sweep(later(11_000), 10).await, 2);
    assert_eq!(names(&bed.all().await), ["kept", "n"]);
}

//! `scan`.

use futures_util::StreamExt;
use kvasir_kv::{AtomicWrite, Entry, Key, KeyRange, Mutation, Page, Value, limits};

use super::{Bed, between, everything, json, key, later, names, set};
use crate::wait::{DEADLINE, within};

impl Bed {
    async fn pages(&self, range: KeyRange, reverse: bool) -> Vec<Page> {
        let pages = self
            .store()
            .scan(range, reverse)
            .map(|page| page.expect("readable"));
        within(DEADLINE, "the scan ends", pages.collect()).await
    }

    async fn scan(&self, range: KeyRange, reverse: bool) -> Vec<Entry> {
        let pages = self.pages(range, reverse).await;
        pages.into_iter().flat_map(|page| page.entries).collect()
    }

    async fn fill(&self, count: usize, bytes: usize) -> Vec<String> {
        let names: Vec<String> = (0..count).map(|n| format!("{n:06}")).collect();
        for some in names.chunks(500) {
            let write = some.iter().fold(AtomicWrite::new(), |write, name| {
                write.push(Mutation::set(key(name), Value::bytes(vec![7; bytes])))
            });
            self.commit(write).await;
        }
        names
    }
}

/// Not none.
pub async fn a_scan_of_nothing_gives_one_empty_page(bed: Bed) {
    for reverse in [false, true] {
        let pages = bed.pages(everything(), reverse).await;
        assert_eq!(pages.len(), 1);
        assert_eq!(pages[0].entries, []);
    }
}

/// Over several pages.
pub async fn a_scan_gives_every_entry_once_in_both_directions(bed: Bed) {
    let mut written = bed.fill(2 * limits::PAGE_ENTRIES_MAX + 10, 10).await;
    assert_eq!(names(&bed.scan(everything(), false).await), written);
    written.reverse();
    assert_eq!(names(&bed.scan(everything(), true).await), written);
}

/// A page may be over its bytes by one entry at most.
pub async fn pages_are_bounded_by_entries_and_bytes(bed: Bed) {
    let bytes = limits::PAGE_BYTES_MAX / 4;
    bed.fill(limits::PAGE_ENTRIES_MAX + 1, 1).await;
    let pages = bed.pages(everything(), false).await;
    assert!(pages.len() >= 2);
    assert!(
        pages
            .iter()
            .all(|page| page.entries.len() <= limits::PAGE_ENTRIES_MAX)
    );

    bed.fill(9, bytes).await;
    for reverse in [false, true] {
        for page in bed.pages(everything(), reverse).await {
            let cost: usize = page.entries.iter().map(Entry::cost_bytes).sum();
            assert!(
                cost <= limits::PAGE_BYTES_MAX + bytes + 64,
                "{cost} bytes in a page"
            );
        }
    }
}

/// `[start, end)`.
pub async fn a_scan_keeps_to_its_range(bed: Bed) {
    for name in ["a", "b", "c", "d"] {
        bed.set(name, "1").await;
    }
    assert_eq!(names(&bed.scan(between("b", "d"), false).await), ["b", "c"]);
    assert_eq!(names(&bed.scan(between("b", "d"), true).await), ["c", "b"]);
}

/// And not an error.
pub async fn an_inverted_scan_is_empty(bed: Bed) {
    bed.set("b", "1").await;
    assert_eq!(bed.scan(between("c", "a"), false).await, []);
    assert_eq!(bed.scan(between("c", "a"), true).await, []);
}

/// Judged when its page is read.
pub async fn a_scan_skips_what_has_expired(bed: Bed) {
    for name in ["a", "c"] {
        bed.set_until(name, "1", later(10)).await;
    }
    bed.set("b", "1").await;
    assert_eq!(names(&bed.scan(everything(), false).await), ["a", "b", "c"]);
    bed.clock.set(later(10));
    assert_eq!(names(&bed.scan(everything(), false).await), ["b"]);
}

/// At least that of its entries, at most that of the store.
pub async fn a_page_names_the_newest_commit_it_holds(bed: Bed) {
    bed.fill(limits::PAGE_ENTRIES_MAX + 10, 1).await;
    let newest = bed.store().versionstamp().await.unwrap();
    for page in bed.pages(everything(), false).await {
        let of_entries = page.entries.iter().map(|entry| entry.versionstamp).max();
        assert!(page.versionstamp >= of_entries.unwrap_or_default());
        assert!(page.versionstamp <= newest);
    }
    // A write to elsewhere is in the snapshot too, though no entry of the range shows it.
    let elsewhere = bed.set("z", "1").await;
    let pages = bed.pages(between("0", "1"), false).await;
    assert!(pages[0].versionstamp >= elsewhere);
}

/// Reads neither.
pub async fn a_slow_scan_holds_up_no_commit(bed: Bed) {
    bed.fill(3 * limits::PAGE_ENTRIES_MAX, 1).await;
    let mut scan = bed.store().scan(everything(), false);
    assert!(scan.next().await.is_some());
    for n in 0..20 {
        let text = n.to_string();
        let write = bed.set("0", &text);
        within(DEADLINE, "a commit beside an open scan", write).await;
    }
    assert_eq!(bed.text("0").await.unwrap(), "19");
    let rest: Vec<_> = within(DEADLINE, "the scan goes on", scan.collect()).await;
    assert!(rest.iter().all(Result::is_ok));
}

/// While others come and go. With snapshots, those are not seen to move at all.
pub async fn an_entry_that_does_not_change_is_seen_by_every_scan(bed: Bed) {
    let steady = bed.fill(2 * limits::PAGE_ENTRIES_MAX, 1).await;
    let moving = |n: usize| Key::from_strings([format!("{n:06}"), "moving".into()]);
    let store = bed.store().clone();
    let writer = tokio::spawn(async move {
        // One entry that is always somewhere: each commit moves it.
        for n in 0..60 {
            let (from, to) = (n * 7 % 1000, (n + 1) * 7 % 1000);
            let write = AtomicWrite::new()
                .push(Mutation::delete(moving(from)))
                .push(Mutation::set(moving(to), json("1")));
            store.commit(write).await.unwrap();
        }
    });
    bed.commit(AtomicWrite::new().push(set("steady", "1")))
        .await;
    while !writer.is_finished() {
        let found = bed.scan(everything(), false).await;
        let kept: Vec<Entry> = found
            .iter()
            .filter(|entry| entry.key.parts().is_ok_and(|parts| parts.len() == 1))
            .cloned()
            .collect();
        assert_eq!(kept.len(), steady.len() + 1);
        let moved = found.len() - kept.len();
        if bed.store().capabilities().snapshot_scans {
            assert!(moved <= 1, "{moved} places at once");
        }
    }
    writer.await.unwrap();
}

/// Whatever is written between its pages, on every backend.
pub async fn a_snapshot_scan_sees_one_moment(bed: Bed) {
    let before = bed.fill(2 * limits::PAGE_ENTRIES_MAX + 10, 1).await;
    let stamp = bed.store().versionstamp().await.unwrap();
    for reverse in [false, true] {
        let held: Vec<Entry> = bed.scan(everything(), reverse).await;
        let mut scan = bed.store().scan_snapshot(everything(), reverse);
        let first = within(DEADLINE, "a page", scan.next())
            .await
            .unwrap()
            .unwrap();
        let mut pages = vec![first];
        // One entry at each end, one in the middle and one more.
        for name in ["000000", "000600", "001030", "new"] {
            bed.set(name, "changed").await;
        }
        bed.commit(AtomicWrite::new().push(Mutation::delete(key("000300"))))
            .await;
        while let Some(page) = within(DEADLINE, "a page", scan.next()).await {
            pages.push(page.unwrap());
        }
        let stamps: Vec<_> = pages.iter().map(|page| page.versionstamp).collect();
        assert!(stamps.iter().all(|seen| *seen == stamps[0]), "{stamps:?}");
        assert!(stamps[0] >= stamp);
        let found: Vec<Entry> = pages.into_iter().flat_map(|page| page.entries).collect();
        assert_eq!(found, held);
        // As it was, for the other direction.
        bed.commit(AtomicWrite::new().push(Mutation::delete(key("new"))))
            .await;
        bed.fill(before.len(), 1).await;
    }
}

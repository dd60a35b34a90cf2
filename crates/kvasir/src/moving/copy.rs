//! Makes one of our stores hold what another holds.
//!
//! Both are walked in key order, side by side, so memory does not grow with them and a second run
//! writes only what is missing. Entries go over as they are, versionstamps, expiries and meta
//! included. Afterwards the target is read again: count and content hash must fit the source.

use std::sync::Arc;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use futures_util::stream::Fuse;
use kvasir_kv::{Entry, Key, KeyRange, Page, PageStream, Store};
use kvasir_store::content::ContentHash;
use serde::Serialize;

/// Entries written at once.
const WRITE_ENTRIES: usize = 1_000;

/// Bytes after which a write is sent early.
const WRITE_BYTES: usize = 4 * 1024 * 1024;

/// How a copy treats what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Write nothing.
    pub dry_run: bool,
    /// Replace entries of the target that are newer than those of the source.
    pub overwrite: bool,
}

/// What a copy did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Whether all of the source came from one snapshot.
    pub one_snapshot: bool,
    /// Entries of the source.
    pub entries: u64,
    /// Bytes of keys, values and meta of the source.
    pub bytes: u64,
    /// Entries written.
    pub written: u64,
    /// Entries that were there already.
    pub same: u64,
    /// Entries that are newer in the target and were left alone.
    pub newer: u64,
    /// Entries that only the target holds. They stay.
    pub only_in_target: u64,
    /// Hash over the source's entries, in hexadecimal.
    pub content_hash: String,
    /// Whether count and hash of the target, read again, fit.
    pub verified: bool,
}

impl Report {
    /// Whether the target now holds exactly what the source held.
    pub fn is_exact(&self) -> bool {
        self.verified && self.newer == 0 && self.only_in_target == 0
    }
}

/// Copies everything. `progress` is told entries and bytes of the source so far.
///
/// # Errors
///
/// If the source cannot be read or the target written. What was written stays; run it again.
pub async fn copy(
    source: &Arc<dyn Store>,
    target: &Arc<dyn Store>,
    options: Options,
    mut progress: impl FnMut(u64, u64),
) -> anyhow::Result<Report> {
    let mut report = Report {
        dry_run: options.dry_run,
        one_snapshot: source.capabilities().snapshot_scans,
        ..Report::default()
    };
    let mut from = Walk::new(source);
    let mut to = Walk::new(target);
    let mut batch = Batch::default();
    let mut sums = ContentHash::default();
    // What the target holds beside the source, or newer than it.
    let mut beside = ContentHash::default();
    while let Some(entry) = from.next().await.context("reading the source")? {
        report.entries += 1;
        report.bytes += entry.cost_bytes() as u64;
        let there = loop {
            match to.peek().await.context("reading the target")? {
                Some(other) if other.key < entry.key => {
                    report.only_in_target += 1;
                    beside.add(other);
                    to.advance();
                }
                Some(other) if other.key == entry.key => break to.next().await?,
                _ => break None,
            }
        };
        match there {
            Some(other) if other == entry => {
                report.same += 1;
                sums.add(&entry);
            }
            Some(other) if other.versionstamp > entry.versionstamp && !options.overwrite => {
                report.newer += 1;
                beside.add(&other);
            }
            _ => {
                report.written += 1;
                sums.add(&entry);
                batch.push(entry);
            }
        }
        if batch.is_full() {
            batch.send(target, options).await?;
        }
        if report.entries.is_multiple_of(1_000) {
            progress(report.entries, report.bytes);
        }
    }
    batch.send(target, options).await?;
    while let Some(other) = to.next().await? {
        report.only_in_target += 1;
        beside.add(&other);
    }
    progress(report.entries, report.bytes);
    report.content_hash = sums.text();
    if !options.dry_run {
        let mut found = ContentHash::default();
        let mut again = Walk::new(target);
        while let Some(entry) = again.next().await.context("reading the target again")? {
            found.add(&entry);
        }
        sums.merge(&beside);
        report.verified = sums.fits(&found);
        if !report.verified {
            bail!(
                "the target does not hold what was copied: {} lasting entries, expected {}; is \
                 somebody writing to it?",
                found.lasting,
                sums.lasting
            );
        }
    }
    Ok(report)
}

/// The entries of a store, in key order.
struct Walk {
    pages: Fuse<PageStream>,
    page: std::vec::IntoIter<Entry>,
    next: Option<Entry>,
}

impl Walk {
    fn new(store: &Arc<dyn Store>) -> Walk {
        Walk {
            pages: store
                .scan(KeyRange::starting_with(&Key::default()), false)
                .fuse(),
            page: Vec::new().into_iter(),
            next: None,
        }
    }

    async fn peek(&mut self) -> anyhow::Result<Option<&Entry>> {
        if self.next.is_none() {
            self.next = self.fetch().await?;
        }
        Ok(self.next.as_ref())
    }

    fn advance(&mut self) {
        self.next = None;
    }

    async fn next(&mut self) -> anyhow::Result<Option<Entry>> {
        match self.next.take() {
            Some(entry) => Ok(Some(entry)),
            None => self.fetch().await,
        }
    }

    async fn fetch(&mut self) -> anyhow::Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.page.next() {
                return Ok(Some(entry));
            }
            match self.pages.next().await {
                None => return Ok(None),
                Some(page) => {
                    let Page { entries, .. } = page?;
                    self.page = entries.into_iter();
                }
            }
        }
    }
}

/// Entries that wait to be written.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.cost_bytes();
        self.entries.push(entry);
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= WRITE_ENTRIES || self.bytes >= WRITE_BYTES
    }

    async fn send(&mut self, target: &Arc<dyn Store>, options: Options) -> anyhow::Result<()> {
        let entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        if entries.is_empty() || options.dry_run {
            return Ok(());
        }
        target.ingest(entries).await.context("writing the target")
    }
}

#[cfg(test)]
mod tests {
    use kvasir_kv::{AtomicWrite, Mutation, UnixMillis, Value};
    use kvasir_store::{OpenOptions, open};

    use super::*;

    async fn memory() -> Arc<dyn Store> {
        open("memory:", OpenOptions::default()).await.unwrap()
    }

    fn key(name: &str) -> Key {
        Key::from_strings([name])
    }

    async fn set(store: &Arc<dyn Store>, name: &str, value: &str) {
        let set = Mutation::set(key(name), Value::json(value.to_owned()));
        store.commit(AtomicWrite::new().push(set)).await.unwrap();
    }

    #[tokio::test]
    async fn a_copy_is_exact_and_a_second_one_writes_nothing() {
        let (source, target) = (memory().await, memory().await);
        for number in 0..2_500 {
            set(&source, &format!("{number:05}"), &number.to_string()).await;
        }
        let expiring =
            Mutation::set_expiring(key("z"), Value::json("1"), Some(UnixMillis::MAX_RFC3339));
        source
            .commit(AtomicWrite::new().push(expiring))
            .await
            .unwrap();

        let dry = Options {
            dry_run: true,
            ..Options::default()
        };
        let report = copy(&source, &target, dry, |_, _| {}).await.unwrap();
        assert_eq!((report.entries, report.written), (2_501, 2_501));
        assert!(target.get(&key("00000")).await.unwrap().is_none());

        let report = copy(&source, &target, Options::default(), |_, _| {})
            .await
            .unwrap();
        assert!(report.is_exact());
        assert_eq!(report.written, 2_501);
        assert_eq!(
            target.get(&key("00007")).await.unwrap(),
            source.get(&key("00007")).await.unwrap()
        );
        let again = copy(&source, &target, Options::default(), |_, _| {})
            .await
            .unwrap();
        assert_eq!((again.written, again.same), (0, 2_501));
        assert_eq!(again.content_hash, report.content_hash);
    }

    #[tokio::test]
    async fn what_the_target_has_beside_the_source_stays_and_is_reported() {
        let (source, target) = (memory().await, memory().await);
        set(&source, "b", "1").await;
        set(&source, "c", "1").await;
        set(&target, "a", "2").await;
        set(&target, "c", "2").await;
        set(&target, "d", "2").await;

        let report = copy(&source, &target, Options::default(), |_, _| {})
            .await
            .unwrap();
        assert_eq!(
            (report.written, report.newer, report.only_in_target),
            (1, 1, 2)
        );
        assert!(report.verified && !report.is_exact());
        assert_eq!(
            target.get(&key("c")).await.unwrap().unwrap().value,
            Value::json("2")
        );

        let overwrite = Options {
            overwrite: true,
            ..Options::default()
        };
        let report = copy(&source, &target, overwrite, |_, _| {}).await.unwrap();
        assert_eq!((report.written, report.same, report.newer), (1, 1, 0));
        assert_eq!(
            target.get(&key("c")).await.unwrap().unwrap().value,
            Value::json("1")
        );
    }
}

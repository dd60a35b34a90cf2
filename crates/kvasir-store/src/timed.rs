//! A store that charges its time to the request it works for; see [`kvasir_kv::spent`].
//!
//! Backends with a committer charge waiting, planning and syncing themselves. What is left of a
//! commit, and all of a read, counts as the engine's.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::Stream;
use kvasir_kv::spent::{self, Part};
use kvasir_kv::{
    AtomicWrite, Capabilities, ChangeStream, Entry, Key, KeyRange, Outcome, Page, PageStream,
    Result, Snapshot, SnapshotRead, Store, UnixMillis, Versionstamp, WatchStream,
};

use crate::clock::monotonic;

/// See the module's documentation.
pub struct Timed(Arc<dyn Store>);

impl Timed {
    /// The same store, timed.
    pub fn over(store: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Timed(store))
    }
}

/// Charges the engine from `began` until now, but for what was charged to commits meanwhile.
fn charge(began: Instant, of_commits_before: Duration) {
    let apart = spent::of_commits().saturating_sub(of_commits_before);
    let now = monotonic();
    // The rest lies in several places around the sync; as one spell it stands at the end.
    let from = (began + apart).min(now);
    spent::add(Part::Engine, from, now);
}

#[async_trait]
impl Store for Timed {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let began = monotonic();
        let answer = self.0.get(key).await;
        spent::add(Part::Engine, began, monotonic());
        answer
    }

    // Takes less time than noting it.
    fn at_hand(&self, key: &Key) -> Option<Entry> {
        self.0.at_hand(key)
    }

    async fn read(&self, read: SnapshotRead) -> Result<Snapshot> {
        if read.ranges.iter().any(|range| range.limit > 1) {
            spent::scanned();
        }
        let began = monotonic();
        let answer = self.0.read(read).await;
        spent::add(Part::Engine, began, monotonic());
        answer
    }

    fn scan(&self, range: KeyRange, reverse: bool) -> PageStream {
        spent::scanned();
        Box::pin(TimedPages {
            pages: self.0.scan(range, reverse),
            began: None,
        })
    }

    fn scan_snapshot(&self, range: KeyRange, reverse: bool) -> PageStream {
        spent::scanned();
        Box::pin(TimedPages {
            pages: self.0.scan_snapshot(range, reverse),
            began: None,
        })
    }

    async fn commit(&self, write: AtomicWrite) -> Result<Outcome> {
        spent::wrote();
        let (began, before) = (monotonic(), spent::of_commits());
        let answer = self.0.commit(write).await;
        charge(began, before);
        answer
    }

    async fn ingest(&self, entries: Vec<Entry>) -> Result<()> {
        spent::wrote();
        let (began, before) = (monotonic(), spent::of_commits());
        let answer = self.0.ingest(entries).await;
        charge(began, before);
        answer
    }

    fn watch(&self, keys: Vec<Key>) -> WatchStream {
        spent::watched();
        self.0.watch(keys)
    }

    fn changes(&self, range: KeyRange) -> ChangeStream {
        spent::watched();
        self.0.changes(range)
    }

    async fn sweep(&self, now: UnixMillis, limit: NonZeroU32) -> Result<u32> {
        self.0.sweep(now, limit).await
    }

    async fn versionstamp(&self) -> Result<Versionstamp> {
        self.0.versionstamp().await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

/// Pages whose reading is charged, but not the time in which nobody asks for the next one.
struct TimedPages {
    pages: PageStream,
    began: Option<Instant>,
}

impl Stream for TimedPages {
    type Item = Result<Page>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Page>>> {
        let began = *self.began.get_or_insert_with(monotonic);
        let page = ready!(self.pages.as_mut().poll_next(cx));
        self.began = None;
        spent::add(Part::Engine, began, monotonic());
        Poll::Ready(page)
    }
}

#[cfg(test)]
mod tests {
    use kvasir_kv::spent::Spent;
    use kvasir_kv::{Mutation, Value};

    use super::*;
    use crate::OpenOptions;

    #[tokio::test]
    async fn time_of_reads_and_commits_is_charged_to_the_request() {
        let store = crate::open("memory:", OpenOptions::default()).await;
        let store = Timed::over(store.unwrap());
        let spent = Spent::new(true);
        let key = Key::from_parts(&["a".into()]);
        let work = async {
            let write = AtomicWrite::new().push(Mutation::set(key.clone(), Value::json("1")));
            store.commit(write).await.unwrap();
            store.get(&key).await.unwrap().unwrap();
        };
        Arc::clone(&spent).around(work).await;
        assert!(spent.has_written() && !spent.has_scanned());
        assert!(spent.sum(Part::Engine) > Duration::ZERO);
        assert_eq!(spent.sum(Part::Sync), Duration::ZERO);
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn a_committer_tells_queue_and_sync_apart() {
        let folder = tempfile::TempDir::new().unwrap();
        let url = format!("sqlite:{}", folder.path().join("a").display());
        let store = crate::open(&url, OpenOptions::default()).await;
        let store = Timed::over(store.unwrap());
        let spent = Spent::new(true);
        let key = Key::from_parts(&["a".into()]);
        let write = AtomicWrite::new().push(Mutation::set(key, Value::json("1")));
        let began = monotonic();
        let commit = Arc::clone(&spent).around(store.commit(write)).await;
        commit.unwrap();
        let sum: Duration = Part::ALL.into_iter().map(|part| spent.sum(part)).sum();
        assert!(spent.sum(Part::Sync) > Duration::ZERO);
        assert!(sum <= began.elapsed(), "no time is counted twice");
        store.close().await.unwrap();
    }
}

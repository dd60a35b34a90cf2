//! A store in which somebody else is always faster.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kvasir_auth::AccessSettings;
use kvasir_kv::{
    AtomicWrite, Capabilities, ChangeStream, Entry, Key, KeyRange, Limits, ManualClock, Mutation,
    Outcome, PageStream, Result, Snapshot, SnapshotRead, Store, UnixMillis, Value as Stored,
    Versionstamp, WatchStream,
};
use kvasir_store::{FatalHook, MemoryStore, OpenOptions};

use crate::support::{START, World};

/// A store in which somebody else is always faster, so many times: right before a commit that checks
/// the contested key, that key is written anew.
pub(crate) struct Contested {
    inner: Arc<dyn Store>,
    /// The key, and what the rival writes there; without a value, what is there already.
    contested: Mutex<Option<(Key, Option<Stored>)>>,
    /// How often somebody will be faster.
    left: AtomicU32,
    /// Commits that checked the key.
    tries: AtomicU32,
}

impl Contested {
    /// A world on such a store. Nothing is contested yet.
    pub(crate) fn world() -> (World, Arc<Contested>) {
        let clock = ManualClock::at(START);
        let inner = MemoryStore::new(&OpenOptions {
            clock: Arc::new(clock.clone()),
            fatal: FatalHook::new(|error| panic!("the memory store failed: {error}")),
            sweeper: false,
            ..OpenOptions::default()
        });
        let store = Arc::new(Contested {
            inner: Arc::new(inner),
            contested: Mutex::default(),
            left: AtomicU32::new(0),
            tries: AtomicU32::new(0),
        });
        let (limits, access) = (Limits::default(), AccessSettings::default());
        let world = World::over(Arc::clone(&store) as _, clock, limits, access);
        (world, store)
    }

    /// From now on the next `times` commits that check `key` come too late.
    pub(crate) fn contest(&self, key: Key, rival: Option<Stored>, times: u32) {
        *self.contested.lock().unwrap() = Some((key, rival));
        self.left.store(times, Ordering::SeqCst);
        self.tries.store(0, Ordering::SeqCst);
    }

    pub(crate) fn tries(&self) -> u32 {
        self.tries.load(Ordering::SeqCst)
    }

    async fn be_faster(&self, key: Key, rival: Option<Stored>) -> Result<()> {
        let there = self
            .inner
            .get(&key)
            .await?
            .expect("the contested key is there");
        let write = AtomicWrite::new().push(Mutation::set(key, rival.unwrap_or(there.value)));
        self.inner.commit(write).await.map(|_| ())
    }
}

#[async_trait]
impl Store for Contested {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn read(&self, read: SnapshotRead) -> Result<Snapshot> {
        self.inner.read(read).await
    }
    fn scan(&self, range: KeyRange, reverse: bool) -> PageStream {
        self.inner.scan(range, reverse)
    }
    fn scan_snapshot(&self, range: KeyRange, reverse: bool) -> PageStream {
        self.inner.scan_snapshot(range, reverse)
    }
    async fn commit(&self, write: AtomicWrite) -> Result<Outcome> {
        let contested = self.contested.lock().unwrap().clone();
        if let Some((key, rival)) = contested
            && write.checks.iter().any(|check| check.key == key)
        {
            self.tries.fetch_add(1, Ordering::SeqCst);
            let one_less = |left: u32| left.checked_sub(1);
            let was_left = self
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
            if was_left.is_ok() {
                self.be_faster(key, rival).await?;
            }
        }
        self.inner.commit(write).await
    }
    async fn ingest(&self, entries: Vec<Entry>) -> Result<()> {
        self.inner.ingest(entries).await
    }
    fn watch(&self, keys: Vec<Key>) -> WatchStream {
        self.inner.watch(keys)
    }
    fn changes(&self, range: KeyRange) -> ChangeStream {
        self.inner.changes(range)
    }
    async fn sweep(&self, now: UnixMillis, limit: NonZeroU32) -> Result<u32> {
        self.inner.sweep(now, limit).await
    }
    async fn versionstamp(&self) -> Result<Versionstamp> {
        self.inner.versionstamp().await
    }
    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

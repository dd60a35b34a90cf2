//! A store in memory: the executable specification of the contract.
//!
//! Every operation holds one lock, so each is plainly atomic. The other backends are compared with
//! this one step by step. It keeps nothing after its process.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use futures_util::stream;
use kvasir_kv::{
    AtomicWrite, Capabilities, Change, ChangeStream, Clock, Committed, Entry, Error, HybridClock,
    Key, KeyRange, Limits, Outcome, Page, PageStream, Plan, RangeRead, RangeResult, Result,
    Snapshot, SnapshotRead, Store, UnixMillis, Versionstamp, WatchStream, plan,
};

use crate::collect::{self, Collector};
use crate::metrics::StoreMetrics;
use crate::open::OpenOptions;
use crate::sweeper::ExpiryHint;
use crate::watch::Hub;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct MemoryStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    metrics: Arc<StoreMetrics>,
    hub: Arc<Hub>,
    hint: Arc<ExpiryHint>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Key, Entry>,
    /// The keys of all entries that expire, by their moment.
    expiries: BTreeSet<(UnixMillis, Key)>,
    stamps: HybridClock,
    last: Versionstamp,
    closed: bool,
}

impl MemoryStore {
    /// An empty store. Nothing sweeps it but calls of [`Store::sweep`].
    pub fn new(options: &OpenOptions) -> MemoryStore {
        MemoryStore(Arc::new(Shared {
            state: Mutex::default(),
            clock: Arc::clone(&options.clock),
            limits: options.limits,
            metrics: Arc::clone(&options.metrics),
            hub: Hub::new(Arc::clone(&options.metrics)),
            hint: Arc::default(),
        }))
    }

    /// The nearest expiry, for the sweeper.
    pub fn expiry_hint(&self) -> &Arc<ExpiryHint> {
        &self.0.hint
    }
}

impl Shared {
    fn open_state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.closed {
            return Err(Error::unavailable("the store is closed"));
        }
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the state is held")
    }

    fn read(&self, read: &SnapshotRead) -> Result<Snapshot> {
        collect::check_ranges(read)?;
        let state = self.open_state()?;
        let now = self.clock.now();
        let ranges = read.ranges.iter().map(|range| state.range(range, now));
        Ok(Snapshot {
            ranges: ranges.collect(),
        })
    }

    /// Applies changes and tells everybody, the lock being held.
    fn apply(&self, state: &mut State, changes: Vec<Change>) {
        for change in &changes {
            if let Some(at) = change.after.as_ref().and_then(|entry| entry.expires_at) {
                self.hint.observe(at);
            }
            state.put(change.clone());
        }
        let told = changes
            .iter()
            .map(|change| (&change.key, change.after.is_some()));
        self.hub.publish(state.last, told);
    }
}

impl State {
    fn next_stamp(&mut self, clock: &dyn Clock) -> Versionstamp {
        Versionstamp::new(self.stamps.next(clock.now_micros()), 0)
    }

    fn put(&mut self, change: Change) {
        let before = match change.after {
            Some(entry) => {
                if let Some(at) = entry.expires_at {
                    self.expiries.insert((at, change.key.clone()));
                }
                let after = entry.expires_at;
                let before = self.entries.insert(change.key.clone(), entry);
                before.filter(|before| before.expires_at != after)
            }
            None => self.entries.remove(&change.key),
        };
        if let Some(at) = before.and_then(|before| before.expires_at) {
            self.expiries.remove(&(at, change.key));
        }
    }

    fn in_range(&self, range: &KeyRange, reverse: bool) -> Box<dyn Iterator<Item = &Entry> + '_> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let bounds = (Bound::Included(&range.start), Bound::Excluded(&range.end));
        let entries = self.entries.range::<Key, _>(bounds);
        if reverse {
            Box::new(entries.rev().map(|(_, entry)| entry))
        } else {
            Box::new(entries.map(|(_, entry)| entry))
        }
    }

    fn range(&self, read: &RangeRead, now: UnixMillis) -> RangeResult {
        let mut collector = Collector::for_range(read, now);
        for entry in self.in_range(&read.range, read.reverse) {
            if collector.push(entry.clone()).is_break() {
                break;
            }
        }
        collector.into_result()
    }

    /// A page, and what is left of the range behind it.
    fn next_page(
        &self,
        range: KeyRange,
        reverse: bool,
        now: UnixMillis,
    ) -> (Result<Page>, Option<KeyRange>) {
        let (page, has_more) = self.page(&range, reverse, now);
        let last = page.entries.last().filter(|_| has_more);
        let rest = last.map(|last| collect::rest_of(&range, &last.key, reverse));
        (Ok(page), rest)
    }

    /// The entries of a range as they are now.
    fn copy(&self, range: &KeyRange) -> State {
        let entries = self.in_range(range, false);
        State {
            entries: entries
                .map(|entry| (entry.key.clone(), entry.clone()))
                .collect(),
            last: self.last,
            ..State::default()
        }
    }

    fn page(&self, range: &KeyRange, reverse: bool, now: UnixMillis) -> (Page, bool) {
        let mut collector = Collector::for_page(now);
        for entry in self.in_range(range, reverse) {
            if collector.push(entry.clone()).is_break() {
                break;
            }
        }
        let (entries, has_more) = collector.into_page();
        let page = Page {
            entries,
            versionstamp: self.last,
        };
        (page, has_more)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            backend: "memory",
            durable: false,
            shared: false,
            snapshot_scans: false,
        }
    }

    async fn read(&self, read: SnapshotRead) -> Result<Snapshot> {
        self.0.read(&read)
    }

    fn scan(&self, range: KeyRange, reverse: bool) -> PageStream {
        let shared = Arc::clone(&self.0);
        Box::pin(stream::unfold(Some(range), move |rest| {
            let shared = Arc::clone(&shared);
            async move {
                let rest = rest?;
                let state = match shared.open_state() {
                    Ok(state) => state,
                    Err(error) => return Some((Err(error), None)),
                };
                Some(state.next_page(rest, reverse, shared.clock.now()))
            }
        }))
    }

    fn scan_snapshot(&self, range: KeyRange, reverse: bool) -> PageStream {
        let shared = Arc::clone(&self.0);
        // The keys are copied, the values are shared.
        let begin = (Some(range), None::<State>);
        Box::pin(stream::unfold(begin, move |(rest, copy)| {
            let shared = Arc::clone(&shared);
            async move {
                let rest = rest?;
                let copy = match (copy, shared.open_state()) {
                    (_, Err(error)) => return Some((Err(error), (None, None))),
                    (Some(copy), Ok(_)) => copy,
                    (None, Ok(state)) => state.copy(&rest),
                };
                let (page, rest) = copy.next_page(rest, reverse, shared.clock.now());
                Some((page, (rest, Some(copy))))
            }
        }))
    }

    async fn commit(&self, write: AtomicWrite) -> Result<Outcome> {
        collect::check_write(&write, &self.0.limits)?;
        let write = write.timed_by(&*self.0.clock);
        let mut state = self.0.open_state()?;
        let now = self.0.clock.now();
        let stamp = state.next_stamp(&*self.0.clock);
        let current = |key: &Key| state.entries.get(key).cloned();
        match plan(&write, current, stamp, now)? {
            Plan::Conflict { failed } => {
                self.0.metrics.conflicts.inc();
                Ok(Outcome::Conflict { failed })
            }
            Plan::Commit { changes, existed } => {
                state.last = stamp;
                self.0.apply(&mut state, changes);
                self.0.metrics.commits.inc();
                Ok(Outcome::Committed(Committed {
                    versionstamp: stamp,
                    existed,
                }))
            }
        }
    }

    async fn ingest(&self, entries: Vec<Entry>) -> Result<()> {
        collect::check_ingest(&entries, &self.0.limits)?;
        let mut state = self.0.open_state()?;
        for entry in &entries {
            state.stamps.observe(entry.versionstamp);
            state.last = state.last.max(entry.versionstamp);
        }
        let changes = entries.into_iter().map(collect::ingested).collect();
        self.0.apply(&mut state, changes);
        Ok(())
    }

    fn watch(&self, keys: Vec<Key>) -> WatchStream {
        let shared = Arc::clone(&self.0);
        self.0.hub.watch(
            keys,
            Arc::clone(&self.0.clock),
            Box::new(move |read| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { shared.read(&read) })
            }),
        )
    }

    fn changes(&self, range: KeyRange) -> ChangeStream {
        self.0.hub.changes(range)
    }

    async fn sweep(&self, now: UnixMillis, limit: NonZeroU32) -> Result<u32> {
        let mut state = self.0.open_state()?;
        let due: Vec<Change> = state
            .expiries
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(limit.get() as usize)
            .map(|(_, key)| Change {
                key: key.clone(),
                after: None,
            })
            .collect();
        let removed = u32::try_from(due.len()).expect("at most the limit, which is a u32");
        if removed > 0 {
            state.last = state.next_stamp(&*self.0.clock);
            self.0.apply(&mut state, due);
            self.0.metrics.swept(removed);
        }
        if let Some((at, _)) = state.expiries.first() {
            self.0.hint.observe(*at);
        }
        Ok(removed)
    }

    async fn versionstamp(&self) -> Result<Versionstamp> {
        Ok(self.0.open_state()?.last)
    }

    async fn ping(&self) -> Result<()> {
        self.0.open_state().map(drop)
    }

    async fn close(&self) -> Result<()> {
        self.0.lock().closed = true;
        self.0.hub.close();
        self.0.hint.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use kvasir_kv::{ManualClock, Mutation, Value};

    use super::*;

    fn store(clock: &ManualClock) -> MemoryStore {
        MemoryStore::new(&OpenOptions {
            clock: Arc::new(clock.clone()),
            ..OpenOptions::default()
        })
    }

    fn key(text: &str) -> Key {
        Key::from_strings([text])
    }

    async fn set(store: &MemoryStore, name: &str, expires_at: Option<i64>) -> Versionstamp {
        let expires_at = expires_at.map(UnixMillis);
        let set = Mutation::set_expiring(key(name), Value::json("1"), expires_at);
        let outcome = store.commit(AtomicWrite::new().push(set)).await.unwrap();
        outcome.committed().unwrap().versionstamp
    }

    #[tokio::test]
    async fn an_expired_entry_is_unseen_at_its_moment_and_watchers_hear_of_it_once() {
        let clock = ManualClock::at(UnixMillis(1_000));
        let store = store(&clock);
        set(&store, "a", Some(2_000)).await;
        let mut watch = store.watch(vec![key("a")]);
        assert!(watch.next().await.unwrap().unwrap()[0].is_some());

        let next = tokio::spawn(async move {
            let state = watch.next().await.unwrap().unwrap();
            (state, watch)
        });
        clock.set(UnixMillis(2_000));
        let (state, mut watch) = next.await.unwrap();
        assert_eq!(state, [None]);
        assert_eq!(store.get(&key("a")).await.unwrap(), None);

        let limit = NonZeroU32::new(10).unwrap();
        assert_eq!(store.sweep(UnixMillis(2_000), limit).await.unwrap(), 1);
        assert_eq!(store.sweep(UnixMillis(2_000), limit).await.unwrap(), 0);
        store.close().await.unwrap();
        assert_eq!(watch.next().await.map(drop), None);
    }

    #[tokio::test]
    async fn a_scan_in_pages_holds_every_entry_once_in_both_directions() {
        let clock = ManualClock::at(UnixMillis(1_000));
        let store = store(&clock);
        let names: Vec<_> = (0..1_300).map(|n| format!("{n:05}")).collect();
        for name in &names {
            set(&store, name, None).await;
        }
        let everything = KeyRange::starting_with(&Key::default());
        for reverse in [false, true] {
            let pages: Vec<Page> = store
                .scan(everything.clone(), reverse)
                .map(Result::unwrap)
                .collect()
                .await;
            let mut found: Vec<_> = pages.into_iter().flat_map(|page| page.entries).collect();
            if reverse {
                found.reverse();
            }
            let expected: Vec<_> = names.iter().map(|name| key(name)).collect();
            let found: Vec<_> = found.into_iter().map(|entry| entry.key).collect();
            assert_eq!(found, expected);
        }
    }

    #[tokio::test]
    async fn commits_after_an_ingest_have_larger_versionstamps() {
        let clock = ManualClock::at(UnixMillis(1_000));
        let store = store(&clock);
        let stamp = Versionstamp::new(5_000_000_000, 77);
        let entry = Entry {
            key: key("a"),
            value: Value::json("1"),
            versionstamp: stamp,
            expires_at: None,
            meta: None,
        };
        store.ingest(vec![entry]).await.unwrap();
        assert_eq!(store.versionstamp().await.unwrap(), stamp);
        assert!(set(&store, "b", None).await > stamp);
    }

    #[tokio::test]
    async fn the_sweeper_removes_entries_at_their_moment() {
        let clock = ManualClock::at(UnixMillis(1_000));
        let options = OpenOptions {
            clock: Arc::new(clock.clone()),
            ..OpenOptions::default()
        };
        let store = crate::open("memory:", options).await.unwrap();
        let mut changes = store.changes(KeyRange::starting_with(&Key::default()));
        let set = Mutation::set_expiring(key("a"), Value::json("1"), Some(UnixMillis(9_000)));
        store.commit(AtomicWrite::new().push(set)).await.unwrap();
        assert_eq!(changes.next().await.unwrap().keys, [(key("a"), true)]);

        clock.set(UnixMillis(9_000));
        assert_eq!(changes.next().await.unwrap().keys, [(key("a"), false)]);
    }
}

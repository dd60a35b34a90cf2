//! Tells watchers and followers that keys changed.
//!
//! A watcher has one signal for all its keys. Committing raises it; the watcher wakes and reads the
//! store itself. Two consequences: a slow watcher costs no memory, and it may skip intermediate
//! states but never the last one. A follower of a range has a bounded queue of changed keys
//! instead, and is told when that overflowed.
//!
//! This module does not read entries but by the function that [`Hub::watch`] is given. Backends
//! shared by several processes must also feed [`Hub::publish`] with what others commit.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::stream;
use kvasir_kv::limits::WATCHED_KEYS_MAX;
use kvasir_kv::{
    ChangeStream, Changes, Clock, Error, Key, KeyRange, Result, Snapshot, SnapshotRead, UnixMillis,
    Versionstamp, WatchStream,
};
use tokio::sync::Notify;

use crate::clock::monotonic;
use crate::metrics::StoreMetrics;

/// Most keys that all watches of a store observe together. Each costs its bytes and about 300 more.
pub const WATCHED_KEYS_TOTAL_MAX: usize = 1_000_000;

/// Most followers of a store. A commit compares each of its keys with the range of each of them.
pub const FOLLOWERS_MAX: usize = 10_000;

/// Most changed keys that wait for a slow follower.
pub const FOLLOWER_KEYS_MAX: usize = 4_096;

/// Most bytes of changed keys that wait for a slow follower.
pub const FOLLOWER_BYTES_MAX: usize = 1024 * 1024;

/// Reads the store for a watcher.
pub type WatchRead = Box<dyn Fn(SnapshotRead) -> ReadFuture + Send + Sync>;

/// The answer to a [`WatchRead`].
pub type ReadFuture = Pin<Box<dyn Future<Output = Result<Snapshot>> + Send>>;

/// All watchers and followers of one store.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    /// Watched keys plus followers. Zero lets a commit pass without the lock.
    interest: AtomicUsize,
    /// Told when somebody begins to watch or follow.
    begun: Notify,
    closed: AtomicBool,
    metrics: Arc<StoreMetrics>,
}

#[derive(Debug, Default)]
struct State {
    /// By key, then by the number of the watcher.
    watchers: HashMap<Key, BTreeMap<u64, Arc<Notify>>>,
    watched_keys: usize,
    last_watcher: u64,
    followers: Vec<Arc<Follower>>,
}

impl Hub {
    /// A hub without watchers.
    pub fn new(metrics: Arc<StoreMetrics>) -> Arc<Hub> {
        Arc::new(Hub {
            state: Mutex::default(),
            interest: AtomicUsize::new(0),
            begun: Notify::new(),
            closed: AtomicBool::new(false),
            metrics,
        })
    }

    /// Tells that `changes` are visible to reads, each a key and whether an entry is there
    /// afterwards. Called in commit order, `versionstamp` being the newest of these commits.
    pub fn publish<'a>(
        &self,
        versionstamp: Versionstamp,
        changes: impl IntoIterator<Item = (&'a Key, bool)>,
    ) {
        // The fence inside pairs with that of `register`: either this sees the interest, or the
        // first read of the new watcher sees the commit.
        if !self.is_watched() {
            return;
        }
        let changes: Vec<(&Key, bool)> = changes.into_iter().collect();
        let state = self.lock();
        for (key, _) in &changes {
            for watcher in state
                .watchers
                .get(*key)
                .into_iter()
                .flat_map(BTreeMap::values)
            {
                watcher.notify_one();
            }
        }
        for follower in &state.followers {
            if follower.push(&changes, versionstamp, &self.metrics) {
                follower.signal.notify_one();
            }
        }
    }

    /// Whether anybody watches or follows. Whoever begins to later need not hear of commits that
    /// were published before.
    pub fn is_watched(&self) -> bool {
        fence(Ordering::SeqCst);
        self.interest.load(Ordering::SeqCst) > 0
    }

    /// Tells everybody that any key may have changed up to `versionstamp`: watchers look for
    /// themselves, followers hear that they missed changes. For a backend that lost track of what
    /// other processes committed.
    pub fn lost_track(&self, versionstamp: Versionstamp) {
        let state = self.lock();
        for watcher in state.watchers.values().flat_map(BTreeMap::values) {
            watcher.notify_one();
        }
        for follower in &state.followers {
            follower.miss(versionstamp, &self.metrics);
            follower.signal.notify_one();
        }
    }

    /// Waits until somebody watches or follows. For one waiter at a time.
    pub async fn watched(&self) {
        while !self.is_watched() {
            self.begun.notified().await;
        }
    }

    /// Ends all streams, those of the future too.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let state = self.lock();
        for watcher in state.watchers.values().flat_map(BTreeMap::values) {
            watcher.notify_one();
        }
        for follower in &state.followers {
            follower.signal.notify_one();
        }
    }

    /// Whether [`Hub::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The stream of [`kvasir_kv::Store::watch`]. `read` must see everything published before.
    pub fn watch(
        self: &Arc<Self>,
        keys: Vec<Key>,
        clock: Arc<dyn Clock>,
        read: WatchRead,
    ) -> WatchStream {
        let watcher = match self.register_watcher(keys) {
            Ok(watcher) => watcher,
            Err(error) => return Box::pin(stream::iter([Err(error)])),
        };
        let watch = Watch {
            watcher,
            clock,
            read,
            last: None,
            expires_at: None,
        };
        Box::pin(stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await? {
                Ok(state) => Some((Ok(state), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    /// The stream of [`kvasir_kv::Store::changes`]. Beyond [`FOLLOWERS_MAX`] it ends at once.
    pub fn changes(self: &Arc<Self>, range: KeyRange) -> ChangeStream {
        let registration = self.register_follower(range);
        Box::pin(stream::unfold(registration, |following| async move {
            let following = following?;
            let changes = following.next().await?;
            Some((changes, Some(following)))
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the hub is held")
    }

    fn register_watcher(self: &Arc<Self>, keys: Vec<Key>) -> Result<Watcher> {
        if keys.len() > WATCHED_KEYS_MAX {
            return Err(Error::TooMany {
                what: "watched keys",
                actual: keys.len(),
                limit: WATCHED_KEYS_MAX,
            });
        }
        let signal = Arc::new(Notify::new());
        let mut state = self.lock();
        if state.watched_keys + keys.len() > WATCHED_KEYS_TOTAL_MAX {
            return Err(Error::unavailable("too many keys are watched"));
        }
        state.watched_keys += keys.len();
        state.last_watcher += 1;
        let number = state.last_watcher;
        for key in &keys {
            let watchers = state.watchers.entry(key.clone()).or_default();
            watchers.insert(number, Arc::clone(&signal));
        }
        self.register(keys.len());
        drop(state);
        self.metrics.watchers.inc();
        Ok(Watcher {
            hub: Arc::clone(self),
            number,
            keys,
            signal,
        })
    }

    fn register_follower(self: &Arc<Self>, range: KeyRange) -> Option<Following> {
        let mut state = self.lock();
        if state.followers.len() >= FOLLOWERS_MAX {
            return None;
        }
        let follower = Arc::new(Follower {
            range,
            queue: Mutex::default(),
            signal: Notify::new(),
        });
        state.followers.push(Arc::clone(&follower));
        self.register(1);
        drop(state);
        self.metrics.followers.inc();
        Some(Following {
            hub: Arc::clone(self),
            follower,
        })
    }

    fn register(&self, interest: usize) {
        self.interest.fetch_add(interest, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.begun.notify_one();
    }
}

/// The registration of a watch; dropping it ends it.
#[derive(Debug)]
struct Watcher {
    hub: Arc<Hub>,
    number: u64,
    keys: Vec<Key>,
    signal: Arc<Notify>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        for key in &self.keys {
            if let Some(watchers) = state.watchers.get_mut(key) {
                watchers.remove(&self.number);
                if watchers.is_empty() {
                    state.watchers.remove(key);
                }
            }
        }
        state.watched_keys -= self.keys.len();
        let interest = self.keys.len();
        self.hub.interest.fetch_sub(interest, Ordering::SeqCst);
        drop(state);
        self.hub.metrics.watchers.dec();
    }
}

/// The version of an entry that a receiver knows, and when it expires.
type Seen = (Versionstamp, Option<UnixMillis>);

/// A watch between two items.
struct Watch {
    watcher: Watcher,
    clock: Arc<dyn Clock>,
    read: WatchRead,
    /// What the receiver knows of each key.
    last: Option<Vec<Option<Seen>>>,
    /// The nearest expiry among the entries that the receiver knows.
    expires_at: Option<UnixMillis>,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Vec<Option<kvasir_kv::Entry>>>> {
        loop {
            if self.last.is_some() {
                self.wait().await;
            }
            if self.watcher.hub.is_closed() {
                return None;
            }
            let keys = self.watcher.keys.iter().cloned();
            let snapshot = match (self.read)(SnapshotRead::keys(keys)).await {
                Ok(snapshot) => snapshot,
                Err(_) if self.watcher.hub.is_closed() => return None,
                Err(error) => return Some(Err(error)),
            };
            let state: Vec<_> = snapshot.into_firsts().collect();
            let versions = |entry: &kvasir_kv::Entry| (entry.versionstamp, entry.expires_at);
            let seen: Vec<_> = state
                .iter()
                .map(|entry| entry.as_ref().map(versions))
                .collect();
            self.expires_at = seen.iter().flatten().filter_map(|(_, at)| *at).min();
            if self.last.as_ref() != Some(&seen) {
                self.measure_lag(&seen);
                self.last = Some(seen);
                return Some(Ok(state));
            }
        }
    }

    /// Notes how long ago the newest change was committed, which its versionstamp tells.
    fn measure_lag(&self, seen: &[Option<Seen>]) {
        let Some(known) = &self.last else {
            return;
        };
        let new = seen.iter().zip(known).filter(|(new, old)| new != old);
        let newest = new.filter_map(|(new, _)| Some((*new)?.0.micros())).max();
        if let Some(committed) = newest {
            let lag = self.clock.now_micros().saturating_sub(committed);
            let lag = Duration::from_micros(lag).as_secs_f64();
            self.watcher.hub.metrics.watch_lag_seconds.observe(lag);
        }
    }

    /// Until something was committed or has expired.
    async fn wait(&self) {
        let changed = self.watcher.signal.notified();
        match self.expires_at {
            None => changed.await,
            Some(at) => tokio::select! {
                () = changed => {}
                () = self.clock.sleep_until(at) => {}
            },
        }
    }
}

/// A follower of a range, and what waits for it.
#[derive(Debug)]
struct Follower {
    range: KeyRange,
    queue: Mutex<Queue>,
    signal: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    changes: Changes,
    bytes: usize,
    /// When the oldest of the changes was told.
    since: Option<Instant>,
}

impl Follower {
    /// Queues what concerns this follower, and says whether anything did. All of it in one piece:
    /// a follower must never be told half of a commit under the whole one's versionstamp.
    fn push(&self, changes: &[(&Key, bool)], stamp: Versionstamp, metrics: &StoreMetrics) -> bool {
        let mut concerned = changes
            .iter()
            .filter(|(key, _)| self.range.contains(key))
            .peekable();
        if concerned.peek().is_none() {
            return false;
        }
        let mut queue = self.lock();
        queue.since.get_or_insert_with(monotonic);
        queue.changes.versionstamp = stamp;
        for (key, present) in concerned {
            let full = queue.changes.keys.len() >= FOLLOWER_KEYS_MAX
                || queue.bytes + key.len() > FOLLOWER_BYTES_MAX;
            if full {
                // From here the follower has to read the range anyway, so nothing before matters.
                metrics.follower_overflows.inc();
                queue.changes.keys.clear();
                queue.changes.missed = true;
                queue.bytes = 0;
            }
            queue.changes.keys.push(((*key).clone(), *present));
            queue.bytes += key.len();
        }
        true
    }

    /// Says that changes are missing, instead of telling them.
    fn miss(&self, stamp: Versionstamp, metrics: &StoreMetrics) {
        metrics.follower_overflows.inc();
        let mut queue = self.lock();
        queue.changes = Changes {
            versionstamp: stamp,
            keys: Vec::new(),
            missed: true,
        };
        queue.bytes = 0;
    }

    fn take(&self, metrics: &StoreMetrics) -> Option<Changes> {
        let mut queue = self.lock();
        if queue.changes.keys.is_empty() && !queue.changes.missed {
            return None;
        }
        let taken = std::mem::take(&mut *queue);
        if let Some(since) = taken.since {
            let lag = monotonic().saturating_duration_since(since);
            metrics.watch_lag_seconds.observe(lag.as_secs_f64());
        }
        Some(taken.changes)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic while a queue is held")
    }
}

/// The registration of a follower; dropping it ends it.
#[derive(Debug)]
struct Following {
    hub: Arc<Hub>,
    follower: Arc<Follower>,
}

impl Following {
    async fn next(&self) -> Option<Changes> {
        loop {
            // Asked in this order, what was published before the close still arrives.
            let closed = self.hub.is_closed();
            if let Some(changes) = self.follower.take(&self.hub.metrics) {
                return Some(changes);
            }
            if closed {
                return None;
            }
            self.follower.signal.notified().await;
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state
            .followers
            .retain(|other| !Arc::ptr_eq(other, &self.follower));
        self.hub.interest.fetch_sub(1, Ordering::SeqCst);
        drop(state);
        self.hub.metrics.followers.dec();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use kvasir_kv::ManualClock;

    use super::*;

    fn hub() -> Arc<Hub> {
        Hub::new(Arc::default())
    }

    fn key(number: usize) -> Key {
        Key::from_strings([format!("{number:06}")])
    }

    fn everything() -> KeyRange {
        KeyRange::starting_with(&Key::default())
    }

    fn empty_read() -> WatchRead {
        Box::new(|read| {
            let ranges = read.ranges.iter().map(|_| Default::default()).collect();
            Box::pin(async move { Ok(Snapshot { ranges }) })
        })
    }

    fn watch(hub: &Arc<Hub>, keys: usize) -> WatchStream {
        let keys = (0..keys).map(key).collect();
        hub.watch(keys, Arc::new(ManualClock::default()), empty_read())
    }

    #[tokio::test]
    async fn a_follower_at_its_bound_gets_every_key_and_beyond_it_hears_that_it_missed_some() {
        let hub = hub();
        let mut follower = hub.changes(everything());
        let publish = |count: usize| {
            for number in 0..count {
                hub.publish(Versionstamp::new(1, number as u16), [(&key(number), true)]);
            }
        };

        publish(FOLLOWER_KEYS_MAX);
        let changes = follower.next().await.unwrap();
        assert_eq!(changes.keys.len(), FOLLOWER_KEYS_MAX);
        assert!(!changes.missed);
        assert_eq!(changes.versionstamp.order() as usize, FOLLOWER_KEYS_MAX - 1);

        publish(FOLLOWER_KEYS_MAX + 1);
        let changes = follower.next().await.unwrap();
        assert!(changes.missed);
        assert_eq!(changes.keys, [(key(FOLLOWER_KEYS_MAX), true)]);
    }

    #[tokio::test]
    async fn a_followers_queue_is_bounded_in_bytes_too() {
        let hub = hub();
        let mut follower = hub.changes(everything());
        let long = Key::new(vec![7; FOLLOWER_BYTES_MAX / 2]);
        hub.publish(Versionstamp::new(1, 0), [(&long, true), (&long, false)]);
        assert!(!follower.next().await.unwrap().missed);
        hub.publish(
            Versionstamp::new(2, 0),
            [(&long, true), (&long, false), (&key(1), true)],
        );
        assert!(follower.next().await.unwrap().missed);
    }

    #[tokio::test]
    async fn followers_beyond_the_bound_end_at_once_and_dropped_ones_make_room() {
        let hub = hub();
        let mut followers: Vec<_> = (0..FOLLOWERS_MAX)
            .map(|_| hub.changes(everything()))
            .collect();
        assert!(hub.changes(everything()).next().await.is_none());
        followers.pop();
        let mut follower = hub.changes(everything());
        hub.publish(Versionstamp::new(1, 0), [(&key(1), true)]);
        assert!(follower.next().await.is_some());
    }

    #[tokio::test]
    async fn a_watch_of_too_many_keys_says_so_and_ends() {
        let hub = hub();
        assert!(watch(&hub, WATCHED_KEYS_MAX).next().await.unwrap().is_ok());
        let mut stream = watch(&hub, WATCHED_KEYS_MAX + 1);
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(matches!(error, Error::TooMany { .. }));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn all_watches_together_have_a_bound() {
        let hub = hub();
        let full = WATCHED_KEYS_TOTAL_MAX / WATCHED_KEYS_MAX;
        let watches: Vec<_> = (0..full).map(|_| watch(&hub, WATCHED_KEYS_MAX)).collect();
        let error = watch(&hub, 1).next().await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)));
        drop(watches);
        assert!(watch(&hub, 1).next().await.unwrap().is_ok());
        assert_eq!(hub.interest.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn after_losing_track_watchers_look_again_and_followers_hear_that_they_missed_changes() {
        let hub = hub();
        let mut follower = hub.changes(everything());
        let waiting = hub.watch(vec![key(1)], Arc::new(ManualClock::default()), empty_read());
        hub.publish(Versionstamp::new(1, 0), [(&key(1), true)]);
        hub.lost_track(Versionstamp::new(2, 0));
        let changes = follower.next().await.unwrap();
        assert!(changes.missed);
        assert_eq!(changes.keys, []);
        assert_eq!(changes.versionstamp, Versionstamp::new(2, 0));

        assert!(hub.is_watched());
        hub.watched().await;
        drop((follower, waiting));
        assert!(!hub.is_watched());
    }

    #[tokio::test]
    async fn closing_ends_streams_after_what_was_published() {
        let hub = hub();
        let mut follower = hub.changes(everything());
        let mut watch = watch(&hub, 1);
        assert!(watch.next().await.is_some());
        hub.publish(Versionstamp::new(1, 0), [(&key(1), true)]);
        hub.close();
        assert!(follower.next().await.is_some());
        assert!(follower.next().await.is_none());
        assert!(watch.next().await.is_none());
    }
}

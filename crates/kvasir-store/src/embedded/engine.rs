//! fjall behind the group committer, and what reads see of it.
//!
//! Reads never ask fjall for "the newest state", because that shows a batch half-inserted. They use
//! the [`View`] that the committer publishes after each group: one fjall snapshot and the newest
//! versionstamp in it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use kvasir_kv::{Cause, Clock, Entry, Error, Key, Result, UnixMillis, Versionstamp};

use super::Opened;
use super::cache::HotCache;
use super::folder::{Folder, Lock, State};
use super::journal::{NONCE_BYTES, SEAL_KEY, SEAL_VALUE_BYTES, Seal};
use super::space::SpaceGuard;
use crate::fatal::FatalError;
use crate::group::{Due, Engine, Failer, Group, Space, WATCH_EVERY};
use crate::metrics::StoreMetrics;
use crate::record;

/// Rows of the expiry index that one sweep looks at, per entry that it may remove. Rows of entries
/// that were renewed or deleted meanwhile are dropped on the way.
const ROWS_PER_ENTRY: usize = 4;

/// How often it is looked whether tables were written out.
const TABLES_WAIT: Duration = Duration::from_millis(2);

/// Longest wait for that before each group; well below what the watchdog takes for a dead disk.
const TABLES_WAIT_MAX: Duration = Duration::from_secs(2);

/// What reads hold: shared with the committer, which replaces it after each group.
#[derive(Debug)]
pub(crate) struct Reads {
    current: RwLock<Option<Arc<View>>>,
    closed: AtomicBool,
    pub(crate) cache: HotCache,
    pub(crate) metrics: Arc<StoreMetrics>,
}

/// The store at one point of its history.
pub(crate) struct View {
    pub(crate) data: Keyspace,
    pub(crate) snapshot: Snapshot,
    pub(crate) versionstamp: Versionstamp,
    /// Released with the last reader, so that nobody opens the folder before.
    _lock: Lock,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("versionstamp", &self.versionstamp)
            .finish_non_exhaustive()
    }
}

impl Reads {
    pub(crate) fn new(cache_bytes: usize, metrics: Arc<StoreMetrics>) -> Reads {
        Reads {
            current: RwLock::new(None),
            closed: AtomicBool::new(false),
            cache: HotCache::new(cache_bytes),
            metrics,
        }
    }

    /// The published state.
    ///
    /// # Errors
    ///
    /// `Unavailable` once the store is closed.
    pub(crate) fn view(&self) -> Result<Arc<View>> {
        self.ensure_open()?;
        let current = self.current.read().expect("only replaced while held");
        current
            .clone()
            .ok_or_else(|| Error::unavailable("the store is closed"))
    }

    /// Refuses reads from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn ensure_open(&self) -> Result<()> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::unavailable("the store is closed")),
            false => Ok(()),
        }
    }

    fn set_view(&self, view: Option<View>) {
        let view = view.map(Arc::new);
        let mut current = self.current.write().expect("only replaced while held");
        let before = std::mem::replace(&mut *current, view);
        drop(current);
        drop(before);
    }

    /// One entry, from the cache and not expired.
    pub(crate) fn at_hand(&self, key: &Key, clock: &dyn Clock) -> Option<Entry> {
        self.ensure_open().ok()?;
        let entry = self.cache.get(key)?;
        // Most entries never expire, and then nobody looks at the clock.
        if entry.expires_at.is_some() && entry.is_expired(clock.now()) {
            return None;
        }
        self.metrics.cache_hits.inc();
        Some(entry)
    }

    /// One entry, from the cache or the published state.
    pub(crate) fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.ensure_open()?;
        if let Some(entry) = self.cache.get(key) {
            self.metrics.cache_hits.inc();
            return Ok(Some(entry));
        }
        self.metrics.cache_misses.inc();
        let ticket = self.cache.ticket(key);
        let entry = self.view()?.get(key, &self.metrics)?;
        if let Some(entry) = &entry {
            self.cache.remember(ticket, entry);
        }
        Ok(entry)
    }
}

impl View {
    /// One entry of this state, expired or not.
    pub(crate) fn get(&self, key: &Key, metrics: &StoreMetrics) -> Result<Option<Entry>> {
        let found = self.snapshot.get(&self.data, key.as_bytes());
        decode_found(key, found, metrics)
    }
}

fn decode_found(
    key: &Key,
    found: fjall::Result<Option<fjall::UserValue>>,
    metrics: &StoreMetrics,
) -> Result<Option<Entry>> {
    match found {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => decode(key, &bytes, metrics).map(Some),
        Err(error) => Err(engine_error(error, metrics)),
    }
}

/// The entry in a record of the engine.
pub(crate) fn decode(key: &Key, bytes: &[u8], metrics: &StoreMetrics) -> Result<Entry> {
    record::decode(key, bytes).inspect_err(|_| {
        metrics.corrupt_records.inc();
    })
}

/// What a failed read means to the caller.
pub(crate) fn engine_error(error: fjall::Error, metrics: &StoreMetrics) -> Error {
    match error {
        fjall::Error::Io(_) | fjall::Error::Storage(fjall::LsmError::Io(_)) => {
            Error::Unavailable(Arc::new(error))
        }
        fjall::Error::Poisoned | fjall::Error::Locked => Error::Unavailable(Arc::new(error)),
        other => {
            metrics.corrupt_records.inc();
            Error::Corrupt(other.to_string())
        }
    }
}

/// The engine of an open store.
pub(crate) struct FjallEngine {
    /// `None` only while closing.
    open: Option<Open>,
    seal: Seal,
    reads: Arc<Reads>,
    space: SpaceGuard,
    folder: Folder,
    lock: Lock,
    last: Versionstamp,
    tables_in_memory_bytes: u64,
}

/// fjall's handles. All of them have to go before the database closes.
struct Open {
    db: Database,
    data: Keyspace,
    expiry: Keyspace,
    meta: Keyspace,
    prober: ProberSlot,
}

/// The three keyspaces, in the order in which they are made: their numbers are 1 to 3.
pub(crate) const DATA: &str = "data";
pub(crate) const EXPIRY: &str = "expiry";
pub(crate) const META: &str = "meta";

impl FjallEngine {
    /// Takes over an open database and shows it to reads.
    pub(crate) fn new(opened: Opened, reads: Arc<Reads>, space: SpaceGuard) -> FjallEngine {
        let engine = FjallEngine {
            open: Some(Open {
                db: opened.db,
                data: opened.data,
                expiry: opened.expiry,
                meta: opened.meta,
                prober: ProberSlot::default(),
            }),
            seal: opened.identity.seal,
            reads,
            space,
            folder: opened.folder,
            lock: opened.lock,
            last: opened.last,
            tables_in_memory_bytes: u64::MAX,
        };
        engine.show(opened.last);
        engine
    }

    /// Lets tables in memory take no more than about this.
    pub(crate) fn with_tables_in_memory(mut self, bytes: u64) -> FjallEngine {
        self.tables_in_memory_bytes = bytes;
        self
    }

    /// Writes tables in memory out if they take more than they may, and waits for that, but not for ever:
    /// memory is not worth it.
    #[expect(
        clippy::disallowed_methods,
        reason = "the committer's own thread waits for the engine's, with a bound"
    )]
    fn wait_for_tables(&self) -> Result<(), Cause> {
        let open = self.open();
        let is_over = || open.db.write_buffer_size() > self.tables_in_memory_bytes;
        if !is_over() {
            return Ok(());
        }
        for keyspace in [&open.data, &open.expiry] {
            let rotated = keyspace.rotate_memtable();
            rotated.map_err(|error| Arc::new(error) as Cause)?;
        }
        let since = Instant::now();
        while is_over() && since.elapsed() < TABLES_WAIT_MAX {
            std::thread::sleep(TABLES_WAIT);
        }
        Ok(())
    }

    /// The nearest expiry that the store holds.
    pub(crate) fn nearest_expiry(&self) -> Option<UnixMillis> {
        let row = self.open().expiry.first_key_value()?.key().ok()?;
        decode_row(&row).map(|(at, _)| at)
    }

    /// A handle for the prober.
    pub(crate) fn database(&self) -> Database {
        self.open().db.clone()
    }

    /// Where to leave the prober, which ends with the engine.
    pub(crate) fn prober_slot(&self) -> ProberSlot {
        self.open().prober.clone()
    }

    fn open(&self) -> &Open {
        self.open.as_ref().expect("not used after close")
    }

    /// Lets reads see everything that was applied.
    fn show(&self, versionstamp: Versionstamp) {
        let open = self.open();
        self.reads.set_view(Some(View {
            data: open.data.clone(),
            snapshot: open.db.snapshot(),
            versionstamp,
            _lock: self.lock.clone(),
        }));
    }
}

impl Engine for FjallEngine {
    fn load(&mut self, key: &Key) -> Result<Option<Entry>> {
        if let Some(entry) = self.reads.cache.peek(key) {
            return Ok(Some(entry));
        }
        let found = self.open().data.get(key.as_bytes());
        decode_found(key, found, &self.reads.metrics)
    }

    fn due(&mut self, now: UnixMillis, limit: usize) -> Result<Due> {
        let mut due = Due::default();
        let rows = self.open().expiry.iter().enumerate();
        for (number, row) in rows {
            let row = row.key();
            let row = row.map_err(|error| engine_error(error, &self.reads.metrics))?;
            let Some((at, key)) = decode_row(&row) else {
                return Err(Error::Corrupt("a row of the expiry index".into()));
            };
            let is_enough = due.keys.len() >= limit || number >= limit * ROWS_PER_ENTRY;
            if at > now || is_enough {
                due.next = Some(at);
                break;
            }
            match self.open().data.get(key.as_bytes()) {
                Ok(None) => {}
                Ok(Some(bytes)) => match decode(&key, &bytes, &self.reads.metrics) {
                    Ok(entry) if entry.is_expired(now) => due.keys.push(key.clone()),
                    Ok(_) => {}
                    // Reads of this key say so; sweeping must not stop at it.
                    Err(_) => continue,
                },
                Err(error) => return Err(engine_error(error, &self.reads.metrics)),
            }
            due.spent.push((at, key));
        }
        Ok(due)
    }

    fn space(&mut self) -> Space {
        self.space.space()
    }

    fn apply(&mut self, group: &Group) -> Result<(), Cause> {
        self.wait_for_tables()?;
        let open = self.open.as_ref().expect("not used after close");
        let mut batch = open.db.batch().durability(Some(PersistMode::SyncData));
        // First, so that `mend` knows a batch of this store by it.
        let seal = seal_value(&self.seal, group.last, open.db.seqno());
        batch.insert(&open.meta, SEAL_KEY, seal);
        let mut bytes = 0;
        let mut kept = HashSet::new();
        for change in &group.changes {
            let key = change.key.as_bytes();
            let expires_at = change.after.as_ref().and_then(|entry| entry.expires_at);
            // A row that stays behind is dropped by a sweep; for hot keys it is cheap to do it now.
            let before = self.reads.cache.peek(&change.key);
            let before = before.and_then(|entry| entry.expires_at);
            if let Some(at) = before.filter(|_| before != expires_at) {
                batch.remove(&open.expiry, encode_row(at, &change.key));
            }
            if let Some(at) = expires_at {
                let row = encode_row(at, &change.key);
                if !group.spent.is_empty() {
                    kept.insert(row.clone());
                }
                batch.insert(&open.expiry, row, []);
            }
            match &change.after {
                Some(entry) => {
                    let record = record::encode(entry);
                    bytes += record.len() + key.len();
                    batch.insert(&open.data, key, record);
                }
                None => batch.remove(&open.data, key),
            }
        }
        for (at, key) in &group.spent {
            let row = encode_row(*at, key);
            if !kept.contains(&row) {
                batch.remove(&open.expiry, row);
            }
        }
        batch.commit().map_err(|error| Arc::new(error) as Cause)?;
        self.space.written(bytes as u64);
        self.last = group.last;
        Ok(())
    }

    fn publish(&mut self, group: &Group) {
        self.reads
            .cache
            .publish(&group.changes, || self.show(group.last));
    }

    fn close(&mut self) -> Result<(), Cause> {
        self.reads.set_view(None);
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        open.prober.stop();
        open.db
            .persist(PersistMode::SyncAll)
            .map_err(|error| Arc::new(error) as Cause)?;
        drop(open);
        let state = State::Closed { last: self.last };
        let written = self.folder.set_state(&state);
        written.map_err(|error| Arc::new(error) as Cause)
    }
}

/// The value of the seal: the newest versionstamp, the engine's next sequence number, the nonce.
pub(crate) fn seal_value(seal: &Seal, last: Versionstamp, sequence: u64) -> Vec<u8> {
    let sequence = sequence.to_le_bytes();
    [last.as_bytes().as_slice(), &sequence, &seal.nonce].concat()
}

/// The newest versionstamp in the value of the seal, if it is of this store.
pub(crate) fn decode_seal(seal: &Seal, value: &[u8]) -> Option<Versionstamp> {
    let value: [u8; SEAL_VALUE_BYTES] = value.try_into().ok()?;
    let (last, rest) = value.split_first_chunk()?;
    let nonce: &[u8; NONCE_BYTES] = rest.last_chunk()?;
    (*nonce == seal.nonce).then_some(Versionstamp::from_bytes(*last))
}

/// A row of the expiry index: the moment in an encoding that sorts, then the key.
pub(crate) fn encode_row(at: UnixMillis, key: &Key) -> Vec<u8> {
    let sortable = at.0.cast_unsigned() ^ (1 << 63);
    [&sortable.to_be_bytes(), key.as_bytes()].concat()
}

/// The moment and the key of a row.
pub(crate) fn decode_row(row: &[u8]) -> Option<(UnixMillis, Key)> {
    let (sortable, key) = row.split_first_chunk()?;
    let at = (u64::from_be_bytes(*sortable) ^ (1 << 63)).cast_signed();
    Some((UnixMillis(at), Key::new(key.to_vec())))
}

/// Holds the prober once it has been started, which is after the committer.
#[derive(Clone, Default)]
pub(crate) struct ProberSlot(Arc<Mutex<Option<Prober>>>);

impl ProberSlot {
    pub(crate) fn put(&self, prober: Prober) {
        *self.0.lock().expect("only replaced while held") = Some(prober);
    }

    fn stop(&self) {
        let prober = self.0.lock().expect("only replaced while held").take();
        if let Some(prober) = prober {
            prober.stop();
        }
    }
}

/// A thread that notices when fjall's own threads have failed: a commit may then wait for ever
/// without looking. It holds a handle of the database and must end before that closes.
pub(crate) struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Prober {
    pub(crate) fn start(db: Database, failer: Failer, reads: &Reads) -> std::io::Result<Prober> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let metrics = Arc::clone(&reads.metrics);
        let thread = std::thread::Builder::new()
            .name("kvasir-prober".into())
            .spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    if let Err(error) = db.persist(PersistMode::Buffer) {
                        failer.fail(&FatalError {
                            what: "the engine reports a failed background task",
                            source: Arc::new(error),
                        });
                        return;
                    }
                    if let Ok(bytes) = db.disk_space() {
                        metrics.disk_bytes.set(bytes.cast_signed());
                    }
                    for (name, gauge) in [(DATA, &metrics.keys), (EXPIRY, &metrics.keys_expiring)] {
                        // They exist; the options are those of a keyspace that would be made.
                        if let Ok(keyspace) = db.keyspace(name, KeyspaceCreateOptions::default) {
                            let count = keyspace.approximate_len();
                            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
                        }
                    }
                    std::thread::park_timeout(WATCH_EVERY);
                }
            })?;
        Ok(Prober { stop, thread })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // A panic of it was reported when it happened.
        drop(self.thread.join());
    }
}

//! The embedded store: fjall, a log-structured engine, in a folder of its own.
//!
//! The pieces: `folder` (files, lock, creation), `journal` and `mend` (what fjall would lose, found
//! before it is opened), `engine` (fjall behind the group committer), `cache` (decoded hot entries),
//! `space` (refusing writes before the disk is full), `verify` (reading everything).
//!
//! What surprises: point reads that miss the cache run on the async thread. They take about 10 µs,
//! less than handing them over. Long reads move to a blocking thread once they exceed a budget.

mod cache;
mod engine;
mod folder;
mod journal;
mod mend;
mod read;
pub mod repair;
mod space;
pub mod verify;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use kvasir_kv::{
    AtomicWrite, Capabilities, ChangeStream, Clock, Entry, Key, KeyRange, Outcome, PageStream,
    Result, Snapshot, SnapshotRead, Store, UnixMillis, Versionstamp, WatchStream,
};
use serde::Deserialize;

use crate::collect;
use crate::group::Committer;
use crate::open::{OpenError, OpenOptions};
use crate::sweeper::{self, ExpiryHint};
use crate::watch::Hub;

use engine::{DATA, EXPIRY, FjallEngine, META, Prober, Reads};
use folder::{Folder, Identity, KEYSPACES, Lock, State, damaged, io};
use space::SpaceGuard;

/// Size of the table in memory at which it is written out, in bytes. Up to five of them exist at
/// once. Fixed when a store is made.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;

/// Size of a table on disk, in bytes. Compaction rewrites about eleven of them at once, and needs
/// their space twice meanwhile. Fixed when a store is made.
const TABLE_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes of journals from which the engine writes out idle keyspaces to be rid of the oldest.
const JOURNALS_BYTES: u64 = 256 * 1024 * 1024;

/// Most tables whose files are kept open: 8 GiB of them. Others are opened for each read.
const OPEN_TABLES_MAX: usize = 512;

/// `[store.embedded]`: memory and disk space of the embedded engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedSettings {
    /// Memory for decoded hot entries, in bytes. 0 switches the cache off.
    pub hot_cache_bytes: u64,

    /// Memory for blocks of tables, in bytes.
    pub block_cache_bytes: u64,

    /// Free space on the disk below which writes are refused, in bytes. Deletes go on. Should hold
    /// a journal of 64 MiB and what one compaction writes.
    pub reserve_bytes: u64,

    /// Size of a file that is given up when even deletes run short of space, in bytes. 0 for none.
    pub ballast_bytes: u64,

    /// Bytes of tables in memory beyond which they are written out, whether they are full or not, while
    /// writers wait. No setting of operators: whoever fills a store once keeps memory small with it.
    #[serde(skip)]
    pub tables_in_memory_bytes: u64,
}

impl Default for EmbeddedSettings {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        EmbeddedSettings {
            hot_cache_bytes: 48 * MIB,
            block_cache_bytes: 24 * MIB,
            reserve_bytes: 64 * MIB + 8 * TABLE_BYTES,
            ballast_bytes: 32 * MIB,
            tables_in_memory_bytes: u64::MAX,
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct EmbeddedStore {
    reads: Arc<Reads>,
    committer: Committer,
    clock: Arc<dyn Clock>,
    hub: Arc<Hub>,
    hint: Arc<ExpiryHint>,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, making it if there is none. Does not sweep by itself.
    ///
    /// # Errors
    ///
    /// `Locked`, `NewerFormat`, `Damaged`, `Io` or `Engine`.
    pub async fn open(dir: &Path, options: &OpenOptions) -> Result<EmbeddedStore, OpenError> {
        let dir = dir.to_path_buf();
        let options = options.clone();
        let opening = tokio::task::spawn_blocking(move || EmbeddedStore::open_now(&dir, &options));
        match opening.await {
            Ok(opened) => opened,
            // fjall asserts what it reads; `mend` finds damage before that wherever it can.
            Err(error) => Err(OpenError::Engine(Arc::new(error))),
        }
    }

    fn open_now(dir: &Path, options: &OpenOptions) -> Result<EmbeddedStore, OpenError> {
        let opened = Opened::open(dir, options)?;
        let settings = &options.embedded;
        let metrics = &options.metrics;
        let cache_bytes = usize::try_from(settings.hot_cache_bytes).unwrap_or(usize::MAX);
        let reads = Arc::new(Reads::new(cache_bytes, Arc::clone(metrics)));
        let space = SpaceGuard::new(
            opened.folder.clone(),
            settings.reserve_bytes,
            settings.ballast_bytes,
            Arc::clone(metrics),
        );
        let last = opened.last;
        let engine = FjallEngine::new(opened, Arc::clone(&reads), space)
            .with_tables_in_memory(settings.tables_in_memory_bytes);

        let hub = Hub::new(Arc::clone(metrics));
        let hint = Arc::<ExpiryHint>::default();
        if let Some(at) = engine.nearest_expiry() {
            hint.observe(at);
        }
        let database = engine.database();
        let prober_slot = engine.prober_slot();
        let (for_hub, for_hint) = (Arc::clone(&hub), Arc::clone(&hint));
        let committer = Committer::start(engine, last, for_hub, for_hint, options)
            .map_err(io("start the committer of", dir))?;
        let prober = Prober::start(database, committer.failer(), &reads)
            .map_err(io("start the prober of", dir))?;
        prober_slot.put(prober);
        Ok(EmbeddedStore {
            reads,
            committer,
            clock: Arc::clone(&options.clock),
            hub,
            hint,
        })
    }

    /// The nearest expiry, for the sweeper.
    pub fn expiry_hint(&self) -> &Arc<ExpiryHint> {
        &self.hint
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            backend: "embedded",
            durable: true,
            shared: false,
            snapshot_scans: true,
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let entry = self.reads.get(key)?;
        // Most entries never expire, and then nobody looks at the clock.
        Ok(entry.filter(|entry| entry.expires_at.is_none() || !entry.is_expired(self.clock.now())))
    }

    fn at_hand(&self, key: &Key) -> Option<Entry> {
        self.reads.at_hand(key, &*self.clock)
    }

    async fn read(&self, read: SnapshotRead) -> Result<Snapshot> {
        collect::check_ranges(&read)?;
        read::read(&self.reads, read, self.clock.now()).await
    }

    fn scan(&self, range: KeyRange, reverse: bool) -> PageStream {
        read::scan(&self.reads, range, reverse, Arc::clone(&self.clock))
    }

    fn scan_snapshot(&self, range: KeyRange, reverse: bool) -> PageStream {
        // Every scan of this engine is one.
        self.scan(range, reverse)
    }

    async fn commit(&self, write: AtomicWrite) -> Result<Outcome> {
        self.committer.commit(write.timed_by(&*self.clock)).await
    }

    async fn ingest(&self, entries: Vec<Entry>) -> Result<()> {
        self.committer.ingest(entries).await
    }

    fn watch(&self, keys: Vec<Key>) -> WatchStream {
        let reads = Arc::clone(&self.reads);
        let clock = Arc::clone(&self.clock);
        let read = move |wanted| -> crate::watch::ReadFuture {
            let reads = Arc::clone(&reads);
            let now = clock.now();
            Box::pin(async move { read::read(&reads, wanted, now).await })
        };
        self.hub
            .watch(keys, Arc::clone(&self.clock), Box::new(read))
    }

    fn changes(&self, range: KeyRange) -> ChangeStream {
        self.hub.changes(range)
    }

    async fn sweep(&self, now: UnixMillis, limit: NonZeroU32) -> Result<u32> {
        self.committer.sweep(now, limit).await
    }

    async fn versionstamp(&self) -> Result<Versionstamp> {
        self.committer.versionstamp()
    }

    async fn ping(&self) -> Result<()> {
        self.committer.ping()
    }

    async fn close(&self) -> Result<()> {
        self.reads.close();
        self.hub.close();
        self.hint.close();
        self.committer.close().await
    }
}

/// Opens the store in `dir` and lets a sweeper look after it.
pub(crate) async fn open(dir: &str, options: OpenOptions) -> Result<Arc<dyn Store>, OpenError> {
    if dir.is_empty() {
        return Err(OpenError::BadUrl {
            reason: "embedded: needs a folder behind it".into(),
        });
    }
    let store = EmbeddedStore::open(Path::new(dir), &options).await?;
    let hint = Arc::clone(&store.hint);
    let store: Arc<dyn Store> = Arc::new(store);
    if options.sweeper {
        sweeper::spawn(Arc::downgrade(&store), options.clock, hint);
    }
    Ok(store)
}

/// An open database and what was found about it on the way.
struct Opened {
    folder: Folder,
    lock: Lock,
    identity: Identity,
    db: Database,
    data: Keyspace,
    expiry: Keyspace,
    meta: Keyspace,
    /// The newest versionstamp that was given out or taken in.
    last: Versionstamp,
}

impl Opened {
    /// Locks, makes or mends, and opens. See `folder` for the order.
    fn open(dir: &Path, options: &OpenOptions) -> Result<Opened, OpenError> {
        let folder = Folder::new(dir);
        let lock = folder.lock()?;
        remove_unfinished(&folder)?;

        let store = folder.store();
        let state = folder.state()?;
        if !store.is_dir() {
            if state.is_some() {
                return Err(damaged(&store, 0, "the folder is missing"));
            }
            create(&folder, &options.embedded, &mut |_| Ok(()))?;
        } else {
            let was_closed = matches!(state, Some(State::Closed { .. }));
            if !was_closed {
                tracing::info!("the store was not closed, reading it from the disk again");
                folder::drop_page_cache(&store)?;
            }
            let identity = Identity::read(&store)?;
            mend::mend(&store, &identity, was_closed, &options.metrics)?;
        }
        let identity = Identity::read(&store)?;
        let floor = state.map_or(Versionstamp::ZERO, |state| state.floor());
        folder.set_state(&State::Running { floor })?;

        let db = open_database(&store, &options.embedded)?;
        for name in [DATA, EXPIRY, META] {
            if !db.keyspace_exists(name) {
                return Err(damaged(
                    &store,
                    0,
                    format!("the keyspace {name} is missing"),
                ));
            }
        }
        if db.keyspace_count() != KEYSPACES {
            return Err(damaged(&store, 0, "it has unknown keyspaces"));
        }
        let keyspace = |name| {
            let opened = db.keyspace(name, || unreachable!("it exists, as just checked"));
            opened.map_err(|error| open_error(&store, error))
        };
        let (data, expiry, meta) = (keyspace(DATA)?, keyspace(EXPIRY)?, keyspace(META)?);
        let last = meta
            .get(journal::SEAL_KEY)
            .map_err(|error| open_error(&store, error))?
            .and_then(|value| engine::decode_seal(&identity.seal, &value))
            .ok_or_else(|| damaged(&store, 0, "the last versionstamp is missing"))?;
        let was_closed = matches!(state, Some(State::Closed { .. }));
        if last < floor || was_closed && last != floor {
            // The next look has to find the same.
            drop((data, expiry, meta, db));
            folder.set_state(&state.expect("only a state has a floor or was closed"))?;
            let what = format!("{OTHER_STAMP} {floor} but is at {last} now");
            return Err(damaged(&store, 0, what));
        }
        Ok(Opened {
            folder,
            lock,
            identity,
            db,
            data,
            expiry,
            meta,
            last,
        })
    }

    /// Closes a store that nothing was written to.
    fn close(self) -> Result<(), OpenError> {
        let Opened {
            folder,
            lock,
            last,
            db,
            data,
            expiry,
            meta,
            ..
        } = self;
        db.persist(PersistMode::SyncAll)
            .map_err(|error| OpenError::Engine(Arc::new(error)))?;
        drop((data, expiry, meta, db));
        folder.set_state(&State::Closed { last })?;
        drop(lock);
        Ok(())
    }
}

/// How the sentence about a store begins that is not where it was when it was closed.
const OTHER_STAMP: &str = "it was closed at versionstamp";

/// Removes what an interrupted creation left behind.
fn remove_unfinished(folder: &Folder) -> Result<(), OpenError> {
    let unfinished = folder.new_store();
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(io("remove", &unfinished))?;
        folder::sync_folder(folder.root())?;
    }
    Ok(())
}

/// What [`create`] has done; tests interrupt it behind each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    Database,
    Keyspaces,
    FirstCommit,
    Closed,
    Identity,
    Synced,
    Renamed,
    Durable,
}

/// Makes an empty store aside, makes it durable, and puts it into its place.
fn create(
    folder: &Folder,
    settings: &EmbeddedSettings,
    done: &mut dyn FnMut(Created) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let new = folder.new_store();
    let failed = |error| open_error(&new, error);
    let identity = Identity::random()?;
    {
        let db = open_database(&new, settings)?;
        done(Created::Database)?;
        // Their order gives them the numbers that the journal shows.
        let data = db.keyspace(DATA, keyspace_options).map_err(failed)?;
        let expiry = db.keyspace(EXPIRY, keyspace_options).map_err(failed)?;
        let meta = db.keyspace(META, keyspace_options).map_err(failed)?;
        debug_assert_eq!(
            [data.id(), expiry.id(), meta.id()],
            [1, 2, journal::SEAL_KEYSPACE]
        );
        done(Created::Keyspaces)?;
        let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
        let seal = engine::seal_value(&identity.seal, Versionstamp::ZERO, db.seqno());
        batch.insert(&meta, journal::SEAL_KEY, seal);
        batch.commit().map_err(failed)?;
        done(Created::FirstCommit)?;
    }
    done(Created::Closed)?;
    identity.write(&new)?;
    done(Created::Identity)?;
    for (path, is_folder) in folder::walk(&new)? {
        if !is_folder {
            let synced = std::fs::File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(io("sync", &path))?;
        }
    }
    folder::sync_folders(&new)?;
    done(Created::Synced)?;
    std::fs::rename(&new, folder.store()).map_err(io("rename", &new))?;
    done(Created::Renamed)?;
    folder::sync_folder(folder.root())?;
    done(Created::Durable)
}

fn open_database(path: &Path, settings: &EmbeddedSettings) -> Result<Database, OpenError> {
    let database = Database::builder(path)
        .cache_size(settings.block_cache_bytes)
        .max_journaling_size(JOURNALS_BYTES)
        .max_cached_files(Some(OPEN_TABLES_MAX))
        // Each batch says itself how durable it is.
        .manual_journal_persist(true);
    // Who counts memory has one table written at a time.
    let database = match settings.tables_in_memory_bytes {
        u64::MAX => database,
        _ => database.worker_threads(1),
    };
    database.open().map_err(|error| open_error(path, error))
}

/// Key-value separation stays off: fjall never syncs its folder.
fn keyspace_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .compaction_strategy(Arc::new(
            fjall::compaction::Leveled::default().with_table_target_size(TABLE_BYTES),
        ))
        .manual_journal_persist(true)
}

fn open_error(path: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => {
            OpenError::Io {
                action: "open",
                path: path.to_path_buf(),
                source,
            }
        }
        fjall::Error::Locked => OpenError::Locked {
            path: path.to_path_buf(),
            holder: None,
        },
        fjall::Error::InvalidVersion(_)
        | fjall::Error::JournalRecovery(_)
        | fjall::Error::InvalidTrailer
        | fjall::Error::InvalidTag(_)
        | fjall::Error::Unrecoverable
        | fjall::Error::Decompress(_)
        | fjall::Error::Storage(_) => damaged(path, 0, error.to_string()),
        other => OpenError::Engine(Arc::new(other)),
    }
}

/// Reads bytes as a journal, for the fuzzer: it must neither panic nor take long.
#[doc(hidden)]
pub fn fuzz_journal(bytes: &[u8]) {
    let seal = journal::Seal {
        nonce: [0; journal::NONCE_BYTES],
    };
    let _ = journal::scan(bytes, &seal, &mut None);
}

/// Where the store keeps its files below `dir`, for people who look for them.
pub fn store_path(dir: &Path) -> PathBuf {
    Folder::new(dir).store()
}

#[cfg(test)]
mod tests;

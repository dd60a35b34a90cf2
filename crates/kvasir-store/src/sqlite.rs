//! A store in one ordinary SQLite file, which the `sqlite3` tool can open.
//!
//! One thread writes, as group commits ([`crate::group`]); a few connections read. The file is in
//! WAL mode with `synchronous=FULL`, so a group is durable with one sync. Beside it lie `FILE-wal`,
//! `FILE-shm` and `FILE.lock`; the lock keeps a second Kvasir off, while other programs may read.
//!
//! Any error of a commit is final and ends the process, because SQLite, too, cannot know what is on
//! the disk after a failed sync. Only a lock that another program holds on the file is waited for,
//! before anything is written.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kvasir_kv::{
    AtomicWrite, Capabilities, ChangeStream, Clock, Entry, Key, KeyRange, Outcome, PageStream,
    Result, Snapshot, SnapshotRead, Store, UnixMillis, Versionstamp, WatchStream,
};

use crate::collect;
use crate::group::Committer;
use crate::open::{OpenError, OpenOptions};
use crate::sweeper::ExpiryHint;
use crate::watch::Hub;

mod engine;
mod file;
mod reader;
mod schema;

use engine::SqliteEngine;
use file::FileLock;
use reader::Readers;

/// A store in one SQLite file. See the module's documentation.
pub struct SqliteStore {
    committer: Committer,
    readers: Arc<Readers>,
    hub: Arc<Hub>,
    hint: Arc<ExpiryHint>,
    clock: Arc<dyn Clock>,
    snapshot_scans: bool,
}

/// The part of the URL behind `sqlite:`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    file: PathBuf,
    /// `?foreign=keep`: the file may hold tables of another program; ours come beside them.
    keeps_foreign_tables: bool,
    /// `?scan=snapshot`: a scan holds one snapshot, at the cost of a growing WAL.
    snapshot_scans: bool,
}

impl Settings {
    fn parse(text: &str) -> Result<Settings, OpenError> {
        let refuse = |reason: String| Err(OpenError::BadUrl { reason });
        let (file, query) = text.split_once('?').unwrap_or((text, ""));
        if file.is_empty() || file == ":memory:" {
            return refuse("sqlite: needs the path of a file".into());
        }
        let mut settings = Settings {
            file: file.into(),
            keeps_foreign_tables: false,
            snapshot_scans: false,
        };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option {
                "foreign=keep" => settings.keeps_foreign_tables = true,
                "foreign=refuse" => settings.keeps_foreign_tables = false,
                "scan=snapshot" => settings.snapshot_scans = true,
                "scan=page" => settings.snapshot_scans = false,
                _ => {
                    return refuse(format!(
                        "unknown option {option}, expected foreign=keep|refuse or scan=snapshot|page"
                    ));
                }
            }
        }
        Ok(settings)
    }
}

impl SqliteStore {
    /// Opens the file, creating it if it is not there. `url` is what follows `sqlite:`.
    ///
    /// # Errors
    ///
    /// [`OpenError`] with what to do about it.
    pub async fn open(url: &str, options: &OpenOptions) -> Result<SqliteStore, OpenError> {
        let settings = Settings::parse(url)?;
        let opening = settings.clone();
        let opened = tokio::task::spawn_blocking(move || Opened::new(&opening)).await;
        let opened = opened.map_err(|panic| OpenError::Engine(Arc::new(panic)))??;

        let hub = Hub::new(Arc::clone(&options.metrics));
        let hint: Arc<ExpiryHint> = Arc::default();
        if let Some(at) = opened.next_expiry {
            hint.observe(at);
        }
        let committer = Committer::start(
            opened.engine,
            opened.last,
            Arc::clone(&hub),
            Arc::clone(&hint),
            options,
        )
        .map_err(|source| OpenError::Io {
            action: "start a thread for",
            path: settings.file.clone(),
            source,
        })?;
        let metrics = Arc::clone(&options.metrics);
        Ok(SqliteStore {
            committer,
            readers: Arc::new(Readers::new(&settings.file, metrics)),
            hub,
            hint,
            clock: Arc::clone(&options.clock),
            snapshot_scans: settings.snapshot_scans,
        })
    }

    /// The nearest expiry, for the sweeper.
    pub fn expiry_hint(&self) -> &Arc<ExpiryHint> {
        &self.hint
    }
}

/// What opening the file gives.
struct Opened {
    engine: SqliteEngine,
    last: Versionstamp,
    next_expiry: Option<UnixMillis>,
}

impl Opened {
    fn new(settings: &Settings) -> Result<Opened, OpenError> {
        let path: &Path = &settings.file;
        let lock = FileLock::take(path)?;
        file::forget_cached_pages(path);
        let connection = schema::open(path, settings.keeps_foreign_tables)?;
        file::sync_folder(path)?;
        let engine = SqliteEngine::new(connection, path, lock);
        let explain = |error| schema::explain(path, error);
        Ok(Opened {
            last: engine.last().map_err(explain)?,
            next_expiry: engine.next_expiry(UnixMillis(i64::MIN)).map_err(explain)?,
            engine,
        })
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            backend: "sqlite",
            durable: true,
            shared: false,
            snapshot_scans: self.snapshot_scans,
        }
    }

    async fn read(&self, read: SnapshotRead) -> Result<Snapshot> {
        collect::check_ranges(&read)?;
        self.readers.read(read, self.clock.now()).await
    }

    fn scan(&self, range: KeyRange, reverse: bool) -> PageStream {
        let readers = Arc::clone(&self.readers);
        let clock = Arc::clone(&self.clock);
        reader::scan(readers, clock, range, reverse, self.snapshot_scans)
    }

    fn scan_snapshot(&self, range: KeyRange, reverse: bool) -> PageStream {
        let readers = Arc::clone(&self.readers);
        let clock = Arc::clone(&self.clock);
        reader::scan(readers, clock, range, reverse, true)
    }

    async fn commit(&self, write: AtomicWrite) -> Result<Outcome> {
        self.committer.commit(write.timed_by(&*self.clock)).await
    }

    async fn ingest(&self, entries: Vec<Entry>) -> Result<()> {
        self.committer.ingest(entries).await
    }

    fn watch(&self, keys: Vec<Key>) -> WatchStream {
        let readers = Arc::clone(&self.readers);
        let clock = Arc::clone(&self.clock);
        self.hub.watch(
            keys,
            Arc::clone(&self.clock),
            Box::new(move |read| {
                let readers = Arc::clone(&readers);
                let now = clock.now();
                Box::pin(async move { readers.read(read, now).await })
            }),
        )
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
        self.readers.close();
        self.committer.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_and_its_options_are_read_and_anything_else_refused() {
        let settings = Settings::parse("a b.db?foreign=keep&scan=snapshot").unwrap();
        assert_eq!(settings.file, PathBuf::from("a b.db"));
        assert!(settings.keeps_foreign_tables && settings.snapshot_scans);
        let settings = Settings::parse("/x?foreign=refuse&scan=page").unwrap();
        assert!(!settings.keeps_foreign_tables && !settings.snapshot_scans);
        for text in ["", ":memory:", "x?mode=ro", "?scan=page"] {
            assert_eq!(Settings::parse(text).unwrap_err().exit_code(), 2, "{text}");
        }
    }
}

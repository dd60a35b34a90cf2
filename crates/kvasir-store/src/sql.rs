//! Stores on a database server or cluster that others run too.
//!
//! MySQL and PostgreSQL protocol, one module: `mysql.rs` and `postgres.rs` hold every SQL text
//! behind one trait, all else is shared. Each process has one `writer` task that commits in
//! batches, connections for reads (`pool`, `reader`), and one task that `follow`s the change
//! log for watchers. The sequence row of a space orders the commits of all processes.
//!
//! Surprising at first: a commit is never refused for being sent twice or to two servers, because
//! the sequence row and the log decide, not the connection; see `writer`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use kvasir_kv::{
    AtomicWrite, Capabilities, ChangeStream, Clock, Entry, Error, Key, KeyRange, Limits, Outcome,
    PageStream, Result, Snapshot, SnapshotRead, Store, UnixMillis, Versionstamp, WatchStream,
};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use crate::collect;
use crate::metrics::StoreMetrics;
use crate::open::{OpenError, OpenOptions};
use crate::sweeper::ExpiryHint;
use crate::watch::Hub;

pub mod address;
mod batch;
mod columns;
pub mod driver;
mod fault;
mod follow;
mod log;
mod mysql;
mod opening;
mod pool;
mod postgres;
mod reader;
mod rows;
mod schema;
mod session;
mod writer;

use address::{Address, Protocol};
use batch::{Answer, Job};
use fault::Fault;
use pool::{Pool, Purpose};
use reader::Done;
use session::{Probe, Session};
use writer::Queue;

/// Longest [`Store::ping`] takes: readiness has to be false within 2 s of a loss.
const PING_MAX: Duration = Duration::from_millis(1_500);

/// Longest [`Store::close`] waits for writes in flight.
const CLOSE_MAX: Duration = Duration::from_secs(8);

/// A store on a database server. See the module's documentation.
pub struct SqlStore {
    shared: Arc<Shared>,
    queue: Queue,
    writer_ended: Mutex<Option<writer::Ended>>,
    /// The connection of [`Store::ping`], which must not wait behind busy reads.
    probing: Mutex<Option<Box<dyn Session>>>,
}

/// What the tasks of a store have in common.
struct Shared {
    address: Arc<Address>,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    metrics: Arc<StoreMetrics>,
    hub: Arc<Hub>,
    hint: Arc<ExpiryHint>,
    /// Up to which sequence watchers have been told.
    position: AtomicU64,
    /// Told when this process has committed.
    follow: Notify,
    closing: CancellationToken,
}

impl SqlStore {
    /// Connects, checks the server, creates the tables where they are missing, and starts the
    /// tasks of the store.
    ///
    /// # Errors
    ///
    /// [`OpenError`] with what to do about it.
    pub async fn open(url: &str, options: &OpenOptions) -> Result<SqlStore, OpenError> {
        let address = Address::parse(url).map_err(|error| OpenError::BadUrl {
            reason: error.to_string(),
        })?;
        let position = opening::prepare(&address, &options.limits).await?;
        let address = Arc::new(address);
        let shared = Arc::new(Shared {
            pool: Arc::new(Pool::new(Arc::clone(&address))),
            address,
            clock: Arc::clone(&options.clock),
            limits: options.limits,
            metrics: Arc::clone(&options.metrics),
            hub: Hub::new(Arc::clone(&options.metrics)),
            hint: Arc::default(),
            position: AtomicU64::new(position),
            follow: Notify::new(),
            closing: CancellationToken::new(),
        });
        let (queue, ended) = Queue::start(Arc::clone(&shared));
        tokio::spawn(follow::follow(Arc::clone(&shared)));
        Ok(SqlStore {
            shared,
            queue,
            writer_ended: Mutex::new(Some(ended)),
            probing: Mutex::new(None),
        })
    }

    /// The nearest expiry, for the sweeper.
    pub fn expiry_hint(&self) -> &Arc<ExpiryHint> {
        &self.shared.hint
    }

    /// What the server for reads says of itself; a connection that has gone stale is replaced.
    async fn probe(&self) -> Result<Probe, Fault> {
        let mut held = self.probing.lock().await;
        if let Some(mut session) = held.take()
            && let Ok(probe) = session.probe().await
        {
            *held = Some(session);
            return Ok(probe);
        }
        let address = &self.shared.address;
        let (mut session, _) =
            pool::connect_any(address, &address.read_servers, 0, Purpose::Read).await?;
        let probe = session.probe().await?;
        *held = Some(session);
        Ok(probe)
    }

    async fn submit(&self, job: Job) -> Result<Answer> {
        if self.shared.closing.is_cancelled() {
            return Err(closed());
        }
        self.queue.submit(&self.shared, job).await
    }
}

impl Drop for SqlStore {
    fn drop(&mut self) {
        self.shared.closing.cancel();
        self.shared.hub.close();
    }
}

fn closed() -> Error {
    Error::unavailable("the store is closed")
}

#[async_trait]
impl Store for SqlStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            backend: match self.shared.address.protocol {
                Protocol::MySql => "mysql",
                Protocol::Postgres => "postgres",
            },
            durable: true,
            shared: true,
            snapshot_scans: self.shared.address.snapshot_scans,
        }
    }

    async fn read(&self, read: SnapshotRead) -> Result<Snapshot> {
        self.shared.read(read).await
    }

    fn scan(&self, range: KeyRange, reverse: bool) -> PageStream {
        let shared = Arc::clone(&self.shared);
        if self.shared.address.snapshot_scans {
            reader::snapshot_scan(shared, range, reverse)
        } else {
            reader::scan(shared, range, reverse)
        }
    }

    fn scan_snapshot(&self, range: KeyRange, reverse: bool) -> PageStream {
        reader::snapshot_scan(Arc::clone(&self.shared), range, reverse)
    }

    async fn commit(&self, write: AtomicWrite) -> Result<Outcome> {
        collect::check_write(&write, &self.shared.limits)?;
        let write = write.timed_by(&*self.shared.clock);
        match self.submit(Job::Commit(write)).await? {
            Answer::Outcome(outcome) => Ok(outcome),
            Answer::Ingested | Answer::Swept(_) => unreachable!("a commit has an outcome"),
        }
    }

    async fn ingest(&self, entries: Vec<Entry>) -> Result<()> {
        collect::check_ingest(&entries, &self.shared.limits)?;
        self.submit(Job::Ingest(entries)).await.map(drop)
    }

    fn watch(&self, keys: Vec<Key>) -> WatchStream {
        let shared = Arc::clone(&self.shared);
        self.shared.hub.watch(
            keys,
            Arc::clone(&self.shared.clock),
            Box::new(move |read| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { shared.read(read).await })
            }),
        )
    }

    fn changes(&self, range: KeyRange) -> ChangeStream {
        self.shared.hub.changes(range)
    }

    async fn sweep(&self, now: UnixMillis, limit: NonZeroU32) -> Result<u32> {
        let limit = limit.get();
        let due = self
            .shared
            .with_session(&move |session| {
                Box::pin(async move { session.expired(now, limit).await.map(Done::All) })
            })
            .await?;
        if due.is_empty() {
            return Ok(0);
        }
        match self.submit(Job::Sweep(due)).await? {
            Answer::Swept(removed) => {
                self.shared.metrics.swept(removed);
                Ok(removed)
            }
            Answer::Outcome(_) | Answer::Ingested => unreachable!("a sweep has a count"),
        }
    }

    async fn versionstamp(&self) -> Result<Versionstamp> {
        let (_, newest) = self
            .shared
            .with_session(&|session| {
                Box::pin(async move { session.position().await.map(Done::All) })
            })
            .await?;
        Ok(newest)
    }

    async fn ping(&self) -> Result<()> {
        if self.shared.closing.is_cancelled() {
            return Err(closed());
        }
        let probe = match tokio::time::timeout(PING_MAX, self.probe()).await {
            Ok(Ok(probe)) => probe,
            Ok(Err(fault)) => {
                self.shared.pool.forget_idle();
                return Err(fault.into_error());
            }
            Err(_) => return Err(Error::unavailable("the database does not answer")),
        };
        if !probe.is_ready {
            return Err(Error::unavailable("the node is not part of its cluster"));
        }
        if probe.is_read_only && self.shared.address.servers.len() == 1 {
            return Err(Error::ReadOnly("the database server is read-only"));
        }
        if self.queue.is_away() {
            return Err(Error::unavailable("no database server takes writes"));
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.shared.closing.cancel();
        self.shared.hub.close();
        self.shared.hint.close();
        let ended = self.writer_ended.lock().await.take();
        if let Some(ended) = ended {
            let _ = tokio::time::timeout(CLOSE_MAX, ended).await;
        }
        self.shared.pool.close().await;
        Ok(())
    }
}

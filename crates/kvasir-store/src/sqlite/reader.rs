//! Reading connections.
//!
//! SQLite reads block, so each runs on a thread of the runtime's blocking pool with a connection of
//! its own. As many run at once as there are connections; others wait in turn.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::stream;
use kvasir_kv::{
    Clock, Entry, Error, Key, KeyRange, Page, PageStream, Result, Snapshot, SnapshotRead,
    UnixMillis,
};
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::engine::{last, read_failed};
use super::schema;
use crate::collect::{self, Collector};
use crate::metrics::StoreMetrics;
use crate::record;

/// Connections for reads. Page-cached reads are bound by the processor, so a few are enough.
const CONNECTIONS: usize = 8;

/// Statements kept prepared per connection.
const STATEMENTS: usize = 16;

pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    metrics: Arc<StoreMetrics>,
}

impl Readers {
    pub(super) fn new(path: &Path, metrics: Arc<StoreMetrics>) -> Readers {
        Readers {
            path: path.to_owned(),
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            metrics,
        }
    }

    /// Several ranges from one snapshot.
    pub(super) async fn read(
        self: &Arc<Self>,
        read: SnapshotRead,
        now: UnixMillis,
    ) -> Result<Snapshot> {
        self.run(move |connection| {
            in_snapshot(connection, |connection| read_ranges(connection, &read, now))
        })
        .await
    }

    /// Runs `work` on a free connection, off the async threads.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| Error::unavailable("the store is closed"))?;
        let readers = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let connection = match readers.lock().pop() {
                Some(connection) => connection,
                None => readers.connect()?,
            };
            let result = work(&connection);
            if matches!(result, Err(Error::Corrupt(_))) {
                readers.metrics.corrupt_records.inc();
            }
            if !readers.permits.is_closed() {
                readers.lock().push(connection);
            }
            drop(permit);
            result
        });
        done.await
            .unwrap_or_else(|panic| Err(Error::Unavailable(Arc::new(panic))))
    }

    fn connect(&self) -> Result<Connection> {
        let connection = schema::open_reader(&self.path).map_err(read_failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }

    /// Refuses further reads and closes idle connections.
    pub(super) fn close(&self) {
        self.permits.close();
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle
            .lock()
            .expect("no panic while the connections are held")
    }
}

/// Runs `work` in a read transaction, which sees one moment.
fn in_snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    connection.execute_batch("BEGIN").map_err(read_failed)?;
    let result = work(connection);
    // A read transaction has nothing to lose; the error of the work is the one to tell.
    let ended = connection.execute_batch("COMMIT").map_err(read_failed);
    result.and_then(|done| ended.map(|()| done))
}

fn read_ranges(connection: &Connection, read: &SnapshotRead, now: UnixMillis) -> Result<Snapshot> {
    let mut ranges = Vec::with_capacity(read.ranges.len());
    for range in &read.ranges {
        let mut collector = Collector::for_range(range, now);
        if !collector.is_full() {
            collect_range(connection, &range.range, range.reverse, &mut collector)?;
        }
        ranges.push(collector.into_result());
    }
    Ok(Snapshot { ranges })
}

fn collect_range(
    connection: &Connection,
    range: &KeyRange,
    reverse: bool,
    collector: &mut Collector,
) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let sql = if reverse {
        "SELECT k, v, exp FROM kv_entry WHERE k >= ?1 AND k < ?2 ORDER BY k DESC"
    } else {
        "SELECT k, v, exp FROM kv_entry WHERE k >= ?1 AND k < ?2 ORDER BY k"
    };
    let mut statement = connection.prepare_cached(sql).map_err(read_failed)?;
    let bounds = [range.start.as_bytes(), range.end.as_bytes()];
    let mut rows = statement.query(bounds).map_err(read_failed)?;
    while let Some(row) = rows.next().map_err(read_failed)? {
        if collector.push(to_entry(row)?).is_break() {
            break;
        }
    }
    Ok(())
}

fn to_entry(row: &rusqlite::Row<'_>) -> Result<Entry> {
    let key = row.get_ref(0).map_err(read_failed)?.as_blob();
    let key = key.map_err(|error| Error::Corrupt(format!("a key is no blob: {error}")))?;
    let key = Key::new(key.to_vec());
    let record = row.get_ref(1).map_err(read_failed)?.as_blob();
    let record = record
        .map_err(|error| Error::Corrupt(format!("the record of {key:?} is no blob: {error}")))?;
    let entry = record::decode(&key, record)?;
    let expires_at: Option<i64> = row.get(2).map_err(read_failed)?;
    if entry.expires_at.map(|at| at.0) != expires_at {
        return Err(Error::Corrupt(format!(
            "record and columns of {key:?} do not agree"
        )));
    }
    Ok(entry)
}

fn read_page(
    connection: &Connection,
    range: &KeyRange,
    reverse: bool,
    now: UnixMillis,
) -> Result<(Page, bool)> {
    let versionstamp = last(connection).map_err(read_failed)?;
    let mut collector = Collector::for_page(now);
    collect_range(connection, range, reverse, &mut collector)?;
    let (entries, has_more) = collector.into_page();
    let page = Page {
        entries,
        versionstamp,
    };
    Ok((page, has_more))
}

/// A scan between two pages.
struct Scan {
    readers: Arc<Readers>,
    clock: Arc<dyn Clock>,
    rest: KeyRange,
    reverse: bool,
    holds_snapshot: bool,
    /// With a snapshot: the connection with its open transaction.
    held: Option<Connection>,
}

impl Scan {
    async fn next(&mut self) -> Result<(Page, bool)> {
        let now = self.clock.now();
        let (rest, reverse) = (self.rest.clone(), self.reverse);
        if !self.holds_snapshot {
            return self
                .readers
                .run(move |connection| {
                    in_snapshot(connection, |connection| {
                        read_page(connection, &rest, reverse, now)
                    })
                })
                .await;
        }
        let held = self.held.take();
        let readers = Arc::clone(&self.readers);
        let done = tokio::task::spawn_blocking(move || {
            let connection = match held {
                Some(connection) => connection,
                None => {
                    let connection = readers.connect()?;
                    connection.execute_batch("BEGIN").map_err(read_failed)?;
                    connection
                }
            };
            let page = read_page(&connection, &rest, reverse, now)?;
            Ok((page, connection))
        });
        let done = done
            .await
            .unwrap_or_else(|panic| Err(Error::Unavailable(Arc::new(panic))));
        let (page, connection) = done?;
        self.held = Some(connection);
        Ok(page)
    }
}

/// The pages of a scan: each from a snapshot of its own, or all from one that is held until the
/// stream is dropped.
pub(super) fn scan(
    readers: Arc<Readers>,
    clock: Arc<dyn Clock>,
    range: KeyRange,
    reverse: bool,
    holds_snapshot: bool,
) -> PageStream {
    let scan = Scan {
        readers,
        clock,
        rest: range,
        reverse,
        holds_snapshot,
        held: None,
    };
    Box::pin(stream::unfold(Some(scan), |scan| async move {
        let mut scan = scan?;
        if scan.readers.permits.is_closed() {
            return Some((Err(Error::unavailable("the store is closed")), None));
        }
        match scan.next().await {
            Err(error) => Some((Err(error), None)),
            Ok((page, has_more)) => {
                let last = page.entries.last().filter(|_| has_more);
                let rest = last.map(|last| collect::rest_of(&scan.rest, &last.key, scan.reverse));
                let next = rest.map(|rest| Scan { rest, ..scan });
                Some((Ok(page), next))
            }
        }
    }))
}

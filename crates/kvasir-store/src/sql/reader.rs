//! Snapshot reads and scans.
//!
//! Every SQL statement has one snapshot on all these databases, so a read is one statement where
//! that is bounded, and else a short transaction with one snapshot.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream;
use kvasir_kv::limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};
use kvasir_kv::{
    Entry, Error, Key, KeyRange, Page, PageStream, RangeResult, Result, Snapshot, SnapshotRead,
    UnixMillis, Versionstamp,
};
use tokio::time::Instant;

use super::Shared;
use super::fault::{Class, Fault};
use super::pool::Lease;
use super::rows;
use super::session::{RangeQuery, Row, Session};
use crate::collect::{self, Collector};

/// Most ranges of one statement.
const UNION_RANGES_MAX: usize = 20;

/// Most entries of one statement over several ranges: it cannot be stopped at a number of bytes.
const UNION_ENTRIES_MAX: usize = 64;

/// Longest a read is tried again while servers are lost.
const READ_MAX: Duration = Duration::from_secs(10);

/// Longest one attempt may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);

/// Pause before trying again when no server will do.
const AWAY_PAUSE: Duration = Duration::from_millis(50);

/// First size of a page of a scan, in entries. Later ones follow from the size of the entries.
const FIRST_PAGE: usize = 64;

/// Work on one connection, to be repeated on another one if that is lost.
pub(super) type Work<T> =
    dyn for<'s> Fn(&'s mut dyn Session) -> BoxFuture<'s, Result<Done<T>, Fault>> + Send + Sync;

/// What work ended with.
pub(super) enum Done<T> {
    /// The connection is free again.
    All(T),
    /// The connection still has unread rows.
    Early(T),
}

impl Shared {
    /// Runs `work` on a connection for reads, again on another one while servers are lost.
    pub(super) async fn with_session<T>(&self, work: &Work<T>) -> Result<T> {
        if self.closing.is_cancelled() {
            return Err(super::closed());
        }
        let begun = Instant::now();
        let mut attempts = 0;
        loop {
            let fault = match self.pool.lease().await {
                Err(fault) => fault,
                Ok(lease) => match attempt(lease, work).await {
                    Ok(done) => return Ok(done),
                    Err(fault) => {
                        if fault.class == Class::Lost {
                            self.pool.forget_idle();
                        }
                        fault
                    }
                },
            };
            attempts += 1;
            let may_pass = matches!(
                fault.class,
                Class::Lost | Class::RolledBack | Class::ReadOnly
            );
            if !may_pass || begun.elapsed() > READ_MAX || self.closing.is_cancelled() {
                return Err(match fault.into_error() {
                    // Nothing was to be written.
                    Error::ReadOnly(why) => Error::unavailable(why),
                    error => error,
                });
            }
            self.metrics.database_retries.inc();
            if attempts > 1 {
                tokio::time::sleep(AWAY_PAUSE).await;
            }
        }
    }

    pub(super) async fn read(&self, read: SnapshotRead) -> Result<Snapshot> {
        collect::check_ranges(&read)?;
        let now = self.clock.now();
        let plan = Arc::new(ReadPlan::new(&read));
        let asked = Arc::clone(&plan);
        let rows = self
            .with_session(&move |session| {
                let plan = Arc::clone(&asked);
                Box::pin(async move { plan.run(session, now).await })
            })
            .await?;
        self.count_damage(plan.collect(rows, now))
    }

    fn count_damage<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(Error::Corrupt(_)) = &result {
            self.metrics.corrupt_records.inc();
        }
        result
    }
}

async fn attempt<T>(mut lease: Lease, work: &Work<T>) -> Result<T, Fault> {
    match tokio::time::timeout(ATTEMPT_MAX, work(lease.session())).await {
        Ok(Ok(Done::All(done))) => {
            lease.give_back();
            Ok(done)
        }
        Ok(Ok(Done::Early(done))) => Ok(done),
        Ok(Err(fault)) => Err(fault),
        Err(_) => Err(Fault::new(
            Class::Other,
            format!("a read took longer than {ATTEMPT_MAX:?}"),
        )),
    }
}

/// How a snapshot read is asked of the database.
struct ReadPlan {
    read: SnapshotRead,
    /// Ranges of a single key, asked for all together.
    points: Vec<Key>,
    /// All other ranges that can hold anything.
    ranges: Vec<RangeQuery>,
    /// Where each range of the read finds its rows.
    sources: Vec<Source>,
}

#[derive(Clone, Copy)]
enum Source {
    /// Nothing to ask for.
    Nothing,
    /// Rows of this single key.
    Point,
    /// Rows of `ranges` at this place.
    Range(usize),
}

/// Rows by source.
#[derive(Default)]
struct Rows {
    points: Vec<Row>,
    ranges: Vec<Vec<Row>>,
}

impl ReadPlan {
    fn new(read: &SnapshotRead) -> ReadPlan {
        let mut plan = ReadPlan {
            read: read.clone(),
            points: Vec::new(),
            ranges: Vec::new(),
            sources: Vec::new(),
        };
        for asked in &read.ranges {
            let source = if asked.limit == 0 || asked.range.is_empty() {
                Source::Nothing
            } else if asked.range.single_key().is_some() {
                plan.points.push(asked.range.start.clone());
                Source::Point
            } else {
                plan.ranges.push(RangeQuery {
                    range: asked.range.clone(),
                    limit: asked.limit,
                    reverse: asked.reverse,
                });
                Source::Range(plan.ranges.len() - 1)
            };
            plan.sources.push(source);
        }
        plan.points.sort();
        plan.points.dedup();
        plan
    }

    async fn run(&self, session: &mut dyn Session, now: UnixMillis) -> Result<Done<Rows>, Fault> {
        match (self.points.as_slice(), self.ranges.as_slice()) {
            ([], []) => Ok(Done::All(Rows::default())),
            ([], [only]) => {
                let (rows, is_free) = self.stream(session, 0, only, now).await?;
                let rows = Rows {
                    points: Vec::new(),
                    ranges: vec![rows],
                };
                Ok(if is_free {
                    Done::All(rows)
                } else {
                    Done::Early(rows)
                })
            }
            (points, ranges) if fits_one_statement(ranges) => {
                let found = session.read_at_once(points, ranges, now).await?;
                let mut rows = Rows {
                    points: Vec::new(),
                    ranges: ranges.iter().map(|_| Vec::new()).collect(),
                };
                for (mark, row) in found {
                    match mark {
                        None => rows.points.push(row),
                        Some(place) => match rows.ranges.get_mut(place) {
                            Some(rows) => rows.push(row),
                            None => return Err(Fault::damaged("a row of no range came back")),
                        },
                    }
                }
                for (rows, query) in rows.ranges.iter_mut().zip(ranges) {
                    // UNION ALL promises no order.
                    rows.sort_by(|a, b| a.key.cmp(&b.key));
                    if query.reverse {
                        rows.reverse();
                    }
                }
                Ok(Done::All(rows))
            }
            (points, ranges) => self.run_in_snapshot(session, points, ranges, now).await,
        }
    }

    async fn run_in_snapshot(
        &self,
        session: &mut dyn Session,
        points: &[Key],
        ranges: &[RangeQuery],
        now: UnixMillis,
    ) -> Result<Done<Rows>, Fault> {
        session.begin_snapshot().await?;
        let mut rows = Rows::default();
        if !points.is_empty() {
            let found = session.read_at_once(points, &[], now).await?;
            rows.points = found.into_iter().map(|(_, row)| row).collect();
        }
        for (place, query) in ranges.iter().enumerate() {
            let (found, is_free) = self.stream(session, place, query, now).await?;
            rows.ranges.push(found);
            if !is_free && place + 1 == ranges.len() {
                return Ok(Done::Early(rows));
            }
            // Otherwise the rest of the rows is skipped by the next statement.
        }
        session.commit().await?;
        Ok(Done::All(rows))
    }

    /// Rows of one range up to its bytes, and whether the connection is free again.
    async fn stream(
        &self,
        session: &mut dyn Session,
        place: usize,
        query: &RangeQuery,
        now: UnixMillis,
    ) -> Result<(Vec<Row>, bool), Fault> {
        let bytes_max = self.bytes_max(place);
        let mut rows = Vec::new();
        let mut bytes = 0_usize;
        let mut each = |row: Row| {
            // A record is a little longer than its value, so this never stops too early; the exact
            // cut is made from the entries.
            bytes += row.key.len() + row.record.as_ref().map_or(0, |record| record.len());
            let was_enough =
                bytes > bytes_max.saturating_add(rows.len().saturating_mul(RECORD_SLACK));
            rows.push(row);
            if was_enough && rows.len() > 1 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let is_free = session.read_range(query, now, &mut each).await?;
        Ok((rows, is_free))
    }

    fn bytes_max(&self, place: usize) -> usize {
        let found = self
            .read
            .ranges
            .iter()
            .zip(&self.sources)
            .find(|(_, source)| matches!(source, Source::Range(other) if *other == place));
        found.map_or(usize::MAX, |(range, _)| range.bytes_max)
    }

    /// Decodes and cuts what was found.
    fn collect(&self, rows: Rows, now: UnixMillis) -> Result<Snapshot> {
        let mut points = std::collections::HashMap::new();
        for row in rows.points {
            let entry = rows::to_entry(row)?;
            points.insert(entry.key.clone(), entry);
        }
        let mut found = rows.ranges.into_iter();
        let mut ranges = Vec::with_capacity(self.sources.len());
        for (asked, source) in self.read.ranges.iter().zip(&self.sources) {
            let mut collector = Collector::for_range(asked, now);
            match source {
                Source::Nothing => {}
                Source::Point => {
                    if let Some(entry) = points.get(&asked.range.start) {
                        let _ = collector.push(entry.clone());
                    }
                }
                Source::Range(_) => {
                    for row in found.next().unwrap_or_default() {
                        if collector.push(rows::to_entry(row)?).is_break() {
                            break;
                        }
                    }
                }
            }
            let result: RangeResult = collector.into_result();
            ranges.push(result);
        }
        Ok(Snapshot { ranges })
    }
}

/// Most bytes that a record is longer than its value: header, meta and checksum.
const RECORD_SLACK: usize = kvasir_kv::limits::META_BYTES_MAX + 64;

fn fits_one_statement(ranges: &[RangeQuery]) -> bool {
    let entries = ranges
        .iter()
        .map(|query| query.limit)
        .fold(0_usize, usize::saturating_add);
    ranges.len() <= UNION_RANGES_MAX && entries <= UNION_ENTRIES_MAX
}

/// The pages of a scan, each from a snapshot of its own.
pub(super) fn scan(shared: Arc<Shared>, range: KeyRange, reverse: bool) -> PageStream {
    let state = Some((range, FIRST_PAGE));
    Box::pin(stream::unfold(state, move |state| {
        let shared = Arc::clone(&shared);
        async move {
            let (rest, limit) = state?;
            match page(&shared, &rest, reverse, limit).await {
                Err(error) => Some((Err(error), None)),
                Ok((page, has_more)) => {
                    let next = page.entries.last().filter(|_| has_more).map(|last| {
                        let rest = collect::rest_of(&rest, &last.key, reverse);
                        (rest, next_limit(&page))
                    });
                    Some((Ok(page), next))
                }
            }
        }
    }))
}

/// How many entries of the size of these fill a page.
fn next_limit(page: &Page) -> usize {
    let bytes: usize = page.entries.iter().map(Entry::cost_bytes).sum();
    let each = bytes / page.entries.len().max(1);
    (PAGE_BYTES_MAX / each.max(1)).clamp(1, PAGE_ENTRIES_MAX)
}

async fn page(
    shared: &Shared,
    range: &KeyRange,
    reverse: bool,
    limit: usize,
) -> Result<(Page, bool)> {
    let now = shared.clock.now();
    let query = Arc::new(RangeQuery {
        range: range.clone(),
        limit,
        reverse,
    });
    let (rows, newest) = shared
        .with_session(&move |session| {
            let query = Arc::clone(&query);
            Box::pin(async move {
                // The position is read first, so that the page holds at least what it says.
                let (_, newest) = session.position().await?;
                let (rows, is_free) = page_rows(session, &query, now).await?;
                let found = (rows, newest);
                Ok(if is_free {
                    Done::All(found)
                } else {
                    Done::Early(found)
                })
            })
        })
        .await?;
    shared.count_damage(to_page(rows, limit, newest, now))
}

async fn page_rows(
    session: &mut dyn Session,
    query: &RangeQuery,
    now: UnixMillis,
) -> Result<(Vec<Row>, bool), Fault> {
    if query.range.is_empty() {
        return Ok((Vec::new(), true));
    }
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut each = |row: Row| {
        bytes += row.key.len() + row.record.as_ref().map_or(0, |record| record.len());
        rows.push(row);
        // Twice the bytes of a page is plainly more than a page needs.
        if bytes > 2 * PAGE_BYTES_MAX {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let is_free = session.read_range(query, now, &mut each).await?;
    Ok((rows, is_free))
}

fn to_page(
    rows: Vec<Row>,
    limit: usize,
    newest: Versionstamp,
    now: UnixMillis,
) -> Result<(Page, bool)> {
    let was_cut = rows.len() >= limit;
    let mut collector = Collector::for_page(now);
    for row in rows {
        if collector.push(rows::to_entry(row)?).is_break() {
            break;
        }
    }
    let (entries, is_full) = collector.into_page();
    let page = Page {
        entries,
        versionstamp: newest,
    };
    Ok((page, is_full || was_cut))
}

/// The pages of a scan, all from one snapshot on a connection of its own, which is held until the
/// stream is dropped. Only for copies: a slow reader keeps old rows on the database.
pub(super) fn snapshot_scan(shared: Arc<Shared>, range: KeyRange, reverse: bool) -> PageStream {
    struct Scan {
        shared: Arc<Shared>,
        session: Option<(Box<dyn Session>, Versionstamp)>,
        rest: KeyRange,
        limit: usize,
        reverse: bool,
    }

    impl Scan {
        async fn next(&mut self) -> Result<(Page, bool)> {
            let now = self.shared.clock.now();
            let found = self.ask(now).await.map_err(Fault::into_error)?;
            to_page(found.0, self.limit, found.1, now)
        }

        async fn ask(&mut self, now: UnixMillis) -> Result<(Vec<Row>, Versionstamp), Fault> {
            let (session, newest) = match &mut self.session {
                Some(open) => open,
                None => {
                    let address = &self.shared.address;
                    let servers = &address.read_servers;
                    let purpose = super::pool::Purpose::Read;
                    let (mut session, _) =
                        super::pool::connect_any(address, servers, 0, purpose).await?;
                    session.begin_snapshot().await?;
                    let (_, newest) = session.position().await?;
                    self.session.insert((session, newest))
                }
            };
            let query = RangeQuery {
                range: self.rest.clone(),
                limit: self.limit,
                reverse: self.reverse,
            };
            // Rows that were not taken are skipped by the next statement.
            let (rows, _) = page_rows(&mut **session, &query, now).await?;
            Ok((rows, *newest))
        }
    }

    let scan = Scan {
        shared,
        session: None,
        rest: range,
        limit: FIRST_PAGE,
        reverse,
    };
    Box::pin(stream::unfold(Some(scan), |scan| async move {
        let mut scan = scan?;
        match scan.next().await {
            Err(error) => Some((Err(error), None)),
            Ok((page, has_more)) => {
                let last = page
                    .entries
                    .last()
                    .filter(|_| has_more)
                    .map(|last| last.key.clone());
                let next = last.map(|last| {
                    scan.rest = collect::rest_of(&scan.rest, &last, scan.reverse);
                    scan.limit = next_limit(&page);
                    scan
                });
                Some((Ok(page), next))
            }
        }
    }))
}

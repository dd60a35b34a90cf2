//! Reads of several ranges and scans, on the engine's snapshots.

use std::ops::Bound;
use std::sync::Arc;

use fjall::{Readable, Snapshot as EngineSnapshot};
use futures_util::stream;
use kvasir_kv::{
    Clock, Error, Key, KeyRange, Page, PageStream, RangeRead, RangeResult, Result, Snapshot,
    SnapshotRead, UnixMillis, Versionstamp,
};

use super::engine::{Reads, View, decode, engine_error};
use crate::collect::{self, Collector};
use crate::metrics::StoreMetrics;

/// Records that a read looks at before it moves to a blocking thread. Takes well under a
/// millisecond.
const INLINE_RECORDS: usize = 300;

/// Bytes of records that a read looks at before it moves to a blocking thread.
const INLINE_BYTES: usize = 512 * 1024;

/// Reads all ranges from one snapshot.
pub(crate) async fn read(
    reads: &Arc<Reads>,
    read: SnapshotRead,
    now: UnixMillis,
) -> Result<Snapshot> {
    if let [only] = read.ranges.as_slice()
        && let Some(result) = from_cache(reads, only, now)?
    {
        let ranges = vec![result];
        return Ok(Snapshot { ranges });
    }
    let mut reading = Reading {
        view: reads.view()?,
        metrics: Arc::clone(&reads.metrics),
        now,
        results: Vec::with_capacity(read.ranges.len()),
        waiting: read.ranges.into_iter(),
        current: None,
    };
    let mut budget = Budget {
        records: INLINE_RECORDS,
        bytes: INLINE_BYTES,
    };
    if reading.advance(&mut budget)? {
        return Ok(reading.finish());
    }
    let rest = move || {
        let mut endless = Budget {
            records: usize::MAX,
            bytes: usize::MAX,
        };
        reading.advance(&mut endless)?;
        Ok(reading.finish())
    };
    in_background(rest).await
}

/// The answer to a range that the entry at its start settles. One entry is a snapshot by itself, so
/// the cache may answer.
fn from_cache(reads: &Reads, range: &RangeRead, now: UnixMillis) -> Result<Option<RangeResult>> {
    let start = &range.range.start;
    if start.is_empty() || !range.is_settled_by_start() {
        return Ok(None);
    }
    let mut collector = Collector::for_range(range, now);
    if let Some(entry) = reads.get(start)? {
        // A single entry always fits.
        let _ = collector.push(entry);
    }
    let result = collector.into_result();
    let is_settled = !result.entries.is_empty() || range.range.single_key().is_some();
    Ok(is_settled.then_some(result))
}

/// Runs `work` where it may block.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Unavailable(Arc::new(error))),
    }
}

/// How much more a read may do where it is.
struct Budget {
    records: usize,
    bytes: usize,
}

impl Budget {
    fn spend(&mut self, bytes: usize) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn is_spent(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }
}

/// A snapshot read between two records.
struct Reading {
    view: Arc<View>,
    metrics: Arc<StoreMetrics>,
    now: UnixMillis,
    waiting: std::vec::IntoIter<RangeRead>,
    current: Option<(Records, Collector)>,
    results: Vec<RangeResult>,
}

impl Reading {
    /// Goes on until everything is read or the budget is spent. Whether everything is read.
    fn advance(&mut self, budget: &mut Budget) -> Result<bool> {
        loop {
            if let Some((records, collector)) = &mut self.current {
                while !collector.is_full()
                    && let Some(record) = records.next()
                {
                    let (key, value) =
                        record.map_err(|error| engine_error(error, &self.metrics))?;
                    budget.spend(key.len() + value.len());
                    let key = Key::new(key.to_vec());
                    let entry = decode(&key, &value, &self.metrics)?;
                    if collector.push(entry).is_break() {
                        break;
                    }
                    if budget.is_spent() {
                        return Ok(false);
                    }
                }
            }
            if let Some((_, collector)) = self.current.take() {
                self.results.push(collector.into_result());
            }
            let Some(range) = self.waiting.next() else {
                return Ok(true);
            };
            let mut collector = Collector::for_range(&range, self.now);
            if let Some(key) = range.range.single_key().filter(|key| !key.is_empty()) {
                // Filters answer a point read faster than a range.
                if !collector.is_full()
                    && let Some(entry) = self.view.get(key, &self.metrics)?
                {
                    budget.spend(entry.cost_bytes());
                    // A single entry always fits.
                    let _ = collector.push(entry);
                }
                self.results.push(collector.into_result());
            } else {
                let records = Records::open(&self.view, &range.range, range.reverse);
                self.current = Some((records, collector));
            }
            if budget.is_spent() {
                return Ok(false);
            }
        }
    }

    fn finish(self) -> Snapshot {
        Snapshot {
            ranges: self.results,
        }
    }
}

/// The records of a range, in either direction.
struct Records {
    iter: Option<fjall::Iter>,
    reverse: bool,
}

impl Records {
    fn open(view: &View, range: &KeyRange, reverse: bool) -> Records {
        Records::open_in(&view.snapshot, view, range, reverse)
    }

    fn open_in(snapshot: &EngineSnapshot, view: &View, range: &KeyRange, reverse: bool) -> Records {
        if range.is_empty() {
            return Records {
                iter: None,
                reverse,
            };
        }
        let start = match range.start.as_bytes() {
            [] => Bound::Unbounded,
            start => Bound::Included(start),
        };
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) = (start, Bound::Excluded(range.end.as_bytes()));
        Records {
            iter: Some(snapshot.range::<&[u8], _>(&view.data, bounds)),
            reverse,
        }
    }
}

impl Iterator for Records {
    type Item = fjall::Result<fjall::KvPair>;

    fn next(&mut self) -> Option<Self::Item> {
        let iter = self.iter.as_mut()?;
        let guard = if self.reverse {
            iter.next_back()
        } else {
            iter.next()
        };
        Some(guard?.into_inner())
    }
}

/// A scan between two pages. Holds a snapshot but no handle of the engine, so that a scan that
/// nobody polls does not keep the store from closing.
struct Scan {
    snapshot: EngineSnapshot,
    versionstamp: Versionstamp,
    rest: KeyRange,
}

/// The pages of a range.
pub(crate) fn scan(
    reads: &Arc<Reads>,
    range: KeyRange,
    reverse: bool,
    clock: Arc<dyn Clock>,
) -> PageStream {
    enum State {
        New(KeyRange),
        Open(Scan),
    }
    let reads = Arc::clone(reads);
    Box::pin(stream::unfold(Some(State::New(range)), move |state| {
        let reads = Arc::clone(&reads);
        let clock = Arc::clone(&clock);
        async move {
            let state = state?;
            let page = in_background(move || {
                let view = reads.view()?;
                let scan = match state {
                    State::Open(scan) => scan,
                    State::New(rest) => Scan {
                        snapshot: view.snapshot.clone(),
                        versionstamp: view.versionstamp,
                        rest,
                    },
                };
                scan.page(&view, reverse, clock.now(), &reads.metrics)
            });
            match page.await {
                Ok((page, rest)) => Some((Ok(page), rest.map(State::Open))),
                Err(error) => Some((Err(error), None)),
            }
        }
    }))
}

impl Scan {
    /// The next page, and the scan behind it if there may be more.
    fn page(
        mut self,
        view: &View,
        reverse: bool,
        now: UnixMillis,
        metrics: &StoreMetrics,
    ) -> Result<(Page, Option<Scan>)> {
        let mut collector = Collector::for_page(now);
        for record in Records::open_in(&self.snapshot, view, &self.rest, reverse) {
            let (key, value) = record.map_err(|error| engine_error(error, metrics))?;
            let entry = decode(&Key::new(key.to_vec()), &value, metrics)?;
            if collector.push(entry).is_break() {
                break;
            }
        }
        let (entries, has_more) = collector.into_page();
        let page = Page {
            entries,
            versionstamp: self.versionstamp,
        };
        let Some(last) = page.entries.last().filter(|_| has_more) else {
            return Ok((page, None));
        };
        self.rest = collect::rest_of(&self.rest, &last.key, reverse);
        Ok((page, Some(self)))
    }
}

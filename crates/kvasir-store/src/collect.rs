//! What every backend does alike around its engine: checks requests against limits, and cuts
//! ranges and pages.
//!
//! A backend pushes records in scan order, expired ones included, until it is told to stop.

use std::ops::ControlFlow;

use kvasir_kv::limits::{
    META_BYTES_MAX, MUTATIONS_MAX, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, RANGES_MAX,
    STORED_KEY_BYTES_MAX, WRITE_BYTES_MAX,
};
use kvasir_kv::{
    AtomicWrite, Change, Entry, Error, Key, KeyRange, Limits, Mutation, RangeRead, RangeResult,
    Result, SnapshotRead, UnixMillis,
};

/// Largest clock reading of an ingested versionstamp, in microseconds: the year 9999. The clock of
/// the store goes on from there, so one wild stamp would spoil the time of all later ones.
const INGESTED_MICROS_MAX: u64 = UnixMillis::MAX_RFC3339.0.unsigned_abs() * 1000 + 999;

/// Refuses a snapshot read of too many ranges.
pub(crate) fn check_ranges(read: &SnapshotRead) -> Result<()> {
    match read.ranges.len() {
        actual if actual > RANGES_MAX => Err(Error::TooMany {
            what: "ranges",
            actual,
            limit: RANGES_MAX,
        }),
        _ => Ok(()),
    }
}

/// Refuses a write over a limit, and the empty key, which not every engine can store.
pub(crate) fn check_write(write: &AtomicWrite, limits: &Limits) -> Result<()> {
    write.validate(limits)?;
    let written = write.mutations.iter().filter(|mutation| {
        // Its key gets at least the versionstamp.
        !matches!(mutation, Mutation::SetVersionstamped { .. })
    });
    for mutation in written {
        check_key(mutation.key())?;
    }
    Ok(())
}

fn check_key(key: &Key) -> Result<()> {
    if key.is_empty() {
        return Err(Error::Invalid("a stored key has at least one byte".into()));
    }
    Ok(())
}

/// Refuses entries that no commit could have written, or too many of them.
pub(crate) fn check_ingest(entries: &[Entry], limits: &Limits) -> Result<()> {
    if entries.len() > MUTATIONS_MAX {
        return Err(Error::TooMany {
            what: "entries",
            actual: entries.len(),
            limit: MUTATIONS_MAX,
        });
    }
    let fits = |what, actual: usize, limit: usize| match actual {
        actual if actual > limit => Err(Error::TooLarge {
            what,
            actual,
            limit,
        }),
        _ => Ok(()),
    };
    for entry in entries {
        check_key(&entry.key)?;
        fits("key", entry.key.len(), STORED_KEY_BYTES_MAX)?;
        fits("value", entry.value.len(), limits.value_bytes_max)?;
        let meta_bytes = entry.meta.as_ref().map_or(0, |meta| meta.cost_bytes());
        fits("meta", meta_bytes, META_BYTES_MAX)?;
        if entry.versionstamp.micros() > INGESTED_MICROS_MAX {
            return Err(Error::Invalid(format!(
                "the versionstamp {} lies behind the year 9999",
                entry.versionstamp
            )));
        }
    }
    let total = entries.iter().map(Entry::cost_bytes).sum();
    fits("write", total, WRITE_BYTES_MAX)
}

/// The change that an ingested entry makes. An empty meta is none.
pub(crate) fn ingested(mut entry: Entry) -> Change {
    entry.meta = entry.meta.filter(|meta| !meta.is_empty());
    Change {
        key: entry.key.clone(),
        after: Some(entry),
    }
}

/// What is left of `range` behind `last`.
pub(crate) fn rest_of(range: &KeyRange, last: &Key, reverse: bool) -> KeyRange {
    if reverse {
        KeyRange::new(range.start.clone(), last.clone())
    } else {
        KeyRange::new(last.successor(), range.end.clone())
    }
}

/// Gathers live entries up to a count and a number of bytes.
pub(crate) struct Collector {
    entries: Vec<Entry>,
    limit: usize,
    bytes: usize,
    bytes_max: usize,
    now: UnixMillis,
    cut_by_bytes: bool,
}

impl Collector {
    /// For one range of a snapshot read.
    pub(crate) fn for_range(read: &RangeRead, now: UnixMillis) -> Collector {
        Collector::new(read.limit, read.bytes_max, now)
    }

    /// For one page of a scan.
    pub(crate) fn for_page(now: UnixMillis) -> Collector {
        Collector::new(PAGE_ENTRIES_MAX, PAGE_BYTES_MAX, now)
    }

    fn new(limit: usize, bytes_max: usize, now: UnixMillis) -> Collector {
        Collector {
            entries: Vec::new(),
            limit,
            bytes: 0,
            bytes_max,
            now,
            cut_by_bytes: false,
        }
    }

    /// Whether nothing more is wanted. True from the start for a limit of 0.
    pub(crate) fn is_full(&self) -> bool {
        self.cut_by_bytes || self.entries.len() >= self.limit
    }

    /// Takes the next record. On `Break` no further one is wanted; this one may have been left out.
    pub(crate) fn push(&mut self, entry: Entry) -> ControlFlow<()> {
        if self.is_full() {
            return ControlFlow::Break(());
        }
        if entry.is_expired(self.now) {
            return ControlFlow::Continue(());
        }
        let bytes = self.bytes + entry.key.len() + entry.value.len();
        if bytes > self.bytes_max && !self.entries.is_empty() {
            self.cut_by_bytes = true;
            return ControlFlow::Break(());
        }
        self.bytes = bytes;
        self.entries.push(entry);
        if self.is_full() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// What was gathered, as the answer to a range.
    pub(crate) fn into_result(self) -> RangeResult {
        RangeResult {
            entries: self.entries,
            cut_by_bytes: self.cut_by_bytes,
        }
    }

    /// What was gathered, and whether the page was full.
    pub(crate) fn into_page(self) -> (Vec<Entry>, bool) {
        let full = self.is_full();
        (self.entries, full)
    }
}

#[cfg(test)]
mod tests {
    use kvasir_kv::{Key, KeyRange, Value, Versionstamp};

    use super::*;

    fn entry(key: u8, bytes: usize, expires_at: Option<i64>) -> Entry {
        Entry {
            key: Key::new(vec![key]),
            value: Value::bytes(vec![0; bytes]),
            versionstamp: Versionstamp::ZERO,
            expires_at: expires_at.map(UnixMillis),
            meta: None,
        }
    }

    fn collect(limit: usize, bytes_max: usize, entries: &[Entry]) -> (usize, bool) {
        let mut read = RangeRead::new(KeyRange::starting_with(&Key::default()), limit);
        read.bytes_max = bytes_max;
        let mut collector = Collector::for_range(&read, UnixMillis(1_000));
        for entry in entries {
            if collector.push(entry.clone()).is_break() {
                break;
            }
        }
        let result = collector.into_result();
        (result.entries.len(), result.cut_by_bytes)
    }

    #[test]
    fn a_range_stops_at_its_count_or_before_its_bytes_but_always_has_a_first_entry() {
        let entries = [entry(1, 9, None), entry(2, 9, None), entry(3, 9, None)];
        assert_eq!(collect(0, 100, &entries), (0, false));
        assert_eq!(collect(2, 100, &entries), (2, false));
        assert_eq!(collect(9, 20, &entries), (2, true));
        assert_eq!(collect(9, 30, &entries), (3, false));
        assert_eq!(collect(9, 1, &entries), (1, true));
        assert_eq!(collect(1, 1, &entries), (1, false));
    }

    #[test]
    fn expired_entries_neither_count_nor_cut() {
        let entries = [entry(1, 99, Some(1_000)), entry(2, 9, Some(1_001))];
        assert_eq!(collect(1, 10, &entries), (1, false));
    }
}

//! Snapshot reads: several ranges from one point in history.

use crate::entry::Entry;
use crate::key::{Key, KeyRange};
use crate::limits;

/// Ranges that are read together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRead {
    /// The ranges, answered in this order. None at all is legal.
    pub ranges: Vec<RangeRead>,
}

impl SnapshotRead {
    /// Reads single keys.
    pub fn keys(keys: impl IntoIterator<Item = Key>) -> SnapshotRead {
        SnapshotRead {
            ranges: keys.into_iter().map(RangeRead::key).collect(),
        }
    }

    /// Reads one range.
    pub fn range(range: RangeRead) -> SnapshotRead {
        SnapshotRead {
            ranges: vec![range],
        }
    }
}

/// One range of a snapshot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRead {
    /// What to read. An inverted range is empty, not an error.
    pub range: KeyRange,
    /// Most entries, counted from the low end, in reverse from the high end. 0 reads nothing.
    pub limit: usize,
    /// Bytes of keys and values after which the range stops early. The first entry is always
    /// returned.
    pub bytes_max: usize,
    /// From the highest key to the lowest. The bounds keep their meaning.
    pub reverse: bool,
}

impl RangeRead {
    /// The first `limit` entries of a range, in key order.
    pub fn new(range: KeyRange, limit: usize) -> RangeRead {
        RangeRead {
            range,
            limit,
            bytes_max: limits::RANGE_BYTES_DEFAULT,
            reverse: false,
        }
    }

    /// One key.
    pub fn key(key: Key) -> RangeRead {
        RangeRead::new(KeyRange::single(key), 1)
    }

    /// Whether an entry at the start of the range, if there is one, is the whole answer: the range
    /// holds no other key, or only its first entry is wanted, which is how the npm client of KV
    /// Connect reads single keys.
    pub fn is_settled_by_start(&self) -> bool {
        let wants_first = self.limit == 1 && !self.reverse && !self.range.is_empty();
        self.limit > 0 && (wants_first || self.range.single_key().is_some())
    }

    /// The same range from its high end.
    pub fn reversed(self) -> RangeRead {
        RangeRead {
            reverse: true,
            ..self
        }
    }
}

/// What a snapshot read found: one result per range, in request order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// One result per range.
    pub ranges: Vec<RangeResult>,
}

impl Snapshot {
    /// The first entry of each range: what [`SnapshotRead::keys`] asks for.
    pub fn into_firsts(self) -> impl Iterator<Item = Option<Entry>> {
        self.ranges
            .into_iter()
            .map(|range| range.entries.into_iter().next())
    }
}

/// The entries of one range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// Live entries, in the order asked for.
    pub entries: Vec<Entry>,
    /// Whether `bytes_max` (not `limit`) cut the range short.
    pub cut_by_bytes: bool,
}

//! What an import did, for people and for scripts.

use std::collections::BTreeMap;

use serde::Serialize;

/// Most names that a report lists of one kind; the rest is only counted.
pub const NAMES_MAX: usize = 50;

/// What an import did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Rows read from the source.
    pub rows: u64,
    /// Entries written.
    pub written: u64,
    /// Rows whose entry was there already and was left alone.
    pub skipped: u64,
    /// Rows that cannot be stored.
    pub refused: u64,
    /// Entries read back and compared with their rows.
    pub verified: u64,
    /// Entries that differ from their rows: written by others since, if they were skipped.
    pub differing: u64,
    /// Rows by owner, for a look at whether everybody came along.
    pub totals: BTreeMap<String, u64>,
    /// What somebody should know, with the names of rows.
    pub remarks: BTreeMap<&'static str, Remark>,
}

/// One kind of remark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// How many rows.
    pub count: u64,
    /// The first of them, at most [`NAMES_MAX`].
    pub names: Vec<String>,
}

/// Most owners that a report tells apart.
const TOTALS_MAX: usize = 10_000;

impl Report {
    /// Notes that `name` is of this kind.
    pub fn remark(&mut self, kind: &'static str, name: impl Into<String>) {
        let remark = self.remarks.entry(kind).or_default();
        remark.count += 1;
        if remark.names.len() < NAMES_MAX {
            remark.names.push(name.into());
        }
    }

    /// Counts a row of `owner`.
    pub fn total(&mut self, owner: String) {
        if self.totals.len() < TOTALS_MAX || self.totals.contains_key(&owner) {
            *self.totals.entry(owner).or_default() += 1;
        }
    }

    /// Whether every row has its entry.
    pub fn is_complete(&self) -> bool {
        self.refused == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_counts_are_not() {
        let mut report = Report::default();
        for name in 0..=NAMES_MAX {
            report.remark("odd", name.to_string());
        }
        let remark = &report.remarks["odd"];
        assert_eq!(
            (remark.count, remark.names.len()),
            (NAMES_MAX as u64 + 1, NAMES_MAX)
        );
    }
}

//! Which entries a list means.

use kvasir_kv::keyspace::Cursor;
use kvasir_kv::{Key, KeyRange};

use crate::error::ApiError;
use crate::query::Query;

use super::keypath;

/// A range below a prefix, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// The prefix: what the caller must be allowed to read.
    pub(super) prefix: Key,
    /// The keys meant, cursor included.
    pub(super) range: KeyRange,
    /// From the highest key to the lowest.
    pub(super) reverse: bool,
    /// Most entries; `None` for all.
    pub(super) limit: Option<usize>,
    /// Whether values are wanted beside the keys.
    pub(super) has_values: bool,
}

impl Selection {
    /// Reads `start`, `end`, `limit`, `cursor`, `reverse` and `values`.
    ///
    /// # Errors
    ///
    /// 400, naming the parameter.
    pub(super) fn read(prefix: Key, query: &Query<'_>) -> Result<Selection, ApiError> {
        let mut range = match prefix.is_empty() {
            // Nothing is below no prefix but everything is.
            true => KeyRange::starting_with(&prefix),
            false => KeyRange::below(&prefix),
        };
        if let Some(start) = keypath::of_query(query, "start")? {
            range.start = range.start.max(start);
        }
        if let Some(end) = keypath::of_query(query, "end")? {
            range.end = range.end.min(end);
        }
        let reverse = query.flag("reverse", false)?;
        let cursor = query.parsed("cursor", "the X-KV-Cursor of an earlier answer")?;
        match cursor {
            None => {}
            Some(Cursor(last)) if reverse => range.end = range.end.min(last),
            Some(Cursor(last)) => range.start = range.start.max(last.successor()),
        }
        let limit: Option<u32> = query.parsed("limit", "an integer from 1 to 4294967295")?;
        if limit == Some(0) {
            return Err(ApiError::bad_request(
                "the query parameter `limit` must be an integer from 1 to 4294967295",
            ));
        }
        Ok(Selection {
            prefix,
            range,
            reverse,
            limit: limit.map(|limit| limit as usize),
            has_values: query.flag("values", true)?,
        })
    }

    /// The part of the range up to and including `last`.
    pub(super) fn up_to(&self, last: &Key) -> KeyRange {
        let KeyRange { start, end } = self.range.clone();
        match self.reverse {
            true => KeyRange::new(last.clone(), end),
            false => KeyRange::new(start, last.successor()),
        }
    }
}

//! `/expiry`: how much falls due in each of the next hours.
//!
//! No backend keeps sums by hour, so the entries are read; a request reads some and says where to go
//! on, and the caller adds up. That way a keyspace of any size takes the memory of one page.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use kvasir_kv::keyspace::Cursor;
use kvasir_kv::{Key, RangeRead, SnapshotRead};
use serde::Serialize;
use utoipa::ToSchema;

use crate::context::Ctx;
use crate::error::ApiError;
use crate::query::Query;

use super::browse::Place;
use super::{Administrator, ok};

const HOUR_MS: i64 = 60 * 60 * 1000;

/// How far the calendar goes, in hours: a week.
const HOURS: i64 = 7 * 24;

/// Entries that one request looks at, at most.
const EXAMINED_MAX: usize = 10_000;

/// Entries that are read at once, and most bytes of them.
const STEP: usize = 512;
const STEP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A part of the calendar.
#[derive(Serialize, ToSchema)]
pub struct ExpiryPage {
    /// The hours in which something of this part falls due, in order.
    hours: Vec<DueHour>,
    /// Entries that expire later than that.
    later: u64,
    /// Entries that never expire.
    never: u64,
    /// Entries that were looked at.
    examined: usize,
    /// Where to go on, if there are more.
    cursor: Option<String>,
}

/// What falls due within an hour.
#[derive(Serialize, ToSchema)]
pub struct DueHour {
    /// When the hour begins, in milliseconds since 1970.
    from: i64,
    keys: u64,
    /// Bytes of keys and values.
    bytes: u64,
}

/// `GET /_/api/v1/expiry`: keys and bytes falling due per hour of the next seven days, page by page.
#[utoipa::path(
    get, path = "/_/api/v1/expiry", tag = "admin",
    params(
        ("keyspace" = String, Query, description = "where"),
        ("prefix" = Option<String>, Query, description = "an array of key parts as JSON"),
        ("cursor" = Option<String>, Query, description = "where the page before ended"),
    ),
    responses((status = 200, description = "a part of the calendar", body = ExpiryPage))
)]
pub(super) async fn calendar(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let place = Place::read(&ctx, &query)?;
    let cursor = query.parsed::<Cursor>("cursor", "the cursor of an earlier answer")?;
    let mut range = place.range();
    if let Some(Cursor(last)) = cursor {
        range.start = range.start.max(last.successor());
    }
    let end = (ctx.clock.now().0.div_euclid(HOUR_MS) + HOURS) * HOUR_MS;
    let mut hours: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    let (mut later, mut never, mut examined) = (0, 0, 0);
    let mut last: Option<Key> = None;
    let more = loop {
        let mut read = RangeRead::new(range.clone(), STEP);
        read.bytes_max = STEP_BYTES_MAX;
        let found = place.keyspace.read(SnapshotRead::range(read)).await?;
        let found = found.ranges.into_iter().next().unwrap_or_default();
        for entry in &found.entries {
            match entry.expires_at {
                None => never += 1,
                Some(at) if at.0 >= end => later += 1,
                Some(at) => {
                    let due = hours.entry(at.0.div_euclid(HOUR_MS) * HOUR_MS).or_default();
                    due.0 += 1;
                    due.1 += entry.cost_bytes() as u64;
                }
            }
        }
        examined += found.entries.len();
        let more = found.cut_by_bytes || found.entries.len() == STEP;
        if let Some(entry) = found.entries.last() {
            range.start = entry.key.successor();
            last = Some(entry.key.clone());
        }
        if !more || examined >= EXAMINED_MAX {
            break more;
        }
    };
    let hours = hours.into_iter();
    Ok(ok(ExpiryPage {
        hours: hours
            .map(|(from, (keys, bytes))| DueHour { from, keys, bytes })
            .collect(),
        later,
        never,
        examined,
        cursor: last.filter(|_| more).map(|last| Cursor(last).to_string()),
    }))
}

//! Takes over the original's table in the database in which our own store lives.
//!
//! A marker in the system keyspace says "begun" with two numbers from which every row gets a fixed
//! versionstamp, then "done". Whoever finds it begun and stalled writes the very same entries again.

use std::sync::Arc;

use anyhow::Context;
use kvasir_api::kopano::layout;
use kvasir_kv::{
    AtomicWrite, Clock, Key, Keyspace, KeyspaceName, Limits, Mutation, Outcome, Store, Value,
    Versionstamp,
};
use serde::{Deserialize, Serialize};

use super::{Fate, LegacyRow, ingest, judge, query, remark_dirty, verify};
use crate::moving::legacy::{self, Cell, Query, Source};
use crate::moving::report::Report;

/// Where the state of a take-over is kept, in the system keyspace of the store.
fn marker_key() -> Key {
    Key::from_strings(["kopano", "takeover"])
}

/// State of a take-over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum Marker {
    /// Somebody is at it. All rows get versionstamps from these two, so that a repetition writes
    /// the same entries again.
    Begun { base_micros: u64, id_max: i64 },
    /// It was done; never again.
    Done { documents: u64 },
}

/// How long a take-over by another process may stand still before it is continued, in ms.
const STALLED_MS: i64 = 30_000;

/// Pause between two looks at another process's take-over, in ms.
const LOOK_MS: i64 = 200;

/// Takes the legacy table `kv` of the database in which `store` lives over into `keyspace`: once,
/// in the order of writes, all or nothing as far as anybody can see, because the mount is not
/// served before this returns. The table stays as it is. `None` if there is nothing to do.
///
/// An interrupted take-over is continued; of several processes one does it, the others wait.
///
/// # Errors
///
/// If the table cannot be read or the store written.
pub async fn take_over(
    source: &Source,
    store: &Arc<dyn Store>,
    keyspace: &Keyspace,
    clock: &dyn Clock,
    limits: &Limits,
) -> anyhow::Result<Option<Report>> {
    let system = Keyspace::new(Arc::clone(store), KeyspaceName::system());
    if let Some((Marker::Done { .. }, _)) = read_marker(&system).await? {
        return Ok(None);
    }
    let tables = legacy::tables(source).await?;
    if !tables.iter().any(|table| table == "kv") {
        return Ok(None);
    }
    let Some((base_micros, id_max, mut held)) = begin(source, &system, clock).await? else {
        return Ok(None);
    };
    let mut report = Report::default();
    remark_dirty(source, &mut report).await?;
    let mut pieces = legacy::read(source, query(source.kind()));
    while let Some(piece) = pieces.recv().await {
        let mut entries = Vec::new();
        for row in piece? {
            let row = LegacyRow::from_row(row)?;
            report.rows += 1;
            if let Fate::Store(owner, document) = judge(&row, limits, &mut report) {
                let micros = base_micros.saturating_add_signed(row.id.saturating_sub(id_max));
                let stamp = Versionstamp::new(micros, 0);
                entries.extend(layout::imported(&owner, &row.key, &document, stamp, 0));
                report.written += 1;
            }
        }
        // Also tells others that this goes on; fails if one of them has taken it away.
        held = mark(
            &system,
            held,
            &Marker::Begun {
                base_micros,
                id_max,
            },
        )
        .await?;
        ingest(keyspace, entries).await?;
    }
    verify(source, keyspace, limits, &mut report).await?;
    let documents = report.written;
    mark(&system, held, &Marker::Done { documents }).await?;
    Ok(Some(report))
}

/// Becomes the one that does it; `None` if another has done it meanwhile.
async fn begin(
    source: &Source,
    system: &Keyspace,
    clock: &dyn Clock,
) -> anyhow::Result<Option<(u64, i64, Versionstamp)>> {
    loop {
        match read_marker(system).await? {
            Some((Marker::Done { .. }, _)) => return Ok(None),
            Some((
                Marker::Begun {
                    base_micros,
                    id_max,
                },
                stamp,
            )) => {
                let now = clock.now();
                if now.0 - stamp.time().0 > STALLED_MS {
                    let marker = Marker::Begun {
                        base_micros,
                        id_max,
                    };
                    let held = mark(system, stamp, &marker).await?;
                    return Ok(Some((base_micros, id_max, held)));
                }
                clock
                    .sleep_until(kvasir_kv::UnixMillis(now.0 + LOOK_MS))
                    .await;
            }
            None => {
                let base_micros = clock.now_micros();
                let id_max = id_max(source).await?;
                let marker = Marker::Begun {
                    base_micros,
                    id_max,
                };
                let write = AtomicWrite::new()
                    .check_absent(marker_key())
                    .push(Mutation::set(marker_key(), marker.to_value()?));
                // Otherwise another was faster; look again.
                if let Outcome::Committed(committed) = system.commit(write).await? {
                    return Ok(Some((base_micros, id_max, committed.versionstamp)));
                }
            }
        }
    }
}

async fn id_max(source: &Source) -> anyhow::Result<i64> {
    let query = Query {
        tables: vec!["kv"],
        statements: vec!["SELECT MAX(id) FROM kv".into()],
    };
    let mut pieces = legacy::read(source, query);
    let mut found = 0;
    while let Some(piece) = pieces.recv().await {
        for row in piece? {
            found = row.get(1).and_then(Cell::integer).unwrap_or(0);
        }
    }
    Ok(found)
}

impl Marker {
    fn to_value(&self) -> anyhow::Result<Value> {
        Ok(Value::json(serde_json::to_vec(self)?))
    }
}

async fn read_marker(system: &Keyspace) -> anyhow::Result<Option<(Marker, Versionstamp)>> {
    let Some(entry) = system.get(&marker_key()).await? else {
        return Ok(None);
    };
    let marker = serde_json::from_slice(&entry.value.bytes)
        .context("the state of the take-over is not readable")?;
    Ok(Some((marker, entry.versionstamp)))
}

async fn mark(
    system: &Keyspace,
    held: Versionstamp,
    marker: &Marker,
) -> anyhow::Result<Versionstamp> {
    let write = AtomicWrite::new()
        .check(marker_key(), held)
        .push(Mutation::set(marker_key(), marker.to_value()?));
    match system.commit(write).await? {
        Outcome::Committed(committed) => Ok(committed.versionstamp),
        Outcome::Conflict { .. } => {
            anyhow::bail!("another process has continued the take-over; start this one again")
        }
    }
}

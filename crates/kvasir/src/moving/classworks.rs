//! Values and devices of the original Classworks KV server.
//!
//! Tables `KVStore` and `Device` in SQLite, MySQL or PostgreSQL; releases since October 2025 key
//! values by a device's number instead of its name. Times, creators, names, hints and password
//! hashes come along, and so does the reserved namespace.

use anyhow::Context;
use bytes::Bytes;
use kvasir_api::classworks::layout::{self, AccessType, Device};
use kvasir_kv::limits::KEY_BYTES_MAX;
use kvasir_kv::{Entry, Keyspace, Limits, SnapshotRead, UnixMillis};

use super::legacy::{self, Cell, Kind, Query, Row, Source};
use super::report::Report;

/// The namespace of the site's own configuration.
const RESERVED: &str = "00000000-0000-4000-8000-000000000000";

/// How an import treats what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Write nothing.
    pub dry_run: bool,
    /// Replace entries that exist instead of skipping their rows.
    pub overwrite: bool,
}

/// Where the two kinds of entries go.
#[derive(Clone, Debug)]
pub struct Target {
    /// The mount's keyspace, for values.
    pub values: Keyspace,
    /// The system keyspace, for devices and the reserved namespace.
    pub system: Keyspace,
}

/// Which of the two statements a row is of.
const VALUES: i64 = 0;

/// Moves everything in `source` into `target`. Rows whose entry exists are skipped unless told
/// otherwise, so it may be repeated. `progress` is told the rows so far.
///
/// # Errors
///
/// If the source cannot be read or the store written. What was written stays; run it again.
pub async fn import(
    source: &Source,
    target: &Target,
    limits: &Limits,
    options: Options,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<Report> {
    let mut report = Report {
        dry_run: options.dry_run,
        ..Report::default()
    };
    let query = query(source).await?;
    let mut pieces = legacy::read(source, query.clone());
    while let Some(piece) = pieces.recv().await {
        let mut wanted = Vec::new();
        for row in piece? {
            report.rows += 1;
            wanted.extend(entry(row, target, limits, &mut report)?);
        }
        let found = existing(target, &wanted).await?;
        let mut entries = Vec::new();
        for (entry, found) in wanted.into_iter().zip(found) {
            if found.is_some() && !options.overwrite {
                report.skipped += 1;
            } else {
                report.written += 1;
                entries.push(entry);
            }
        }
        if !options.dry_run {
            target.values.store().ingest(entries).await?;
        }
        progress(report.rows);
    }
    if !options.dry_run {
        verify(source, query, target, limits, &mut report).await?;
    }
    Ok(report)
}

/// Reads the source again and compares every entry.
async fn verify(
    source: &Source,
    query: Query,
    target: &Target,
    limits: &Limits,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut pieces = legacy::read(source, query);
    while let Some(piece) = pieces.recv().await {
        let mut wanted = Vec::new();
        for row in piece? {
            // The remarks were made the first time.
            wanted.extend(entry(row, target, limits, &mut Report::default())?);
        }
        let found = existing(target, &wanted).await?;
        for (entry, found) in wanted.iter().zip(found) {
            report.verified += 1;
            let is_same = found.is_some_and(|found| {
                (&found.value, found.created_at()) == (&entry.value, entry.created_at())
            });
            if !is_same {
                report.differing += 1;
                report.remark("that differ from the source", format!("{:?}", entry.key));
            }
        }
    }
    Ok(())
}

/// The stored entries of the wanted keys, which are stored keys already.
async fn existing(target: &Target, wanted: &[Entry]) -> anyhow::Result<Vec<Option<Entry>>> {
    let keys = wanted.iter().map(|entry| entry.key.clone());
    let snapshot = target.values.store().read(SnapshotRead::keys(keys)).await?;
    Ok(snapshot.into_firsts().collect())
}

/// The statements for this source: values, then devices if there are any.
async fn query(source: &Source) -> anyhow::Result<Query> {
    let kind = source.kind();
    let tables = legacy::tables(source).await?;
    // MySQL on some systems keeps table names in lower case.
    let name = |wanted: &'static str| {
        tables
            .iter()
            .find(|table| table.eq_ignore_ascii_case(wanted))
            .cloned()
    };
    let values = name("KVStore").context(
        "there is no table KVStore in the source: is it the database of a Classworks KV server?",
    )?;
    let devices = name("Device");
    let columns = legacy::columns(source, "KVStore").await?;
    let by_device = columns.iter().any(|column| column == "deviceId");
    let quote = |name: &str| match kind {
        Kind::MySql => format!("`{name}`"),
        Kind::Sqlite | Kind::Postgres => format!("\"{name}\""),
    };
    let text = |column: String| match kind {
        Kind::Sqlite => format!("CAST({column} AS TEXT)"),
        Kind::MySql => format!("CAST({column} AS CHAR)"),
        Kind::Postgres => format!("({column})::text"),
    };
    let time = |column: String| match kind {
        Kind::Sqlite => column,
        Kind::MySql => format!("CAST(ROUND(UNIX_TIMESTAMP({column}) * 1000) AS SIGNED)"),
        Kind::Postgres => format!("(EXTRACT(EPOCH FROM {column}) * 1000)::bigint"),
    };
    let of = |table: &str, column: &str| format!("{table}.{}", quote(column));
    let joined = |table: &str| match &devices {
        Some(devices) if by_device => format!(
            "{} v JOIN {} d ON d.{} = v.{}",
            quote(table),
            quote(devices),
            quote("id"),
            quote("deviceId")
        ),
        _ => format!("{} v", quote(table)),
    };
    let namespace = if by_device {
        of("d", "uuid")
    } else {
        of("v", "namespace")
    };
    // Not noted before release 1.0.0.
    let creator = if columns.iter().any(|column| column == "creatorIp") {
        text(of("v", "creatorIp"))
    } else {
        "NULL".to_owned()
    };
    let mut statements = vec![format!(
        "SELECT {}, {}, {}, {}, {}, {} FROM {} ORDER BY 1, 2",
        text(namespace),
        text(of("v", "key")),
        text(of("v", "value")),
        creator,
        time(of("v", "createdAt")),
        time(of("v", "updatedAt")),
        joined(&values),
    )];
    if let Some(table) = &devices {
        let columns = legacy::columns(source, "Device").await?;
        let has = |name: &str| columns.iter().any(|column| column == name);
        // A later release knows no access types.
        let access = if has("accessType") {
            text(of("d", "accessType"))
        } else {
            "NULL".to_owned()
        };
        statements.push(format!(
            "SELECT {}, {}, {}, {}, {access}, {} FROM {} d ORDER BY 1",
            text(of("d", "uuid")),
            text(of("d", "password")),
            text(of("d", "passwordHint")),
            text(of("d", "name")),
            time(of("d", "updatedAt")),
            quote(table),
        ));
    }
    Ok(Query {
        tables: Vec::new(),
        statements,
    })
}

/// The entry of a row, under its stored key.
fn entry(
    row: Row,
    target: &Target,
    limits: &Limits,
    report: &mut Report,
) -> anyhow::Result<Option<Entry>> {
    let [statement, a, b, c, d, e, f] = <[Cell; 7]>::try_from(row)
        .map_err(|row| anyhow::anyhow!("a row of the source has {} columns", row.len()))?;
    if statement == Cell::Integer(VALUES) {
        value_entry([a, b, c, d, e, f], target, limits, report)
    } else {
        device_entry([a, b, c, d, e, f], target, report)
    }
}

fn value_entry(
    [namespace, key, value, creator, created_at, updated_at]: [Cell; 6],
    target: &Target,
    limits: &Limits,
    report: &mut Report,
) -> anyhow::Result<Option<Entry>> {
    let (namespace, key) = (namespace.into_text(), key.into_text());
    let name = format!("{namespace}/{key}");
    report.total(namespace.clone());
    let value = value.into_bytes();
    if serde_json::from_slice::<serde::de::IgnoredAny>(&value).is_err() {
        report.refused += 1;
        report.remark("whose value is not JSON, left out", name);
        return Ok(None);
    }
    let created_at = millis(&created_at).with_context(|| format!("createdAt of {name}"))?;
    let updated_at = millis(&updated_at).with_context(|| format!("updatedAt of {name}"))?;
    let (keyspace, short) = if namespace == RESERVED {
        (&target.system, layout::site_key(&key))
    } else {
        (&target.values, layout::value_key(&namespace, &key))
    };
    if short.len() > KEY_BYTES_MAX || value.len() > limits.value_bytes_max {
        report.refused += 1;
        report.remark("too large for the store, left out", name);
        return Ok(None);
    }
    let stored = keyspace.stored_key(&short);
    let creator = creator.into_text();
    Ok(Some(layout::value_entry(
        stored,
        Bytes::from(value),
        &creator,
        created_at,
        updated_at,
    )))
}

fn device_entry(
    [uuid, password, hint, name, access, updated_at]: [Cell; 6],
    target: &Target,
    report: &mut Report,
) -> anyhow::Result<Option<Entry>> {
    let uuid = uuid.into_text();
    let text = |cell: Cell| Some(cell.into_text()).filter(|text| !text.is_empty());
    let device = Device {
        name: text(name),
        set_access_type: match text(access).as_deref() {
            Some("PRIVATE") => AccessType::Private,
            Some("PROTECTED") => AccessType::Protected,
            _ => AccessType::Public,
        },
        password: text(password),
        password_hint: text(hint),
        ..Device::default()
    };
    if device
        .password
        .as_deref()
        .is_some_and(|hash| !hash.starts_with("$2"))
    {
        report.remark(
            "device whose password hash is of an unknown kind",
            uuid.clone(),
        );
    }
    if device == Device::default() {
        // The original makes a row for every namespace that somebody looked at.
        return Ok(None);
    }
    let updated_at = millis(&updated_at).with_context(|| format!("updatedAt of device {uuid}"))?;
    let mut entry = layout::device_entry(&uuid, &device, updated_at);
    entry.key = target.system.stored_key(&entry.key);
    if entry.key.len() > KEY_BYTES_MAX {
        report.refused += 1;
        report.remark("device whose name is too long, left out", uuid);
        return Ok(None);
    }
    Ok(Some(entry))
}

/// A time as any of the originals has it: milliseconds, or text with or without a zone.
fn millis(cell: &Cell) -> anyhow::Result<UnixMillis> {
    if let Some(number) = cell.integer() {
        return Ok(UnixMillis(number.max(0)));
    }
    let Cell::Bytes(bytes) = cell else {
        anyhow::bail!("the time is missing")
    };
    let text = std::str::from_utf8(bytes).context("the time is not text")?;
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(UnixMillis(at.as_millisecond().max(0)));
    }
    let local: jiff::civil::DateTime = text
        .parse()
        .with_context(|| format!("{text:?} is no time"))?;
    let at = local.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp();
    Ok(UnixMillis(at.as_millisecond().max(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form_of_the_originals() {
        let text = |text: &str| Cell::Bytes(text.as_bytes().to_vec());
        let expected = UnixMillis(1_748_090_501_000);
        for cell in [
            Cell::Integer(1_748_090_501_000),
            text("1748090501000"),
            text("2025-05-24 12:41:41"),
            text("2025-05-24T12:41:41.000Z"),
            text("2025-05-24T14:41:41+02:00"),
        ] {
            assert_eq!(millis(&cell).unwrap(), expected, "{cell:?}");
        }
        assert!(millis(&text("yesterday")).is_err());
        assert!(millis(&Cell::Null).is_err());
    }
}

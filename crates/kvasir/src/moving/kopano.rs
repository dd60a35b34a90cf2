//! Documents of the original Kopano kvs daemon.
//!
//! Its one table, `kv`, is read in the order of `id`, which every write renews, so that listings
//! keep their order across the move. [`import`] moves them into any store; [`take_over`] does it
//! once at start for a mount that lives in the original's own database.

use anyhow::Context;
use bytes::Bytes;
use kvasir_api::kopano::layout::{self, Document, Owner, REALM};
use kvasir_kv::limits::{KEY_BYTES_MAX, META_BYTES_MAX};
use kvasir_kv::{
    AtomicWrite, Clock, Entry, Keyspace, Limits, Mutation, SnapshotRead, Versionstamp,
};

use super::legacy::{self, Cell, Kind, Query, Row, Source};
use super::report::Report;

mod take_over;

pub use take_over::take_over;

/// Largest value that the dialect itself takes, in bytes; the original's batches take more.
const VALUE_BYTES_USUAL: usize = 16 * 1024;

/// How an import treats what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Write nothing.
    pub dry_run: bool,
    /// Replace documents that exist instead of skipping their rows.
    pub overwrite: bool,
}

/// A row of the original.
#[derive(Clone, Debug)]
struct LegacyRow {
    id: i64,
    collection: String,
    key: String,
    value: Vec<u8>,
    content_type: String,
    owner: String,
    client: String,
    realm: String,
    required_scopes: String,
}

impl LegacyRow {
    fn from_row(row: Row) -> anyhow::Result<LegacyRow> {
        let [
            _,
            id,
            collection,
            key,
            value,
            content_type,
            owner,
            client,
            realm,
            scopes,
        ] = <[Cell; 10]>::try_from(row)
            .map_err(|row| anyhow::anyhow!("a row of kv has {} columns", row.len()))?;
        Ok(LegacyRow {
            id: id.integer().context("a row of kv has no id")?,
            collection: collection.into_text(),
            key: key.into_text(),
            value: value.into_bytes(),
            content_type: content_type.into_text(),
            owner: owner.into_text(),
            client: client.into_text(),
            realm: realm.into_text(),
            required_scopes: scopes.into_text(),
        })
    }

    fn owner(&self) -> Owner {
        Owner {
            user: self.owner.clone(),
            client: self.client.clone(),
        }
    }

    /// For remarks. Keys are the operator's own data, on the operator's own terminal.
    fn name(&self) -> String {
        format!("{}/{}: {}", self.owner, self.client, self.key)
    }
}

fn query(kind: Kind) -> Query {
    // MySQL would compare and convert text; the bytes are what counts.
    let text = match kind {
        Kind::MySql => {
            "SELECT id, CAST(collection AS BINARY), CAST(ekey AS BINARY), value, \
             CAST(content_type AS BINARY), CAST(owner_id AS BINARY), CAST(client_id AS BINARY), \
             CAST(realm AS BINARY), CAST(required_scopes AS BINARY) FROM kv ORDER BY id"
        }
        Kind::Sqlite | Kind::Postgres => {
            "SELECT id, collection, ekey, value, content_type, owner_id, client_id, realm, \
             required_scopes FROM kv ORDER BY id"
        }
    };
    Query {
        tables: vec!["kv"],
        statements: vec![text.to_owned()],
    }
}

/// What becomes of a row.
enum Fate {
    /// It is stored as this document.
    Store(Owner, Document),
    /// It is left out, and the report says why.
    LeaveOut,
}

/// Judges a row and remarks what somebody should know.
fn judge(row: &LegacyRow, limits: &Limits, report: &mut Report) -> Fate {
    report.total(format!("{} {} {}", row.realm, row.owner, row.client));
    if row.realm != REALM {
        report.remark("of another realm than user, left out", row.name());
        return Fate::LeaveOut;
    }
    if !row.required_scopes.is_empty() {
        report.remark("with required scopes, which are not kept", row.name());
    }
    let (collection, _) = layout::split(&row.key);
    if collection != row.collection {
        report.remark("whose collection column differs from the key", row.name());
    }
    if is_unreachable(&row.key) {
        report.remark("with a key that no request can reach", row.name());
    }
    if row.value.len() > VALUE_BYTES_USUAL {
        report.remark("larger than 16 KiB", row.name());
    }
    let mut content_type = (!row.content_type.is_empty()).then(|| row.content_type.clone());
    let claims_json = content_type.as_deref().is_some_and(layout::is_json);
    if claims_json && serde_json::from_slice::<serde::de::IgnoredAny>(&row.value).is_err() {
        report.remark("of a JSON type but not JSON, stored as bytes", row.name());
        content_type = Some("application/octet-stream".into());
    }
    let document = Document {
        content_type,
        bytes: Bytes::from(row.value.clone()),
    };
    let owner = row.owner();
    let index_key = layout::order_key(&owner, collection, Versionstamp::ZERO, 0);
    let fits = layout::document_key(&owner, &row.key).len() <= KEY_BYTES_MAX
        && index_key.len() <= KEY_BYTES_MAX
        && row.value.len() <= limits.value_bytes_max
        && row.content_type.len() <= META_BYTES_MAX - 64;
    if !fits {
        report.refused += 1;
        report.remark("too large for the store, left out", row.name());
        return Fate::LeaveOut;
    }
    Fate::Store(owner, document)
}

fn is_unreachable(key: &str) -> bool {
    key.is_empty()
        || key.starts_with('/')
        || key.contains("//")
        || key
            .split('/')
            .any(|segment| segment == "." || segment == "..")
}

/// Moves the documents of `source` into `keyspace`. Rows whose document exists are skipped unless
/// told otherwise, so it may be repeated. `progress` is told the rows so far.
///
/// # Errors
///
/// If the source cannot be read or the store written. What was written stays; run it again.
pub async fn import(
    source: &Source,
    keyspace: &Keyspace,
    clock: &dyn Clock,
    limits: &Limits,
    options: Options,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<Report> {
    let mut report = Report {
        dry_run: options.dry_run,
        ..Report::default()
    };
    remark_dirty(source, &mut report).await?;
    let newest = keyspace.store().versionstamp().await?;
    let mut micros = clock.now_micros().max(newest.micros() + 1);
    let mut pieces = legacy::read(source, query(source.kind()));
    while let Some(piece) = pieces.recv().await {
        let mut wanted = Vec::new();
        for row in piece? {
            let row = LegacyRow::from_row(row)?;
            report.rows += 1;
            if let Fate::Store(owner, document) = judge(&row, limits, &mut report) {
                wanted.push((owner, row.key, document));
            }
        }
        let found = existing(keyspace, &wanted).await?;
        let mut outdated = AtomicWrite::new();
        let mut entries = Vec::new();
        for ((owner, key, document), found) in wanted.iter().zip(found) {
            match found {
                Some(_) if !options.overwrite => {
                    report.skipped += 1;
                    continue;
                }
                Some(entry) => {
                    let place = layout::place(&entry);
                    let (collection, _) = index_parts(key);
                    let index = layout::order_key(owner, collection, entry.versionstamp, place);
                    outdated = outdated.push(Mutation::delete(index));
                }
                None => {}
            }
            micros += 1;
            let stamp = Versionstamp::new(micros, 0);
            entries.extend(layout::imported(owner, key, document, stamp, 0));
            report.written += 1;
        }
        if !options.dry_run {
            if !outdated.mutations.is_empty() {
                keyspace.commit(outdated).await?;
            }
            ingest(keyspace, entries).await?;
        }
        progress(report.rows);
    }
    if !options.dry_run {
        verify(source, keyspace, limits, &mut report).await?;
    }
    Ok(report)
}

/// Collection and rest as the index has them.
fn index_parts(key: &str) -> (&str, &str) {
    if key.starts_with('/') {
        ("", key)
    } else {
        layout::split(key)
    }
}

async fn existing(
    keyspace: &Keyspace,
    wanted: &[(Owner, String, Document)],
) -> anyhow::Result<Vec<Option<Entry>>> {
    let keys = wanted
        .iter()
        .map(|(owner, key, _)| layout::document_key(owner, key));
    let snapshot = keyspace.read(SnapshotRead::keys(keys)).await?;
    Ok(snapshot.into_firsts().collect())
}

async fn ingest(keyspace: &Keyspace, entries: Vec<Entry>) -> anyhow::Result<()> {
    let stored = entries.into_iter().map(|mut entry| {
        entry.key = keyspace.stored_key(&entry.key);
        entry
    });
    keyspace.store().ingest(stored.collect()).await?;
    Ok(())
}

/// Reads the source again and compares every document.
async fn verify(
    source: &Source,
    keyspace: &Keyspace,
    limits: &Limits,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut pieces = legacy::read(source, query(source.kind()));
    while let Some(piece) = pieces.recv().await {
        let mut wanted = Vec::new();
        for row in piece? {
            let row = LegacyRow::from_row(row)?;
            // The remarks were made the first time.
            if let Fate::Store(owner, document) = judge(&row, limits, &mut Report::default()) {
                wanted.push((owner, row.key, document));
            }
        }
        let found = existing(keyspace, &wanted).await?;
        for ((owner, key, document), found) in wanted.iter().zip(found) {
            report.verified += 1;
            if found.as_ref().map(layout::document).as_ref() != Some(document) {
                report.differing += 1;
                report.remark(
                    "that differ from the source",
                    format!("{}: {key}", owner.user),
                );
            }
        }
    }
    Ok(())
}

/// The original marks its database while its own migration runs.
async fn remark_dirty(source: &Source, report: &mut Report) -> anyhow::Result<()> {
    let tables = legacy::tables(source).await?;
    if !tables.iter().any(|table| table == "schema_migrations") {
        return Ok(());
    }
    let query = Query {
        tables: Vec::new(),
        statements: vec!["SELECT version, dirty FROM schema_migrations".into()],
    };
    let mut pieces = legacy::read(source, query);
    while let Some(piece) = pieces.recv().await {
        for mut row in piece? {
            let dirty = row.pop().unwrap_or(Cell::Null).into_text();
            if !matches!(dirty.as_str(), "" | "0" | "false") {
                report.remark(
                    "migration left unfinished by the original",
                    "schema_migrations",
                );
            }
        }
    }
    Ok(())
}

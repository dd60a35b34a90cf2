//! The tables and how a file is opened. Documented for operators in `docs/backends.md`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction};

use crate::open::OpenError;

/// Version of the tables, kept in `kv_schema`.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// One step per version: the statements that lead from the version before to this one.
const MIGRATIONS: [&str; SCHEMA_VERSION as usize] = ["
    CREATE TABLE kv_entry (
        k   BLOB PRIMARY KEY,
        v   BLOB NOT NULL,
        vs  BLOB NOT NULL,
        exp INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX kv_entry_exp ON kv_entry (exp) WHERE exp IS NOT NULL;
    CREATE TABLE kv_state (
        id   INTEGER PRIMARY KEY CHECK (id = 1),
        last BLOB NOT NULL
    );
    INSERT INTO kv_state (id, last) VALUES (1, zeroblob(10));
"];

/// Longest wait for another program that holds a lock on the file.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// Page cache of the writing connection, in KiB (a negative number means KiB to SQLite).
const CACHE_KIB: i64 = -32 * 1024;

/// The WAL is cut back to this after a checkpoint, in bytes.
const WAL_KEPT_BYTES: i64 = 64 * 1024 * 1024;

/// Opens a file for writing, creating file and tables where they are missing.
pub(super) fn open(path: &Path, keeps_foreign_tables: bool) -> Result<Connection, OpenError> {
    let explain = |error| explain(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(explain)?;
    connection.busy_timeout(BUSY_MAX).map_err(explain)?;
    // Looks into the file for the first time, before anything in it is changed.
    let found = version(&connection).map_err(explain)?;
    if let Some(found) = found.filter(|found| *found > SCHEMA_VERSION) {
        return Err(OpenError::NewerFormat {
            path: path.to_owned(),
            found,
            known: SCHEMA_VERSION,
        });
    }
    if found.is_none() {
        refuse_foreign(&connection, path, keeps_foreign_tables)?;
    }
    configure(&connection).map_err(explain)?;
    migrate(&mut connection, found.unwrap_or(0)).map_err(explain)?;
    Ok(connection)
}

/// Opens a file for reading.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_MAX)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let reason = format!("the file cannot be used in WAL mode (it stays in {mode} mode)");
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(reason),
        ));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    // Answers with a row, unlike the others.
    connection.query_row(
        &format!("PRAGMA journal_size_limit = {WAL_KEPT_BYTES}"),
        [],
        |_| Ok(()),
    )
}

/// The version of our tables in the file, if they are there.
fn version(connection: &Connection) -> rusqlite::Result<Option<u32>> {
    if !has_table(connection, "kv_schema")? {
        return Ok(None);
    }
    connection
        .query_row("SELECT version FROM kv_schema", [], |row| row.get(0))
        .optional()
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    let found = connection.query_row(sql, [name], |_| Ok(())).optional()?;
    Ok(found.is_some())
}

fn refuse_foreign(
    connection: &Connection,
    path: &Path,
    keeps_foreign_tables: bool,
) -> Result<(), OpenError> {
    let explain = |error| explain(path, error);
    let sql = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name";
    let mut statement = connection.prepare(sql).map_err(explain)?;
    let names = statement
        .query_map([], |row| row.get::<_, String>(0))
        .map_err(explain)?;
    let names = names
        .collect::<rusqlite::Result<Vec<_>>>()
        .map_err(explain)?;
    let ours = ["kv_entry", "kv_schema", "kv_state"];
    let clash = names.iter().any(|name| ours.contains(&name.as_str()));
    if clash || (!names.is_empty() && !keeps_foreign_tables) {
        return Err(OpenError::Unusable {
            what: format!(
                "{} holds tables of another program ({})",
                path.display(),
                names.join(", ")
            ),
            remedy: "name another file; `kvasir import` moves data in from other programs".into(),
        });
    }
    Ok(())
}

/// Runs the missing steps, each in a transaction of its own, so that a crash in between is harmless.
fn migrate(connection: &mut Connection, from: u32) -> rusqlite::Result<()> {
    for (version, statements) in (1..).zip(MIGRATIONS).skip(from as usize) {
        let transaction: Transaction<'_> = connection.transaction()?;
        transaction.execute_batch(statements)?;
        transaction
            .execute_batch("CREATE TABLE IF NOT EXISTS kv_schema (version INTEGER NOT NULL)")?;
        transaction.execute("DELETE FROM kv_schema", [])?;
        transaction.execute("INSERT INTO kv_schema (version) VALUES (?1)", [version])?;
        transaction.commit()?;
    }
    Ok(())
}

/// What an operator is told.
pub(super) fn explain(path: &Path, error: rusqlite::Error) -> OpenError {
    let unusable = |what: &str, remedy: &str| OpenError::Unusable {
        what: format!("{} {what}", path.display()),
        remedy: remedy.to_owned(),
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => unusable(
            "is no SQLite file",
            "name another file; this one was not changed",
        ),
        Some(ErrorCode::CannotOpen) => unusable(
            "cannot be opened",
            "check that its folder exists and that you may write there",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => unusable(
            "is read-only",
            "give this user the right to write file and folder",
        ),
        Some(ErrorCode::DiskFull) => unusable("has no space left on its disk", "free some"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => unusable(
            "is locked by another program",
            "end that program's transaction, or the program",
        ),
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged {
            file: path.to_owned(),
            offset: 0,
            what: "SQLite finds it malformed".into(),
        },
        _ => OpenError::Engine(Arc::new(error)),
    }
}

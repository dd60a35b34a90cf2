//! The writing connection, as the group committer uses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvasir_kv::{Cause, Entry, Error, Key, Result, UnixMillis, Versionstamp};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::file::{self, FileLock};
use crate::group::{Due, Engine, Group, Space};
use crate::record;

/// Bytes that stay free for the WAL of writes already accepted, for sweeps and deletes: the largest
/// group, twice, as it goes into the WAL and then into the file.
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes below which nothing is written any more: a delete, too, goes into the WAL first.
const LAST_BYTES: u64 = 16 * 1024 * 1024;

pub(super) struct SqliteEngine {
    connection: Connection,
    path: PathBuf,
    /// Given up after the connection, when the last write is done; after a failed commit only with
    /// the process.
    _lock: FileLock,
}

impl SqliteEngine {
    pub(super) fn new(connection: Connection, path: &Path, lock: FileLock) -> SqliteEngine {
        SqliteEngine {
            connection,
            path: path.to_owned(),
            _lock: lock,
        }
    }

    /// The newest versionstamp of the file.
    pub(super) fn last(&self) -> rusqlite::Result<Versionstamp> {
        last(&self.connection)
    }

    /// The nearest expiry after `now`.
    pub(super) fn next_expiry(&self, now: UnixMillis) -> rusqlite::Result<Option<UnixMillis>> {
        let sql = "SELECT exp FROM kv_entry WHERE exp > ?1 ORDER BY exp LIMIT 1";
        let found = self
            .prepare(sql)?
            .query_row([now.0], |row| row.get(0))
            .optional()?;
        Ok(found.map(UnixMillis))
    }

    fn prepare(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql)
    }

    fn find_due(&self, now: UnixMillis, limit: usize) -> rusqlite::Result<Due> {
        let sql = "SELECT k FROM kv_entry WHERE exp <= ?1 ORDER BY exp LIMIT ?2";
        let mut statement = self.prepare(sql)?;
        let limit_rows = i64::try_from(limit).unwrap_or(i64::MAX);
        let keys = statement.query_map(params![now.0, limit_rows], |row| {
            Ok(Key::new(row.get::<_, Vec<u8>>(0)?))
        })?;
        let keys = keys.collect::<rusqlite::Result<Vec<_>>>()?;
        // If the limit cut it short, the rest is due already.
        let next = if keys.len() >= limit {
            Some(now)
        } else {
            self.next_expiry(now)?
        };
        Ok(Due {
            keys,
            spent: Vec::new(),
            next,
        })
    }

    fn write(&self, group: &Group) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        {
            let mut upsert = self.prepare(
                "INSERT INTO kv_entry (k, v, vs, exp) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (k) DO UPDATE SET v = excluded.v, vs = excluded.vs, exp = excluded.exp",
            )?;
            let mut remove = self.prepare("DELETE FROM kv_entry WHERE k = ?1")?;
            for change in &group.changes {
                let key = change.key.as_bytes();
                match &change.after {
                    Some(entry) => upsert.execute(params![
                        key,
                        record::encode(entry),
                        entry.versionstamp.as_bytes().as_slice(),
                        entry.expires_at.map(|at| at.0),
                    ])?,
                    None => remove.execute([key])?,
                };
            }
            let mut state = self.prepare("UPDATE kv_state SET last = ?1 WHERE id = 1")?;
            state.execute([group.last.as_bytes().as_slice()])?;
        }
        self.connection.execute_batch("COMMIT")
    }
}

/// The newest versionstamp that a connection sees.
pub(super) fn last(connection: &Connection) -> rusqlite::Result<Versionstamp> {
    let mut statement = connection.prepare_cached("SELECT last FROM kv_state WHERE id = 1")?;
    let bytes: [u8; 10] = statement.query_row([], |row| row.get(0))?;
    Ok(Versionstamp::from_bytes(bytes))
}

/// A failed read, as a caller sees it.
pub(super) fn read_failed(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            Error::Corrupt(error.to_string())
        }
        _ => Error::Unavailable(Arc::new(error)),
    }
}

impl Engine for SqliteEngine {
    fn load(&mut self, key: &Key) -> Result<Option<Entry>> {
        let sql = "SELECT v FROM kv_entry WHERE k = ?1";
        let mut statement = self.prepare(sql).map_err(read_failed)?;
        let mut rows = statement.query([key.as_bytes()]).map_err(read_failed)?;
        let Some(row) = rows.next().map_err(read_failed)? else {
            return Ok(None);
        };
        let bytes = row.get_ref(0).map_err(read_failed)?;
        let bytes = bytes.as_blob().map_err(|error| {
            Error::Corrupt(format!("the record of {key:?} is no blob: {error}"))
        })?;
        record::decode(key, bytes).map(Some)
    }

    fn due(&mut self, now: UnixMillis, limit: usize) -> Result<Due> {
        self.find_due(now, limit).map_err(read_failed)
    }

    fn space(&mut self) -> Space {
        match file::free_bytes(&self.path) {
            Some(free) if free < LAST_BYTES => Space::None,
            Some(free) if free < RESERVE_BYTES => Space::Low,
            _ => Space::Enough,
        }
    }

    fn apply(&mut self, group: &Group) -> Result<(), Cause> {
        self.write(group).map_err(|error| Arc::new(error) as Cause)
    }

    /// Readers see a commit as soon as it is in the WAL.
    fn publish(&mut self, _group: &Group) {}

    fn close(&mut self) -> Result<(), Cause> {
        // Leaves one file. Readers that are still busy only keep the WAL from being emptied.
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.connection
            .query_row(sql, [], |_| Ok(()))
            .map_err(|error| Arc::new(error) as Cause)
    }
}

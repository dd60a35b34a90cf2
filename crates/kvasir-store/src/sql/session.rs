//! What the shared code asks of one connection, whatever protocol it speaks.
//!
//! The two implementations, `mysql.rs` and `postgres.rs`, hold every SQL text. A session is used by
//! one task at a time; one on which a step failed or was given up is dropped, never used again.

use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kvasir_kv::{Key, KeyRange, UnixMillis, Versionstamp};

use super::address::{Address, Protocol, Server};
use super::fault::Fault;
use super::{mysql, postgres};

/// Longest a connection may take from the first packet to the end of the session's set-up.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A row of `kv_entry`.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) key: Key,
    /// The record, unless it was not asked for.
    pub(crate) record: Option<Bytes>,
    pub(crate) stamp: Versionstamp,
    pub(crate) expires_at: Option<UnixMillis>,
}

/// A row of `kv_log`: what one batch did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogRow {
    /// The batch's reading of the sequence, in microseconds.
    pub(crate) sequence: u64,
    /// Random; tells this attempt from any other with the same sequence.
    pub(crate) token: [u8; 16],
    /// When it was written, for trimming.
    pub(crate) at: UnixMillis,
    /// The newest versionstamp of the space after the batch.
    pub(crate) newest: Versionstamp,
    /// One byte per write of the batch: 0 applied, 1 conflict, 2 refused.
    pub(crate) outcomes: Vec<u8>,
    /// The changed keys, see `super::log`.
    pub(crate) keys: Vec<u8>,
}

/// Live entries of a range, at most `limit`.
#[derive(Clone, Debug)]
pub(crate) struct RangeQuery {
    pub(crate) range: KeyRange,
    pub(crate) limit: usize,
    pub(crate) reverse: bool,
}

/// What a server says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// Such as `MariaDB 10.11.19`.
    pub(crate) version: String,
    /// Whether the version is new enough.
    pub(crate) is_supported: bool,
    /// Whether it takes no writes.
    pub(crate) is_read_only: bool,
    /// Whether it is a standby whose data may be old.
    pub(crate) is_standby: bool,
    /// Whether it is ready; a Galera node that lost its cluster is not.
    pub(crate) is_ready: bool,
    /// Largest statement in bytes, where the server has such a limit.
    pub(crate) statement_bytes_max: Option<u64>,
    /// What makes acknowledged commits less than durable, if anything does.
    pub(crate) durability_gap: Option<&'static str>,
}

/// One connection to a database server, with the settings of `backends.md`'s commit recipe.
#[async_trait]
pub(crate) trait Session: Send {
    /// Begins a transaction that sees the newest committed rows at every statement.
    async fn begin(&mut self) -> Result<(), Fault>;

    /// Begins a transaction in which all reads see one moment.
    async fn begin_snapshot(&mut self) -> Result<(), Fault>;

    async fn commit(&mut self) -> Result<(), Fault>;

    async fn rollback(&mut self) -> Result<(), Fault>;

    /// Raises the sequence of the space to `max(itself + 1, at_least)` and holds its row until the
    /// transaction ends. Always the first statement of a writing transaction.
    async fn raise(&mut self, at_least: u64) -> Result<u64, Fault>;

    /// The rows of these keys, in any order.
    async fn load(&mut self, keys: &[Key], with_records: bool) -> Result<Vec<Row>, Fault>;

    /// Writes rows, replacing those of the same keys. No key twice.
    async fn upsert(&mut self, rows: &[Row]) -> Result<(), Fault>;

    /// Removes rows. Absent ones are no error.
    async fn remove(&mut self, keys: &[Key]) -> Result<(), Fault>;

    async fn append_log(&mut self, row: &LogRow) -> Result<(), Fault>;

    /// Whether the batch with this sequence and token is in the log.
    async fn has_batch(&mut self, sequence: u64, token: &[u8; 16]) -> Result<bool, Fault>;

    /// Log rows behind `sequence`, oldest first; only sequence, newest stamp and keys are set.
    async fn log_after(&mut self, sequence: u64, limit: u32) -> Result<Vec<LogRow>, Fault>;

    /// Removes log rows older than `before`, except the newest one. Returns how many.
    async fn trim_log(&mut self, before: UnixMillis, limit: u32) -> Result<u64, Fault>;

    /// The sequence of the space, and its newest versionstamp: that of the newest log row, which is
    /// never removed.
    async fn position(&mut self) -> Result<(u64, Versionstamp), Fault>;

    /// Live rows of single keys (marked `None`) and of ranges (marked with their index), in one
    /// statement, in any order.
    async fn read_at_once(
        &mut self,
        points: &[Key],
        ranges: &[RangeQuery],
        now: UnixMillis,
    ) -> Result<Vec<(Option<usize>, Row)>, Fault>;

    /// Live rows of one range, in order, until `each` breaks. Returns whether all were taken; if
    /// not, the connection is still busy and has to be dropped.
    async fn read_range(
        &mut self,
        query: &RangeQuery,
        now: UnixMillis,
        each: &mut (dyn FnMut(Row) -> ControlFlow<()> + Send),
    ) -> Result<bool, Fault>;

    /// Keys and versionstamps of rows past their expiry, oldest expiry first.
    async fn expired(
        &mut self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<(Key, Versionstamp)>, Fault>;

    /// What the server says of itself.
    async fn probe(&mut self) -> Result<Probe, Fault>;

    /// Version of our tables; `None` if they do not exist.
    async fn schema_version(&mut self) -> Result<Option<u32>, Fault>;

    /// Creates our tables, where they are missing, and the row of the space.
    async fn create_schema(&mut self) -> Result<(), Fault>;

    /// Creates the row of the space in the existing tables, if it is missing.
    async fn create_space(&mut self) -> Result<(), Fault>;

    /// Runs a statement of `schema::COLUMNS`.
    async fn check(&mut self, statement: &'static str) -> Result<(), Fault>;

    /// Says goodbye.
    async fn close(self: Box<Self>);
}

/// Connects to one server. Takes at most [`CONNECT_MAX`], or what the URL says.
pub(crate) async fn connect(address: &Address, server: &Server) -> Result<Box<dyn Session>, Fault> {
    let connecting = async {
        match address.protocol {
            Protocol::MySql => mysql::connect(address, server).await,
            Protocol::Postgres => postgres::connect(address, server).await,
        }
    };
    let limit = address.connect_timeout.unwrap_or(CONNECT_MAX);
    match tokio::time::timeout(limit, connecting).await {
        Ok(session) => session,
        Err(_) => Err(Fault::timeout(&format!("connecting to {server}"), limit)),
    }
}

/// Bounds one statement by the limit of the URL, if that has one.
pub(crate) async fn within<T>(
    limit: Option<Duration>,
    run: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let Some(limit) = limit else {
        return run.await;
    };
    match tokio::time::timeout(limit, run).await {
        Ok(done) => done,
        Err(_) => Err(Fault::timeout("a statement", limit)),
    }
}

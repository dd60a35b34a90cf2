//! Rows of other programs' databases, from one snapshot, in pieces, without ever writing.
//!
//! A [`Source`] is a SQLite file, or a MySQL or PostgreSQL server. Who reads gives one SQL text per
//! kind; every column is cast to text, bytes or integer there, so that rows look alike.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tokio::sync::mpsc;

/// Rows handed over at once.
const PIECE_ROWS: usize = 256;

/// Bytes after which a piece is handed over early.
const PIECE_BYTES: usize = 1024 * 1024;

/// Pieces that wait for a slow writer.
const PIECES_AHEAD: usize = 2;

/// Where rows come from.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    Sqlite(PathBuf),
    /// A URL of the MySQL protocol, as our own stores have it.
    MySql(String),
    /// A URL of the PostgreSQL protocol.
    Postgres(String),
}

/// Shows no password.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Source::MySql(_) => f.write_str("mysql://…"),
            Source::Postgres(_) => f.write_str("postgres://…"),
        }
    }
}

impl Source {
    /// Reads `sqlite:FILE`, a plain path, `mysql://…` or `postgres://…`.
    ///
    /// # Errors
    ///
    /// For another scheme.
    pub fn parse(text: &str) -> anyhow::Result<Source> {
        match text.split_once(':') {
            Some(("mysql" | "mariadb", _)) => Ok(Source::MySql(text.to_owned())),
            Some(("postgres" | "postgresql", _)) => Ok(Source::Postgres(text.to_owned())),
            Some(("sqlite" | "file", path)) if !path.is_empty() => Ok(Source::Sqlite(path.into())),
            Some((scheme, rest)) if rest.starts_with("//") => {
                bail!("{scheme}: is not a source; name a SQLite file, mysql://… or postgres://…")
            }
            _ if text.is_empty() => bail!("the source is empty; name a SQLite file or a database"),
            _ => Ok(Source::Sqlite(text.into())),
        }
    }

    /// Which SQL it understands.
    pub fn kind(&self) -> Kind {
        match self {
            Source::Sqlite(_) => Kind::Sqlite,
            Source::MySql(_) => Kind::MySql,
            Source::Postgres(_) => Kind::Postgres,
        }
    }
}

/// Which SQL a source understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SQLite.
    Sqlite,
    /// MySQL and MariaDB.
    MySql,
    /// PostgreSQL.
    Postgres,
}

/// A column of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// Text or bytes.
    Bytes(Vec<u8>),
}

impl Cell {
    /// The bytes; none for NULL.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Cell::Null => Vec::new(),
            Cell::Integer(number) => number.to_string().into_bytes(),
            Cell::Bytes(bytes) => bytes,
        }
    }

    /// The text, with what is not UTF-8 replaced; NULL is the empty text.
    pub fn into_text(self) -> String {
        match String::from_utf8(self.into_bytes()) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// The integer, also if it is written as text.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Cell::Null => None,
            Cell::Integer(number) => Some(*number),
            Cell::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Cell::Bytes(bytes) => bytes.len(),
            Cell::Null | Cell::Integer(_) => 8,
        }
    }
}

/// The columns of a row, in the order of the statement.
pub type Row = Vec<Cell>;

/// Rows in pieces. Ends with the last one, or after an error.
pub type Pieces = mpsc::Receiver<anyhow::Result<Vec<Row>>>;

/// What to read: statements that are run one after the other in one snapshot.
#[derive(Clone, Debug)]
pub struct Query {
    /// Tables that must be there, by exact name.
    pub tables: Vec<&'static str>,
    /// SQL texts. Rows of the n-th get `Cell::Integer(n)` in front.
    pub statements: Vec<String>,
}

/// Names of the tables of a source.
///
/// # Errors
///
/// If it cannot be opened or read.
pub async fn tables(source: &Source) -> anyhow::Result<Vec<String>> {
    let text = match source.kind() {
        Kind::Sqlite => "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')",
        Kind::MySql => "SHOW TABLES",
        Kind::Postgres => {
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'"
        }
    };
    single_column(source, text.to_owned()).await
}

/// Names of the columns of a table.
///
/// # Errors
///
/// As [`tables`].
pub async fn columns(source: &Source, table: &'static str) -> anyhow::Result<Vec<String>> {
    let text = match source.kind() {
        Kind::Sqlite => format!("SELECT name FROM pragma_table_info('{table}')"),
        Kind::MySql => format!(
            "SELECT CAST(column_name AS CHAR) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name = '{table}'"
        ),
        Kind::Postgres => format!(
            "SELECT column_name::text FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name = '{table}'"
        ),
    };
    single_column(source, text).await
}

async fn single_column(source: &Source, text: String) -> anyhow::Result<Vec<String>> {
    let query = Query {
        tables: Vec::new(),
        statements: vec![text],
    };
    let mut pieces = read(source, query);
    let mut found = Vec::new();
    while let Some(piece) = pieces.recv().await {
        for mut row in piece? {
            found.extend(row.pop().map(Cell::into_text));
        }
    }
    Ok(found)
}

/// Reads rows. All statements see one moment.
pub fn read(source: &Source, query: Query) -> Pieces {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    match source.clone() {
        Source::Sqlite(path) => {
            tokio::task::spawn_blocking(move || {
                let mut out = Out::new(sender.clone());
                if let Err(error) = read_sqlite(&path, &query, &mut out) {
                    let error = error.context(format!("reading {}", path.display()));
                    let _ = sender.blocking_send(Err(error));
                }
            });
        }
        #[cfg(feature = "sql")]
        Source::MySql(url) | Source::Postgres(url) => {
            tokio::spawn(async move {
                let mut out = Out::new(sender.clone());
                if let Err(error) = server::read(&url, &query, &mut out).await {
                    let _ = sender.send(Err(error)).await;
                }
            });
        }
        #[cfg(not(feature = "sql"))]
        Source::MySql(_) | Source::Postgres(_) => {
            tokio::spawn(async move {
                let error = anyhow!("this program was built without database servers");
                let _ = sender.send(Err(error)).await;
            });
        }
    }
    pieces
}

/// Gathers rows into pieces.
struct Out {
    sender: mpsc::Sender<anyhow::Result<Vec<Row>>>,
    rows: Vec<Row>,
    bytes: usize,
}

impl Out {
    fn new(sender: mpsc::Sender<anyhow::Result<Vec<Row>>>) -> Out {
        Out {
            sender,
            rows: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes a row; gives a piece when it is full.
    fn push(&mut self, row: Row) -> Option<Vec<Row>> {
        self.bytes += row.iter().map(Cell::len).sum::<usize>();
        self.rows.push(row);
        let is_full = self.rows.len() >= PIECE_ROWS || self.bytes >= PIECE_BYTES;
        is_full.then(|| self.take())
    }

    fn take(&mut self) -> Vec<Row> {
        self.bytes = 0;
        std::mem::take(&mut self.rows)
    }
}

fn receiver_gone() -> anyhow::Error {
    anyhow!("the reader of the rows went away")
}

/// Whether a file begins as `mysqldump`, `mariadb-dump` and `pg_dump` write it.
fn is_dump(path: &std::path::Path) -> bool {
    let mut head = [0; 16];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut head));
    let head = &head[..read.unwrap_or(0)];
    [&b"-- "[..], b"--\n", b"/*M!", b"/*!"]
        .iter()
        .any(|begin| head.starts_with(begin))
}

fn read_sqlite(path: &std::path::Path, query: &Query, out: &mut Out) -> anyhow::Result<()> {
    if !path.exists() {
        bail!("there is no such file");
    }
    if is_dump(path) {
        bail!(
            "this is a dump of SQL statements, which is not read: load it into a database server \
             and import from there"
        );
    }
    // Read-only, and with the WAL of a program that may still be running.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch("BEGIN")?;
    for table in &query.tables {
        let sql = "SELECT 1 FROM sqlite_master WHERE name = ?1";
        let found = connection.query_row(sql, [table], |_| Ok(())).optional()?;
        found.with_context(|| format!("there is no table {table} in it"))?;
    }
    for (number, text) in (0..).zip(&query.statements) {
        let mut statement = connection.prepare(text)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut cells = vec![Cell::Integer(number)];
            for column in 0..columns {
                cells.push(match row.get_ref(column)? {
                    ValueRef::Null => Cell::Null,
                    ValueRef::Integer(number) => Cell::Integer(number),
                    ValueRef::Real(number) => Cell::Bytes(number.to_string().into_bytes()),
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
                });
            }
            if let Some(piece) = out.push(cells) {
                out.sender
                    .blocking_send(Ok(piece))
                    .map_err(|_| receiver_gone())?;
            }
        }
    }
    let last = out.take();
    out.sender
        .blocking_send(Ok(last))
        .map_err(|_| receiver_gone())
}

#[cfg(feature = "sql")]
mod server {
    use std::future::Future;
    use std::time::Duration;

    use anyhow::{Context, anyhow};
    use futures_util::TryStreamExt;
    use kvasir_store::sql::address::{Address, Protocol, Server};
    use kvasir_store::sql::driver;
    use sqlx::mysql::MySqlRow;
    use sqlx::postgres::PgRow;
    use sqlx::{AssertSqlSafe, Column, ConnectOptions, Executor, Row as _, TypeInfo, ValueRef};

    use super::{Cell, Out, Query, receiver_gone};
    use crate::moving::failure::SourceFailure;

    /// Longest time to connect to one server, unless the URL says otherwise.
    const CONNECT_MAX: Duration = Duration::from_secs(5);

    /// Class of the SQLSTATEs that refuse a user, in both protocols.
    const DENIED: &str = "28";

    /// A connection to the first server of the URL that takes one.
    async fn first_that_answers<C, F>(
        address: &Address,
        mut connect: impl FnMut(&Server) -> F,
    ) -> anyhow::Result<C>
    where
        F: Future<Output = sqlx::Result<C>>,
    {
        let limit = address.connect_timeout.unwrap_or(CONNECT_MAX);
        let mut last = None;
        for server in &address.servers {
            match within(Some(limit), connect(server)).await {
                Ok(connection) => return Ok(connection),
                Err(error) => match error.downcast_ref() {
                    // A refusal is an answer; another server would say the same.
                    Some(sqlx::Error::Database(refusal)) => {
                        return Err(match refusal.code() {
                            Some(code) if code.starts_with(DENIED) => {
                                SourceFailure::Denied(error.to_string()).into()
                            }
                            _ => error,
                        });
                    }
                    _ => last = Some(error),
                },
            }
        }
        let cause = last.unwrap_or_else(|| anyhow!("the list of servers is empty"));
        Err(SourceFailure::Unreachable(format!("{cause:#}")).into())
    }

    /// Bounds a wait for the server.
    async fn within<T>(
        limit: Option<Duration>,
        run: impl Future<Output = sqlx::Result<T>>,
    ) -> anyhow::Result<T> {
        let Some(limit) = limit else {
            return Ok(run.await?);
        };
        let done = tokio::time::timeout(limit, run).await;
        Ok(done.map_err(|_| anyhow!("no answer within {limit:?}"))??)
    }

    /// Runs the statements on the first server of the URL that answers. They hold nothing from
    /// outside.
    pub(super) async fn read(url: &str, query: &Query, out: &mut Out) -> anyhow::Result<()> {
        let address = Address::parse(url)?;
        let what = format!("reading {address}");
        match address.protocol {
            Protocol::MySql => read_mysql(&address, query, out).await.context(what),
            Protocol::Postgres => read_postgres(&address, query, out).await.context(what),
        }
    }

    async fn read_mysql(address: &Address, query: &Query, out: &mut Out) -> anyhow::Result<()> {
        let mut connection = first_that_answers(address, |server| {
            // The session's character set decides what text columns come as.
            let options = driver::mysql_options(address, server).set_names(true);
            async move { options.connect().await }
        })
        .await?;
        for text in [
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SET SESSION time_zone = '+00:00'",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        ] {
            connection.execute(sqlx::raw_sql(text)).await?;
        }
        for table in &query.tables {
            let text = format!("SELECT 1 FROM `{table}` LIMIT 0");
            let probe = connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
            probe.with_context(|| format!("there is no table {table} that can be read"))?;
        }
        for (number, text) in (0..).zip(&query.statements) {
            let text = AssertSqlSafe(text.clone());
            let mut rows = connection.fetch(sqlx::raw_sql(text));
            while let Some(row) = within(address.statement_timeout, rows.try_next()).await? {
                let mut cells = vec![Cell::Integer(number)];
                for column in 0..row.len() {
                    cells.push(mysql_cell(&row, column)?);
                }
                if let Some(piece) = out.push(cells) {
                    out.sender
                        .send(Ok(piece))
                        .await
                        .map_err(|_| receiver_gone())?;
                }
            }
        }
        let last = out.take();
        out.sender.send(Ok(last)).await.map_err(|_| receiver_gone())
    }

    fn mysql_cell(row: &MySqlRow, column: usize) -> anyhow::Result<Cell> {
        if row.try_get_raw(column)?.is_null() {
            return Ok(Cell::Null);
        }
        let kind = row.column(column).type_info().name().to_owned();
        if kind.contains("INT") && kind.contains("UNSIGNED") {
            let number: u64 = row.try_get(column)?;
            return Ok(Cell::Integer(i64::try_from(number)?));
        }
        if kind.contains("INT") {
            return Ok(Cell::Integer(row.try_get(column)?));
        }
        Ok(Cell::Bytes(row.try_get_unchecked(column)?))
    }

    async fn read_postgres(address: &Address, query: &Query, out: &mut Out) -> anyhow::Result<()> {
        let mut connection = first_that_answers(address, |server| {
            let options = driver::postgres_options(address, server);
            async move { options.connect().await }
        })
        .await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        connection.execute(sqlx::raw_sql(begin)).await?;
        for table in &query.tables {
            let text = format!("SELECT 1 FROM \"{table}\" LIMIT 0");
            let probe = connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
            probe.with_context(|| format!("there is no table {table} that can be read"))?;
        }
        for (number, text) in (0..).zip(&query.statements) {
            let mut rows = connection.fetch(sqlx::query(AssertSqlSafe(text.clone())));
            while let Some(row) = within(address.statement_timeout, rows.try_next()).await? {
                let mut cells = vec![Cell::Integer(number)];
                for column in 0..row.len() {
                    cells.push(postgres_cell(&row, column)?);
                }
                if let Some(piece) = out.push(cells) {
                    out.sender
                        .send(Ok(piece))
                        .await
                        .map_err(|_| receiver_gone())?;
                }
            }
        }
        let last = out.take();
        out.sender.send(Ok(last)).await.map_err(|_| receiver_gone())
    }

    fn postgres_cell(row: &PgRow, column: usize) -> anyhow::Result<Cell> {
        if row.try_get_raw(column)?.is_null() {
            return Ok(Cell::Null);
        }
        Ok(match row.column(column).type_info().name() {
            "INT8" => Cell::Integer(row.try_get(column)?),
            "INT4" => Cell::Integer(i64::from(row.try_get::<i32, _>(column)?)),
            "BYTEA" => Cell::Bytes(row.try_get(column)?),
            _ => Cell::Bytes(row.try_get::<String, _>(column)?.into_bytes()),
        })
    }
}

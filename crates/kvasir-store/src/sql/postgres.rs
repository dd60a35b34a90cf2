//! The PostgreSQL protocol: PostgreSQL, and the subset that CockroachDB and YugabyteDB share.
//!
//! Rows travel as arrays, so each verb is one prepared statement whatever the size of the batch.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{TryFutureExt, TryStreamExt};
use kvasir_kv::{Key, UnixMillis, Versionstamp};
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use super::address::{Address, Protocol, Server};
use super::columns::Columns;
use super::driver;
use super::fault::Fault;
use super::schema::{self, SCHEMA_VERSION};
use super::session::{LogRow, Probe, RangeQuery, Row, Session, within};

/// Bytes of rows after which a statement is split, so that neither side holds much more at once.
const STATEMENT_BYTES: usize = 8 * 1024 * 1024;

struct PostgresSession {
    connection: PgConnection,
    space: i32,
    statement_max: Option<Duration>,
}

pub(super) async fn connect(address: &Address, server: &Server) -> Result<Box<dyn Session>, Fault> {
    let options = driver::postgres_options(address, server);
    let mut session = PostgresSession {
        connection: options.connect().await.map_err(fault)?,
        space: i32::try_from(address.space).expect("the range of a space is checked in the URL"),
        statement_max: address.statement_timeout,
    };
    session.set_up().await?;
    Ok(Box::new(session))
}

fn fault(error: sqlx::Error) -> Fault {
    Fault::from_driver(Protocol::Postgres, error)
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, PgArguments>;

impl PostgresSession {
    async fn set_up(&mut self) -> Result<(), Fault> {
        self.run("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED")
            .await?;
        self.run("SET lock_timeout = '5s'").await?;
        // An acknowledged commit is durable, whatever the server's default is.
        let durable = "SELECT set_config('synchronous_commit', 'on', false) \
                       WHERE current_setting('synchronous_commit') = 'off'";
        let _ = self.run(durable).await;
        Ok(())
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), Fault> {
        let running = self.connection.execute(sqlx::raw_sql(sql));
        within(self.statement_max, running.map_err(fault))
            .await
            .map(drop)
    }

    async fn execute(&mut self, query: Query) -> Result<u64, Fault> {
        let running = self.connection.execute(query);
        let done = within(self.statement_max, running.map_err(fault)).await?;
        Ok(done.rows_affected())
    }

    async fn rows(&mut self, query: Query) -> Result<Vec<PgRow>, Fault> {
        let fetching = self.connection.fetch_all(query);
        within(self.statement_max, fetching.map_err(fault)).await
    }
}

/// A sequence as the database has it: microseconds since 1970 fit until the year 294,000.
fn signed(sequence: u64) -> Result<i64, Fault> {
    i64::try_from(sequence).map_err(|_| Fault::damaged("a sequence is beyond 63 bits"))
}

fn key_array(keys: &[Key]) -> Vec<Vec<u8>> {
    keys.iter().map(|key| key.as_bytes().to_vec()).collect()
}

#[async_trait]
impl Session for PostgresSession {
    async fn begin(&mut self) -> Result<(), Fault> {
        self.run("BEGIN").await
    }

    async fn begin_snapshot(&mut self) -> Result<(), Fault> {
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await
    }

    async fn commit(&mut self) -> Result<(), Fault> {
        self.run("COMMIT").await
    }

    async fn rollback(&mut self) -> Result<(), Fault> {
        self.run("ROLLBACK").await
    }

    async fn raise(&mut self, at_least: u64) -> Result<u64, Fault> {
        let query =
            sqlx::query("UPDATE kv_seq SET v = GREATEST(v + 1, $2) WHERE sp = $1 RETURNING v");
        let rows = self
            .rows(query.bind(self.space).bind(signed(at_least)?))
            .await?;
        match rows.first() {
            Some(row) => row.sequence(0),
            None => Err(schema::missing_space(self.space.unsigned_abs())),
        }
    }

    async fn load(&mut self, keys: &[Key], with_records: bool) -> Result<Vec<Row>, Fault> {
        let query = sqlx::query(if with_records {
            "SELECT k, vs, exp, v FROM kv_entry WHERE sp = $1 AND k = ANY($2)"
        } else {
            "SELECT k, vs, exp FROM kv_entry WHERE sp = $1 AND k = ANY($2)"
        });
        let rows = self
            .rows(query.bind(self.space).bind(key_array(keys)))
            .await?;
        rows.iter().map(|row| row.entry(0, with_records)).collect()
    }

    async fn upsert(&mut self, rows: &[Row]) -> Result<(), Fault> {
        let mut rows = rows;
        while !rows.is_empty() {
            let mut bytes = 0;
            let count = rows
                .iter()
                .take_while(|row| {
                    let fits = bytes < STATEMENT_BYTES;
                    bytes += row.key.len() + row.record.as_ref().map_or(0, Bytes::len);
                    fits
                })
                .count();
            let (now, later) = rows.split_at(count);
            let column = |of: fn(&Row) -> Vec<u8>| now.iter().map(of).collect::<Vec<_>>();
            let expiries: Vec<Option<i64>> = now
                .iter()
                .map(|row| row.expires_at.map(|at| at.0))
                .collect();
            let query = sqlx::query(
                "INSERT INTO kv_entry (sp, k, v, vs, exp)
                 SELECT $1, * FROM unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[])
                 ON CONFLICT (sp, k)
                 DO UPDATE SET v = excluded.v, vs = excluded.vs, exp = excluded.exp",
            )
            .bind(self.space)
            .bind(column(|row| row.key.as_bytes().to_vec()))
            .bind(column(|row| {
                row.record.as_deref().unwrap_or_default().to_vec()
            }))
            .bind(column(|row| row.stamp.as_bytes().to_vec()))
            .bind(expiries);
            self.execute(query).await?;
            rows = later;
        }
        Ok(())
    }

    async fn remove(&mut self, keys: &[Key]) -> Result<(), Fault> {
        let query = sqlx::query("DELETE FROM kv_entry WHERE sp = $1 AND k = ANY($2)");
        self.execute(query.bind(self.space).bind(key_array(keys)))
            .await?;
        Ok(())
    }

    async fn append_log(&mut self, row: &LogRow) -> Result<(), Fault> {
        let query = sqlx::query(
            "INSERT INTO kv_log (sp, seq, token, at, vs, outc, ks)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(self.space)
        .bind(signed(row.sequence)?)
        .bind(row.token.to_vec())
        .bind(row.at.0)
        .bind(row.newest.as_bytes().to_vec())
        .bind(row.outcomes.clone())
        .bind(row.keys.clone());
        self.execute(query).await?;
        Ok(())
    }

    async fn has_batch(&mut self, sequence: u64, token: &[u8; 16]) -> Result<bool, Fault> {
        let query = sqlx::query("SELECT 1 FROM kv_log WHERE sp = $1 AND seq = $2 AND token = $3");
        let query = query
            .bind(self.space)
            .bind(signed(sequence)?)
            .bind(token.to_vec());
        Ok(!self.rows(query).await?.is_empty())
    }

    async fn log_after(&mut self, sequence: u64, limit: u32) -> Result<Vec<LogRow>, Fault> {
        let query = sqlx::query(
            "SELECT seq, vs, ks FROM kv_log WHERE sp = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        );
        let query = query
            .bind(self.space)
            .bind(signed(sequence)?)
            .bind(i64::from(limit));
        let rows = self.rows(query).await?;
        rows.iter().map(Columns::log_row).collect()
    }

    async fn trim_log(&mut self, before: UnixMillis, limit: u32) -> Result<u64, Fault> {
        let query = sqlx::query(
            "DELETE FROM kv_log WHERE sp = $1 AND seq IN (
                 SELECT seq FROM kv_log WHERE sp = $1 AND at < $2
                 AND seq < (SELECT MAX(seq) FROM kv_log WHERE sp = $1) LIMIT $3)",
        );
        let query = query.bind(self.space).bind(before.0).bind(i64::from(limit));
        self.execute(query).await
    }

    async fn position(&mut self) -> Result<(u64, Versionstamp), Fault> {
        let query = sqlx::query(
            "SELECT v, (SELECT vs FROM kv_log WHERE sp = $1 ORDER BY seq DESC LIMIT 1)
             FROM kv_seq WHERE sp = $1",
        );
        let rows = self.rows(query.bind(self.space)).await?;
        match rows.first() {
            Some(row) => row.position(),
            None => Err(schema::missing_space(self.space.unsigned_abs())),
        }
    }

    async fn read_at_once(
        &mut self,
        points: &[Key],
        ranges: &[RangeQuery],
        now: UnixMillis,
    ) -> Result<Vec<(Option<usize>, Row)>, Fault> {
        let mut sql = String::new();
        if !points.is_empty() {
            sql.push_str(
                "(SELECT 0::bigint AS r, k, vs, exp, v FROM kv_entry
                 WHERE sp = $1 AND k = ANY($3) AND (exp IS NULL OR exp > $2))",
            );
        }
        // $1 and $2 are space and time, $3 the points if there are any.
        let mut parameter = if points.is_empty() { 3 } else { 4 };
        for (index, query) in ranges.iter().enumerate() {
            let union = if sql.is_empty() { "" } else { " UNION ALL " };
            let order = if query.reverse { "DESC" } else { "ASC" };
            let _ = write!(
                sql,
                "{union}(SELECT {mark}::bigint AS r, k, vs, exp, v FROM kv_entry
                 WHERE sp = $1 AND k >= ${parameter} AND k < ${end}
                 AND (exp IS NULL OR exp > $2) ORDER BY k {order} LIMIT ${limit})",
                mark = index + 1,
                end = parameter + 1,
                limit = parameter + 2,
            );
            parameter += 3;
        }
        // Only constants and numbers of parameters were put into the text.
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(self.space).bind(now.0);
        if !points.is_empty() {
            query = query.bind(key_array(points));
        }
        for range in ranges {
            query = query
                .bind(range.range.start.as_bytes().to_vec())
                .bind(range.range.end.as_bytes().to_vec())
                .bind(limit(range.limit));
        }
        let rows = self.rows(query).await?;
        rows.iter().map(Columns::marked_entry).collect()
    }

    async fn read_range(
        &mut self,
        query: &RangeQuery,
        now: UnixMillis,
        each: &mut (dyn FnMut(Row) -> ControlFlow<()> + Send),
    ) -> Result<bool, Fault> {
        let sql = sqlx::query(if query.reverse {
            "SELECT k, vs, exp, v FROM kv_entry WHERE sp = $1 AND k >= $2 AND k < $3
             AND (exp IS NULL OR exp > $4) ORDER BY k DESC LIMIT $5"
        } else {
            "SELECT k, vs, exp, v FROM kv_entry WHERE sp = $1 AND k >= $2 AND k < $3
             AND (exp IS NULL OR exp > $4) ORDER BY k LIMIT $5"
        });
        let sql = sql
            .bind(self.space)
            .bind(query.range.start.as_bytes().to_vec())
            .bind(query.range.end.as_bytes().to_vec())
            .bind(now.0)
            .bind(limit(query.limit));
        let mut rows = self.connection.fetch(sql);
        while let Some(row) = within(self.statement_max, rows.try_next().map_err(fault)).await? {
            if each(row.entry(0, true)?).is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn expired(
        &mut self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<(Key, Versionstamp)>, Fault> {
        let query = sqlx::query(
            "SELECT k, vs FROM kv_entry WHERE sp = $1 AND exp <= $2 ORDER BY exp LIMIT $3",
        );
        let query = query.bind(self.space).bind(now.0).bind(i64::from(limit));
        let rows = self.rows(query).await?;
        rows.iter().map(Columns::key_and_stamp).collect()
    }

    async fn probe(&mut self) -> Result<Probe, Fault> {
        let query = sqlx::query(
            "SELECT current_setting('server_version_num')::bigint, version(),
             pg_is_in_recovery()::text, current_setting('default_transaction_read_only'),
             current_setting('fsync')",
        );
        let rows = self.rows(query).await?;
        let Some(row) = rows.first() else {
            return Err(Fault::damaged("the server does not tell its version"));
        };
        let version = row.text(1)?;
        let version = version.split(" on ").next().unwrap_or_default().to_owned();
        let is_standby = row.text(2)? == "true";
        Ok(Probe {
            version,
            is_supported: row.integer(0)? >= schema::POSTGRES_OLDEST,
            is_read_only: is_standby || row.text(3)? == "on",
            is_standby,
            is_ready: true,
            statement_bytes_max: None,
            durability_gap: (row.text(4)? == "off").then_some("fsync is off"),
        })
    }

    async fn schema_version(&mut self) -> Result<Option<u32>, Fault> {
        let query = sqlx::query("SELECT version::bigint FROM kv_schema");
        match self.rows(query).await {
            Ok(rows) => rows.first().map(Columns::schema_version).transpose(),
            Err(fault) if fault.is_missing_table() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn create_schema(&mut self) -> Result<(), Fault> {
        let _ = self.run(schema::YUGABYTE).await;
        for statement in schema::POSTGRES {
            self.run(statement).await?;
        }
        for statement in schema::POSTGRES_TUNING {
            let _ = self.run(statement).await;
        }
        let query = sqlx::query(
            "INSERT INTO kv_schema (id, version) VALUES (1, $1) ON CONFLICT DO NOTHING",
        );
        let version = i32::try_from(SCHEMA_VERSION).expect("a small number");
        self.execute(query.bind(version)).await?;
        self.create_space().await
    }

    async fn create_space(&mut self) -> Result<(), Fault> {
        let query = sqlx::query("INSERT INTO kv_seq (sp, v) VALUES ($1, 0) ON CONFLICT DO NOTHING");
        self.execute(query.bind(self.space)).await?;
        Ok(())
    }

    async fn check(&mut self, statement: &'static str) -> Result<(), Fault> {
        self.run(statement).await
    }

    async fn close(self: Box<Self>) {
        // The server notices a closed socket as well.
        let _ = self.connection.close().await;
    }
}

fn limit(entries: usize) -> i64 {
    i64::try_from(entries).unwrap_or(i64::MAX)
}

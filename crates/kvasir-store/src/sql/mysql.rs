//! The MySQL protocol: MariaDB, MySQL, Galera Cluster, and the subset that TiDB shares.
//!
//! Statements go as text, one per packet: no prepared statement per batch size, and proxies pass
//! them unchanged. Nothing is ever put into a text but digits and `x'…'` literals, all of it
//! through [`Text`].

use std::ops::ControlFlow;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{TryFutureExt, TryStreamExt};
use kvasir_kv::{Key, UnixMillis, Versionstamp};
use sqlx::mysql::{MySqlConnection, MySqlQueryResult, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use super::address::{Address, Protocol, Server};
use super::columns::Columns;
use super::driver;
use super::fault::Fault;
use super::schema::{self, SCHEMA_VERSION};
use super::session::{LogRow, Probe, RangeQuery, Row, Session, within};

mod text;

use text::Text;

/// `ER_UNKNOWN_SYSTEM_VARIABLE`: the server is no Galera node, or not in a replication group.
const UNKNOWN_VARIABLE: &str = "1193";

struct MySqlSession {
    connection: MySqlConnection,
    space: u32,
    statement_max: Option<Duration>,
}

pub(super) async fn connect(address: &Address, server: &Server) -> Result<Box<dyn Session>, Fault> {
    let options = driver::mysql_options(address, server);
    let mut session = MySqlSession {
        connection: options.connect().await.map_err(fault)?,
        space: address.space,
        statement_max: address.statement_timeout,
    };
    session.set_up().await?;
    Ok(Box::new(session))
}

fn fault(error: sqlx::Error) -> Fault {
    Fault::from_driver(Protocol::MySql, error)
}

impl MySqlSession {
    async fn set_up(&mut self) -> Result<(), Fault> {
        self.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            .await?;
        self.run("SET SESSION innodb_lock_wait_timeout = 5").await?;
        for clustered in [
            // Reads wait until everything that the cluster acknowledged has been applied here.
            "SET SESSION wsrep_sync_wait = 1",
            "SET SESSION group_replication_consistency = 'BEFORE'",
        ] {
            match self.run(clustered).await {
                Err(fault) if fault.code.as_deref() == Some(UNKNOWN_VARIABLE) => {}
                other => other?,
            }
        }
        Ok(())
    }

    async fn run(&mut self, sql: impl Into<String>) -> Result<(), Fault> {
        self.execute(sql).await.map(drop)
    }

    async fn execute(&mut self, sql: impl Into<String>) -> Result<MySqlQueryResult, Fault> {
        let sql = AssertSqlSafe(sql.into());
        let running = self.connection.execute(sqlx::raw_sql(sql));
        within(self.statement_max, running.map_err(fault)).await
    }

    async fn rows(&mut self, sql: impl Into<String>) -> Result<Vec<MySqlRow>, Fault> {
        let sql = AssertSqlSafe(sql.into());
        let fetching = self.connection.fetch_all(sqlx::raw_sql(sql));
        within(self.statement_max, fetching.map_err(fault)).await
    }

    /// A text column of the only row, if there is a row.
    async fn text(&mut self, sql: &str, column: usize) -> Result<Option<String>, Fault> {
        let rows = self.rows(sql).await?;
        rows.first().map(|row| row.text(column)).transpose()
    }

    fn entry_columns(with_records: bool) -> &'static str {
        if with_records {
            "k, vs, exp, v"
        } else {
            "k, vs, exp"
        }
    }

    fn push_range(&self, text: &mut Text, query: &RangeQuery, now: UnixMillis) {
        text.sql("FROM kv_entry WHERE sp = ").number(self.space);
        text.sql(" AND k >= ").bytes(query.range.start.as_bytes());
        text.sql(" AND k < ").bytes(query.range.end.as_bytes());
        text.sql(" AND (exp IS NULL OR exp > ").number(now.0);
        text.sql(if query.reverse {
            ") ORDER BY k DESC LIMIT "
        } else {
            ") ORDER BY k LIMIT "
        });
        text.number(query.limit);
    }
}

#[async_trait]
impl Session for MySqlSession {
    async fn begin(&mut self) -> Result<(), Fault> {
        self.run("BEGIN").await
    }

    async fn begin_snapshot(&mut self) -> Result<(), Fault> {
        self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            .await?;
        // Without READ ONLY: TiDB objects to it.
        self.run("START TRANSACTION WITH CONSISTENT SNAPSHOT").await
    }

    async fn commit(&mut self) -> Result<(), Fault> {
        self.run("COMMIT").await
    }

    async fn rollback(&mut self) -> Result<(), Fault> {
        self.run("ROLLBACK").await
    }

    async fn raise(&mut self, at_least: u64) -> Result<u64, Fault> {
        let mut text = Text::new("UPDATE kv_seq SET v = LAST_INSERT_ID(GREATEST(v + 1, ");
        text.number(at_least)
            .sql(")) WHERE sp = ")
            .number(self.space);
        let done = self.execute(text.into_string()).await?;
        if done.rows_affected() == 1 {
            Ok(done.last_insert_id())
        } else {
            Err(schema::missing_space(self.space))
        }
    }

    async fn load(&mut self, keys: &[Key], with_records: bool) -> Result<Vec<Row>, Fault> {
        let mut found = Vec::new();
        let mut keys = keys.iter().peekable();
        while keys.peek().is_some() {
            let mut text = Text::new("SELECT ");
            text.sql(Self::entry_columns(with_records));
            text.sql(" FROM kv_entry WHERE sp = ")
                .number(self.space)
                .sql(" AND k IN (");
            text.list(&mut keys, |text, key| {
                text.bytes(key.as_bytes());
            });
            text.sql(")");
            for row in self.rows(text.into_string()).await? {
                found.push(row.entry(0, with_records)?);
            }
        }
        Ok(found)
    }

    async fn upsert(&mut self, rows: &[Row]) -> Result<(), Fault> {
        let space = self.space;
        let mut rows = rows.iter().peekable();
        while rows.peek().is_some() {
            let mut text = Text::new("INSERT INTO kv_entry (sp, k, v, vs, exp) VALUES ");
            text.list(&mut rows, |text, row| {
                text.sql("(")
                    .number(space)
                    .sql(",")
                    .bytes(row.key.as_bytes());
                text.sql(",")
                    .bytes(row.record.as_deref().unwrap_or_default());
                text.sql(",").bytes(row.stamp.as_bytes()).sql(",");
                match row.expires_at {
                    Some(at) => text.number(at.0),
                    None => text.sql("NULL"),
                };
                text.sql(")");
            });
            // Deprecated on MySQL 8 but the only spelling that all servers take.
            text.sql(" ON DUPLICATE KEY UPDATE v = VALUES(v), vs = VALUES(vs), exp = VALUES(exp)");
            self.run(text.into_string()).await?;
        }
        Ok(())
    }

    async fn remove(&mut self, keys: &[Key]) -> Result<(), Fault> {
        let mut keys = keys.iter().peekable();
        while keys.peek().is_some() {
            let mut text = Text::new("DELETE FROM kv_entry WHERE sp = ");
            text.number(self.space).sql(" AND k IN (");
            text.list(&mut keys, |text, key| {
                text.bytes(key.as_bytes());
            });
            text.sql(")");
            self.run(text.into_string()).await?;
        }
        Ok(())
    }

    async fn append_log(&mut self, row: &LogRow) -> Result<(), Fault> {
        let mut text = Text::new("INSERT INTO kv_log (sp, seq, token, at, vs, outc, ks) VALUES (");
        text.number(self.space).sql(",").number(row.sequence);
        text.sql(",").bytes(&row.token).sql(",").number(row.at.0);
        text.sql(",").bytes(row.newest.as_bytes());
        text.sql(",")
            .bytes(&row.outcomes)
            .sql(",")
            .bytes(&row.keys)
            .sql(")");
        self.run(text.into_string()).await
    }

    async fn has_batch(&mut self, sequence: u64, token: &[u8; 16]) -> Result<bool, Fault> {
        let mut text = Text::new("SELECT 1 FROM kv_log WHERE sp = ");
        text.number(self.space).sql(" AND seq = ").number(sequence);
        text.sql(" AND token = ").bytes(token);
        Ok(!self.rows(text.into_string()).await?.is_empty())
    }

    async fn log_after(&mut self, sequence: u64, limit: u32) -> Result<Vec<LogRow>, Fault> {
        let mut text = Text::new("SELECT seq, vs, ks FROM kv_log WHERE sp = ");
        text.number(self.space).sql(" AND seq > ").number(sequence);
        text.sql(" ORDER BY seq LIMIT ").number(limit);
        let rows = self.rows(text.into_string()).await?;
        rows.iter().map(Columns::log_row).collect()
    }

    async fn trim_log(&mut self, before: UnixMillis, limit: u32) -> Result<u64, Fault> {
        let mut text = Text::new("DELETE FROM kv_log WHERE sp = ");
        text.number(self.space).sql(" AND at < ").number(before.0);
        // The newest row stays: it tells the newest versionstamp. A table that is being changed may
        // only be asked through a derived one.
        text.sql(" AND seq < (SELECT newest FROM (SELECT MAX(seq) AS newest FROM kv_log");
        text.sql(" WHERE sp = ").number(self.space);
        text.sql(") AS log) LIMIT ").number(limit);
        let done = self.execute(text.into_string()).await?;
        Ok(done.rows_affected())
    }

    async fn position(&mut self) -> Result<(u64, Versionstamp), Fault> {
        let mut text = Text::new("SELECT v, (SELECT vs FROM kv_log WHERE sp = ");
        text.number(self.space)
            .sql(" ORDER BY seq DESC LIMIT 1) FROM kv_seq WHERE sp = ");
        text.number(self.space);
        let rows = self.rows(text.into_string()).await?;
        match rows.first() {
            Some(row) => row.position(),
            None => Err(schema::missing_space(self.space)),
        }
    }

    async fn read_at_once(
        &mut self,
        points: &[Key],
        ranges: &[RangeQuery],
        now: UnixMillis,
    ) -> Result<Vec<(Option<usize>, Row)>, Fault> {
        let mut text = Text::new("");
        if !points.is_empty() {
            text.sql("(SELECT 0 AS r, k, vs, exp, v FROM kv_entry WHERE sp = ");
            text.number(self.space).sql(" AND k IN (");
            for (index, key) in points.iter().enumerate() {
                text.sql(if index == 0 { "" } else { "," })
                    .bytes(key.as_bytes());
            }
            text.sql(") AND (exp IS NULL OR exp > ")
                .number(now.0)
                .sql("))");
        }
        for (index, query) in ranges.iter().enumerate() {
            text.sql(if text.is_empty() { "" } else { " UNION ALL " });
            text.sql("(SELECT ")
                .number(index + 1)
                .sql(" AS r, k, vs, exp, v ");
            self.push_range(&mut text, query, now);
            text.sql(")");
        }
        let rows = self.rows(text.into_string()).await?;
        rows.iter().map(Columns::marked_entry).collect()
    }

    async fn read_range(
        &mut self,
        query: &RangeQuery,
        now: UnixMillis,
        each: &mut (dyn FnMut(Row) -> ControlFlow<()> + Send),
    ) -> Result<bool, Fault> {
        let mut text = Text::new("SELECT k, vs, exp, v ");
        self.push_range(&mut text, query, now);
        let sql = AssertSqlSafe(text.into_string());
        let mut rows = self.connection.fetch(sqlx::raw_sql(sql));
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
        let mut text = Text::new("SELECT k, vs FROM kv_entry WHERE sp = ");
        text.number(self.space).sql(" AND exp <= ").number(now.0);
        text.sql(" ORDER BY exp LIMIT ").number(limit);
        let rows = self.rows(text.into_string()).await?;
        rows.iter().map(Columns::key_and_stamp).collect()
    }

    async fn probe(&mut self) -> Result<Probe, Fault> {
        let rows = self
            .rows(
                "SELECT VERSION(), CAST(@@global.read_only AS SIGNED), \
                 CAST(@@max_allowed_packet AS SIGNED)",
            )
            .await?;
        let Some(row) = rows.first() else {
            return Err(Fault::damaged("the server does not tell its version"));
        };
        let version = row.text(0)?;
        let (version, is_supported) = judge_version(&version);
        let is_read_only = row.integer(1)? != 0;
        let statement_bytes_max = u64::try_from(row.integer(2)?).ok();
        let ready = self.text("SHOW STATUS LIKE 'wsrep_ready'", 1).await?;
        let flush = self
            .text("SHOW VARIABLES LIKE 'innodb_flush_log_at_trx_commit'", 1)
            .await?;
        Ok(Probe {
            version,
            is_supported,
            is_read_only,
            is_standby: false,
            // OFF also on a server that is no Galera node at all, where the provider is "none".
            is_ready: ready.as_deref() != Some("OFF") || !self.is_galera().await?,
            statement_bytes_max,
            durability_gap: flush
                .is_some_and(|value| value != "1")
                .then_some("innodb_flush_log_at_trx_commit is not 1"),
        })
    }

    async fn schema_version(&mut self) -> Result<Option<u32>, Fault> {
        match self.rows("SELECT version FROM kv_schema").await {
            Ok(rows) => rows.first().map(Columns::schema_version).transpose(),
            Err(fault) if fault.is_missing_table() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn create_schema(&mut self) -> Result<(), Fault> {
        for statement in schema::MYSQL {
            self.run(*statement).await?;
        }
        let mut text = Text::new("INSERT IGNORE INTO kv_schema (id, version) VALUES (1, ");
        text.number(SCHEMA_VERSION).sql(")");
        self.run(text.into_string()).await?;
        self.create_space().await
    }

    async fn create_space(&mut self) -> Result<(), Fault> {
        let mut text = Text::new("INSERT IGNORE INTO kv_seq (sp, v) VALUES (");
        text.number(self.space).sql(", 0)");
        self.run(text.into_string()).await
    }

    async fn check(&mut self, statement: &'static str) -> Result<(), Fault> {
        self.run(statement).await
    }

    async fn close(self: Box<Self>) {
        // The server notices a closed socket as well.
        let _ = self.connection.close().await;
    }
}

impl MySqlSession {
    async fn is_galera(&mut self) -> Result<bool, Fault> {
        let on = self.text("SHOW VARIABLES LIKE 'wsrep_on'", 1).await?;
        Ok(on.as_deref() == Some("ON"))
    }
}

/// A readable name of the version and whether it is new enough.
fn judge_version(version: &str) -> (String, bool) {
    let number = |text: &str| -> (u32, u32) {
        let mut parts = text
            .split(|c: char| !c.is_ascii_digit())
            .map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    if let Some((_, tidb)) = version.split_once("-TiDB-") {
        return (format!("TiDB {tidb}"), true);
    }
    if version.contains("MariaDB") {
        // Behind some proxies the text begins with 5.5.5-.
        let own = version.strip_prefix("5.5.5-").unwrap_or(version);
        let short = own.split('-').next().unwrap_or(own);
        return (
            format!("MariaDB {short}"),
            number(own) >= schema::MARIADB_OLDEST,
        );
    }
    (
        format!("MySQL {version}"),
        number(version) >= schema::MYSQL_OLDEST,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_and_old_ones_found() {
        for (text, name, is_supported) in [
            ("10.11.19-MariaDB-0+deb12u1", "MariaDB 10.11.19", true),
            ("5.5.5-10.6.3-MariaDB", "MariaDB 10.6.3", true),
            ("10.2.44-MariaDB", "MariaDB 10.2.44", false),
            ("8.0.36", "MySQL 8.0.36", true),
            ("5.7.44-log", "MySQL 5.7.44-log", false),
            ("8.0.11-TiDB-v8.5.0", "TiDB v8.5.0", true),
        ] {
            assert_eq!(judge_version(text), (name.to_owned(), is_supported));
        }
    }
}

//! The tables, one text per protocol. Documented for operators in `docs/backends.md`.
//!
//! `kv_entry` holds the entries, `kv_seq` the sequence of each space, `kv_log` what each batch
//! changed, for ten minutes, and `kv_schema` the version of all this.

use super::fault::{Class, Fault};

/// Version of the tables. A newer one is refused, an older one is migrated when there is one.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// Oldest MariaDB line that still got fixes when this was written.
pub(crate) const MARIADB_OLDEST: (u32, u32) = (10, 6);

/// MySQL 5.7 ended in 2023.
pub(crate) const MYSQL_OLDEST: (u32, u32) = (8, 0);

/// `server_version_num`; YugabyteDB says that it is 11.2.
pub(crate) const POSTGRES_OLDEST: i64 = 110_000;

/// Keys compare as plain bytes (`VARBINARY`), so primary-key order is key order.
pub(crate) const MYSQL: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS kv_schema (
        id INT NOT NULL PRIMARY KEY,
        version INT NOT NULL
     ) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS kv_entry (
        sp INT UNSIGNED NOT NULL,
        k VARBINARY(3000) NOT NULL,
        v LONGBLOB NOT NULL,
        vs BINARY(10) NOT NULL,
        exp BIGINT NULL,
        PRIMARY KEY (sp, k) /*T![clustered_index] CLUSTERED */,
        KEY kv_entry_exp (exp)
     ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary",
    "CREATE TABLE IF NOT EXISTS kv_seq (
        sp INT UNSIGNED NOT NULL PRIMARY KEY,
        v BIGINT NOT NULL
     ) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS kv_log (
        sp INT UNSIGNED NOT NULL,
        seq BIGINT NOT NULL,
        token BINARY(16) NOT NULL,
        at BIGINT NOT NULL,
        vs BINARY(10) NOT NULL,
        outc BLOB NOT NULL,
        ks LONGBLOB NOT NULL,
        PRIMARY KEY (sp, seq),
        KEY kv_log_at (at)
     ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary",
];

/// `BYTEA` compares as bytes too.
pub(crate) const POSTGRES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS kv_schema (id INT PRIMARY KEY, version INT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS kv_entry (
        sp INT NOT NULL,
        k BYTEA NOT NULL,
        v BYTEA NOT NULL,
        vs BYTEA NOT NULL,
        exp BIGINT,
        PRIMARY KEY (sp, k)
     )",
    "CREATE INDEX IF NOT EXISTS kv_entry_exp ON kv_entry (exp) WHERE exp IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS kv_seq (sp INT PRIMARY KEY, v BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS kv_log (
        sp INT NOT NULL,
        seq BIGINT NOT NULL,
        token BYTEA NOT NULL,
        at BIGINT NOT NULL,
        vs BYTEA NOT NULL,
        outc BYTEA NOT NULL,
        ks BYTEA NOT NULL,
        PRIMARY KEY (sp, seq)
     )",
    "CREATE INDEX IF NOT EXISTS kv_log_at ON kv_log (at)",
];

/// Helpful on PostgreSQL, where these two tables are rewritten all day; refused elsewhere, which
/// does no harm.
pub(crate) const POSTGRES_TUNING: &[&str] = &[
    "ALTER TABLE kv_seq SET (fillfactor = 10)",
    "ALTER TABLE kv_log SET (autovacuum_vacuum_scale_factor = 0.01)",
];

/// Before the tables are made; refused by all but YugabyteDB, which would hash primary keys.
pub(crate) const YUGABYTE: &str = "SET yb_use_hash_splitting_by_default = off";

/// Asks for every column we use; an error of this statement means foreign tables.
pub(crate) const COLUMNS: &[&str] = &[
    "SELECT sp, k, v, vs, exp FROM kv_entry WHERE 1 = 0",
    "SELECT sp, v FROM kv_seq WHERE 1 = 0",
    "SELECT sp, seq, token, at, vs, outc, ks FROM kv_log WHERE 1 = 0",
];

pub(crate) fn missing_space(space: u32) -> Fault {
    Fault::new(
        Class::Other,
        format!("table kv_seq has no row for space {space}; somebody removed it"),
    )
}

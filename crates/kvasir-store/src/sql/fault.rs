//! What an error of the database means for the work that met it.
//!
//! The numbers are those of MySQL and MariaDB, TiDB, and the SQLSTATEs of PostgreSQL and
//! CockroachDB. An error at COMMIT that is none of the known refusals leaves the outcome open; the
//! writer decides it by a fence.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kvasir_kv::{Cause, Error};

use super::address::Protocol;

/// What to do about an error of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The server has rolled the transaction back for sure: run it again.
    RolledBack,
    /// The connection or the server is gone or not ready: go to the next server.
    Lost,
    /// The server takes no writes: go to the next server.
    ReadOnly,
    /// No space is left on the server.
    NoSpace,
    /// Name or password is wrong, or a right is missing.
    Denied,
    /// The database holds bytes that this program did not write.
    Damaged,
    /// Anything else: trying again does not help.
    Other,
}

/// An error of the database and what it means.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) class: Class,
    /// The server's own number or SQLSTATE, if it answered at all.
    pub(crate) code: Option<String>,
    /// Whether the connection could not be protected as asked.
    pub(crate) is_tls: bool,
    cause: Cause,
}

impl Fault {
    /// An error that did not come from the driver.
    pub(crate) fn new(class: Class, text: impl Into<String>) -> Fault {
        let cause: Box<dyn std::error::Error + Send + Sync> = text.into().into();
        Fault {
            class,
            code: None,
            is_tls: false,
            cause: Arc::from(cause),
        }
    }

    /// A step that took longer than it may. The connection cannot be used any more.
    pub(crate) fn timeout(what: &str, limit: Duration) -> Fault {
        Fault::new(Class::Lost, format!("{what} took longer than {limit:?}"))
    }

    /// Bytes in the database that this program did not write.
    pub(crate) fn damaged(text: impl Into<String>) -> Fault {
        Fault::new(Class::Damaged, text)
    }

    pub(crate) fn from_driver(protocol: Protocol, error: sqlx::Error) -> Fault {
        let (class, code) = match &error {
            sqlx::Error::Database(database) => match protocol {
                Protocol::MySql => {
                    let number = database
                        .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
                        .map_or(0, |error| error.number());
                    (classify_mysql(number), Some(number.to_string()))
                }
                Protocol::Postgres => {
                    let code = database.code().unwrap_or_default().into_owned();
                    (classify_postgres(&code), Some(code))
                }
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed => (Class::Lost, None),
            _ => (Class::Other, None),
        };
        let is_tls = match &error {
            sqlx::Error::Tls(_) => true,
            // How a refused certificate comes up through the stream.
            sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
            _ => false,
        };
        Fault {
            class,
            code,
            is_tls,
            cause: Arc::new(error),
        }
    }

    /// Whether the statement named a table that does not exist.
    pub(crate) fn is_missing_table(&self) -> bool {
        // `ER_NO_SUCH_TABLE`, `undefined_table`.
        matches!(self.code.as_deref(), Some("1146" | "42P01"))
    }

    /// Whether an error of this class, met when COMMIT had been sent, leaves the outcome open.
    pub(crate) fn leaves_commit_open(&self) -> bool {
        self.class != Class::RolledBack
    }

    /// The error for a caller whose write was certainly not applied, or whose read failed.
    pub(crate) fn into_error(self) -> Error {
        match self.class {
            Class::ReadOnly => Error::ReadOnly("the database server is read-only"),
            Class::NoSpace => Error::NoSpace,
            Class::Damaged => Error::Corrupt(self.cause.to_string()),
            Class::RolledBack | Class::Lost | Class::Denied | Class::Other => {
                Error::Unavailable(self.cause)
            }
        }
    }

    /// The error for a caller whose write may have been applied.
    pub(crate) fn into_unknown(self) -> Error {
        Error::OutcomeUnknown(self.cause)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.cause, f)
    }
}

fn classify_mysql(number: u16) -> Class {
    match number {
        // Lock wait, deadlock (also Galera's certification), changed since read, group
        // replication; TiDB: write conflict, cannot retry, info schema changed.
        1205 | 1213 | 1020 | 3101 | 9007 | 8002 | 8022 | 8028 => Class::RolledBack,
        // Not ready (Galera), shutting down, killed, gone, lost, too many connections, host
        // blocked, query interrupted; TiDB: no region, no leader, time-out.
        1047 | 1053 | 1927 | 2006 | 2013 | 1040 | 1129 | 1317 | 1158..=1161 | 9001..=9006 => {
            Class::Lost
        }
        // Read-only by option, or a read-only transaction.
        1290 | 1836 | 1792 => Class::ReadOnly,
        // Disk full, table full, error on write, out of log space.
        1021 | 1114 | 1026 | 3 | 28 => Class::NoSpace,
        // Access denied: to the database, to the server, to a table, to a column, missing right.
        1044 | 1045 | 1142 | 1143 | 1227 | 1698 => Class::Denied,
        _ => Class::Other,
    }
}

fn classify_postgres(code: &str) -> Class {
    match code {
        // Serialization failure, deadlock, lock not available.
        "40001" | "40P01" | "55P03" => Class::RolledBack,
        "25006" => Class::ReadOnly,
        // Disk full.
        "53100" => Class::NoSpace,
        "28000" | "28P01" | "42501" => Class::Denied,
        // Statement completion unknown: CockroachDB at COMMIT.
        "40003" => Class::Lost,
        // Connections (08), operator intervention (57P), too many connections.
        _ if code.starts_with("08") || code.starts_with("57") || code == "53300" => Class::Lost,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_are_certain_run_again_and_all_others_leave_a_sent_commit_open() {
        for number in [1205, 1213, 1020, 3101, 9007, 8002, 8022, 8028] {
            assert_eq!(classify_mysql(number), Class::RolledBack, "{number}");
        }
        for number in [1047, 1053, 1927, 2006, 2013] {
            assert_eq!(classify_mysql(number), Class::Lost, "{number}");
        }
        assert_eq!(classify_mysql(1290), Class::ReadOnly);
        assert_eq!(classify_mysql(1045), Class::Denied);
        assert_eq!(classify_mysql(1064), Class::Other);
        for code in ["40001", "40P01", "55P03"] {
            assert_eq!(classify_postgres(code), Class::RolledBack, "{code}");
        }
        for code in ["57P01", "08006", "40003"] {
            assert_eq!(classify_postgres(code), Class::Lost, "{code}");
        }
        assert_eq!(classify_postgres("25006"), Class::ReadOnly);
        assert_eq!(classify_postgres("53100"), Class::NoSpace);

        assert!(Fault::timeout("COMMIT", Duration::from_secs(1)).leaves_commit_open());
        assert!(!Fault::new(Class::RolledBack, "x").leaves_commit_open());
    }
}

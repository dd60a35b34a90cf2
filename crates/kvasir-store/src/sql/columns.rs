//! Rows of the driver as rows of ours: read in one place, whichever protocol they came by.

use bytes::Bytes;
use kvasir_kv::{Key, UnixMillis, Versionstamp};
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;
use sqlx::postgres::PgRow;

use super::address::Protocol;
use super::fault::Fault;
use super::session::{LogRow, Row};

/// The columns of a row by their place. The first five read one column, all others several.
///
/// Integers are 64 bits wide: statements cast where a server would give another width.
pub(super) trait Columns {
    fn text(&self, column: usize) -> Result<String, Fault>;
    fn integer(&self, column: usize) -> Result<i64, Fault>;
    fn integer_or_null(&self, column: usize) -> Result<Option<i64>, Fault>;
    fn bytes(&self, column: usize) -> Result<Vec<u8>, Fault>;
    fn bytes_or_null(&self, column: usize) -> Result<Option<Vec<u8>>, Fault>;

    fn sequence(&self, column: usize) -> Result<u64, Fault> {
        u64::try_from(self.integer(column)?)
            .map_err(|_| Fault::damaged("a sequence in the database is negative"))
    }

    fn stamp(&self, column: usize) -> Result<Versionstamp, Fault> {
        to_stamp(self.bytes(column)?)
    }

    /// `k, vs, exp` and perhaps `v`, from column `at` on.
    fn entry(&self, at: usize, with_record: bool) -> Result<Row, Fault> {
        Ok(Row {
            key: Key::new(self.bytes(at)?),
            stamp: self.stamp(at + 1)?,
            expires_at: self.integer_or_null(at + 2)?.map(UnixMillis),
            record: if with_record {
                Some(Bytes::from(self.bytes(at + 3)?))
            } else {
                None
            },
        })
    }

    /// `r, k, vs, exp, v`: `r` is 0 for a point, else one more than the place of the range.
    fn marked_entry(&self) -> Result<(Option<usize>, Row), Fault> {
        let mark = usize::try_from(self.integer(0)?).ok();
        Ok((
            mark.and_then(|mark| mark.checked_sub(1)),
            self.entry(1, true)?,
        ))
    }

    /// `k, vs`.
    fn key_and_stamp(&self) -> Result<(Key, Versionstamp), Fault> {
        Ok((Key::new(self.bytes(0)?), self.stamp(1)?))
    }

    /// `seq, vs, ks`: what followers need of a log row.
    fn log_row(&self) -> Result<LogRow, Fault> {
        Ok(LogRow {
            sequence: self.sequence(0)?,
            newest: self.stamp(1)?,
            keys: self.bytes(2)?,
            token: [0; 16],
            at: UnixMillis(0),
            outcomes: Vec::new(),
        })
    }

    /// `v` of the sequence, and the newest `vs` of the log, which may be empty.
    fn position(&self) -> Result<(u64, Versionstamp), Fault> {
        let newest = match self.bytes_or_null(1)? {
            Some(bytes) => to_stamp(bytes)?,
            None => Versionstamp::ZERO,
        };
        Ok((self.sequence(0)?, newest))
    }

    /// The version of our tables.
    fn schema_version(&self) -> Result<u32, Fault> {
        Ok(u32::try_from(self.integer(0)?).unwrap_or(u32::MAX))
    }
}

fn to_stamp(bytes: Vec<u8>) -> Result<Versionstamp, Fault> {
    <[u8; 10]>::try_from(bytes)
        .map(Versionstamp::from_bytes)
        .map_err(|_| Fault::damaged("a versionstamp in the database is not 10 bytes long"))
}

/// The rows of the two drivers have the same methods but no trait that says so briefly.
macro_rules! columns {
    ($row:ty, $protocol:expr) => {
        impl Columns for $row {
            fn text(&self, column: usize) -> Result<String, Fault> {
                self.try_get(column)
                    .map_err(|error| Fault::from_driver($protocol, error))
            }

            fn integer(&self, column: usize) -> Result<i64, Fault> {
                self.try_get(column)
                    .map_err(|error| Fault::from_driver($protocol, error))
            }

            fn integer_or_null(&self, column: usize) -> Result<Option<i64>, Fault> {
                self.try_get(column)
                    .map_err(|error| Fault::from_driver($protocol, error))
            }

            fn bytes(&self, column: usize) -> Result<Vec<u8>, Fault> {
                self.try_get(column)
                    .map_err(|error| Fault::from_driver($protocol, error))
            }

            fn bytes_or_null(&self, column: usize) -> Result<Option<Vec<u8>>, Fault> {
                self.try_get(column)
                    .map_err(|error| Fault::from_driver($protocol, error))
            }
        }
    };
}

columns!(MySqlRow, Protocol::MySql);
columns!(PgRow, Protocol::Postgres);

//! Rows of `kvasir export --format csv`.
//!
//! | column | what |
//! | --- | --- |
//! | `key` | the key as a JSON array of parts |
//! | `value` | JSON, with tagged forms for what JSON cannot say, as REST shows it |
//! | `versionstamp` | 20 hexadecimal digits, or nothing for a new one |
//! | `expiresAt` | milliseconds since 1970, or nothing |
//! | `keyspace` | its keyspace, in an export of all |
//!
//! The first line names the columns, in any order; `key` and `value` must be there. What an entry was
//! stored as is not in it: plain JSON comes in as JSON, tagged forms as V8, `u64` or bytes.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use kvasir_api::dump::Line;
use kvasir_api::{key_json, v8json};
use kvasir_kv::{Entry, UnixMillis, Versionstamp};

/// What the first line may say.
const COLUMNS: &str = "the first line names the columns: key and value, and if wanted versionstamp, \
                       expiresAt and keyspace";

/// Which column stands where.
#[derive(Debug)]
pub(super) struct Columns {
    count: usize,
    key: usize,
    value: usize,
    versionstamp: Option<usize>,
    expires_at: Option<usize>,
    keyspace: Option<usize>,
}

impl Columns {
    /// Reads the first line of a file.
    ///
    /// # Errors
    ///
    /// If it names no columns, or others.
    pub(super) fn read(head: &[u8]) -> anyhow::Result<Columns> {
        let names = cells(head)?;
        let known = ["key", "value", "versionstamp", "expiresAt", "keyspace"];
        for (place, name) in names.iter().enumerate() {
            ensure!(
                known.contains(&name),
                "there is no column {name:?}: {COLUMNS}"
            );
            let is_first = names.iter().position(|other| other == name) == Some(place);
            ensure!(is_first, "the column {name} is there twice: {COLUMNS}");
        }
        let place = |name| names.iter().position(|other| other == name);
        let (Some(key), Some(value)) = (place("key"), place("value")) else {
            bail!("{COLUMNS}");
        };
        Ok(Columns {
            count: names.len(),
            key,
            value,
            versionstamp: place("versionstamp"),
            expires_at: place("expiresAt"),
            keyspace: place("keyspace"),
        })
    }

    /// The entry of a row, and the keyspace that it names.
    ///
    /// # Errors
    ///
    /// Names the column that is wrong, and says what may be in it.
    pub(super) fn line(&self, row: &[u8]) -> anyhow::Result<(Line, Option<String>)> {
        let row = cells(row)?;
        ensure!(
            row.len() == self.count,
            "a row has {} columns, not {}",
            self.count,
            row.len()
        );
        let cell = |place: usize| row.get(place).unwrap_or_default();
        let optional = |place: Option<usize>| place.map(cell).filter(|text| !text.is_empty());
        let key = key_json::parse(cell(self.key))
            .context("key: an array of parts such as [\"users\",1]")?;
        let value = Bytes::copy_from_slice(cell(self.value).as_bytes());
        serde_json::from_slice::<&serde_json::value::RawValue>(&value)
            .context("value: JSON, in quotes whatever it is: \"\"\"text\"\"\"")?;
        let value = v8json::parse(&value).context("value")?;
        let versionstamp: Option<Versionstamp> = optional(self.versionstamp)
            .map(str::parse)
            .transpose()
            .context("versionstamp: 20 hexadecimal digits, or nothing")?;
        let expires_at: Option<i64> = optional(self.expires_at)
            .map(str::parse)
            .transpose()
            .context("expiresAt: milliseconds since 1970, or nothing")?;
        let mut line = Line::of(&Entry {
            key,
            value,
            versionstamp: versionstamp.unwrap_or_default(),
            expires_at: expires_at.map(UnixMillis),
            meta: None::<Arc<_>>,
        });
        if versionstamp.is_none() {
            line.versionstamp = None;
        }
        Ok((line, optional(self.keyspace).map(str::to_owned)))
    }
}

fn cells(row: &[u8]) -> anyhow::Result<csv::StringRecord> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(row);
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record).context("it is no CSV")?;
    Ok(record)
}

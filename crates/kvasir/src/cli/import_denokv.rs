//! `kvasir import denokv`: the SQLite file of denokv or of `Deno.openKv(path)`.
//!
//! Both keep one table `kv` and two of queue messages. Older files lack columns, which then have
//! their defaults; files that a replica made have `kv` as a view, which is read like the table.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use kvasir_api::queue::MESSAGE_ID_DIGITS;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};

use super::admin::Administration;
use super::client::block_on;
use super::import_batches::Batches;
use super::import_journal::{Journal, identity};
use super::import_lines::{Into, say};
use super::progress::Progress;
use crate::exit::{Exit, Failure};

/// Import the SQLite file of denokv or of Deno.openKv(path).
///
/// Entries keep their values, versionstamps and expiries; those past their expiry are left out.
/// Waiting messages are enqueued, and those that were being handled are due at once. The file is
/// only read, and may be open elsewhere. It may be repeated: the same entries are written once more,
/// and a message that was taken in once is left alone, also when it was delivered since. An
/// interrupted import goes on where it stopped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir import denokv kv.sqlite3
  kvasir import denokv /var/lib/denokv/data.sqlite3 --db shop --no-queue

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Denokv {
    /// The SQLite file
    file: PathBuf,
    /// Leave the messages of its queue
    #[arg(long)]
    no_queue: bool,
    #[command(flatten)]
    into: Into,
}

impl Denokv {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let source = open(&self.file)?;
        block_on(async {
            let server = Administration::reach(&self.into.target).await?;
            let done = self.copy(&source, &server).await;
            server.leave().await?;
            done
        })
    }

    async fn copy(&self, source: &Connection, server: &Administration) -> Result<(), Failure> {
        // One snapshot of everything, whoever writes meanwhile.
        source
            .execute_batch("BEGIN")
            .context("cannot read the file")?;
        let now_ms = now_ms(source)?;
        let mut batches = Batches::begin(server, &self.into).await?;
        let expired = self.copy_entries(source, &mut batches, now_ms).await?;
        if !self.no_queue {
            for table in ["queue", "queue_running"] {
                copy_messages(source, table, &mut batches, now_ms).await?;
            }
        }
        batches.flush().await?;
        Journal::remove(&self.file);
        batches.report();
        if expired > 0 {
            say(&format!("left out {expired} entries past their expiry"));
        }
        Ok(())
    }

    /// The place in its history that the file is at: a journal of another place does not count.
    fn identity(&self, source: &Connection) -> anyhow::Result<String> {
        let metadata = std::fs::metadata(&self.file).context("cannot look at the file")?;
        let version: Option<i64> = match columns(source, "data_version")?.is_empty() {
            true => None,
            false => source
                .query_row("SELECT max(version) FROM data_version", [], |row| {
                    row.get(0)
                })
                .context("cannot read data_version")?,
        };
        let version = version.unwrap_or_default();
        Ok(format!("version {version} in {}", identity(&metadata)))
    }

    /// Copies entries, and says how many had expired.
    async fn copy_entries(
        &self,
        source: &Connection,
        batches: &mut Batches<'_>,
        now_ms: i64,
    ) -> Result<u64, Failure> {
        let mut journal = Journal::read(&self.file, &self.into.db, &self.identity(source)?);
        let begin = match &journal.key {
            None => Vec::new(),
            Some(key) => BASE64.decode(key.as_bytes()).unwrap_or_default(),
        };
        if !begin.is_empty() {
            say("going on behind the last entry that was stored");
        }
        let known = columns(source, "kv")?;
        let column = |name: &str, default: &str| match known.iter().any(|known| known == name) {
            true => name.to_owned(),
            false => default.to_owned(),
        };
        let select = format!(
            "SELECT k, v, v_encoding, version, {}, {} FROM kv WHERE k >= ?1 ORDER BY k",
            column("seq", "0"),
            column("expiration_ms", "-1"),
        );
        let count: i64 = source
            .query_row("SELECT count(*) FROM kv WHERE k >= ?1", [&begin], |row| {
                row.get(0)
            })
            .context("cannot count the entries")?;
        let total = Some(count.unsigned_abs());
        let mut progress = Progress::begin(self.into.progress, "entries", 0, total);
        let mut statement = source.prepare(&select).context("cannot read entries")?;
        let mut rows = statement.query([&begin]).context("cannot read entries")?;
        let mut expired = 0;
        while let Some(row) = rows.next().context("cannot read an entry")? {
            progress.add(1);
            match entry(row, now_ms)? {
                None => expired += 1,
                Some(entry) => {
                    if batches.push(entry).await? {
                        let key: Vec<u8> = row.get(0).context("cannot read a key")?;
                        journal.key = Some(BASE64.encode(&key));
                        journal.write(&self.file)?;
                    }
                }
            }
        }
        batches.flush().await?;
        progress.end();
        Ok(expired)
    }
}

/// Copies the messages of a table, if the file has it.
async fn copy_messages(
    source: &Connection,
    table: &str,
    batches: &mut Batches<'_>,
    now_ms: i64,
) -> Result<(), Failure> {
    let Some(select) = select_messages(source, table)? else {
        return Ok(());
    };
    let mut statement = source.prepare(&select).context("cannot read messages")?;
    let mut rows = statement.query([now_ms]).context("cannot read messages")?;
    while let Some(row) = rows.next().context("cannot read a message")? {
        let message = message(row).context("a message of the queue is damaged")?;
        batches.push_message(message).await?;
    }
    Ok(())
}

/// Reads due time, id, payload, schedule and keys; `?1` is now.
fn select_messages(source: &Connection, table: &str) -> anyhow::Result<Option<String>> {
    if columns(source, table)?.is_empty() {
        return Ok(None);
    }
    // What was being handled is due at once.
    let due = match table {
        "queue" => "ts",
        _ => "?1",
    };
    Ok(Some(format!(
        "SELECT {due}, id, data, backoff_schedule, keys_if_undelivered FROM {table}
         WHERE ?1 IS NOT NULL ORDER BY 1, id"
    )))
}

/// Opens the file for reading only.
fn open(file: &Path) -> Result<Connection, Failure> {
    if !file.is_file() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} is not a file", file.display()),
        ));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(file, flags).and_then(|source| {
        // Reads the header, and the log beside it.
        source.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
        Ok(source)
    });
    let source = opened.with_context(|| format!("{} is no SQLite file", file.display()))?;
    if columns(&source, "kv")?.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "{} has no table kv: it is not a file of Deno KV",
                file.display()
            ),
        ));
    }
    Ok(source)
}

fn columns(source: &Connection, table: &str) -> anyhow::Result<Vec<String>> {
    let mut statement = source.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// The present time. Asked of SQLite, which has a clock at hand.
fn now_ms(source: &Connection) -> anyhow::Result<i64> {
    let seconds = "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";
    Ok(source.query_row(seconds, [], |row| row.get(0))?)
}

/// One row as an entry of an import; `None` if it has expired.
fn entry(row: &Row<'_>, now_ms: i64) -> anyhow::Result<Option<Box<RawValue>>> {
    let key: Vec<u8> = row.get(0)?;
    let value: Vec<u8> = row.get(1)?;
    let (encoding, version, seq): (i64, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
    let expires_at: i64 = row.get(5)?;
    if (0..=now_ms).contains(&expires_at) {
        return Ok(None);
    }
    let encoding = match encoding {
        1 => "v8",
        2 => "u64",
        3 => "bytes",
        other => bail!("an entry has the unknown encoding {other}"),
    };
    let seq = u16::try_from(seq).context("an entry has a sequence number over 65535")?;
    let mut line = json!({
        "key": [{"type": "raw", "value": BASE64URL_NOPAD.encode(&key)}],
        "encoding": encoding,
        "raw": BASE64.encode(&value),
        "versionstamp": format!("{version:016x}{seq:04x}"),
    });
    if expires_at >= 0 {
        line["expiresAt"] = expires_at.into();
    }
    Ok(Some(to_raw_value(&line)?))
}

/// One row as a message of an import.
fn message(row: &Row<'_>) -> anyhow::Result<Box<RawValue>> {
    let due_ms: i64 = row.get(0)?;
    let id: String = row.get(1)?;
    let payload: Vec<u8> = row.get(2)?;
    let backoff: Option<Vec<u32>> = json_column(row, 3)?;
    let keys: Option<Vec<Vec<u8>>> = json_column(row, 4)?;
    let keys = keys.unwrap_or_default();
    let line = json!({
        "id": message_id(&id),
        "payload": BASE64.encode(&payload),
        "dueMs": due_ms,
        "backoffMs": backoff,
        "undelivered": keys.iter().map(|key| BASE64.encode(key)).collect::<Vec<_>>(),
    });
    Ok(to_raw_value(&line)?)
}

/// The id here of the message that has this one there: always the same, so that no message comes in
/// twice.
fn message_id(theirs: &str) -> String {
    let mut id = HEXLOWER.encode(&Sha256::digest(format!("denokv {theirs}")));
    id.truncate(MESSAGE_ID_DIGITS);
    id
}

/// A column that holds JSON, as text or as bytes.
fn json_column<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> anyhow::Result<Option<T>> {
    use rusqlite::types::ValueRef;
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Text(text) | ValueRef::Blob(text) => Ok(serde_json::from_slice(text)?),
        _ => bail!("a column holds a number where JSON belongs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kvasir(folder: &Path, args: &[&str]) -> Exit {
        let data = folder.join("data").to_string_lossy().into_owned();
        let all = ["kvasir"].iter().chain(args).map(std::ffi::OsString::from);
        let target = ["--data".into(), data.into()];
        crate::cli::run(all.chain(target).collect())
    }

    /// A file of either schema, with an entry that has expired, and a queue in the newer one.
    fn source(file: &Path, is_newer: bool) {
        let source = Connection::open(file).unwrap();
        let (columns, more) = match is_newer {
            true => (
                ", seq integer default 0, expiration_ms integer default -1",
                ", 2, 4102444800000",
            ),
            false => ("", ""),
        };
        let schema = format!(
            "CREATE TABLE kv (k blob primary key, v blob not null, v_encoding integer not null,
                version integer not null{columns}) without rowid;
             INSERT INTO kv VALUES (x'026100', x'ff0f4902', 1, 7{more});
             INSERT INTO kv VALUES (x'026200', x'0500000000000000', 2, 8{more});
             INSERT INTO kv VALUES (x'fe', x'', 3, 9{more});"
        );
        source.execute_batch(&schema).unwrap();
        if is_newer {
            let more = "INSERT INTO kv VALUES (x'026300', x'', 3, 10, 0, 1);
                CREATE TABLE queue (ts integer, id text, data blob, backoff_schedule text,
                    keys_if_undelivered blob, primary key (ts, id));
                INSERT INTO queue VALUES (5, 'a', x'ff0f4902', '[100]', '[[2,97,0]]');
                CREATE TABLE queue_running (deadline integer, id text, data blob,
                    backoff_schedule text, keys_if_undelivered blob, primary key (deadline, id));
                INSERT INTO queue_running VALUES (9, 'b', x'ff0f4904', 'null', '[]');";
            source.execute_batch(more).unwrap();
        }
    }

    #[test]
    fn files_of_both_schemas_come_in_with_stamps_and_expiries() {
        for (is_newer, stamp, expiry) in [
            (
                true,
                "00000000000000070002",
                r#","expiresAt":4102444800000"#,
            ),
            (false, "00000000000000070000", ""),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("kv.sqlite3");
            std::fs::create_dir(folder.path().join("data")).unwrap();
            source(&file, is_newer);
            let name = file.to_str().unwrap();
            assert_eq!(
                kvasir(folder.path(), &["import", "denokv", name]),
                Exit::Done
            );

            let lines = folder.path().join("lines");
            let exported = kvasir(folder.path(), &["export", lines.to_str().unwrap()]);
            assert_eq!(exported, Exit::Done);
            let lines = std::fs::read_to_string(lines).unwrap();
            let lines: Vec<_> = lines.lines().collect();
            let messages = if is_newer { 2 } else { 0 };
            assert_eq!(
                lines.len(),
                3 + messages,
                "the expired entry is left out: {lines:?}"
            );
            let first = format!(
                r#"{{"key":[{{"type":"string","value":"a"}}],"value":{{"type":"number","value":1}},"versionstamp":"{stamp}"{expiry}}}"#
            );
            assert_eq!(lines[0], first);
            assert!(
                lines[2].contains(r#""type":"raw""#),
                "a key that is no tuple"
            );
        }
    }

    #[test]
    fn messages_that_wait_and_that_were_being_handled_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kv.sqlite3");
        source(&file, true);
        let source = open(&file).unwrap();
        let mut found = Vec::new();
        for table in ["queue", "queue_running", "no_such_table"] {
            let Some(select) = select_messages(&source, table).unwrap() else {
                continue;
            };
            let mut statement = source.prepare(&select).unwrap();
            let mut rows = statement.query([77]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let line: serde_json::Value =
                    serde_json::from_str(message(row).unwrap().get()).unwrap();
                found.push(line);
            }
        }
        assert_eq!(
            found,
            [
                json!({"id": message_id("a"), "payload": "/w9JAg==", "dueMs": 5, "backoffMs": [100], "undelivered": ["AmEA"]}),
                json!({"id": message_id("b"), "payload": "/w9JBA==", "dueMs": 77, "backoffMs": null, "undelivered": []}),
            ]
        );
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kv.sqlite3");
        std::fs::write(&file, "no database at all, but long enough to look at").unwrap();
        assert!(open(&file).is_err());
        std::fs::remove_file(&file).unwrap();
        assert!(open(&file).is_err());
        Connection::open(&file)
            .unwrap()
            .execute_batch("CREATE TABLE other (a)")
            .unwrap();
        assert_eq!(open(&file).unwrap_err().exit, Exit::Usage);
    }
}

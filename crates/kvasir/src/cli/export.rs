//! `kvasir export`: a database as JSON lines.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use kvasir_api::dump::{Line, MessageLine};
use kvasir_kv::keyspace::Cursor;
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::admin::Administration;
use super::client::{Target, block_on, segment};
use super::import_lines::say;
use super::progress::{Progress, ProgressForm};
use crate::exit::Failure;

/// How much of a file's end is looked at first for its last line, in bytes.
const TAIL_BYTES: u64 = 64 * 1024;

/// Write a database as JSON lines, one entry each, as it is at one moment.
///
/// The lines are those of the kv-utils package for Deno, with further members where it would lose
/// something; `kvasir import` restores every entry to the byte. Behind the entries come the messages of
/// the queue, unless --no-queue leaves them out: other programs may not know such lines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir export shop.jsonl --db shop
  kvasir export - | gzip > default.jsonl.gz
  kvasir export users.csv --prefix '[\"users\"]' --format csv
  kvasir export everything.jsonl --all

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Export {
    /// File to write, which must not be there yet; - for standard output
    file: PathBuf,
    /// Which database [default: KVASIR_DATABASE, that of the context, `default`]
    #[arg(long, value_name = "NAME")]
    db: Option<String>,
    /// Every keyspace but those of tokens and queues, each line with its keyspace
    #[arg(long, conflicts_with_all = ["db", "prefix", "resume"])]
    all: bool,
    /// Only keys that begin with these parts, a JSON array
    #[arg(long, value_name = "KEY", conflicts_with = "resume")]
    prefix: Option<String>,
    /// How to write entries. csv and raw lose types and what is beside values: only jsonl restores
    /// every entry
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        default_value_t,
        conflicts_with = "resume"
    )]
    format: Format,
    /// Go on behind the last whole line of FILE; what comes then is as it is now
    #[arg(long)]
    resume: bool,
    /// Leave out the messages of the queue
    #[arg(long)]
    no_queue: bool,
    #[command(flatten)]
    progress: ProgressForm,
    #[command(flatten)]
    target: Target,
}

/// How entries are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON text a line, with everything an entry is.
    #[default]
    Jsonl,
    /// Key, value, versionstamp and expiry.
    Csv,
    /// The bytes of the values, each with a line feed behind it.
    Raw,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Raw => "raw",
        }
    }

    /// What is lost.
    fn warning(self) -> Option<&'static str> {
        match self {
            Format::Jsonl => None,
            Format::Csv => Some(
                "csv holds no encodings, nothing beside values and no messages: `kvasir import` gives \
                 back keys, JSON, versionstamps and expiries; only jsonl restores every entry",
            ),
            Format::Raw => Some(
                "raw holds values only: it cannot be imported; only jsonl restores every entry",
            ),
        }
    }
}

impl Export {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (mut out, place): (Box<dyn Write>, _) = if self.file == Path::new("-") {
            if self.resume {
                return Err(Failure::usage("standard output cannot be resumed"));
            }
            (Box::new(std::io::stdout().lock()), Place::default())
        } else if self.resume {
            let (file, place) = reopen(&self.file)?;
            (Box::new(file), place)
        } else {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&self.file);
            let name = self.file.display();
            let file = file.with_context(|| {
                format!("cannot write {name}; use --resume to go on with a file that is there")
            })?;
            (Box::new(file), Place::default())
        };
        let db = self.target.database(self.db.as_deref())?;
        block_on(async {
            let server = Administration::reach(&self.target).await?;
            let written = self.write(&server, &db, &mut out, place).await;
            server.leave().await?;
            written
        })
    }

    async fn write(
        &self,
        server: &Administration,
        db: &str,
        out: &mut dyn Write,
        place: Place,
    ) -> Result<(), Failure> {
        let mut pages = Pages {
            server,
            database: format!("/databases/{}", segment(db)),
            out: BufWriter::new(out),
            progress: Progress::begin(self.progress, "entries", 0, None),
        };
        let (entries, messages) = match place {
            Place::Entries(None) => (pages.stream(&self.query(db)).await?, None),
            Place::Entries(cursor) => {
                let entries = pages.copy("entries", cursor, |entry| entry.get().to_owned());
                (entries.await?, None)
            }
            Place::Messages(cursor) => (0, Some(cursor)),
        };
        let has_messages =
            !self.no_queue && !self.all && self.prefix.is_none() && self.format == Format::Jsonl;
        let messages = match has_messages {
            false => 0,
            true => {
                let line = |message: &RawValue| format!("{{\"message\":{}}}", message.get());
                pages.copy("messages", messages, line).await?
            }
        };
        pages.progress.end();
        let file = self.file.display();
        match self.format.warning() {
            None => say(&format!(
                "exported {entries} entries and {messages} messages to {file}"
            )),
            // A value may have several lines here.
            Some(warning) => {
                say(&format!("exported {entries} lines to {file}"));
                say(warning);
            }
        }
        Ok(())
    }
}

impl Export {
    /// What the server is asked for.
    fn query(&self, db: &str) -> String {
        let mut query = format!("/export?format={}", self.format.name());
        if !self.all {
            query += &format!("&keyspace={}", segment(db));
        }
        if let Some(prefix) = &self.prefix {
            query += &format!("&prefix={}", segment(prefix));
        }
        query
    }
}

/// Where an export goes on.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Behind an entry, if there is one.
    Entries(Option<String>),
    /// Behind a message; all entries are there.
    Messages(String),
}

impl Default for Place {
    fn default() -> Self {
        Place::Entries(None)
    }
}

/// One page of either kind, its lines as they are.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    entries: Vec<Box<RawValue>>,
    #[serde(default)]
    messages: Vec<Box<RawValue>>,
    cursor: Option<String>,
}

/// Pages of a database on their way to a file.
struct Pages<'a> {
    server: &'a Administration,
    database: String,
    out: BufWriter<&'a mut dyn Write>,
    progress: Progress,
}

impl Pages<'_> {
    /// Writes what the server sends, and says how many lines that were.
    async fn stream(&mut self, query: &str) -> Result<u64, Failure> {
        let mut parts = self.server.stream(query).await?;
        let mut lines = 0;
        while let Some(part) = parts.next().await {
            let part = part.context("the answer broke off: the export is not whole")?;
            self.out
                .write_all(&part)
                .context("cannot write the export")?;
            let more = part.iter().filter(|byte| **byte == b'\n').count() as u64;
            lines += more;
            self.progress.add(more);
        }
        self.out.flush().context("cannot write the export")?;
        Ok(lines)
    }

    /// Copies all pages of one kind, and says how many lines that were.
    async fn copy(
        &mut self,
        kind: &str,
        mut cursor: Option<String>,
        line: impl Fn(&RawValue) -> String,
    ) -> Result<u64, Failure> {
        let mut written = 0;
        let path = format!("{}/{kind}", self.database);
        loop {
            let page = match &cursor {
                None => path.clone(),
                Some(cursor) => format!("{path}?cursor={}", segment(cursor)),
            };
            let page = self.server.exchange(Method::GET, &page, None).await?;
            let page: Page = serde_json::from_slice(&page).context("the answer is not a page")?;
            for item in page.entries.iter().chain(&page.messages) {
                writeln!(self.out, "{}", line(item)).context("cannot write the export")?;
                written += 1;
                self.progress.add(1);
            }
            // A page is whole in the file before the next one is asked for.
            self.out.flush().context("cannot write the export")?;
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(written);
            }
        }
    }
}

/// Opens a file that was cut off at any byte, cuts it behind its last whole line, and says where to
/// go on.
fn reopen(path: &Path) -> anyhow::Result<(File, Place)> {
    let shown = path.display();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {shown}"))?;
    let (end, last) = last_line(&mut file).with_context(|| format!("cannot read {shown}"))?;
    file.set_len(end)?;
    file.seek(SeekFrom::End(0))?;
    let place = match last {
        None => Place::default(),
        Some(last) => place_behind(&last)
            .with_context(|| format!("the last line of {shown} is not one of an export"))?,
    };
    Ok((file, place))
}

fn place_behind(line: &[u8]) -> anyhow::Result<Place> {
    #[derive(Deserialize)]
    struct OfMessage {
        message: MessageLine,
    }
    if let Ok(OfMessage { message }) = serde_json::from_slice(line) {
        return Ok(Place::Messages(message.id.context("a message has an id")?));
    }
    let line: Line = serde_json::from_slice(line)?;
    let entry = line.into_entry()?;
    Ok(Place::Entries(Some(Cursor(entry.key).to_string())))
}

/// Where the last whole line ends, and what it says.
fn last_line(file: &mut File) -> std::io::Result<(u64, Option<Vec<u8>>)> {
    let len = file.metadata()?.len();
    let mut window = TAIL_BYTES;
    loop {
        let from = len.saturating_sub(window);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        Read::by_ref(file).take(len - from).read_to_end(&mut tail)?;
        let is_all = from == 0;
        match tail.iter().rposition(|byte| *byte == b'\n') {
            None if is_all => return Ok((0, None)),
            None => {}
            Some(end) => {
                let begin = tail[..end].iter().rposition(|byte| *byte == b'\n');
                match begin {
                    None if !is_all => {}
                    begin => {
                        let begin = begin.map_or(0, |newline| newline + 1);
                        let line = tail[begin..end].to_vec();
                        return Ok((from + end as u64 + 1, Some(line)));
                    }
                }
            }
        }
        window = window.saturating_mul(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_on_behind_its_last_whole_line() {
        let long = "x".repeat(200_000);
        for (text, end, line) in [
            ("", 0, None),
            ("cut off", 0, None),
            ("one\n", 4, Some("one")),
            ("one\ntwo\ncut", 8, Some("two")),
            (&format!("one\n{long}\ncut"), 200_005, Some(long.as_str())),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let (at, found) = last_line(&mut file).unwrap();
            assert_eq!(at, end);
            assert_eq!(found.as_deref(), line.map(str::as_bytes));
        }
    }
}

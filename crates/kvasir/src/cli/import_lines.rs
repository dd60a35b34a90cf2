//! `kvasir import FILE`: JSON lines into a database.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::admin::Administration;
use super::client::{Target, block_on, segment};
use crate::exit::{Exit, Failure};

/// Longest line, in bytes: the largest value, typed and as base64.
const LINE_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// Entries and bytes after which a batch is sent.
const BATCH_ENTRIES: usize = 500;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// JSON lines of `kvasir export`, or of the kv-utils package for Deno.
#[derive(Debug, Args)]
pub(super) struct Lines {
    /// File with JSON lines of `kvasir export` or of kv-utils; - for standard input
    #[arg(required = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    into: Into,
}

/// Where entries go.
#[derive(Debug, Args)]
pub(super) struct Into {
    /// Which database; it is made if it is not there
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) db: String,
    /// Leave keys alone that are there already
    #[arg(long)]
    pub(super) keep_existing: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

impl Lines {
    /// Entries keep their versionstamps and expiries. An interrupted import goes on where it stopped
    /// when it is started again; what is already there is written once more, which changes nothing.
    pub(super) fn run(&self) -> Result<(), Failure> {
        match &self.file {
            Some(file) => block_on(read_lines(file, &self.into)),
            None => Err(Failure::usage("a file to import is needed")),
        }
    }
}

/// Sends entries in batches.
pub(super) struct Batches<'a> {
    server: &'a Administration,
    into: &'a Into,
    entries: Vec<Box<RawValue>>,
    bytes: usize,
    /// Entries that were written, and those that were left alone.
    pub(super) written: u64,
    pub(super) kept: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Batch<'a> {
    entries: &'a [Box<RawValue>],
    keep_existing: bool,
}

impl<'a> Batches<'a> {
    /// Batches for a database, which is made if need be.
    pub(super) async fn begin(
        server: &'a Administration,
        into: &'a Into,
    ) -> Result<Batches<'a>, Failure> {
        let body = serde_json::json!({"name": into.db});
        server.call(Method::POST, "/databases", Some(&body)).await?;
        Ok(Batches {
            server,
            into,
            entries: Vec::new(),
            bytes: 0,
            written: 0,
            kept: 0,
        })
    }

    /// Adds an entry; says whether a batch was sent and everything added so far is stored.
    pub(super) async fn push(&mut self, entry: Box<RawValue>) -> Result<bool, Failure> {
        self.bytes += entry.get().len();
        self.entries.push(entry);
        if self.entries.len() < BATCH_ENTRIES && self.bytes < BATCH_BYTES {
            return Ok(false);
        }
        self.flush().await?;
        Ok(true)
    }

    /// Sends what is left.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let batch = Batch {
            entries: &self.entries,
            keep_existing: self.into.keep_existing,
        };
        let body = serde_json::to_value(&batch).context("cannot write a batch")?;
        let path = format!("/databases/{}/entries", segment(&self.into.db));
        let done = self.server.call(Method::POST, &path, Some(&body)).await?;
        self.written += done["written"].as_u64().unwrap_or_default();
        self.kept += done["kept"].as_u64().unwrap_or_default();
        self.entries.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// Says what was done, on standard error like every diagnosis.
#[expect(clippy::print_stderr, reason = "diagnostics go to standard error")]
pub(super) fn say(sentence: &str) {
    eprintln!("{sentence}");
}

/// How far an import has come, kept beside its file until it is done.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Journal {
    db: String,
    /// Size of the file; another size means another file.
    bytes: u64,
    /// Everything before is stored.
    offset: u64,
    line: u64,
}

impl Journal {
    fn path(file: &Path) -> PathBuf {
        let mut path = file.as_os_str().to_owned();
        path.push(".kvasir-import");
        path.into()
    }

    /// Where to begin.
    fn read(file: &Path, db: &str, bytes: u64) -> Journal {
        let text = std::fs::read(Journal::path(file)).unwrap_or_default();
        let found: Option<Journal> = serde_json::from_slice(&text).ok();
        let fits = |journal: &Journal| journal.db == db && journal.bytes == bytes;
        found.filter(fits).unwrap_or(Journal {
            db: db.to_owned(),
            bytes,
            offset: 0,
            line: 0,
        })
    }

    fn write(&self, file: &Path) -> anyhow::Result<()> {
        let path = Journal::path(file);
        let text = serde_json::to_vec(self)?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

async fn read_lines(file: &Path, into: &Into) -> Result<(), Failure> {
    let server = Administration::reach(&into.target).await?;
    let done = lines_into(file, into, &server).await;
    server.leave().await?;
    done
}

async fn lines_into(file: &Path, into: &Into, server: &Administration) -> Result<(), Failure> {
    let is_stdin = file == Path::new("-");
    let shown = file.display();
    let (mut input, mut journal): (Box<dyn BufRead>, _) = if is_stdin {
        (Box::new(std::io::stdin().lock()), Journal::default())
    } else {
        let mut opened = File::open(file).with_context(|| format!("cannot open {shown}"))?;
        let bytes = opened.metadata().context("cannot read its size")?.len();
        let journal = Journal::read(file, &into.db, bytes);
        if journal.offset > 0 {
            say(&format!("going on behind line {}", journal.line));
            let seek = opened.seek(SeekFrom::Start(journal.offset));
            seek.with_context(|| format!("cannot read {shown}"))?;
        }
        (Box::new(BufReader::new(opened)), journal)
    };
    let progress = ProgressBar::new(journal.bytes.max(1)).with_style(bar());
    progress.set_position(journal.offset);

    let mut batches = Batches::begin(server, into).await?;
    let (mut offset, mut line, mut stored) = (journal.offset, journal.line, journal.line);
    let failed = |error: Failure, from: u64, to: u64| Failure {
        exit: error.exit,
        error: error
            .error
            .context(format!("lines {from} to {to} of {shown}")),
    };
    loop {
        let mut text = Vec::new();
        let mut limited = Read::take(&mut input, LINE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut text);
        let read = read.with_context(|| format!("cannot read {shown}"))?;
        if read == 0 {
            break;
        }
        line += 1;
        offset += read as u64;
        if text.trim_ascii().is_empty() {
            continue;
        }
        if read as u64 == LINE_BYTES_MAX && text.last() != Some(&b'\n') {
            return Err(Failure::new(
                Exit::Failed,
                format!("line {line} of {shown} is over {LINE_BYTES_MAX} bytes"),
            ));
        }
        let entry: Box<RawValue> = serde_json::from_slice(&text)
            .with_context(|| format!("line {line} of {shown} is not JSON"))?;
        let is_sent = batches.push(entry).await;
        if is_sent.map_err(|error| failed(error, stored + 1, line))? {
            stored = line;
            progress.set_position(offset);
            (journal.offset, journal.line) = (offset, line);
            if !is_stdin {
                journal.write(file)?;
            }
        }
    }
    let is_sent = batches.flush().await;
    is_sent.map_err(|error| failed(error, stored + 1, line))?;
    if !is_stdin {
        // Gone already is as good.
        let _ = std::fs::remove_file(Journal::path(file));
    }
    progress.finish_and_clear();
    say(&format!(
        "imported {} entries into {}, left {} alone",
        batches.written, into.db, batches.kept
    ));
    Ok(())
}

pub(super) fn bar() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {percent}%  {elapsed} of about {duration}")
        .expect("the template is well-formed")
}

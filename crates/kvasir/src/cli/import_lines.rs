//! `kvasir import FILE`: JSON lines or CSV into a database.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::admin::Administration;
use super::client::{Target, block_on};
use super::import_batches::Batches;
use super::import_journal::{Journal, identity};
use super::import_records::{Item, Records};
use super::progress::{Progress, ProgressForm};
use crate::exit::Failure;

/// JSON lines of `kvasir export` or of the kv-utils package for Deno, or CSV of `kvasir export`.
#[derive(Debug, Args)]
pub(super) struct Lines {
    /// File with JSON lines of `kvasir export` or of kv-utils, or with CSV of `kvasir export`; - for
    /// standard input
    #[arg(required = true)]
    file: Option<PathBuf>,
    /// How entries are written in the file [default: csv for names that end so, else jsonl]. CSV holds
    /// no encodings: text of JSON comes in as JSON
    #[arg(long, value_enum, value_name = "FORM")]
    format: Option<Format>,
    #[command(flatten)]
    into: Into,
}

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One JSON text a line.
    Jsonl,
    /// A line that names the columns, then a row for each entry.
    Csv,
}

impl Format {
    fn of(file: &Path) -> Format {
        let ending = file.extension().and_then(|ending| ending.to_str());
        match ending.is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
            true => Format::Csv,
            false => Format::Jsonl,
        }
    }
}

/// Where entries go.
#[derive(Debug, Args)]
pub(super) struct Into {
    /// Which database; it is made if it is not there
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) db: String,
    /// Leave keys alone that are there already: short for --conflict skip
    #[arg(long, conflicts_with = "conflict")]
    pub(super) keep_existing: bool,
    /// What to do with a key that is there already
    #[arg(long, value_enum, value_name = "RULE", default_value_t)]
    pub(super) conflict: Conflict,
    /// Check everything and say what would be written, but write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Most entries a second
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rate: Option<u32>,
    #[command(flatten)]
    pub(super) progress: ProgressForm,
    #[command(flatten)]
    pub(super) target: Target,
}

/// What happens to a key that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Conflict {
    /// It is left alone.
    Skip,
    /// It is written over.
    #[default]
    Replace,
    /// It is written over by a greater versionstamp.
    Newer,
    /// The import stops, unless the entry is the same. What was sent before stays.
    Fail,
}

impl Lines {
    /// Entries keep their versionstamps and expiries, messages their ids. An interrupted import goes
    /// on where it stopped when it is started again; an entry that is already there is written once
    /// more, which changes nothing, and a message that was taken in once is left alone.
    pub(super) fn run(&self) -> Result<(), Failure> {
        match &self.file {
            Some(file) => {
                let format = self.format.unwrap_or_else(|| Format::of(file));
                block_on(read_file(file, format, &self.into))
            }
            None => Err(Failure::usage("a file to import is needed")),
        }
    }
}

/// Says what was done, on standard error like every diagnosis.
#[expect(clippy::print_stderr, reason = "diagnostics go to standard error")]
pub(super) fn say(sentence: &str) {
    eprintln!("{sentence}");
}

async fn read_file(file: &Path, format: Format, into: &Into) -> Result<(), Failure> {
    let server = Administration::reach(&into.target).await?;
    let done = file_into(file, format, into, &server).await;
    server.leave().await?;
    done
}

async fn file_into(
    file: &Path,
    format: Format,
    into: &Into,
    server: &Administration,
) -> Result<(), Failure> {
    let is_stdin = file == Path::new("-");
    let shown = file.display();
    let (mut records, mut journal, total) = match is_stdin {
        true => {
            let input: Input = Box::new(std::io::stdin().lock());
            (Records::begin(input, format)?, Journal::default(), None)
        }
        false => {
            let (records, journal, bytes) = open(file, format, &into.db)?;
            (records, journal, Some(bytes))
        }
    };
    let keeps_journal = !is_stdin && !into.dry_run;
    let mut progress = Progress::begin(into.progress, "bytes", journal.offset, total);
    let mut batches = Batches::begin(server, into).await?;
    let mut stored = journal.line;
    let failed = |error: Failure, from: u64, to: u64| Failure {
        exit: error.exit,
        error: error
            .error
            .context(format!("lines {from} to {to} of {shown}")),
    };
    loop {
        let item = records.next();
        let (offset, line) = records.place();
        let item = item.with_context(|| format!("line {} of {shown}", records.begun()))?;
        let Some(item) = item else { break };
        let is_sent = match item {
            Item::Entry(entry, keyspace) => {
                let to = keyspace.as_deref().unwrap_or(&into.db);
                match batches.turn_to(to).await {
                    Ok(()) => batches.push(entry).await,
                    Err(failure) => Err(failure),
                }
            }
            Item::Message(message) => match batches.turn_to(&into.db).await {
                Ok(()) => batches.push_message(message).await,
                Err(failure) => Err(failure),
            },
        };
        if is_sent.map_err(|error| failed(error, stored + 1, line))? {
            stored = line;
            progress.set(offset);
            (journal.offset, journal.line) = (offset, line);
            if keeps_journal {
                journal.write(file)?;
            }
        }
    }
    let (offset, line) = records.place();
    let is_sent = batches.flush().await;
    is_sent.map_err(|error| failed(error, stored + 1, line))?;
    if keeps_journal {
        Journal::remove(file);
    }
    progress.set(offset);
    progress.end();
    batches.report();
    Ok(())
}

/// A file or standard input.
type Input = Box<dyn BufRead>;

/// The file from where its journal says, and its size.
fn open(file: &Path, format: Format, db: &str) -> Result<(Records<Input>, Journal, u64), Failure> {
    let shown = file.display();
    let mut opened = File::open(file).with_context(|| format!("cannot open {shown}"))?;
    let metadata = opened.metadata().context("cannot read its size")?;
    let source = match format {
        Format::Jsonl => identity(&metadata),
        Format::Csv => format!("{} as CSV", identity(&metadata)),
    };
    let journal = Journal::read(file, db, &source);
    if journal.offset == 0 {
        let input: Input = Box::new(BufReader::new(opened));
        let records = Records::begin(input, format).with_context(|| shown.to_string())?;
        return Ok((records, journal, metadata.len()));
    }
    say(&format!("going on behind line {}", journal.line));
    // The line that names the columns is read again.
    let head = BufReader::new(opened.try_clone().context("cannot read it twice")?);
    let head = Records::begin(head, format).with_context(|| shown.to_string())?;
    let seek = opened.seek(SeekFrom::Start(journal.offset));
    seek.with_context(|| format!("cannot read {shown}"))?;
    let input: Input = Box::new(BufReader::new(opened));
    let records = head.go_on(input, journal.offset, journal.line);
    Ok((records, journal, metadata.len()))
}

//! `kvasir import FILE`: JSON lines into a database.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::admin::Administration;
use super::client::{Target, block_on, segment};
use super::import_journal::{Journal, identity};
use super::progress::{Progress, ProgressForm};
use crate::exit::{Exit, Failure};

/// Longest line, in bytes: the largest value, typed and as base64.
const LINE_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// Entries after which a batch is sent, and messages.
const BATCH_ENTRIES: usize = 500;

/// Bytes of lines after which a batch is sent.
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
    pub(super) progress: ProgressForm,
    #[command(flatten)]
    pub(super) target: Target,
}

impl Lines {
    /// Entries keep their versionstamps and expiries, messages their ids. An interrupted import goes
    /// on where it stopped when it is started again; an entry that is already there is written once
    /// more, which changes nothing, and a message that was taken in once is left alone.
    pub(super) fn run(&self) -> Result<(), Failure> {
        match &self.file {
            Some(file) => block_on(read_lines(file, &self.into)),
            None => Err(Failure::usage("a file to import is needed")),
        }
    }
}

/// Sends entries and messages in batches.
pub(super) struct Batches<'a> {
    server: &'a Administration,
    into: &'a Into,
    entries: Vec<Box<RawValue>>,
    messages: Vec<Box<RawValue>>,
    bytes: usize,
    done: Done,
}

/// What became of what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Done {
    written: u64,
    kept: u64,
    enqueued: u64,
    messages_kept: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entries<'a> {
    entries: &'a [Box<RawValue>],
    keep_existing: bool,
}

#[derive(Serialize)]
struct Messages<'a> {
    messages: &'a [Box<RawValue>],
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
            messages: Vec::new(),
            bytes: 0,
            done: Done::default(),
        })
    }

    /// Adds an entry; says whether a batch was sent and everything added so far is stored.
    pub(super) async fn push(&mut self, entry: Box<RawValue>) -> Result<bool, Failure> {
        self.bytes += entry.get().len();
        self.entries.push(entry);
        self.send_if_full().await
    }

    /// Adds a message; see [`Batches::push`].
    pub(super) async fn push_message(&mut self, message: Box<RawValue>) -> Result<bool, Failure> {
        self.bytes += message.get().len();
        self.messages.push(message);
        self.send_if_full().await
    }

    async fn send_if_full(&mut self) -> Result<bool, Failure> {
        let count = self.entries.len().max(self.messages.len());
        if count < BATCH_ENTRIES && self.bytes < BATCH_BYTES {
            return Ok(false);
        }
        self.flush().await?;
        Ok(true)
    }

    /// Sends what is left.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        let count = |answer: &serde_json::Value, what: &str| answer[what].as_u64().unwrap_or(0);
        if !self.entries.is_empty() {
            let entries = Entries {
                entries: &self.entries,
                keep_existing: self.into.keep_existing,
            };
            let answer = self.send("entries", &entries).await?;
            self.done.written += count(&answer, "written");
            self.done.kept += count(&answer, "kept");
        }
        if !self.messages.is_empty() {
            let messages = Messages {
                messages: &self.messages,
            };
            let answer = self.send("messages", &messages).await?;
            self.done.enqueued += count(&answer, "enqueued");
            self.done.messages_kept += count(&answer, "kept");
        }
        self.entries.clear();
        self.messages.clear();
        self.bytes = 0;
        Ok(())
    }

    async fn send(&self, what: &str, batch: &impl Serialize) -> Result<serde_json::Value, Failure> {
        let body = serde_json::to_value(batch).context("cannot write a batch")?;
        let path = format!("/databases/{}/{what}", segment(&self.into.db));
        self.server.call(Method::POST, &path, Some(&body)).await
    }

    /// Says what was done, on standard error like every diagnosis.
    pub(super) fn report(&self) {
        let (done, db) = (self.done, &self.into.db);
        say(&format!(
            "imported {} entries into {db}, left {} alone",
            done.written, done.kept
        ));
        if done.enqueued + done.messages_kept > 0 {
            say(&format!(
                "enqueued {} messages, left {} alone that were there or taken in before",
                done.enqueued, done.messages_kept
            ));
        }
    }
}

/// Says what was done, on standard error like every diagnosis.
#[expect(clippy::print_stderr, reason = "diagnostics go to standard error")]
pub(super) fn say(sentence: &str) {
    eprintln!("{sentence}");
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
    let mut bytes = 0;
    let (mut input, mut journal): (Box<dyn BufRead>, _) = if is_stdin {
        (Box::new(std::io::stdin().lock()), Journal::default())
    } else {
        let mut opened = File::open(file).with_context(|| format!("cannot open {shown}"))?;
        let metadata = opened.metadata().context("cannot read its size")?;
        bytes = metadata.len();
        let journal = Journal::read(file, &into.db, &identity(&metadata));
        if journal.offset > 0 {
            say(&format!("going on behind line {}", journal.line));
            let seek = opened.seek(SeekFrom::Start(journal.offset));
            seek.with_context(|| format!("cannot read {shown}"))?;
        }
        (Box::new(BufReader::new(opened)), journal)
    };
    let total = (!is_stdin).then_some(bytes);
    let mut progress = Progress::begin(into.progress, "bytes", journal.offset, total);

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
        let read = Line::read(&text);
        let is_sent = match read.with_context(|| format!("line {line} of {shown} is not JSON"))? {
            Line::Entry(entry) => batches.push(entry).await,
            Line::Message(message) => batches.push_message(message).await,
        };
        if is_sent.map_err(|error| failed(error, stored + 1, line))? {
            stored = line;
            progress.set(offset);
            (journal.offset, journal.line) = (offset, line);
            if !is_stdin {
                journal.write(file)?;
            }
        }
    }
    let is_sent = batches.flush().await;
    is_sent.map_err(|error| failed(error, stored + 1, line))?;
    if !is_stdin {
        Journal::remove(file);
    }
    progress.set(offset);
    progress.end();
    batches.report();
    Ok(())
}

/// What a line is. The server looks closer.
enum Line {
    Entry(Box<RawValue>),
    Message(Box<RawValue>),
}

impl Line {
    fn read(text: &[u8]) -> serde_json::Result<Line> {
        #[derive(Deserialize)]
        struct Kind {
            message: Option<Box<RawValue>>,
        }
        let raw: Box<RawValue> = serde_json::from_slice(text)?;
        // Whatever else it is, the server says what is wrong with it.
        let kind = serde_json::from_str(raw.get());
        Ok(match kind {
            Ok(Kind {
                message: Some(message),
            }) => Line::Message(message),
            _ => Line::Entry(raw),
        })
    }
}

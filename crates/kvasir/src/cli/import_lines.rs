//! `kvasir import FILE`: JSON lines into a database.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
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
    /// Where entries go now; lines may name it.
    keyspace: String,
    pace: Option<Pace>,
}

/// Keeps an import from being faster than it may.
struct Pace {
    per_second: u32,
    begun: Instant,
    sent: u64,
}

impl Pace {
    async fn keep(&mut self, sent: usize) {
        self.sent += sent as u64;
        let due = self.sent as f64 / f64::from(self.per_second);
        let due = Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX);
        tokio::time::sleep(due.saturating_sub(self.begun.elapsed())).await;
    }
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
    conflict: Conflict,
    dry_run: bool,
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
        if !into.dry_run {
            let body = serde_json::json!({"name": into.db});
            server.call(Method::POST, "/databases", Some(&body)).await?;
        }
        let pace = into.rate.map(|per_second| Pace {
            per_second,
            begun: Instant::now(),
            sent: 0,
        });
        Ok(Batches {
            keyspace: into.db.clone(),
            pace,
            server,
            into,
            entries: Vec::new(),
            messages: Vec::new(),
            bytes: 0,
            done: Done::default(),
        })
    }

    /// Sends what comes from now on to another keyspace.
    async fn turn_to(&mut self, keyspace: &str) -> Result<(), Failure> {
        if self.keyspace != keyspace {
            self.flush().await?;
            keyspace.clone_into(&mut self.keyspace);
        }
        Ok(())
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
        // A tenth of a second's worth, so that a rate is a rate and not a burst each minute.
        let most = self.into.rate.map_or(BATCH_ENTRIES, |rate| {
            usize::try_from(rate / 10)
                .unwrap_or(BATCH_ENTRIES)
                .clamp(1, BATCH_ENTRIES)
        });
        if count < most && self.bytes < BATCH_BYTES {
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
                conflict: match self.into.keep_existing {
                    true => Conflict::Skip,
                    false => self.into.conflict,
                },
                dry_run: self.into.dry_run,
            };
            let answer = self.send("entries", &entries).await?;
            self.done.written += count(&answer, "written");
            self.done.kept += count(&answer, "kept");
        }
        if self.into.dry_run {
            self.done.enqueued += self.messages.len() as u64;
        } else if !self.messages.is_empty() {
            let messages = Messages {
                messages: &self.messages,
            };
            let answer = self.send("messages", &messages).await?;
            self.done.enqueued += count(&answer, "enqueued");
            self.done.messages_kept += count(&answer, "kept");
        }
        if let Some(pace) = &mut self.pace {
            pace.keep(self.entries.len() + self.messages.len()).await;
        }
        self.entries.clear();
        self.messages.clear();
        self.bytes = 0;
        Ok(())
    }

    async fn send(&self, what: &str, batch: &impl Serialize) -> Result<serde_json::Value, Failure> {
        let body = serde_json::to_string(batch).context("cannot write a batch")?;
        let path = format!("/databases/{}/{what}", segment(&self.keyspace));
        let answer = self
            .server
            .exchange(Method::POST, &path, Some(body))
            .await?;
        Ok(serde_json::from_slice(&answer).context("the answer is not JSON")?)
    }

    /// Says what was done, on standard error like every diagnosis.
    pub(super) fn report(&self) {
        let (done, db) = (self.done, &self.into.db);
        if self.into.dry_run {
            say(&format!(
                "would write {} entries and {} messages, and leave {} alone; nothing was written",
                done.written, done.enqueued, done.kept
            ));
            return;
        }
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
            Line::Entry(entry, keyspace) => {
                let to = keyspace.as_deref().unwrap_or(&into.db);
                match batches.turn_to(to).await {
                    Ok(()) => batches.push(entry).await,
                    Err(failure) => Err(failure),
                }
            }
            Line::Message(message) => match batches.turn_to(&into.db).await {
                Ok(()) => batches.push_message(message).await,
                Err(failure) => Err(failure),
            },
        };
        if is_sent.map_err(|error| failed(error, stored + 1, line))? {
            stored = line;
            progress.set(offset);
            (journal.offset, journal.line) = (offset, line);
            if !is_stdin && !into.dry_run {
                journal.write(file)?;
            }
        }
    }
    let is_sent = batches.flush().await;
    is_sent.map_err(|error| failed(error, stored + 1, line))?;
    if !is_stdin && !into.dry_run {
        Journal::remove(file);
    }
    progress.set(offset);
    progress.end();
    batches.report();
    Ok(())
}

/// What a line is. The server looks closer.
enum Line {
    /// With the keyspace that it names.
    Entry(Box<RawValue>, Option<String>),
    Message(Box<RawValue>),
}

impl Line {
    fn read(text: &[u8]) -> serde_json::Result<Line> {
        #[derive(Deserialize)]
        struct Kind {
            message: Option<Box<RawValue>>,
            keyspace: Option<String>,
        }
        let raw: Box<RawValue> = serde_json::from_slice(text)?;
        // Whatever else it is, the server says what is wrong with it.
        let kind = serde_json::from_str(raw.get());
        Ok(match kind {
            Ok(Kind {
                message: Some(message),
                ..
            }) => Line::Message(message),
            Ok(Kind { keyspace, .. }) => Line::Entry(raw, keyspace),
            Err(_) => Line::Entry(raw, None),
        })
    }
}

//! Entries and messages on their way into a database, in batches, as fast as they may be.

use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::Method;
use serde::Serialize;
use serde_json::value::RawValue;

use super::admin::Administration;
use super::client::segment;
use super::import_lines::{Conflict, Into, say};
use crate::exit::Failure;

/// Entries after which a batch is sent, and messages.
const BATCH_ENTRIES: usize = 500;

/// Bytes of lines after which a batch is sent.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

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
    pub(super) async fn turn_to(&mut self, keyspace: &str) -> Result<(), Failure> {
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

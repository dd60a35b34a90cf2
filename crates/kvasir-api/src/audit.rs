//! Who administered what, when and from where: a chain of lines in the system keyspace.
//!
//! Every line holds the hash of the line before it, and a head beside them knows where the chain
//! begins and ends. So a line that was changed, and one that was taken out of the middle or off
//! either end, is found by [`Audit::verify`]. Whoever can write the store can write a whole new chain:
//! against that helps a note of a line's number and hash, kept elsewhere.
//!
//! The chain is a ring: the oldest lines go when there are more than [`Settings::lines`] or they are
//! older than [`Settings::days`]. Lines hold names, keys and versions, never values or secrets.
//!
//! A line is written before the answer to what it tells is sent. Requests that come in thousands,
//! such as those of an import, are told together: the first at once, the others every ten seconds.
//! What cannot be written because the store takes no writes waits here and goes first later.

mod line;
mod verify;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use kvasir_kv::{
    AtomicWrite, Clock, Error, KeyRange, Keyspace, Mutation, Outcome, RangeRead, Result,
    SnapshotRead, UnixMillis,
};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::time::{parse_rfc3339, rfc3339};
use line::Head;

pub use line::{HashedLine, Line};
pub use verify::{Fault, Known, Verdict};

/// How often the lines are written and taken off beside the requests, in milliseconds; also the
/// shortest time between two lines about one run of requests.
pub const RUN_MS: i64 = 10_000;

/// Most lines that go with one commit because the ring is full or they are old.
const TRIMMED_AT_ONCE: usize = 64;

/// Most deeds that wait while the store takes no writes. One more drops the oldest, which is logged.
const WAITING_MAX: usize = 1_000;

/// Most deeds of one commit.
const WRITTEN_AT_ONCE: usize = 100;

/// Most runs of requests that are remembered. One more is told line by line.
const RUNS_MAX: usize = 1_000;

/// How often a line is tried again when other nodes write theirs at the same time.
const TRIES: usize = 32;

/// Longest text of what a deed was done to, in characters.
const ON_CHARS_MAX: usize = 500;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// `[audit]`: how many lines about administration are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Most lines that are kept, at least 1; beyond it the oldest go. A line takes about 500 bytes.
    pub lines: u32,
    /// Days after which a line goes; 0 for never.
    pub days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            lines: 10_000,
            days: 400,
        }
    }
}

/// Something that was administered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deed {
    /// Id of the principal, or what did it without one.
    pub by: String,
    /// What people call the principal.
    pub by_name: Option<String>,
    /// Address of the client, or where else it came from.
    pub from: String,
    /// What was done, such as `token.create`.
    pub action: String,
    /// To what.
    pub on: String,
    /// Version of it before.
    pub before: Option<String>,
    /// Version of it afterwards.
    pub after: Option<String>,
    /// Status of the answer.
    pub status: u16,
    /// Id of the request.
    pub request: Option<String>,
}

/// Writes, lists and verifies the lines.
#[derive(Debug)]
pub struct Audit {
    system: Keyspace,
    clock: Arc<dyn Clock>,
    settings: Settings,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    deeds: VecDeque<Deed>,
    runs: HashMap<[String; 4], Run>,
}

/// Requests of one kind behind each other.
#[derive(Debug)]
struct Run {
    last: Deed,
    told_at: Option<UnixMillis>,
    requests: u64,
    items: u64,
}

/// Some lines, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The lines.
    pub lines: Vec<HashedLine>,
    /// Whether there are older ones.
    pub has_more: bool,
}

impl Audit {
    /// Keeps lines in `system`.
    pub fn new(system: Keyspace, clock: Arc<dyn Clock>, settings: Settings) -> Audit {
        Audit {
            system,
            clock,
            settings,
            waiting: Mutex::default(),
        }
    }

    /// How much is kept.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Writes a line about a deed.
    pub async fn record(&self, deed: Deed) {
        let mut waiting = self.waiting.lock().await;
        waiting.deeds.push_back(deed);
        self.write(&mut waiting).await;
    }

    /// Counts a deed that comes in runs and was done to so many things, and writes a line about the run
    /// unless there was one just before.
    pub async fn record_run(&self, deed: Deed, items: u64) {
        let mut waiting = self.waiting.lock().await;
        waiting.count(deed, items);
        waiting.tell_runs(self.clock.now(), false);
        self.write(&mut waiting).await;
    }

    /// Writes what waits.
    pub async fn flush(&self) {
        let mut waiting = self.waiting.lock().await;
        waiting.tell_runs(self.clock.now(), true);
        self.write(&mut waiting).await;
    }

    /// Writes what waits and takes off what is too much, again and again until `end`.
    pub async fn keep(&self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            let now = self.clock.now();
            let next = now.checked_add_ms(RUN_MS).unwrap_or(now);
            tokio::select! {
                () = &mut end => return self.flush().await,
                () = self.clock.sleep_until(next) => {}
            }
            let mut waiting = self.waiting.lock().await;
            waiting.tell_runs(self.clock.now(), false);
            self.write(&mut waiting).await;
            if let Err(error) = self.trim().await {
                tracing::debug!(%error, "old lines of the audit list could not be removed");
            }
        }
    }

    /// The lines before a number, or the newest, the newest first. A line that was changed says so.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::read`].
    pub async fn list(&self, before: Option<u64>, limit: usize) -> Result<Lines> {
        let mut range = line::range();
        if let Some(before) = before {
            range.end = line::key_of(before);
        }
        let read = RangeRead::new(range, limit.saturating_add(1)).reversed();
        let found = self.system.read(SnapshotRead::range(read)).await?;
        let found = found.ranges.into_iter().next().unwrap_or_default();
        let has_more = found.cut_by_bytes || found.entries.len() > limit;
        let lines = found.entries.iter().take(limit).map(HashedLine::shown);
        Ok(Lines {
            lines: lines.collect(),
            has_more,
        })
    }

    /// Reads the whole chain and says whether it is whole. `known` is a line that was noted before.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::scan_snapshot`].
    pub async fn verify(&self, known: Option<&Known>) -> Result<Verdict> {
        verify::verify(&self.system, known).await
    }

    /// Writes the deeds that wait; those that cannot be written go on waiting.
    async fn write(&self, waiting: &mut Waiting) {
        while !waiting.deeds.is_empty() {
            let count = waiting.deeds.len().min(WRITTEN_AT_ONCE);
            let some: Vec<Deed> = waiting.deeds.iter().take(count).cloned().collect();
            match self.append(&some).await {
                Ok(()) => drop(waiting.deeds.drain(..count)),
                Err(error) => {
                    tracing::error!(%error, waiting = waiting.deeds.len(), "cannot write into the audit list, trying again later");
                    break;
                }
            }
        }
        while waiting.deeds.len() > WAITING_MAX {
            let lost = waiting.deeds.pop_front();
            tracing::error!(?lost, "a line of the audit list is lost");
        }
    }

    /// Takes off lines that are old or too many, until there are none.
    async fn trim(&self) -> Result<()> {
        for _ in 0..TRIES {
            let Some(head) = self.system.get(&Head::key()).await? else {
                return Ok(());
            };
            let mut after = Head::read(&head)?;
            let write = AtomicWrite::new().check(Head::key(), head.versionstamp);
            let write = self.trimmed(write, &mut after).await?;
            if write.mutations.is_empty() {
                return Ok(());
            }
            let write = write.push(Mutation::set(Head::key(), after.to_value()));
            self.system.commit(write).await?;
        }
        Ok(())
    }

    /// The write with the removal of lines that are old or too many.
    async fn trimmed(&self, mut write: AtomicWrite, head: &mut Head) -> Result<AtomicWrite> {
        let is_many = head.count() > u64::from(self.settings.lines.max(1));
        if !is_many && self.settings.days == 0 {
            return Ok(write);
        }
        let range = KeyRange::new(line::key_of(head.first), line::range().end);
        let read = SnapshotRead::range(RangeRead::new(range, TRIMMED_AT_ONCE));
        let oldest = self.system.read(read).await?.ranges.pop();
        let now = self.clock.now();
        for entry in oldest.unwrap_or_default().entries {
            // A damaged line stays, so that it is found.
            let Ok(HashedLine { line, hash }) = HashedLine::read(&entry) else {
                break;
            };
            let is_many = head.count() > u64::from(self.settings.lines.max(1));
            let age_ms = now.0 - parse_rfc3339(&line.at).unwrap_or(now).0;
            let days_ms = i64::from(self.settings.days) * DAY_MS;
            let is_old = self.settings.days != 0 && age_ms > days_ms;
            if line.number != head.first || !(is_many || is_old) {
                break;
            }
            write = write.push(Mutation::delete(entry.key));
            head.first += 1;
            head.before = hash;
        }
        Ok(write)
    }

    async fn append(&self, deeds: &[Deed]) -> Result<()> {
        for _ in 0..TRIES {
            let found = self.system.get(&Head::key()).await?;
            let mut write = match &found {
                Some(found) => AtomicWrite::new().check(Head::key(), found.versionstamp),
                None => AtomicWrite::new().check_absent(Head::key()),
            };
            let mut head = match &found {
                Some(found) => Head::read(found)?,
                None => Head::default(),
            };
            let at = rfc3339(self.clock.now());
            for deed in deeds {
                let line = Line::new(head.next, at.clone(), deed, head.hash.clone());
                let (hash, value) = line.seal();
                write = write.push(Mutation::set(line::key_of(head.next), value));
                head.next += 1;
                head.hash = hash;
            }
            let write = self.trimmed(write, &mut head).await?;
            let write = write.push(Mutation::set(Head::key(), head.to_value()));
            if let Outcome::Committed(_) = self.system.commit(write).await? {
                return Ok(());
            }
        }
        Err(Error::unavailable("others write lines all the time"))
    }
}

impl Waiting {
    fn count(&mut self, deed: Deed, items: u64) {
        let kind = [&deed.by, &deed.from, &deed.action, &deed.on].map(Clone::clone);
        if self.runs.len() >= RUNS_MAX && !self.runs.contains_key(&kind) {
            let on = of_run(&deed.on, items, 1);
            return self.deeds.push_back(Deed { on, ..deed });
        }
        let run = self.runs.entry(kind).or_insert_with(|| Run {
            last: Deed::default(),
            told_at: None,
            requests: 0,
            items: 0,
        });
        run.last = deed;
        run.requests += 1;
        run.items += items;
    }

    /// Makes lines of runs that were not told for a while, or of all of them, and forgets those that
    /// are over.
    fn tell_runs(&mut self, now: UnixMillis, all: bool) {
        let is_due = |told_at: Option<UnixMillis>| {
            all || told_at.is_none_or(|told_at| {
                let since = now.0.saturating_sub(told_at.0);
                !(0..RUN_MS).contains(&since)
            })
        };
        let deeds = &mut self.deeds;
        self.runs.retain(|_, run| {
            if !is_due(run.told_at) {
                return true;
            }
            if run.requests == 0 {
                return false;
            }
            let on = of_run(&run.last.on, run.items, run.requests);
            deeds.push_back(Deed {
                on,
                ..run.last.clone()
            });
            (run.requests, run.items, run.told_at) = (0, 0, Some(now));
            true
        });
    }
}

fn of_run(on: &str, items: u64, requests: u64) -> String {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    format!(
        "{on}: {items} item{} in {requests} request{}",
        plural(items),
        plural(requests)
    )
}

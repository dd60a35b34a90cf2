//! Group commit: one thread makes many waiting writes durable with one sync.
//!
//! The thread takes every write that waits, plans each against the engine's state and what the
//! earlier writes of this group changed, hands the engine one batch, and only after that is durable
//! publishes it and answers, in versionstamp order. While a group syncs, the next one gathers;
//! there is no artificial delay.
//!
//! What surprises: a conflict is answered after the sync as well, because it may rest on a write of
//! its own group that is not durable yet. And a failed batch is final. Its writes get "outcome
//! unknown", everything behind it is refused, and the [`FatalHook`] is called.
//!
//! [`Engine`] is the whole interface to a backend; nothing here knows files.

mod answers;
mod queue;
mod watchdog;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use kvasir_kv::limits::{CHECKS_MAX, MUTATIONS_MAX, WRITE_BYTES_MAX};
use kvasir_kv::{
    AtomicWrite, Cause, Change, Clock, Committed, Entry, Error, HybridClock, Key, Limits, Outcome,
    Plan, Result, UnixMillis, Versionstamp, plan,
};

use crate::clock::monotonic;
use crate::collect;
use crate::fatal::{FatalError, FatalHook};
use crate::metrics::StoreMetrics;
use crate::open::OpenOptions;
use crate::sweeper::ExpiryHint;
use crate::watch::Hub;

use answers::Answers;
use queue::{Answer, GroupTimes, Job, Queue, Task};

pub(crate) use watchdog::WATCH_EVERY;

/// Most writes in one group. Their place must fit the 16 bits of a versionstamp; beyond a few
/// hundred a larger group gains nothing.
pub const GROUP_WRITES_MAX: usize = 4_096;

/// Bytes of writes after which a group takes no further one.
pub const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most writes that wait or are being written. More are refused as busy.
pub const QUEUE_WRITES_MAX: usize = 16_384;

/// What a check or mutation counts beside the bytes of its key and value: its memory while it waits,
/// and the time to look up its key. So a group of many small ones stays short too.
pub const OPERATION_BYTES: usize = 128;

/// Most bytes of writes that wait or are being written. More are refused as busy. Holds the largest
/// legal write twice.
pub const QUEUE_BYTES_MAX: usize =
    2 * (WRITE_BYTES_MAX + OPERATION_BYTES * (CHECKS_MAX + MUTATIONS_MAX)) + 1024 * 1024;

/// What the committer needs of a backend. All calls come from one thread.
pub trait Engine: Send + 'static {
    /// The stored entry of `key`, expired or not.
    ///
    /// # Errors
    ///
    /// `Corrupt` for a damaged record, `Unavailable` for a failed read. The error goes to the write
    /// that needed the key; others are not affected.
    fn load(&mut self, key: &Key) -> Result<Option<Entry>>;

    /// Up to `limit` keys whose stored entry is past its expiry at `now`.
    ///
    /// # Errors
    ///
    /// As [`Engine::load`].
    fn due(&mut self, now: UnixMillis, limit: usize) -> Result<Due>;

    /// How much space there is for writes. Asked once per group.
    fn space(&mut self) -> Space {
        Space::Enough
    }

    /// Writes `group` atomically. Durable when it returns; not necessarily visible to reads.
    ///
    /// # Errors
    ///
    /// Any error is final: the committer never calls again.
    fn apply(&mut self, group: &Group) -> Result<(), Cause>;

    /// Makes `group`, which was applied, visible to reads as a whole.
    fn publish(&mut self, group: &Group);

    /// Ends the engine's work; called once, after the last group.
    ///
    /// # Errors
    ///
    /// If files could not be closed cleanly.
    fn close(&mut self) -> Result<(), Cause>;
}

/// Which writes there is space for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Everything is taken.
    Enough,
    /// Deletes and sweeps are taken.
    Low,
    /// Nothing is taken.
    None,
}

/// What one group changes.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The final state of each changed key, each key once, in the order of its last change.
    pub changes: Vec<Change>,
    /// What [`Due::spent`] asked to be dropped together with the expired entries.
    pub spent: Vec<(UnixMillis, Key)>,
    /// The newest versionstamp given out or taken in. To be stored with the changes.
    pub last: Versionstamp,
}

/// What [`Engine::due`] found.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// Keys with an expired entry.
    pub keys: Vec<Key>,
    /// Rows of an expiry index that these keys, or nobody any more, stand behind.
    pub spent: Vec<(UnixMillis, Key)>,
    /// The nearest expiry that is left.
    pub next: Option<UnixMillis>,
}

/// Accepts writes for one engine. Dropping it lets the committer finish what it accepted.
#[derive(Debug)]
pub struct Committer {
    queue: Arc<Queue>,
    failer: Failer,
    limits: Limits,
}

impl Committer {
    /// Starts the committer of `engine`, whose newest versionstamp is `last`.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn start<E: Engine>(
        engine: E,
        last: Versionstamp,
        hub: Arc<Hub>,
        hint: Arc<ExpiryHint>,
        options: &OpenOptions,
    ) -> std::io::Result<Committer> {
        let queue = Arc::new(Queue::new(last, Arc::clone(&options.metrics)));
        let failer = Failer {
            queue: Arc::clone(&queue),
            hub: Arc::clone(&hub),
            fatal: options.fatal.clone(),
        };
        let worker = Worker {
            engine,
            queue: Arc::clone(&queue),
            answers: Answers::start(Arc::clone(&queue)),
            stamps: HybridClock::after(last),
            last,
            clock: Arc::clone(&options.clock),
            metrics: Arc::clone(&options.metrics),
            hub,
            hint,
        };
        watchdog::start(failer.clone())?;
        let on_failure = failer.clone();
        std::thread::Builder::new()
            .name("kvasir-commit".into())
            .spawn(move || worker.run(on_failure))?;
        Ok(Committer {
            queue,
            failer,
            limits: options.limits,
        })
    }

    /// See [`kvasir_kv::Store::commit`].
    ///
    /// # Errors
    ///
    /// See there. A full queue is `Unavailable`.
    pub async fn commit(&self, write: AtomicWrite) -> Result<Outcome> {
        collect::check_write(&write, &self.limits)?;
        let operations = write.checks.len() + write.mutations.len();
        let bytes = write.cost_bytes() + operations * OPERATION_BYTES;
        self.queue
            .submit(bytes, |answer| Task::Commit(write, answer))
            .await
    }

    /// See [`kvasir_kv::Store::ingest`].
    ///
    /// # Errors
    ///
    /// See there. A full queue is `Unavailable`.
    pub async fn ingest(&self, entries: Vec<Entry>) -> Result<()> {
        collect::check_ingest(&entries, &self.limits)?;
        let bytes = entries
            .iter()
            .map(|entry| entry.cost_bytes() + OPERATION_BYTES)
            .sum();
        self.queue
            .submit(bytes, |answer| Task::Ingest(entries, answer))
            .await
    }

    /// See [`kvasir_kv::Store::sweep`].
    ///
    /// # Errors
    ///
    /// See there. A full queue is `Unavailable`.
    pub async fn sweep(&self, now: UnixMillis, limit: NonZeroU32) -> Result<u32> {
        self.queue
            .submit(0, |answer| Task::Sweep(now, limit, answer))
            .await
    }

    /// The newest versionstamp that was published.
    ///
    /// # Errors
    ///
    /// `Unavailable` after a failure or a close.
    pub fn versionstamp(&self) -> Result<Versionstamp> {
        self.queue.ensure_open()?;
        Ok(self.queue.published())
    }

    /// Whether writes are taken.
    ///
    /// # Errors
    ///
    /// `Unavailable` after a failure or a close, `NoSpace` while there is too little.
    pub fn ping(&self) -> Result<()> {
        self.queue.ensure_open()?;
        if self.queue.lacks_space() {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// What a backend calls when it learns of a failure outside of a commit.
    pub fn failer(&self) -> Failer {
        self.failer.clone()
    }

    /// Refuses new writes, finishes the accepted ones and closes the engine. Calling it again waits
    /// for the same end.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the engine could not be closed cleanly.
    pub async fn close(&self) -> Result<()> {
        self.queue.close();
        self.queue.finished().await
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Ends a store that can no longer make writes durable.
#[derive(Clone, Debug)]
pub struct Failer {
    queue: Arc<Queue>,
    hub: Arc<Hub>,
    fatal: FatalHook,
}

impl Failer {
    /// Refuses everything from now on, lets the last answers go out and calls the fatal hook. Only
    /// the first call does anything.
    pub fn fail(&self, error: &FatalError) {
        if self.queue.fail(error) {
            self.hub.close();
            queue::let_answers_go_out();
            self.fatal.call(error);
        }
    }

    /// Whether the store has ended, well or not.
    pub fn is_over(&self) -> bool {
        self.queue.has_ended()
    }
}

/// The committer's thread.
struct Worker<E> {
    engine: E,
    queue: Arc<Queue>,
    answers: Answers,
    stamps: HybridClock,
    /// The newest versionstamp of the groups so far.
    last: Versionstamp,
    clock: Arc<dyn Clock>,
    metrics: Arc<StoreMetrics>,
    hub: Arc<Hub>,
    hint: Arc<ExpiryHint>,
}

impl<E: Engine> Worker<E> {
    fn run(mut self, failer: Failer) {
        let guard = FailOnPanic(Some(failer.clone()));
        while let Some(jobs) = self.queue.next_group() {
            if let Err(source) = self.commit_group(jobs) {
                // The engine is not closed: that would write on.
                std::mem::forget(self.engine);
                guard.disarm();
                failer.fail(&FatalError {
                    what: "a commit could not be made durable",
                    source,
                });
                return;
            }
        }
        self.hub.close();
        self.hint.close();
        let closed = self.engine.close();
        drop(self.engine);
        guard.disarm();
        self.queue.finish(closed);
    }

    /// Plans, applies, publishes and answers one group.
    fn commit_group(&mut self, jobs: Vec<Job>) -> Result<(), Cause> {
        let started = monotonic();
        for job in &jobs {
            let waited = started.saturating_duration_since(job.submitted);
            self.metrics
                .queue_wait_seconds
                .observe(waited.as_secs_f64());
        }
        // The oldest stand first.
        if let Some(job) = jobs.get(jobs.len() / 10) {
            let waited = started.saturating_duration_since(job.submitted);
            let p90 = &self.metrics.queue_wait_p90_seconds;
            p90.set(waited.as_secs_f64());
        }
        let space = self.engine.space();
        self.queue.set_lacks_space(space != Space::Enough);

        let mut draft = Draft {
            engine: &mut self.engine,
            stamps: &mut self.stamps,
            clock: &*self.clock,
            now: self.clock.now(),
            micros: None,
            order: 0,
            last: self.last,
            slots: Vec::new(),
            places: HashMap::new(),
            spent: Vec::new(),
            next_expiry: None,
            space,
        };
        let mut answers = Vec::with_capacity(jobs.len());
        let mut bytes = 0;
        for job in jobs {
            bytes += job.bytes;
            answers.push(draft.plan(job.task));
        }
        let next_expiry = draft.next_expiry;
        let group = Group {
            last: draft.last,
            spent: std::mem::take(&mut draft.spent),
            changes: draft.slots.into_iter().flatten().collect(),
        };

        let sync_began = monotonic();
        let mut sync_ended = sync_began;
        // A commit without mutations still uses up a versionstamp, which must not come again.
        if group.last != self.last || !group.changes.is_empty() || !group.spent.is_empty() {
            if let Err(cause) = self.write(&group, answers.len()) {
                for answer in answers {
                    self.metrics.outcome_unknown.inc();
                    answer.outcome_unknown(&cause);
                }
                return Err(cause);
            }
            sync_ended = monotonic();
            self.publish(&group);
        }
        let times = GroupTimes {
            began: started,
            sync_began,
            sync_ended,
        };
        if let Some(at) = next_expiry {
            self.hint.observe(at);
        }
        for answer in &answers {
            answer.count(&self.metrics);
        }
        self.answers.send(answers, times, bytes);
        Ok(())
    }

    fn write(&mut self, group: &Group, writes: usize) -> Result<(), Cause> {
        let started = monotonic();
        // Planning is not watched: how long it takes is up to what clients send.
        self.queue.set_busy(true);
        let applied = self.engine.apply(group);
        self.queue.set_busy(false);
        applied?;
        self.metrics
            .sync_seconds
            .observe(started.elapsed().as_secs_f64());
        self.metrics.groups.inc();
        self.metrics.group_writes.observe(writes as f64);
        Ok(())
    }

    fn publish(&mut self, group: &Group) {
        self.last = group.last;
        let expiries = group.changes.iter().filter_map(|change| {
            let entry = change.after.as_ref()?;
            entry.expires_at
        });
        if let Some(at) = expiries.min() {
            self.hint.observe(at);
        }
        self.engine.publish(group);
        self.queue.set_published(self.last);
        let changes = group.changes.iter();
        let told = changes.map(|change| (&change.key, change.after.is_some()));
        self.hub.publish(self.last, told);
    }
}

/// A group while it is planned.
struct Draft<'a, E> {
    engine: &'a mut E,
    stamps: &'a mut HybridClock,
    clock: &'a dyn Clock,
    now: UnixMillis,
    /// Reading of the hybrid clock for this group, once one is needed.
    micros: Option<u64>,
    order: u16,
    last: Versionstamp,
    /// Changes so far; `None` where a later one of the same key took over.
    slots: Vec<Option<Change>>,
    /// Where the latest change of a key stands.
    places: HashMap<Key, usize>,
    spent: Vec<(UnixMillis, Key)>,
    next_expiry: Option<UnixMillis>,
    space: Space,
}

impl<E: Engine> Draft<'_, E> {
    fn plan(&mut self, task: Task) -> Answer {
        match task {
            Task::Commit(write, answer) => Answer::Commit(self.plan_write(&write), answer),
            Task::Ingest(entries, answer) => Answer::Ingest(self.plan_ingest(entries), answer),
            Task::Sweep(now, limit, answer) => Answer::Sweep(self.plan_sweep(now, limit), answer),
        }
    }

    fn plan_write(&mut self, write: &AtomicWrite) -> Result<Outcome> {
        match self.space {
            Space::Enough => {}
            Space::Low if !grows(write) => {}
            Space::Low | Space::None => return Err(Error::NoSpace),
        }
        let mut current = HashMap::new();
        for key in write.needs() {
            if !current.contains_key(key) {
                current.insert(key, self.state(key)?);
            }
        }
        let stamp = self.stamp();
        let planned = plan(
            write,
            |key| current.get(key).cloned().flatten(),
            stamp,
            self.now,
        )?;
        match planned {
            Plan::Conflict { failed } => Ok(Outcome::Conflict { failed }),
            Plan::Commit { changes, existed } => {
                self.last = stamp;
                self.order += 1;
                for change in changes {
                    self.change(change);
                }
                Ok(Outcome::Committed(Committed {
                    versionstamp: stamp,
                    existed,
                }))
            }
        }
    }

    fn plan_ingest(&mut self, entries: Vec<Entry>) -> Result<()> {
        if self.space != Space::Enough {
            return Err(Error::NoSpace);
        }
        for entry in entries {
            self.stamps.observe(entry.versionstamp);
            self.last = self.last.max(entry.versionstamp);
            self.change(collect::ingested(entry));
        }
        // What follows in this group must be above the stamps just taken in.
        self.micros = None;
        self.order = 0;
        Ok(())
    }

    fn plan_sweep(&mut self, now: UnixMillis, limit: NonZeroU32) -> Result<u32> {
        if self.space == Space::None {
            return Err(Error::NoSpace);
        }
        let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
        let due = self.engine.due(now, limit.min(GROUP_WRITES_MAX))?;
        let mut removed = 0;
        for key in due.keys {
            // An earlier write of this group may have renewed it.
            let state = self.state(&key)?;
            if state.is_some_and(|entry| entry.is_expired(now)) {
                self.change(Change { key, after: None });
                removed += 1;
            }
        }
        if removed > 0 {
            self.last = self.stamp();
            self.order += 1;
        }
        self.spent.extend(due.spent);
        self.next_expiry = due.next;
        Ok(removed)
    }

    /// The versionstamp of the next commit of this group.
    fn stamp(&mut self) -> Versionstamp {
        let (stamps, clock) = (&mut *self.stamps, self.clock);
        let micros = *self
            .micros
            .get_or_insert_with(|| stamps.next(clock.now_micros()));
        Versionstamp::new(micros, self.order)
    }

    /// The entry of a key after the group's writes so far, expired or not.
    fn state(&mut self, key: &Key) -> Result<Option<Entry>> {
        match self.places.get(key) {
            None => self.engine.load(key),
            Some(&place) => {
                let change = self.slots[place].as_ref();
                Ok(change.and_then(|change| change.after.clone()))
            }
        }
    }

    fn change(&mut self, change: Change) {
        let place = self.slots.len();
        if let Some(before) = self.places.insert(change.key.clone(), place) {
            self.slots[before] = None;
        }
        self.slots.push(Some(change));
    }
}

/// Treats a panic of the committer as a failed commit: nobody knows what was written.
struct FailOnPanic(Option<Failer>);

impl FailOnPanic {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if let Some(failer) = &self.0 {
            failer.fail(&FatalError::new(
                "the committer ended by a bug",
                "it panicked",
            ));
        }
    }
}

/// Whether a write may need space beyond the note that something was deleted.
fn grows(write: &AtomicWrite) -> bool {
    let is_delete =
        |mutation: &kvasir_kv::Mutation| matches!(mutation, kvasir_kv::Mutation::Delete { .. });
    !write.mutations.iter().all(is_delete)
}

#[cfg(test)]
mod tests;

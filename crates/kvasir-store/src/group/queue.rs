//! The bounded queue in front of the committer, and how its end is told.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use kvasir_kv::spent::{self, Part};
use kvasir_kv::{AtomicWrite, Cause, Entry, Error, Outcome, Result, UnixMillis, Versionstamp};
use tokio::sync::{oneshot, watch};

use super::{GROUP_BYTES_MAX, GROUP_WRITES_MAX, QUEUE_BYTES_MAX, QUEUE_WRITES_MAX};
use crate::clock::monotonic;
use crate::fatal::FatalError;
use crate::metrics::StoreMetrics;

/// How long clients are given to receive "outcome unknown" before the process ends.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// What a waiting caller wants.
pub(super) enum Task {
    Commit(AtomicWrite, Reply<Outcome>),
    Ingest(Vec<Entry>, Reply<()>),
    Sweep(UnixMillis, NonZeroU32, Reply<u32>),
}

/// Where an answer goes. Whoever waited may be gone.
pub(super) type Reply<T> = oneshot::Sender<(Result<T>, Option<GroupTimes>)>;

/// When the group of a write was begun, and written.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupTimes {
    pub(super) began: Instant,
    pub(super) sync_began: Instant,
    pub(super) sync_ended: Instant,
}

/// A task in the queue.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) bytes: usize,
    pub(super) submitted: Instant,
}

/// A planned task, whose answer waits for the sync.
pub(super) enum Answer {
    Commit(Result<Outcome>, Reply<Outcome>),
    Ingest(Result<()>, Reply<()>),
    Sweep(Result<u32>, Reply<u32>),
}

impl Answer {
    pub(super) fn send(self, times: GroupTimes) {
        let times = Some(times);
        match self {
            Answer::Commit(answer, reply) => drop(reply.send((answer, times))),
            Answer::Ingest(answer, reply) => drop(reply.send((answer, times))),
            Answer::Sweep(answer, reply) => drop(reply.send((answer, times))),
        }
    }

    pub(super) fn outcome_unknown(self, cause: &Cause) {
        let error = Error::OutcomeUnknown(Arc::clone(cause));
        match self {
            Answer::Commit(_, reply) => drop(reply.send((Err(error), None))),
            Answer::Ingest(_, reply) => drop(reply.send((Err(error), None))),
            Answer::Sweep(_, reply) => drop(reply.send((Err(error), None))),
        }
    }

    pub(super) fn count(&self, metrics: &StoreMetrics) {
        match self {
            Answer::Commit(Ok(Outcome::Committed(_)), _) => {
                metrics.commits.inc();
            }
            Answer::Commit(Ok(Outcome::Conflict { .. }), _) => {
                metrics.conflicts.inc();
            }
            Answer::Commit(Err(Error::NoSpace), _) | Answer::Ingest(Err(Error::NoSpace), _) => {
                metrics.no_space.inc();
            }
            Answer::Sweep(Ok(removed), _) => {
                metrics.swept(*removed);
            }
            Answer::Commit(Err(_), _) | Answer::Ingest(..) | Answer::Sweep(Err(_), _) => {}
        }
    }
}

/// Tasks on their way to the committer.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    lacks_space: AtomicBool,
    /// Milliseconds from `born` to when the engine began to write a group, plus one; 0 if it does not.
    busy_since_ms: AtomicU64,
    born: Instant,
    published: Mutex<Versionstamp>,
    /// `Some` once the committer has ended.
    end: watch::Sender<Option<Result<()>>>,
    metrics: Arc<StoreMetrics>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Job>,
    /// Tasks waiting or in work, and their bytes.
    writes: usize,
    bytes: usize,
    committer_sleeps: bool,
    closing: bool,
    failed: Option<Cause>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("writes", &self.writes)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Queue {
    pub(super) fn new(published: Versionstamp, metrics: Arc<StoreMetrics>) -> Queue {
        Queue {
            state: Mutex::default(),
            arrived: Condvar::new(),
            lacks_space: AtomicBool::new(false),
            busy_since_ms: AtomicU64::new(0),
            born: monotonic(),
            published: Mutex::new(published),
            end: watch::channel(None).0,
            metrics,
        }
    }

    /// Queues a task and waits for its answer. Once queued it is carried out, waited for or not.
    pub(super) async fn submit<T>(
        &self,
        bytes: usize,
        task: impl FnOnce(Reply<T>) -> Task,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let submitted = monotonic();
        self.push(bytes, task(reply))?;
        match answer.await {
            Ok((answer, times)) => {
                if let Some(times) = times {
                    spent::add(Part::Queue, submitted, times.began);
                    spent::add(Part::Lock, times.began, times.sync_began);
                    spent::add(Part::Sync, times.sync_began, times.sync_ended);
                }
                answer
            }
            Err(_) => Err(Error::outcome_unknown("the committer has ended")),
        }
    }

    pub(super) fn push(&self, bytes: usize, task: Task) -> Result<()> {
        let submitted = monotonic();
        let mut state = self.lock();
        state.ensure_open()?;
        if state.writes >= QUEUE_WRITES_MAX || state.bytes + bytes > QUEUE_BYTES_MAX {
            drop(state);
            self.metrics.busy.inc();
            return Err(Error::unavailable("too many writes are waiting"));
        }
        state.writes += 1;
        state.bytes += bytes;
        state.waiting.push(Job {
            task,
            bytes,
            submitted,
        });
        let wake = std::mem::take(&mut state.committer_sleeps);
        drop(state);
        self.metrics.queue_writes.inc();
        self.metrics.queue_bytes.inc_by(signed(bytes));
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits for tasks and takes as many as a group may hold; `None` once closed and empty.
    pub(super) fn next_group(&self) -> Option<Vec<Job>> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closing || state.failed.is_some() {
                return None;
            }
            state.committer_sleeps = true;
            state = self
                .arrived
                .wait(state)
                .expect("no panic while the queue is held");
        }
        let mut bytes = 0;
        let fits = state
            .waiting
            .iter()
            .take(GROUP_WRITES_MAX)
            .take_while(|job| {
                let first = bytes == 0;
                bytes += job.bytes;
                first || bytes <= GROUP_BYTES_MAX
            });
        let count = fits.count().max(1);
        let rest = state.waiting.split_off(count);
        let group = std::mem::replace(&mut state.waiting, rest);
        drop(state);
        Some(group)
    }

    /// The engine begins, or has ended, to write a group.
    pub(super) fn set_busy(&self, is_busy: bool) {
        let since = if is_busy {
            self.born.elapsed().as_millis() as u64 + 1
        } else {
            0
        };
        self.busy_since_ms.store(since, Ordering::Release);
    }

    /// How long the engine has been writing the group in work.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        let since = self.busy_since_ms.load(Ordering::Acquire).checked_sub(1)?;
        Some(
            self.born
                .elapsed()
                .saturating_sub(Duration::from_millis(since)),
        )
    }

    /// Tasks have been answered.
    pub(super) fn release(&self, writes: usize, bytes: usize) {
        let mut state = self.lock();
        state.writes -= writes;
        state.bytes -= bytes;
        drop(state);
        self.metrics.queue_writes.dec_by(signed(writes));
        self.metrics.queue_bytes.dec_by(signed(bytes));
    }

    /// Refuses new tasks; what is queued goes on.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_one();
    }

    /// Refuses everything from now on. Queued tasks were not begun and are told so. Whether this
    /// is the first failure.
    pub(super) fn fail(&self, error: &FatalError) -> bool {
        let cause: Cause = Arc::new(error.clone());
        let waiting = {
            let mut state = self.lock();
            if state.failed.is_some() {
                return false;
            }
            state.failed = Some(Arc::clone(&cause));
            std::mem::take(&mut state.waiting)
        };
        for job in waiting {
            let error = Error::Unavailable(Arc::clone(&cause));
            match job.task {
                Task::Commit(_, reply) => drop(reply.send((Err(error), None))),
                Task::Ingest(_, reply) => drop(reply.send((Err(error), None))),
                Task::Sweep(_, _, reply) => drop(reply.send((Err(error), None))),
            }
        }
        self.end.send_replace(Some(Err(Error::Unavailable(cause))));
        self.arrived.notify_one();
        true
    }

    /// The committer has closed its engine.
    pub(super) fn finish(&self, closed: Result<(), Cause>) {
        self.end
            .send_replace(Some(closed.map_err(Error::Unavailable)));
    }

    pub(super) async fn finished(&self) -> Result<()> {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await;
        match ended.as_deref() {
            Ok(Some(end)) => end.clone(),
            Ok(None) | Err(_) => Err(Error::unavailable("the committer has ended")),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    pub(super) fn ensure_open(&self) -> Result<()> {
        self.lock().ensure_open()
    }

    pub(super) fn lacks_space(&self) -> bool {
        self.lacks_space.load(Ordering::Relaxed)
    }

    pub(super) fn set_lacks_space(&self, lacks: bool) {
        self.lacks_space.store(lacks, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    pub(super) fn published(&self) -> Versionstamp {
        *self.published.lock().expect("only copied while held")
    }

    pub(super) fn set_published(&self, stamp: Versionstamp) {
        *self.published.lock().expect("only copied while held") = stamp;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the queue is held")
    }
}

impl State {
    fn ensure_open(&self) -> Result<()> {
        match &self.failed {
            Some(cause) => Err(Error::Unavailable(Arc::clone(cause))),
            None if self.closing => Err(Error::unavailable("the store is closed")),
            None => Ok(()),
        }
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Lets the tasks that wait for an answer send it to their clients.
#[allow(
    clippy::disallowed_methods,
    reason = "who sends the answers is unknown here"
)]
pub(super) fn let_answers_go_out() {
    std::thread::sleep(LAST_ANSWERS);
}

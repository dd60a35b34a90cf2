//! The one task of this process that writes.
//!
//! Writes queue up; the task takes what is there, up to a bound, and runs one transaction for all
//! of it. While that is in flight the queue fills by itself, so there is no artificial delay. The
//! transaction's first statement raises the row of the space in `kv_seq`, and its lock is held
//! until COMMIT: all writers of all processes stand in one line, and the order of sequences is the
//! order of commits.
//!
//! When nobody knows whether a COMMIT took effect, a fence decides: it raises the same row (so the
//! old transaction has either ended or can no longer commit) and then looks for the batch in the
//! log. A batch is reported as failed only if it was not applied and cannot be any more.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvasir_kv::{Entry, Error, Key, Result, UnixMillis, Versionstamp};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::address::Address;
use super::batch::{self, Answer, Effect, Job};
use super::fault::{Class, Fault};
use super::pool::{Purpose, connect_any};
use super::rows;
use super::session::{LogRow, Session};

mod queue;

use queue::Request;
pub(super) use queue::{Ended, Queue};

/// Most writes in one transaction.
pub(super) const BATCH_WRITES_MAX: usize = 256;

/// Bytes of writes after which a transaction takes no more of them.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Longest a batch may stay undecided, and a write may wait in the queue. Galera needs up to 6 s to
/// find that a node is gone.
pub(super) const DECIDE_MAX: Duration = Duration::from_secs(30);

/// Longest a single statement may take: two waits for the sequence's lock, and then some.
const STEP_MAX: Duration = Duration::from_secs(12);

/// Longest pause before a transaction that was rolled back is run again, in milliseconds.
const BACKOFF_MAX_MS: u64 = 50;

/// Pause before the next attempt when no server will do.
const AWAY_PAUSE: Duration = Duration::from_millis(100);

/// How often a writer that was driven from the first server of the list looks whether it is back.
const RETURN_CHECK: Duration = Duration::from_secs(30);

/// Log rows live this long, in milliseconds.
const LOG_KEPT_MS: i64 = 10 * 60 * 1000;

/// How often the log is trimmed.
const TRIM_PAUSE: Duration = Duration::from_secs(60);

/// Log rows removed by one statement.
const TRIM_ROWS: u32 = 1_000;

struct Writer {
    shared: Arc<Shared>,
    session: Option<Writing>,
    away: Arc<AtomicBool>,
    checked_return: Instant,
}

/// The connection for writes and the place of its server in the list.
struct Writing {
    session: Box<dyn Session>,
    place: usize,
}

/// How an attempt ended that did not succeed.
enum Stop {
    /// Nothing was applied, and the server knows it.
    NotApplied(Fault),
    /// COMMIT was sent and the answer is missing or unclear.
    Unknown(Fault, Box<Effect>),
}

impl Writer {
    async fn run(&mut self, mut receiver: mpsc::Receiver<Request>) {
        let closing = self.shared.closing.clone();
        let mut trim = tokio::time::interval(TRIM_PAUSE);
        trim.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                request = receiver.recv() => match request {
                    Some(request) => self.write(request, &mut receiver).await,
                    None => break,
                },
                () = closing.cancelled(), if !receiver.is_closed() => {
                    // What is queued is still decided; nothing new comes in.
                    receiver.close();
                }
                _ = trim.tick() => self.trim().await,
                () = tokio::time::sleep(AWAY_PAUSE), if self.away.load(Ordering::Relaxed) => {
                    let _ = self.connect().await;
                }
            }
        }
        if let Some(writing) = self.session.take() {
            let _ = tokio::time::timeout(STEP_MAX, writing.session.close()).await;
        }
    }

    /// Takes what else is waiting and decides all of it.
    async fn write(&mut self, first: Request, receiver: &mut mpsc::Receiver<Request>) {
        let mut bytes = first.job.cost_bytes();
        let mut requests = vec![first];
        while requests.len() < BATCH_WRITES_MAX && bytes < BATCH_BYTES {
            let Ok(request) = receiver.try_recv() else {
                break;
            };
            bytes += request.job.cost_bytes();
            requests.push(request);
        }
        let mut jobs = Vec::with_capacity(requests.len());
        let mut waiting = Vec::with_capacity(requests.len());
        // Callers wait for as long as the one that waits longest, queue and attempts together.
        let mut since = Instant::now();
        let metrics = Arc::clone(&self.shared.metrics);
        for request in requests {
            let waited = request.since.elapsed();
            metrics.queue_wait_seconds.observe(waited.as_secs_f64());
            if waited > DECIDE_MAX {
                let away = Error::unavailable("the database was away for too long");
                let _ = request.answer.send(Err(away));
                continue;
            }
            since = since.min(request.since);
            jobs.push(request.job);
            waiting.push((request.answer, request.bytes));
        }
        if jobs.is_empty() {
            return;
        }
        self.return_to_first_server().await;
        let answers = self.decide_isolating(&jobs, since).await;
        for ((waiting, _bytes), answer) in waiting.into_iter().zip(answers) {
            // A caller that went away does not need its answer.
            let _ = waiting.send(answer);
        }
    }

    /// Decides a batch; if the database refuses it as such, every job of it alone, so that one
    /// cannot spoil the others.
    async fn decide_isolating(&mut self, jobs: &[Job], since: Instant) -> Vec<Result<Answer>> {
        match self.decide(jobs, since).await {
            Ok(answers) => answers,
            Err((Class::Other | Class::Damaged, _)) if jobs.len() > 1 => {
                let mut answers = Vec::with_capacity(jobs.len());
                for job in jobs {
                    let job = std::slice::from_ref(job);
                    answers.push(match self.decide(job, since).await {
                        Ok(mut answer) => answer.pop().expect("one job has one answer"),
                        Err((_, error)) => Err(error),
                    });
                }
                answers
            }
            Err((_, error)) => jobs.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Runs a batch until it is decided, or until its callers have waited for too long since `since`.
    /// Only a fence may take longer, because without it nobody knows what happened.
    async fn decide(
        &mut self,
        jobs: &[Job],
        since: Instant,
    ) -> Result<Vec<Result<Answer>>, (Class, Error)> {
        let begun = Instant::now();
        let token = new_token();
        let metrics = Arc::clone(&self.shared.metrics);
        let mut attempts = 0;
        loop {
            let stop = match self.connect().await {
                Err(fault) => Stop::NotApplied(fault),
                Ok(()) => match self.attempt(jobs, &token).await {
                    Ok(effect) => return Ok(self.finish(effect, begun)),
                    Err(stop) => stop,
                },
            };
            let fault = match stop {
                Stop::NotApplied(fault) => fault,
                Stop::Unknown(fault, effect) => {
                    match self.fence(effect.sequence, &token, begun).await {
                        Some(true) => return Ok(self.finish(*effect, begun)),
                        Some(false) => fault,
                        None => {
                            let jobs = jobs.len() as u64;
                            metrics.outcome_unknown.inc_by(jobs);
                            return Err((Class::Lost, fault.into_unknown()));
                        }
                    }
                }
            };
            attempts += 1;
            let is_final = matches!(
                fault.class,
                Class::Other | Class::Damaged | Class::NoSpace | Class::Denied
            );
            if is_final || since.elapsed() > DECIDE_MAX {
                if fault.class == Class::NoSpace {
                    metrics.no_space.inc_by(jobs.len() as u64);
                }
                tracing::warn!(error = %fault, attempts, "a batch of writes was given up");
                return Err((fault.class, fault.into_error()));
            }
            metrics.database_retries.inc();
            pause_after(&fault, attempts).await;
        }
    }

    /// One transaction. On success, and for a batch without effect, everything is decided.
    async fn attempt(&mut self, jobs: &[Job], token: &[u8; 16]) -> Result<Effect, Stop> {
        let Some(mut writing) = self.session.take() else {
            return Err(Stop::NotApplied(Fault::new(Class::Lost, "no connection")));
        };
        let session = &mut *writing.session;
        let effect = match prepare(&self.shared, session, jobs, token).await {
            Ok(prepared) => prepared,
            Err(fault) => {
                // After a certain refusal the connection is good for the next attempt.
                if fault.class == Class::RolledBack
                    && step("ROLLBACK", session.rollback()).await.is_ok()
                {
                    self.session = Some(writing);
                }
                return Err(Stop::NotApplied(fault));
            }
        };
        if effect.is_empty() {
            if step("ROLLBACK", session.rollback()).await.is_ok() {
                self.session = Some(writing);
            }
            return Ok(effect);
        }
        match step("COMMIT", session.commit()).await {
            Ok(()) => {
                self.session = Some(writing);
                Ok(effect)
            }
            Err(fault) if fault.leaves_commit_open() => Err(Stop::Unknown(fault, Box::new(effect))),
            Err(fault) => {
                if step("ROLLBACK", session.rollback()).await.is_ok() {
                    self.session = Some(writing);
                }
                Err(Stop::NotApplied(fault))
            }
        }
    }

    /// Decides whether the batch with this sequence and token is applied; `None` if no server could
    /// be asked in time.
    async fn fence(&mut self, sequence: u64, token: &[u8; 16], begun: Instant) -> Option<bool> {
        let mut attempts = 0;
        loop {
            self.shared.metrics.database_fences.inc();
            let fault = match self.connect().await {
                Err(fault) => fault,
                Ok(()) => match self.try_fence(sequence, token).await {
                    Ok(found) => return Some(found),
                    Err(fault) => fault,
                },
            };
            if begun.elapsed() > DECIDE_MAX {
                tracing::error!(error = %fault, "the outcome of a batch of writes stays unknown");
                return None;
            }
            attempts += 1;
            pause_after(&fault, attempts).await;
        }
    }

    async fn try_fence(&mut self, sequence: u64, token: &[u8; 16]) -> Result<bool, Fault> {
        let Some(mut writing) = self.session.take() else {
            return Err(Fault::new(Class::Lost, "no connection"));
        };
        let session = &mut *writing.session;
        step("BEGIN", session.begin()).await?;
        // Waits for the old transaction, or makes its certification fail.
        step(
            "raising the sequence",
            session.raise(self.shared.clock.now_micros()),
        )
        .await?;
        let found = step("reading the log", session.has_batch(sequence, token)).await?;
        // What was read counts only if this succeeds.
        step("COMMIT", session.commit()).await?;
        self.session = Some(writing);
        Ok(found)
    }

    /// The batch is decided: counts, tells followers, and gives the answers.
    fn finish(&self, effect: Effect, begun: Instant) -> Vec<Result<Answer>> {
        let metrics = &self.shared.metrics;
        if !effect.is_empty() {
            metrics.groups.inc();
            metrics.group_writes.observe(effect.answers.len() as f64);
            metrics.sync_seconds.observe(begun.elapsed().as_secs_f64());
        }
        let count = |outcome: u8| {
            effect
                .outcomes
                .iter()
                .filter(|one| **one == outcome)
                .count()
        };
        metrics.commits.inc_by(count(0) as u64);
        metrics.conflicts.inc_by(count(1) as u64);
        if let Some(at) = effect.expires_at {
            self.shared.hint.observe(at);
        }
        if !effect.is_empty() {
            if !self.shared.hub.is_watched() {
                // Whoever begins to watch from here on sees this batch in its first read.
                self.shared
                    .position
                    .fetch_max(effect.sequence, Ordering::SeqCst);
            }
            self.shared.follow.notify_one();
        }
        effect.answers
    }

    /// Makes sure that there is a connection.
    async fn connect(&mut self) -> Result<(), Fault> {
        if self.session.is_some() {
            return Ok(());
        }
        let address: &Address = &self.shared.address;
        match connect_any(address, &address.servers, 0, Purpose::Write).await {
            Ok((session, place)) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!(server = %address.servers[place], "the database takes writes again");
                }
                self.shared.metrics.database_connects.inc();
                self.session = Some(Writing { session, place });
                self.checked_return = Instant::now();
                Ok(())
            }
            Err(fault) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(error = %fault, "no database server takes writes");
                }
                Err(fault)
            }
        }
    }

    /// Goes back to the first server of the list when it is there again: all processes should write
    /// through the same one.
    async fn return_to_first_server(&mut self) {
        let place = self.session.as_ref().map_or(0, |writing| writing.place);
        if place == 0 || self.checked_return.elapsed() < RETURN_CHECK {
            return;
        }
        self.checked_return = Instant::now();
        let address: &Address = &self.shared.address;
        let earlier = &address.servers[..place];
        let found = connect_any(address, earlier, 0, Purpose::Write).await;
        if let Ok((session, place)) = found {
            tracing::info!(server = %address.servers[place], "writes go back to {}", address.servers[place]);
            self.session = Some(Writing { session, place });
        }
    }

    async fn trim(&mut self) {
        let Some(mut writing) = self.session.take() else {
            return;
        };
        let before = UnixMillis(self.shared.clock.now().0 - LOG_KEPT_MS);
        loop {
            match step(
                "trimming the log",
                writing.session.trim_log(before, TRIM_ROWS),
            )
            .await
            {
                Ok(removed) if removed >= u64::from(TRIM_ROWS) => {}
                Ok(_) => break,
                // The next write finds out whether the connection still works.
                Err(fault) => {
                    tracing::debug!(error = %fault, "the log could not be trimmed");
                    return;
                }
            }
        }
        self.session = Some(writing);
    }
}

/// Everything of the transaction before COMMIT.
async fn prepare(
    shared: &Shared,
    session: &mut dyn Session,
    jobs: &[Job],
    token: &[u8; 16],
) -> Result<Effect, Fault> {
    let least = batch::least_sequence(jobs, shared.clock.now_micros());
    step("BEGIN", session.begin()).await?;
    // First of all: a read before it may show an older state than the one this is ordered after.
    let sequence = step("raising the sequence", session.raise(least)).await?;
    let loaded = load(session, jobs).await?;
    let mut newest = Versionstamp::ZERO;
    if jobs.iter().any(|job| matches!(job, Job::Ingest(_))) {
        newest = step("reading the position", session.position()).await?.1;
    }
    let now = shared.clock.now();
    let effect = batch::evaluate(jobs, loaded, sequence, newest, now);
    if effect.is_empty() {
        return Ok(effect);
    }
    if !effect.upserts.is_empty() {
        long_step("writing entries", session.upsert(&effect.upserts)).await?;
    }
    if !effect.removes.is_empty() {
        long_step("removing entries", session.remove(&effect.removes)).await?;
    }
    let row = LogRow {
        sequence,
        token: *token,
        at: now,
        newest: effect.newest,
        outcomes: effect.outcomes.clone(),
        keys: effect.keys.clone(),
    };
    step("writing the log", session.append_log(&row)).await?;
    Ok(effect)
}

/// The stored entries that a batch depends on.
async fn load(session: &mut dyn Session, jobs: &[Job]) -> Result<HashMap<Key, Entry>, Fault> {
    let needs = batch::needs(jobs);
    let mut loaded = HashMap::new();
    if !needs.records.is_empty() {
        for row in step("reading entries", session.load(&needs.records, true)).await? {
            let entry = rows::to_entry(row).map_err(damaged)?;
            loaded.insert(entry.key.clone(), entry);
        }
    }
    if !needs.stamps.is_empty() {
        for row in step("reading versionstamps", session.load(&needs.stamps, false)).await? {
            let entry = rows::to_stub(row);
            loaded.insert(entry.key.clone(), entry);
        }
    }
    Ok(loaded)
}

fn damaged(error: Error) -> Fault {
    Fault::damaged(match error {
        Error::Corrupt(what) => what,
        other => other.to_string(),
    })
}

/// Bounds the time of one statement.
async fn step<T>(what: &str, run: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(STEP_MAX, run).await {
        Ok(done) => done,
        Err(_) => Err(Fault::timeout(what, STEP_MAX)),
    }
}

/// Bounds the time of several statements that carry the batch's data.
async fn long_step<T>(what: &str, run: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(DECIDE_MAX, run).await {
        Ok(done) => done,
        Err(_) => Err(Fault::timeout(what, DECIDE_MAX)),
    }
}

/// Random 0..2·2ⁿ ms after a rollback, so that two writers do not meet again; longer when no server
/// will do.
async fn pause_after(fault: &Fault, attempts: u32) {
    let pause = if fault.class == Class::RolledBack {
        let most = (2_u64 << attempts.min(10)).min(BACKOFF_MAX_MS);
        Duration::from_micros(u64::from(random_u32()) * most * 1000 / u64::from(u32::MAX))
    } else if attempts <= 1 {
        // The connection was stale, or the next server of the list will do.
        Duration::ZERO
    } else {
        AWAY_PAUSE
    };
    tokio::time::sleep(pause).await;
}

fn random_u32() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

fn new_token() -> [u8; 16] {
    let mut token = [0; 16];
    // Without randomness the fence would be blind, and nothing else of the program would work.
    getrandom::fill(&mut token).expect("the operating system has random bytes");
    token
}

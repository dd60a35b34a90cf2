//! The bounded line of writes in front of the writer.
//!
//! What does not fit is refused at once, so memory stays flat while the database is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvasir_kv::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::Writer;
use crate::metrics::StoreMetrics;
use crate::sql::Shared;
use crate::sql::batch::{Answer, Job};

/// Most writes that wait while the database is slow or away.
pub(in crate::sql) const QUEUE_WRITES_MAX: usize = 4_096;

/// Most bytes of writes that wait.
pub(in crate::sql) const QUEUE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Hands writes to the task.
pub(in crate::sql) struct Queue {
    sender: mpsc::Sender<Request>,
    bytes: Arc<Semaphore>,
    /// Whether the last attempt to reach a server for writes failed.
    away: Arc<AtomicBool>,
}

pub(super) struct Request {
    pub(super) job: Job,
    pub(super) answer: oneshot::Sender<Result<Answer>>,
    pub(super) since: Instant,
    /// Its share of [`QUEUE_BYTES_MAX`], given back when the write is decided.
    pub(super) bytes: OwnedSemaphorePermit,
}

impl Queue {
    /// Starts the task. It ends when the queue is dropped and empty, or the store closes.
    pub(in crate::sql) fn start(shared: Arc<Shared>) -> (Queue, Ended) {
        let (sender, receiver) = mpsc::channel(QUEUE_WRITES_MAX);
        let (ended_sender, ended) = oneshot::channel();
        let away = Arc::new(AtomicBool::new(false));
        let mut writer = Writer {
            shared,
            session: None,
            away: Arc::clone(&away),
            checked_return: Instant::now(),
        };
        tokio::spawn(async move {
            writer.run(receiver).await;
            let _ = ended_sender.send(());
        });
        let queue = Queue {
            sender,
            bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            away,
        };
        (queue, ended)
    }

    /// Queues a job and waits for what becomes of it.
    pub(in crate::sql) async fn submit(&self, shared: &Shared, job: Job) -> Result<Answer> {
        let metrics = &shared.metrics;
        let busy = |what: &str| {
            metrics.busy.inc();
            Error::unavailable(what)
        };
        let cost = job.cost_bytes().min(QUEUE_BYTES_MAX);
        let cost = u32::try_from(cost).expect("the bound of the queue fits");
        let bytes = Arc::clone(&self.bytes)
            .try_acquire_many_owned(cost)
            .map_err(|_| busy("too many bytes wait to be written"))?;
        let (answer, answered) = oneshot::channel();
        let request = Request {
            job,
            answer,
            since: Instant::now(),
            bytes,
        };
        match self.sender.try_send(request) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(busy("too many writes wait for the database"));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(crate::sql::closed()),
        }
        let _counted = Counted::new(metrics, i64::from(cost));
        answered
            .await
            .unwrap_or_else(|_| Err(Error::outcome_unknown("the writer ended")))
    }

    /// Whether the last attempt to reach a server for writes failed.
    pub(in crate::sql) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }
}

/// A write in the gauges of waiting writes, until its caller has an answer or goes away.
struct Counted<'a> {
    metrics: &'a StoreMetrics,
    bytes: i64,
}

impl<'a> Counted<'a> {
    fn new(metrics: &'a StoreMetrics, bytes: i64) -> Counted<'a> {
        metrics.queue_writes.inc();
        metrics.queue_bytes.inc_by(bytes);
        Counted { metrics, bytes }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.queue_writes.dec();
        self.metrics.queue_bytes.dec_by(self.bytes);
    }
}

/// Completes when the writer has ended.
pub(in crate::sql) type Ended = oneshot::Receiver<()>;

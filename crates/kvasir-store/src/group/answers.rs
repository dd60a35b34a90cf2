//! How the writes of a finished group are answered.
//!
//! A thread that is not one of the runtime's wakes a task through the one queue that all such
//! threads share, with its lock, and often with a system call. So the committer hands the answers of
//! a group over as a whole, and a task of the runtime wakes those who wait, through the queue of the
//! worker that it runs on.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::queue::{Answer, GroupTimes, Queue};

/// The answers of one group, which is durable and visible.
struct Batch {
    answers: Vec<Answer>,
    times: GroupTimes,
    /// What the group's writes counted in the queue.
    bytes: usize,
}

impl Batch {
    fn send(self, queue: &Queue) {
        let count = self.answers.len();
        for answer in self.answers {
            answer.send(self.times);
        }
        queue.release(count, self.bytes);
    }
}

/// The committer's end. What waits here is bounded, because writes leave the queue's count only when
/// they are answered.
pub(super) struct Answers {
    queue: Arc<Queue>,
    batches: Option<mpsc::UnboundedSender<Batch>>,
}

impl Answers {
    /// Answers from a task of the runtime that this is called in, or else from the calling thread.
    pub(super) fn start(queue: Arc<Queue>) -> Answers {
        let batches = Handle::try_current().ok().map(|runtime| {
            let (batches, handed_over) = mpsc::unbounded_channel();
            runtime.spawn(send_all(handed_over, Arc::clone(&queue)));
            batches
        });
        Answers { queue, batches }
    }

    /// Answers a group.
    pub(super) fn send(&self, answers: Vec<Answer>, times: GroupTimes, bytes: usize) {
        let batch = Batch {
            answers,
            times,
            bytes,
        };
        // One answer is woken as fast from here as the task would be.
        let others = self.batches.as_ref().filter(|_| batch.answers.len() > 1);
        let Some(batches) = others else {
            return batch.send(&self.queue);
        };
        // The runtime may be gone while others still write.
        if let Err(refused) = batches.send(batch) {
            refused.0.send(&self.queue);
        }
    }
}

async fn send_all(mut batches: mpsc::UnboundedReceiver<Batch>, queue: Arc<Queue>) {
    while let Some(batch) = batches.recv().await {
        batch.send(&queue);
    }
}

//! Writes down what clients of a store do and see.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kvasir_kv::{
    AtomicWrite, Clock, Error, Key, KeyRange, Outcome, RangeRead, Snapshot, SnapshotRead, Store,
    UnixMillis,
};
use tokio::task::JoinSet;

use super::{Action, Answer, FollowLog, History, Operation, Report, Tick, Violation, WatchLog};
use crate::model::Refusal;
use crate::wait::{DEADLINE, within};

/// How long watchers and followers may take to show the last state.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(20);

/// Pause between two judgements of a history whose streams may not have settled.
const JUDGE_EVERY: Duration = Duration::from_millis(50);

/// A history in the making. Clones write into the same one.
#[derive(Clone, Debug, Default)]
pub struct Recording(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ticks: AtomicU64,
    history: Mutex<History>,
}

impl Recording {
    /// An empty history.
    pub fn new() -> Recording {
        Recording::default()
    }

    /// The present moment. Each call gives a later one.
    pub fn tick(&self) -> Tick {
        Tick(self.0.ticks.fetch_add(1, Ordering::SeqCst))
    }

    /// Adds a call that has ended.
    pub fn add(&self, operation: Operation) {
        self.history().operations.push(operation);
    }

    /// Says that the server has died: what was unknown until now cannot happen any more.
    pub fn died(&self) {
        let now = self.tick();
        for operation in &mut self.history().operations {
            operation.returned = match operation.returned {
                Tick::NEVER => now,
                returned => returned,
            };
        }
    }

    /// A copy of the history as far as it is written.
    pub fn so_far(&self) -> History {
        self.history().clone()
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.0.history.lock().expect("no panic while held")
    }
}

/// A store with a history: what is called through it is written down.
#[derive(Clone)]
pub struct Recorder {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    recording: Recording,
    /// Watches and followers. Dropping the last clone ends them.
    streams: Arc<Mutex<JoinSet<()>>>,
}

impl Recorder {
    /// Records what happens to a store from now on. It has to be empty.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Recorder {
        Recorder {
            store,
            clock,
            recording: Recording::new(),
            streams: Arc::default(),
        }
    }

    /// Commits on behalf of a client.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn commit(&self, client: u32, write: AtomicWrite) -> kvasir_kv::Result<Outcome> {
        let (invoked, now) = (self.recording.tick(), self.clock.now());
        let result = self.store.commit(write.clone()).await;
        let answer = answer(&result);
        let returned = match answer {
            Answer::Unknown => Tick::NEVER,
            _ => self.recording.tick(),
        };
        let action = Action::Commit(write, answer);
        self.recording.add(Operation {
            client,
            invoked,
            returned,
            now,
            action,
        });
        result
    }

    /// Reads on behalf of a client.
    ///
    /// # Errors
    ///
    /// Those of the store; such a read is not written down.
    pub async fn read(&self, client: u32, read: SnapshotRead) -> kvasir_kv::Result<Snapshot> {
        let (invoked, now) = (self.recording.tick(), self.clock.now());
        let snapshot = self.store.read(read.clone()).await?;
        let returned = self.recording.tick();
        let action = Action::Read(read, snapshot.clone());
        self.recording.add(Operation {
            client,
            invoked,
            returned,
            now,
            action,
        });
        Ok(snapshot)
    }

    /// Watches keys until [`Recorder::finish`]. Returns after the first item.
    ///
    /// # Panics
    ///
    /// If the watch does not begin.
    pub async fn watch(&self, keys: Vec<Key>) {
        let opened = self.recording.tick();
        let place = {
            let mut history = self.recording.history();
            history.watches.push(WatchLog {
                keys: keys.clone(),
                opened,
                opened_at: self.clock.now(),
                items: Vec::new(),
                settled: true,
            });
            history.watches.len() - 1
        };
        let mut stream = self.store.watch(keys);
        let first = within(DEADLINE, "the first item of a watch", stream.next()).await;
        let first = first.expect("a watch begins with an item");
        self.push_item(place, first.expect("the store can be read"));

        let recorder = self.clone();
        self.spawn(async move {
            while let Some(Ok(item)) = stream.next().await {
                recorder.push_item(place, item);
            }
            recorder.recording.history().watches[place].settled = false;
        });
    }

    fn push_item(&self, place: usize, item: Vec<Option<kvasir_kv::Entry>>) {
        let item = (self.recording.tick(), self.clock.now(), item);
        self.recording.history().watches[place].items.push(item);
    }

    /// Follows a range until [`Recorder::finish`]. Returns after the first poll.
    pub async fn follow(&self, range: KeyRange) {
        let opened = self.recording.tick();
        let mut stream = self.store.changes(range.clone());
        let first = futures_util::poll!(stream.next());
        let place = {
            let mut history = self.recording.history();
            history.follows.push(FollowLog {
                range,
                opened,
                polled: self.recording.tick(),
                items: Vec::new(),
                settled: true,
            });
            history.follows.len() - 1
        };
        if let Poll::Ready(Some(changes)) = first {
            self.push_changes(place, changes);
        }
        let recorder = self.clone();
        self.spawn(async move {
            while let Some(changes) = stream.next().await {
                recorder.push_changes(place, changes);
            }
            recorder.recording.history().follows[place].settled = false;
        });
    }

    fn push_changes(&self, place: usize, changes: kvasir_kv::Changes) {
        let item = (self.recording.tick(), changes);
        self.recording.history().follows[place].items.push(item);
    }

    fn spawn(&self, stream: impl Future<Output = ()> + Send + 'static) {
        let mut streams = self.streams.lock().expect("no panic while held");
        streams.spawn(stream);
    }

    /// Reads everything once more and judges the history.
    ///
    /// Watchers and followers may still be on their way to the last state, and nothing tells when
    /// nothing more will come. So a bad history is judged again until the streams have had
    /// [`SETTLE_DEADLINE`]; a good one is done at once.
    ///
    /// # Errors
    ///
    /// What the history violates in the end.
    ///
    /// # Panics
    ///
    /// If the store cannot be read.
    pub async fn finish(self) -> Result<Report, Violation> {
        let everything = KeyRange::starting_with(&Key::default());
        let read = SnapshotRead::range(RangeRead::new(everything, usize::MAX));
        self.read(u32::MAX, read)
            .await
            .expect("the store can be read");

        let begun = Instant::now();
        let verdict = loop {
            let verdict = self.recording.so_far().check();
            if verdict.is_ok() || begun.elapsed() >= SETTLE_DEADLINE {
                break verdict;
            }
            tokio::time::sleep(JUDGE_EVERY).await;
        };
        self.streams
            .lock()
            .expect("no panic while held")
            .abort_all();
        verdict
    }

    /// The present time of day.
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

/// What an answer of the store means to the checker.
pub(crate) fn answer(result: &kvasir_kv::Result<Outcome>) -> Answer {
    match result {
        Ok(Outcome::Committed(committed)) => Answer::Committed(committed.clone()),
        Ok(Outcome::Conflict { failed }) => Answer::Conflict(failed.clone()),
        Err(Error::OutcomeUnknown(_)) => Answer::Unknown,
        Err(error) => Refusal::of(error).map_or(Answer::Rejected, Answer::Refused),
    }
}

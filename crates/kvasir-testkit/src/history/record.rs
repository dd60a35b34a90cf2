//! Writes down what clients of a store do and see.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use kvasir_kv::{
    AtomicWrite, Clock, Error, Key, KeyRange, Outcome, Result, Snapshot, SnapshotRead, Store,
    UnixMillis,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Action, Answer, FollowLog, History, Operation, Tick, WatchLog};
use crate::model::Refusal;
use crate::wait::{DEADLINE, within};

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
    /// Turns true when everything is quiet and watches and followers are to end.
    quiet: Arc<watch::Sender<bool>>,
    streams: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Recorder {
    /// Records what happens to a store from now on. It has to be empty.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Recorder {
        Recorder {
            store,
            clock,
            recording: Recording::new(),
            quiet: Arc::new(watch::Sender::new(false)),
            streams: Arc::default(),
        }
    }

    /// Commits on behalf of a client.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn commit(&self, client: u32, write: AtomicWrite) -> Result<Outcome> {
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
    pub async fn read(&self, client: u32, read: SnapshotRead) -> Result<Snapshot> {
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
    pub async fn watch(&self, keys: Vec<Key>) {
        let opened = self.recording.tick();
        let mut log = WatchLog {
            keys: keys.clone(),
            opened,
            opened_at: self.clock.now(),
            items: Vec::new(),
            settled: false,
        };
        let mut stream = self.store.watch(keys);
        let first = within(DEADLINE, "the first item of a watch", stream.next()).await;
        let first = first.expect("a watch begins with an item");
        self.push_item(&mut log, first.expect("the store can be read"));

        let recorder = self.clone();
        let mut quiet = self.quiet.subscribe();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    item = stream.next() => match item {
                        Some(Ok(item)) => recorder.push_item(&mut log, item),
                        Some(Err(_)) | None => break,
                    },
                    _ = quiet.wait_for(|quiet| *quiet) => {
                        log.settled = true;
                        break;
                    }
                }
            }
            recorder.recording.history().watches.push(log);
        });
        self.streams.lock().expect("no panic while held").push(task);
    }

    fn push_item(&self, log: &mut WatchLog, item: Vec<Option<kvasir_kv::Entry>>) {
        log.items
            .push((self.recording.tick(), self.clock.now(), item));
    }

    /// Follows a range until [`Recorder::finish`]. Returns after the first poll.
    pub async fn follow(&self, range: KeyRange) {
        let opened = self.recording.tick();
        let mut stream = self.store.changes(range.clone());
        let first = futures_util::poll!(stream.next());
        let mut log = FollowLog {
            range,
            opened,
            polled: self.recording.tick(),
            items: Vec::new(),
            settled: false,
        };
        if let std::task::Poll::Ready(Some(changes)) = first {
            log.items.push((self.recording.tick(), changes));
        }
        let recorder = self.clone();
        let mut quiet = self.quiet.subscribe();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    changes = stream.next() => match changes {
                        Some(changes) => log.items.push((recorder.recording.tick(), changes)),
                        None => break,
                    },
                    _ = quiet.wait_for(|quiet| *quiet) => {
                        log.settled = true;
                        break;
                    }
                }
            }
            recorder.recording.history().follows.push(log);
        });
        self.streams.lock().expect("no panic while held").push(task);
    }

    /// Reads everything once more, waits until the streams have nothing to tell, and gives the
    /// history. `quiet_for` is how long a change may take to reach a watcher.
    ///
    /// # Panics
    ///
    /// If the store cannot be read.
    pub async fn finish(self, quiet_for: std::time::Duration) -> History {
        let everything = KeyRange::starting_with(&Key::default());
        let read = SnapshotRead::range(kvasir_kv::RangeRead::new(everything, usize::MAX));
        self.read(u32::MAX, read)
            .await
            .expect("the store can be read");

        // There is no signal for "nothing more will come"; a bounded pause stands for it. Too short
        // a pause could only fail a good store, never pass a bad one.
        tokio::time::sleep(quiet_for).await;
        self.quiet.send_replace(true);
        let streams = std::mem::take(&mut *self.streams.lock().expect("no panic while held"));
        for stream in streams {
            let ended = within(DEADLINE, "a stream ends", stream).await;
            ended.expect("recording does not panic");
        }
        self.recording.so_far()
    }

    /// The present time of day.
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

/// What an answer of the store means to the checker.
pub(crate) fn answer(result: &Result<Outcome>) -> Answer {
    match result {
        Ok(Outcome::Committed(committed)) => Answer::Committed(committed.clone()),
        Ok(Outcome::Conflict { failed }) => Answer::Conflict(failed.clone()),
        Err(Error::OutcomeUnknown(_)) => Answer::Unknown,
        Err(error) => Refusal::of(error).map_or(Answer::Rejected, Answer::Refused),
    }
}

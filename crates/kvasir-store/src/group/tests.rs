//! The committer over an engine of the tests that blocks and fails when told to.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc;

use kvasir_kv::{ManualClock, Mutation, Value};

use super::*;
use crate::fatal::FatalHook;

/// An engine in memory whose `apply` waits for permission, so that tests decide what is one group.
struct Scripted {
    entries: BTreeMap<Key, Entry>,
    permits: mpsc::Receiver<Result<(), Cause>>,
    groups: Arc<Mutex<Vec<Group>>>,
    space: Arc<Mutex<Space>>,
}

impl Engine for Scripted {
    fn load(&mut self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.entries.get(key).cloned())
    }

    fn due(&mut self, now: UnixMillis, limit: usize) -> Result<Due> {
        let expired = self.entries.values().filter(|entry| entry.is_expired(now));
        Ok(Due {
            keys: expired.take(limit).map(|entry| entry.key.clone()).collect(),
            ..Due::default()
        })
    }

    fn space(&mut self) -> Space {
        *self.space.lock().unwrap()
    }

    fn apply(&mut self, group: &Group) -> Result<(), Cause> {
        self.groups.lock().unwrap().push(group.clone());
        match self.permits.recv() {
            Ok(permit) => permit,
            Err(_) => panic!("the test ended"),
        }
    }

    fn publish(&mut self, group: &Group) {
        for change in &group.changes {
            match &change.after {
                Some(entry) => self.entries.insert(change.key.clone(), entry.clone()),
                None => self.entries.remove(&change.key),
            };
        }
    }

    fn close(&mut self) -> Result<(), Cause> {
        Ok(())
    }
}

struct Rig {
    committer: Arc<Committer>,
    permits: mpsc::Sender<Result<(), Cause>>,
    groups: Arc<Mutex<Vec<Group>>>,
    space: Arc<Mutex<Space>>,
    fatal: tokio::sync::mpsc::UnboundedReceiver<String>,
}

fn rig() -> Rig {
    let (permits, permitted) = mpsc::channel();
    let (told, fatal) = tokio::sync::mpsc::unbounded_channel();
    let groups = Arc::<Mutex<Vec<Group>>>::default();
    let space = Arc::new(Mutex::new(Space::Enough));
    let options = OpenOptions {
        clock: Arc::new(ManualClock::at(UnixMillis(1_000))),
        fatal: FatalHook::new(move |error| drop(told.send(error.to_string()))),
        ..OpenOptions::default()
    };
    let engine = Scripted {
        entries: BTreeMap::new(),
        permits: permitted,
        groups: Arc::clone(&groups),
        space: Arc::clone(&space),
    };
    let hub = Hub::new(Arc::clone(&options.metrics));
    let hint = Arc::default();
    let committer = Committer::start(engine, Versionstamp::ZERO, hub, hint, &options).unwrap();
    Rig {
        committer: Arc::new(committer),
        permits,
        groups,
        space,
        fatal,
    }
}

impl Rig {
    fn submit(&self, write: AtomicWrite) -> tokio::task::JoinHandle<Result<Outcome>> {
        let committer = Arc::clone(&self.committer);
        tokio::spawn(async move { committer.commit(write).await })
    }

    /// Until `count` groups were given to the engine.
    async fn wait_for_groups(&self, count: usize) {
        for _ in 0..10_000 {
            if self.groups.lock().unwrap().len() >= count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("there is no group {count}");
    }

    /// Until `count` writes wait or are in work.
    async fn wait_for_writes(&self, count: i64) {
        for _ in 0..10_000 {
            if self.committer.queue.metrics().queue_writes.get() == count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("there are never {count} writes");
    }
}

fn key(name: &str) -> Key {
    Key::from_strings([name])
}

fn set(name: &str) -> AtomicWrite {
    AtomicWrite::new().push(Mutation::set(key(name), Value::json("1")))
}

fn stamp(outcome: Result<Outcome>) -> Versionstamp {
    outcome.unwrap().committed().unwrap().versionstamp
}

#[tokio::test]
async fn writes_that_wait_become_one_group_in_versionstamp_order() {
    let rig = rig();
    let first = rig.submit(set("a"));
    rig.wait_for_groups(1).await;
    let mut waiting = Vec::new();
    for (count, name) in ["b", "c", "d"].into_iter().enumerate() {
        waiting.push(rig.submit(set(name)));
        rig.wait_for_writes(count as i64 + 2).await;
    }
    rig.permits.send(Ok(())).unwrap();
    let mut stamps = vec![stamp(first.await.unwrap())];
    rig.permits.send(Ok(())).unwrap();
    for answer in waiting {
        stamps.push(stamp(answer.await.unwrap()));
    }
    assert!(stamps.is_sorted());
    let orders: Vec<_> = stamps.iter().map(Versionstamp::order).collect();
    assert_eq!(orders, [0, 0, 1, 2]);
    assert_eq!(rig.groups.lock().unwrap()[1].changes.len(), 3);
}

#[tokio::test]
async fn a_write_sees_earlier_ones_of_its_group_and_a_key_is_written_once() {
    let rig = rig();
    let first = rig.submit(set("a"));
    rig.wait_for_groups(1).await;
    let create = || set("b").check_absent(key("b"));
    let wins = rig.submit(create());
    rig.wait_for_writes(2).await;
    let loses = rig.submit(create());
    rig.wait_for_writes(3).await;
    let sum = Mutation::Sum {
        key: key("n"),
        operand: Value::u64(2),
        bounds: kvasir_kv::SumBounds::default(),
    };
    let sums = [
        rig.submit(AtomicWrite::new().push(sum.clone())),
        rig.submit(AtomicWrite::new().push(sum)),
    ];
    rig.wait_for_writes(5).await;
    rig.permits.send(Ok(())).unwrap();
    rig.permits.send(Ok(())).unwrap();

    stamp(first.await.unwrap());
    let won = stamp(wins.await.unwrap());
    let lost = loses.await.unwrap().unwrap();
    assert_eq!(lost, Outcome::Conflict { failed: vec![0] });
    for answer in sums {
        assert!(stamp(answer.await.unwrap()) > won);
    }
    let groups = rig.groups.lock().unwrap();
    let names: Vec<_> = groups[1].changes.iter().map(|change| &change.key).collect();
    assert_eq!(names, [&key("b"), &key("n")]);
    let total = groups[1].changes[1].after.as_ref().unwrap();
    assert_eq!(total.value.as_u64(), Some(4));
}

#[tokio::test]
async fn a_failed_batch_is_final() {
    let mut rig = rig();
    let in_flight = rig.submit(set("a"));
    rig.wait_for_groups(1).await;
    let waiting = rig.submit(set("b"));
    rig.wait_for_writes(2).await;
    let cause: Box<dyn std::error::Error + Send + Sync> = "input/output error".into();
    rig.permits.send(Err(cause.into())).unwrap();

    let unknown = in_flight.await.unwrap();
    assert!(matches!(unknown, Err(Error::OutcomeUnknown(_))));
    let refused = waiting.await.unwrap();
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    let told = rig.fatal.recv().await.unwrap();
    assert_eq!(told, "a commit could not be made durable");

    assert!(matches!(rig.committer.ping(), Err(Error::Unavailable(_))));
    let later = rig.committer.commit(set("c")).await;
    assert!(matches!(later, Err(Error::Unavailable(_))));
    assert!(rig.committer.close().await.is_err());
    assert_eq!(rig.groups.lock().unwrap().len(), 1);
    assert!(rig.fatal.try_recv().is_err(), "the hook is called once");
}

#[tokio::test]
async fn a_panic_of_the_engine_is_a_failed_commit() {
    let mut rig = rig();
    let in_flight = rig.submit(set("a"));
    rig.wait_for_groups(1).await;
    let (permits, _) = mpsc::channel();
    drop(std::mem::replace(&mut rig.permits, permits));
    let unknown = in_flight.await.unwrap();
    assert!(matches!(unknown, Err(Error::OutcomeUnknown(_))));
    assert_eq!(
        rig.fatal.recv().await.unwrap(),
        "the committer ended by a bug"
    );
}

#[tokio::test]
async fn a_commit_that_does_not_end_is_a_failed_commit() {
    let mut rig = rig();
    let _in_flight = rig.submit(set("a"));
    rig.wait_for_groups(1).await;
    let waited = std::time::Duration::from_secs(20);
    let told = tokio::time::timeout(waited, rig.fatal.recv()).await;
    assert_eq!(told.unwrap().unwrap(), "a commit does not end");
    rig.permits.send(Ok(())).unwrap();
}

#[tokio::test]
async fn the_queue_is_full_at_its_bound() {
    let rig = rig();
    let _first = rig.submit(set("a"));
    rig.wait_for_groups(1).await;
    let (reply, _) = tokio::sync::oneshot::channel();
    let mut task = Some(Task::Commit(AtomicWrite::new(), reply));
    for _ in 1..QUEUE_WRITES_MAX {
        let (reply, _) = tokio::sync::oneshot::channel();
        let task = task.replace(Task::Commit(AtomicWrite::new(), reply));
        rig.committer.queue.push(0, task.unwrap()).unwrap();
    }
    let refused = rig.committer.commit(set("b")).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    for _ in 0..8 {
        rig.permits.send(Ok(())).unwrap();
    }
}

#[tokio::test]
async fn the_queue_is_bounded_in_bytes_and_holds_two_of_the_largest_writes() {
    let rig = rig();
    let push = |bytes| {
        let (reply, _) = tokio::sync::oneshot::channel();
        let task = Task::Commit(AtomicWrite::new(), reply);
        rig.committer.queue.push(bytes, task)
    };
    let _first = rig.submit(set("a"));
    rig.wait_for_groups(1).await;
    let largest = WRITE_BYTES_MAX + OPERATION_BYTES * (CHECKS_MAX + MUTATIONS_MAX);
    push(largest).unwrap();
    push(largest).unwrap();
    assert!(push(2 * 1024 * 1024).is_err());
    for _ in 0..3 {
        rig.permits.send(Ok(())).unwrap();
    }
}

#[tokio::test]
async fn without_space_only_deletes_are_taken_and_writes_come_back_alone() {
    let rig = rig();
    for _ in 0..3 {
        rig.permits.send(Ok(())).unwrap();
    }
    rig.committer.commit(set("a")).await.unwrap();
    *rig.space.lock().unwrap() = Space::Low;
    let refused = rig.committer.commit(set("b")).await;
    assert!(matches!(refused, Err(Error::NoSpace)));
    assert!(matches!(rig.committer.ping(), Err(Error::NoSpace)));
    let delete = AtomicWrite::new().push(Mutation::delete(key("a")));
    rig.committer.commit(delete.clone()).await.unwrap();
    *rig.space.lock().unwrap() = Space::None;
    let refused = rig.committer.commit(delete).await;
    assert!(matches!(refused, Err(Error::NoSpace)));
    *rig.space.lock().unwrap() = Space::Enough;
    rig.committer.commit(set("b")).await.unwrap();
    rig.committer.ping().unwrap();
}

#[tokio::test]
async fn closing_finishes_what_was_accepted() {
    let rig = rig();
    let first = rig.submit(set("a"));
    rig.wait_for_groups(1).await;
    let second = rig.submit(set("b"));
    rig.wait_for_writes(2).await;
    let committer = Arc::clone(&rig.committer);
    let closing = tokio::spawn(async move { committer.close().await });
    rig.permits.send(Ok(())).unwrap();
    rig.permits.send(Ok(())).unwrap();
    closing.await.unwrap().unwrap();
    rig.committer.close().await.unwrap();
    stamp(first.await.unwrap());
    stamp(second.await.unwrap());
    let refused = rig.committer.commit(set("c")).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
}

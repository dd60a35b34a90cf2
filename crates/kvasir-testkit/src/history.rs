//! What clients did and saw, and whether a store that keeps its promises could have answered so.
//!
//! A [`History`] holds every commit, read, watch and follower with the real time of its beginning
//! and end. [`History::check`] puts the commits in the order of their versionstamps, replays them
//! on the [`Model`], and asks of every answer whether some state of that replay explains it:
//!
//! - versionstamps are unique, and a write acknowledged before another began has the smaller one;
//! - every committed write would have been committed in that order, with the same answer;
//! - every snapshot read, conflict and refusal fits one state that was current between its
//!   beginning and its end, and later reads never go back behind earlier ones;
//! - watches go forward, show only states that existed, and end with the last one;
//! - followers are told of every change, in order.
//!
//! A write whose answer was lost may have happened or not. The checker tells by its traces: an
//! observed entry that only this write can have made. Such a write therefore has to set one key to
//! a value that no other write sets, and that key has to be read in the end. [`crate::workload`]
//! makes writes like that.
//!
//! The clock has to stand still while an operation runs, or entries must not expire.

mod check;
mod record;

use std::fmt;

use kvasir_kv::{
    AtomicWrite, Changes, Committed, Entry, Key, KeyRange, Snapshot, SnapshotRead, UnixMillis,
};

pub use check::{Report, Violation};
pub(crate) use record::answer;
pub use record::{Recorder, Recording, SETTLE_DEADLINE};

use crate::model::{Model, Refusal};

/// A moment of real time: larger is later. Not a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// After everything: the end of an operation that may still have its effect.
    pub const NEVER: Tick = Tick(u64::MAX);
}

/// Everything that clients did and saw.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What the store held before.
    pub base: Model,
    /// Operations, in no particular order.
    pub operations: Vec<Operation>,
    /// Watches.
    pub watches: Vec<WatchLog>,
    /// Followers of changes.
    pub follows: Vec<FollowLog>,
}

/// One call and its answer.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who called; for messages.
    pub client: u32,
    /// When it was called.
    pub invoked: Tick,
    /// When it answered. For a lost answer the last moment at which the call can have had its
    /// effect: the death of the server, or [`Tick::NEVER`].
    pub returned: Tick,
    /// The time of day during the call.
    pub now: UnixMillis,
    /// What was called, and the answer.
    pub action: Action,
}

/// A call and its answer.
#[derive(Clone, Debug)]
pub enum Action {
    /// [`kvasir_kv::Store::commit`].
    Commit(AtomicWrite, Answer),
    /// [`kvasir_kv::Store::read`]. A read that failed tells nothing and is left out.
    Read(SnapshotRead, Snapshot),
}

/// What a commit answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was applied.
    Committed(Committed),
    /// Checks failed.
    Conflict(Vec<u32>),
    /// The rules refused it.
    Refused(Refusal),
    /// It was turned away before it could have any effect.
    Rejected,
    /// Nobody knows.
    Unknown,
}

/// What a watch showed.
#[derive(Clone, Debug)]
pub struct WatchLog {
    /// The watched keys.
    pub keys: Vec<Key>,
    /// When it was opened.
    pub opened: Tick,
    /// The time of day then.
    pub opened_at: UnixMillis,
    /// What came: when, at which time of day, and the states of the keys.
    pub items: Vec<(Tick, UnixMillis, Vec<Option<Entry>>)>,
    /// Whether it was still open when everything was quiet, so that its last item has to be the
    /// last state.
    pub settled: bool,
}

/// What a follower was told.
#[derive(Clone, Debug)]
pub struct FollowLog {
    /// The followed range.
    pub range: KeyRange,
    /// When it was asked for; nothing older is told.
    pub opened: Tick,
    /// When its first poll returned; commits that began later must all be told.
    pub polled: Tick,
    /// What came, and when.
    pub items: Vec<(Tick, Changes)>,
    /// Whether it was still open when everything was quiet.
    pub settled: bool,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "client {} during {}..{}: ",
            self.client, self.invoked.0, self.returned.0
        )?;
        match &self.action {
            Action::Commit(write, answer) => write!(f, "commit {write:?} -> {answer:?}"),
            Action::Read(read, snapshot) => write!(f, "read {read:?} -> {snapshot:?}"),
        }
    }
}

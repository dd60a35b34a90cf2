//! The checker itself. See the module above for what it promises.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fmt;

use kvasir_kv::{AtomicWrite, Entry, Key, Mutation, UnixMillis, Value, Versionstamp};

use super::{Action, Answer, FollowLog, History, Operation, Tick, WatchLog};
use crate::model::{Model, Verdict};

/// Why no correct store can have given these answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// Two commits have one versionstamp, or one has none.
    ReusedVersionstamp(String),
    /// A write acknowledged before another began has the larger versionstamp.
    OutOfRealTimeOrder(String),
    /// An entry was seen that no write can have made, such as one of a refused write.
    FromNowhere(String),
    /// A write whose answer was lost was applied twice.
    AppliedTwice(String),
    /// In the order of versionstamps the write would not have been committed, or with another
    /// answer.
    WrongAnswer(String),
    /// No state current during the call explains the answer of a read, conflict or refusal.
    NoSuchMoment(String),
    /// A read shows an older state than a read that had ended before it began.
    WentBack(String),
    /// A watch shows what never was, or goes back.
    WatchOutOfOrder(String),
    /// A watch did not show the last state.
    WatchMissedLast(String),
    /// A follower was told of a change that did not happen, or in the wrong order.
    FollowOutOfOrder(String),
    /// A follower was not told of a change.
    FollowMissed(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, story) = match self {
            Violation::ReusedVersionstamp(story) => ("a versionstamp was given twice", story),
            Violation::OutOfRealTimeOrder(story) => ("commit order contradicts real time", story),
            Violation::FromNowhere(story) => ("an entry came from nowhere", story),
            Violation::AppliedTwice(story) => ("one write was applied twice", story),
            Violation::WrongAnswer(story) => ("replay gives another answer", story),
            Violation::NoSuchMoment(story) => ("no state explains the answer", story),
            Violation::WentBack(story) => ("a later read shows an older state", story),
            Violation::WatchOutOfOrder(story) => ("a watch shows what was not so", story),
            Violation::WatchMissedLast(story) => ("a watch missed the last state", story),
            Violation::FollowOutOfOrder(story) => ("a follower was told what was not so", story),
            Violation::FollowMissed(story) => ("a follower missed a change", story),
        };
        write!(f, "{what}: {story}")
    }
}

impl std::error::Error for Violation {}

/// What a history that passed amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Writes that were applied.
    pub commits: usize,
    /// Of these, writes whose answer was lost.
    pub recovered: usize,
    /// Writes whose answer was lost and that were not applied.
    pub vanished: usize,
    /// Reads, conflicts and refusals that a state explains.
    pub observations: usize,
    /// The state after everything.
    pub last: Model,
}

impl History {
    /// Checks everything that the module promises.
    ///
    /// # Errors
    ///
    /// The first violation found.
    pub fn check(&self) -> Result<Report, Violation> {
        let order = Order::of(self)?;
        order.respects_real_time()?;
        let replay = self.replay(&order)?;
        let observations = self.explain(&order, &replay)?;
        for watch in &self.watches {
            check_watch(watch, &order, &replay)?;
        }
        for follow in &self.follows {
            check_follow(follow, &order, &replay)?;
        }
        Ok(Report {
            commits: order.commits.len(),
            recovered: order.recovered,
            vanished: order.vanished,
            observations,
            last: replay.last,
        })
    }

    /// Entries that anybody saw.
    fn seen(&self) -> impl Iterator<Item = &Entry> {
        let read = self.operations.iter().flat_map(|operation| {
            let ranges = match &operation.action {
                Action::Read(_, snapshot) => &snapshot.ranges[..],
                Action::Commit(..) => &[],
            };
            ranges.iter().flat_map(|range| &range.entries)
        });
        let watched = self.watches.iter().flat_map(|watch| &watch.items);
        read.chain(watched.flat_map(|(_, _, states)| states.iter().flatten()))
    }

    /// Applies the commits in order, and keeps what each of them changed.
    fn replay(&self, order: &Order<'_>) -> Result<Replay, Violation> {
        let mut model = self.base.clone();
        let mut changes = Vec::with_capacity(order.commits.len());
        for commit in &order.commits {
            let before = model.clone_touched(commit.write);
            match model.commit(commit.write, commit.stamp, commit.operation.now) {
                Verdict::Commit { existed, after } => {
                    if let Action::Commit(_, Answer::Committed(committed)) =
                        &commit.operation.action
                        && committed.existed != existed
                    {
                        return Err(Violation::WrongAnswer(format!(
                            "{}; keys existed: {existed:?}",
                            commit.operation
                        )));
                    }
                    let now = commit.operation.now;
                    let changed = after.into_iter().map(|(key, after)| Changed {
                        was_live: before.get(&key).is_some_and(|entry| !entry.is_expired(now)),
                        before: before.get(&key).cloned(),
                        key,
                        after,
                    });
                    changes.push(changed.collect());
                }
                other => {
                    return Err(Violation::WrongAnswer(format!(
                        "{}; but at its place {} in the order: {other:?}",
                        commit.operation, commit.stamp
                    )));
                }
            }
        }
        Ok(Replay {
            changes,
            last: model,
        })
    }

    /// Finds a state for each read, conflict and refusal.
    fn explain(&self, order: &Order<'_>, replay: &Replay) -> Result<usize, Violation> {
        let mut observers: Vec<Observer<'_>> = self
            .operations
            .iter()
            .filter(|operation| operation.is_observation())
            .map(|operation| Observer {
                operation,
                window: order.window(operation.invoked, operation.returned),
                fitting: Vec::new(),
            })
            .collect();

        // All states in turn; each observer is asked about those in its window.
        observers.sort_by_key(|observer| observer.window.0);
        let mut model = self.base.clone();
        let mut active = Vec::<usize>::new();
        let mut next = 0;
        for state in 0..=replay.changes.len() {
            if let Some(changed) = state.checked_sub(1).map(|index| &replay.changes[index]) {
                model.apply(changed);
            }
            while next < observers.len() && observers[next].window.0 <= state {
                active.push(next);
                next += 1;
            }
            active.retain(|&index| observers[index].window.1 >= state);
            for &index in &active {
                if observers[index].operation.fits(&model) {
                    observers[index].fitting.push(state);
                }
            }
        }

        // Then the earliest fitting state that is not before those of earlier observations.
        observers.sort_by_key(|observer| observer.operation.invoked);
        let mut running = BinaryHeap::<Reverse<(Tick, usize)>>::new();
        let mut floor = 0;
        for observer in &observers {
            let operation = observer.operation;
            if observer.fitting.is_empty() {
                return Err(Violation::NoSuchMoment(format!(
                    "{operation}; states {:?} of {} were asked",
                    observer.window,
                    replay.changes.len()
                )));
            }
            while let Some(Reverse((returned, state))) = running.peek()
                && *returned < operation.invoked
            {
                floor = floor.max(*state);
                running.pop();
            }
            match observer.fitting.iter().find(|&&state| state >= floor) {
                Some(&state) => running.push(Reverse((operation.returned, state))),
                None => {
                    return Err(Violation::WentBack(format!(
                        "{operation}; it fits states {:?}, but state {floor} was seen before",
                        observer.fitting
                    )));
                }
            }
        }
        Ok(observers.len())
    }
}

impl Operation {
    fn is_observation(&self) -> bool {
        matches!(
            self.action,
            Action::Read(..) | Action::Commit(_, Answer::Conflict(_) | Answer::Refused(_))
        )
    }

    /// Whether this state explains the answer.
    fn fits(&self, model: &Model) -> bool {
        match &self.action {
            Action::Read(read, snapshot) => model.read(read, self.now) == *snapshot,
            Action::Commit(write, answer) => {
                let verdict = model.judge(write, Versionstamp::ZERO, self.now);
                match (answer, verdict) {
                    (Answer::Conflict(failed), Verdict::Conflict { failed: expected }) => {
                        *failed == expected
                    }
                    (Answer::Refused(refusal), Verdict::Refused(expected)) => *refusal == expected,
                    _ => false,
                }
            }
        }
    }
}

struct Observer<'a> {
    operation: &'a Operation,
    /// First and last state that can have been current during the call.
    window: (usize, usize),
    /// Those of them that explain the answer.
    fitting: Vec<usize>,
}

/// What the commits changed, one list per commit.
struct Replay {
    changes: Vec<Vec<Changed>>,
    last: Model,
}

struct Changed {
    key: Key,
    before: Option<Entry>,
    /// Whether `before` had not expired yet.
    was_live: bool,
    after: Option<Entry>,
}

impl Model {
    fn clone_touched(&self, write: &AtomicWrite) -> BTreeMap<Key, Entry> {
        let keys = write.mutations.iter().map(Mutation::key);
        keys.filter_map(|key| Some((key.clone(), self.stored(key)?.clone())))
            .collect()
    }

    fn apply(&mut self, changes: &[Changed]) {
        for change in changes {
            match &change.after {
                Some(entry) => self.put(entry.clone()),
                None => self.remove(&change.key),
            }
        }
    }
}

/// The applied writes by versionstamp.
struct Order<'a> {
    commits: Vec<Commit<'a>>,
    recovered: usize,
    vanished: usize,
    /// `latest_start[i]`: latest beginning among the first `i + 1` commits.
    latest_start: Vec<Tick>,
    /// `earliest_end[i]`: earliest end among the commits from `i` on.
    earliest_end: Vec<Tick>,
}

struct Commit<'a> {
    stamp: Versionstamp,
    operation: &'a Operation,
    write: &'a AtomicWrite,
}

impl<'a> Order<'a> {
    fn of(history: &'a History) -> Result<Order<'a>, Violation> {
        let mut by_stamp = BTreeMap::<Versionstamp, Commit<'a>>::new();
        let mut lost = Vec::new();
        for operation in &history.operations {
            let Action::Commit(write, answer) = &operation.action else {
                continue;
            };
            match answer {
                Answer::Committed(committed) => {
                    let stamp = committed.versionstamp;
                    let commit = Commit {
                        stamp,
                        operation,
                        write,
                    };
                    let other = by_stamp.insert(stamp, commit);
                    if other.is_some() || stamp == Versionstamp::ZERO {
                        let other = other.map(|other| other.operation.to_string());
                        return Err(Violation::ReusedVersionstamp(format!(
                            "{stamp} of {operation}, and of {other:?}"
                        )));
                    }
                }
                Answer::Unknown => lost.push((operation, write)),
                Answer::Conflict(_) | Answer::Refused(_) | Answer::Rejected => {}
            }
        }
        let acknowledged = by_stamp.len();
        attribute(history, &lost, &mut by_stamp)?;
        let recovered = by_stamp.len() - acknowledged;

        let commits: Vec<Commit<'a>> = by_stamp.into_values().collect();
        let mut latest_start = Vec::with_capacity(commits.len());
        for commit in &commits {
            let before = latest_start.last().copied().unwrap_or(Tick(0));
            latest_start.push(before.max(commit.operation.invoked));
        }
        let mut earliest_end = vec![Tick::NEVER; commits.len()];
        for (index, commit) in commits.iter().enumerate().rev() {
            let after = earliest_end.get(index + 1).copied().unwrap_or(Tick::NEVER);
            earliest_end[index] = after.min(commit.operation.returned);
        }
        Ok(Order {
            vanished: lost.len() - recovered,
            recovered,
            commits,
            latest_start,
            earliest_end,
        })
    }

    fn respects_real_time(&self) -> Result<(), Violation> {
        for (index, commit) in self.commits.iter().enumerate() {
            if self.latest_start[index] > commit.operation.returned {
                let began = self.latest_start[index];
                let smaller = self.commits[..index]
                    .iter()
                    .find(|earlier| earlier.operation.invoked == began);
                let smaller =
                    smaller.map_or_else(String::new, |c| format!("{} ({})", c.operation, c.stamp));
                return Err(Violation::OutOfRealTimeOrder(format!(
                    "{} ({}) had ended before {smaller} began",
                    commit.operation, commit.stamp
                )));
            }
        }
        Ok(())
    }

    /// First and last state, as the number of commits in it, that can have been current between
    /// these two moments.
    fn window(&self, invoked: Tick, returned: Tick) -> (usize, usize) {
        // The last commit that had ended before makes the first state.
        let first = self.earliest_end.partition_point(|&end| end < invoked);
        let last = self
            .latest_start
            .partition_point(|&start| start <= returned);
        (first, last)
    }
}

/// Finds the writes with a lost answer that were applied, by entries only they can have made.
fn attribute<'a>(
    history: &History,
    lost: &[(&'a Operation, &'a AtomicWrite)],
    by_stamp: &mut BTreeMap<Versionstamp, Commit<'a>>,
) -> Result<(), Violation> {
    let mut makers = HashMap::<(&Key, &[u8]), usize>::new();
    for (index, (_, write)) in lost.iter().enumerate() {
        for mutation in &write.mutations {
            if let Mutation::Set { key, value, .. } = mutation {
                makers.insert((key, &value.bytes), index);
            }
        }
    }
    let mut unexplained = BTreeMap::<Versionstamp, Vec<&Entry>>::new();
    for entry in history.seen() {
        let is_base = history.base.stored(&entry.key) == Some(entry);
        if !by_stamp.contains_key(&entry.versionstamp) && !is_base {
            let entries = unexplained.entry(entry.versionstamp).or_default();
            entries.push(entry);
        }
    }
    let mut applied = HashMap::<usize, Versionstamp>::new();
    for (stamp, entries) in unexplained {
        let maker = entries.iter().find_map(|entry| {
            let by_value = makers.get(&(&entry.key, &entry.value.bytes[..])).copied();
            by_value.or_else(|| versionstamped_maker(lost, entry))
        });
        let Some(maker) = maker else {
            return Err(Violation::FromNowhere(format!("{:?}", entries[0])));
        };
        let (operation, write) = lost[maker];
        if let Some(other) = applied.insert(maker, stamp) {
            return Err(Violation::AppliedTwice(format!(
                "{operation}, as {other} and as {stamp}"
            )));
        }
        by_stamp.insert(
            stamp,
            Commit {
                stamp,
                operation,
                write,
            },
        );
    }
    Ok(())
}

/// The lost write that made an entry under a versionstamped key.
fn versionstamped_maker(lost: &[(&Operation, &AtomicWrite)], entry: &Entry) -> Option<usize> {
    let made = |mutation: &Mutation, made: &Value| match mutation {
        Mutation::SetVersionstamped {
            prefix,
            suffix,
            value,
            ..
        } => {
            let key = prefix
                .with_string(&entry.versionstamp.to_string())
                .with_suffix(suffix.as_bytes());
            key == entry.key && value == made
        }
        _ => false,
    };
    lost.iter()
        .position(|(_, write)| write.mutations.iter().any(|m| made(m, &entry.value)))
}

fn check_watch(watch: &WatchLog, order: &Order<'_>, replay: &Replay) -> Result<(), Violation> {
    // Each state of the watched keys, with the number of commits from which on it held. The
    // changes before the window decide the first one.
    let (first, _) = order.window(watch.opened, watch.opened);
    let mut states = vec![(0, base_states(&watch.keys, replay))];
    for (index, changes) in replay.changes.iter().enumerate() {
        let mut state = states.last().expect("never empty").1.clone();
        let mut is_touched = false;
        for change in changes {
            for place in places(&watch.keys, &change.key) {
                state[place] = change.after.clone();
                is_touched = true;
            }
        }
        if is_touched {
            states.push((index + 1, state));
        }
    }
    let begin = states.partition_point(|(from, _)| *from <= first) - 1;

    let mut at = begin;
    let mut before = watch.opened_at;
    for (tick, now, item) in &watch.items {
        let (_, last) = order.window(*tick, *tick);
        let fitting = (at..states.len()).find(|&index| {
            let (from, state) = &states[index];
            *from <= last && shows(item, state, before, *now)
        });
        match fitting {
            Some(index) => at = index,
            None => {
                return Err(Violation::WatchOutOfOrder(format!(
                    "{item:?} at {} of {:?}",
                    tick.0, watch.keys
                )));
            }
        }
        before = *now;
    }
    if watch.settled {
        let (_, last) = states.last().expect("never empty");
        let is_shown = watch
            .items
            .last()
            .is_some_and(|(_, now, item)| shows(item, last, *now, *now));
        if !is_shown {
            return Err(Violation::WatchMissedLast(format!(
                "{:?} is the last state of {:?}, but the watch ended with {:?}",
                last,
                watch.keys,
                watch.items.last()
            )));
        }
    }
    Ok(())
}

/// The states of keys before the first commit.
fn base_states(keys: &[Key], replay: &Replay) -> Vec<Option<Entry>> {
    let first_change = |key: &Key| {
        let mut changes = replay.changes.iter().flatten();
        changes.find(|change| change.key == *key)
    };
    keys.iter()
        .map(|key| match first_change(key) {
            Some(change) => change.before.clone(),
            None => replay.last.stored(key).cloned(),
        })
        .collect()
}

fn places<'k>(keys: &'k [Key], key: &'k Key) -> impl Iterator<Item = usize> + 'k {
    let same = move |(place, watched): (usize, &Key)| (watched == key).then_some(place);
    keys.iter().enumerate().filter_map(same)
}

/// Whether an item shows a state. What expired between the two times may show or not.
fn shows(
    item: &[Option<Entry>],
    state: &[Option<Entry>],
    from: UnixMillis,
    until: UnixMillis,
) -> bool {
    item.len() == state.len()
        && item.iter().zip(state).all(|(seen, is)| match (seen, is) {
            (Some(seen), Some(is)) => seen == is && !is.is_expired(from.min(until)),
            (None, Some(is)) => is.is_expired(from.max(until)),
            (None, None) => true,
            (Some(_), None) => false,
        })
}

fn check_follow(follow: &FollowLog, order: &Order<'_>, replay: &Replay) -> Result<(), Violation> {
    let wrong = |what: &str, item: &kvasir_kv::Changes| {
        Violation::FollowOutOfOrder(format!("{what}: {item:?} of {:?}", follow.range))
    };
    // What happened between the call and the end of the first poll may be told or not.
    let (first, _) = order.window(follow.opened, follow.opened);
    let (_, due) = order.window(follow.polled, follow.polled);
    let mut told = None::<usize>;
    for (tick, changes) in &follow.items {
        let upto = order
            .commits
            .partition_point(|commit| commit.stamp <= changes.versionstamp);
        let (_, last) = order.window(*tick, *tick);
        if upto > last {
            return Err(wrong("told before it happened", changes));
        }
        if told.is_some_and(|told| upto < told) {
            return Err(wrong("went back", changes));
        }
        if !changes.missed {
            let begins = told.map_or(first..=due.min(upto), |told| told..=told);
            let mut verdict = Err(wrong("told twice", changes));
            for from in begins {
                verdict = check_told(follow, changes, &replay.changes[from..upto]);
                if verdict.is_ok() {
                    break;
                }
            }
            verdict?;
        }
        told = Some(upto);
    }
    if follow.settled {
        let rest = &replay.changes[told.unwrap_or(due)..];
        if let Some(missed) = rest.iter().flatten().find(|change| is_due(follow, change)) {
            return Err(Violation::FollowMissed(format!("{:?}", missed.key)));
        }
    }
    Ok(())
}

/// Whether a change has to be told: it lies in the range and made a difference.
fn is_due(follow: &FollowLog, change: &Changed) -> bool {
    follow.range.contains(&change.key) && (change.was_live || change.after.is_some())
}

/// Whether an item tells exactly of these commits, in their order. Several changes of one key may
/// be told as one, and a change that made no difference need not be told.
fn check_told(
    follow: &FollowLog,
    told: &kvasir_kv::Changes,
    happened: &[Vec<Changed>],
) -> Result<(), Violation> {
    struct Last {
        commit: usize,
        is_there: bool,
        is_due: bool,
    }
    let mut expected = BTreeMap::<&Key, Last>::new();
    for (commit, changes) in happened.iter().enumerate() {
        for change in changes
            .iter()
            .filter(|change| follow.range.contains(&change.key))
        {
            let was_due = expected.get(&change.key).is_some_and(|last| last.is_due);
            let last = Last {
                commit,
                is_there: change.after.is_some(),
                is_due: was_due || is_due(follow, change),
            };
            expected.insert(&change.key, last);
        }
    }
    let wrong = |key: &Key| Violation::FollowOutOfOrder(format!("{key:?} in {told:?}"));

    // The last word on each key counts, and the last words come in commit order.
    let mut last_words = HashMap::<&Key, usize>::new();
    for (place, (key, _)) in told.keys.iter().enumerate() {
        last_words.insert(key, place);
    }
    let mut newest = 0;
    for (place, (key, is_there)) in told.keys.iter().enumerate() {
        let last = expected.get(key).ok_or_else(|| wrong(key))?;
        if last_words[key] == place {
            if *is_there != last.is_there || last.commit < newest {
                return Err(wrong(key));
            }
            newest = last.commit;
        }
    }
    for (key, last) in &expected {
        if last.is_due && !last_words.contains_key(key) {
            return Err(Violation::FollowMissed(format!("{key:?} in {told:?}")));
        }
    }
    Ok(())
}

//! What one batch of writes does: pure, so that it can be run again and tested without a database.

use std::collections::{BTreeSet, HashMap};

use kvasir_kv::{
    AtomicWrite, Change, Committed, Entry, Key, Mutation, Outcome, Plan, Result, UnixMillis,
    Versionstamp, plan,
};

use super::log;
use super::rows;
use super::session::Row;

/// Something to write.
#[derive(Debug)]
pub(super) enum Job {
    Commit(AtomicWrite),
    Ingest(Vec<Entry>),
    /// Removes entries that still have these versionstamps.
    Sweep(Vec<(Key, Versionstamp)>),
}

/// What became of a [`Job`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Outcome(Outcome),
    Ingested,
    Swept(u32),
}

impl Job {
    /// Bytes of keys and values, for the bounds of queue and batch.
    pub(super) fn cost_bytes(&self) -> usize {
        match self {
            Job::Commit(write) => write.cost_bytes(),
            Job::Ingest(entries) => entries.iter().map(Entry::cost_bytes).sum(),
            Job::Sweep(keys) => keys.iter().map(|(key, _)| key.len()).sum(),
        }
    }
}

/// The keys whose present state a batch depends on.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Needed with their values.
    pub(super) records: Vec<Key>,
    /// Needed with versionstamp and expiry only.
    pub(super) stamps: Vec<Key>,
}

/// The keys that `jobs` need, each once.
pub(super) fn needs(jobs: &[Job]) -> Needs {
    let mut records = BTreeSet::new();
    let mut stamps = BTreeSet::new();
    for job in jobs {
        match job {
            Job::Commit(write) => {
                for mutation in &write.mutations {
                    if uses_value(mutation) {
                        records.insert(mutation.key());
                    }
                }
                stamps.extend(write.needs());
            }
            Job::Ingest(_) => {}
            Job::Sweep(keys) => stamps.extend(keys.iter().map(|(key, _)| key)),
        }
    }
    Needs {
        stamps: stamps
            .difference(&records)
            .map(|&key| key.clone())
            .collect(),
        records: records.into_iter().cloned().collect(),
    }
}

fn uses_value(mutation: &Mutation) -> bool {
    match mutation {
        Mutation::Set { keep_created, .. } => *keep_created,
        Mutation::Sum { .. } | Mutation::Min { .. } | Mutation::Max { .. } => true,
        Mutation::SetVersionstamped { .. } | Mutation::Delete { .. } => false,
    }
}

/// The least reading of the sequence that a batch may have: now, and above all it takes in.
pub(super) fn least_sequence(jobs: &[Job], now_micros: u64) -> u64 {
    let ingested = jobs.iter().filter_map(|job| match job {
        Job::Ingest(entries) => entries
            .iter()
            .map(|entry| entry.versionstamp.micros() + 1)
            .max(),
        Job::Commit(_) | Job::Sweep(_) => None,
    });
    ingested.max().unwrap_or(0).max(now_micros)
}

/// Everything that a batch does at one sequence.
#[derive(Debug)]
pub(super) struct Effect {
    /// Where the batch stands in history.
    pub(super) sequence: u64,
    /// One per job.
    pub(super) answers: Vec<Result<Answer>>,
    /// Rows to write.
    pub(super) upserts: Vec<Row>,
    /// Keys to remove.
    pub(super) removes: Vec<Key>,
    /// The newest versionstamp given out or taken in.
    pub(super) newest: Versionstamp,
    /// One byte per job, for the log: 0 applied, 1 conflict, 2 refused.
    pub(super) outcomes: Vec<u8>,
    /// The changed keys, for the log.
    pub(super) keys: Vec<u8>,
    /// The nearest expiry among the written entries.
    pub(super) expires_at: Option<UnixMillis>,
}

impl Effect {
    /// Whether no job was applied, so that there is nothing to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.outcomes.iter().all(|outcome| *outcome != 0)
    }
}

const APPLIED: u8 = 0;
const CONFLICT: u8 = 1;
const REFUSED: u8 = 2;

/// Works out a batch, job by job, each seeing what the earlier ones did.
///
/// `loaded` holds the stored entries of [`needs`], `newest` the newest versionstamp before.
pub(super) fn evaluate(
    jobs: &[Job],
    loaded: HashMap<Key, Entry>,
    sequence: u64,
    newest: Versionstamp,
    now: UnixMillis,
) -> Effect {
    let mut draft = Draft {
        state: loaded
            .into_iter()
            .map(|(key, entry)| (key, Some(entry)))
            .collect(),
        places: HashMap::new(),
        order: Vec::new(),
        newest,
    };
    let mut answers = Vec::with_capacity(jobs.len());
    let mut outcomes = Vec::with_capacity(jobs.len());
    for (place, job) in (0..).zip(jobs) {
        let stamp = Versionstamp::new(sequence, place);
        let (answer, outcome) = draft.run(job, stamp, now);
        answers.push(answer);
        outcomes.push(outcome);
    }
    draft.into_effect(sequence, answers, outcomes)
}

struct Draft {
    state: HashMap<Key, Option<Entry>>,
    /// Where each changed key stands in `order`.
    places: HashMap<Key, usize>,
    /// Changed keys by their last change; `None` where a later change of the same key took over.
    order: Vec<Option<Key>>,
    newest: Versionstamp,
}

impl Draft {
    fn run(&mut self, job: &Job, stamp: Versionstamp, now: UnixMillis) -> (Result<Answer>, u8) {
        match job {
            Job::Commit(write) => {
                let current = |key: &Key| self.state.get(key).cloned().flatten();
                match plan(write, current, stamp, now) {
                    Err(error) => (Err(error), REFUSED),
                    Ok(Plan::Conflict { failed }) => {
                        (Ok(Answer::Outcome(Outcome::Conflict { failed })), CONFLICT)
                    }
                    Ok(Plan::Commit { changes, existed }) => {
                        changes.into_iter().for_each(|change| self.put(change));
                        self.newest = self.newest.max(stamp);
                        let committed = Committed {
                            versionstamp: stamp,
                            existed,
                        };
                        (Ok(Answer::Outcome(Outcome::Committed(committed))), APPLIED)
                    }
                }
            }
            Job::Ingest(entries) => {
                for entry in entries {
                    self.newest = self.newest.max(entry.versionstamp);
                    self.put(crate::collect::ingested(entry.clone()));
                }
                (Ok(Answer::Ingested), APPLIED)
            }
            Job::Sweep(due) => {
                let mut removed = 0;
                for (key, seen) in due {
                    let current = self.state.get(key).and_then(Option::as_ref);
                    if current.is_some_and(|entry| entry.versionstamp == *seen) {
                        removed += 1;
                        self.put(Change {
                            key: key.clone(),
                            after: None,
                        });
                    }
                }
                if removed == 0 {
                    return (Ok(Answer::Swept(0)), CONFLICT);
                }
                self.newest = self.newest.max(stamp);
                (Ok(Answer::Swept(removed)), APPLIED)
            }
        }
    }

    fn put(&mut self, change: Change) {
        let place = self.order.len();
        self.order.push(Some(change.key.clone()));
        if let Some(earlier) = self.places.insert(change.key.clone(), place) {
            self.order[earlier] = None;
        }
        self.state.insert(change.key, change.after);
    }

    fn into_effect(self, sequence: u64, answers: Vec<Result<Answer>>, outcomes: Vec<u8>) -> Effect {
        let mut upserts = Vec::new();
        let mut removes = Vec::new();
        let mut expires_at: Option<UnixMillis> = None;
        for key in self.order.iter().flatten() {
            match self.state.get(key).and_then(Option::as_ref) {
                Some(entry) => {
                    let at = entry.expires_at;
                    expires_at = expires_at.into_iter().chain(at).min();
                    upserts.push(rows::to_row(entry));
                }
                None => removes.push(key.clone()),
            }
        }
        let present = |key: &Key| self.state.get(key).is_some_and(Option::is_some);
        Effect {
            sequence,
            keys: log::encode(self.order.iter().flatten().map(|key| (key, present(key)))),
            answers,
            upserts,
            removes,
            newest: self.newest,
            outcomes,
            expires_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use kvasir_kv::Value;

    use super::super::log::Changed;
    use super::*;

    fn key(name: &str) -> Key {
        Key::from_strings([name])
    }

    fn set(name: &str) -> AtomicWrite {
        AtomicWrite::new().push(Mutation::set(key(name), Value::json("1")))
    }

    fn stored(name: &str, stamp: Versionstamp) -> (Key, Entry) {
        let entry = Entry {
            key: key(name),
            value: Value::u64(1),
            versionstamp: stamp,
            expires_at: None,
            meta: None,
        };
        (key(name), entry)
    }

    #[test]
    fn later_writes_of_a_batch_see_earlier_ones_and_a_failed_check_refuses_only_its_own() {
        let old = Versionstamp::new(5, 0);
        let jobs = [
            Job::Commit(set("a").check(key("a"), old)),
            Job::Commit(set("b").check(key("a"), old)),
            Job::Commit(set("c").check(key("a"), Versionstamp::new(9, 0))),
            Job::Sweep(vec![(key("a"), old)]),
        ];
        let loaded = HashMap::from([stored("a", old)]);
        let effect = evaluate(&jobs, loaded, 9, old, UnixMillis(0));

        assert_eq!(effect.outcomes, [APPLIED, CONFLICT, APPLIED, CONFLICT]);
        assert_eq!(effect.newest, Versionstamp::new(9, 2));
        let written: Vec<_> = effect
            .upserts
            .iter()
            .map(|row| (&row.key, row.stamp))
            .collect();
        let (a, c) = (key("a"), key("c"));
        assert_eq!(
            written,
            [(&a, Versionstamp::new(9, 0)), (&c, Versionstamp::new(9, 2))]
        );
        let changed = Changed::Keys(vec![(a.clone(), true), (c.clone(), true)]);
        assert_eq!(log::decode(&effect.keys), changed);
        assert!(!effect.is_empty());
    }

    #[test]
    fn a_batch_of_conflicts_has_nothing_to_commit() {
        let jobs = [Job::Commit(
            set("a").check(key("a"), Versionstamp::new(1, 1)),
        )];
        let effect = evaluate(&jobs, HashMap::new(), 9, Versionstamp::ZERO, UnixMillis(0));
        assert!(effect.is_empty());
    }

    #[test]
    fn values_are_loaded_only_where_a_mutation_uses_them() {
        let sum = Mutation::Sum {
            key: key("n"),
            operand: Value::u64(1),
            bounds: kvasir_kv::SumBounds::default(),
        };
        let write = set("x")
            .push(sum)
            .check_absent(key("n"))
            .check_absent(key("c"));
        let needs = needs(&[Job::Commit(write)]);
        assert_eq!(needs.records, [key("n")]);
        assert_eq!(needs.stamps, [key("c")]);
    }

    #[test]
    fn the_sequence_is_above_everything_taken_in() {
        let (_, entry) = stored("a", Versionstamp::new(700, 9));
        assert_eq!(least_sequence(&[Job::Ingest(vec![entry.clone()])], 5), 701);
        assert_eq!(least_sequence(&[Job::Ingest(vec![entry])], 900), 900);
    }
}

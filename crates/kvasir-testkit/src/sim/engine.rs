//! The engine: a log, checkpoints, group commit, and one fault at a time.

use kvasir_kv::{
    AtomicWrite, Change, Committed, Entry, HybridClock, Key, Outcome, Plan, Snapshot, SnapshotRead,
    UnixMillis, Versionstamp, plan,
};
use rand::Rng;
use rand::rngs::StdRng;

use super::disk::{Disk, DiskError};
use crate::crash::line::Line;
use crate::history::Answer;
use crate::model::Model;

const LOG: &str = "log";
const CHECKPOINT: &str = "checkpoint";
const CHECKPOINT_NEW: &str = "checkpoint.new";
const LENGTH: &str = "length";

/// Groups between two checkpoints.
const GROUPS_PER_CHECKPOINT: u32 = 5;

/// One way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Answers go out when the group is written, before its sync.
    EarlyAnswer,
    /// The log is never synced.
    MissingSync,
    /// Every third sync is left out.
    RareMissingSync,
    /// The checkpoint is synced in place of the log.
    SyncOfAnotherFile,
    /// A failed sync is taken for a good one.
    IgnoredSyncError,
    /// A failed sync is tried again, and then succeeds without having written anything.
    RetriedSync,
    /// Reads show a group before it is synced.
    DirtyRead,
    /// Two commits of a group are applied in the wrong order.
    SwappedOrder,
    /// Two commits of a group get each other's answer.
    SwappedAnswers,
    /// Recovery leaves out the last whole record of the log.
    CutLog,
    /// Recovery takes a torn record for a whole one.
    TornRecordAccepted,
    /// New records are written behind a torn one, where recovery does not find them.
    AppendedBehindTornRecord,
    /// Recovery believes a length that was noted before the last records.
    StaleLength,
    /// The new name of a checkpoint is not made durable before the log is cut.
    LostRename,
    /// The log is cut before the checkpoint is synced.
    LogCutTooEarly,
    /// A checkpoint leaves an entry out.
    CheckpointWithoutLastEntry,
    /// Recovery takes the checkpoint and forgets the log.
    LogIgnored,
    /// Only the first half of a write is logged.
    HalfWrite,
    /// Deletions are not logged.
    LostDelete,
    /// Recovery applies the last record once more, as new commits.
    ReplayedTwice,
    /// Versionstamps begin at the clock again after a restart.
    ForgottenStamp,
    /// Versionstamps are the clock's reading, though it may have stepped back.
    StampOfTheClock,
    /// All commits of a group share one versionstamp.
    StampOfTheGroup,
    /// Checks are judged before the group, so two writes commit on one version.
    StaleCheck,
    /// A write with a failed check is answered so but applied.
    ConflictApplied,
    /// A write with a failed check is answered as committed.
    ConflictUnnoticed,
    /// Some keys are read from the state before the last group.
    StaleCache,
    /// The ranges of one read come from two states.
    TornSnapshot,
    /// That a key existed is reported the wrong way round.
    WrongExistence,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 29] = [
        Fault::EarlyAnswer,
        Fault::MissingSync,
        Fault::RareMissingSync,
        Fault::SyncOfAnotherFile,
        Fault::IgnoredSyncError,
        Fault::RetriedSync,
        Fault::DirtyRead,
        Fault::SwappedOrder,
        Fault::SwappedAnswers,
        Fault::CutLog,
        Fault::TornRecordAccepted,
        Fault::AppendedBehindTornRecord,
        Fault::StaleLength,
        Fault::LostRename,
        Fault::LogCutTooEarly,
        Fault::CheckpointWithoutLastEntry,
        Fault::LogIgnored,
        Fault::HalfWrite,
        Fault::LostDelete,
        Fault::ReplayedTwice,
        Fault::ForgottenStamp,
        Fault::StampOfTheClock,
        Fault::StampOfTheGroup,
        Fault::StaleCheck,
        Fault::ConflictApplied,
        Fault::ConflictUnnoticed,
        Fault::StaleCache,
        Fault::TornSnapshot,
        Fault::WrongExistence,
    ];
}

/// A store on a [`Disk`] that is driven step by step.
#[derive(Debug)]
pub struct Engine {
    disk: Disk,
    fault: Option<Fault>,
    /// What reads see.
    state: Model,
    /// What reads saw before the last group.
    before: Model,
    clock: HybridClock,
    now_micros: u64,
    last: Versionstamp,
    next_ticket: u64,
    queue: Vec<(u64, AtomicWrite)>,
    group: Option<Group>,
    answers: Vec<(u64, Answer)>,
    groups: u32,
    is_dead: bool,
}

/// Commits that share one sync.
#[derive(Debug)]
struct Group {
    phase: Phase,
    answers: Vec<(u64, Answer)>,
    after: Model,
    last: Versionstamp,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Written,
    Synced,
}

impl Engine {
    /// Opens what is on the disk, or makes an empty store.
    ///
    /// # Panics
    ///
    /// If the checkpoint is damaged, which no power cut does to an engine without a fault.
    pub fn open(disk: Disk, fault: Option<Fault>, now_micros: u64) -> Engine {
        let mut engine = Engine {
            disk,
            fault,
            state: Model::new(),
            before: Model::new(),
            clock: HybridClock::default(),
            now_micros,
            last: Versionstamp::ZERO,
            next_ticket: 0,
            queue: Vec::new(),
            group: None,
            answers: Vec::new(),
            groups: 0,
            is_dead: false,
        };
        engine.recover();
        engine
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Takes a write; its answer comes by the ticket.
    pub fn submit(&mut self, write: AtomicWrite) -> u64 {
        self.next_ticket += 1;
        self.queue.push((self.next_ticket, write));
        self.next_ticket
    }

    /// Answers that are ready.
    pub fn take_answers(&mut self) -> Vec<(u64, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// A snapshot read.
    pub fn read(&mut self, read: &SnapshotRead) -> Snapshot {
        let state = match &self.group {
            Some(group) if self.has(Fault::DirtyRead) => &group.after,
            _ => &self.state,
        };
        let mut snapshot = state.read(read, UnixMillis(0));
        if self.has(Fault::TornSnapshot) || self.has(Fault::StaleCache) {
            let old = self.before.read(read, UnixMillis(0));
            let stale = old.ranges.into_iter().enumerate().filter(|(place, _)| {
                // The first range, or those of keys that fall into a stale part of the cache.
                match self.fault {
                    Some(Fault::TornSnapshot) => *place == 0 && read.ranges.len() > 1,
                    _ => {
                        read.ranges[*place]
                            .range
                            .start
                            .as_bytes()
                            .iter()
                            .map(|b| u32::from(*b))
                            .sum::<u32>()
                            % 4
                            == 0
                    }
                }
            });
            for (place, range) in stale {
                snapshot.ranges[place] = range;
            }
        }
        snapshot
    }

    /// Ends it and gives the disk after a power cut.
    pub fn cut_power(self, rng: &mut StdRng) -> Disk {
        self.disk.cut_power(rng)
    }

    /// Does the next phase of the group: write, sync, publish.
    ///
    /// # Errors
    ///
    /// After a failed sync the engine is dead, as it should be.
    pub fn advance(&mut self, rng: &mut StdRng) -> Result<(), DiskError> {
        if self.is_dead {
            return Err(DiskError);
        }
        match self.group.take() {
            None if self.queue.is_empty() => {}
            None => {
                let group = self.write();
                if self.has(Fault::EarlyAnswer) {
                    self.answers.extend(group.answers.iter().cloned());
                }
                self.group = Some(group);
            }
            Some(Group {
                phase: Phase::Written,
                answers,
                after,
                last,
            }) => {
                self.sync(rng)?;
                let phase = Phase::Synced;
                self.group = Some(Group {
                    phase,
                    answers,
                    after,
                    last,
                });
            }
            Some(Group {
                phase: Phase::Synced,
                answers,
                after,
                last,
            }) => {
                self.before = std::mem::replace(&mut self.state, after);
                self.last = last;
                if !self.has(Fault::EarlyAnswer) {
                    self.answers.extend(answers);
                }
                self.groups += 1;
                if self.groups.is_multiple_of(GROUPS_PER_CHECKPOINT) {
                    self.checkpoint();
                }
            }
        }
        Ok(())
    }

    /// Decides all waiting writes and appends them to the log.
    fn write(&mut self) -> Group {
        let micros = match self.fault {
            Some(Fault::StampOfTheClock) => {
                self.now_micros += 1;
                self.now_micros
            }
            _ => self.clock.next(self.now_micros),
        };
        let mut decided = Vec::new();
        let mut overlay = self.state.clone();
        let mut last = self.last;
        for (place, (ticket, write)) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            let order = if self.has(Fault::StampOfTheGroup) {
                0
            } else {
                place as u16
            };
            let stamp = Versionstamp::new(micros, order);
            let (answer, changes) = self.decide(&write, &overlay, stamp);
            for change in &changes {
                apply(&mut overlay, change);
            }
            if !changes.is_empty() {
                last = stamp;
            }
            decided.push((ticket, answer, changes));
        }
        if let ([.., a, b], Some(fault)) = (&mut decided[..], self.fault) {
            match fault {
                Fault::SwappedOrder => std::mem::swap(&mut a.2, &mut b.2),
                Fault::SwappedAnswers => std::mem::swap(&mut a.1, &mut b.1),
                _ => {}
            }
        }
        let mut after = self.state.clone();
        let mut record = String::new();
        for (_, _, changes) in &decided {
            for change in changes {
                apply(&mut after, change);
            }
            record.push_str(&self.record(changes));
        }
        self.disk.append(LOG, &framed(&record));
        let answers = decided
            .into_iter()
            .map(|(ticket, answer, _)| (ticket, answer));
        Group {
            phase: Phase::Written,
            answers: answers.collect(),
            after,
            last,
        }
    }

    fn decide(
        &self,
        write: &AtomicWrite,
        overlay: &Model,
        stamp: Versionstamp,
    ) -> (Answer, Vec<Change>) {
        let judged = if self.has(Fault::StaleCheck) {
            &self.state
        } else {
            overlay
        };
        let current = |key: &Key| judged.stored(key).cloned();
        let decided = |write: &AtomicWrite| match plan(write, current, stamp, UnixMillis(0)) {
            Ok(Plan::Commit { changes, existed }) => {
                let existed = match self.has(Fault::WrongExistence) {
                    true => existed.iter().map(|existed| !existed).collect(),
                    false => existed,
                };
                let committed = Committed {
                    versionstamp: stamp,
                    existed,
                };
                (Ok(Outcome::Committed(committed)), changes)
            }
            Ok(Plan::Conflict { failed }) => (Ok(Outcome::Conflict { failed }), Vec::new()),
            Err(error) => (Err(error), Vec::new()),
        };
        let (result, changes) = decided(write);
        let unchecked = || {
            let write = AtomicWrite {
                checks: Vec::new(),
                ..write.clone()
            };
            decided(&write)
        };
        let is_conflict = matches!(result, Ok(Outcome::Conflict { .. }));
        let (result, changes) = match self.fault {
            Some(Fault::ConflictApplied) if is_conflict => (result, unchecked().1),
            Some(Fault::ConflictUnnoticed) if is_conflict => unchecked(),
            _ => (result, changes),
        };
        (crate::history::answer(&result), changes)
    }

    /// One line per commit: what is there afterwards, and what is not.
    fn record(&self, changes: &[Change]) -> String {
        let logged = match self.fault {
            Some(Fault::HalfWrite) => &changes[..changes.len().div_ceil(2)],
            _ => changes,
        };
        let mut lines = String::new();
        let entries: Vec<Entry> = logged
            .iter()
            .filter_map(|change| change.after.clone())
            .collect();
        lines.push_str(&Line::Opened(entries).encode());
        lines.push('\n');
        let deleted = logged.iter().filter(|change| change.after.is_none());
        let deleted: Vec<Key> = deleted.map(|change| change.key.clone()).collect();
        if !deleted.is_empty() && !self.has(Fault::LostDelete) {
            lines.push_str(&Line::Read(0, 0, deleted).encode());
            lines.push('\n');
        }
        lines
    }

    fn sync(&mut self, rng: &mut StdRng) -> Result<(), DiskError> {
        let is_left_out = self.has(Fault::MissingSync)
            || self.has(Fault::RareMissingSync) && self.groups.is_multiple_of(3);
        if is_left_out {
            return Ok(());
        }
        if self.has(Fault::SyncOfAnotherFile) {
            self.disk.sync(CHECKPOINT);
            return Ok(());
        }
        if rng.random_bool(0.03) {
            let error = self.disk.fail_sync(LOG);
            match self.fault {
                Some(Fault::IgnoredSyncError) => {}
                // Nothing is left to be written, so it succeeds.
                Some(Fault::RetriedSync) => {}
                _ => {
                    self.is_dead = true;
                    return Err(error);
                }
            }
            return Ok(());
        }
        self.disk.sync(LOG);
        if self.has(Fault::StaleLength) && rng.random_bool(0.5) {
            let length = self.disk.len(LOG).to_string();
            self.disk.create(LENGTH);
            self.disk.append(LENGTH, length.as_bytes());
            self.disk.sync(LENGTH);
            self.disk.sync_folder();
        }
        Ok(())
    }

    /// Writes everything to a new file, gives it the old one's name, and empties the log.
    fn checkpoint(&mut self) {
        if self.has(Fault::LogCutTooEarly) {
            self.disk.truncate(LOG, 0);
            self.disk.sync(LOG);
        }
        let mut entries = self.state.all(UnixMillis(0));
        if self.has(Fault::CheckpointWithoutLastEntry) {
            entries.pop();
        }
        let text = format!("{}\n{}\n", Line::Opened(entries).encode(), self.last);
        self.disk.create(CHECKPOINT_NEW);
        self.disk.append(CHECKPOINT_NEW, &framed(&text));
        if !self.has(Fault::LogCutTooEarly) {
            self.disk.sync(CHECKPOINT_NEW);
        }
        self.disk.rename(CHECKPOINT_NEW, CHECKPOINT);
        if !self.has(Fault::LostRename) && !self.has(Fault::LogCutTooEarly) {
            self.disk.sync_folder();
        }
        // Its records are in the checkpoint, whether the cut lasts or not: replaying them again
        // changes nothing.
        self.disk.truncate(LOG, 0);
        self.disk.sync(LOG);
        if self.has(Fault::StaleLength) {
            self.disk.create(LENGTH);
            self.disk.sync_folder();
        }
    }

    fn recover(&mut self) {
        if let Some(checkpoint) = self.disk.read(CHECKPOINT) {
            if let Some((text, _)) = unframed(&checkpoint, true) {
                for line in text.lines() {
                    self.replay(line);
                }
            } else {
                assert!(self.fault.is_some(), "the checkpoint is damaged");
            }
        }
        let mut log = self.disk.read(LOG).unwrap_or_default();
        if self.has(Fault::StaleLength)
            && let Some(length) = self.disk.read(LENGTH)
            && let Ok(length) = String::from_utf8_lossy(&length).parse()
        {
            log.truncate(length);
        }
        let mut records = Vec::new();
        let mut at = 0;
        let is_checked = !self.has(Fault::TornRecordAccepted);
        while let Some((text, length)) = unframed(&log[at..], is_checked) {
            records.push(text);
            at += length;
        }
        match self.fault {
            Some(Fault::CutLog) => drop(records.pop()),
            Some(Fault::LogIgnored) => records.clear(),
            _ => {}
        }
        for record in &records {
            for line in record.lines() {
                self.replay(line);
            }
        }
        if self.disk.read(LOG).is_none() {
            self.disk.create(LOG);
            self.disk.sync_folder();
        }
        if !self.has(Fault::AppendedBehindTornRecord) {
            self.disk.truncate(LOG, at);
        }
        self.disk.sync(LOG);
        if !self.has(Fault::ForgottenStamp) {
            self.clock = HybridClock::after(self.last);
        }
        if let (Some(Fault::ReplayedTwice), Some(record)) = (self.fault, records.last()) {
            let micros = self.clock.next(self.now_micros);
            for (place, line) in record.lines().enumerate() {
                let Some(Line::Opened(entries)) = Line::decode(line) else {
                    continue;
                };
                for mut entry in entries {
                    entry.versionstamp = Versionstamp::new(micros, place as u16);
                    self.state.put(entry);
                }
            }
        }
        self.before = self.state.clone();
    }

    fn replay(&mut self, line: &str) {
        match Line::decode(line) {
            Some(Line::Opened(entries)) => {
                for entry in entries {
                    self.last = self.last.max(entry.versionstamp);
                    self.state.put(entry);
                }
            }
            Some(Line::Read(_, _, deleted)) => {
                for key in deleted {
                    self.state.remove(&key);
                }
            }
            // The newest versionstamp, in a checkpoint.
            _ => self.last = self.last.max(line.parse().unwrap_or_default()),
        }
    }
}

fn apply(state: &mut Model, change: &Change) {
    match &change.after {
        Some(entry) => state.put(entry.clone()),
        None => state.remove(&change.key),
    }
}

/// Length, checksum, text.
fn framed(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(&checksum(text.as_bytes()).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    out
}

/// The first record and its length in bytes. Unchecked, whatever is there is taken.
fn unframed(bytes: &[u8], is_checked: bool) -> Option<(String, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 {
        return None;
    }
    let text = match rest.get(..length) {
        Some(text) => text,
        None if is_checked => return None,
        None => rest,
    };
    if is_checked && checksum(text) != u32::from_be_bytes(*sum) {
        return None;
    }
    Some((String::from_utf8_lossy(text).into_owned(), 8 + text.len()))
}

/// FNV-1a: enough against tearing, and short.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, step)
}

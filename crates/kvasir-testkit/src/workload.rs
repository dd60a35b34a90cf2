//! Random clients for concurrent histories and crash tests.
//!
//! Every write leaves a mark under a key of its own, so that the checker can tell whether a write
//! with a lost answer happened (see [`crate::history`]). Around the mark, clients fight over a few
//! hot keys: counters, registers that are written on a check, and pairs that are always equal.
//! All values are JSON, so the same clients can speak through a dialect.

use std::collections::HashMap;

use kvasir_kv::{
    AtomicWrite, Entry, Key, KeyRange, Mutation, RangeRead, SnapshotRead, SumBounds, Value,
    Versionstamp,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How many keys of each kind clients fight over.
const HOT_KEYS: u32 = 6;

/// One client: what it does next depends on its seed and on what it has seen.
#[derive(Debug)]
pub struct Client {
    number: u32,
    rng: StdRng,
    written: u32,
    /// The versions that it has seen last.
    seen: HashMap<Key, Option<Versionstamp>>,
}

impl Client {
    /// A client; equal seeds and numbers do the same.
    pub fn new(seed: u64, number: u32) -> Client {
        Client {
            number,
            rng: StdRng::seed_from_u64(seed ^ (u64::from(number) << 40)),
            written: 0,
            seen: HashMap::new(),
        }
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether to write next, or to read.
    pub fn writes_next(&mut self) -> bool {
        self.rng.random_bool(0.6)
    }

    /// A number from 0 to `below`, for choices of the caller.
    pub fn choose(&mut self, below: u32) -> u32 {
        self.rng.random_range(0..below)
    }

    /// The next write.
    pub fn write(&mut self) -> AtomicWrite {
        self.written += 1;
        let mark = format!("\"{}-{}\"", self.number, self.written);
        let mark_key = log_key(self.number, self.written);
        let mut write = AtomicWrite::new().push(Mutation::set(mark_key, Value::json(mark.clone())));
        for _ in 0..self.rng.random_range(1..=3) {
            write = match self.rng.random_range(0..10) {
                0..=2 => write.push(self.count()),
                3..=5 => self.checked(write, &mark),
                6..=7 => {
                    let pair = self.rng.random_range(0..HOT_KEYS);
                    let [left, right] = pair_keys(pair);
                    write
                        .push(Mutation::set(left, Value::json(mark.clone())))
                        .push(Mutation::set(right, Value::json(mark.clone())))
                }
                8 => {
                    let key = self.hot("register");
                    write.push(Mutation::delete(key))
                }
                _ => {
                    let key = self.hot("register");
                    write.push(Mutation::set(key, Value::json(mark.clone())))
                }
            };
        }
        // One commit, whatever it holds, wants its mutations in one order everywhere.
        write.report_existed = self.rng.random_bool(0.2);
        write
    }

    /// Adds to a counter, or bounds it.
    fn count(&mut self) -> Mutation {
        let key = self.hot("counter");
        let operand = Value::json(self.rng.random_range(1..100).to_string());
        match self.rng.random_range(0..8) {
            0 => Mutation::Min { key, operand },
            1 => Mutation::Max { key, operand },
            _ => Mutation::Sum {
                key,
                operand,
                bounds: SumBounds::default(),
            },
        }
    }

    /// Writes a register if it still has the version seen last.
    fn checked(&mut self, write: AtomicWrite, mark: &str) -> AtomicWrite {
        let key = self.hot("register");
        let write = match self.seen.get(&key).copied().flatten() {
            Some(stamp) => write.check(key.clone(), stamp),
            None => write.check_absent(key.clone()),
        };
        write.push(Mutation::set(key, Value::json(mark.to_owned())))
    }

    /// The next read: some keys, or ranges of hot keys, or this client's own marks.
    pub fn read(&mut self) -> SnapshotRead {
        match self.rng.random_range(0..5) {
            0 => SnapshotRead::keys((0..HOT_KEYS).map(|n| hot_key("register", n))),
            1 => {
                let pair = self.rng.random_range(0..HOT_KEYS);
                SnapshotRead::keys(pair_keys(pair))
            }
            2 => {
                let below = |kind: &str| KeyRange::below(&Key::from_strings([kind]));
                SnapshotRead {
                    ranges: vec![
                        RangeRead::new(below("counter"), 100),
                        RangeRead::new(below("left"), 100),
                        RangeRead::new(below("right"), 100).reversed(),
                    ],
                }
            }
            3 => {
                let own = Key::from_strings(["log", &self.number.to_string()]);
                SnapshotRead::range(RangeRead::new(KeyRange::below(&own), 5).reversed())
            }
            _ => SnapshotRead::keys([self.hot("counter"), self.hot("register")]),
        }
    }

    /// Takes note of what a read returned.
    pub fn saw<'a>(&mut self, entries: impl IntoIterator<Item = &'a Entry>) {
        for entry in entries {
            self.seen
                .insert(entry.key.clone(), Some(entry.versionstamp));
        }
    }

    /// Takes note of a commit of its own.
    pub fn committed(&mut self, write: &AtomicWrite, stamp: Versionstamp) {
        for mutation in &write.mutations {
            let stamp = match mutation {
                Mutation::Delete { .. } => None,
                _ => Some(stamp),
            };
            self.seen.insert(mutation.key().clone(), stamp);
        }
    }

    /// Forgets versions that a conflict has shown to be old, so that the next check may hold.
    pub fn conflicted(&mut self, write: &AtomicWrite) {
        for check in &write.checks {
            self.seen.remove(&check.key);
        }
    }

    fn hot(&mut self, kind: &str) -> Key {
        let number = self.rng.random_range(0..HOT_KEYS);
        hot_key(kind, number)
    }
}

/// Sets of keys worth watching.
pub fn watched_keys() -> Vec<Vec<Key>> {
    vec![
        pair_keys(0).into(),
        vec![hot_key("counter", 0)],
        (0..HOT_KEYS).map(|n| hot_key("register", n)).collect(),
        vec![
            hot_key("counter", 1),
            hot_key("register", 1),
            pair_keys(1)[1].clone(),
        ],
    ]
}

/// Ranges worth following.
pub fn followed_ranges() -> Vec<KeyRange> {
    vec![
        KeyRange::starting_with(&Key::default()),
        KeyRange::below(&Key::from_strings(["counter"])),
    ]
}

fn hot_key(kind: &str, number: u32) -> Key {
    Key::from_strings([kind, &number.to_string()])
}

fn pair_keys(number: u32) -> [Key; 2] {
    ["left", "right"].map(|side| hot_key(side, number))
}

fn log_key(client: u32, number: u32) -> Key {
    Key::from_strings(["log", &client.to_string(), &format!("{number:08}")])
}

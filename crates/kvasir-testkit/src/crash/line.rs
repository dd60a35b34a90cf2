//! What the process that is to be killed tells the one that kills it, line by line.
//!
//! A line is written in one piece before a call begins and after it has ended, so the order of
//! lines is real time, and a call whose second line is missing has a lost answer.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use kvasir_kv::{AtomicWrite, Committed, Entry, Key, Mutation, SumBounds, Value, Versionstamp};

use crate::history::Answer;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The store is open; this is all that it holds.
    Opened(Vec<Entry>),
    /// A client begins its n-th operation, a commit.
    Commit(u32, u32, AtomicWrite),
    /// The commit has answered.
    Answer(u32, u32, Answer),
    /// A client begins its n-th operation, a read of keys.
    Read(u32, u32, Vec<Key>),
    /// The read has found this.
    Found(u32, u32, Vec<Entry>),
}

impl Line {
    /// The line without its end. Writes have only JSON values and no expiries.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        match self {
            Line::Opened(entries) => {
                out.push_str("opened");
                push_entries(&mut out, entries);
            }
            Line::Commit(client, number, write) => {
                out = format!("commit {client} {number}");
                push_write(&mut out, write);
            }
            Line::Answer(client, number, answer) => {
                out = format!("answer {client} {number} ");
                out.push_str(&answer_words(answer));
            }
            Line::Read(client, number, keys) => {
                out = format!("read {client} {number}");
                for key in keys {
                    write!(out, " {}", hex(key.as_bytes())).expect("strings take everything");
                }
            }
            Line::Found(client, number, entries) => {
                out = format!("found {client} {number}");
                push_entries(&mut out, entries);
            }
        }
        out
    }

    /// Reads a whole line; `None` if it is none of ours.
    pub fn decode(line: &str) -> Option<Line> {
        let mut words = line.split(' ');
        let verb = words.next()?;
        if verb == "opened" {
            return Some(Line::Opened(entries(words)?));
        }
        let client = words.next()?.parse().ok()?;
        let number = words.next()?.parse().ok()?;
        match verb {
            "commit" => Some(Line::Commit(client, number, write(words)?)),
            "answer" => Some(Line::Answer(client, number, answer(words)?)),
            "read" => {
                let keys = words.map(key).collect::<Option<_>>()?;
                Some(Line::Read(client, number, keys))
            }
            "found" => Some(Line::Found(client, number, entries(words)?)),
            _ => None,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn key(word: &str) -> Option<Key> {
    Some(Key::new(HEXLOWER.decode(word.as_bytes()).ok()?))
}

fn value(word: &str) -> Option<Value> {
    Some(Value::json(HEXLOWER.decode(word.as_bytes()).ok()?))
}

fn push_entries(out: &mut String, entries: &[Entry]) {
    for entry in entries {
        let (key, value) = (hex(entry.key.as_bytes()), hex(&entry.value.bytes));
        write!(out, " {key}={value}@{}", entry.versionstamp).expect("strings take everything");
    }
}

fn entries<'a>(words: impl Iterator<Item = &'a str>) -> Option<Vec<Entry>> {
    let entry = |word: &str| {
        let (key, rest) = word.split_once('=')?;
        let (value, stamp) = rest.split_once('@')?;
        Some(Entry {
            key: self::key(key)?,
            value: self::value(value)?,
            versionstamp: stamp.parse().ok()?,
            expires_at: None,
            meta: None,
        })
    };
    words.map(entry).collect()
}

fn push_write(out: &mut String, write: &AtomicWrite) {
    if write.report_existed {
        out.push_str(" !");
    }
    for check in &write.checks {
        let stamp = check.versionstamp.unwrap_or(Versionstamp::ZERO);
        write!(out, " ?{}@{stamp}", hex(check.key.as_bytes())).expect("strings take everything");
    }
    for mutation in &write.mutations {
        let sign = match mutation {
            Mutation::Set { .. } => '=',
            Mutation::Delete { .. } => '-',
            Mutation::Sum { .. } => '+',
            Mutation::Min { .. } => '<',
            Mutation::Max { .. } => '>',
            Mutation::SetVersionstamped { .. } => unreachable!("the workload makes none"),
        };
        let value = mutation
            .value()
            .map_or(String::new(), |value| hex(&value.bytes));
        write!(out, " {sign}{}:{value}", hex(mutation.key().as_bytes()))
            .expect("strings take everything");
    }
}

fn write<'a>(words: impl Iterator<Item = &'a str>) -> Option<AtomicWrite> {
    let mut write = AtomicWrite::new();
    for word in words {
        if word == "!" {
            write.report_existed = true;
            continue;
        }
        let (sign, rest) = word.split_at_checked(1)?;
        if sign == "?" {
            let (key, stamp) = rest.split_once('@')?;
            let (key, stamp) = (self::key(key)?, stamp.parse().ok()?);
            write = match stamp {
                Versionstamp::ZERO => write.check_absent(key),
                stamp => write.check(key, stamp),
            };
            continue;
        }
        let (key, operand) = rest.split_once(':')?;
        let (key, operand) = (self::key(key)?, value(operand)?);
        write = write.push(match sign {
            "=" => Mutation::set(key, operand),
            "-" => Mutation::delete(key),
            "+" => Mutation::Sum {
                key,
                operand,
                bounds: SumBounds::default(),
            },
            "<" => Mutation::Min { key, operand },
            ">" => Mutation::Max { key, operand },
            _ => return None,
        });
    }
    Some(write)
}

fn answer_words(answer: &Answer) -> String {
    match answer {
        Answer::Committed(committed) => {
            let existed: String = committed
                .existed
                .iter()
                .map(|existed| if *existed { 'y' } else { 'n' })
                .collect();
            format!("committed {} {existed}", committed.versionstamp)
        }
        Answer::Conflict(failed) => {
            let failed: Vec<String> = failed.iter().map(u32::to_string).collect();
            format!("conflict {}", failed.join(","))
        }
        Answer::Unknown => "unknown".into(),
        Answer::Rejected => "rejected".into(),
        Answer::Refused(_) => "refused".into(),
    }
}

fn answer<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Answer> {
    match words.next()? {
        "committed" => {
            let versionstamp = words.next()?.parse().ok()?;
            let existed = words.next()?.chars().map(|letter| letter == 'y').collect();
            Some(Answer::Committed(Committed {
                versionstamp,
                existed,
            }))
        }
        "conflict" => {
            let failed = words.next()?.split(',').map(|index| index.parse().ok());
            Some(Answer::Conflict(failed.collect::<Option<_>>()?))
        }
        "unknown" => Some(Answer::Unknown),
        "rejected" => Some(Answer::Rejected),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Client;

    #[test]
    fn every_line_of_a_workload_reads_back() {
        let mut client = Client::new(1, 3);
        let stamp = Versionstamp::new(77, 1);
        let mut lines = Vec::new();
        for number in 0..200 {
            let write = client.write();
            client.committed(&write, stamp);
            let keys = write
                .mutations
                .iter()
                .map(|mutation| mutation.key().clone())
                .collect();
            let entries: Vec<Entry> = write
                .mutations
                .iter()
                .filter_map(|mutation| {
                    Some(Entry {
                        key: mutation.key().clone(),
                        value: mutation.value()?.clone(),
                        versionstamp: stamp,
                        expires_at: None,
                        meta: None,
                    })
                })
                .collect();
            lines.push(Line::Commit(3, number, write));
            lines.push(Line::Read(3, number, keys));
            lines.push(Line::Found(3, number, entries.clone()));
            lines.push(Line::Opened(entries));
        }
        let committed = |existed| Committed {
            versionstamp: stamp,
            existed,
        };
        for answer in [
            Answer::Committed(committed(vec![])),
            Answer::Committed(committed(vec![true, false])),
            Answer::Conflict(vec![0, 12]),
            Answer::Unknown,
            Answer::Rejected,
        ] {
            lines.push(Line::Answer(3, 9, answer));
        }
        for line in lines {
            assert_eq!(Line::decode(&line.encode()), Some(line));
        }
        assert_eq!(Line::decode("commit 1"), None);
        assert_eq!(Line::decode("opened zz=00@00"), None);
    }
}

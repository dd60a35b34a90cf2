//! The rules of the waist, written a second time.
//!
//! [`Model`] is a sorted map that decides writes and reads without [`kvasir_kv::plan`], so that a
//! mistake there shows as a disagreement here. It knows the numbers that the generators of this
//! crate make (`U64`, JSON integers, V8 doubles); other numbers count as no number.

use std::collections::BTreeMap;

use kvasir_kv::{
    AtomicWrite, Encoding, Entry, Error, Key, Meta, Mutation, RangeRead, RangeResult, Snapshot,
    SnapshotRead, SumBounds, UnixMillis, Value, Versionstamp,
};

/// Entries by key, expired ones included until they are swept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    entries: BTreeMap<Key, Entry>,
}

/// What the rules say about a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It applies.
    Commit {
        /// As [`kvasir_kv::Committed::existed`].
        existed: Vec<bool>,
        /// The state of every touched key afterwards.
        after: BTreeMap<Key, Option<Entry>>,
    },
    /// Checks fail.
    Conflict {
        /// Indexes of all failing checks, rising.
        failed: Vec<u32>,
    },
    /// A mutation cannot be applied.
    Refused(Refusal),
}

/// Why a write was refused whole, by the case of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// [`Error::Invalid`].
    Invalid,
    /// [`Error::TypeMismatch`].
    TypeMismatch,
    /// [`Error::TooLarge`].
    TooLarge,
    /// [`Error::TooMany`].
    TooMany,
}

impl Refusal {
    /// The refusal that an error is, if the rules alone decide it.
    pub fn of(error: &Error) -> Option<Refusal> {
        match error {
            Error::Invalid(_) => Some(Refusal::Invalid),
            Error::TypeMismatch(_) => Some(Refusal::TypeMismatch),
            Error::TooLarge { .. } => Some(Refusal::TooLarge),
            Error::TooMany { .. } => Some(Refusal::TooMany),
            _ => None,
        }
    }
}

impl Model {
    /// An empty map.
    pub fn new() -> Model {
        Model::default()
    }

    /// A map that holds these entries.
    pub fn with(entries: impl IntoIterator<Item = Entry>) -> Model {
        let entries = entries.into_iter().map(|entry| (entry.key.clone(), entry));
        Model {
            entries: entries.collect(),
        }
    }

    /// The stored entry of a key, expired or not.
    pub fn stored(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The entry of a key, if it can be seen.
    pub fn live(&self, key: &Key, now: UnixMillis) -> Option<&Entry> {
        self.stored(key).filter(|entry| !entry.is_expired(now))
    }

    /// All entries that can be seen, in key order.
    pub fn all(&self, now: UnixMillis) -> Vec<Entry> {
        let live = self.entries.values().filter(|entry| !entry.is_expired(now));
        live.cloned().collect()
    }

    /// Decides a write without applying it.
    pub fn judge(&self, write: &AtomicWrite, stamp: Versionstamp, now: UnixMillis) -> Verdict {
        let holds = |key: &Key| self.live(key, now).map(|entry| entry.versionstamp);
        let mut failed = Vec::new();
        for (index, check) in write.checks.iter().enumerate() {
            if holds(&check.key) != check.versionstamp {
                failed.push(index as u32);
            }
        }
        if !failed.is_empty() {
            return Verdict::Conflict { failed };
        }

        let mut after = BTreeMap::<Key, Option<Entry>>::new();
        let mut existed = Vec::new();
        for mutation in &write.mutations {
            let before = match after.get(mutation.key()) {
                Some(state) => state.clone(),
                None => self.live(mutation.key(), now).cloned(),
            };
            let changed = match change(mutation, before.as_ref(), stamp) {
                Ok(changed) => changed,
                Err(refusal) => return Verdict::Refused(refusal),
            };
            if write.report_existed {
                let named = !matches!(mutation, Mutation::SetVersionstamped { .. });
                existed.push(named && before.is_some());
            }
            after.insert(changed.0, changed.1);
        }
        Verdict::Commit { existed, after }
    }

    /// Decides a write and applies it if the rules let it.
    pub fn commit(&mut self, write: &AtomicWrite, stamp: Versionstamp, now: UnixMillis) -> Verdict {
        let verdict = self.judge(write, stamp, now);
        if let Verdict::Commit { after, .. } = &verdict {
            for (key, entry) in after {
                match entry {
                    Some(entry) => self.entries.insert(key.clone(), entry.clone()),
                    None => self.entries.remove(key),
                };
            }
        }
        verdict
    }

    /// Stores an entry as it is.
    pub fn put(&mut self, entry: Entry) {
        self.entries.insert(entry.key.clone(), entry);
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &Key) {
        self.entries.remove(key);
    }

    /// How many entries are past their expiry.
    pub fn expired(&self, now: UnixMillis) -> usize {
        let expired = self.entries.values().filter(|entry| entry.is_expired(now));
        expired.count()
    }

    /// Removes what is past its expiry.
    pub fn sweep(&mut self, now: UnixMillis) {
        self.entries.retain(|_, entry| !entry.is_expired(now));
    }

    /// What a snapshot read has to return.
    pub fn read(&self, read: &SnapshotRead, now: UnixMillis) -> Snapshot {
        Snapshot {
            ranges: read
                .ranges
                .iter()
                .map(|range| self.range(range, now))
                .collect(),
        }
    }

    fn range(&self, read: &RangeRead, now: UnixMillis) -> RangeResult {
        let inside = |entry: &&Entry| read.range.contains(&entry.key) && !entry.is_expired(now);
        let mut found: Vec<&Entry> = if read.range.is_empty() {
            Vec::new()
        } else {
            let range = read.range.start.clone()..read.range.end.clone();
            let entries = self.entries.range(range).map(|(_, entry)| entry);
            entries.filter(inside).collect()
        };
        if read.reverse {
            found.reverse();
        }
        found.truncate(read.limit);

        let mut result = RangeResult::default();
        let mut bytes = 0;
        for entry in found {
            let cost = entry.key.len() + entry.value.len();
            if bytes + cost > read.bytes_max && !result.entries.is_empty() {
                result.cut_by_bytes = true;
                break;
            }
            bytes += cost;
            result.entries.push(entry.clone());
        }
        result
    }
}

/// The key that a mutation writes and its entry afterwards.
fn change(
    mutation: &Mutation,
    before: Option<&Entry>,
    stamp: Versionstamp,
) -> Result<(Key, Option<Entry>), Refusal> {
    let entry = |key: &Key, value: Value, expires_at: Option<UnixMillis>, meta: Option<Meta>| {
        let written = Entry {
            key: key.clone(),
            value,
            versionstamp: stamp,
            expires_at,
            meta: meta.filter(|meta| !meta.is_empty()).map(Into::into),
        };
        Ok((key.clone(), Some(written)))
    };
    let stored = before.map(|entry| &entry.value);
    match mutation {
        Mutation::Set {
            key,
            value,
            expires_at,
            meta,
            keep_created,
        } => {
            let mut meta = meta.clone();
            if let (true, Some(before)) = (*keep_created, before) {
                meta = Some(Meta {
                    created_at: Some(before.created_at()),
                    ..meta.unwrap_or_default()
                });
            }
            entry(key, value.clone(), *expires_at, meta)
        }
        Mutation::SetVersionstamped {
            prefix,
            suffix,
            value,
            expires_at,
        } => {
            let key = prefix
                .with_string(&format!("{stamp}"))
                .with_suffix(suffix.as_bytes());
            entry(&key, value.clone(), *expires_at, None)
        }
        Mutation::Delete { key } => Ok((key.clone(), None)),
        Mutation::Sum {
            key,
            operand,
            bounds,
        } => entry(key, sum(stored, operand, bounds)?, None, None),
        Mutation::Min { key, operand } => entry(key, extreme(stored, operand, true)?, None, None),
        Mutation::Max { key, operand } => entry(key, extreme(stored, operand, false)?, None, None),
    }
}

/// The numbers that the generators make.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Number {
    U64(u64),
    Json(i64),
    Double(f64),
}

fn number(value: &Value) -> Option<Number> {
    let text = || std::str::from_utf8(&value.bytes).ok();
    match value.encoding {
        Encoding::U64 => value.as_u64().map(Number::U64),
        Encoding::Json => text()?.parse().ok().map(Number::Json),
        Encoding::V8 => v8_double(&value.bytes).map(Number::Double),
        Encoding::Bytes => None,
    }
}

/// A double as V8 writes it, in the format version that Kvasir writes.
pub fn double(number: f64) -> Value {
    let mut bytes = vec![0xff, 15, b'N'];
    bytes.extend_from_slice(&number.to_le_bytes());
    Value::v8(bytes)
}

fn v8_double(bytes: &[u8]) -> Option<f64> {
    let bits = bytes.strip_prefix(&[0xff, 15, b'N'])?;
    Some(f64::from_le_bytes(bits.try_into().ok()?))
}

fn sum(stored: Option<&Value>, operand: &Value, bounds: &SumBounds) -> Result<Value, Refusal> {
    let bound = |bytes: &Option<bytes::Bytes>| match bytes {
        None => Ok(None),
        Some(bytes) => v8_double(bytes).map(Some).ok_or(Refusal::Invalid),
    };
    let is_bounded = *bounds != SumBounds::default();
    match number(operand) {
        None => return Err(Refusal::Invalid),
        Some(Number::U64(_)) if is_bounded => return Err(Refusal::Invalid),
        Some(_) => {}
    }
    let (low, high) = (bound(&bounds.min)?, bound(&bounds.max)?);
    let limited = |total: f64| match (low, high) {
        (Some(low), _) if total < low => bounds.clamp.then_some(low),
        (_, Some(high)) if total > high => bounds.clamp.then_some(high),
        _ => Some(total),
    };
    let Some(stored) = stored else {
        return Ok(operand.clone());
    };
    let pair = number(stored).zip(number(operand));
    let total = match pair {
        Some((Number::U64(a), Number::U64(b))) => Some(Value::u64(a.wrapping_add(b))),
        Some((Number::U64(a), Number::Json(b))) if !is_bounded => {
            u64::try_from(b).ok().map(|b| Value::u64(a.wrapping_add(b)))
        }
        Some((Number::Json(a), Number::Json(b))) => {
            let total = limited((a + b) as f64);
            total.map(|total| Value::json((total as i64).to_string()))
        }
        Some((Number::Double(a), Number::Double(b))) => limited(a + b).map(double),
        Some((Number::Double(a), Number::Json(b))) => limited(a + b as f64).map(double),
        Some((Number::Json(a), Number::Double(b))) => {
            // The result stays JSON; the generators make doubles that are integers.
            let total = limited(a as f64 + b);
            total.map(|total| Value::json((total as i64).to_string()))
        }
        _ => None,
    };
    total.ok_or(Refusal::TypeMismatch)
}

fn extreme(stored: Option<&Value>, operand: &Value, smaller: bool) -> Result<Value, Refusal> {
    let Some(new @ (Number::U64(_) | Number::Json(_))) = number(operand) else {
        return Err(Refusal::Invalid);
    };
    let Some(stored) = stored else {
        return Ok(operand.clone());
    };
    let operand_wins = match (number(stored), new) {
        (Some(Number::U64(old)), Number::U64(new)) => (new < old) == smaller && new != old,
        (Some(Number::Json(old)), Number::Json(new)) => (new < old) == smaller && new != old,
        _ => return Err(Refusal::TypeMismatch),
    };
    Ok(if operand_wins {
        operand.clone()
    } else {
        stored.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn key(name: &str) -> Key {
        Key::from_strings([name])
    }

    fn stamp(micros: u64) -> Versionstamp {
        Versionstamp::new(micros, 0)
    }

    fn after(model: &mut Model, mutation: Mutation) -> Result<Value, Verdict> {
        let key = mutation.key().clone();
        match model.commit(&AtomicWrite::new().push(mutation), stamp(9), NOW) {
            Verdict::Commit { .. } => Ok(model.live(&key, NOW).unwrap().value.clone()),
            other => Err(other),
        }
    }

    #[test]
    fn numbers_add_up_or_are_refused() {
        let sum = |operand| Mutation::Sum {
            key: key("n"),
            operand,
            bounds: SumBounds::default(),
        };
        let mut model = Model::new();
        assert_eq!(
            after(&mut model, sum(Value::json("2"))),
            Ok(Value::json("2"))
        );
        assert_eq!(after(&mut model, sum(double(3.0))), Ok(Value::json("5")));
        assert_eq!(
            after(&mut model, sum(Value::u64(1))),
            Err(Verdict::Refused(Refusal::TypeMismatch))
        );
        assert_eq!(
            after(&mut model, sum(Value::bytes("x"))),
            Err(Verdict::Refused(Refusal::Invalid))
        );
        let min = Mutation::Min {
            key: key("n"),
            operand: Value::json("-1"),
        };
        assert_eq!(after(&mut model, min), Ok(Value::json("-1")));
    }

    #[test]
    fn a_failed_check_changes_nothing_and_names_itself() {
        let mut model = Model::new();
        let write = AtomicWrite::new()
            .check_absent(key("a"))
            .check(key("a"), stamp(7))
            .push(Mutation::set(key("a"), Value::json("1")));
        let verdict = model.commit(&write, stamp(8), NOW);
        assert_eq!(verdict, Verdict::Conflict { failed: vec![1] });
        assert_eq!(model, Model::new());
    }

    #[test]
    fn an_expired_entry_counts_as_absent_before_it_is_swept() {
        let mut model = Model::new();
        let set = Mutation::set_expiring(key("a"), Value::json("1"), Some(NOW));
        model.commit(&AtomicWrite::new().push(set), stamp(1), UnixMillis(0));
        assert!(model.live(&key("a"), UnixMillis(999)).is_some());
        assert!(model.live(&key("a"), NOW).is_none());
        assert_eq!(model.expired(NOW), 1);
        model.sweep(NOW);
        assert_eq!(model, Model::new());
    }
}

//! Into the trash.

use data_encoding::BASE64;
use kvasir_kv::{
    AtomicWrite, Entry, KeyRange, Keyspace, Mutation, Outcome, RangeRead, Result, SnapshotRead,
    Value,
};

use super::rows::{self, Header, gate_key, json, record_key, row_keys};
use super::{Load, MOVED_AT_ONCE, MOVED_BYTES, Refusal, Removal, TRIES, Trash};

impl Trash {
    /// Moves up to `most` entries of a range into the trash, as part of `removal`, and says how many.
    /// What is moved is durable commit by commit; entries that others write meanwhile may stay.
    ///
    /// # Errors
    ///
    /// `Full` if what is left of the range does not fit, before the commit that would be too much;
    /// `Busy` if the same entries change again and again.
    pub async fn take(
        &self,
        from: &Keyspace,
        range: &KeyRange,
        most: u64,
        removal: &mut Removal,
    ) -> Result<u64, Refusal> {
        let mut range = range.clone();
        let (mut taken, mut tries, mut step) = (0, 0, MOVED_AT_ONCE);
        while taken < most {
            // The gate is read first: whoever adds after this makes the commit fail.
            let gate = self.system.get(&gate_key()).await?;
            let removals = self.removals().await?;
            let left = usize::try_from(most - taken).unwrap_or(usize::MAX);
            let mut read = RangeRead::new(range.clone(), step.min(left));
            read.bytes_max = MOVED_BYTES;
            let found = from.read(SnapshotRead::range(read)).await?;
            let entries = found.ranges.into_iter().flat_map(|range| range.entries);
            let entries: Vec<Entry> = entries.collect();
            let Some(last) = entries.last().map(|last| last.key.clone()) else {
                break;
            };
            let mut load = Load::default();
            entries.iter().for_each(|entry| load.add(entry));
            let room = Trash::room(&removals, removal.stamp.is_none());
            if !load.fits(room) {
                return Err(Refusal::Full(load));
            }
            let mut after = removal.clone();
            let write = self.move_in(from, &entries, &mut after, gate.as_ref())?;
            match from.store().commit(write).await? {
                Outcome::Committed(done) => {
                    after.stamp = Some(done.versionstamp);
                    *removal = after;
                    range.start = last.successor();
                    taken += load.entries;
                    (tries, step) = (0, MOVED_AT_ONCE);
                }
                Outcome::Conflict { .. } => {
                    (tries, step) = (tries + 1, (step / 2).max(1));
                    let now = self.system.get(&record_key(&removal.id)).await?;
                    let is_gone = removal.stamp.is_some() && now.is_none();
                    if tries == TRIES || is_gone {
                        return Err(Refusal::Busy);
                    }
                    if let Some(now) = &now {
                        *removal = rows::removal(now)?;
                    }
                }
            }
        }
        Ok(taken)
    }

    /// One commit that takes entries away and keeps them.
    fn move_in(
        &self,
        from: &Keyspace,
        entries: &[Entry],
        removal: &mut Removal,
        gate: Option<&Entry>,
    ) -> Result<AtomicWrite> {
        let mut away = AtomicWrite::new();
        let mut keep = match gate {
            Some(gate) => AtomicWrite::new().check(gate_key(), gate.versionstamp),
            None => AtomicWrite::new().check_absent(gate_key()),
        };
        keep = removal.check(keep);
        for entry in entries {
            away = away
                .check(entry.key.clone(), entry.versionstamp)
                .push(Mutation::delete(entry.key.clone()));
            let [header_key, value_key] = row_keys(&removal.id, removal.next);
            let header = Header {
                key: BASE64.encode(entry.key.as_bytes()),
                encoding: entry.value.encoding.number(),
                value_bytes: entry.value.len(),
                cost_bytes: entry.cost_bytes() as u64,
                versionstamp: entry.versionstamp.to_string(),
                expires_ms: entry.expires_at.map(|at| at.0),
            };
            let until = entry
                .expires_at
                .map_or(removal.until, |at| at.min(removal.until));
            keep = keep
                .push(Mutation::set_expiring(
                    header_key,
                    json(&header),
                    Some(until),
                ))
                .push(Mutation::Set {
                    key: value_key,
                    value: entry.value.clone(),
                    expires_at: Some(until),
                    meta: entry.meta.as_deref().cloned(),
                    keep_created: false,
                });
            removal.next += 1;
            removal.left.add(entry);
        }
        keep = keep
            .push(Mutation::set(gate_key(), Value::json("null")))
            .push(removal.record());
        Ok(self
            .system
            .stored_write(keep)?
            .and(from.stored_write(away)?))
    }
}

//! Out of the trash: back to where it was, or gone for good.

use std::sync::Arc;

use kvasir_kv::keyspace::Cursor;
use kvasir_kv::{
    AtomicWrite, Entry, Keyspace, Meta, Mutation, Outcome, Result, SnapshotRead, limits,
};

use super::rows::{record_key, value_key};
use super::{Conflict, Kept, MOVED_AT_ONCE, MOVED_BYTES, Refusal, Removal, Restored, TRIES, Trash};

impl Trash {
    /// How many of some entries' keys hold something now.
    async fn occupied(&self, to: &Keyspace, entries: &[Kept]) -> Result<u64> {
        let mut occupied = 0;
        // One by one: what they hold may be large, and only its being there matters.
        for entry in entries {
            occupied += u64::from(to.get(&entry.key).await?.is_some());
        }
        Ok(occupied)
    }

    /// How many entries of a removal would come back, and of how many the key holds something.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::read`].
    pub async fn foresee(&self, removal: &Removal) -> Result<(u64, u64)> {
        let to = self.keyspace_of(removal);
        let (mut all, mut occupied, mut cursor) = (0, 0, None);
        loop {
            let (entries, next) = self.entries(&removal.id, cursor, MOVED_AT_ONCE).await?;
            all += entries.len() as u64;
            occupied += self.occupied(&to, &entries).await?;
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok((all, occupied)),
            }
        }
    }

    fn keyspace_of(&self, removal: &Removal) -> Keyspace {
        Keyspace::new(Arc::clone(self.system.store()), removal.keyspace.clone())
    }

    /// Brings back about `most` entries of a removal, from where `cursor` says. They keep value,
    /// encoding, meta, time of creation and expiry; being written anew, they get a new versionstamp.
    ///
    /// # Errors
    ///
    /// `Occupied` with [`Conflict::Fail`], before anything came back unless keys were taken
    /// meanwhile; `Busy` if somebody else empties or restores it at the same time.
    pub async fn restore(
        &self,
        removal: &Removal,
        conflict: Conflict,
        mut cursor: Option<Cursor>,
        most: u64,
    ) -> Result<Restored, Refusal> {
        if conflict == Conflict::Fail && cursor.is_none() {
            let (_, occupied) = self.foresee(removal).await?;
            if occupied > 0 {
                return Err(Refusal::Occupied(occupied));
            }
        }
        let mut done = Restored::default();
        loop {
            let (mut entries, next) = self.entries(&removal.id, cursor, MOVED_AT_ONCE).await?;
            let mut load = 0;
            let fitting = entries.iter().take_while(|entry| {
                let fits = load == 0 || load + entry.cost_bytes <= MOVED_BYTES as u64;
                load += entry.cost_bytes;
                fits
            });
            let fitting = fitting.count();
            let is_end = fitting == entries.len() && next.is_none();
            entries.truncate(fitting);
            let last = entries.last().map(|last| Cursor(last.header.0.clone()));
            let (restored, kept) = self.put_back(removal, conflict, entries).await?;
            done.restored += restored;
            done.kept += kept;
            if is_end {
                self.forget_if_empty(&removal.id).await?;
                return Ok(done);
            }
            if done.restored + done.kept >= most {
                done.cursor = last;
                return Ok(done);
            }
            cursor = last;
        }
    }

    /// One commit, or several if keys turn out to hold something.
    async fn put_back(
        &self,
        removal: &Removal,
        conflict: Conflict,
        mut entries: Vec<Kept>,
    ) -> Result<(u64, u64), Refusal> {
        let to = self.keyspace_of(removal);
        let mut kept = 0;
        for _ in 0..TRIES {
            let mut values = Vec::with_capacity(entries.len());
            let keys = entries
                .iter()
                .map(|entry| value_key(&removal.id, &entry.header.0));
            let keys = keys.collect::<Result<Vec<_>>>()?;
            let found = self.system.read(SnapshotRead::keys(keys)).await?;
            for (entry, value) in std::mem::take(&mut entries)
                .into_iter()
                .zip(found.into_firsts())
            {
                // What expired meanwhile is gone.
                if let Some(value) = value {
                    entries.push(entry);
                    values.push(value);
                }
            }
            let Some(record) = self.removal(&removal.id).await? else {
                return Ok((0, kept));
            };
            if entries.is_empty() {
                return Ok((0, kept));
            }
            let write = self.move_out(&to, &record, conflict, &entries, &values)?;
            match to.store().commit(write).await? {
                Outcome::Committed(_) => return Ok((entries.len() as u64, kept)),
                Outcome::Conflict { failed } => {
                    // First the headers, one check each, then the keys, then the record.
                    let count = entries.len();
                    let failed_at = |at: usize| failed.iter().any(|place| *place as usize == at);
                    let is_occupied =
                        |at: usize| conflict != Conflict::Replace && failed_at(count + at);
                    let occupied = (0..count).filter(|at| is_occupied(*at)).count() as u64;
                    if occupied > 0 && conflict == Conflict::Fail {
                        return Err(Refusal::Occupied(occupied));
                    }
                    kept += occupied;
                    let mut places = 0..;
                    entries.retain(|_| {
                        let at = places.next().expect("there is always a next number");
                        !failed_at(at) && !is_occupied(at)
                    });
                }
            }
        }
        Err(Refusal::Busy)
    }

    fn move_out(
        &self,
        to: &Keyspace,
        record: &Removal,
        conflict: Conflict,
        entries: &[Kept],
        values: &[Entry],
    ) -> Result<AtomicWrite> {
        let (mut drop, mut back) = (AtomicWrite::new(), AtomicWrite::new());
        for (entry, value) in entries.iter().zip(values) {
            drop = drop
                .check(entry.header.0.clone(), entry.header.1)
                .push(Mutation::delete(entry.header.0.clone()))
                .push(Mutation::delete(value.key.clone()));
            if conflict != Conflict::Replace {
                back = back.check_absent(entry.key.clone());
            }
            back = back.push(Mutation::Set {
                key: entry.key.clone(),
                value: value.value.clone(),
                expires_at: entry.expires_at,
                meta: Some(meta_with_creation(value.meta.as_deref(), entry)),
                keep_created: false,
            });
        }
        let record = self.stored_after(record, entries)?;
        Ok(self
            .system
            .stored_write(drop)?
            .and(to.stored_write(back)?)
            .and(record))
    }

    /// The record without some entries, if it still is as it was read.
    fn stored_after(&self, record: &Removal, gone: &[Kept]) -> Result<AtomicWrite> {
        let mut after = record.clone();
        let bytes: u64 = gone.iter().map(|entry| entry.cost_bytes).sum();
        after.left.entries = after.left.entries.saturating_sub(gone.len() as u64);
        after.left.bytes = after.left.bytes.saturating_sub(bytes);
        let write = record.check(AtomicWrite::new()).push(after.record());
        self.system.stored_write(write)
    }

    /// Removes about `most` entries of a removal for good, and with the last of them the removal.
    /// Says how many, and whether there are more.
    ///
    /// # Errors
    ///
    /// `Busy` if somebody else empties or restores it at the same time.
    pub async fn empty(&self, id: &str, most: u64) -> Result<(u64, bool), Refusal> {
        let (mut removed, mut tries) = (0, 0);
        loop {
            let Some(record) = self.removal(id).await? else {
                return Ok((removed, false));
            };
            let (entries, _) = self.entries(id, None, MOVED_AT_ONCE).await?;
            if entries.is_empty() {
                self.forget_if_empty(id).await?;
                return Ok((removed, false));
            }
            if removed >= most {
                return Ok((removed, true));
            }
            let mut drop = AtomicWrite::new();
            for entry in &entries {
                drop = drop
                    .push(Mutation::delete(entry.header.0.clone()))
                    .push(Mutation::delete(value_key(id, &entry.header.0)?));
            }
            let drop = self.system.stored_write(drop)?;
            let write = drop.and(self.stored_after(&record, &entries)?);
            match self.system.store().commit(write).await? {
                Outcome::Committed(_) => {
                    removed += entries.len() as u64;
                    tries = 0;
                }
                Outcome::Conflict { .. } if tries < TRIES => tries += 1,
                Outcome::Conflict { .. } => return Err(Refusal::Busy),
            }
        }
    }

    /// Takes a removal without entries off the list. One that gets new ones meanwhile stays.
    async fn forget_if_empty(&self, id: &str) -> Result<()> {
        let Some(record) = self.removal(id).await? else {
            return Ok(());
        };
        let (entries, _) = self.entries(id, None, 1).await?;
        if entries.is_empty() {
            let write = record.check(AtomicWrite::new());
            let write = write.push(Mutation::delete(record_key(id)));
            self.system.commit(write).await?;
        }
        Ok(())
    }
}

/// The meta with the time of creation, where there is room for it: being written anew must not make
/// an entry look new.
fn meta_with_creation(meta: Option<&Meta>, entry: &Kept) -> Meta {
    let mut meta = meta.cloned().unwrap_or_default();
    if meta.created_at.is_none() {
        meta.created_at = Some(entry.versionstamp.time());
        if meta.cost_bytes() > limits::META_BYTES_MAX {
            meta.created_at = None;
        }
    }
    meta
}

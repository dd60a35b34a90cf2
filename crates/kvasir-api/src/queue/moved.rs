//! Messages on their way out of one queue and into another, for exports and imports.
//!
//! A message keeps its id on the way. Taking one in leaves a mark `("moved", database, id)` in the
//! same commit, and a message whose mark is there is left alone. So an import may be repeated, also
//! after its messages were delivered. The marks go when the queue is cleared.

use std::collections::{HashMap, HashSet};

use kvasir_kv::keyspace::{Cursor, List};
use kvasir_kv::{AtomicWrite, Key, KeyRange, Mutation, Part, Result, SnapshotRead, UnixMillis};

use super::{NewMessage, Queue, State, TRIES, nothing, too_busy};

/// Length of an id of a message, in hexadecimal digits.
pub const MESSAGE_ID_DIGITS: usize = 32;

/// Most messages of one page.
pub const MOVED_AT_ONCE_MAX: usize = 100;

/// A message as another queue has it, or had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its id, [`MESSAGE_ID_DIGITS`] hexadecimal digits.
    pub id: String,
    /// How often it was delivered there.
    pub attempts: u32,
    /// What it is, with the steps of its backoff schedule that are left.
    pub message: NewMessage,
}

impl Queue {
    /// Messages in the order of their ids, behind the one called `after`. A message in the hands of a
    /// consumer is among them, with the moment it was due. The second answer is the `after` of the
    /// next page, if there may be one.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::read`].
    pub async fn page(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Moved>, Option<String>)> {
        let list = List {
            range: KeyRange::below(&Key::from_strings(["message", self.database()])),
            // A message has two entries, which come next to each other.
            limit: limit.clamp(1, MOVED_AT_ONCE_MAX) * 2,
            reverse: false,
            cursor: after.map(|id| Cursor(self.message_key(id, "state"))),
        };
        let page = self.keyspace.list(list).await?;
        let mut moved = Vec::new();
        let mut payload = None;
        let mut next = None;
        for entry in page.entries {
            let (id, is_payload) = match entry.key.parts().as_deref() {
                Ok([_, _, Part::String(id), Part::String(what)]) => (id.clone(), what == "payload"),
                _ => continue,
            };
            if is_payload {
                // If its other half is on the next page, that page begins with it again.
                next.get_or_insert_with(|| id.clone());
                payload = Some((id, entry.value));
                continue;
            }
            next = Some(id.clone());
            // Without its other half it is a leftover of a cleared queue.
            if let Some((_, value)) = payload.take().filter(|(of, _)| *of == id) {
                let state = State::read(&entry)?;
                let undelivered = state.undelivered_keys(&id)?;
                moved.push(Moved {
                    id,
                    attempts: state.attempts,
                    message: NewMessage {
                        payload: value,
                        due: UnixMillis(state.due_ms),
                        backoff_ms: state.backoff_ms,
                        undelivered,
                    },
                });
            }
        }
        Ok((moved, next.filter(|_| page.cursor.is_some())))
    }

    /// Takes in messages that are not there and never were taken in, and says how many those were.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`].
    pub async fn take_in(&self, messages: Vec<Moved>) -> Result<usize> {
        let by_id: HashMap<_, _> = messages
            .into_iter()
            .map(|moved| (moved.id.clone(), moved))
            .collect();
        let mut ids: Vec<_> = by_id.keys().cloned().collect();
        ids.sort_unstable();
        for _ in 0..TRIES {
            let known = self.known(&ids).await?;
            let mut write = AtomicWrite::new();
            let mut taken = 0;
            for id in ids.iter().filter(|id| !known.contains(*id)) {
                taken += 1;
                let mark = self.mark(id);
                write = write
                    .check_absent(mark.clone())
                    .check_absent(self.message_key(id, "state"))
                    .push(Mutation::set(mark, nothing()));
                self.add(by_id[id].clone(), &mut write);
            }
            if taken == 0 || self.keyspace.commit(write).await?.committed().is_some() {
                return Ok(taken);
            }
        }
        Err(too_busy())
    }

    /// Which of these are there, or were taken in once.
    async fn known(&self, ids: &[String]) -> Result<HashSet<String>> {
        let keys = ids
            .iter()
            .flat_map(|id| [self.mark(id), self.message_key(id, "state")]);
        let found = self.keyspace.read(SnapshotRead::keys(keys)).await?;
        let mut found = found.into_firsts();
        let mut known = HashSet::new();
        for id in ids {
            let (mark, state) = (found.next().flatten(), found.next().flatten());
            if mark.or(state).is_some() {
                known.insert(id.clone());
            }
        }
        Ok(known)
    }

    fn mark(&self, id: &str) -> Key {
        Key::from_strings(["moved", self.database(), id])
    }

    /// What is left in the way of taking messages in again.
    pub(super) fn marks(&self) -> KeyRange {
        KeyRange::below(&Key::from_strings(["moved", self.database()]))
    }
}

//! When and from where tokens were used last.
//!
//! A request notes its use in memory: a look at a number, and once a second a short lock that is the
//! token's own. What was noted goes to the store beside the requests, at most once a minute and
//! token, as `("token_uses", id)`: a key of its own, so that the token's record is not written again,
//! and nobody who follows the records hears of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use kvasir_kv::{
    AtomicWrite, Entry, Error, Key, KeyRange, Keyspace, Mutation, RangeRead, Result, SnapshotRead,
    UnixMillis, Value,
};
use serde::{Deserialize, Serialize};

use crate::token::TokenId;

/// Shortest time between two stored uses of one token, in milliseconds.
pub const STORED_EVERY_MS: i64 = 60_000;

/// Shortest time between two noted uses of one token, in milliseconds.
const NOTED_EVERY_MS: i64 = 1_000;

/// Uses that are stored in one commit.
const STORED_AT_ONCE: usize = 500;

/// The last use of a token, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// When.
    pub at: UnixMillis,
    /// Address of the client.
    pub from: IpAddr,
}

/// The uses of all tokens that were used since the process began; no more than there are tokens.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<HashMap<TokenId, Arc<Use>>>);

/// What is noted of one token.
#[derive(Debug)]
pub(crate) struct Use {
    noted_ms: AtomicI64,
    noted: Mutex<Noted>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    latest: Option<LastUse>,
    /// The use that the store has, and when it was given to it.
    stored: Option<(UnixMillis, UnixMillis)>,
}

impl Default for Use {
    fn default() -> Self {
        Use {
            noted_ms: AtomicI64::new(i64::MIN),
            noted: Mutex::default(),
        }
    }
}

impl Use {
    /// Notes a use, unless one of the same second is noted already.
    pub(crate) fn note(&self, now: UnixMillis, from: IpAddr) {
        let since = now.0.saturating_sub(self.noted_ms.load(Ordering::Relaxed));
        if (0..NOTED_EVERY_MS).contains(&since) {
            return;
        }
        self.noted_ms.store(now.0, Ordering::Relaxed);
        let latest = Some(LastUse { at: now, from });
        self.noted.lock().expect("no panic while it is held").latest = latest;
    }

    fn noted(&self) -> Noted {
        *self.noted.lock().expect("no panic while it is held")
    }

    /// The use that the store lacks, if it is time to give it to the store.
    fn due(&self, now: UnixMillis) -> Option<LastUse> {
        let Noted { latest, stored } = self.noted();
        let latest = latest?;
        let is_due = stored.is_none_or(|(at, stored_at)| {
            at < latest.at && now.0.saturating_sub(stored_at.0) >= STORED_EVERY_MS
        });
        is_due.then_some(latest)
    }
}

impl Uses {
    /// Where the uses of a token are noted.
    pub(crate) fn of(&self, id: TokenId) -> Arc<Use> {
        let mut uses = self.0.lock().expect("no panic while it is held");
        Arc::clone(uses.entry(id).or_default())
    }

    pub(crate) fn forget(&self, id: TokenId) {
        let mut uses = self.0.lock().expect("no panic while it is held");
        uses.remove(&id);
    }

    fn all(&self) -> Vec<(TokenId, Arc<Use>)> {
        let uses = self.0.lock().expect("no panic while it is held");
        uses.iter().map(|(id, of)| (*id, Arc::clone(of))).collect()
    }

    /// The last uses of some tokens, in their order: what the store has, or this process knows
    /// better. The tokens stand in the order of their ids.
    pub(crate) async fn last(
        &self,
        system: &Keyspace,
        ids: &[TokenId],
    ) -> Result<Vec<Option<LastUse>>> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
            return Ok(Vec::new());
        };
        let range = KeyRange::new(key_of(*first), key_of(*last).successor());
        let mut stored = HashMap::new();
        let read = SnapshotRead::range(RangeRead::new(range, crate::access::TOKENS_MAX));
        for entry in system
            .read(read)
            .await?
            .ranges
            .pop()
            .unwrap_or_default()
            .entries
        {
            if let Some(id) = id_of(&entry.key) {
                stored.insert(id, read_use(&entry)?);
            }
        }
        let here = self.0.lock().expect("no panic while it is held");
        let last = ids.iter().map(|id| {
            let here = here.get(id).and_then(|of| of.noted().latest);
            let there = stored.get(id).copied();
            here.into_iter().chain(there).max_by_key(|one| one.at)
        });
        Ok(last.collect())
    }

    /// Gives the store what it lacks, and says for how many tokens.
    pub(crate) async fn store(&self, system: &Keyspace, now: UnixMillis) -> Result<usize> {
        let due = self.all().into_iter();
        let due: Vec<_> = due
            .filter_map(|(id, of)| Some((id, of.due(now)?, of)))
            .collect();
        for some in due.chunks(STORED_AT_ONCE) {
            let keys = some.iter().map(|(id, ..)| key_of(*id));
            let found = system.read(SnapshotRead::keys(keys)).await?;
            let mut write = AtomicWrite::new();
            for ((id, latest, _), found) in some.iter().zip(found.into_firsts()) {
                // Another node may know a later one.
                let known = found.as_ref().map(read_use).transpose()?;
                if known.is_none_or(|known| known.at < latest.at) {
                    write = write.push(Mutation::set(key_of(*id), to_value(latest)));
                }
            }
            if !write.mutations.is_empty() {
                system.commit(write).await?;
            }
            for (_, latest, of) in some {
                let mut noted = of.noted.lock().expect("no panic while it is held");
                noted.stored = Some((latest.at, now));
            }
        }
        Ok(due.len())
    }
}

/// Where the last use of a token lies.
pub(crate) fn key_of(id: TokenId) -> Key {
    Key::from_strings(["token_uses", &id.to_string()])
}

fn id_of(key: &Key) -> Option<TokenId> {
    match key.parts().ok()?.as_slice() {
        [_, kvasir_kv::Part::String(id)] => id.parse().ok(),
        _ => None,
    }
}

/// The form is on users' disks.
#[derive(Serialize, Deserialize)]
struct Record {
    at: i64,
    from: IpAddr,
}

fn to_value(last: &LastUse) -> Value {
    let record = Record {
        at: last.at.0,
        from: last.from,
    };
    Value::json(serde_json::to_vec(&record).expect("a number and an address are always JSON"))
}

fn read_use(entry: &Entry) -> Result<LastUse> {
    let record: Record = serde_json::from_slice(&entry.value.bytes)
        .map_err(|_| Error::Corrupt("the last use of a token".to_owned()))?;
    Ok(LastUse {
        at: UnixMillis(record.at),
        from: record.from,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_use_is_noted_once_a_second_and_also_after_the_clock_stepped_back() {
        let of = Use::default();
        let at = |of: &Use| of.noted().latest.unwrap().at.0;
        for (now, noted) in [
            (5_000, 5_000),
            (5_999, 5_000),
            (6_000, 6_000),
            (1_000, 1_000),
        ] {
            of.note(UnixMillis(now), HERE);
            assert_eq!(at(&of), noted, "at {now}");
        }
    }

    #[test]
    fn a_use_is_due_for_the_store_once_a_minute() {
        let of = Use::default();
        assert_eq!(of.due(UnixMillis(0)), None);
        of.note(UnixMillis(1_000), HERE);
        let first = of.due(UnixMillis(1_000)).unwrap();
        of.noted.lock().unwrap().stored = Some((first.at, UnixMillis(1_000)));
        of.note(UnixMillis(3_000), HERE);
        assert_eq!(of.due(UnixMillis(1_000 + STORED_EVERY_MS - 1)), None);
        let second = of.due(UnixMillis(1_000 + STORED_EVERY_MS)).unwrap();
        assert_eq!(second.at, UnixMillis(3_000));
        of.noted.lock().unwrap().stored = Some((second.at, UnixMillis(61_000)));
        assert_eq!(of.due(UnixMillis(1_000_000)), None, "it was not used since");
    }
}

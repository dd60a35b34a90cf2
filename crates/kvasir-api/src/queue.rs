//! Queues: messages that are delivered at least once, each to one consumer at a time.
//!
//! A layer over keys in a keyspace of its own ([`KeyspaceName::queues`]), so that enqueueing is part
//! of the atomic write it comes with, and so that nothing is lost by a crash that the store would
//! not lose. For a message `id` of a database there are
//!
//! | key | value |
//! | --- | --- |
//! | `("message", database, id, "payload")` | the payload, as it was sent |
//! | `("message", database, id, "state")` | [`State`] |
//! | `("due", database, due_ms, id)` | nothing; while it waits |
//! | `("leased", until_ms, database, id)` | nothing; while a consumer has it |
//! | `("moved", database, id)` | nothing; it came in with an import |
//!
//! A consumer *leases* a message for a while and *acknowledges* it when it is done. If it says that
//! it failed, or its lease runs out, the message becomes due again after the next step of its
//! backoff schedule. When the schedule is used up, the payload is written under the message's
//! undelivered keys in the same commit that removes the message, or just dropped if there are none.
//! Every step checks the state it has seen, so several servers over one store may deliver from the
//! same queue.

mod moved;

use std::collections::HashSet;

use futures_util::StreamExt;
use kvasir_kv::keyspace::{Cursor, List};
use kvasir_kv::{
    AtomicWrite, ChangeStream, Entry, Error, Key, KeyRange, Keyspace, KeyspaceName, Mutation,
    Outcome, Part, Result, SnapshotRead, Store, UnixMillis, Value,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub use moved::{MESSAGE_ID_DIGITS, MOVED_AT_ONCE_MAX, Moved};

/// Most messages that are leased at once.
pub const LEASED_AT_ONCE_MAX: usize = 100;

/// Shortest lease, in milliseconds.
pub const LEASE_MS_MIN: i64 = 1_000;

/// Longest lease, in milliseconds: 12 hours.
pub const LEASE_MS_MAX: i64 = 12 * 3600 * 1000;

/// How often a step is tried again after somebody else was faster.
const TRIES: usize = 16;

/// How many leases that have run out are looked at in one go.
const EXPIRED_AT_ONCE: usize = 100;

/// Steps of the backoff schedule that Deno gives to messages without one, in milliseconds.
const BACKOFF_DEFAULT_MS: [u32; 5] = [100, 1_000, 5_000, 30_000, 60_000];

/// The backoff schedule of messages that name none.
pub fn backoff_default_ms() -> Vec<u32> {
    BACKOFF_DEFAULT_MS.to_vec()
}

/// A message to be enqueued. Its limits are those of the dialect it comes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// What is delivered.
    pub payload: Value,
    /// Not delivered before this moment.
    pub due: UnixMillis,
    /// Pauses before each further delivery, in milliseconds; as many retries as steps.
    pub backoff_ms: Vec<u32>,
    /// Keys of the database under which the payload is stored if no delivery succeeds.
    pub undelivered: Vec<Key>,
}

/// What is kept of a message beside its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// When it is due, while it waits.
    due_ms: i64,
    /// Who has it, while it does not.
    lease: Option<Lease>,
    /// How often it was delivered.
    attempts: u32,
    /// Steps of the backoff schedule still to come.
    backoff_ms: Vec<u32>,
    /// Undelivered keys, as base64 of their bytes.
    undelivered: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    secret: String,
    until_ms: i64,
}

/// A message in the hands of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which message.
    pub receipt: Receipt,
    /// What was enqueued.
    pub payload: Value,
    /// 1 for the first delivery.
    pub attempt: u32,
    /// When it was due.
    pub due: UnixMillis,
    /// When the lease ends.
    pub leased_until: UnixMillis,
}

/// Names one delivery of one message; what a consumer shows to acknowledge it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    id: String,
    secret: String,
}

impl Receipt {
    /// The id of the message, the same for all its deliveries.
    pub fn message_id(&self) -> &str {
        &self.id
    }
}

impl std::fmt::Display for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

/// The text is not a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a receipt of a delivered message")]
pub struct ParseReceiptError;

impl std::str::FromStr for Receipt {
    type Err = ParseReceiptError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match text.split_once('.') {
            Some((id, secret)) if is_hex(id) && is_hex(secret) => Ok(Receipt {
                id: id.to_owned(),
                secret: secret.to_owned(),
            }),
            _ => Err(ParseReceiptError),
        }
    }
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait, due or not.
    pub waiting: usize,
    /// Messages in the hands of consumers.
    pub leased: usize,
    /// Whether counting stopped at its limit, so that there are more.
    pub more: bool,
}

/// The queue of one database. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Queue {
    keyspace: Keyspace,
    data: Keyspace,
}

impl Queue {
    /// The queue of the database `name`.
    pub fn new(store: &Arc<dyn Store>, name: KeyspaceName) -> Queue {
        Queue {
            keyspace: Keyspace::new(Arc::clone(store), KeyspaceName::queues()),
            data: Keyspace::new(Arc::clone(store), name),
        }
    }

    fn database(&self) -> &str {
        self.data.name().as_str()
    }

    fn message_key(&self, id: &str, what: &str) -> Key {
        Key::from_strings(["message", self.database(), id, what])
    }

    fn due_prefix(&self) -> Key {
        Key::from_strings(["due", self.database()])
    }

    fn due_key(&self, due_ms: i64, id: &str) -> Key {
        Key::from_parts(&[
            Part::from("due"),
            Part::from(self.database()),
            Part::BigInt(due_ms.into()),
            Part::from(id),
        ])
    }

    fn leased_key(&self, until_ms: i64, id: &str) -> Key {
        leased_key(until_ms, self.database(), id)
    }

    /// Writes to the database and enqueues, in one commit.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`].
    pub async fn commit(
        &self,
        write: AtomicWrite,
        messages: Vec<NewMessage>,
        now_micros: u64,
    ) -> Result<Outcome> {
        let mut theirs = AtomicWrite::new();
        for (place, message) in (0u16..).zip(messages) {
            self.enqueue(message, now_micros, place, &mut theirs)?;
        }
        self.commit_both(write, theirs).await
    }

    /// A write to the database and one to the queue as one commit.
    async fn commit_both(&self, data: AtomicWrite, queue: AtomicWrite) -> Result<Outcome> {
        let write = self.data.stored_write(data)?;
        let write = write.and(self.keyspace.stored_write(queue)?);
        self.data.store().commit(write).await
    }

    fn enqueue(
        &self,
        message: NewMessage,
        now_micros: u64,
        place: u16,
        write: &mut AtomicWrite,
    ) -> Result<()> {
        // The time comes first, so that messages due at once leave in the order they came.
        let id = format!("{now_micros:016x}{place:04x}{}", &random_hex()?[..12]);
        let moved = Moved {
            id,
            attempts: 0,
            message,
        };
        self.add(moved, write);
        Ok(())
    }

    /// The entries of a message that waits.
    fn add(&self, moved: Moved, write: &mut AtomicWrite) {
        let Moved {
            id,
            attempts,
            message,
        } = moved;
        let state = State {
            due_ms: message.due.0,
            lease: None,
            attempts,
            backoff_ms: message.backoff_ms,
            undelivered: message
                .undelivered
                .iter()
                .map(|key| data_encoding::BASE64.encode(key.as_bytes()))
                .collect(),
        };
        write.mutations.extend([
            Mutation::set(self.message_key(&id, "payload"), message.payload),
            Mutation::set(self.message_key(&id, "state"), state.to_value()),
            Mutation::set(self.due_key(message.due.0, &id), nothing()),
        ]);
    }

    /// Leases up to `max` messages that are due, for `lease_ms`. May be fewer than there are, while
    /// other consumers take some as well.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`].
    pub async fn lease(&self, max: usize, lease_ms: i64, now: UnixMillis) -> Result<Vec<Delivery>> {
        release_expired(self.data.store(), now).await?;
        let max = max.min(LEASED_AT_ONCE_MAX);
        for _ in 0..TRIES {
            let (keys, ids) = self.due(max, now).await?;
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            let mut write = AtomicWrite::new();
            let mut deliveries = Vec::with_capacity(ids.len());
            for ((key, id), found) in keys.into_iter().zip(&ids).zip(self.read(&ids).await?) {
                let [Some(state), Some(payload)] = found else {
                    // Taken by somebody since, or a leftover of a cleared queue.
                    write = write.push(Mutation::delete(key));
                    continue;
                };
                let before = State::read(&state)?;
                if before.lease.is_some() {
                    continue;
                }
                let until_ms = now.0.saturating_add(lease_ms);
                let secret = random_hex()?;
                let mut after = before.clone();
                after.attempts = before.attempts.saturating_add(1);
                after.lease = Some(Lease {
                    secret: secret.clone(),
                    until_ms,
                });
                write = write
                    .check(state.key.clone(), state.versionstamp)
                    .push(Mutation::delete(key))
                    .push(Mutation::set(self.leased_key(until_ms, id), nothing()))
                    .push(Mutation::set(state.key, after.to_value()));
                deliveries.push(Delivery {
                    receipt: Receipt {
                        id: id.clone(),
                        secret,
                    },
                    payload: payload.value,
                    attempt: after.attempts,
                    due: UnixMillis(before.due_ms),
                    leased_until: UnixMillis(until_ms),
                });
            }
            let committed = self.keyspace.commit(write).await?.committed().is_some();
            if committed && !deliveries.is_empty() {
                return Ok(deliveries);
            }
        }
        Ok(Vec::new())
    }

    /// Keys and ids of messages that are due, the longest waiting first.
    async fn due(&self, max: usize, now: UnixMillis) -> Result<(Vec<Key>, Vec<String>)> {
        let prefix = self.due_prefix();
        let end = self.due_key(now.0.saturating_add(1), "");
        let list = List {
            range: KeyRange::new(prefix, end),
            limit: max,
            reverse: false,
            cursor: None,
        };
        let page = self.keyspace.list(list).await?;
        let mut ids = Vec::with_capacity(page.entries.len());
        for entry in &page.entries {
            ids.push(due_of(&entry.key)?.1);
        }
        let keys = page.entries.into_iter().map(|entry| entry.key);
        Ok((keys.collect(), ids))
    }

    /// When the next message is due, past or future.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::read`].
    pub async fn next_due(&self) -> Result<Option<UnixMillis>> {
        let list = List {
            range: KeyRange::below(&self.due_prefix()),
            limit: 1,
            reverse: false,
            cursor: None,
        };
        let page = self.keyspace.list(list).await?;
        let first = page.entries.first();
        first
            .map(|entry| due_of(&entry.key).map(|(due, _)| due))
            .transpose()
    }

    /// State and payload of each message.
    async fn read(&self, ids: &[String]) -> Result<Vec<[Option<Entry>; 2]>> {
        let keys = ids.iter().flat_map(|id| {
            [
                self.message_key(id, "state"),
                self.message_key(id, "payload"),
            ]
        });
        let snapshot = self.keyspace.read(SnapshotRead::keys(keys)).await?;
        let mut found = snapshot.into_firsts();
        let mut pairs = Vec::with_capacity(ids.len());
        while let (Some(state), Some(payload)) = (found.next(), found.next()) {
            pairs.push([state, payload]);
        }
        Ok(pairs)
    }

    /// The message of a receipt, if the receipt still holds.
    async fn held(&self, receipt: &Receipt) -> Result<Option<(Entry, State, Lease, Value)>> {
        let [state, payload] = self
            .read(std::slice::from_ref(&receipt.id))
            .await?
            .pop()
            .unwrap_or_default();
        let (Some(entry), Some(payload)) = (state, payload) else {
            return Ok(None);
        };
        let state = State::read(&entry)?;
        let lease = state.lease.clone();
        Ok(lease
            .filter(|lease| lease.secret == receipt.secret)
            .map(|lease| (entry, state, lease, payload.value)))
    }

    /// Removes a message that was delivered; `false` if the receipt does not hold any more, because
    /// the lease ran out and the message went on.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`].
    pub async fn acknowledge(&self, receipt: &Receipt) -> Result<bool> {
        for _ in 0..TRIES {
            let Some((entry, _, lease, _)) = self.held(receipt).await? else {
                return Ok(false);
            };
            let write = AtomicWrite::new()
                .check(entry.key.clone(), entry.versionstamp)
                .push(Mutation::delete(entry.key))
                .push(Mutation::delete(self.message_key(&receipt.id, "payload")))
                .push(Mutation::delete(
                    self.leased_key(lease.until_ms, &receipt.id),
                ));
            if self.keyspace.commit(write).await?.committed().is_some() {
                return Ok(true);
            }
        }
        Err(too_busy())
    }

    /// Makes a lease end `lease_ms` from now; `false` as for [`Queue::acknowledge`].
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`].
    pub async fn extend(&self, receipt: &Receipt, lease_ms: i64, now: UnixMillis) -> Result<bool> {
        for _ in 0..TRIES {
            let Some((entry, mut state, lease, _)) = self.held(receipt).await? else {
                return Ok(false);
            };
            let until_ms = now.0.saturating_add(lease_ms);
            state.lease = Some(Lease {
                secret: lease.secret,
                until_ms,
            });
            let id = &receipt.id;
            let write = AtomicWrite::new()
                .check(entry.key.clone(), entry.versionstamp)
                .push(Mutation::delete(self.leased_key(lease.until_ms, id)))
                .push(Mutation::set(self.leased_key(until_ms, id), nothing()))
                .push(Mutation::set(entry.key, state.to_value()));
            if self.keyspace.commit(write).await?.committed().is_some() {
                return Ok(true);
            }
        }
        Err(too_busy())
    }

    /// Gives a message back: it is delivered again after its next backoff step, or goes to its
    /// undelivered keys. `false` as for [`Queue::acknowledge`].
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`].
    pub async fn fail(&self, receipt: &Receipt, now: UnixMillis) -> Result<bool> {
        for _ in 0..TRIES {
            let Some((entry, state, lease, payload)) = self.held(receipt).await? else {
                return Ok(false);
            };
            let id = &receipt.id;
            if self
                .give_back(id, entry, state, &lease, payload, now)
                .await?
            {
                return Ok(true);
            }
        }
        Err(too_busy())
    }

    /// One attempt of [`Queue::fail`]; `false` if the message was changed meanwhile.
    async fn give_back(
        &self,
        id: &str,
        entry: Entry,
        mut state: State,
        lease: &Lease,
        payload: Value,
        now: UnixMillis,
    ) -> Result<bool> {
        let mut write = AtomicWrite::new()
            .check(entry.key.clone(), entry.versionstamp)
            .push(Mutation::delete(self.leased_key(lease.until_ms, id)));
        let mut data = AtomicWrite::new();
        if state.backoff_ms.is_empty() {
            write = write
                .push(Mutation::delete(entry.key))
                .push(Mutation::delete(self.message_key(id, "payload")));
            for key in state.undelivered_keys(id)? {
                data = data.push(Mutation::set(key, payload.clone()));
            }
        } else {
            state.due_ms = now.0.saturating_add(i64::from(state.backoff_ms.remove(0)));
            state.lease = None;
            write = write
                .push(Mutation::set(self.due_key(state.due_ms, id), nothing()))
                .push(Mutation::set(entry.key, state.to_value()));
        }
        let outcome = self.commit_both(data, write).await?;
        Ok(outcome.committed().is_some())
    }

    /// Which messages begin to wait or stop waiting from now on.
    pub fn changes(&self) -> ChangeStream {
        self.keyspace.changes(&KeyRange::below(&self.due_prefix()))
    }

    /// How full the queue is, counting up to `limit` of either kind.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::read`].
    pub async fn depth(&self, limit: usize) -> Result<Depth> {
        let waiting = KeyRange::below(&self.due_prefix());
        let all = KeyRange::below(&Key::from_strings(["message", self.database()]));
        let waiting = count(&self.keyspace, &waiting, limit).await?;
        // Each message has a payload and a state.
        let all = count(&self.keyspace, &all, limit.saturating_mul(2)).await? / 2;
        Ok(Depth {
            waiting,
            leased: all.saturating_sub(waiting),
            more: all >= limit,
        })
    }

    /// Removes every message, and says how many entries went.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`].
    pub async fn clear(&self) -> Result<usize> {
        let mut removed = 0;
        // Messages first: what is left of a message without them is skipped by every reader.
        let ranges = [
            KeyRange::below(&Key::from_strings(["message", self.database()])),
            KeyRange::below(&self.due_prefix()),
            self.marks(),
        ];
        for range in ranges {
            removed += remove_range(&self.keyspace, &range).await?;
        }
        Ok(removed)
    }
}

/// Removes all entries of a range in commits of bounded size, and says how many.
///
/// # Errors
///
/// As [`kvasir_kv::Store::commit`].
pub async fn remove_range(keyspace: &Keyspace, range: &KeyRange) -> Result<usize> {
    let mut removed = 0;
    let mut pages = keyspace.scan(range, false);
    while let Some(page) = pages.next().await {
        let entries = page?.entries;
        if entries.is_empty() {
            continue;
        }
        removed += entries.len();
        let mut write = AtomicWrite::new();
        for entry in entries {
            write = write.push(Mutation::delete(entry.key));
        }
        keyspace.commit(write).await?;
    }
    Ok(removed)
}

async fn count(keyspace: &Keyspace, range: &KeyRange, limit: usize) -> Result<usize> {
    let mut counted = 0;
    let mut pages = keyspace.scan(range, false);
    while let Some(page) = pages.next().await {
        counted += page?.entries.len();
        if counted >= limit {
            return Ok(limit);
        }
    }
    Ok(counted)
}

/// Gives back the messages of all databases whose lease ran out, and says how many.
///
/// # Errors
///
/// As [`kvasir_kv::Store::commit`].
pub async fn release_expired(store: &Arc<dyn Store>, now: UnixMillis) -> Result<usize> {
    let keyspace = Keyspace::new(Arc::clone(store), KeyspaceName::queues());
    let prefix = Key::from_strings(["leased"]);
    let end = Key::from_parts(&[
        Part::from("leased"),
        Part::BigInt(now.0.saturating_add(1).into()),
    ]);
    let mut released = 0;
    let mut cursor: Option<Cursor> = None;
    let mut seen = HashSet::new();
    loop {
        let list = List {
            range: KeyRange::new(prefix.clone(), end.clone()),
            limit: EXPIRED_AT_ONCE,
            reverse: false,
            cursor: cursor.take(),
        };
        let page = keyspace.list(list).await?;
        for entry in page.entries {
            let (database, id) = leased_of(&entry.key)?;
            if !seen.insert(id.clone()) {
                continue;
            }
            let queue = Queue::new(store, database);
            match queue.release(&id, entry, now).await {
                Ok(true) => released += 1,
                Ok(false) => {}
                Err(error @ Error::Unavailable(_)) => return Err(error),
                // One message that cannot be given back must not hold up the others.
                Err(error) => tracing::warn!("message {id} cannot be given back: {error}"),
            }
        }
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(released);
        }
    }
}

impl Queue {
    /// Gives back a message whose lease ran out; `false` if somebody else did something with it.
    async fn release(&self, id: &str, leased: Entry, now: UnixMillis) -> Result<bool> {
        let [state, payload] = self.read(&[id.to_owned()]).await?.pop().unwrap_or_default();
        let held = match (state, payload) {
            (Some(entry), Some(payload)) => {
                let state = State::read(&entry)?;
                let lease = state.lease.clone();
                lease
                    .filter(|lease| lease.until_ms <= now.0)
                    .map(|lease| (entry, state, lease, payload.value))
            }
            _ => None,
        };
        match held {
            Some((entry, state, lease, payload)) => {
                self.give_back(id, entry, state, &lease, payload, now).await
            }
            // A leftover of a cleared queue, or the lease was extended a moment ago.
            None => {
                let write = AtomicWrite::new()
                    .check(leased.key.clone(), leased.versionstamp)
                    .push(Mutation::delete(leased.key));
                self.keyspace.commit(write).await?;
                Ok(false)
            }
        }
    }
}

impl State {
    fn read(entry: &Entry) -> Result<State> {
        serde_json::from_slice(&entry.value.bytes)
            .map_err(|error| Error::Corrupt(format!("state of a queued message: {error}")))
    }

    /// The undelivered keys of message `id`.
    fn undelivered_keys(&self, id: &str) -> Result<Vec<Key>> {
        let keys = self.undelivered.iter().map(|key| {
            let key = data_encoding::BASE64.decode(key.as_bytes());
            key.map(Key::new)
                .map_err(|_| Error::Corrupt(format!("undelivered keys of message {id}")))
        });
        keys.collect()
    }

    fn to_value(&self) -> Value {
        Value::json(serde_json::to_vec(self).expect("numbers and strings are JSON"))
    }
}

fn leased_key(until_ms: i64, database: &str, id: &str) -> Key {
    Key::from_parts(&[
        Part::from("leased"),
        Part::BigInt(until_ms.into()),
        Part::from(database),
        Part::from(id),
    ])
}

/// Database and id of a key under `leased`.
fn leased_of(key: &Key) -> Result<(KeyspaceName, String)> {
    if let Ok([_, _, Part::String(database), Part::String(id)]) = key.parts().as_deref()
        && let Ok(database) = database.parse()
    {
        return Ok((database, id.clone()));
    }
    Err(Error::Corrupt("key of a leased message".to_owned()))
}

/// Time and id of a key under `due`.
fn due_of(key: &Key) -> Result<(UnixMillis, String)> {
    if let Ok([_, _, Part::BigInt(due), Part::String(id)]) = key.parts().as_deref()
        && let Ok(due) = i64::try_from(due)
    {
        return Ok((UnixMillis(due), id.clone()));
    }
    Err(Error::Corrupt("key of a waiting message".to_owned()))
}

fn nothing() -> Value {
    Value::bytes(Vec::new())
}

fn too_busy() -> Error {
    Error::unavailable("the message is being changed by others")
}

/// 128 random bits.
fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::unavailable(error.to_string()))?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

//! What handlers hold: a named part of a store.
//!
//! A keyspace puts its prefix in front of every key on the way down and takes it off on the way
//! up, so that a handler can neither see nor touch anything outside of it.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::key::{Key, KeyRange};
use crate::limits::{BOUND_BYTES_MAX, KEY_BYTES_MAX};
use crate::read::{RangeRead, RangeResult, Snapshot, SnapshotRead};
use crate::store::{ChangeStream, PageStream, Store, WatchStream};
use crate::write::{AtomicWrite, Check, Mutation, Outcome};

/// Longest name of a keyspace, in bytes.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 63;

/// Name of a keyspace: 1 to 63 of `a-z 0-9 - _`, beginning with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceName(Arc<str>);

impl KeyspaceName {
    /// The keyspace of tokens, users' secrets and settings. [`FromStr`] never makes this name, so
    /// nothing that comes from outside can reach it.
    pub fn system() -> KeyspaceName {
        KeyspaceName("_system".into())
    }

    /// The keyspace of the queues of all databases. No dialect reads it as data, and [`FromStr`]
    /// never makes this name.
    pub fn queues() -> KeyspaceName {
        KeyspaceName("_queues".into())
    }

    /// The keyspace of the Deno, REST and accounts dialects.
    pub fn default_database() -> KeyspaceName {
        KeyspaceName("default".into())
    }

    /// A name known when this program was written.
    ///
    /// # Panics
    ///
    /// If it is not a valid name.
    pub fn from_static(name: &'static str) -> KeyspaceName {
        name.parse().expect("names in the source are valid")
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not a valid name of a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 63 characters of a-z 0-9 - _ and begins with a letter or digit")]
pub struct ParseKeyspaceNameError;

impl FromStr for KeyspaceName {
    type Err = ParseKeyspaceNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let fits = (1..=KEYSPACE_NAME_BYTES_MAX).contains(&name.len());
        let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        let first = name.as_bytes().first().copied().unwrap_or_default();
        if fits && name.bytes().all(known) && first.is_ascii_alphanumeric() {
            Ok(KeyspaceName(name.into()))
        } else {
            Err(ParseKeyspaceNameError)
        }
    }
}

impl fmt::Display for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A named part of a store. Cloning is cheap.
#[derive(Clone)]
pub struct Keyspace {
    store: Arc<dyn Store>,
    name: KeyspaceName,
    /// The name as an encoded string part.
    prefix: Bytes,
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Keyspace {
    /// The part of `store` called `name`. It needs no creation.
    pub fn new(store: Arc<dyn Store>, name: KeyspaceName) -> Keyspace {
        let prefix = Key::from_strings([name.as_str()]).into_bytes();
        Keyspace {
            store,
            name,
            prefix,
        }
    }

    /// The name.
    pub fn name(&self) -> &KeyspaceName {
        &self.name
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The key as the store has it.
    pub fn stored_key(&self, key: &Key) -> Key {
        let mut out = Vec::with_capacity(self.prefix.len() + key.len());
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(key.as_bytes());
        Key::new(out)
    }

    /// The range as the store has it. Bounds cannot leave the keyspace, whatever their bytes.
    fn stored_range(&self, range: &KeyRange) -> KeyRange {
        KeyRange {
            start: self.stored_key(&range.start),
            end: self.stored_key(&range.end),
        }
    }

    fn strip(&self, mut entry: Entry) -> Entry {
        entry.key = entry.key.strip(self.prefix.len());
        entry
    }

    /// One entry.
    ///
    /// # Errors
    ///
    /// `TooLarge` for a key over [`BOUND_BYTES_MAX`], else as [`Store::get`].
    pub async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        check_len(key, BOUND_BYTES_MAX)?;
        let key = self.stored_key(key);
        let entry = match self.store.at_hand(&key) {
            Some(entry) => Some(entry),
            None => self.store.get(&key).await?,
        };
        Ok(entry.map(|entry| self.strip(entry)))
    }

    /// Several ranges from one snapshot.
    ///
    /// # Errors
    ///
    /// `TooLarge` for a bound over [`BOUND_BYTES_MAX`], else as [`Store::read`].
    pub async fn read(&self, mut read: SnapshotRead) -> Result<Snapshot> {
        for range in &mut read.ranges {
            check_len(&range.range.start, BOUND_BYTES_MAX)?;
            check_len(&range.range.end, BOUND_BYTES_MAX)?;
            range.range = self.stored_range(&range.range);
        }
        // One entry is a snapshot by itself.
        if let [only] = read.ranges.as_slice()
            && only.is_settled_by_start()
            && let Some(entry) = self.store.at_hand(&only.range.start)
        {
            let entries = vec![self.strip(entry)];
            let found = RangeResult {
                entries,
                cut_by_bytes: false,
            };
            return Ok(Snapshot {
                ranges: vec![found],
            });
        }
        let mut snapshot = self.store.read(read).await?;
        for range in &mut snapshot.ranges {
            for entry in &mut range.entries {
                entry.key = entry.key.strip(self.prefix.len());
            }
        }
        Ok(snapshot)
    }

    /// One page of a list; ask again with its cursor for the next one.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::read`].
    pub async fn list(&self, list: List) -> Result<ListPage> {
        let mut range = list.range;
        match &list.cursor {
            None => {}
            Some(Cursor(last)) if list.reverse => range.end = last.clone().min(range.end),
            Some(Cursor(last)) => range.start = last.successor().max(range.start),
        }
        // One more than asked for tells whether there is a next page.
        let mut read = RangeRead::new(range, list.limit.saturating_add(1));
        read.reverse = list.reverse;
        let mut found = self.read(SnapshotRead::range(read)).await?.ranges;
        let found = found.pop().unwrap_or_default();
        let mut entries = found.entries;
        let has_more = found.cut_by_bytes || entries.len() > list.limit;
        entries.truncate(list.limit);
        let cursor = entries
            .last()
            .filter(|_| has_more)
            .map(|last| Cursor(last.key.clone()));
        Ok(ListPage { entries, cursor })
    }

    /// All entries of a range in pages; see [`Store::scan`].
    pub fn scan(&self, range: &KeyRange, reverse: bool) -> PageStream {
        self.stripped(self.store.scan(self.stored_range(range), reverse))
    }

    /// All entries of a range in pages of one snapshot; see [`Store::scan_snapshot`].
    pub fn scan_snapshot(&self, range: &KeyRange, reverse: bool) -> PageStream {
        self.stripped(self.store.scan_snapshot(self.stored_range(range), reverse))
    }

    /// The same pages without the prefix.
    fn stripped(&self, pages: PageStream) -> PageStream {
        let bytes = self.prefix.len();
        Box::pin(Mapped {
            inner: pages,
            map: move |page: Result<crate::Page>| {
                page.map(|mut page| {
                    for entry in &mut page.entries {
                        entry.key = entry.key.strip(bytes);
                    }
                    page
                })
            },
        })
    }

    /// Applies a write; see [`Store::commit`].
    ///
    /// # Errors
    ///
    /// `TooLarge` for a written key over [`KEY_BYTES_MAX`] or a checked one over
    /// [`BOUND_BYTES_MAX`], else as [`Store::commit`].
    pub async fn commit(&self, write: AtomicWrite) -> Result<Outcome> {
        self.store.commit(self.stored_write(write)?).await
    }

    /// The write as the store takes it. With [`AtomicWrite::and`] several keyspaces of one store
    /// change in one commit.
    ///
    /// # Errors
    ///
    /// `TooLarge` as in [`Keyspace::commit`].
    pub fn stored_write(&self, mut write: AtomicWrite) -> Result<AtomicWrite> {
        for Check { key, .. } in &mut write.checks {
            check_len(key, BOUND_BYTES_MAX)?;
            *key = self.stored_key(key);
        }
        for mutation in &mut write.mutations {
            let key = match mutation {
                Mutation::Set { key, .. }
                | Mutation::SetVersionstamped { prefix: key, .. }
                | Mutation::Delete { key }
                | Mutation::Sum { key, .. }
                | Mutation::Min { key, .. }
                | Mutation::Max { key, .. } => key,
            };
            check_len(key, KEY_BYTES_MAX)?;
            *key = self.stored_key(key);
        }
        Ok(write)
    }

    /// The state of keys now and after changes; see [`Store::watch`].
    pub fn watch(&self, keys: &[Key]) -> WatchStream {
        let stream = self
            .store
            .watch(keys.iter().map(|key| self.stored_key(key)).collect());
        let bytes = self.prefix.len();
        Box::pin(Mapped {
            inner: stream,
            map: move |state: Result<Vec<Option<Entry>>>| {
                state.map(|mut state| {
                    for entry in state.iter_mut().flatten() {
                        entry.key = entry.key.strip(bytes);
                    }
                    state
                })
            },
        })
    }

    /// Which keys of a range change from now on; see [`Store::changes`].
    pub fn changes(&self, range: &KeyRange) -> ChangeStream {
        let stream = self.store.changes(self.stored_range(range));
        let bytes = self.prefix.len();
        Box::pin(Mapped {
            inner: stream,
            map: move |mut changes: crate::Changes| {
                for (key, _) in &mut changes.keys {
                    *key = key.strip(bytes);
                }
                changes
            },
        })
    }
}

fn check_len(key: &Key, limit: usize) -> Result<()> {
    match key.len() {
        actual if actual > limit => Err(Error::TooLarge {
            what: "key",
            actual,
            limit,
        }),
        _ => Ok(()),
    }
}

/// A list of a range, page by page.
#[derive(Clone, Debug)]
pub struct List {
    /// What to list.
    pub range: KeyRange,
    /// Most entries of a page.
    pub limit: usize,
    /// From the highest key to the lowest.
    pub reverse: bool,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// The entries, in the order asked for.
    pub entries: Vec<Entry>,
    /// Where to go on, if there is more.
    pub cursor: Option<Cursor>,
}

/// The last key of a page, as text that clients give back unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub Key);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::BASE64URL_NOPAD.encode(self.0.as_bytes()))
    }
}

/// The text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of an earlier page")]
pub struct ParseCursorError;

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes());
        match key {
            Ok(key) if key.len() <= BOUND_BYTES_MAX => Ok(Cursor(Key::new(key))),
            _ => Err(ParseCursorError),
        }
    }
}

/// A stream with a function applied to each item.
struct Mapped<S, F> {
    inner: S,
    map: F,
}

impl<S, F, T> Stream for Mapped<S, F>
where
    S: Stream<Item = T> + Unpin,
    F: FnMut(T) -> T + Unpin,
{
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let item = std::task::ready!(Pin::new(&mut self.inner).poll_next(cx));
        Poll::Ready(item.map(&mut self.map))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_never_reach_the_system_keyspace() {
        for bad in ["", "_system", "-a", "A", "a/b", "a.b", "é", &"a".repeat(64)] {
            assert_eq!(
                bad.parse::<KeyspaceName>(),
                Err(ParseKeyspaceNameError),
                "{bad}"
            );
        }
        for good in ["a", "default", "0-db_1", &"a".repeat(63)] {
            assert_eq!(good.parse::<KeyspaceName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn cursors_round_trip_and_refuse_other_text() {
        let cursor = Cursor(Key::from_strings(["a", "ü"]));
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert_eq!("a!".parse::<Cursor>(), Err(ParseCursorError));
        assert_eq!("A".repeat(3000).parse::<Cursor>(), Err(ParseCursorError));
    }
}

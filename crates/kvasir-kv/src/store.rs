//! The trait that every backend implements.

use std::num::NonZeroU32;
use std::pin::Pin;

use async_trait::async_trait;
use futures_core::Stream;

use crate::clock::UnixMillis;
use crate::entry::Entry;
use crate::error::Result;
use crate::key::{Key, KeyRange};
use crate::read::{Snapshot, SnapshotRead};
use crate::versionstamp::Versionstamp;
use crate::write::{AtomicWrite, Outcome};

/// An ordered, transactional collection of entries.
///
/// All methods may be called concurrently. Dropping a returned future ends the wait, not the
/// commit: it may still be applied. Entries past their expiry are never returned and count as
/// absent everywhere, swept or not.
///
/// Every sentence here is a case of the conformance kit in `kvasir-testkit`, which runs on all
/// backends against `memory`, the executable specification.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What this backend can do beyond the common contract.
    fn capabilities(&self) -> Capabilities;

    /// One entry. Sees every commit acknowledged before the call.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let snapshot = self.read(SnapshotRead::keys([key.clone()])).await?;
        Ok(snapshot.into_firsts().next().flatten())
    }

    /// What [`Store::get`] would answer now, where that is at hand without waiting. `None` says nothing:
    /// the entry may be there or not.
    fn at_hand(&self, _key: &Key) -> Option<Entry> {
        None
    }

    /// All ranges from one snapshot that holds every commit acknowledged before the call.
    ///
    /// # Errors
    ///
    /// `TooMany` for more than [`crate::limits::RANGES_MAX`] ranges, `Unavailable`, and `Corrupt`
    /// for a record that does not decode, never another value and never "absent".
    async fn read(&self, read: SnapshotRead) -> Result<Snapshot>;

    /// All entries of a range in pages of at most [`crate::limits::PAGE_ENTRIES_MAX`] entries and
    /// about [`crate::limits::PAGE_BYTES_MAX`] bytes. At least one page comes, if need be an empty
    /// one. Pages are read as they are polled, so a slow reader holds up nothing.
    ///
    /// With [`Capabilities::snapshot_scans`] all pages come from one snapshot; otherwise each page
    /// has its own, and an entry written during the scan may be seen or not. Expiry is judged when
    /// a page is read. The stream ends after its first error.
    fn scan(&self, range: KeyRange, reverse: bool) -> PageStream;

    /// As [`Store::scan`], and all pages come from one snapshot, whose versionstamp all of them name.
    /// For backups and exports: a store without [`Capabilities::snapshot_scans`] keeps old rows, a
    /// connection or a copy of the range for as long as the stream lives.
    fn scan_snapshot(&self, range: KeyRange, reverse: bool) -> PageStream;

    /// Applies all mutations, in order, if every check holds; otherwise changes nothing.
    ///
    /// On `Committed` the write is durable and every later read sees it. Versionstamps follow the
    /// order of commits: one that was acknowledged before another began has the smaller stamp.
    ///
    /// # Errors
    ///
    /// `TooLarge`, `TooMany`, `Invalid`, `TypeMismatch`, `ReadOnly`, `NoSpace` and `Unavailable`
    /// leave the store unchanged. After `OutcomeUnknown` the write is whole or absent.
    async fn commit(&self, write: AtomicWrite) -> Result<Outcome>;

    /// Writes entries as they are, versionstamps, expiries and meta included, replacing what their
    /// keys hold. For imports and restores; later commits get versionstamps above all of these. Each
    /// call is atomic and durable when it returns.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    async fn ingest(&self, entries: Vec<Entry>) -> Result<()>;

    /// The state of `keys` now, then again after changes: each item holds one state per key, in
    /// order, all from one snapshot. Intermediate states may be skipped, the last one never.
    /// Expiry is a change. The stream ends when the store is closed.
    fn watch(&self, keys: Vec<Key>) -> WatchStream;

    /// Which keys of a range are changed from now on, in commit order. Commits that happened before
    /// the first poll may be left out, so poll once before reading a base state. A follower that is
    /// too slow gets `missed` instead of an endless queue, and has to read the range again. The
    /// stream ends when the store is closed.
    fn changes(&self, range: KeyRange) -> ChangeStream;

    /// Removes up to `limit` entries that were past their expiry at `now`, in commits that watchers
    /// and followers see, and returns how many.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    async fn sweep(&self, now: UnixMillis, limit: NonZeroU32) -> Result<u32>;

    /// The newest versionstamp that the store has given out or taken in; zero for an empty store.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn versionstamp(&self) -> Result<Versionstamp>;

    /// Whether the store can be read and takes writes.
    ///
    /// # Errors
    ///
    /// `ReadOnly` or `NoSpace` if only writes are refused, `Unavailable` if neither works.
    async fn ping(&self) -> Result<()>;

    /// Finishes commits in flight, ends watches, and releases files and connections. Later calls of
    /// any method fail with `Unavailable`. Closing twice is no error.
    ///
    /// # Errors
    ///
    /// `Unavailable` if files could not be closed cleanly. Nothing acknowledged is lost by that.
    async fn close(&self) -> Result<()>;
}

/// What a backend can do beyond the common contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Name of the backend, as in its URL; a metric label.
    pub backend: &'static str,
    /// Whether commits survive the end of the process.
    pub durable: bool,
    /// Whether other processes may write the same data.
    pub shared: bool,
    /// Whether all pages of a scan come from one snapshot.
    pub snapshot_scans: bool,
}

/// See [`Store::scan`].
pub type PageStream = Pin<Box<dyn Stream<Item = Result<Page>> + Send>>;

/// See [`Store::watch`].
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<Vec<Option<Entry>>>> + Send>>;

/// See [`Store::changes`].
pub type ChangeStream = Pin<Box<dyn Stream<Item = Changes> + Send>>;

/// Some entries of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries, in scan order.
    pub entries: Vec<Entry>,
    /// The newest commit that the page's snapshot holds.
    pub versionstamp: Versionstamp,
}

/// What a follower of [`Store::changes`] is told at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The newest commit in it. Commits are told whole: whoever was told this one was told all
    /// changes of the range up to it.
    pub versionstamp: Versionstamp,
    /// Changed keys of the range, each with whether an entry is there afterwards, in commit order.
    pub keys: Vec<(Key, bool)>,
    /// Whether changes were dropped because the follower was too slow.
    pub missed: bool,
}

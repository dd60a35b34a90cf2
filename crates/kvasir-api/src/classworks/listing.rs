//! Lists of a namespace's keys, in every order and however deep, without reading the namespace.
//!
//! The store has no counts and only one order, so the rows of namespaces that were listed lately
//! are kept in memory ([`Rows`]) and brought up to date at every list: the stream of changes is
//! emptied, and just the keys it names are read. On a backend of one process a change is on the
//! stream before its commit is acknowledged, hence a list is never older than what its client was
//! told is done. It is also the state at one point of history: a row read later than the newest
//! change heard is read again once its own change has been heard.
//!
//! The first list of a namespace has to read it all, which takes a tenth of a second for 100,000
//! keys. [`warm`] therefore reads large namespaces before anybody lists them.
//!
//! Two bounds. All rows together take at most [`CACHE_BYTES_MAX`], least recently listed
//! namespaces going first; and a namespace over [`ROWS_MAX`] keys is not kept, listed by key only,
//! and read through each time. On backends that several processes share, rows are kept only until
//! the next commit to the store, whatever it changed.

mod rows;
#[cfg(test)]
mod tests;
pub(super) mod warm;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use kvasir_kv::{ChangeStream, Changes, Clock, Key, KeyRange, Result, SnapshotRead, Versionstamp};
use tokio::sync::Semaphore;

pub(super) use rows::{Row, Rows};

use super::devices::heard;
use super::layout::Space;
use rows::Change;

/// Most keys of a namespace that is listed in other orders than by key.
pub const ROWS_MAX: usize = 250_000;

/// Most memory, in bytes, of all kept rows. At 150 bytes a row, 400 000 rows.
pub const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most namespaces whose rows are kept. Each follows the store, and every commit looks at every
/// follower.
pub const NAMESPACES_MAX: usize = 256;

/// How many namespaces are read through at the same time.
const SCANS_MAX: usize = 4;

/// How many keys are read at once to bring rows up to date. Their values come along, at up to
/// 1 MiB each.
const KEYS_AT_ONCE: usize = 64;

/// How often keys are read again because they had changed once more. Only a key that is written
/// without pause needs a second time.
const SETTLE_TRIES: usize = 64;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    rows_max: usize,
    cache_bytes_max: usize,
    namespaces_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            rows_max: ROWS_MAX,
            cache_bytes_max: CACHE_BYTES_MAX,
            namespaces_max: NAMESPACES_MAX,
        }
    }
}

/// See the module.
pub(super) struct Listings {
    clock: Arc<dyn Clock>,
    bounds: Bounds,
    kept: Mutex<HashMap<Key, Kept>>,
    /// Counts uses. A place that was never listed, only warmed, has been used at 0.
    uses: AtomicU64,
    scans: Semaphore,
    /// How many namespaces were read through.
    read_through: AtomicU64,
}

/// The place of one namespace.
struct Kept {
    listing: Arc<tokio::sync::Mutex<Option<Listing>>>,
    cost_bytes: usize,
    last_use: u64,
}

/// The rows of one namespace, and what keeps them right.
struct Listing {
    rows: Rows,
    validity: Validity,
}

enum Validity {
    /// Brought up to date by these changes.
    Followed(ChangeStream),
    /// Right as long as the store stands at this versionstamp.
    At(Versionstamp),
}

/// A namespace has more keys than [`ROWS_MAX`].
#[derive(Debug)]
pub(super) struct TooManyKeys;

impl Listings {
    pub(super) fn new(clock: Arc<dyn Clock>, bounds: Bounds) -> Listings {
        Listings {
            clock,
            bounds,
            kept: Mutex::default(),
            uses: AtomicU64::new(1),
            scans: Semaphore::new(SCANS_MAX),
            read_through: AtomicU64::new(0),
        }
    }

    /// Calls `show` with the present rows of a namespace.
    pub(super) async fn with_rows<T>(
        &self,
        space: &Space,
        show: impl FnOnce(&mut Rows) -> T,
    ) -> Result<std::result::Result<T, TooManyKeys>> {
        let used = self.uses.fetch_add(1, Ordering::Relaxed);
        self.with_rows_at(space, used, show).await
    }

    /// Reads or brings up to date the rows of a namespace, so that the next list is cheap in every
    /// order. Does not count as a use.
    pub(super) async fn warm(&self, space: &Space) -> Result<()> {
        // A namespace that is too large to be kept stays cold.
        let _too_large = self.with_rows_at(space, 0, Rows::prepare).await?;
        Ok(())
    }

    /// Whether there is room for another namespace without giving up one.
    pub(super) fn has_room(&self) -> bool {
        let kept = self.kept();
        let total: usize = kept.values().map(|place| place.cost_bytes).sum();
        total < self.bounds.cache_bytes_max / 2 && kept.len() < self.bounds.namespaces_max / 2
    }

    /// Whether the rows of a namespace are kept, up to date or not.
    pub(super) fn keeps(&self, space: &Space) -> bool {
        let id = space.keyspace.stored_key(&space.prefix);
        self.kept().contains_key(&id)
    }

    async fn with_rows_at<T>(
        &self,
        space: &Space,
        used: u64,
        show: impl FnOnce(&mut Rows) -> T,
    ) -> Result<std::result::Result<T, TooManyKeys>> {
        // The stored key is unique over all keyspaces.
        let id = space.keyspace.stored_key(&space.prefix);
        let listing = self.place_of(&id, used);
        let mut listing = listing.lock().await;
        let known = match listing.take() {
            Some(known) => known.brought_up_to_date(space).await?,
            None => None,
        };
        let known = match known {
            Some(known) => known,
            None => match self.read_through(space).await? {
                Some(read) => read,
                None => {
                    self.forget(&id);
                    return Ok(Err(TooManyKeys));
                }
            },
        };
        let known = listing.insert(known);
        known.rows.expire(self.clock.now());
        let shown = show(&mut known.rows);
        let cost_bytes = known.rows.cost_bytes();
        drop(listing);
        self.account(&id, cost_bytes);
        Ok(Ok(shown))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Kept>> {
        self.kept.lock().expect("no panic while held")
    }

    fn place_of(&self, id: &Key, used: u64) -> Arc<tokio::sync::Mutex<Option<Listing>>> {
        let mut kept = self.kept();
        let place = kept.entry(id.clone()).or_insert_with(|| Kept {
            listing: Arc::default(),
            cost_bytes: 0,
            last_use: used,
        });
        place.last_use = place.last_use.max(used);
        Arc::clone(&place.listing)
    }

    fn forget(&self, id: &Key) {
        self.kept().remove(id);
    }

    /// Notes what a namespace costs, and gives up others until all fit.
    fn account(&self, id: &Key, cost_bytes: usize) {
        let mut kept = self.kept();
        if let Some(place) = kept.get_mut(id) {
            place.cost_bytes = cost_bytes;
        }
        let mut total: usize = kept.values().map(|place| place.cost_bytes).sum();
        while total > self.bounds.cache_bytes_max || kept.len() > self.bounds.namespaces_max {
            let oldest = kept.iter().min_by_key(|(_, place)| place.last_use);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
                return;
            };
            total -= kept.remove(&oldest).map_or(0, |place| place.cost_bytes);
        }
    }

    /// Reads all rows of a namespace; `None` if there are too many.
    async fn read_through(&self, space: &Space) -> Result<Option<Listing>> {
        let store = space.keyspace.store();
        let range = KeyRange::below(&space.prefix);
        let _turn = self.scans.acquire().await;
        self.read_through.fetch_add(1, Ordering::Relaxed);
        let mut validity = if store.capabilities().shared {
            Validity::At(store.versionstamp().await?)
        } else {
            Validity::Followed(space.keyspace.changes(&range))
        };
        // From the first look on, no change is missed.
        if let Validity::Followed(changes) = &mut validity
            && heard(changes).is_none()
        {
            validity = Validity::At(store.versionstamp().await?);
        }
        let mut rows = Vec::new();
        let mut pages = space.keyspace.scan(&range, false);
        while let Some(page) = pages.next().await {
            for entry in page?.entries {
                if let Some(key) = space.name_of(&entry.key) {
                    rows.push(Row::new(key, &entry));
                }
            }
            if rows.len() > self.bounds.rows_max {
                return Ok(None);
            }
        }
        let listing = Listing {
            rows: Rows::from_sorted(rows),
            validity,
        };
        if store.capabilities().snapshot_scans {
            return Ok(Some(listing));
        }
        // Pages of several snapshots become one state by what changed meanwhile.
        Ok(match listing.validity {
            Validity::Followed(_) => listing.brought_up_to_date(space).await?,
            Validity::At(_) => Some(listing),
        })
    }

    /// Some rows by key, and how many there are in all, for a namespace of any size.
    pub(super) async fn page_by_key(
        &self,
        space: &Space,
        descending: bool,
        skip: u64,
        limit: usize,
    ) -> Result<(Vec<Row>, usize)> {
        let _turn = self.scans.acquire().await;
        let range = KeyRange::below(&space.prefix);
        let mut pages = space.keyspace.scan(&range, descending);
        let (mut rows, mut total) = (Vec::new(), 0_usize);
        while let Some(page) = pages.next().await {
            for entry in page?.entries {
                if let Some(key) = space.name_of(&entry.key) {
                    if total as u64 >= skip && rows.len() < limit {
                        rows.push(Row::new(key, &entry));
                    }
                    total += 1;
                }
            }
        }
        Ok((rows, total))
    }
}

impl Listing {
    /// The rows with all changes that were acknowledged before the call; `None` if that takes
    /// reading everything.
    async fn brought_up_to_date(mut self, space: &Space) -> Result<Option<Listing>> {
        let changes = match &mut self.validity {
            Validity::At(versionstamp) => {
                let now = space.keyspace.store().versionstamp().await?;
                return Ok((now == *versionstamp).then_some(self));
            }
            Validity::Followed(changes) => changes,
        };
        let mut known = News::default();
        let mut unsettled = HashSet::new();
        let mut settled = HashMap::new();
        for _ in 0..SETTLE_TRIES {
            let Some(news) = heard(changes).filter(|news| !news.missed) else {
                return Ok(None);
            };
            unsettled.extend(known.take_in(news));
            if unsettled.is_empty() {
                break;
            }
            unsettled = known.read(space, unsettled, &mut settled).await?;
            if !unsettled.is_empty() {
                // Its change is being published this moment.
                tokio::task::yield_now().await;
            }
        }
        self.rows.apply(settled.into_values().collect());
        Ok(Some(self))
    }
}

/// What has been heard while bringing rows up to date.
#[derive(Default)]
struct News {
    /// The newest commit that was heard of.
    versionstamp: Versionstamp,
    /// Whether an entry is there after it.
    presence: HashMap<Key, bool>,
}

impl News {
    /// Takes in what was heard, and names the keys in it.
    fn take_in(&mut self, heard: Changes) -> Vec<Key> {
        self.versionstamp = self.versionstamp.max(heard.versionstamp);
        let keys = heard.keys.iter().map(|(key, _)| key.clone()).collect();
        self.presence.extend(heard.keys);
        keys
    }

    /// Reads the present state of `keys` into `settled`. Returns those whose state is newer than
    /// the news; their own change is still to be heard.
    async fn read(
        &self,
        space: &Space,
        keys: HashSet<Key>,
        settled: &mut HashMap<Key, Change>,
    ) -> Result<HashSet<Key>> {
        let mut newer = HashSet::new();
        let named: Vec<(Key, String)> = keys
            .into_iter()
            .filter_map(|key| space.name_of(&key).map(|name| (key, name)))
            .collect();
        for some in named.chunks(KEYS_AT_ONCE) {
            let read = SnapshotRead::keys(some.iter().map(|(key, _)| key.clone()));
            let found = space.keyspace.read(read).await?;
            for ((key, name), entry) in some.iter().zip(found.into_firsts()) {
                let was_there = self.presence.get(key).copied().unwrap_or_default();
                let is_as_heard = match &entry {
                    Some(entry) => was_there && entry.versionstamp <= self.versionstamp,
                    None => !was_there,
                };
                if !is_as_heard {
                    newer.insert(key.clone());
                }
                let change = match entry {
                    Some(entry) => Change::Set(Row::new(name.clone(), &entry)),
                    None => Change::Gone(name.clone()),
                };
                settled.insert(key.clone(), change);
            }
        }
        Ok(newer)
    }
}

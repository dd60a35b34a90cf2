//! Decoded hot entries in front of the engine, in step with every commit.
//!
//! Only the committer changes what is true; readers only remember what they read. A reader must not
//! remember a state that a commit replaced while it was reading. So each key belongs to one of many
//! stripes with a version that every commit to one of its keys raises. A reader takes the version
//! before it reads, and what it read is remembered only if the version is still the same. A hit
//! touches no stripe.
//!
//! Publishing a group goes in three steps: forget its keys, let reads see the new state, remember
//! the new entries. In between, readers of these keys ask the engine, so nobody sees one key of a
//! commit new and then another one old.
//!
//! Absent keys are not remembered: the engine's filters answer those quickly, and clients could
//! fill the cache with nothing.

use std::sync::{Mutex, MutexGuard};

use kvasir_kv::{Change, Entry, Key};
use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};

/// Stripes. More make false conflicts between readers and commits rarer; each takes 24 bytes.
const STRIPES: usize = 4096;

/// Memory of an entry beside its own bytes, in bytes: two shared buffers, the slot, the hash table.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// Entries above this part of the cache are not remembered.
const LARGEST_PART: usize = 64;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct HotCache {
    entries: Cache<Key, Entry, Weigh>,
    stripes: Box<[Mutex<Stripe>]>,
    entry_bytes_max: usize,
}

#[derive(Clone, Debug)]
struct Weigh;

impl Weighter<Key, Entry> for Weigh {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        weight(entry) as u64
    }
}

fn weight(entry: &Entry) -> usize {
    entry.cost_bytes() + ENTRY_OVERHEAD_BYTES
}

#[derive(Debug, Default)]
struct Stripe {
    version: u64,
    /// Keys of this stripe in a group that is being published.
    in_flux: u32,
}

/// The right to remember what is read from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    version: u64,
}

impl HotCache {
    /// A cache of about `bytes` bytes. 0 remembers nothing.
    pub(crate) fn new(bytes: usize) -> HotCache {
        let options = OptionsBuilder::new()
            .weight_capacity(bytes as u64)
            .estimated_items_capacity(bytes / 512)
            .build()
            .expect("both required options are given");
        HotCache {
            entries: Cache::with_options(options, Weigh, Default::default(), Default::default()),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            entry_bytes_max: bytes / LARGEST_PART,
        }
    }

    /// The remembered entry of `key`, perhaps expired.
    pub(crate) fn get(&self, key: &Key) -> Option<Entry> {
        self.entries.get(key)
    }

    /// As `get`, without counting as a use.
    pub(crate) fn peek(&self, key: &Key) -> Option<Entry> {
        self.entries.peek(key)
    }

    /// Asked before reading `key` from the engine.
    pub(crate) fn ticket(&self, key: &Key) -> Option<Ticket> {
        let stripe = self.stripe(key);
        let version = stripe.version;
        (stripe.in_flux == 0).then_some(Ticket { version })
    }

    /// Remembers what was read, unless a commit came in between.
    pub(crate) fn remember(&self, ticket: Option<Ticket>, entry: &Entry) {
        let Some(ticket) = ticket else { return };
        if weight(entry) > self.entry_bytes_max {
            return;
        }
        let stripe = self.stripe(&entry.key);
        if stripe.in_flux == 0 && stripe.version == ticket.version {
            self.entries.insert(entry.key.clone(), entry.clone());
        }
    }

    /// Publishes `changes`; `make_visible` lets reads of the engine see them.
    pub(crate) fn publish(&self, changes: &[Change], make_visible: impl FnOnce()) {
        for change in changes {
            let mut stripe = self.stripe(&change.key);
            stripe.version += 1;
            stripe.in_flux += 1;
            self.entries.remove(&change.key);
        }
        make_visible();
        for change in changes {
            let mut stripe = self.stripe(&change.key);
            stripe.in_flux -= 1;
            if let Some(entry) = &change.after
                && weight(entry) <= self.entry_bytes_max
            {
                self.entries.insert(change.key.clone(), entry.clone());
            }
        }
    }

    fn stripe(&self, key: &Key) -> MutexGuard<'_, Stripe> {
        let hash = xxhash_rust::xxh3::xxh3_64(key.as_bytes());
        let place = hash as usize % STRIPES;
        self.stripes[place]
            .lock()
            .expect("no panic while a stripe is held")
    }
}

#[cfg(test)]
mod tests {
    use kvasir_kv::{Value, Versionstamp};

    use super::*;

    fn entry(stamp: u64, bytes: usize) -> Entry {
        Entry {
            key: Key::from_strings(["a"]),
            value: Value::bytes(vec![0; bytes]),
            versionstamp: Versionstamp::new(stamp, 0),
            expires_at: None,
            meta: None,
        }
    }

    fn change(entry: Option<Entry>) -> Change {
        Change {
            key: Key::from_strings(["a"]),
            after: entry,
        }
    }

    #[test]
    fn what_was_read_before_a_commit_is_not_remembered_after_it() {
        let cache = HotCache::new(1 << 20);
        let old = entry(1, 10);
        let ticket = cache.ticket(&old.key);
        cache.publish(&[change(Some(entry(2, 10)))], || ());
        cache.remember(ticket, &old);
        assert_eq!(cache.get(&old.key), Some(entry(2, 10)));

        let ticket = cache.ticket(&old.key);
        cache.publish(&[change(None)], || ());
        cache.remember(ticket, &entry(2, 10));
        assert_eq!(cache.get(&old.key), None);
    }

    #[test]
    fn nothing_is_remembered_while_a_group_becomes_visible() {
        let cache = HotCache::new(1 << 20);
        let old = entry(1, 10);
        cache.remember(cache.ticket(&old.key), &old);
        cache.publish(&[change(None)], || {
            assert_eq!(cache.get(&old.key), None);
            let ticket = cache.ticket(&old.key);
            cache.remember(ticket, &old);
            assert_eq!(cache.get(&old.key), None);
        });
        assert_eq!(cache.get(&old.key), None);
    }

    #[test]
    fn the_cache_is_bounded_in_bytes_and_large_entries_pass_it_by() {
        let bytes = 1 << 20;
        let cache = HotCache::new(bytes);
        let large = entry(1, bytes / LARGEST_PART);
        cache.publish(&[change(Some(large.clone()))], || ());
        assert_eq!(cache.get(&large.key), None);
        for number in 0..20_000_u32 {
            let mut entry = entry(1, 100);
            entry.key = Key::new(number.to_be_bytes().to_vec());
            cache.remember(cache.ticket(&entry.key), &entry);
        }
        assert!(cache.entries.weight() <= bytes as u64);
        assert!(cache.entries.weight() > bytes as u64 / 2);
    }
}

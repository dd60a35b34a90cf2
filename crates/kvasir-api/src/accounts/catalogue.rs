//! The product list and its cache.
//!
//! The cache listens to the store and not to handlers, so a write to products through any dialect
//! invalidates it. The list of changes is looked at on every request, and a commit is in it before
//! the writer has its answer: whoever was told that a product is written never gets the old list.

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use kvasir_kv::{AtomicWrite, ChangeStream, Entry, Keyspace, Mutation, Outcome, UnixMillis};

use super::records::{self, Found, Product};
use crate::context::Ctx;
use crate::error::ApiError;

/// How long a list is served from the cache, in milliseconds. The article's 30 seconds.
const FRESH_MS: i64 = 30_000;

/// Largest list that is cached, in bytes. Larger ones are streamed from the store each time.
const CACHED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Pause before listening again when the store ended the list of changes, in milliseconds.
const RELISTEN_MS: i64 = 1_000;

/// The products of one database.
pub(super) struct Catalogue {
    keyspace: Keyspace,
    clock: std::sync::Arc<dyn kvasir_kv::Clock>,
    cache: Mutex<Cache>,
}

struct Cache {
    changes: ChangeStream,
    /// Whether the list of changes is being followed; without it nothing may be cached.
    is_listening: bool,
    /// Grows with every change, so that a list read meanwhile is not cached.
    generation: u64,
    list: Option<(Bytes, UnixMillis)>,
}

impl Cache {
    /// Takes in what has changed since the last look.
    fn catch_up(&mut self) {
        while let Some(change) = self.changes.next().now_or_never() {
            self.list = None;
            self.generation += 1;
            if change.is_none() {
                self.is_listening = false;
                return;
            }
        }
    }
}

/// The list, as `GET /products` sends it.
pub(super) enum List {
    /// From the cache.
    Cached(Bytes),
    /// Read just now.
    Fresh(Bytes),
    /// Too large for the cache, to be sent while it is read again.
    Large(BoxStream<'static, Result<Vec<Product>, ApiError>>),
}

impl Catalogue {
    pub(super) fn new(ctx: &Ctx) -> Catalogue {
        let keyspace = ctx.keyspace.clone();
        let changes = keyspace.changes(&records::products());
        let cache = Cache {
            changes,
            is_listening: true,
            generation: 0,
            list: None,
        };
        Catalogue {
            keyspace,
            clock: std::sync::Arc::clone(&ctx.clock),
            cache: Mutex::new(cache),
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().expect("no panic while the cache is held")
    }

    /// Keeps the queue of changes short between requests, and listens again after it ended.
    pub(super) async fn follow(&self) {
        loop {
            let next = UnixMillis(self.clock.now().0 + RELISTEN_MS);
            self.clock.sleep_until(next).await;
            let mut cache = self.cache();
            cache.catch_up();
            if !cache.is_listening {
                cache.changes = self.keyspace.changes(&records::products());
                cache.is_listening = true;
            }
        }
    }

    /// All products of the right shape, as a JSON array.
    pub(super) async fn list(&self) -> Result<List, ApiError> {
        let now = self.clock.now();
        let generation = {
            let mut cache = self.cache();
            cache.catch_up();
            match &cache.list {
                Some((list, until)) if now < *until => return Ok(List::Cached(list.clone())),
                _ => cache.generation,
            }
        };
        let mut pages = self.pages();
        let mut products = Vec::new();
        let mut bytes = 0;
        while let Some(page) = pages.next().await {
            let page = page?;
            bytes += page.iter().map(cost_bytes).sum::<usize>();
            if bytes > CACHED_BYTES_MAX {
                return Ok(List::Large(self.pages()));
            }
            products.extend(page);
        }
        let list = serde_json::to_vec(&products).expect("products are plain data");
        let list = Bytes::from(list);
        let mut cache = self.cache();
        cache.catch_up();
        if cache.is_listening && cache.generation == generation {
            cache.list = Some((list.clone(), UnixMillis(now.0 + FRESH_MS)));
        }
        Ok(List::Fresh(list))
    }

    fn pages(&self) -> BoxStream<'static, Result<Vec<Product>, ApiError>> {
        let pages = self.keyspace.scan(&records::products(), false);
        pages
            .map(|page| Ok(page?.entries.iter().filter_map(product).collect()))
            .boxed()
    }

    /// One product; an entry of another shape counts as none.
    pub(super) async fn get(&self, id: &str) -> Result<Option<Found<Product>>, ApiError> {
        let entry = self.keyspace.get(&records::product_key(id)).await?;
        Ok(entry
            .filter(|entry| product(entry).is_some())
            .and_then(|entry| records::found(Some(entry))))
    }

    /// Makes a product; `false` if the id is taken.
    pub(super) async fn create(&self, product: &Product) -> Result<bool, ApiError> {
        let key = records::product_key(&product.id);
        let write = AtomicWrite::new()
            .check_absent(key.clone())
            .push(Mutation::set(key, records::stored(product)));
        Ok(matches!(
            self.keyspace.commit(write).await?,
            Outcome::Committed(_)
        ))
    }

    /// Replaces a product that exists; `false` if it does not.
    pub(super) async fn replace(&self, product: &Product) -> Result<bool, ApiError> {
        let key = records::product_key(&product.id);
        loop {
            let Some(present) = self.keyspace.get(&key).await? else {
                return Ok(false);
            };
            let write = AtomicWrite::new()
                .check(key.clone(), present.versionstamp)
                .push(Mutation::set(key.clone(), records::stored(product)));
            if let Outcome::Committed(_) = self.keyspace.commit(write).await? {
                return Ok(true);
            }
        }
    }

    /// Removes a product; `false` if there was none.
    pub(super) async fn delete(&self, id: &str) -> Result<bool, ApiError> {
        let write = AtomicWrite::new()
            .push(Mutation::delete(records::product_key(id)))
            .reporting_existed();
        let outcome = self.keyspace.commit(write).await?;
        Ok(outcome
            .committed()
            .is_some_and(|committed| committed.existed == [true]))
    }
}

/// The product in an entry, if it is one and lies under its own id.
fn product(entry: &Entry) -> Option<Product> {
    let id = records::last_string(&entry.key, 2)?;
    records::read::<Product>(entry)
        .filter(|product| product.id == id && product.price <= records::INTEGER_MAX)
}

/// About how many bytes a product takes in the list.
fn cost_bytes(product: &Product) -> usize {
    /// Names of the members, punctuation, digits of the price.
    const FRAME_BYTES: usize = 64;
    let category = product.category.as_ref().map_or(0, String::len);
    FRAME_BYTES + product.id.len() + product.name.len() + category
}

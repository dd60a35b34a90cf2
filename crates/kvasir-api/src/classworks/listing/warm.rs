//! Reads large namespaces before anybody lists them: at start, and while they are being written.
//!
//! Handlers tell of their writes; a namespace that was written often enough is read through, or
//! brought up to date if its rows are kept already. Writes of other dialects are not told of: after
//! many of them the next list is slow once, and right.
//!
//! Nothing is warmed on backends that several processes share, since any commit makes rows stale
//! there.

use std::collections::HashMap;

use kvasir_kv::{Key, KeyRange, Keyspace, Part, RangeRead, Result, SnapshotRead};
use tokio::sync::{Mutex, mpsc};

use super::super::layout::Space;
use super::Listings;

/// Writes to a namespace after which its rows are brought up to date. Half of what a follower of the
/// store may fall behind before it has to read everything again.
pub(in super::super) const WRITES_MIN: usize = 2_048;

/// A namespace with fewer keys is quick to read when it is listed.
pub(super) const KEYS_MIN: usize = 1_000;

/// Most namespaces that are looked at when the server starts.
const LOOKED_AT_MAX: usize = 10_000;

/// Most namespaces whose writes are counted; beyond it counting begins anew.
const COUNTED_MAX: usize = 4_096;

/// Most writes that wait to be counted; further ones are not.
const NEWS_MAX: usize = 1_024;

/// Where handlers tell of writes, and what has been heard of them.
pub(in super::super) struct Warmth {
    news: mpsc::Sender<(Key, usize)>,
    /// Taken by the one task that keeps the rows warm.
    heard: Mutex<Option<mpsc::Receiver<(Key, usize)>>>,
}

impl Warmth {
    pub(in super::super) fn new() -> Warmth {
        let (news, heard) = mpsc::channel(NEWS_MAX);
        Warmth {
            news,
            heard: Mutex::new(Some(heard)),
        }
    }

    /// Tells that keys of a namespace were written. Never waits.
    pub(in super::super) fn wrote(&self, space: &Space, keys: usize) {
        // Who misses some of many warms a moment later.
        let _ = self.news.try_send((space.prefix.clone(), keys));
    }

    /// Keeps the rows of large namespaces of `keyspace` warm, for ever. Does so once; a second call
    /// returns at once.
    pub(in super::super) async fn keep(&self, listings: &Listings, keyspace: &Keyspace) {
        if keyspace.store().capabilities().shared {
            return;
        }
        let Some(mut heard) = self.heard.lock().await.take() else {
            return;
        };
        if let Err(error) = warm_stored(listings, keyspace).await {
            tracing::debug!("large namespaces were not read at start: {error}");
        }
        let mut written: HashMap<Key, usize> = HashMap::new();
        while let Some((prefix, keys)) = heard.recv().await {
            let so_far = written.entry(prefix.clone()).or_default();
            *so_far += keys;
            if *so_far >= WRITES_MIN {
                written.remove(&prefix);
                let space = Space {
                    keyspace: keyspace.clone(),
                    prefix,
                };
                let is_wanted = listings.keeps(&space) || listings.has_room();
                if is_wanted && let Err(error) = listings.warm(&space).await {
                    tracing::debug!("a large namespace was not read ahead: {error}");
                }
            }
            if written.len() > COUNTED_MAX {
                written.clear();
            }
        }
    }
}

/// Reads the namespaces that hold many keys. Of the others only the first keys are looked at.
async fn warm_stored(listings: &Listings, keyspace: &Keyspace) -> Result<()> {
    let mut rest = KeyRange::starting_with(&Key::default());
    for _ in 0..LOOKED_AT_MAX {
        if !listings.has_room() {
            return Ok(());
        }
        let first = SnapshotRead::range(RangeRead::new(rest.clone(), 1));
        let first = keyspace.read(first).await?.into_firsts().next().flatten();
        let Some(entry) = first else {
            return Ok(());
        };
        // What has no text in front was put there by another dialect.
        let Some(Part::String(namespace)) =
            entry.key.parts().unwrap_or_default().into_iter().next()
        else {
            rest.start = entry.key.successor();
            continue;
        };
        let space = Space {
            keyspace: keyspace.clone(),
            prefix: Key::from_strings([&namespace]),
        };
        if is_large(&space).await? {
            listings.warm(&space).await?;
        }
        rest.start = KeyRange::starting_with(&space.prefix).end;
    }
    Ok(())
}

async fn is_large(space: &Space) -> Result<bool> {
    use futures_util::StreamExt;

    let mut pages = space.keyspace.scan(&KeyRange::below(&space.prefix), false);
    let mut keys = 0;
    while let Some(page) = pages.next().await {
        keys += page?.entries.len();
        if keys >= KEYS_MIN {
            return Ok(true);
        }
    }
    Ok(false)
}

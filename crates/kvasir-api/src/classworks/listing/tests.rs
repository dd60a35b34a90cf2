//! The bounds of what is kept, at their edges, and what is read ahead.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kvasir_kv::{
    AtomicWrite, Key, Keyspace, KeyspaceName, ManualClock, Mutation, UnixMillis, Value,
};
use kvasir_store::{FatalHook, MemoryStore, OpenOptions};
use kvasir_testkit::{DEADLINE, eventually};

use super::super::layout::Space;
use super::super::wire::SortBy;
use super::warm::{KEYS_MIN, WRITES_MIN, Warmth};
use super::*;

const SMALL: Bounds = Bounds {
    rows_max: 10,
    cache_bytes_max: CACHE_BYTES_MAX,
    namespaces_max: NAMESPACES_MAX,
};

struct Setup {
    keyspace: Keyspace,
    listings: Listings,
}

impl Setup {
    fn new(bounds: Bounds) -> Setup {
        let clock = Arc::new(ManualClock::at(UnixMillis(1_000)));
        let store = MemoryStore::new(&OpenOptions {
            clock: clock.clone(),
            fatal: FatalHook::new(|error| panic!("the memory store failed: {error}")),
            sweeper: false,
            ..OpenOptions::default()
        });
        let name = KeyspaceName::from_static("classworks");
        Setup {
            keyspace: Keyspace::new(Arc::new(store), name),
            listings: Listings::new(clock, bounds),
        }
    }

    fn space(&self, namespace: &str) -> Space {
        Space {
            keyspace: self.keyspace.clone(),
            prefix: Key::from_strings([namespace]),
        }
    }

    async fn fill(&self, namespace: &str, keys: std::ops::Range<usize>) -> Space {
        let space = self.space(namespace);
        let set = |key| Mutation::set(space.key(&format!("k{key:06}")), Value::json("1"));
        let write = AtomicWrite {
            mutations: keys.map(set).collect(),
            ..AtomicWrite::new()
        };
        self.keyspace.commit(write).await.unwrap();
        space
    }

    /// How many rows a list has; `None` if there are too many.
    async fn count(&self, space: &Space) -> Option<usize> {
        let count = self.listings.with_rows(space, |rows| rows.len()).await;
        count.unwrap().ok()
    }

    fn read_through(&self) -> u64 {
        self.listings.read_through.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_namespace_at_the_bound_is_kept_and_a_larger_one_is_listed_by_key_only() {
    let setup = Setup::new(SMALL);
    let space = setup.fill("a", 0..10).await;
    assert_eq!(setup.count(&space).await, Some(10));
    assert_eq!(setup.count(&space).await, Some(10));
    assert_eq!(setup.read_through(), 1, "the second list read nothing");

    setup.fill("b", 0..11).await;
    let large = setup.space("b");
    assert_eq!(setup.count(&large).await, None);
    assert!(!setup.listings.keeps(&large));
    let (page, total) = setup
        .listings
        .page_by_key(&large, true, 9, 10)
        .await
        .unwrap();
    let keys: Vec<_> = page.iter().map(|row| &*row.key).collect();
    assert_eq!((keys, total), (vec!["k000001", "k000000"], 11));
}

#[tokio::test]
async fn a_namespace_that_outgrows_the_bound_while_it_is_kept_is_still_right() {
    let setup = Setup::new(SMALL);
    let space = setup.fill("a", 0..10).await;
    assert_eq!(setup.count(&space).await, Some(10));
    setup.fill("a", 10..12).await;
    assert_eq!(setup.count(&space).await, Some(12));
}

#[tokio::test]
async fn the_namespaces_listed_least_recently_go_first() {
    let setup = Setup::new(Bounds {
        namespaces_max: 2,
        ..Bounds::default()
    });
    let mut spaces = Vec::new();
    for namespace in ["a", "b", "c"] {
        spaces.push(setup.fill(namespace, 0..3).await);
    }
    for place in [0, 1, 0, 2] {
        assert_eq!(setup.count(&spaces[place]).await, Some(3));
    }
    let kept: Vec<_> = spaces
        .iter()
        .map(|space| setup.listings.keeps(space))
        .collect();
    assert_eq!(kept, [true, false, true]);
    assert_eq!(
        setup.count(&spaces[1]).await,
        Some(3),
        "it is read through again"
    );
    assert_eq!(setup.read_through(), 4);
}

#[tokio::test]
async fn all_kept_rows_stay_within_their_bytes() {
    let one = {
        let setup = Setup::new(Bounds::default());
        let space = setup.fill("a", 0..100).await;
        let cost = setup.listings.with_rows(&space, |rows| rows.cost_bytes());
        cost.await.unwrap().unwrap()
    };
    for (bytes, kept_first) in [(2 * one, true), (2 * one - 1, false)] {
        let setup = Setup::new(Bounds {
            cache_bytes_max: bytes,
            ..Bounds::default()
        });
        let first = setup.fill("a", 0..100).await;
        let second = setup.fill("b", 0..100).await;
        setup.count(&first).await;
        setup.count(&second).await;
        assert_eq!(setup.listings.keeps(&first), kept_first);
        assert!(setup.listings.keeps(&second));
    }
}

/// Waits until the task that reads ahead has kept the rows of `space`, and expects that listing it
/// in every order reads nothing through.
async fn lists_without_reading(setup: &Setup, space: &Space, keys: usize) {
    eventually(DEADLINE, "the rows are kept", || {
        let is_kept = {
            let kept = setup.listings.kept();
            kept.values().any(|place| place.cost_bytes > 0)
        };
        std::future::ready(is_kept.then_some(()))
    })
    .await;
    let before = setup.read_through();
    for by in [SortBy::CreatedAt, SortBy::UpdatedAt, SortBy::Key] {
        let skip = keys as u64 - 1;
        let shown = setup.listings.with_rows(space, |rows| {
            let shown = rows.page(by, false, skip, 10).count();
            (rows.len(), shown)
        });
        assert_eq!(shown.await.unwrap().unwrap(), (keys, 1));
    }
    assert_eq!(setup.read_through(), before);
}

#[tokio::test]
async fn large_namespaces_are_read_ahead_at_start_and_small_ones_are_not() {
    let setup = Setup::new(Bounds::default());
    let small = setup.fill("a", 0..KEYS_MIN - 1).await;
    let large = setup.fill("b", 0..KEYS_MIN).await;
    let warmth = Warmth::new();
    tokio::select! {
        () = warmth.keep(&setup.listings, &setup.keyspace) => panic!("it goes on for ever"),
        () = lists_without_reading(&setup, &large, KEYS_MIN) => {}
    }
    assert!(!setup.listings.keeps(&small));
    warmth.keep(&setup.listings, &setup.keyspace).await;
}

#[tokio::test]
async fn a_namespace_that_is_written_often_is_read_ahead_without_being_listed() {
    let setup = Setup::new(Bounds::default());
    let warmth = Warmth::new();
    // Too small to be read at start, but written again and again.
    let keys = KEYS_MIN - 1;
    let space = setup.fill("a", 0..keys).await;
    warmth.wrote(&space, WRITES_MIN - 1);
    warmth.wrote(&space, 1);
    tokio::select! {
        () = warmth.keep(&setup.listings, &setup.keyspace) => panic!("it goes on for ever"),
        () = lists_without_reading(&setup, &space, keys) => {}
    }
}

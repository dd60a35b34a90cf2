//! `watch`.

use futures_util::StreamExt;
use kvasir_kv::{AtomicWrite, Entry, Key, Versionstamp, WatchStream};

use super::{Bed, json, key, later, set};
use crate::wait::{DEADLINE, within};

type State = Vec<Option<Entry>>;

impl Bed {
    fn watch(&self, names: &[&str]) -> WatchStream {
        self.store()
            .watch(names.iter().map(|name| key(name)).collect())
    }
}

async fn next(watch: &mut WatchStream) -> State {
    let item = within(DEADLINE, "a watch shows a change", watch.next()).await;
    item.expect("the watch goes on")
        .expect("the store can be read")
}

/// Items until one shows what is wanted.
async fn until(watch: &mut WatchStream, mut wanted: impl FnMut(&State) -> bool) -> State {
    let search = async {
        loop {
            let state = next(watch).await;
            if wanted(&state) {
                return state;
            }
        }
    };
    within(DEADLINE, "a watch shows the last state", search).await
}

fn shows(state: &State, place: usize, text: &str) -> bool {
    state[place]
        .as_ref()
        .is_some_and(|entry| entry.value == json(text))
}

/// Absent or present, at once.
pub async fn a_watch_begins_with_the_present_state(bed: Bed) {
    bed.set("a", "1").await;
    let state = next(&mut bed.watch(&["a", "b"])).await;
    assert_eq!(state, [bed.entry("a").await, None]);
}

/// One after the other.
pub async fn a_watch_shows_writes_and_deletions(bed: Bed) {
    let mut watch = bed.watch(&["a"]);
    assert_eq!(next(&mut watch).await, [None]);
    let stamp = bed.set("a", "1").await;
    let state = until(&mut watch, |state| state[0].is_some()).await;
    assert_eq!(state[0].as_ref().unwrap().versionstamp, stamp);
    bed.delete("a").await;
    until(&mut watch, |state| state[0].is_none()).await;
    bed.set("a", "2").await;
    until(&mut watch, |state| shows(state, 0, "2")).await;
}

/// One state per key, also where a key is named twice.
pub async fn states_come_in_the_order_of_the_keys(bed: Bed) {
    bed.set("a", "1").await;
    bed.set("b", "2").await;
    let mut watch = bed.watch(&["b", "nobody", "a", "b"]);
    let state = next(&mut watch).await;
    assert_eq!(state.len(), 4);
    assert!(shows(&state, 0, "2") && state[1].is_none());
    assert!(shows(&state, 2, "1") && shows(&state, 3, "2"));
    bed.set("b", "3").await;
    until(&mut watch, |state| {
        shows(state, 0, "3") && shows(state, 3, "3")
    })
    .await;
}

/// With a state of no keys.
pub async fn a_watch_of_no_keys_begins_too(bed: Bed) {
    assert_eq!(next(&mut bed.watch(&[])).await, []);
}

/// Whatever the speed of writers and watcher.
pub async fn the_last_state_is_never_missed(bed: Bed) {
    for round in 0..20 {
        let mut watch = bed.watch(&["a"]);
        let store = bed.store().clone();
        let writer = tokio::spawn(async move {
            for n in 0..=10 {
                let write = AtomicWrite::new().push(set("a", &format!("{}", round * 100 + n)));
                store.commit(write).await.unwrap();
            }
        });
        let last = (round * 100 + 10).to_string();
        let mut stamp = Versionstamp::ZERO;
        until(&mut watch, |state| {
            let seen = state[0].as_ref().map(|entry| entry.versionstamp);
            assert!(
                seen.unwrap_or_default() >= stamp,
                "a watch does not go back"
            );
            stamp = seen.unwrap_or_default();
            shows(state, 0, &last)
        })
        .await;
        writer.await.unwrap();
    }
}

/// A writer keeps them equal, and no item shows them differ.
pub async fn both_keys_of_a_watch_come_from_one_snapshot(bed: Bed) {
    let mut watch = bed.watch(&["a", "z"]);
    let store = bed.store().clone();
    let writer = tokio::spawn(async move {
        for n in 0..=100 {
            let text = n.to_string();
            let write = AtomicWrite::new()
                .push(set("a", &text))
                .push(set("z", &text));
            store.commit(write).await.unwrap();
        }
    });
    until(&mut watch, |state| {
        let values = [0, 1].map(|place| state[place].as_ref().map(|entry| entry.value.clone()));
        assert_eq!(values[0], values[1], "two states in one item");
        shows(state, 0, "100")
    })
    .await;
    writer.await.unwrap();
}

/// At its moment, without a sweep.
pub async fn expiry_is_a_change(bed: Bed) {
    bed.set_until("a", "1", later(1_000)).await;
    bed.set("b", "1").await;
    let mut watch = bed.watch(&["a", "b"]);
    assert!(shows(&next(&mut watch).await, 0, "1"));
    let waiting = tokio::spawn(async move { until(&mut watch, |state| state[0].is_none()).await });
    bed.clock.set(later(1_000));
    let state = within(DEADLINE, "a watch shows an expiry", waiting)
        .await
        .unwrap();
    assert!(shows(&state, 1, "1"));
}

/// Like a commit.
pub async fn an_ingest_is_a_change(bed: Bed) {
    let mut watch = bed.watch(&["a"]);
    assert_eq!(next(&mut watch).await, [None]);
    let entry = Entry {
        key: key("a"),
        value: json("1"),
        versionstamp: Versionstamp::new(7, 0),
        expires_at: None,
        meta: None,
    };
    bed.store().ingest(vec![entry.clone()]).await.unwrap();
    assert_eq!(
        until(&mut watch, |state| state[0].is_some()).await,
        [Some(entry)]
    );
}

/// Two hundred of them.
pub async fn many_watchers_of_one_key_all_hear_of_it(bed: Bed) {
    let mut watches: Vec<_> = (0..200).map(|_| bed.watch(&["a"])).collect();
    for watch in &mut watches {
        assert_eq!(next(watch).await, [None]);
    }
    bed.set("a", "1").await;
    for watch in &mut watches {
        until(watch, |state| shows(state, 0, "1")).await;
    }
}

/// Neither commits nor the other watches.
pub async fn a_watch_that_was_dropped_disturbs_nobody(bed: Bed) {
    let mut kept = bed.watch(&["a"]);
    assert_eq!(next(&mut kept).await, [None]);
    let keys: Vec<Key> = vec![key("a")];
    drop(bed.store().watch(keys.clone()));
    let mut polled = bed.store().watch(keys);
    next(&mut polled).await;
    drop(polled);
    bed.set("a", "1").await;
    until(&mut kept, |state| shows(state, 0, "1")).await;
}

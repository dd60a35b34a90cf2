//! Many clients at once on one store, judged by what they saw.

use std::sync::Arc;

use kvasir_kv::{Clock, Store};

use crate::history::{Recorder, Report, Violation};
use crate::workload::{Client, followed_ranges, watched_keys};

/// How many clients, as the reliability tests of the specification have it.
pub const CLIENTS: u32 = 16;

/// Lets [`CLIENTS`] clients do `operations` each, watched and followed, and judges the history.
///
/// The store has to be empty, and `clock`, by which it goes, to stand still.
///
/// # Errors
///
/// What the history violates.
///
/// # Panics
///
/// If the store fails otherwise than a history can tell.
pub async fn judge(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    seed: u64,
    operations: u32,
) -> Result<Report, Violation> {
    let recorder = Recorder::new(store, clock);
    for keys in watched_keys() {
        recorder.watch(keys).await;
    }
    for range in followed_ranges() {
        recorder.follow(range).await;
    }
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let recorder = recorder.clone();
            tokio::spawn(async move {
                let mut client = Client::new(seed, number);
                for _ in 0..operations {
                    act(&recorder, &mut client).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("clients do not panic");
    }
    recorder.finish().await
}

/// One operation of a client.
async fn act(recorder: &Recorder, client: &mut Client) {
    // Stores that never wait would otherwise run one client after the other.
    tokio::task::yield_now().await;
    if client.writes_next() {
        let write = client.write();
        match recorder.commit(client.number(), write.clone()).await {
            Ok(outcome) => match outcome.committed() {
                Some(committed) => client.committed(&write, committed.versionstamp),
                None => client.conflicted(&write),
            },
            // What it means is in the history.
            Err(_) => client.conflicted(&write),
        }
    } else {
        let snapshot = recorder.read(client.number(), client.read()).await;
        let snapshot = snapshot.expect("the store can be read");
        client.saw(snapshot.ranges.iter().flat_map(|range| &range.entries));
    }
}

//! `close` and `ping`.

use std::num::NonZeroU32;

use futures_util::{FutureExt, StreamExt};
use kvasir_kv::{AtomicWrite, Error, SnapshotRead};

use super::{Bed, everything, key, later, set};
use crate::wait::{DEADLINE, within};

/// Every method; a scan says so in its first item.
pub async fn every_call_after_a_close_is_unavailable(bed: Bed) {
    bed.set("a", "1").await;
    let store = bed.store();
    store.close().await.unwrap();
    let limit = NonZeroU32::new(1).expect("not zero");
    let errors = [
        store.get(&key("a")).map(|r| r.map(drop)).await,
        store
            .read(SnapshotRead::keys([key("a")]))
            .map(|r| r.map(drop))
            .await,
        store
            .commit(AtomicWrite::new().push(set("a", "2")))
            .map(|r| r.map(drop))
            .await,
        store.commit(AtomicWrite::new()).map(|r| r.map(drop)).await,
        store.ingest(Vec::new()).await,
        store.sweep(later(0), limit).map(|r| r.map(drop)).await,
        store.versionstamp().map(|r| r.map(drop)).await,
        store.ping().await,
        store
            .scan(everything(), false)
            .next()
            .map(|page| page.unwrap().map(drop))
            .await,
    ];
    for (call, error) in errors.into_iter().enumerate() {
        assert!(
            matches!(error, Err(Error::Unavailable(_))),
            "call {call}: {error:?}"
        );
    }
    // Streams that begin now end at once.
    let mut watch = store.watch(vec![key("a")]);
    assert!(
        within(DEADLINE, "a watch ends", watch.next())
            .await
            .is_none()
    );
    let mut changes = store.changes(everything());
    assert!(
        within(DEADLINE, "a follower ends", changes.next())
            .await
            .is_none()
    );
}

/// At once or later.
pub async fn closing_twice_is_no_error(bed: Bed) {
    let (first, second) = tokio::join!(bed.store().close(), bed.store().close());
    first.unwrap();
    second.unwrap();
    bed.store().close().await.unwrap();
}

/// Orderly, without an error.
pub async fn watches_and_followers_end_at_a_close(bed: Bed) {
    let mut watch = bed.store().watch(vec![key("a")]);
    assert!(watch.next().await.unwrap().is_ok());
    let mut changes = bed.store().changes(everything());
    let waiting = tokio::spawn(async move {
        while let Some(item) = watch.next().await {
            assert!(item.is_ok(), "{item:?}");
        }
        while changes.next().await.is_some() {}
    });
    bed.store().close().await.unwrap();
    within(DEADLINE, "streams end", waiting).await.unwrap();
}

/// A refused one was not applied, a finished one is there.
pub async fn commits_in_flight_are_finished_or_refused_by_a_close(mut bed: Bed) {
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let store = bed.store().clone();
            tokio::spawn(async move {
                let mut acknowledged = 0;
                loop {
                    // A store that never waits must not keep the others from running.
                    tokio::task::yield_now().await;
                    let write =
                        AtomicWrite::new().push(set(&format!("{n}"), &acknowledged.to_string()));
                    match store.commit(write).await {
                        Ok(_) => acknowledged += 1,
                        Err(Error::Unavailable(_)) => return (n, acknowledged),
                        Err(error) => panic!("{error:?}"),
                    }
                }
            })
        })
        .collect();
    while bed.all().await.len() < 16 {
        tokio::task::yield_now().await;
    }
    if !bed.reopen().await {
        bed.store().close().await.unwrap();
    }
    for task in tasks {
        let (n, acknowledged) = within(DEADLINE, "a commit answers", task).await.unwrap();
        if bed.store().capabilities().durable {
            let text = bed.text(&format!("{n}")).await.unwrap();
            assert_eq!(text.parse::<u64>().unwrap() + 1, acknowledged);
        }
    }
}

/// With success.
pub async fn an_open_store_answers_pings(bed: Bed) {
    bed.store().ping().await.unwrap();
    bed.set("a", "1").await;
    bed.store().ping().await.unwrap();
}

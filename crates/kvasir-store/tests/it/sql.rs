//! The network SQL backend on real servers.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kvasir_kv::*;
use kvasir_store::{OpenOptions, open};
use kvasir_testkit::databases::{Galera, MariaDb, Postgres};

fn key(name: &str) -> Key {
    Key::from_strings([name])
}

async fn smoke(url: &str) {
    let store = open(url, OpenOptions::default()).await.unwrap();
    assert_eq!(store.versionstamp().await.unwrap(), Versionstamp::ZERO);
    let other = match open(url, OpenOptions::default()).await {
        Ok(x) => x,
        Err(e) => {
            println!("{e}");
            Arc::clone(&store)
        }
    };
    let mut watch = other.watch(vec![key("a")]);
    assert_eq!(watch.next().await.unwrap().unwrap(), [None]);
    let write = AtomicWrite::new()
        .check_absent(key("a"))
        .push(Mutation::set(key("a"), Value::json("1")));
    let first = store
        .commit(write.clone())
        .await
        .unwrap()
        .committed()
        .unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(1), watch.next())
        .await
        .unwrap();
    assert_eq!(
        seen.unwrap().unwrap()[0].as_ref().unwrap().versionstamp,
        first.versionstamp
    );
    assert_eq!(
        store.commit(write.clone()).await.unwrap(),
        Outcome::Conflict { failed: vec![0] }
    );
    assert_eq!(
        other.commit(write).await.unwrap(),
        Outcome::Conflict { failed: vec![0] }
    );
    let sum = |n| {
        AtomicWrite::new().push(Mutation::Sum {
            key: key("n"),
            operand: Value::u64(n),
            bounds: Default::default(),
        })
    };
    let mut tasks = Vec::new();
    for store in [&store, &other] {
        for _ in 0..50 {
            let store = Arc::clone(store);
            tasks.push(tokio::spawn(
                async move { store.commit(sum(2)).await.unwrap() },
            ));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(
        other.get(&key("n")).await.unwrap().unwrap().value.as_u64(),
        Some(200)
    );
    let all = KeyRange::starting_with(&Key::default());
    let read = SnapshotRead {
        ranges: vec![
            RangeRead::new(all.clone(), 10),
            RangeRead::key(key("n")),
            RangeRead::new(all.clone(), 1).reversed(),
            RangeRead::key(key("zz")),
            RangeRead::new(all.clone(), 1000),
        ],
    };
    let snapshot = store.read(read).await.unwrap();
    let lens: Vec<_> = snapshot.ranges.iter().map(|r| r.entries.len()).collect();
    assert_eq!(lens, [2, 1, 1, 0, 2]);
    assert_eq!(snapshot.ranges[2].entries[0].key, key("n"));
    let pages: Vec<_> = store.scan(all.clone(), true).collect().await;
    assert_eq!(pages.len(), 1);
    let set = Mutation::set_expiring(key("e"), Value::json("1"), Some(UnixMillis(1)));
    store.commit(AtomicWrite::new().push(set)).await.unwrap();
    assert_eq!(store.get(&key("e")).await.unwrap(), None);
    store.ping().await.unwrap();
    let _ = store
        .sweep(UnixMillis(5), NonZeroU32::new(10).unwrap())
        .await
        .unwrap();
    store.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb() {
    let Some(server) = MariaDb::start().unwrap() else {
        return;
    };
    smoke(&server.fresh_url().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    let Some(server) = Postgres::start().unwrap() else {
        return;
    };
    smoke(&server.fresh_url().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn galera() {
    let Some(server) = Galera::start().unwrap() else {
        return;
    };
    smoke(&server.fresh_url().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    let dir = tempfile::tempdir().unwrap();
    smoke(&format!("sqlite:{}/x.db", dir.path().display())).await;
}

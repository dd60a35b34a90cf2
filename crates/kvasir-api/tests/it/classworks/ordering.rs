//! Many at once: lines 109, 110, 116 and 117.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{NS, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_create_one_key_exactly_one_did() {
    let setup = Arc::new(Setup::new());
    for round in 0..10 {
        let path = format!("/{NS}/k{round}");
        let writers = (0..16).map(|writer| {
            let (setup, path) = (Arc::clone(&setup), path.clone());
            tokio::spawn(async move {
                let answer = setup.post(&path, format!("{{\"writer\":{writer}}}")).await;
                assert_eq!(answer.status, 200);
                answer.json()["created"] == true
            })
        });
        let created = futures_util::future::join_all(writers).await;
        let created = created
            .into_iter()
            .filter(|created| *created.as_ref().unwrap());
        assert_eq!(created.count(), 1, "race_create");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_what_the_next_read_and_list_show() {
    let setup = Arc::new(Setup::new());
    let clients = (0..64).map(|client| {
        let setup = Arc::clone(&setup);
        tokio::spawn(async move {
            let path = format!("/{NS}/k{client:02}");
            for round in 0..5 {
                setup.store(&path, &round.to_string()).await;
                assert_eq!(setup.get(&path).await.text(), round.to_string());
                let list = setup.get(&format!("/{NS}/_keys")).await.json();
                let keys = list["keys"].as_array().unwrap();
                assert!(keys.contains(&json!(format!("k{client:02}"))));
            }
        })
    });
    for client in futures_util::future::join_all(clients).await {
        client.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_one_moment_while_pairs_of_keys_come_and_go() {
    let setup = Arc::new(Setup::new());
    setup.store(&format!("/{NS}/fixed"), "1").await;
    let writer = tokio::spawn({
        let setup = Arc::clone(&setup);
        async move {
            for round in 0..150 {
                // Both keys of a batch always carry the same time.
                let batch = json!({"a": round, "b": round}).to_string();
                let answer = setup.post(&format!("/{NS}/_batchimport"), batch).await;
                assert_eq!(answer.json()["successful"], 2);
                if round % 3 == 0 {
                    setup.delete(&format!("/{NS}")).await;
                    setup.store(&format!("/{NS}/fixed"), "1").await;
                }
                setup.world.clock.advance_ms(1);
            }
        }
    });
    let mut lists = 0;
    while !writer.is_finished() {
        let list = setup.get(&format!("/{NS}?sortBy=updatedAt")).await.json();
        let items = list["items"].as_array().unwrap();
        assert_eq!(list["total_rows"], items.len(), "{list}");
        let written = |key: &str| -> Option<&Value> {
            let item = items.iter().find(|item| item["key"] == key)?;
            Some(&item["metadata"]["updatedAt"])
        };
        assert_eq!(written("a"), written("b"), "{list}");
        lists += 1;
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert!(lists > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_batches_never_interleave() {
    let setup = Arc::new(Setup::new());
    let writers = (0..2).map(|writer| {
        let setup = Arc::clone(&setup);
        tokio::spawn(async move {
            let batch: serde_json::Map<_, _> = (0..50)
                .map(|key| (format!("k{key}"), json!(writer)))
                .collect();
            let batch = Value::from(batch).to_string();
            for _ in 0..20 {
                setup
                    .post(&format!("/{NS}/_batchimport"), batch.clone())
                    .await;
            }
        })
    });
    let writers = futures_util::future::join_all(writers);
    let mut writers = std::pin::pin!(writers);
    let keyspace = setup.world.keyspace("classworks");
    let range = kvasir_kv::KeyRange::below(&kvasir_kv::Key::from_strings([NS]));
    loop {
        let read = kvasir_kv::RangeRead::new(range.clone(), 100);
        let found = keyspace
            .read(kvasir_kv::SnapshotRead::range(read))
            .await
            .unwrap();
        let values = found.ranges[0]
            .entries
            .iter()
            .map(|entry| entry.value.bytes.clone());
        let distinct: std::collections::HashSet<_> = values.collect();
        assert!(distinct.len() <= 1, "{distinct:?}");
        if futures_util::poll!(writers.as_mut()).is_ready() {
            break;
        }
        tokio::task::yield_now().await;
    }
}

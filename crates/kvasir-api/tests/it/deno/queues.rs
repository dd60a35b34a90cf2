//! Queues: checklist 56, and delivery over HTTP.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use kvasir_api::deno::messages as proto;
use kvasir_kv::{Key, KeyRange, Keyspace, KeyspaceName, RangeRead, SnapshotRead};
use kvasir_testkit::{DEADLINE, within};
use serde_json::{Value as Json, json};

use super::client::{Client, V8, check, exchange, key, put, site};
use crate::support::{Answer, START, Streamed, World};

fn enqueueing(enqueue: proto::Enqueue) -> proto::AtomicWrite {
    proto::AtomicWrite {
        enqueues: vec![enqueue],
        ..Default::default()
    }
}

fn message(payload: &'static [u8]) -> proto::Enqueue {
    proto::Enqueue {
        payload: Bytes::from_static(payload),
        deadline_ms: START.0,
        ..Default::default()
    }
}

/// The V8 number 1.
const ONE: &[u8] = &[0xff, 15, b'I', 2];

async fn post(client: &Client, path: &str, body: Json) -> Answer {
    let headers = [("content-type", "application/json")];
    client
        .app
        .send("POST", path, &headers, body.to_string())
        .await
}

async fn pull(client: &Client, body: Json) -> Vec<Json> {
    let answer = post(client, "/queue/default/pull", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["messages"].as_array().unwrap().clone()
}

async fn finish(client: &Client, verb: &str, message: &Json) -> bool {
    let body = json!({"receipts": [message["receipt"]]});
    let answer = post(client, &format!("/queue/default/{verb}"), body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["done"][0].as_bool().unwrap()
}

/// How many entries the queues of all databases hold.
async fn queue_entries(world: &World) -> usize {
    let queues = Keyspace::new(world.store.clone(), KeyspaceName::queues());
    let all = RangeRead::new(KeyRange::starting_with(&Key::default()), 1000);
    let read = queues.read(SnapshotRead::range(all)).await.unwrap();
    read.ranges[0].entries.len()
}

#[tokio::test]
async fn a_message_is_delivered_once_while_it_is_leased_and_gone_when_acknowledged() {
    let client = Client::new().await;
    let output = client.write(enqueueing(message(ONE))).await;
    assert_eq!(output.status, proto::AW_SUCCESS);

    let messages = pull(&client, json!({"max": 10})).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["value"], 1);
    assert_eq!(messages[0]["attempt"], 1);
    assert_eq!(messages[0]["due"], START.0);
    assert_eq!(messages[0]["leasedUntil"], START.0 + 30_000);
    assert_eq!(pull(&client, json!({})).await, [Json::Null; 0]);

    assert!(finish(&client, "ack", &messages[0]).await);
    assert!(!finish(&client, "ack", &messages[0]).await, "only once");
    client.world().clock.advance_ms(3_600_000);
    assert_eq!(pull(&client, json!({})).await, [Json::Null; 0]);
    assert_eq!(queue_entries(client.world()).await, 0);
}

#[tokio::test]
async fn enqueueing_is_part_of_its_atomic_write() {
    let client = Client::new().await;
    let a = key(&["a"]);
    client.apply(vec![put(&a, "1")]).await;
    let write = proto::AtomicWrite {
        checks: vec![check(&a, "")],
        mutations: vec![put(&a, "2")],
        enqueues: vec![message(ONE)],
    };
    let output = client.write(write).await;
    assert_eq!(output.status, proto::AW_CHECK_FAILURE);
    assert_eq!(output.failed_checks, [0]);
    assert_eq!(pull(&client, json!({})).await, [Json::Null; 0]);

    let write = proto::AtomicWrite {
        mutations: vec![put(&a, "3")],
        enqueues: vec![message(ONE), message(b"\xff\x0fI\x04")],
        ..Default::default()
    };
    let output = client.write(write).await;
    assert_eq!(
        client.get(&a).await.unwrap().versionstamp,
        output.versionstamp
    );
    let values: Vec<_> = pull(&client, json!({"max": 10}))
        .await
        .into_iter()
        .map(|message| message["value"].clone())
        .collect();
    assert_eq!(values, [json!(1), json!(2)], "in the order they came");
}

#[tokio::test]
async fn messages_are_no_data_of_the_database() {
    let client = Client::new().await;
    client.write(enqueueing(message(ONE))).await;
    let everything = super::client::range(&Bytes::new(), &[0xff], 1000);
    let output = client.read(vec![everything]).await;
    assert_eq!(output.ranges[0].values, []);
}

#[tokio::test]
async fn a_delayed_message_comes_when_it_is_due() {
    let client = Client::new().await;
    client
        .write(enqueueing(proto::Enqueue {
            deadline_ms: START.0 + 1000,
            ..message(ONE)
        }))
        .await;
    client.world().clock.advance_ms(999);
    assert_eq!(pull(&client, json!({})).await, [Json::Null; 0]);
    client.world().clock.advance_ms(1);
    assert_eq!(pull(&client, json!({})).await.len(), 1);
}

#[tokio::test]
async fn failures_follow_the_backoff_schedule_and_end_under_the_undelivered_keys() {
    let client = Client::new().await;
    let dead = key(&["dead"]);
    client
        .write(enqueueing(proto::Enqueue {
            backoff_schedule: vec![100, 1000],
            keys_if_undelivered: vec![dead.clone(), key(&["dead", "too"])],
            ..message(ONE)
        }))
        .await;
    for (attempt, pause) in [(1, 100), (2, 1000)] {
        let messages = pull(&client, json!({})).await;
        assert_eq!(messages[0]["attempt"], attempt);
        assert!(finish(&client, "fail", &messages[0]).await);
        client.world().clock.advance_ms(pause - 1);
        assert_eq!(pull(&client, json!({})).await, [Json::Null; 0]);
        client.world().clock.advance_ms(1);
    }
    let messages = pull(&client, json!({})).await;
    assert!(finish(&client, "fail", &messages[0]).await);

    let entry = client.get(&dead).await.unwrap();
    assert_eq!((entry.encoding, entry.value.as_ref()), (V8, ONE));
    let other = client.get(&key(&["dead", "too"])).await.unwrap();
    assert_eq!(entry.versionstamp, other.versionstamp, "one commit");
    assert_eq!(queue_entries(client.world()).await, 0);
}

#[tokio::test]
async fn a_lease_that_runs_out_counts_as_a_failure() {
    let client = Client::new().await;
    let dead = key(&["dead"]);
    client
        .write(enqueueing(proto::Enqueue {
            backoff_schedule: vec![500],
            keys_if_undelivered: vec![dead.clone()],
            ..message(ONE)
        }))
        .await;
    let first = pull(&client, json!({"leaseMs": 1000})).await;
    client.world().clock.advance_ms(1000);
    assert_eq!(
        pull(&client, json!({})).await,
        [Json::Null; 0],
        "it waits its step"
    );
    assert!(!finish(&client, "ack", &first[0]).await, "too late");
    client.world().clock.advance_ms(500);
    let second = pull(&client, json!({"leaseMs": 1000})).await;
    assert_eq!(second[0]["id"], first[0]["id"]);
    assert_ne!(second[0]["receipt"], first[0]["receipt"]);
    assert_eq!(second[0]["attempt"], 2);
    client.world().clock.advance_ms(1000);
    assert_eq!(pull(&client, json!({})).await, [Json::Null; 0]);
    assert!(client.get(&dead).await.is_some());
}

#[tokio::test]
async fn a_lease_can_be_extended() {
    let client = Client::new().await;
    client.write(enqueueing(message(ONE))).await;
    let messages = pull(&client, json!({"leaseMs": 1000})).await;
    for _ in 0..5 {
        client.world().clock.advance_ms(900);
        let body = json!({"receipts": [messages[0]["receipt"]], "leaseMs": 1000});
        let answer = post(&client, "/queue/default/extend", body).await;
        assert_eq!(answer.json(), json!({"done": [true]}));
        assert_eq!(pull(&client, json!({})).await, [Json::Null; 0]);
    }
    assert!(finish(&client, "ack", &messages[0]).await);
}

#[tokio::test]
async fn a_waiting_pull_is_answered_as_soon_as_there_is_something() {
    let client = Client::new().await;
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { pull(&client, json!({"waitMs": 60_000})).await })
    };
    // Whether the pull waits already or comes later makes no difference to it.
    tokio::task::yield_now().await;
    client.write(enqueueing(message(ONE))).await;
    assert_eq!(waiting.await.unwrap().len(), 1);
}

#[tokio::test]
async fn parallel_consumers_never_share_a_message() {
    let client = Client::new().await;
    for _ in 0..40 {
        client.write(enqueueing(message(ONE))).await;
    }
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            loop {
                let messages = pull(&client, json!({"max": 3})).await;
                if messages.is_empty() {
                    break ids;
                }
                ids.extend(
                    messages
                        .iter()
                        .map(|m| m["id"].as_str().unwrap().to_owned()),
                );
            }
        }));
    }
    let mut ids = Vec::new();
    for task in tasks {
        ids.extend(task.await.unwrap());
    }
    let delivered = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), delivered, "each once");
    assert_eq!(delivered, 40, "and all");
}

/// Reads a stream all the time, as a connection does, and hands its messages on.
fn listen(mut stream: Streamed) -> tokio::sync::mpsc::UnboundedReceiver<Json> {
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(bytes) = stream.next().await {
            let text = std::str::from_utf8(&bytes).unwrap();
            for line in text.lines().filter(|line| !line.is_empty()) {
                let message = serde_json::from_str::<Json>(line).unwrap();
                if send.send(message).is_err() {
                    return;
                }
            }
        }
    });
    receive
}

#[tokio::test]
async fn a_stream_delivers_as_messages_come_and_holds_no_more_than_asked() {
    let client = Client::new().await;
    let path = "/queue/default/stream?max=2&leaseMs=2000";
    let stream = client.app.open("GET", path, &[], "").await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "application/x-ndjson");
    let mut messages = listen(stream);
    for _ in 0..3 {
        client.write(enqueueing(message(ONE))).await;
    }
    let next = async |messages: &mut tokio::sync::mpsc::UnboundedReceiver<Json>| {
        within(DEADLINE, "a message", messages.recv())
            .await
            .unwrap()
    };
    let (first, second) = (next(&mut messages).await, next(&mut messages).await);
    assert!(
        messages.try_recv().is_err(),
        "no third one while two are out"
    );

    assert!(finish(&client, "ack", &first).await);
    let third = next(&mut messages).await;
    assert_ne!(third["id"], second["id"]);
    assert_eq!(third["attempt"], 1);

    client.world().shutdown.cancel();
    assert_eq!(within(DEADLINE, "the end", messages.recv()).await, None);
}

#[tokio::test]
async fn a_stream_keeps_its_leases_for_as_long_as_it_lasts() {
    let client = Client::new().await;
    client.write(enqueueing(message(ONE))).await;
    let path = "/queue/default/stream?leaseMs=2000";
    let mut messages = listen(client.app.open("GET", path, &[], "").await);
    let first = within(DEADLINE, "a message", messages.recv())
        .await
        .unwrap();

    // Ten times half a lease. The extension shows in the queue's own keys.
    let queues = Keyspace::new(client.world().store.clone(), KeyspaceName::queues());
    for _ in 0..10 {
        let range = KeyRange::below(&Key::from_strings(["leased"]));
        let mut changes = queues.changes(&range);
        let _ = changes.next().now_or_never();
        client.world().clock.advance_ms(1_000);
        within(DEADLINE, "an extension", changes.next()).await;
    }
    assert!(finish(&client, "ack", &first).await);
    assert!(messages.try_recv().is_err(), "it was never delivered again");
}

#[tokio::test]
async fn messages_outlive_the_server() {
    let world = World::new();
    Client::of(&site(&world))
        .await
        .write(enqueueing(message(ONE)))
        .await;
    let other = Client::of(&site(&world)).await;
    let messages = pull(&other, json!({"leaseMs": 1000})).await;
    // The consumer and its server are gone; another server has the message again.
    world.clock.advance_ms(1_000);
    let third = Client::of(&site(&world)).await;
    pull(&third, json!({})).await;
    world.clock.advance_ms(100);
    assert_eq!(pull(&third, json!({})).await[0]["id"], messages[0]["id"]);
}

#[tokio::test]
async fn rest_can_enqueue_what_deno_cannot() {
    let client = Client::new().await;
    let body = json!({
        "value": {"at": {"type": "bigint", "value": "5", "$kvasir": 1}},
        "delayMs": 10,
        "backoffMs": [],
        "undelivered": [["dead", 1]],
    });
    let answer = post(&client, "/queue/default", body.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    client.world().clock.advance_ms(10);
    let messages = pull(&client, json!({})).await;
    assert_eq!(messages[0]["value"], body["value"]);
    finish(&client, "fail", &messages[0]).await;
    let dead = Key::from_parts(&["dead".into(), kvasir_kv::Part::Number(1.0)]);
    let stored = client.world().get("default", &dead).await.unwrap();
    assert_eq!(stored.value.encoding, kvasir_kv::Encoding::V8);

    let plain = json!({"value": {"a": [1]}, "undelivered": []});
    post(&client, "/queue/default", plain).await;
    let messages = pull(&client, json!({})).await;
    assert_eq!(messages[0]["value"], json!({"a": [1]}));
}

#[tokio::test]
async fn limits_of_messages_hold_at_their_boundary() {
    let client = Client::new().await;
    let far = 30 * 24 * 3_600_000;
    let with = |change: &dyn Fn(&mut proto::Enqueue)| {
        let mut enqueue = message(ONE);
        change(&mut enqueue);
        enqueueing(enqueue)
    };
    let large = |len: usize| Bytes::from(vec![0; len]);
    for fits in [
        with(&|e| e.deadline_ms = START.0 + far),
        with(&|e| e.deadline_ms = -5),
        with(&|e| e.payload = large(65_536)),
        with(&|e| e.backoff_schedule = vec![3_600_000; 10]),
        with(&|e| e.keys_if_undelivered = vec![large(2048); 10]),
    ] {
        assert_eq!(client.write(fits).await.status, proto::AW_SUCCESS);
    }
    for too_much in [
        with(&|e| e.deadline_ms = START.0 + far + 1),
        with(&|e| e.deadline_ms = i64::MAX),
        with(&|e| e.payload = large(65_537)),
        with(&|e| e.backoff_schedule = vec![1; 11]),
        with(&|e| e.backoff_schedule = vec![3_600_001]),
        with(&|e| e.keys_if_undelivered = vec![large(1); 11]),
        with(&|e| e.keys_if_undelivered = vec![large(2049)]),
    ] {
        client.refused(too_much).await;
    }
}

#[tokio::test]
async fn bad_queue_requests_are_refused_with_a_sentence() {
    let client = Client::new().await;
    for (path, body) in [
        ("", json!({})),
        ("", json!({"value": 1, "delayMs": -1})),
        ("", json!({"value": 1, "delayMs": 2_592_000_001_i64})),
        ("", json!({"value": "x".repeat(70_000)})),
        ("", json!({"value": 1, "undelivered": ["a"]})),
        ("", json!({"value": {"$kvasir": 1}})),
        ("", json!({"value": 1, "more": 1})),
        ("", json!({"value": 1, "backoffMs": vec![1; 11]})),
        ("/pull", json!({"max": 0})),
        ("/pull", json!({"max": 101})),
        ("/pull", json!({"leaseMs": 999})),
        ("/pull", json!({"leaseMs": 43_200_001})),
        ("/pull", json!({"waitMs": 60_001})),
        ("/ack", json!({"receipts": ["x"]})),
        ("/ack", json!({"receipts": vec![""; 101]})),
        ("/fail", json!([])),
        ("/extend", json!({"receipts": [], "leaseMs": 1})),
    ] {
        let answer = post(&client, &format!("/queue/default{path}"), body.clone()).await;
        assert_eq!(answer.status, 400, "{path} {body}");
        assert!(answer.text().len() > 10);
    }
    let answer = post(&client, "/queue/No/pull", json!({})).await;
    assert_eq!(answer.status, 404);
    let answer = client
        .app
        .send("GET", "/queue/default/stream?max=x", &[], "")
        .await;
    assert_eq!(answer.status, 400);
    // A token is needed once there are tokens.
    let public = client.app.on_public_address();
    let answer = public.send("POST", "/queue/default/pull", &[], "{}").await;
    assert_eq!(answer.status, 401);
    assert_eq!(exchange(&public, "/", "t", "{}").await.status, 401);
}

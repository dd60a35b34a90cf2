//! `kill -9` of the server while clients write through KV Connect and enqueue: what was acknowledged
//! is there, and what was not is there whole or not at all.
//!
//! The requests are written by hand, byte for byte, so that they do not share the server's idea of
//! the protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, eventually};
use serde_json::{Value as Json, json};

use crate::server;

/// Clients that write at the same time.
const CLIENTS: usize = 8;

/// Acknowledged writes before each kill.
const LIVES: [usize; 4] = [1, 40, 200, 90];

/// A field of protobuf with bytes in it, shorter than 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).unwrap();
    assert!(len < 128);
    [&[number << 3 | 2, len][..], bytes].concat()
}

/// The V8 value of a short ASCII string.
fn v8(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap();
    [&[0xff, 15, b'"', len][..], text.as_bytes()].concat()
}

/// An atomic write that sets `("crash", name)` to `name` and enqueues `name`.
fn write_of(name: &str) -> Vec<u8> {
    let key = format!("\u{2}crash\0\u{2}{name}\0");
    let value = [field(1, &v8(name)), vec![2 << 3, 1]].concat();
    let mutation = [field(1, key.as_bytes()), field(2, &value), vec![3 << 3, 1]];
    [field(2, &mutation.concat()), field(3, &field(1, &v8(name)))].concat()
}

/// The versionstamp of an answer whose status is success.
fn versionstamp_of(answer: &[u8]) -> String {
    assert_eq!(answer[..4], [1 << 3, 1, 2 << 3 | 2, 10], "{answer:?}");
    let hex = answer[4..14].iter().map(|byte| format!("{byte:02x}"));
    hex.collect()
}

/// Where and with what the data path is used.
#[derive(Clone)]
struct Session {
    http: reqwest::Client,
    url: String,
    token: String,
    id: String,
}

impl Session {
    async fn open(server: &TestServer) -> Session {
        let http = http_client();
        let exchange = http.post(server.url("/")).bearer_auth("any-token-will-do");
        let exchange = exchange.json(&json!({"supportedVersions": [1, 2, 3]}));
        let document: Json = exchange.send().await.unwrap().json().await.unwrap();
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        Session {
            http,
            url: server.url(&text(&document["endpoints"][0]["url"])),
            token: text(&document["token"]),
            id: text(&document["databaseId"]),
        }
    }

    /// The versionstamp, if the server lived to tell it.
    async fn write(&self, name: &str) -> Option<String> {
        let request = self
            .http
            .post(format!("{}/atomic_write", self.url))
            .bearer_auth(&self.token)
            .header("x-denokv-version", "3")
            .header("x-denokv-database-id", &self.id)
            .body(write_of(name));
        let answer = request.send().await.ok()?;
        let status = answer.status();
        let body = answer.bytes().await.ok()?;
        assert_eq!(status, 200, "{body:?}");
        Some(versionstamp_of(&body))
    }
}

async fn post(server: &TestServer, path: &str, body: Json) -> Json {
    let request = http_client().post(server.url(path)).json(&body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}

/// The written names with their versionstamps.
async fn stored(server: &TestServer) -> BTreeMap<String, String> {
    let url = server.url("/kv/crash?list=true&meta=true");
    let text = http_client()
        .get(url)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let listed: Vec<Json> = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    let entry = |entry: &Json| {
        let name = entry["key"][1].as_str().unwrap().to_owned();
        assert_eq!(entry["value"], *name);
        (name, entry["versionstamp"].as_str().unwrap().to_owned())
    };
    listed.iter().map(entry).collect()
}

/// Pulls and acknowledges everything that is due.
async fn drain(server: &TestServer) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    loop {
        let pulled = post(server, "/queue/default/pull", json!({"max": 100})).await;
        let messages = pulled["messages"].as_array().unwrap();
        if messages.is_empty() {
            return seen;
        }
        let receipts: Vec<_> = messages.iter().map(|message| &message["receipt"]).collect();
        let done = post(
            server,
            "/queue/default/ack",
            json!({ "receipts": receipts }),
        )
        .await;
        for (message, done) in messages.iter().zip(done["done"].as_array().unwrap()) {
            assert_eq!(*done, true, "{message}");
            let is_new = seen.insert(message["value"].as_str().unwrap().to_owned());
            assert!(is_new, "delivered twice: {message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_messages_of_kv_connect_outlive_kills() {
    let mut server = server().await;
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let mut delivered = BTreeSet::new();
    for (life, wanted) in LIVES.into_iter().enumerate() {
        let session = Session::open(&server).await;
        let is_dead = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (session, is_dead, count) = (session.clone(), is_dead.clone(), count.clone());
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    for n in 0.. {
                        if is_dead.load(Ordering::SeqCst) {
                            break;
                        }
                        let name = format!("{life}-{client}-{n}");
                        let Some(stamp) = session.write(&name).await else {
                            break;
                        };
                        mine.push((name, stamp));
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    mine
                })
            })
            .collect();
        eventually(DEADLINE, "enough writes are acknowledged", || {
            let count = count.load(Ordering::SeqCst);
            async move { (count >= wanted).then_some(()) }
        })
        .await;
        server.kill().await;
        is_dead.store(true, Ordering::SeqCst);
        for client in clients {
            acknowledged.extend(client.await.unwrap());
        }
        server.restart().await;

        let stored = stored(&server).await;
        for (name, stamp) in &acknowledged {
            assert_eq!(stored.get(name), Some(stamp), "{name} was acknowledged");
        }
        delivered.extend(drain(&server).await);
        let there: BTreeSet<_> = stored.keys().cloned().collect();
        assert_eq!(
            delivered, there,
            "each write came with its message, or not at all"
        );
    }
    println!(
        "{} writes with a message were acknowledged",
        acknowledged.len()
    );
    assert!(acknowledged.len() >= LIVES.iter().sum());
}

#[tokio::test]
async fn a_lease_outlives_a_kill_and_its_receipt_too() {
    let mut server = server().await;
    for value in ["held", "free"] {
        post(&server, "/queue/default", json!({ "value": value })).await;
    }
    let lease = json!({"leaseMs": 600_000});
    let pulled = post(&server, "/queue/default/pull", lease).await;
    assert_eq!(pulled["messages"][0]["value"], "held");
    let receipts = json!({"receipts": [pulled["messages"][0]["receipt"]]});
    server.kill().await;
    server.restart().await;

    let others = drain(&server).await;
    assert_eq!(others.into_iter().collect::<Vec<_>>(), ["free"]);
    let extended = json!({"receipts": receipts["receipts"], "leaseMs": 700_000});
    let extended = post(&server, "/queue/default/extend", extended).await;
    assert_eq!(extended["done"], json!([true]));
    let done = post(&server, "/queue/default/ack", receipts.clone()).await;
    assert_eq!(done["done"], json!([true]));
    let done = post(&server, "/queue/default/ack", receipts).await;
    assert_eq!(done["done"], json!([false]));
}

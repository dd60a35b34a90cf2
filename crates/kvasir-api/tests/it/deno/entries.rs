//! Whole databases in and out, over the admin API.

use std::sync::Arc;

use futures_util::StreamExt;
use kvasir_api::admin::Admin;
use kvasir_kv::{Entry, Key, KeyRange, UnixMillis, Value, Versionstamp};
use serde_json::{Value as Json, json};

use crate::support::{App, START, World};

fn app(world: &World) -> App {
    let ctx = world.ctx("admin", "/_", "default");
    world.app(vec![Arc::new(Admin::new(
        ctx,
        kvasir_auth::Passwords::new(1),
    ))])
}

async fn call(app: &App, method: &str, path: &str, body: Json) -> (u16, Json) {
    let path = format!("/_/api/v1/databases/{path}");
    let headers = [("content-type", "application/json")];
    let answer = app.send(method, &path, &headers, body.to_string()).await;
    let json = serde_json::from_slice(&answer.body).unwrap_or(Json::Null);
    (answer.status.as_u16(), json)
}

async fn all(world: &World, database: &str) -> Vec<Entry> {
    let everything = KeyRange::starting_with(&Key::default());
    let mut pages = world.keyspace(database).scan(&everything, false);
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        found.extend(page.unwrap().entries);
    }
    found
}

#[tokio::test]
async fn a_database_moves_page_by_page_and_is_the_same_again() {
    let world = World::new();
    let app = app(&world);
    for n in 0..25u64 {
        let key = Key::from_strings(["k", &format!("{n:02}")]);
        let value = match n % 4 {
            0 => Value::u64(n),
            1 => Value::json(format!(" [{n}] ")),
            2 => Value::bytes(vec![0; n as usize]),
            _ => Value::v8(vec![0xff, 16, b'I', 2]),
        };
        world.put("one", key, value).await;
    }
    let mut path = "one/entries?limit=10".to_owned();
    let mut pages = 0;
    loop {
        let (status, page) = call(&app, "GET", &path, Json::Null).await;
        assert_eq!(status, 200);
        pages += 1;
        let body = json!({"entries": page["entries"]});
        let (status, done) = call(&app, "POST", "two/entries", body).await;
        assert_eq!(status, 200, "{done}");
        match page["cursor"].as_str() {
            Some(cursor) => path = format!("one/entries?limit=10&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(all(&world, "two").await, all(&world, "one").await);
}

#[tokio::test]
async fn imported_entries_keep_stamp_and_expiry_and_later_commits_lie_above() {
    let world = World::new();
    let app = app(&world);
    let entry = json!({
        "key": ["a"],
        "value": {"type": "number", "value": 1},
        "versionstamp": "00000000000000060000",
        "expiresAt": START.0 + 1000,
    });
    let fresh = json!({"key": ["b"], "value": {"type": "null", "value": null}});
    let (status, done) = call(
        &app,
        "POST",
        "x/entries",
        json!({"entries": [entry, fresh]}),
    )
    .await;
    assert_eq!((status, done), (200, json!({"written": 2, "kept": 0})));

    let a = world.get("x", &Key::from_strings(["a"])).await.unwrap();
    assert_eq!(a.versionstamp, Versionstamp::new(6, 0));
    assert_eq!(a.expires_at, Some(UnixMillis(START.0 + 1000)));
    let b = world.get("x", &Key::from_strings(["b"])).await.unwrap();
    assert!(b.versionstamp > a.versionstamp);

    let again = json!({"entries": [{"key": ["a"], "value": {"type": "string", "value": "new"}}], "keepExisting": true});
    let (_, done) = call(&app, "POST", "x/entries", again).await;
    assert_eq!(done, json!({"written": 0, "kept": 1}));
    assert_eq!(world.get("x", &Key::from_strings(["a"])).await, Some(a));
}

#[tokio::test]
async fn an_import_that_is_wrong_changes_nothing_and_says_where() {
    let world = World::new();
    let app = app(&world);
    let good = json!({"key": ["a"], "value": {"type": "null", "value": null}});
    for bad in [
        json!({"key": ["b"]}),
        json!({"key": ["b"], "value": 1}),
        json!({"key": ["b"], "value": {"type": "null"}, "versionstamp": "f".repeat(20)}),
    ] {
        let body = json!({"entries": [good, bad]});
        let (status, problem) = call(&app, "POST", "x/entries", body).await;
        assert_eq!(status, 400);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("entry 2"), "{detail}");
    }
    assert_eq!(all(&world, "x").await, []);
    let body = json!({"entries": vec![good; 1001]});
    assert_eq!(call(&app, "POST", "x/entries", body).await.0, 400);
    for name in ["_system", "_queues", "No"] {
        let path = format!("{name}/entries");
        assert_eq!(call(&app, "GET", &path, Json::Null).await.0, 400, "{name}");
    }
}

#[tokio::test]
async fn messages_come_in_and_emptying_removes_them_with_the_entries() {
    let world = World::new();
    let app = app(&world);
    world
        .put("x", Key::from_strings(["a"]), Value::u64(1))
        .await;
    world
        .put("y", Key::from_strings(["a"]), Value::u64(1))
        .await;
    let body = json!({"messages": [
        {"payload": "/w9JAg==", "dueMs": 0, "undelivered": ["AmEA"]},
        {"payload": "/w9JAg==", "dueMs": 5, "backoffMs": []},
    ]});
    let (status, done) = call(&app, "POST", "x/messages", body).await;
    assert_eq!((status, done), (200, json!({"enqueued": 2, "kept": 0})));
    let (_, depth) = call(&app, "GET", "x/queue", Json::Null).await;
    assert_eq!(depth, json!({"waiting": 2, "leased": 0, "more": false}));

    let (_, done) = call(&app, "DELETE", "x/entries", Json::Null).await;
    assert_eq!(done, json!({"removed": 1, "more": false}));
    let (_, depth) = call(&app, "GET", "x/queue", Json::Null).await;
    assert_eq!(depth, json!({"waiting": 0, "leased": 0, "more": false}));
    assert_eq!(all(&world, "y").await.len(), 1, "other databases stay");
}

#[tokio::test]
async fn messages_go_page_by_page_and_come_in_once() {
    let world = World::new();
    let app = app(&world);
    let messages: Vec<_> = (0..230)
        .map(|n| json!({"id": format!("{n:032x}"), "payload": "/w9JAg==", "dueMs": n, "backoffMs": [n], "attempts": 1}))
        .collect();
    let body = json!({ "messages": messages });
    let (status, done) = call(&app, "POST", "one/messages", body.clone()).await;
    assert_eq!((status, done), (200, json!({"enqueued": 230, "kept": 0})));
    let (_, done) = call(&app, "POST", "one/messages", body).await;
    assert_eq!(done, json!({"enqueued": 0, "kept": 230}));
    // The same ids elsewhere are other messages.
    for limit in [1, 7, 100, 500] {
        let to = format!("to-{limit}/messages");
        let mut cursor = String::new();
        let mut pages = 0;
        loop {
            let path = format!("one/messages?limit={limit}{cursor}");
            let (status, page) = call(&app, "GET", &path, Json::Null).await;
            assert_eq!(status, 200);
            pages += 1;
            let body = json!({"messages": page["messages"]});
            let (status, done) = call(&app, "POST", &to, body).await;
            assert_eq!(status, 200, "{done}");
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert!(pages >= 230 / limit.min(100));
        let (_, there) = call(&app, "GET", &to, Json::Null).await;
        let (_, here) = call(&app, "GET", "one/messages", Json::Null).await;
        assert_eq!(there, here);
        assert_eq!(here["messages"][3], {
            let mut line = messages[3].clone();
            line["encoding"] = json!("v8");
            line["undelivered"] = json!([]);
            line
        });
    }
    for bad in ["x", "one/messages?cursor=short"] {
        assert_ne!(call(&app, "GET", bad, Json::Null).await.0, 200, "{bad}");
    }
    let (status, problem) = call(
        &app,
        "POST",
        "one/messages",
        json!({"messages": [{"payload": "/w9JAg==", "dueMs": 0}, {"payload": "?", "dueMs": 0}]}),
    )
    .await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("message 2"));

    call(&app, "DELETE", "one/entries", Json::Null).await;
    let (_, done) = call(
        &app,
        "POST",
        "one/messages",
        json!({"messages": [messages[0]]}),
    )
    .await;
    assert_eq!(
        done,
        json!({"enqueued": 1, "kept": 0}),
        "an emptied database remembers nothing"
    );
}

#[tokio::test]
async fn an_export_is_one_moment_with_its_versionstamp() {
    let world = World::new();
    let app = app(&world);
    for n in 0..700u64 {
        let key = Key::from_strings(["k", &format!("{n:03}")]);
        world.put("one", key, Value::u64(n)).await;
    }
    let path = "/_/api/v1/export?keyspace=one&prefix=%5B%22k%22%5D";
    let answer = app.send("GET", path, &[], String::new()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let stamp = answer.headers["x-kvasir-versionstamp"].to_str().unwrap();
    let newest = all(&world, "one")
        .await
        .iter()
        .map(|entry| entry.versionstamp)
        .max();
    assert_eq!(stamp, newest.unwrap().to_string());
    assert_eq!(answer.text().lines().count(), 700);
    for bad in [
        "format=xml",
        "keyspace=_system",
        "prefix=%5B%22k%22%5D",
        "keyspace=one&prefix=k",
    ] {
        let path = format!("/_/api/v1/export?{bad}");
        assert_eq!(
            app.send("GET", &path, &[], String::new()).await.status,
            400,
            "{bad}"
        );
    }
}

//! The trash: in by the REST dialect, out by the admin API, and nowhere else to be seen.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use kvasir_api::admin::Admin;
use kvasir_api::rest::{self, Rest};
use kvasir_api::trash::{BYTES_MAX, ENTRIES_MAX, KEPT_MS, REMOVALS_MAX};
use kvasir_auth::{Grant, NewToken, Passwords, Verb};
use kvasir_kv::{
    AtomicWrite, Entry, Key, KeyRange, KeyspaceName, Meta, Mutation, RangeRead, SnapshotRead,
    UnixMillis, Value, Versionstamp,
};
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};

use crate::contested::Contested;
use crate::support::{Answer, App, World};

/// The REST dialect and the admin API over one world.
fn app(world: &World) -> App {
    let rest = Rest::new(
        world.ctx("rest", "/kv", "default"),
        rest::Settings::default(),
    );
    let admin = Admin::new(world.ctx("admin", "/_", "default"), Passwords::new(1));
    world.app(vec![Arc::new(rest), Arc::new(admin)])
}

async fn throw(app: &App, prefix: &str) -> Answer {
    let target = format!("/kv/{prefix}?list=true&trash=true");
    app.send("DELETE", &target, &[], "").await
}

/// Throws away what is below a prefix, and gives the removal's id.
async fn thrown(app: &App, prefix: &str) -> String {
    let answer = throw(app, prefix).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["trash"]["id"].as_str().unwrap().to_owned()
}

async fn admin(app: &App, method: &str, path: &str, body: &Json) -> Answer {
    let body = match body {
        Json::Null => String::new(),
        body => body.to_string(),
    };
    let headers = [("content-type", "application/json")];
    app.send(method, &format!("/_/api/v1{path}"), &headers, body)
        .await
}

async fn restore(app: &App, id: &str, conflict: &str) -> Answer {
    let body = json!({"conflict": conflict});
    admin(app, "POST", &format!("/trash/{id}/restore"), &body).await
}

async fn listed(app: &App) -> Json {
    admin(app, "GET", "/trash", &Json::Null).await.json()
}

/// Everything in the default database.
async fn data(world: &World) -> Vec<Entry> {
    all(world, &KeyspaceName::default_database(), &Key::default()).await
}

/// Everything that begins with some bytes in a keyspace.
async fn all(world: &World, keyspace: &KeyspaceName, prefix: &Key) -> Vec<Entry> {
    use futures_util::StreamExt;
    let keyspace = kvasir_kv::Keyspace::new(Arc::clone(&world.store), keyspace.clone());
    let mut pages = keyspace.scan(&KeyRange::starting_with(prefix), false);
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        found.extend(page.unwrap().entries);
    }
    found
}

/// What the trash stores: rows under these keys of the system keyspace.
async fn rows(world: &World, kind: &str) -> Vec<Entry> {
    let prefix = Key::from_strings(["trash", kind]);
    all(world, &KeyspaceName::system(), &prefix).await
}

/// Entries of every encoding, with meta, with expiry, and under a key that is no tuple.
async fn varied(world: &World) {
    let key = |name: &str| Key::from_strings(["a", name]);
    let meta = Meta {
        content_type: Some("text/plain".into()),
        creator: Some("203.0.113.9".into()),
        created_at: Some(UnixMillis(7)),
        extra: Some(Bytes::from_static(&[0, 255])),
    };
    let full = Meta {
        extra: Some(Bytes::from(vec![7; kvasir_kv::limits::META_BYTES_MAX])),
        ..Meta::default()
    };
    let hour = UnixMillis(world.now().0 + 3_600_000);
    let set = |key: Key, value: Value, expires_at: Option<UnixMillis>, meta: Option<Meta>| {
        Mutation::Set {
            key,
            value,
            expires_at,
            meta,
            keep_created: false,
        }
    };
    let write = AtomicWrite::new()
        .push(set(
            key("json"),
            Value::json(" { \"b\": 1.50, \"a\":1e999 } "),
            None,
            None,
        ))
        .push(set(
            key("v8"),
            Value::v8(vec![0xff, 15, b'I', 2]),
            None,
            Some(meta),
        ))
        .push(set(key("damaged"), Value::v8(vec![1, 2, 3]), None, None))
        .push(set(key("number"), Value::u64(7), Some(hour), None))
        .push(set(
            key("bytes"),
            Value::bytes(vec![0, 255]),
            None,
            Some(full),
        ))
        .push(set(key("empty"), Value::bytes(Vec::new()), None, None))
        .push(set(
            Key::from_strings(["a"]).with_suffix(&[9, 9]),
            Value::u64(1),
            None,
            None,
        ))
        .push(set(
            key(&"k".repeat(kvasir_kv::limits::KEY_BYTES_MAX - 5)),
            Value::u64(2),
            None,
            None,
        ));
    world.keyspace("default").commit(write).await.unwrap();
    for beside in [&["a"][..], &["ab"], &["b", "a"]] {
        world
            .put("default", Key::from_strings(beside), Value::json("1"))
            .await;
    }
}

#[tokio::test]
async fn what_is_removed_below_a_prefix_comes_back_as_it_was_under_a_new_version() {
    let world = World::new();
    let app = app(&world);
    varied(&world).await;
    let before = data(&world).await;
    let plan = app
        .send("GET", "/kv/a?list=true&trash=true", &[], "")
        .await
        .json();
    assert_eq!((&plan["entries"], &plan["fits"]), (&json!(8), &json!(true)));
    assert_eq!(plan["sample"].as_array().unwrap().len(), 5);
    assert_eq!(data(&world).await, before, "a plan changes nothing");

    world.clock.advance_ms(1_000);
    let answer = throw(&app, "a").await.json();
    assert_eq!(answer["deleted"], 8);
    let left: Vec<_> = data(&world)
        .await
        .into_iter()
        .map(|entry| entry.key)
        .collect();
    let beside = [&["a"][..], &["ab"], &["b", "a"]].map(Key::from_strings);
    assert_eq!(left, beside, "the prefix itself and its neighbours stay");
    let list = listed(&app).await;
    let removal = &list["removals"][0];
    assert_eq!(removal["id"], answer["trash"]["id"]);
    assert_eq!(removal["keyspace"], "default");
    assert_eq!(removal["prefix"], json!([{"type": "string", "value": "a"}]));
    assert_eq!(removal["by"], "local");
    assert_eq!(removal["at"], "2026-01-02T03:04:06Z");
    assert_eq!(removal["until"], "2026-01-09T03:04:06Z");
    assert_eq!(
        (&removal["entries"], &list["entries"]),
        (&json!(8), &json!(8))
    );
    let bytes: usize = before
        .iter()
        .filter(|entry| !beside.contains(&entry.key))
        .map(Entry::cost_bytes)
        .sum();
    assert_eq!(list["bytes"], bytes);

    let id = removal["id"].as_str().unwrap();
    let page = admin(&app, "GET", &format!("/trash/{id}?limit=3"), &Json::Null)
        .await
        .json();
    let rest = page["cursor"].as_str().unwrap();
    let rest = admin(
        &app,
        "GET",
        &format!("/trash/{id}?cursor={rest}"),
        &Json::Null,
    )
    .await
    .json();
    let shown = |page: &Json| page["entries"].as_array().unwrap().clone();
    let shown = [shown(&page), shown(&rest)].concat();
    assert_eq!((shown.len(), &rest["cursor"]), (8, &Json::Null));
    let number = shown
        .iter()
        .find(|entry| entry["encoding"] == "u64" && !entry["expiresAt"].is_null());
    let (number, old) = (
        number.unwrap(),
        before
            .iter()
            .find(|entry| entry.expires_at.is_some())
            .unwrap(),
    );
    assert_eq!(number["expiresAt"], old.expires_at.unwrap().0);
    assert_eq!(number["versionstamp"], old.versionstamp.to_string());

    world.clock.advance_ms(60_000);
    let answer = restore(&app, id, "fail").await.json();
    assert_eq!(answer, json!({"restored": 8, "kept": 0, "cursor": null}));
    let after = data(&world).await;
    assert_eq!(after.len(), before.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(
            (&after.key, &after.value, after.expires_at),
            (&before.key, &before.value, before.expires_at)
        );
        if beside.contains(&before.key) {
            assert_eq!(after, before);
            continue;
        }
        assert!(after.versionstamp > before.versionstamp);
        let meta = |entry: &Entry| {
            let meta = entry.meta.as_deref().cloned().unwrap_or_default();
            (meta.content_type, meta.creator, meta.extra)
        };
        assert_eq!(meta(after), meta(before));
        let has_room = before
            .meta
            .as_ref()
            .is_none_or(|meta| meta.cost_bytes() < 1_000);
        if has_room {
            assert_eq!(after.created_at(), before.created_at(), "{:?}", before.key);
        }
    }
    assert_eq!(listed(&app).await["removals"], json!([]));
    for kind in ["removal", "entry", "value"] {
        assert_eq!(rows(&world, kind).await, [], "{kind}");
    }
    assert_eq!(restore(&app, id, "fail").await.status, 404);
}

#[tokio::test]
async fn an_entry_that_expired_in_the_trash_is_never_brought_back() {
    let world = World::new();
    let app = app(&world);
    let soon = UnixMillis(world.now().0 + 10_000);
    let write = AtomicWrite::new()
        .push(Mutation::set_expiring(
            Key::from_strings(["a", "soon"]),
            Value::u64(1),
            Some(soon),
        ))
        .push(Mutation::set(
            Key::from_strings(["a", "stays"]),
            Value::u64(2),
        ));
    world.keyspace("default").commit(write).await.unwrap();
    let id = thrown(&app, "a").await;
    world.clock.advance_ms(10_000);
    let page = admin(&app, "GET", &format!("/trash/{id}"), &Json::Null)
        .await
        .json();
    assert_eq!(page["entries"].as_array().unwrap().len(), 1);
    let answer = restore(&app, &id, "replace").await.json();
    assert_eq!(answer, json!({"restored": 1, "kept": 0, "cursor": null}));
    let keys: Vec<_> = data(&world)
        .await
        .into_iter()
        .map(|entry| entry.key)
        .collect();
    assert_eq!(keys, [Key::from_strings(["a", "stays"])]);
    assert_eq!(listed(&app).await["removals"], json!([]));
}

#[tokio::test]
async fn after_a_week_the_trash_lets_go_and_the_sweep_leaves_nothing() {
    let world = World::new();
    let app = app(&world);
    varied(&world).await;
    let id = thrown(&app, "a").await;
    world.clock.advance_ms(KEPT_MS - 1);
    assert_eq!(listed(&app).await["removals"].as_array().unwrap().len(), 1);
    world.clock.advance_ms(1);
    assert_eq!(listed(&app).await["removals"], json!([]));
    assert_eq!(restore(&app, &id, "skip").await.status, 404);
    let swept = world
        .store
        .sweep(world.now(), NonZeroU32::MAX)
        .await
        .unwrap();
    // Eight entries of two rows, and the removal.
    assert_eq!(swept, 17);
}

#[tokio::test]
async fn keys_that_hold_something_again_are_skipped_replaced_or_stop_everything() {
    let world = World::new();
    let app = app(&world);
    for name in ["x", "y", "z"] {
        world
            .put(
                "default",
                Key::from_strings(["a", name]),
                Value::json("\"old\""),
            )
            .await;
    }
    let id = thrown(&app, "a").await;
    let taken = Key::from_strings(["a", "y"]);
    world
        .put("default", taken.clone(), Value::json("\"new\""))
        .await;

    let before = data(&world).await;
    let answer = restore(&app, &id, "fail").await;
    assert_eq!(
        (answer.status, answer.header("x-kvasir-error")),
        (StatusCode::CONFLICT, Some("occupied"))
    );
    assert_eq!(data(&world).await, before, "nothing came back");
    for (conflict, restored) in [("fail", 0), ("skip", 2), ("replace", 3)] {
        let body = json!({"conflict": conflict, "dryRun": true});
        let answer = admin(&app, "POST", &format!("/trash/{id}/restore"), &body)
            .await
            .json();
        assert_eq!(
            answer,
            json!({"restored": restored, "kept": 1, "cursor": null}),
            "{conflict}"
        );
    }
    assert_eq!(data(&world).await, before, "a dry run changes nothing");

    let answer = restore(&app, &id, "skip").await.json();
    assert_eq!(answer, json!({"restored": 2, "kept": 1, "cursor": null}));
    assert_eq!(
        world.get("default", &taken).await.unwrap().value,
        Value::json("\"new\"")
    );
    assert_eq!(
        listed(&app).await["removals"][0]["entries"],
        1,
        "what was skipped stays in the trash"
    );
    let answer = restore(&app, &id, "replace").await.json();
    assert_eq!(answer, json!({"restored": 1, "kept": 0, "cursor": null}));
    assert_eq!(
        world.get("default", &taken).await.unwrap().value,
        Value::json("\"old\"")
    );
    assert_eq!(listed(&app).await["removals"], json!([]));
    let bad = admin(
        &app,
        "POST",
        &format!("/trash/{id}/restore"),
        &json!({"conflict": "merge"}),
    )
    .await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn emptying_leaves_neither_data_nor_rows() {
    let world = World::new();
    let app = app(&world);
    varied(&world).await;
    let (one, other) = (thrown(&app, "a").await, thrown(&app, "b").await);
    let answer = admin(&app, "DELETE", &format!("/trash/{one}"), &Json::Null)
        .await
        .json();
    assert_eq!(answer, json!({"removed": 8, "more": false}));
    let left = listed(&app).await;
    assert_eq!(left["removals"][0]["id"], json!(other));
    assert_eq!(
        (
            rows(&world, "entry").await.len(),
            rows(&world, "value").await.len()
        ),
        (1, 1)
    );
    let again = admin(&app, "DELETE", &format!("/trash/{one}"), &Json::Null).await;
    assert_eq!(again.status, 404);
    for id in ["x", "ABCDEF012345", "0123456789abcdef"] {
        let answer = admin(&app, "GET", &format!("/trash/{id}"), &Json::Null).await;
        assert_eq!(answer.status, 404, "{id}");
    }
}

#[tokio::test]
async fn so_many_entries_fit_and_not_one_more() {
    let world = World::new();
    let app = app(&world);
    let keyspace = world.keyspace("default");
    let entry = |number: u64| Entry {
        key: keyspace.stored_key(&Key::from_strings(["a", &format!("{number:06}")])),
        value: Value::u64(number),
        versionstamp: Versionstamp::new(1, 0),
        expires_at: None,
        meta: None,
    };
    let many: Vec<_> = (0..=ENTRIES_MAX).map(entry).collect();
    for part in many.chunks(10_000) {
        world.store.ingest(part.to_vec()).await.unwrap();
    }
    let plan = app
        .send("GET", "/kv/a?list=true&trash=true", &[], "")
        .await
        .json();
    assert_eq!(
        (&plan["fits"], &plan["entries"]),
        (&json!(false), &json!(ENTRIES_MAX + 1))
    );
    let answer = throw(&app, "a").await;
    assert_eq!(
        (answer.status, answer.header("x-kvasir-error")),
        (StatusCode::CONFLICT, Some("trash_full"))
    );
    assert_eq!(rows(&world, "entry").await, [], "nothing was moved");
    // In steps, as the command does, every one of which adds to the same removal.
    app.send("DELETE", "/kv/a.000000", &[], "").await;
    let first = app
        .send("DELETE", "/kv/a?list=true&trash=true&limit=60000", &[], "")
        .await
        .json();
    assert_eq!(first["deleted"], 60_000);
    let id = first["trash"]["id"].as_str().unwrap().to_owned();
    let more = format!("/kv/a?list=true&trash={id}&limit=60000");
    assert_eq!(
        app.send("DELETE", &more, &[], "").await.json()["deleted"],
        ENTRIES_MAX - 60_000
    );
    assert_eq!(
        app.send("DELETE", &more, &[], "").await.json()["deleted"],
        0
    );
    assert_eq!(listed(&app).await["removals"][0]["entries"], ENTRIES_MAX);
    world
        .put("default", Key::from_strings(["b", "c"]), Value::u64(1))
        .await;
    assert_eq!(throw(&app, "b").await.status, 409, "it is full");
    assert_eq!(data(&world).await.len(), 1);
    // Back in steps, too.
    let (mut restored, mut cursor, mut steps) = (0, Json::Null, 0);
    loop {
        let body = json!({"conflict": "fail", "cursor": cursor});
        let mut step = admin(&app, "POST", &format!("/trash/{id}/restore"), &body)
            .await
            .json();
        restored += step["restored"].as_u64().unwrap();
        steps += 1;
        cursor = step["cursor"].take();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!((restored, steps), (ENTRIES_MAX, 20));
    assert_eq!(data(&world).await.len() as u64, ENTRIES_MAX + 1);
}

#[tokio::test]
async fn so_many_bytes_and_removals_fit_and_not_one_more() {
    let world = World::new();
    let app = app(&world);
    // All values share their bytes, so this costs no memory.
    let value = Bytes::from(vec![b'7'; 1 << 20]);
    let mut left = usize::try_from(BYTES_MAX).unwrap();
    for number in 0.. {
        let key = Key::from_strings(["a", &format!("{number:03}")]);
        let bytes = value.len().min(left - key.len());
        left -= key.len() + bytes;
        world
            .put("default", key, Value::bytes(value.slice(..bytes)))
            .await;
        if left == 0 {
            break;
        }
    }
    let plan = app
        .send("GET", "/kv/a?list=true&trash=true", &[], "")
        .await
        .json();
    assert_eq!(
        (&plan["bytes"], &plan["fits"]),
        (&json!(BYTES_MAX), &json!(true))
    );
    world
        .put(
            "default",
            Key::from_strings(["a", "more"]),
            Value::bytes(Vec::new()),
        )
        .await;
    assert_eq!(throw(&app, "a").await.status, 409);
    app.send("DELETE", "/kv/a.more", &[], "").await;
    let id = thrown(&app, "a").await;
    world
        .put(
            "default",
            Key::from_strings(["b", "c"]),
            Value::bytes(Vec::new()),
        )
        .await;
    assert_eq!(throw(&app, "b").await.status, 409);
    admin(&app, "DELETE", &format!("/trash/{id}"), &Json::Null).await;

    thrown(&app, "b").await;
    let record = rows(&world, "removal").await.remove(0);
    for number in 1..REMOVALS_MAX - 1 {
        let key = Key::from_strings(["trash", "removal", &format!("{number:012x}")]);
        let write = AtomicWrite::new().push(Mutation::set(key, record.value.clone()));
        world.system.commit(write).await.unwrap();
    }
    for (name, status) in [("c", 200), ("d", 409)] {
        world
            .put("default", Key::from_strings([name, "x"]), Value::u64(1))
            .await;
        assert_eq!(throw(&app, name).await.status, status, "{name}");
    }
}

#[tokio::test]
async fn an_entry_that_changes_while_it_is_thrown_away_is_kept_as_it_is_then() {
    let (world, store) = Contested::world();
    let app = app(&world);
    for number in 0..20 {
        world
            .put(
                "default",
                Key::from_strings(["a", &format!("{number:02}")]),
                Value::json("1"),
            )
            .await;
    }
    let hot = Key::from_strings(["a", "07"]);
    let stored = world.keyspace("default").stored_key(&hot);
    store.contest(stored.clone(), Some(Value::json("\"rival\"")), 3);
    let id = thrown(&app, "a").await;
    assert_eq!(store.tries(), 4);
    assert_eq!(data(&world).await, []);
    assert_eq!(restore(&app, &id, "fail").await.json()["restored"], 20);
    assert_eq!(
        world.get("default", &hot).await.unwrap().value,
        Value::json("\"rival\"")
    );

    // One that never stops changing stays, and so does what lies behind it.
    store.contest(stored, None, u32::MAX);
    let answer = throw(&app, "a").await;
    assert_eq!(
        (answer.status, answer.header("x-kvasir-error")),
        (StatusCode::CONFLICT, Some("conflict"))
    );
    let (there, kept) = (data(&world).await, rows(&world, "entry").await);
    assert_eq!(there.len() + kept.len(), 20, "each is here or there");
    assert_eq!(rows(&world, "value").await.len(), kept.len());
    assert!(there.iter().any(|entry| entry.key == hot));
    assert_eq!(kept.len(), 7, "what lies before it was moved");
}

#[tokio::test]
async fn whoever_may_delete_may_throw_away_but_only_administrators_look_into_the_trash() {
    let world = World::new();
    let app = app(&world).on_public_address();
    let token = async |verbs: &[Verb]| {
        let grant = Grant {
            dialects: vec!["rest".into()],
            keyspace: Some(KeyspaceName::default_database()),
            prefix: Key::from_strings(["a"]),
            verbs: verbs.iter().copied().collect(),
            expires_at: None,
        };
        let new = NewToken {
            name: "test".into(),
            grants: vec![grant],
            sources: Default::default(),
            expires_at: None,
            created_by: "test".into(),
        };
        let (_, text) = world.access.issue(new).await.unwrap();
        format!("Bearer {}", text.expose_secret())
    };
    let (deleter, other) = (token(&[Verb::Delete]).await, token(&[Verb::Delete]).await);
    let reader = token(&[Verb::Read]).await;
    for name in ["x", "y"] {
        world
            .put("default", Key::from_strings(["a", name]), Value::u64(1))
            .await;
    }
    let ask = async |method: &str, target: &str, token: &str| {
        let headers = [
            ("authorization", token),
            ("content-type", "application/json"),
        ];
        app.send(method, target, &headers, "").await
    };
    let target = "/kv/a?list=true&trash=true";
    assert_eq!(ask("DELETE", target, &reader).await.status, 403);
    assert_eq!(
        ask("GET", target, &deleter).await.status,
        403,
        "a plan is reading, too"
    );
    assert_eq!(ask("GET", target, &reader).await.status, 403);
    assert_eq!(
        ask("DELETE", "/kv/b?list=true&trash=true", &deleter)
            .await
            .status,
        403
    );
    let first = ask("DELETE", "/kv/a?list=true&trash=true&limit=1", &deleter)
        .await
        .json();
    let id = first["trash"]["id"].as_str().unwrap();
    let more = format!("/kv/a?list=true&trash={id}");
    assert_eq!(
        ask("DELETE", &more, &other).await.status,
        404,
        "it is somebody else's"
    );
    assert_eq!(ask("DELETE", &more, &deleter).await.json()["deleted"], 1);
    for (method, path) in [
        ("GET", "/trash".to_owned()),
        ("GET", format!("/trash/{id}")),
        ("DELETE", format!("/trash/{id}")),
        ("POST", format!("/trash/{id}/restore")),
    ] {
        let path = format!("/_/api/v1{path}");
        assert_eq!(
            ask(method, &path, &deleter).await.status,
            403,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn no_dialect_sees_what_is_in_the_trash() {
    let world = World::new();
    let app = app(&world);
    world
        .put(
            "default",
            Key::from_strings(["a", "b"]),
            Value::json("\"in-the-trash\""),
        )
        .await;
    thrown(&app, "a").await;
    for path in [
        "/kv?list=true",
        "/kv/trash?list=true",
        "/kv/_system?list=true",
        "/_/api/v1/keyspaces",
        "/_/api/v1/browse?keyspace=_system",
        "/_/api/v1/databases/_system/entries",
        "/_/api/v1/databases/default/entries",
        "/_/api/v1/entry?keyspace=_system&key=%5B%22trash%22%2C%22gate%22%5D",
    ] {
        let answer = app.send("GET", path, &[], "").await;
        let text = answer.text();
        assert!(!text.contains("in-the-trash"), "{path}: {text}");
        let is_empty = matches!(answer.status.as_u16(), 400 | 404) || !text.contains("trash");
        assert!(is_empty, "{path}: {text}");
    }
}

#[tokio::test]
async fn a_mount_with_a_store_of_its_own_has_no_trash() {
    let (world, other) = (World::new(), World::new());
    let mounted = kvasir_api::context::Mounted {
        dialect: "rest",
        base: "/kv".into(),
        keyspace: other.keyspace("default"),
        system: world.system.clone(),
        clock: Arc::new(world.clock.clone()),
        limits: world.limits,
        access: Arc::clone(&world.access),
        shutdown: world.shutdown.clone(),
    };
    let rest = Rest::new(kvasir_api::Ctx::new(mounted), rest::Settings::default());
    let app = world.app(vec![Arc::new(rest)]);
    other
        .put("default", Key::from_strings(["a", "b"]), Value::u64(1))
        .await;
    for method in ["GET", "DELETE"] {
        let answer = app
            .send(method, "/kv/a?list=true&trash=true", &[], "")
            .await;
        assert_eq!(answer.status, 409, "{method}");
        assert_eq!(answer.header("x-kvasir-error"), Some("no_trash"));
    }
    let read = SnapshotRead::range(RangeRead::new(KeyRange::starting_with(&Key::default()), 10));
    assert_eq!(
        other.store.read(read).await.unwrap().ranges[0]
            .entries
            .len(),
        1
    );
    let purged = app.send("DELETE", "/kv/a?list=true", &[], "").await;
    assert_eq!(purged.json()["deleted"], 1);
}

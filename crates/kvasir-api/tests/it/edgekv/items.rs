//! Items: lines 42 to 62, and retention.

use super::*;
use kvasir_kv::{Encoding, Key, Value as Stored};

const TEXT: &str = "text/plain;charset=utf-8";

#[track_caller]
fn check_text(answer: &Answer, body: &str) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some(TEXT));
    assert_eq!(answer.text(), body);
}

fn upserted(group: &str, key: &str) -> String {
    format!(
        "Item was upserted in KV store with database 123456, namespace marketing, group {group}, and key {key}."
    )
}

#[tokio::test]
async fn a_written_item_is_read_byte_for_byte() {
    let kv = Kv::with_marketing().await;
    let json = "{\n    \"currency\": \"€\",\n  \"flag\":\"/germany.png\", \"name\": \"Germany\"}\n";
    for (key, content_type, value) in [
        ("DE", "application/json", json),
        ("US", "text/plain", "English\n"),
        ("GB", "application/text", "  spaces  "),
        ("FR", "text/plain; charset=utf-8", "{not json"),
        ("IT", "APPLICATION/JSON; charset=utf-8", "[1, 2]"),
        ("n", "application/json", "123"),
        ("t", "application/json", "true"),
        ("s", "application/json", "\"text\""),
        ("z", "application/json", "null"),
        ("empty", "text/plain", ""),
    ] {
        let path = country(key);
        let headers = [("content-type", content_type)];
        let answer = kv.send_with("PUT", &path, &headers, value).await;
        check_text(&answer, &upserted("countries", key));
        check_text(&kv.send("GET", &path, "").await, value);
    }
    let path = country("none");
    check_text(
        &kv.send("PUT", &path, "no content type").await,
        &upserted("countries", "none"),
    );
    check_text(&kv.send("GET", &path, "").await, "no content type");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_kept_too() {
    let kv = Kv::with_marketing().await;
    let bytes = vec![0, 0xff, 0x80, b'a'];
    let path = country("raw");
    let headers = [("content-type", "text/plain")];
    kv.send_with("PUT", &path, &headers, bytes.clone()).await;
    assert_eq!(kv.send("GET", &path, "").await.body, bytes);
}

#[tokio::test]
async fn a_write_is_seen_at_once_thirty_times_over() {
    let kv = Kv::with_marketing().await;
    for n in 0..30 {
        let value = format!("value {n}");
        kv.put(&country("DE"), &value).await;
        assert_eq!(kv.get(&country("DE")).await, Some(value));
    }
}

#[tokio::test]
async fn missing_items_groups_and_namespaces_are_told_apart() {
    let kv = Kv::with_marketing().await;
    kv.put(&country("DE"), "Germany").await;
    let answer = kv.send("GET", &country("GB"), "").await;
    check_error(
        &answer,
        404,
        "EKV_9000",
        "Item 'GB' or group 'countries' was not found in the database.",
    );
    let answer = kv
        .send(
            "GET",
            &format!("{STAGING}/marketing/groups/none/items/DE"),
            "",
        )
        .await;
    check_error(
        &answer,
        404,
        "EKV_9000",
        "Item 'DE' or group 'none' was not found in the database.",
    );
    for (method, rest) in [
        ("GET", "groups/g/items/k"),
        ("PUT", "groups/g/items/k"),
        ("DELETE", "groups/g/items/k"),
        ("GET", "groups/g"),
        ("GET", "groups"),
    ] {
        let answer = kv
            .send(method, &format!("{STAGING}/missing/{rest}"), "x")
            .await;
        check_error(
            &answer,
            400,
            "EKV_9000",
            "The requested namespace does not exist.",
        );
    }
}

#[tokio::test]
async fn a_deleted_item_is_gone_and_deleting_nothing_is_fine() {
    let kv = Kv::with_marketing().await;
    kv.put(&country("US"), "x").await;
    let sentence = "Item was delete in KV store with database 123456 namespace marketing group countries key US.";
    for _ in 0..2 {
        check_text(&kv.send("DELETE", &country("US"), "").await, sentence);
        assert_eq!(kv.get(&country("US")).await, None);
    }
}

#[tokio::test]
async fn networks_namespaces_and_groups_are_separate() {
    let kv = Kv::with_marketing().await;
    kv.create_namespace(PRODUCTION, "marketing", 0).await;
    kv.create_namespace(STAGING, "other", 0).await;
    let paths = [
        country("k"),
        format!("{STAGING}/marketing/groups/languages/items/k"),
        format!("{STAGING}/other/groups/countries/items/k"),
        format!("{PRODUCTION}/marketing/groups/countries/items/k"),
        country("K"),
    ];
    for path in &paths {
        assert_eq!(kv.get(path).await, None, "{path}");
        kv.put(path, path).await;
    }
    for path in &paths {
        assert_eq!(kv.get(path).await.as_ref(), Some(path));
    }
}

#[tokio::test]
async fn keys_and_groups_have_their_lengths_and_characters() {
    let kv = Kv::with_marketing().await;
    let at = |group: &str, key: &str| format!("{STAGING}/marketing/groups/{group}/items/{key}");
    kv.put(&at(&"g".repeat(128), &"k".repeat(512)), "x").await;
    kv.put(&at("A-z_0", "A-z_0"), "x").await;
    let key = "Key must have 1 to 512 characters.";
    let group = "Group must have 1 to 128 characters.";
    let key_characters = "Key must only use a string that matches A-Z a-z 0-9 _ or -.";
    let group_characters = "Group must only use a string that matches A-Z a-z 0-9 _ or -.";
    for (path, detail) in [
        (at("g", &"k".repeat(513)), key),
        (at(&"g".repeat(129), "k"), group),
        (at("g", "a.b"), key_characters),
        (at("g", "a%20b"), key_characters),
        (at("g", "a%2Fb"), key_characters),
        (at("g", "%C3%A4"), key_characters),
        (at("g", "a%2500"), key_characters),
        (at("g.h", "k"), group_characters),
        (at("g", "%FF"), "Names in the path must be valid UTF-8."),
    ] {
        for method in ["PUT", "GET", "DELETE"] {
            let answer = kv.send(method, &path, "").await;
            check_error(&answer, 400, "EKV_9000", detail);
        }
    }
    // Decoded once, so an escaped letter is that letter.
    kv.put(&country("%44E"), "Germany").await;
    assert_eq!(kv.get(&country("DE")).await.as_deref(), Some("Germany"));
}

#[tokio::test]
async fn values_up_to_262144_bytes_are_stored() {
    let kv = Kv::with_marketing().await;
    let path = country("big");
    let largest = "x".repeat(262_144);
    kv.put(&path, &largest).await;
    let headers = [("content-type", "text/plain")];
    let answer = kv
        .send_with("PUT", &path, &headers, format!("{largest}x"))
        .await;
    check_error(
        &answer,
        413,
        "EKV_9000",
        "Value cannot exceed 262144 characters.",
    );
    assert_eq!(kv.get(&path).await, Some(largest));
}

#[tokio::test]
async fn broken_json_and_other_types_store_nothing() {
    let kv = Kv::with_marketing().await;
    let path = country("DE");
    for bad in ["", "{", "{} {}", "text", "{\"a\":}", "\"\u{1}\""] {
        let headers = [("content-type", "application/json")];
        let answer = kv.send_with("PUT", &path, &headers, bad).await;
        check_error(&answer, 400, "EKV_2001", "The value is not valid JSON.");
    }
    for other in [
        "text/html",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "x",
    ] {
        let headers = [("content-type", other)];
        let answer = kv.send_with("PUT", &path, &headers, "x").await;
        check_error(
            &answer,
            415,
            "EKV_2000",
            "The Content-Type must be application/json, application/text or text/plain.",
        );
    }
    assert_eq!(kv.get(&path).await, None);
}

/// Two clients of the vendor do this; see line 60.
#[tokio::test]
async fn bodies_of_get_and_delete_are_read_and_ignored() {
    let kv = Kv::with_marketing().await;
    kv.put(&country("DE"), "Germany").await;
    let headers = [
        ("content-type", "application/json"),
        ("x-ak-edgekv-cli", "1"),
    ];
    let answer = kv.send_with("GET", &country("DE"), &headers, "\"\"").await;
    check_text(&answer, "Germany");
    let answer = kv
        .send_with("DELETE", &country("DE"), &headers, "\"\"")
        .await;
    assert_eq!(answer.status, 200);
    let most = vec![b'x'; 64 * 1024];
    assert_eq!(kv.send("GET", STAGING, most.clone()).await.status, 200);
    let answer = kv.send("GET", STAGING, [most, vec![b'x']].concat()).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let kv = Kv::with_marketing().await;
    kv.put(&country("DE"), "Germany").await;
    let answer = kv.send("HEAD", &country("DE"), "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), Some("7"));
    assert_eq!(answer.header("content-type"), Some(TEXT));
    assert!(answer.body.is_empty());
    assert_eq!(kv.send("HEAD", &country("GB"), "").await.status, 404);
}

#[tokio::test]
async fn an_item_lives_as_long_as_the_retention_at_its_last_write() {
    let kv = Kv::new().await;
    kv.create_namespace(STAGING, "marketing", 86_400).await;
    kv.put(&country("old"), "x").await;
    let body = json!({"namespace": "marketing", "retentionInSeconds": 172_800});
    let answer = kv
        .send_json("PUT", &format!("{STAGING}/marketing"), body)
        .await;
    assert_eq!(answer.status, 200);
    kv.put(&country("new"), "x").await;

    kv.advance_seconds(86_399);
    assert!(kv.get(&country("old")).await.is_some());
    kv.put(&country("again"), "x").await;
    kv.advance_seconds(1);
    assert_eq!(
        kv.get(&country("old")).await,
        None,
        "the update came after its write"
    );
    assert!(kv.get(&country("new")).await.is_some());
    let listed = kv.send("GET", COUNTRIES, "").await;
    assert_eq!(listed.text(), r#"["again","new"]"#);

    kv.advance_seconds(86_400);
    assert_eq!(kv.get(&country("new")).await, None);
    kv.advance_seconds(86_399);
    assert_eq!(kv.get(&country("again")).await, None);
    // A group without items is none.
    let groups = kv
        .send("GET", &format!("{STAGING}/marketing/groups"), "")
        .await;
    check_error(&groups, 404, "EKV_9000", "There are no groups.");
}

#[tokio::test]
async fn a_retention_of_zero_is_for_ever() {
    let kv = Kv::with_marketing().await;
    kv.put(&country("DE"), "x").await;
    kv.advance_seconds(100 * 365 * 86_400);
    assert!(kv.get(&country("DE")).await.is_some());
}

#[tokio::test]
async fn concurrent_writers_leave_one_whole_value() {
    let kv = Arc::new(Kv::with_marketing().await);
    let values: Vec<String> = (0..8).map(|n| n.to_string().repeat(5000)).collect();
    let mut writers = tokio::task::JoinSet::new();
    for value in values.clone() {
        let kv = Arc::clone(&kv);
        writers.spawn(async move {
            for _ in 0..10 {
                kv.put(&country("DE"), &value).await;
                let read = kv.get(&country("DE")).await.expect("it is there");
                assert!(read.len() == 5000 && read.bytes().all(|b| b == read.as_bytes()[0]));
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    assert!(values.contains(&kv.get(&country("DE")).await.unwrap()));
}

/// What one API writes the others can read.
#[tokio::test]
async fn values_of_other_dialects_are_shown_as_text() {
    let kv = Kv::with_marketing().await;
    let world = &kv.app.world;
    let key = |item: &str| Key::from_strings(["staging", "marketing", "countries", item]);
    world
        .put("edgekv", key("json"), Stored::json("{\"a\": 1}"))
        .await;
    world.put("edgekv", key("number"), Stored::u64(7)).await;
    // `{"a": 1}` in the V8 format.
    let v8 = [0xff, 0x0f, b'o', b'"', 1, b'a', b'I', 2, b'{', 1];
    world
        .put("edgekv", key("v8"), Stored::v8(v8.to_vec()))
        .await;
    assert_eq!(
        kv.get(&country("json")).await.as_deref(),
        Some("{\"a\": 1}")
    );
    assert!(kv.get(&country("number")).await.unwrap().contains('7'));
    assert_eq!(kv.get(&country("v8")).await.as_deref(), Some("{\"a\":1}"));

    let headers = [("content-type", "application/json")];
    kv.send_with("PUT", &country("DE"), &headers, "{ }").await;
    let entry = world.get("edgekv", &key("DE")).await.unwrap();
    assert_eq!(entry.value, Stored::json("{ }"));
    kv.put(&country("US"), "text").await;
    let entry = world.get("edgekv", &key("US")).await.unwrap();
    assert_eq!(entry.value.encoding, Encoding::Bytes);
    let meta = entry.meta.expect("text says so");
    assert_eq!(meta.content_type.as_deref(), Some("text/plain"));
}

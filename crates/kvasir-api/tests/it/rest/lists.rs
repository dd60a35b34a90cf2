//! Lists and deletions of everything below a prefix.

use kvasir_kv::{AtomicWrite, Key, Mutation, Part, Value};

use super::*;

async fn filled() -> App {
    let app = app();
    for (path, value) in [
        ("users", "0"),
        ("users.a", "1"),
        ("users.b", "[\n2\n]"),
        ("users.b.x", "3"),
        ("users.c", "4"),
        ("users2", "5"),
    ] {
        app.stored(&format!("/kv/{path}"), value).await;
    }
    app
}

fn paths(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.json();
    let paths = list.as_array().unwrap().iter().map(|entry| &entry["path"]);
    paths
        .map(|path| path.as_str().unwrap_or("?").to_owned())
        .collect()
}

#[tokio::test]
async fn a_list_holds_every_entry_below_the_prefix_in_key_order() {
    let app = filled().await;
    let answer = app.kv_get("/kv/users?list=true").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        paths(&answer),
        ["users.a", "users.b", "users.b.x", "users.c"]
    );
    let first = &answer.json()[0];
    let members: Vec<_> = first.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        members,
        ["expiresAt", "key", "path", "value", "versionstamp"]
    );
    assert_eq!(first["key"], serde_json::json!(["users", "a"]));
    assert_eq!(first["value"], 1);
    assert_eq!(first["expiresAt"], serde_json::Value::Null);
    assert!(answer.text().contains("\"value\":[\n2\n],"), "as stored");

    assert_eq!(app.kv_get("/kv/nothing?list=1").await.text(), "[]");
    assert_eq!(paths(&app.kv_get("/kv?list=true").await).len(), 6);
    let typed = app
        .kv_get("/kv?key=%5B%22users%22%2C%22b%22%5D&list=1")
        .await;
    assert_eq!(paths(&typed), ["users.b.x"]);
    assert_eq!(app.kv_get("/kv/users?list=false").await.text(), "0");
    assert_eq!(app.kv_get("/kv/users?list=0").await.text(), "0");
}

#[tokio::test]
async fn bounds_direction_and_shape_can_be_chosen() {
    let app = filled().await;
    for (query, expected) in [
        (
            "reverse=true",
            &["users.c", "users.b.x", "users.b", "users.a"][..],
        ),
        ("start=users.b", &["users.b", "users.b.x", "users.c"]),
        ("end=users.b", &["users.a"]),
        ("start=users.b&end=users.c", &["users.b", "users.b.x"]),
        (
            "start=users.b&end=users.c&reverse=1",
            &["users.b.x", "users.b"],
        ),
        (
            "start=a&end=z",
            &["users.a", "users.b", "users.b.x", "users.c"],
        ),
        ("start=users.c&end=users.a", &[]),
        ("start=zzz", &[]),
    ] {
        let answer = app.kv_get(&format!("/kv/users?list=true&{query}")).await;
        assert_eq!(paths(&answer), expected, "{query}");
    }
    let answer = app.kv_get("/kv/users?list=true&values=false").await;
    assert_eq!(paths(&answer).len(), 4);
    assert!(!answer.text().contains("\"value\""));
}

#[tokio::test]
async fn a_limit_cuts_the_list_and_says_where_to_go_on() {
    let app = filled().await;
    for reverse in ["false", "true"] {
        let mut target = format!("/kv/users?list=true&limit=2&reverse={reverse}");
        let mut seen = Vec::new();
        loop {
            let answer = app.kv_get(&target).await;
            seen.extend(paths(&answer));
            let Some(link) = answer.header("link") else {
                assert_eq!(answer.header("x-kv-cursor"), None);
                break;
            };
            let cursor = answer.header("x-kv-cursor").unwrap();
            target = link
                .strip_prefix('<')
                .and_then(|link| link.strip_suffix(">; rel=\"next\""))
                .unwrap()
                .to_owned();
            assert_eq!(
                target,
                format!("/kv/users?list=true&limit=2&reverse={reverse}&cursor={cursor}")
            );
        }
        let mut expected = vec!["users.a", "users.b", "users.b.x", "users.c"];
        if reverse == "true" {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
    let exact = app.kv_get("/kv/users?list=true&limit=4").await;
    assert_eq!(exact.header("x-kv-cursor"), None, "nothing is left");
}

#[tokio::test]
async fn a_cursor_never_leads_out_of_the_range() {
    let app = filled().await;
    let all = app.kv_get("/kv?list=true&limit=1").await;
    let cursor = all.header("x-kv-cursor").unwrap().to_owned();
    let answer = app
        .kv_get(&format!("/kv/users?list=true&cursor={cursor}"))
        .await;
    assert_eq!(paths(&answer).len(), 4, "before the range is its start");
    let answer = app
        .kv_get(&format!("/kv/users?list=true&reverse=1&cursor={cursor}"))
        .await;
    assert_eq!(answer.text(), "[]");
}

#[tokio::test]
async fn ndjson_is_one_entry_a_line() {
    let app = filled().await;
    let accept = [("accept", "application/x-ndjson")];
    for query in ["", "&limit=100"] {
        let target = format!("/kv/users?list=true{query}");
        let answer = app.send("GET", &target, &accept, "").await;
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
        let lines: Vec<serde_json::Value> = answer
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1]["value"], serde_json::json!([2]));
        assert!(answer.text().ends_with("}\n"));
    }
    let none = app.send("GET", "/kv/none?list=1", &accept, "").await;
    assert_eq!(none.text(), "");
}

#[tokio::test]
async fn keys_of_other_clients_are_shown_with_their_types() {
    let app = app();
    let typed = Key::from_parts(&[Part::from("a"), Part::Number(1.0), Part::Bool(false)]);
    app.world.put("default", typed, Value::json("1")).await;
    app.world
        .put(
            "default",
            Key::new(vec![2, b'a', 0, 0x99]),
            Value::json("2"),
        )
        .await;
    let answer = app.kv_get("/kv/a?list=true&values=false").await.json();
    assert_eq!(answer[0]["key"], serde_json::json!(["a", 1, false]));
    assert_eq!(answer[0]["path"], serde_json::Value::Null);
    assert_eq!(answer[1]["key"], serde_json::Value::Null);
    assert_eq!(answer[1]["rawKey"], "AmEAmQ==");
}

#[tokio::test]
async fn head_of_a_list_has_its_headers() {
    let app = filled().await;
    let answer = app
        .send("HEAD", "/kv/users?list=true&limit=1", &[], "")
        .await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, ""));
    assert!(answer.header("x-kv-cursor").is_some());
}

#[tokio::test]
async fn a_long_limited_list_is_cut_exactly_although_it_is_not_held() {
    let app = app_with_value_limit(8 * 1024 * 1024);
    let big = format!("\"{}\"", "x".repeat(1024 * 1024));
    for index in 0..8 {
        app.stored(&format!("/kv/big.{index}"), &big).await;
    }
    for (query, count, has_more) in [
        ("limit=6", 6, true),
        ("limit=6&reverse=true", 6, true),
        ("limit=8", 8, false),
        ("limit=9", 8, false),
    ] {
        let answer = app.kv_get(&format!("/kv/big?list=true&{query}")).await;
        assert_eq!(paths(&answer).len(), count, "{query}");
        assert_eq!(answer.header("x-kv-cursor").is_some(), has_more, "{query}");
    }
}

#[tokio::test]
async fn deleting_a_prefix_removes_all_below_it_and_counts_them() {
    let app = filled().await;
    let answer = app.send("DELETE", "/kv/users?list=true", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), r#"{"ok":true,"deleted":4}"#);
    assert_eq!(
        paths(&app.kv_get("/kv?list=true").await),
        ["users", "users2"]
    );
    let answer = app.send("DELETE", "/kv/users?list=true", &[], "").await;
    assert_eq!(answer.text(), r#"{"ok":true,"deleted":0}"#);
}

#[tokio::test]
async fn deleting_a_prefix_goes_on_over_many_pages() {
    let app = app();
    for batch in 0..4 {
        let mutations = (0..500).map(|index| {
            let name = format!("{batch}-{index:04}");
            Mutation::set(key(&["many", &name]), Value::json("1"))
        });
        let write = AtomicWrite {
            mutations: mutations.collect(),
            ..AtomicWrite::new()
        };
        app.world.keyspace("default").commit(write).await.unwrap();
    }
    let some = app
        .send("DELETE", "/kv/many?list=1&limit=700", &[], "")
        .await;
    assert_eq!(some.text(), r#"{"ok":true,"deleted":700}"#);
    let rest = app.send("DELETE", "/kv/many?list=1", &[], "").await;
    assert_eq!(rest.text(), r#"{"ok":true,"deleted":1300}"#);
}

#[tokio::test]
async fn the_whole_database_is_deleted_only_when_that_is_said() {
    let app = filled().await;
    let answer = app.send("DELETE", "/kv?list=true", &[], "").await;
    assert_problem(&answer, 400, "bad_request", "all=true");
    let answer = app
        .send("DELETE", "/kv?list=true&key=%5B%5D", &[], "")
        .await;
    assert_problem(&answer, 400, "bad_request", "all=true");
    let answer = app.send("DELETE", "/kv/?list=true&all=true", &[], "").await;
    assert_eq!(answer.status, 400, "an empty keypath is never everything");
    assert_eq!(paths(&app.kv_get("/kv?list=true").await).len(), 6);
    let answer = app.send("DELETE", "/kv?list=true&all=true", &[], "").await;
    assert_eq!(answer.text(), r#"{"ok":true,"deleted":6}"#);
}

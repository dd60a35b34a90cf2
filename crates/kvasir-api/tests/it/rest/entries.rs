//! GET, HEAD, PUT and DELETE of one entry.

use kvasir_kv::{Encoding, Key, Part, Value};

use super::*;
use crate::support::START;

#[tokio::test]
async fn the_documents_own_request_is_stored_read_and_gone_when_its_ttl_ends() {
    let app = app();
    let body = r#"{"value": {"token": "abc123"}, "ttl": 3600000}"#;
    let answer = app.kv_put("/kv/users.john.session", body).await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let stored = answer.json();
    let stamp = stored["versionstamp"].as_str().unwrap().to_owned();
    assert_eq!(
        answer.text(),
        format!(
            r#"{{"ok":true,"key":["users","john","session"],"versionstamp":"{stamp}","expiresAt":"2026-01-02T04:04:05Z"}}"#
        )
    );
    assert_eq!(answer.header("etag"), Some(&*format!("\"{stamp}\"")));

    let answer = app.kv_get("/kv/users.john.session").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), r#"{"token": "abc123"}"#, "byte for byte");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("etag"), Some(&*format!("\"{stamp}\"")));
    assert_eq!(answer.header("x-kv-versionstamp"), Some(&*stamp));
    assert_eq!(
        answer.header("x-kv-expires-at"),
        Some("2026-01-02T04:04:05Z")
    );

    app.world.clock.advance_ms(3_599_999);
    assert_eq!(app.kv_get("/kv/users.john.session").await.status, 200);
    app.world.clock.advance_ms(1);
    let answer = app.kv_get("/kv/users.john.session").await;
    assert_problem(&answer, 404, "not_found", "no such key");
    assert_eq!(app.kv_get("/kv/users?list=true").await.text(), "[]");
}

#[tokio::test]
async fn every_json_value_comes_back_as_it_was_sent() {
    let app = app();
    for value in [
        "null",
        "true",
        "0",
        "-0",
        "1e400",
        "123456789012345678901234567890.5",
        r#""""#,
        r#""\ud800 \u0000 \/ ü""#,
        "[]",
        "{}",
        "{\n  \"b\": 1,\r\n  \"a\": [ 1 , 2 ],\n  \"b\": 2\n}",
        r#"{"type":"Date","value":"2026-01-02T03:04:05Z"}"#,
    ] {
        app.stored("/kv/value", value).await;
        let answer = app.kv_get("/kv/value").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, value));
        let entry = app.world.get("default", &key(&["value"])).await.unwrap();
        assert_eq!(entry.value.encoding, Encoding::Json);
    }
}

#[tokio::test]
async fn a_put_replaces_value_and_ttl() {
    let app = app();
    app.kv_put("/kv/a", r#"{"value":1,"ttl":1000}"#).await;
    let second = app.kv_put("/kv/a", r#"{"value":2}"#).await;
    assert_eq!(second.json()["expiresAt"], serde_json::Value::Null);
    app.world.clock.advance_ms(1_000_000);
    let answer = app.kv_get("/kv/a").await;
    assert_eq!(answer.text(), "2");
    assert_eq!(answer.header("x-kv-expires-at"), None);
}

#[tokio::test]
async fn ttls_may_be_written_like_any_json_integer() {
    let app = app();
    for (ttl, expires_at) in [
        ("1", "2026-01-02T03:04:05.001Z"),
        ("6e4", "2026-01-02T03:05:05Z"),
        ("60000.0", "2026-01-02T03:05:05Z"),
    ] {
        let answer = app
            .kv_put("/kv/a", format!(r#"{{"value":1,"ttl":{ttl}}}"#))
            .await;
        assert_eq!(answer.status, 200, "{ttl}: {}", answer.text());
        assert_eq!(answer.json()["expiresAt"], expires_at, "{ttl}");
    }
}

#[tokio::test]
async fn the_latest_expiry_is_the_end_of_the_year_9999() {
    let app = app();
    let most = 253_402_300_799_999 - START.0;
    let put = |ttl: i64| format!(r#"{{"value":1,"ttl":{ttl}}}"#);
    let answer = app.kv_put("/kv/a", put(most)).await;
    assert_eq!(answer.json()["expiresAt"], "9999-12-31T23:59:59.999Z");
    let answer = app.kv_put("/kv/a", put(most + 1)).await;
    assert_problem(
        &answer,
        400,
        "bad_request",
        "`ttl` ends after the year 9999",
    );
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let app = app();
    let stamp = app.stored("/kv/a", "[1,2,3]").await;
    let answer = app.send("HEAD", "/kv/a", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "");
    assert_eq!(answer.header("content-length"), Some("7"));
    assert_eq!(answer.header("x-kv-versionstamp"), Some(&*stamp));
    assert_eq!(app.send("HEAD", "/kv/b", &[], "").await.status, 404);
}

#[tokio::test]
async fn meta_shows_the_whole_entry() {
    let app = app();
    let stamp = app.stored("/kv/users.jo%5C.hn", "{\"a\": 1}").await;
    let answer = app.kv_get("/kv/users.jo%5C.hn?meta=true").await;
    assert_eq!(
        answer.text(),
        format!(
            r#"{{"key":["users","jo.hn"],"path":"users.jo\\.hn","value":{{"a": 1}},"versionstamp":"{stamp}","expiresAt":null}}"#
        )
    );
    assert_eq!(answer.header("etag"), Some(&*format!("\"{stamp}\"")));
    assert_eq!(
        app.kv_get("/kv/users.jo%5C.hn?meta=0").await.text(),
        "{\"a\": 1}"
    );
    assert_problem(
        &app.kv_get("/kv/b?meta=1").await,
        404,
        "not_found",
        "no such key",
    );
}

#[tokio::test]
async fn delete_says_whether_the_key_was_there() {
    let app = app();
    app.stored("/kv/a", "1").await;
    let answer = app.send("DELETE", "/kv/a", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.text(), r#"{"ok":true,"existed":true}"#);
    let answer = app.send("DELETE", "/kv/a", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), r#"{"ok":true,"existed":false}"#);

    app.kv_put("/kv/a", r#"{"value":1,"ttl":1}"#).await;
    app.world.clock.advance_ms(1);
    let answer = app.send("DELETE", "/kv/a", &[], "").await;
    assert_eq!(answer.text(), r#"{"ok":true,"existed":false}"#, "expired");
}

#[tokio::test]
async fn keys_of_all_part_types_are_reached_as_json() {
    let app = app();
    let typed = Key::from_parts(&[
        Part::from("n"),
        Part::Number(1.5),
        Part::BigInt(12.into()),
        Part::Bool(true),
        Part::Bytes(vec![0, 255].into()),
    ]);
    app.world
        .put("default", typed.clone(), Value::json("7"))
        .await;
    let json = r#"["n",1.5,{"bigint":"12"},true,{"bytes":"AP8="}]"#;
    let target = format!("/kv?key={}", percent(json));

    assert_eq!(app.kv_get(&target).await.text(), "7");
    let entry = app.kv_get(&format!("{target}&meta=true")).await;
    assert!(
        entry
            .text()
            .starts_with(&format!(r#"{{"key":{json},"path":null,"value":7,"#))
    );
    app.stored(&target, "8").await;
    let entry = app.world.get("default", &typed).await.unwrap();
    assert_eq!(entry.value, Value::json("8"));
    let answer = app.send("DELETE", &target, &[], "").await;
    assert_eq!(answer.text(), r#"{"ok":true,"existed":true}"#);

    app.stored(&format!("/kv?key={}", percent(r#"["a","b"]"#)), "1")
        .await;
    assert_eq!(app.kv_get("/kv/a.b").await.text(), "1", "the same key");
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn values_of_deno_programs_are_shown_as_json_and_written_back_unchanged() {
    let app = app();
    let v8 = |bytes: &[u8]| Value::v8(bytes.to_vec());
    let cases = [
        // {"a": 1}, the integer 5 and the string "é" as Deno writes them.
        (v8(b"\xff\x0fo\"\x01aI\x02{\x01"), r#"{"a":1}"#),
        (v8(b"\xff\x0fI\x0a"), "5"),
        (v8(b"\xff\x0f\"\x01\xe9"), "\"é\""),
        (v8(b"\xff\x0f_"), r#"{"type":"undefined","$kvasir":1}"#),
        (
            v8(b"\xff\x0fZ\x10\x2a\0\0\0\0\0\0\0"),
            r#"{"type":"bigint","value":"42","$kvasir":1}"#,
        ),
        (
            Value::u64(u64::MAX),
            r#"{"type":"u64","value":"18446744073709551615","$kvasir":1}"#,
        ),
        (
            Value::bytes(vec![0, 255]),
            r#"{"type":"Uint8Array","value":"AP8=","$kvasir":1}"#,
        ),
        (
            v8(b"\xff\x0f\\garbage"),
            r#"{"type":"v8","value":"/w9cZ2FyYmFnZQ==","$kvasir":1}"#,
        ),
    ];
    for (value, json) in cases {
        app.world.put("default", key(&["a"]), value.clone()).await;
        let answer = app.kv_get("/kv/a").await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let expected: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(answer.json(), expected, "{}", answer.text());
        if json.contains("$kvasir") {
            app.stored("/kv/b", answer.text()).await;
            let back = app.world.get("default", &key(&["b"])).await.unwrap();
            assert_eq!(back.value.encoding, value.encoding);
            assert_eq!(back.value.bytes, value.bytes, "{json}");
        }
    }
}

#[tokio::test]
async fn bytes_are_given_raw_to_whom_asks_for_them() {
    let app = app();
    app.world
        .put("default", key(&["a"]), Value::bytes(vec![0, 255, 10]))
        .await;
    let accept = [("accept", "text/html, application/octet-stream;q=0.9")];
    let answer = app.send("GET", "/kv/a", &accept, "").await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(answer.header("vary"), Some("Accept"));
    assert_eq!(&answer.body[..], [0, 255, 10]);

    let refused = [("accept", "application/octet-stream;q=0")];
    let answer = app.send("GET", "/kv/a", &refused, "").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));

    app.stored("/kv/b", "1").await;
    let answer = app.send("GET", "/kv/b", &accept, "").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.text(), "1");
}

#[tokio::test]
async fn dots_and_backslashes_in_segments_are_escaped() {
    let app = app();
    for (target, parts) in [
        ("/kv/a%5C.b.c", &["a.b", "c"][..]),
        ("/kv/%5C%5C", &["\\"]),
        ("/kv/a%2Eb", &["a", "b"]),
        ("/kv/a%2Fb", &["a/b"]),
        ("/kv/%F0%9F%94%91.x+y", &["🔑", "x+y"]),
        ("/kv/_atomic", &["_atomic"]),
    ] {
        app.stored(target, "1").await;
        let entry = app.world.get("default", &key(parts)).await;
        assert!(entry.is_some(), "{target}");
        assert_eq!(app.kv_get(target).await.status, 200, "{target}");
    }
}

/// Headers that do not change from one answer to the next of the same request.
fn lasting_headers(answer: &Answer) -> Vec<(String, String)> {
    let changing = [
        "x-request-id",
        "content-length",
        "etag",
        "x-kv-versionstamp",
    ];
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !changing.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), format!("{value:?}")))
        .collect();
    headers.sort_unstable();
    headers
}

#[tokio::test]
async fn the_router_and_the_direct_path_answer_alike() {
    let app = app();
    app.stored("/kv/a.b", "1").await;
    for path in [
        "/kv/a.b", "/kv/none", "/kv/a..b", "/kv/a/b", "/kv/", "/kv", "/kv/%zz",
    ] {
        // A query that means nothing takes the request past the direct path.
        let direct = app.kv_get(path).await;
        let routed = app.kv_get(&format!("{path}?x=1")).await;
        assert_eq!(direct.status, routed.status, "{path}");
        assert_eq!(lasting_headers(&direct), lasting_headers(&routed), "{path}");
        if direct.status == 200 {
            assert_eq!(direct.body, routed.body);
        } else {
            assert_eq!(direct.json()["detail"], routed.json()["detail"]);
        }
    }
}

#[tokio::test]
async fn the_router_and_the_direct_path_take_the_same_writes() {
    const JSON: (&str, &str) = ("content-type", "application/json");
    let app = app();
    for (path, headers, body) in [
        ("/kv/a.b", &[JSON][..], r#"{"value":{"n":1},"ttl":60000}"#),
        ("/kv/a.b", &[], r#"{"value":1}"#),
        ("/kv/a.b", &[JSON, ("if-none-match", "*")], r#"{"value":1}"#),
        ("/kv/a.b", &[JSON, ("if-match", "?")], r#"{"value":1}"#),
        (
            "/kv/a.b",
            &[("content-type", "text/plain")],
            r#"{"value":1}"#,
        ),
        ("/kv/a.b", &[JSON], r#"{"value":"#),
        ("/kv/a.b", &[JSON], r#"{"value":1,"ttl":-1}"#),
        ("/kv/a.b", &[JSON], ""),
        ("/kv/a..b", &[JSON], r#"{"value":1}"#),
        ("/kv/", &[JSON], r#"{"value":1}"#),
        ("/kv", &[JSON], r#"{"value":1}"#),
    ] {
        let direct = app.send("PUT", path, headers, body.to_owned()).await;
        let routed = format!("{path}?x=1");
        let routed = app.send("PUT", &routed, headers, body.to_owned()).await;
        assert_eq!(direct.status, routed.status, "{path} {body}");
        assert_eq!(
            lasting_headers(&direct),
            lasting_headers(&routed),
            "{path} {body}"
        );
        let comparable = |answer: &Answer| {
            let mut json = answer.json();
            for changing in ["versionstamp", "expiresAt", "requestId", "instance"] {
                if let Some(object) = json.as_object_mut() {
                    object.remove(changing);
                }
            }
            json
        };
        assert_eq!(comparable(&direct), comparable(&routed), "{path} {body}");
    }
}

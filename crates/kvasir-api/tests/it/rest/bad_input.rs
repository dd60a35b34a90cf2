//! Every refusal of the contract, with status, headers and body.

use super::*;

#[tokio::test]
async fn bad_targets_are_refused() {
    let app = app();
    let longest = "a".repeat(2046);
    assert_eq!(app.kv_get(&format!("/kv/{longest}")).await.status, 404);
    let cases: [(String, u16, &str, &str); 24] = [
        ("/kv".into(), 400, "bad_request", "name a key"),
        ("/kv/".into(), 400, "bad_request", "none of them is empty"),
        (
            "/kv/?list=true".into(),
            400,
            "bad_request",
            "none of them is empty",
        ),
        (
            "/kv/a..b".into(),
            400,
            "bad_request",
            "none of them is empty",
        ),
        ("/kv/.a".into(), 400, "bad_request", "none of them is empty"),
        ("/kv/a.".into(), 400, "bad_request", "none of them is empty"),
        (
            format!("/kv/{longest}a"),
            400,
            "bad_request",
            "2049 bytes long when encoded, over the limit of 2048",
        ),
        ("/kv/a/b".into(), 404, "not_found", "separated by dots"),
        ("/kv/a/".into(), 404, "not_found", "separated by dots"),
        ("/kv/a%5Cb".into(), 400, "bad_request", "backslash"),
        ("/kv/%zz".into(), 400, "bad_request", "percent sign"),
        ("/kv/%ff".into(), 400, "bad_request", "UTF-8"),
        (
            "/kv/a?list=yes".into(),
            400,
            "bad_request",
            "`list` must be true, 1, false or 0",
        ),
        ("/kv/a?list".into(), 400, "bad_request", "`list` must be"),
        (
            "/kv/a?list=true&list=true".into(),
            400,
            "bad_request",
            "`list` is given twice",
        ),
        (
            "/kv/a?list=true&limit=0".into(),
            400,
            "bad_request",
            "`limit` must be an integer from 1",
        ),
        (
            "/kv/a?list=true&limit=-1".into(),
            400,
            "bad_request",
            "`limit`",
        ),
        (
            "/kv/a?list=true&limit=4294967296".into(),
            400,
            "bad_request",
            "`limit`",
        ),
        (
            "/kv/a?list=true&cursor=!".into(),
            400,
            "bad_request",
            "`cursor`",
        ),
        (
            "/kv/a?list=true&start=a..b".into(),
            400,
            "bad_request",
            "`start`",
        ),
        (
            "/kv/a?list=true&end=%ff".into(),
            400,
            "bad_request",
            "UTF-8",
        ),
        (
            "/kv?key=a".into(),
            400,
            "bad_request",
            "`key`: it is not JSON",
        ),
        ("/kv?key=%5B%5D".into(), 400, "bad_request", "name a key"),
        ("/kv?key=%5Bnull%5D".into(), 400, "bad_request", "part 0"),
    ];
    for (target, status, code, detail) in &cases {
        for method in ["GET", "PUT", "DELETE"] {
            let only_lists = ["limit", "cursor", "start", "end"];
            if method == "PUT"
                && (only_lists.iter().any(|name| target.contains(name)) || target.contains("list"))
            {
                continue;
            }
            let answer = app.send(method, target, &[JSON], r#"{"value":1}"#).await;
            assert_problem(&answer, *status, code, detail);
        }
    }
    assert_eq!(
        app.kv_get("/kv?list=true").await.text(),
        "[]",
        "nothing was stored"
    );
}

#[tokio::test]
async fn bad_bodies_are_refused_and_name_the_member() {
    let app = app();
    let deep = |depth: usize| format!(r#"{{"value":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(app.kv_put("/kv/deep", deep(128)).await.status, 200);
    let cases = [
        (String::new(), "the body is not as it must be"),
        ("{".into(), "the body is not as it must be"),
        (r#"{"value":1} x"#.into(), "the body is not as it must be"),
        (r#"{"value":tru}"#.into(), "the body is not as it must be"),
        ("null".into(), "the body must be a JSON object"),
        ("[1,2]".into(), "the body must be a JSON object"),
        ("[1]".into(), "the body must be a JSON object"),
        ("\"value\"".into(), "the body must be a JSON object"),
        ("{}".into(), "missing field `value`"),
        (r#"{"ttl":1}"#.into(), "missing field `value`"),
        (r#"{"value":1,"TTL":1}"#.into(), "unknown field `TTL`"),
        (r#"{"value":1,"value":2}"#.into(), "duplicate field `value`"),
        (
            r#"{"value":1,"ttl":0}"#.into(),
            "`ttl` must be an integer of milliseconds above 0",
        ),
        (r#"{"value":1,"ttl":-5}"#.into(), "`ttl` must be"),
        (r#"{"value":1,"ttl":1.5}"#.into(), "`ttl` must be"),
        (r#"{"value":1,"ttl":"60000"}"#.into(), "`ttl` must be"),
        (r#"{"value":1,"ttl":null}"#.into(), "`ttl` must be"),
        (r#"{"value":1,"ttl":true}"#.into(), "`ttl` must be"),
        (
            r#"{"value":1,"ttl":1e30}"#.into(),
            "`ttl` ends after the year 9999",
        ),
        (
            r#"{"value":1,"ttl":1e999}"#.into(),
            "`ttl` ends after the year 9999",
        ),
        (
            deep(129),
            "`value`: arrays and objects are nested deeper than 128 levels",
        ),
        (
            r#"{"value":{"type":"u64","value":"x","$kvasir":1}}"#.into(),
            "`value`:",
        ),
    ];
    for (body, detail) in cases {
        let answer = app.kv_put("/kv/a", body).await;
        assert_problem(&answer, 400, "bad_request", detail);
    }
    assert_eq!(app.kv_get("/kv/a").await.status, 404);
}

#[tokio::test]
async fn other_content_types_are_415() {
    let app = app();
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "application/jsonx",
        "application/json; charset=latin1",
        "",
    ] {
        let headers = [("content-type", content_type)];
        let answer = app.send("PUT", "/kv/a", &headers, r#"{"value":1}"#).await;
        assert_problem(&answer, 415, "unsupported_media_type", "application/json");
        assert_eq!(answer.header("accept"), Some("application/json"));
    }
    for content_type in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json; profile=x",
    ] {
        let headers = [("content-type", content_type)];
        let answer = app.send("PUT", "/kv/a", &headers, r#"{"value":1}"#).await;
        assert_eq!(answer.status, 200, "{content_type}");
    }
    let answer = app.send("PUT", "/kv/a", &[], r#"{"value":1}"#).await;
    assert_eq!(answer.status, 200, "no content type is taken for JSON");
}

#[tokio::test]
async fn compressed_bodies_are_415() {
    let app = app();
    let headers = [JSON, ("content-encoding", "gzip")];
    let answer = app.send("PUT", "/kv/a", &headers, "\u{1f}").await;
    assert_problem(
        &answer,
        415,
        "unsupported_media_type",
        "without compression",
    );
    assert_eq!(answer.header("accept-encoding"), Some("identity"));
    let headers = [JSON, ("content-encoding", "identity")];
    let answer = app.send("PUT", "/kv/a", &headers, r#"{"value":1}"#).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn the_largest_value_passes_and_one_byte_more_is_413() {
    let limit = 1_000;
    let app = app_with_value_limit(limit);
    let body = |bytes: usize| format!(r#"{{"value":"{}"}}"#, "x".repeat(bytes - 2));
    assert_eq!(app.kv_put("/kv/a", body(limit)).await.status, 200);
    let answer = app.kv_put("/kv/b", body(limit + 1)).await;
    assert_problem(
        &answer,
        413,
        "too_large",
        "value is 1001 bytes, over the limit of 1000",
    );
    let spaced = format!("{}{}", " ".repeat(2_000), body(limit));
    assert_eq!(
        app.kv_put("/kv/a", spaced).await.status,
        200,
        "space is free"
    );
    let answer = app.kv_put("/kv/b", body(100_000)).await;
    assert_problem(&answer, 413, "too_large", "the body is over the limit");
    assert_eq!(app.kv_get("/kv/b").await.status, 404);
}

#[tokio::test]
async fn other_methods_are_405_and_name_the_right_ones() {
    let app = app();
    for (method, target, allow) in [
        ("POST", "/kv/a", "GET,HEAD,PUT,DELETE"),
        ("PATCH", "/kv/a", "GET,HEAD,PUT,DELETE"),
        ("POST", "/kv", "GET,HEAD,PUT,DELETE"),
        ("OPTIONS", "/kv/a", "GET,HEAD,PUT,DELETE"),
        ("PATCH", "/kv/_atomic", "GET,HEAD,PUT,DELETE,POST"),
        ("TRACE", "/kv/a", "GET,HEAD,PUT,DELETE"),
    ] {
        let answer = app.send(method, target, &[JSON], "{}").await;
        assert_problem(
            &answer,
            405,
            "method_not_allowed",
            "does not take that method",
        );
        assert_eq!(answer.header("allow"), Some(allow), "{method} {target}");
    }
}

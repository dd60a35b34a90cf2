//! `POST /kv/_atomic`.

use kvasir_kv::Value;
use serde_json::json;

use super::*;

impl App {
    async fn atomic(&self, body: &serde_json::Value) -> Answer {
        self.send("POST", "/kv/_atomic", &[JSON], body.to_string())
            .await
    }
}

#[tokio::test]
async fn checks_and_mutations_happen_together_or_not_at_all() {
    let app = app();
    let stamp = app.stored("/kv/a", "1").await;
    let move_it = json!({
        "checks": [
            {"key": ["a"], "versionstamp": stamp},
            {"key": ["b"], "versionstamp": null},
        ],
        "mutations": [
            {"type": "delete", "key": ["a"]},
            {"type": "set", "key": ["b"], "value": {"x": [1]}, "ttl": 1000},
            {"type": "set", "key": ["c", 1], "value": null},
        ],
    });
    let answer = app.atomic(&move_it).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let stamp = answer.json()["versionstamp"].as_str().unwrap().to_owned();
    assert_eq!(
        answer.text(),
        format!(r#"{{"ok":true,"versionstamp":"{stamp}"}}"#)
    );
    assert_eq!(app.kv_get("/kv/a").await.status, 404);
    let b = app.kv_get("/kv/b").await;
    assert_eq!(b.text(), r#"{"x":[1]}"#);
    assert_eq!(b.header("x-kv-versionstamp"), Some(&*stamp));
    assert!(b.header("x-kv-expires-at").is_some());

    let again = app.atomic(&move_it).await;
    assert_eq!(again.status, 409);
    assert_eq!(again.header("content-type"), Some("application/json"));
    assert_eq!(again.header("x-kvasir-error"), Some("conflict"));
    assert_eq!(
        again.json(),
        json!({"ok": false, "error": "a check failed; nothing was changed", "failed": [0, 1]})
    );
}

#[tokio::test]
async fn numbers_are_added_and_compared() {
    let app = app();
    app.stored("/kv/n", "5").await;
    app.world.put("default", key(&["u"]), Value::u64(40)).await;
    let u64_tag = |number: &str| json!({"type": "u64", "value": number, "$kvasir": 1});
    for (mutation, path, expected) in [
        (json!({"type": "sum", "key": ["n"], "value": 2}), "n", "7"),
        (
            json!({"type": "sum", "key": ["n"], "value": -1.5}),
            "n",
            "5.5",
        ),
        (json!({"type": "min", "key": ["n"], "value": 3}), "n", "3"),
        (json!({"type": "max", "key": ["n"], "value": 4}), "n", "4"),
        (
            json!({"type": "sum", "key": ["new"], "value": 1}),
            "new",
            "1",
        ),
    ] {
        let answer = app.atomic(&json!({"mutations": [mutation]})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(app.kv_get(&format!("/kv/{path}")).await.text(), expected);
    }
    for value in [json!(1), u64_tag("1")] {
        let sum = json!({"mutations": [{"type": "sum", "key": ["u"], "value": value}]});
        assert_eq!(app.atomic(&sum).await.status, 200);
    }
    let entry = app.world.get("default", &key(&["u"])).await.unwrap();
    assert_eq!(entry.value.as_u64(), Some(42));
}

#[tokio::test]
async fn a_sum_that_does_not_fit_changes_nothing() {
    let app = app();
    app.stored("/kv/text", "\"x\"").await;
    let write = json!({"mutations": [
        {"type": "set", "key": ["other"], "value": 1},
        {"type": "sum", "key": ["text"], "value": 1},
    ]});
    let answer = app.atomic(&write).await;
    assert_problem(&answer, 400, "type_mismatch", "");
    assert_eq!(app.kv_get("/kv/other").await.status, 404);
    let write = json!({"mutations": [{"type": "sum", "key": ["n"], "value": "x"}]});
    assert_problem(&app.atomic(&write).await, 400, "bad_request", "sum");
}

#[tokio::test]
async fn an_empty_write_is_legal() {
    let app = app();
    for body in ["{}", r#"{"checks":[],"mutations":[]}"#] {
        let answer = app.send("POST", "/kv/_atomic", &[JSON], body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn bad_bodies_are_refused_with_the_place() {
    let app = app();
    let cases = [
        ("", "the body is not as it must be"),
        ("[]", "the body must be a JSON object"),
        ("null", "the body must be a JSON object"),
        (r#"{"writes":[]}"#, "unknown field `writes`"),
        (r#"{"checks":{}}"#, "the body is not as it must be"),
        (
            r#"{"checks":[[["a"],null]]}"#,
            "`checks[0]`: a check must be a JSON object",
        ),
        (
            r#"{"checks":[{"key":["a"]}]}"#,
            "`checks[0]`: missing field `versionstamp`",
        ),
        (
            r#"{"checks":[{"key":["a"],"versionstamp":1}]}"#,
            "`checks[0]`",
        ),
        (
            r#"{"checks":[{"key":["a"],"versionstamp":"12"}]}"#,
            "`checks[0].versionstamp`: a versionstamp is 20 hexadecimal digits, or null",
        ),
        (
            r#"{"checks":[{"key":"a","versionstamp":null}]}"#,
            "`checks[0].key`: it must be an array",
        ),
        (
            r#"{"checks":[{"key":[],"versionstamp":null}]}"#,
            "`checks[0].key` must have at least one part",
        ),
        (
            r#"{"mutations":[{"type":"set","key":["a"]}]}"#,
            "`mutations[0].value` is missing",
        ),
        (
            r#"{"mutations":[{"type":"delete","key":["a"],"value":1}]}"#,
            "`mutations[0].value` is not allowed",
        ),
        (
            r#"{"mutations":[{"type":"sum","key":["a"],"value":1,"ttl":1}]}"#,
            "`mutations[0].ttl` is not allowed",
        ),
        (
            r#"{"mutations":[{"type":"push","key":["a"],"value":1}]}"#,
            "`mutations[0].type` must be set, delete, sum, min or max",
        ),
        (
            r#"{"mutations":[{"type":"delete","key":["a"]},{"type":"set","key":[null],"value":1}]}"#,
            "`mutations[1].key`: part 0",
        ),
        (
            r#"{"mutations":[{"type":"set","key":["a"],"value":1,"ttl":0}]}"#,
            "`mutations[0].ttl` must be an integer",
        ),
        (
            r#"{"mutations":[{"type":"set","key":["a"],"value":1,"x":0}]}"#,
            "unknown field `x`",
        ),
    ];
    for (body, detail) in cases {
        let answer = app.send("POST", "/kv/_atomic", &[JSON], body).await;
        assert_problem(&answer, 400, "bad_request", detail);
    }
    let answer = app
        .send(
            "POST",
            "/kv/_atomic",
            &[("content-type", "text/plain")],
            "{}",
        )
        .await;
    assert_problem(&answer, 415, "unsupported_media_type", "application/json");
}

#[tokio::test]
async fn a_thousand_mutations_pass_and_one_more_does_not() {
    let app = app();
    let body = |count: usize| {
        let mutations: Vec<_> = (0..count)
            .map(|index| json!({"type": "set", "key": ["many", index], "value": index}))
            .collect();
        json!({ "mutations": mutations })
    };
    assert_eq!(app.atomic(&body(1_000)).await.status, 200);
    let answer = app.atomic(&body(1_001)).await;
    assert_problem(
        &answer,
        400,
        "too_many",
        "1001 mutations, over the limit of 1000",
    );
}

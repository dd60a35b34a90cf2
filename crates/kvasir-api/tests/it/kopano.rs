//! The Kopano dialect against the checklist of its contract. Numbers in comments are its lines.

use std::sync::Arc;

use data_encoding::BASE64;
use http::header;
use kvasir_api::Dialect;
use kvasir_api::kopano::{Kopano, Settings};
use kvasir_kv::Clock;
use kvasir_testkit::oidc::{self, Algorithm, Issuer, SigningKey};
use serde_json::{Value, json};

use crate::support::{Answer, App, World};

const BASE: &str = "/api/kvs/v1";

/// A site with the dialect, its identity provider, and a user's token.
struct Setup {
    world: World,
    app: App,
    issuer: Issuer,
    provider: Arc<kvasir_auth::oidc::Provider>,
    token: String,
}

impl Setup {
    async fn new() -> Setup {
        Setup::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Setup {
        let issuer = Issuer::start().await;
        let world = World::new();
        let mut settings = Settings {
            issuer: Some(issuer.url()),
            ..Settings::default()
        };
        change(&mut settings);
        let kopano = Arc::new(Kopano::new(world.ctx("kopano", BASE, "kopano"), settings).unwrap());
        tokio::spawn(Arc::clone(&kopano).background());
        let provider = Arc::clone(kopano.provider().unwrap());
        tokio::time::timeout(kvasir_testkit::DEADLINE, provider.ready())
            .await
            .unwrap();
        let app = world.app(vec![kopano]);
        let mut setup = Setup {
            world,
            app,
            issuer,
            provider,
            token: String::new(),
        };
        setup.token = setup.token_of("alice", "app");
        setup
    }

    /// Claims that are good at the time of the test's clock.
    fn claims(&self, user: &str, client: &str) -> Value {
        let now = self.world.clock.now().0 / 1000;
        let mut claims = self.issuer.access_claims(user, client);
        claims["iat"] = json!(now);
        claims["exp"] = json!(now + 3600);
        claims
    }

    fn token_of(&self, user: &str, client: &str) -> String {
        self.issuer
            .key(Algorithm::Ps256)
            .sign(&self.claims(user, client))
    }

    async fn as_user(
        &self,
        token: &str,
        method: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: impl Into<axum::body::Body>,
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        self.app
            .send(method, &format!("{BASE}/kv/user/{key}"), &all, body)
            .await
    }

    async fn send(
        &self,
        method: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: impl Into<axum::body::Body>,
    ) -> Answer {
        self.as_user(&self.token, method, key, headers, body).await
    }

    async fn put(
        &self,
        key: &str,
        content_type: &str,
        body: impl Into<axum::body::Body>,
    ) -> Answer {
        self.send("PUT", key, &[("content-type", content_type)], body)
            .await
    }

    async fn put_json(&self, key: &str, body: &str) {
        let answer = self.put(key, "application/json", body.to_owned()).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, ""), "{key}");
    }

    async fn get(&self, key: &str) -> Answer {
        self.send("GET", key, &[], "").await
    }

    /// The keys of a listing.
    async fn keys(&self, prefix: &str) -> Vec<String> {
        let answer = self.get(&format!("{prefix}?recurse=1")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let entries = answer.json();
        let keys = entries.as_array().unwrap().iter();
        keys.map(|entry| entry["key"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn batch(&self, prefix: &str, entries: &Value) -> Answer {
        self.put(
            &format!("{prefix}?batch=1"),
            "application/json",
            entries.to_string(),
        )
        .await
    }
}

#[tokio::test]
async fn a_document_comes_back_in_its_envelope() {
    // 1, 2, 3, 4: the curl example of the published description.
    let setup = Setup::new().await;
    let answer = setup.put("test1/doc1", "application/json", "{}").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, ""));
    let answer = setup.get("test1/doc1").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.text(),
        r#"{"key":"test1/doc1","value":{},"content_type":"application/json"}"#
    );
    let answer = setup.put("test1/doc1", "application/json", "[1]").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, ""));
    assert_eq!(setup.get("test1/doc1").await.json()["value"], json!([1]));
}

#[tokio::test]
async fn json_documents_keep_every_byte() {
    // 5, 6, 7
    let setup = Setup::new().await;
    for text in [
        "null",
        "true",
        "\"\"",
        "[]",
        "0",
        "1.50",
        "12345678901234567890123",
        "{\"b\":1,\"a\":1,\"b\":2}",
        "{\"<>&\":\"\u{2028}\"}",
        " {\"x\" : 1e2}\n",
    ] {
        setup.put_json("c/doc", text).await;
        let envelope = setup.get("c/doc").await;
        let expected =
            format!("{{\"key\":\"c/doc\",\"value\":{text},\"content_type\":\"application/json\"}}");
        assert_eq!(envelope.text(), expected);
        let raw = setup.get("c/doc?raw=1").await;
        assert_eq!(raw.text(), text);
        assert_eq!(raw.header("x-content-type-options"), Some("nosniff"));
    }
    setup
        .put("c/doc", "application/json; charset=utf-8", "{}")
        .await;
    let raw = setup.get("c/doc?raw=1").await;
    assert_eq!(
        raw.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    assert_eq!(
        setup.get("c/doc").await.json()["content_type"],
        "application/json"
    );
}

#[tokio::test]
async fn other_documents_travel_as_base64() {
    // 8, 9, 10, 11, 12
    let setup = Setup::new().await;
    let bytes: Vec<u8> = (0..=255).collect();
    setup.put("c/bin", "image/png", bytes.clone()).await;
    let answer = setup.get("c/bin").await.json();
    assert_eq!(answer["value"], BASE64.encode(&bytes));
    assert_eq!(answer["content_type"], "image/png");
    let raw = setup.get("c/bin?raw=1").await;
    assert_eq!(raw.body, bytes);
    assert_eq!(raw.header("content-type"), Some("image/png"));

    setup.put("c/plus", "application/vnd.x+json", "{}").await;
    assert_eq!(setup.get("c/plus").await.json()["value"], "e30=");

    setup.send("PUT", "c/none", &[], "x").await;
    let answer = setup.get("c/none").await.json();
    assert_eq!(
        (&answer["value"], &answer["content_type"]),
        (&json!("eA=="), &json!("application/octet-stream"))
    );
    let raw = setup.get("c/none?raw=1").await;
    assert_eq!(raw.header("content-type"), Some("application/octet-stream"));

    let form = "application/x-www-form-urlencoded";
    setup.put("c/form", form, "batch=1&a=%20").await;
    assert_eq!(setup.get("c/form?raw=1").await.text(), "batch=1&a=%20");

    setup.put("c/empty", "text/plain", "").await;
    assert_eq!(setup.get("c/empty").await.json()["value"], "");
}

#[tokio::test]
async fn bad_json_is_refused_and_the_old_document_stays() {
    // 13
    let setup = Setup::new().await;
    setup.put_json("c/doc", "1").await;
    for bad in [
        &b""[..],
        b"{",
        b"{} x",
        b"nope",
        b"\"\xff\"",
        b"\xef\xbb\xbf{}",
    ] {
        let answer = setup.put("c/doc", "application/json", bad.to_vec()).await;
        assert_eq!(answer.status, 400, "{bad:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
    let deep = "[".repeat(8000) + &"]".repeat(8000);
    let answer = setup.put("c/doc", "application/json", deep).await;
    assert!(matches!(answer.status.as_u16(), 200 | 400));
    setup.put_json("c/doc", "1").await;
    assert_eq!(setup.get("c/doc?raw=1").await.text(), "1");
}

#[tokio::test]
async fn a_missing_document_is_404_with_the_known_text() {
    // 14
    let setup = Setup::new().await;
    for path in [
        "c/none",
        "c/none?raw=1",
        "c/none?recurse=0",
        "c/none?recurse=true",
        "",
        "single",
    ] {
        let answer = setup.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (404, "404 page not found\n"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn only_the_value_one_switches_a_parameter_on() {
    // 15
    let setup = Setup::new().await;
    setup.put_json("c/doc", "7").await;
    for off in ["raw=0", "raw=true", "raw=", "raw", "raw=0&raw=1", "Raw=1"] {
        assert!(
            setup.get(&format!("c/doc?{off}")).await.json().is_object(),
            "{off}"
        );
    }
    assert_eq!(setup.get("c/doc?x=y&raw=1&raw=0").await.text(), "7");
    setup.put_json("c/doc?batch=true", "[]").await;
    assert_eq!(setup.get("c/doc?raw=1").await.text(), "[]");
}

#[tokio::test]
async fn documents_end_at_16_kib_however_they_are_sent() {
    // 16
    let setup = Setup::new().await;
    assert_eq!(
        setup
            .put("c/max", "text/plain", "x".repeat(16384))
            .await
            .status,
        200
    );
    assert_eq!(
        setup
            .put("c/max", "text/plain", "y".repeat(16385))
            .await
            .status,
        413
    );
    let chunks = (0..17).map(|_| Ok::<_, std::io::Error>("z".repeat(1024)));
    let chunked = axum::body::Body::from_stream(futures_util::stream::iter(chunks));
    assert_eq!(setup.put("c/max", "text/plain", chunked).await.status, 413);
    assert_eq!(setup.get("c/max?raw=1").await.text(), "x".repeat(16384));
}

#[tokio::test]
async fn keys_are_exact() {
    // 17, 18, 19, 20, 21
    let setup = Setup::new().await;
    let long = "k".repeat(255);
    for key in [
        "single",
        "c/a/b/c",
        "c/%C3%BC%20%F0%9F%98%80",
        "c/a+b",
        "c/%2525",
        "c/a.b",
        "c/..x",
        "c/X",
        "c/x",
        "c/x/",
        "c/x%20",
        "c/%3F%23",
        &long,
    ] {
        setup.put_json(key, &json!(key).to_string()).await;
    }
    for key in [
        "c/X", "c/x", "c/x/", "c/x%20", "c/a+b", "c/%2525", "single", &long,
    ] {
        assert_eq!(setup.get(key).await.json()["value"], json!(key));
    }
    assert_eq!(setup.get("c%2Fa%2Fb%2fc").await.json()["key"], "c/a/b/c");
    assert_eq!(
        setup.get("c/%C3%BC%20%F0%9F%98%80").await.json()["key"],
        "c/ü 😀"
    );
    assert_eq!(setup.get("c/%2525").await.json()["key"], "c/%25");
}

#[tokio::test]
async fn keys_that_could_not_be_reached_again_are_refused() {
    // 22, 23, 24
    let setup = Setup::new().await;
    for key in [
        "",
        "c//x",
        "c/./x",
        "c/../x",
        "c%2F%2Fx",
        "c/%2e%2e/x",
        "/x",
        "c/a%",
        "c/%zz",
        "c/%ff",
        &"k".repeat(1025),
    ] {
        for method in ["PUT", "DELETE"] {
            let answer = setup
                .send(method, key, &[("content-type", "application/json")], "1")
                .await;
            assert_eq!(answer.status, 400, "{method} {key}");
        }
    }
    assert_eq!(setup.put("c/doc", &"t".repeat(256), "1").await.status, 400);
    assert_eq!(setup.keys("c").await, [""; 0]);
}

#[tokio::test]
async fn listings_hold_exactly_a_collection_or_a_plain_prefix() {
    // 25, 26, 27, 28
    let setup = Setup::new().await;
    for key in [
        "foo/x", "foobar/x", "foo", "foo/ab", "foo/ab/x", "foo/abc", "foo/%25", "foo/_",
    ] {
        setup.put_json(key, "1").await;
    }
    let all = ["foo/x", "foo/ab", "foo/ab/x", "foo/abc", "foo/%", "foo/_"];
    assert_eq!(setup.keys("foo").await, all);
    assert_eq!(setup.keys("foo/").await, all);
    assert_eq!(
        setup.keys("foo/ab").await,
        ["foo/ab", "foo/ab/x", "foo/abc"]
    );
    assert_eq!(setup.keys("foo/%25").await, ["foo/%"]);
    assert_eq!(setup.keys("").await, ["foo"]);
    assert_eq!(setup.keys("nothing").await, [""; 0]);
    let one = setup.get("foobar?recurse=1&raw=1").await;
    assert_eq!(
        one.text(),
        r#"[{"key":"foobar/x","value":1,"content_type":"application/json"}]"#
    );
    assert_eq!(one.header("kvs-truncated"), None);
}

#[tokio::test]
async fn listings_follow_the_order_of_the_last_writes() {
    // 29, 43
    let setup = Setup::new().await;
    for key in ["c/b", "c/a", "c/c"] {
        setup.put_json(key, "1").await;
    }
    assert_eq!(setup.keys("c").await, ["c/b", "c/a", "c/c"]);
    setup.put_json("c/b", "1").await;
    assert_eq!(setup.keys("c").await, ["c/a", "c/c", "c/b"]);
    let json = "application/json";
    let batch = json!([
        {"key": "z", "value": 1, "content_type": json},
        {"key": "a", "value": 2, "content_type": json},
        {"key": "z", "value": 3, "content_type": json},
        {"key": "m", "value": 4, "content_type": json},
    ]);
    assert_eq!(setup.batch("c", &batch).await.status, 200);
    assert_eq!(setup.keys("c").await, ["c/c", "c/b", "c/a", "c/z", "c/m"]);
    assert_eq!(setup.get("c/z").await.json()["value"], 3);
    setup.send("DELETE", "c/a", &[], "").await;
    setup.put_json("c/z", "5").await;
    assert_eq!(setup.keys("c").await, ["c/c", "c/b", "c/m", "c/z"]);
}

#[tokio::test]
async fn listings_end_after_the_500_oldest_and_say_so() {
    // 30, 31, 42
    let setup = Setup::new().await;
    let entries: Vec<Value> = (0..700)
        .map(|n| json!({"key": format!("k{n}"), "value": n, "content_type": "application/json"}))
        .collect();
    assert_eq!(setup.batch("big", &json!(entries)).await.status, 200);
    setup.put_json("big/late/x", "1").await;
    let answer = setup.get("big?recurse=1").await;
    let listed = answer.json();
    assert_eq!(listed.as_array().unwrap().len(), 500);
    assert_eq!(
        (&listed[0]["key"], &listed[499]["key"]),
        (&json!("big/k0"), &json!("big/k499"))
    );
    assert_eq!(answer.header("kvs-truncated"), Some("1"));
    assert_eq!(setup.keys("big/late/").await, ["big/late/x"]);
}

#[tokio::test]
async fn delete_removes_one_document_once() {
    // 32
    let setup = Setup::new().await;
    setup.put_json("c/x", "1").await;
    setup.put_json("c/x/y", "1").await;
    let answer = setup.send("DELETE", "c/x?recurse=1", &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, ""));
    let answer = setup.send("DELETE", "c/x", &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (404, ""));
    assert_eq!(answer.header("content-type"), None);
    assert_eq!(setup.keys("c").await, ["c/x/y"]);
    setup.put_json("c/x", "2").await;
    assert_eq!(setup.keys("c").await, ["c/x/y", "c/x"]);
}

#[tokio::test]
async fn batches_store_below_the_prefix_of_the_url() {
    // 33, 34
    let setup = Setup::new().await;
    let entry = json!([{"key": "a/b", "value": {"n": 1}, "content_type": "application/json"}]);
    let answer = setup.batch("c/p", &entry).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, ""));
    assert_eq!(setup.get("c/p/a/b").await.json()["value"], json!({"n": 1}));
    assert_eq!(setup.batch("d/", &entry).await.status, 200);
    assert_eq!(setup.get("d/a/b").await.status, 200);
    assert_eq!(setup.batch("", &entry).await.status, 400);
}

#[tokio::test]
async fn batch_values_that_are_not_json_are_base64() {
    // 35, 36
    let setup = Setup::new().await;
    let batch = r#"[{"key":"a","value":"aGVsbG8=","content_type":"text/plain"},
        {"key":"b","value":"Pz8\/","content_type":"text/plain"},
        {"key":"c","value":"aGk="},
        {"key":"d","value":{"x":1}},
        {"key":"e","value":null,"content_type":"application/json"}]"#;
    assert_eq!(
        setup.put("c?batch=1", "text/anything", batch).await.status,
        200
    );
    assert_eq!(setup.get("c/a?raw=1").await.body, "hello");
    assert_eq!(setup.get("c/b?raw=1").await.body, "???");
    assert_eq!(setup.get("c/c?raw=1").await.body, "hi");
    assert_eq!(
        setup.get("c/c").await.json()["content_type"],
        "application/octet-stream"
    );
    assert_eq!(setup.get("c/d").await.json()["value"], json!({"x": 1}));
    assert_eq!(setup.get("c/e").await.json()["value"], Value::Null);
    for bad in ["aGk", "a-_=", "a Gk", "!", "aGk=="] {
        let batch = json!([{"key": "bad", "value": bad, "content_type": "text/plain"}]);
        assert_eq!(setup.batch("c", &batch).await.status, 400, "{bad}");
    }
    assert_eq!(setup.get("c/bad").await.status, 404);
}

#[tokio::test]
async fn a_listing_can_be_sent_back() {
    // 37
    let setup = Setup::new().await;
    setup.put("c/bin", "image/png", vec![0, 1, 2]).await;
    setup.put_json("c/text", "\"aGk=\"").await;
    let mut listing = setup.get("c?recurse=1").await.json();
    for entry in listing.as_array_mut().unwrap() {
        let key = entry["key"]
            .as_str()
            .unwrap()
            .strip_prefix("c/")
            .unwrap()
            .to_owned();
        entry["key"] = json!(key);
    }
    assert_eq!(setup.batch("copy", &listing).await.status, 200);
    assert_eq!(setup.get("copy/bin?raw=1").await.body, vec![0, 1, 2]);
    assert_eq!(setup.get("copy/text").await.json()["value"], "aGk=");
}

#[tokio::test]
async fn a_bad_batch_changes_nothing() {
    // 38, 39, 40
    let setup = Setup::new().await;
    let json = "application/json";
    for ok in ["[]", "null"] {
        assert_eq!(setup.put("c?batch=1", json, ok).await.status, 200, "{ok}");
    }
    let good = r#"{"key":"good","value":1,"content_type":"application/json"}"#;
    for bad in [
        "",
        "{}",
        "1",
        "\"x\"",
        "[",
        &format!("[{good}] x"),
        &format!("[{good},null]"),
        &format!("[{good},1]"),
        &format!(r#"[{good},{{"value":1}}]"#),
        &format!(r#"[{good},{{"key":1,"value":1}}]"#),
        &format!(r#"[{good},{{"key":"x","content_type":"application/json"}}]"#),
        &format!(r#"[{good},{{"key":"x","value":1,"content_type":"text/plain"}}]"#),
        &format!(r#"[{good},{{"key":"x","value":null,"content_type":"text/plain"}}]"#),
        &format!(r#"[{good},{{"key":"","value":1}}]"#),
        &format!(r#"[{good},{{"key":"a//b","value":1}}]"#),
        &format!(r#"[{good},{{"key":"../b","value":1}}]"#),
        &format!(r#"[{good},{{"key":"b","value":1,"content_type":7}}]"#),
    ] {
        let answer = setup.put("c?batch=1", json, bad.to_owned()).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    assert_eq!(setup.keys("c").await, [""; 0]);
}

#[tokio::test]
async fn batch_entries_end_at_16_kib_decoded() {
    // 41, 42
    let setup = Setup::new().await;
    let entry = |bytes: usize| json!([{"key": "x", "value": BASE64.encode(&vec![7; bytes]), "content_type": "a/b"}]);
    assert_eq!(setup.batch("c", &entry(16384)).await.status, 200);
    assert_eq!(setup.batch("c", &entry(16385)).await.status, 413);
    let full: Vec<Value> = (0..500)
        .map(|n| json!({"key": format!("k{n}"), "value": "x".repeat(15_600), "content_type": "application/json"}))
        .collect();
    let body = json!(full).to_string();
    assert!(body.len() > 7_800_000);
    assert_eq!(
        setup
            .put("full?batch=1", "application/json", body)
            .await
            .status,
        200
    );
    let huge = axum::body::Body::from(vec![b' '; 16 * 1024 * 1024 + 1]);
    assert_eq!(
        setup
            .put("c?batch=1", "application/json", huge)
            .await
            .status,
        413
    );
    let many: Vec<Value> = (0..10_001)
        .map(|n| json!({"key": n.to_string(), "value": 1}))
        .collect();
    assert_eq!(setup.batch("many", &json!(many)).await.status, 413);
    assert_eq!(
        setup.batch("many", &json!(&many[..10_000])).await.status,
        200
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_have_their_own_answers() {
    // 44, 45
    let setup = Setup::new().await;
    let bearer = format!("Bearer {}", setup.token);
    let auth = [("authorization", bearer.as_str())];
    for path in ["/kv/group/c/x", "/kv/user", "/kv/", "/other", "/", "/kv"] {
        let answer = setup
            .app
            .send("GET", &format!("{BASE}{path}"), &auth, "")
            .await;
        assert_eq!(answer.status, 404, "{path}");
    }
    for method in ["POST", "PATCH", "OPTIONS", "TRACE"] {
        let answer = setup.send(method, "c/x", &[], "").await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(
            answer.header("allow"),
            Some("GET, HEAD, PUT, DELETE, OPTIONS")
        );
    }
    setup.put_json("c/x", "1").await;
    let head = setup.send("HEAD", "c/x", &[], "").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("application/json"));
    assert_eq!(
        setup.app.send("GET", "/health-check", &[], "").await.status,
        200
    );
}

#[tokio::test]
async fn without_a_good_token_nothing_is_shown_or_changed() {
    // 46, 54
    let setup = Setup::new().await;
    setup.put_json("c/secret", "\"hidden\"").await;
    let path = format!("{BASE}/kv/user/c/secret");
    let query = format!("{path}?access_token={}", setup.token);
    let basic = format!("Basic {}", setup.token);
    let denied: [(&str, Vec<(&str, &str)>); 5] = [
        (&path, vec![]),
        (&path, vec![("authorization", &basic)]),
        (&path, vec![("authorization", "Bearer garbage")]),
        (&path, vec![("authorization", "Bearer ")]),
        (&query, vec![]),
    ];
    for (path, headers) in denied {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = setup.app.send(method, path, &headers, "").await;
            assert_eq!(answer.status, 403, "{method} {headers:?}");
            assert!(
                answer
                    .header("www-authenticate")
                    .unwrap()
                    .starts_with("Bearer")
            );
            assert!(!answer.text().contains("hidden"));
        }
    }
    let lower = format!("bearer {}", setup.token);
    let answer = setup
        .app
        .send("GET", &path, &[("authorization", &lower)], "")
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_setting_answers_401_but_a_missing_scope_stays_403() {
    let setup = Setup::with(|settings| settings.unauthorized_status = 401).await;
    let answer = setup.as_user("garbage", "GET", "c/x", &[], "").await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("www-authenticate"),
        Some(r#"Bearer error="invalid_token""#)
    );
    let mut claims = setup.claims("alice", "app");
    claims["kc.authorizedScopes"] = json!(["openid"]);
    let token = setup.issuer.key(Algorithm::Ps256).sign(&claims);
    let answer = setup.as_user(&token, "GET", "c/x", &[], "").await;
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.header("www-authenticate"),
        Some(r#"Bearer error="insufficient_scope", scope="kopano/kvs""#)
    );
}

#[tokio::test]
async fn tokens_with_bad_claims_are_denied() {
    // 47, 50, 51
    let setup = Setup::new().await;
    let now = setup.world.clock.now().0 / 1000;
    let changes: Vec<(&str, Value)> = vec![
        ("exp", json!(now - 60)),
        ("exp", Value::Null),
        ("exp", json!("soon")),
        ("nbf", json!(now + 120)),
        ("iat", json!(now + 120)),
        ("nbf", json!("later")),
        ("iss", json!("https://other.example")),
        ("iss", Value::Null),
        ("kc.isAccessToken", json!(false)),
        ("kc.isAccessToken", Value::Null),
        ("kc.isAccessToken", json!("true")),
        ("kc.authorizedScopes", Value::Null),
        ("kc.authorizedScopes", json!([])),
        ("kc.authorizedScopes", json!("kopano/kvs")),
        ("kc.authorizedScopes", json!(["kopano/kvs", 1])),
        ("kc.authorizedScopes", json!(["Kopano/KVS"])),
    ];
    for (name, value) in changes {
        let mut claims = setup.claims("alice", "app");
        match &value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            other => claims[name] = other.clone(),
        }
        let token = setup.issuer.key(Algorithm::Ps256).sign(&claims);
        let answer = setup.as_user(&token, "GET", "c/x", &[], "").await;
        assert_eq!(answer.status, 403, "{name} {value}");
    }
    let mut nobody = setup.claims("", "app");
    nobody.as_object_mut().unwrap().remove("sub");
    let token = setup.issuer.key(Algorithm::Ps256).sign(&nobody);
    assert_eq!(
        setup.as_user(&token, "GET", "c/x", &[], "").await.status,
        403
    );
}

#[tokio::test]
async fn a_token_that_was_good_is_denied_once_it_has_expired() {
    let setup = Setup::new().await;
    setup.put_json("c/x", "1").await;
    setup.world.clock.advance_ms(3_600_000 + 9_999);
    assert_eq!(setup.get("c/x").await.status, 200, "within the leeway");
    setup.world.clock.advance_ms(1);
    assert_eq!(setup.get("c/x").await.status, 403);
}

#[tokio::test]
async fn forged_tokens_are_denied() {
    // 48
    let setup = Setup::new().await;
    let claims = setup.claims("alice", "app");
    let key = setup.issuer.key(Algorithm::Ps256);
    let good = key.sign(&claims);
    let mut mallory = claims.clone();
    mallory["kc.identity"]["kc.i.id"] = json!("mallory");
    let payload = data_encoding::BASE64URL_NOPAD.encode(mallory.to_string().as_bytes());
    let parts: Vec<&str> = good.split('.').collect();
    let header = |name: &str, value: Value| {
        let mut header = json!({"alg": "PS256", "typ": "JWT", "kid": key.id()});
        header[name] = value;
        key.sign_with_header(&header, &claims)
    };
    let forged = [
        (
            "another key",
            SigningKey::generate(Algorithm::Ps256, key.id()).sign(&claims),
        ),
        (
            "unknown key",
            SigningKey::generate(Algorithm::Ps256, "nobody").sign(&claims),
        ),
        ("tampered", format!("{}.{payload}.{}", parts[0], parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("none", oidc::unsigned_token(&claims)),
        (
            "hmac",
            oidc::hmac_token(key.public_der(), key.id(), &claims),
        ),
        ("another algorithm", header("alg", json!("RS256"))),
        ("unknown algorithm", header("alg", json!("XX256"))),
        ("critical", header("crit", json!(["exp"]))),
        ("own key", header("jwk", key.jwk())),
        ("key address", header("jku", json!("https://evil.example"))),
        ("four parts", format!("{good}.x")),
        ("too long", format!("{good}{}", "A".repeat(8192))),
    ];
    for (name, token) in forged {
        assert_eq!(
            setup.as_user(&token, "GET", "c/x", &[], "").await.status,
            403,
            "{name}"
        );
    }
}

#[tokio::test]
async fn every_asymmetric_algorithm_of_the_provider_is_accepted() {
    // 49
    let setup = Setup::new().await;
    for algorithm in oidc::ALGORITHMS {
        let token = setup
            .issuer
            .key(algorithm)
            .sign(&setup.claims("alice", "app"));
        let answer = setup.as_user(&token, "GET", "?recurse=1", &[], "").await;
        assert_eq!(answer.status, 200, "{}", algorithm.name());
    }
}

#[tokio::test]
async fn an_algorithm_that_the_provider_does_not_list_is_denied() {
    // 48
    let issuer = Issuer::start().await;
    issuer.set_algorithms(&["PS256"]);
    let world = World::new();
    let settings = Settings {
        issuer: Some(issuer.url()),
        ..Settings::default()
    };
    let kopano = Arc::new(Kopano::new(world.ctx("kopano", BASE, "kopano"), settings).unwrap());
    tokio::spawn(Arc::clone(&kopano).background());
    let provider = Arc::clone(kopano.provider().unwrap());
    provider.ready().await;
    let setup = Setup {
        app: world.app(vec![kopano]),
        world,
        issuer,
        provider,
        token: String::new(),
    };
    let token = setup
        .issuer
        .key(Algorithm::Es256)
        .sign(&setup.claims("alice", "app"));
    assert_eq!(
        setup
            .as_user(&token, "GET", "?recurse=1", &[], "")
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn the_user_comes_from_the_identity_else_from_the_subject() {
    // 51, 52
    let setup = Setup::new().await;
    setup.put_json("c/x", "\"alice\"").await;
    let mut claims = setup.claims("", "app");
    claims["sub"] = json!("alice");
    let by_subject = setup.issuer.key(Algorithm::Rs256).sign(&claims);
    assert_eq!(
        setup
            .as_user(&by_subject, "GET", "c/x", &[], "")
            .await
            .json()["value"],
        "alice"
    );
    claims["aud"] = json!(["app", "other"]);
    let by_list = setup.issuer.key(Algorithm::Rs256).sign(&claims);
    assert_eq!(
        setup.as_user(&by_list, "GET", "c/x", &[], "").await.status,
        200
    );
}

#[tokio::test]
async fn users_and_clients_are_apart_and_do_not_overwrite_each_other() {
    // 52
    let setup = Setup::new().await;
    let json = [("content-type", "application/json")];
    let owners = [
        ("alice", "app"),
        ("alice", "app2"),
        ("bob", "app"),
        ("bob", ""),
    ];
    for (user, client) in owners {
        let token = setup.token_of(user, client);
        assert_eq!(
            setup.as_user(&token, "GET", "c/x", &[], "").await.status,
            404
        );
        let text = json!([user, client]).to_string();
        assert_eq!(
            setup
                .as_user(&token, "PUT", "c/x", &json, text)
                .await
                .status,
            200
        );
    }
    for (user, client) in owners {
        let token = setup.token_of(user, client);
        let answer = setup
            .as_user(&token, "GET", "c?recurse=1", &[], "")
            .await
            .json();
        assert_eq!(answer.as_array().unwrap().len(), 1);
        assert_eq!(answer[0]["value"], json!([user, client]));
    }
    let bob = setup.token_of("bob", "app");
    assert_eq!(
        setup.as_user(&bob, "DELETE", "c/x", &[], "").await.status,
        200
    );
    assert_eq!(setup.get("c/x").await.status, 200);
}

#[tokio::test]
async fn a_new_signing_key_is_picked_up_at_once_and_made_up_ids_are_no_load() {
    // 53
    let setup = Setup::new().await;
    let fetched = setup.issuer.key_fetches();
    let fresh = setup.issuer.rotate(Algorithm::Ps256, "fresh");
    let token = fresh.sign(&setup.claims("alice", "app"));
    assert_eq!(
        setup
            .as_user(&token, "GET", "?recurse=1", &[], "")
            .await
            .status,
        200
    );
    assert_eq!(setup.issuer.key_fetches(), fetched + 1);
    for n in 0..20 {
        let token = SigningKey::generate(Algorithm::EdDsa, &format!("made-up-{n}"))
            .sign(&setup.claims("alice", "app"));
        assert_eq!(
            setup
                .as_user(&token, "GET", "?recurse=1", &[], "")
                .await
                .status,
            403
        );
    }
    assert_eq!(setup.issuer.key_fetches(), fetched + 1);
}

#[tokio::test]
async fn odd_keys_in_the_key_set_are_passed_over() {
    let issuer = Issuer::start().await;
    issuer.show_odd_key(json!({"kty": "future", "kid": "x"}));
    issuer.show_odd_key(json!("not even an object"));
    let world = World::new();
    let settings = Settings {
        issuer: Some(issuer.url()),
        ..Settings::default()
    };
    let kopano = Kopano::new(world.ctx("kopano", BASE, "kopano"), settings).unwrap();
    let kopano = Arc::new(kopano);
    tokio::spawn(Arc::clone(&kopano).background());
    let ready = kopano.provider().unwrap().ready();
    tokio::time::timeout(kvasir_testkit::DEADLINE, ready)
        .await
        .unwrap();
}

#[tokio::test]
async fn before_discovery_every_document_request_is_503() {
    let issuer = Issuer::start().await;
    issuer.set_failing(true);
    let world = World::new();
    let settings = Settings {
        issuer: Some(issuer.url()),
        ..Settings::default()
    };
    let kopano = Arc::new(Kopano::new(world.ctx("kopano", BASE, "kopano"), settings).unwrap());
    let app = world.app(vec![Arc::clone(&kopano) as Arc<dyn Dialect>]);
    let token = issuer.access_token("alice", "app");
    let bearer = format!("Bearer {token}");
    let auth = [("authorization", bearer.as_str())];
    let answer = app
        .send("GET", &format!("{BASE}/kv/user/c/x"), &auth, "")
        .await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());

    let none = Kopano::new(world.ctx("kopano", BASE, "kopano"), Settings::default()).unwrap();
    let app = world.app(vec![Arc::new(none)]);
    let answer = app
        .send("GET", &format!("{BASE}/kv/user/c/x"), &auth, "")
        .await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("kopano.issuer"));
}

#[tokio::test]
async fn tokens_of_other_providers_need_a_configured_audience() {
    let setup = Setup::with(|settings| settings.audience = Some("kvs".to_owned())).await;
    let now = setup.world.clock.now().0 / 1000;
    let claims = json!({
        "iss": setup.issuer.url(), "sub": "carol", "aud": ["account", "kvs"], "azp": "web",
        "iat": now, "exp": now + 60, "scope": "openid kopano/kvs",
    });
    let key = setup.issuer.key(Algorithm::Rs256);
    let token = key.sign(&claims);
    assert_eq!(
        setup
            .as_user(&token, "GET", "?recurse=1", &[], "")
            .await
            .status,
        200
    );
    let mut other = claims.clone();
    other["aud"] = json!("account");
    assert_eq!(
        setup
            .as_user(&key.sign(&other), "GET", "?recurse=1", &[], "")
            .await
            .status,
        403
    );
    let strict = Setup::new().await;
    let mut foreign = claims;
    foreign["iss"] = json!(strict.issuer.url());
    let token = strict.issuer.key(Algorithm::Rs256).sign(&foreign);
    assert_eq!(
        strict
            .as_user(&token, "GET", "?recurse=1", &[], "")
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn cross_origin_requests_are_answered_when_switched_on() {
    // 55
    let setup = Setup::with(|settings| settings.allow_cors = true).await;
    let path = format!("{BASE}/kv/user/c/x");
    let preflight = [
        ("origin", "https://web.example"),
        ("access-control-request-method", "PUT"),
        (
            "access-control-request-headers",
            "authorization,content-type,kopano-xsrf",
        ),
    ];
    let answer = setup.app.send("OPTIONS", &path, &preflight, "").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, ""));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("PUT"));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("authorization,content-type,kopano-xsrf")
    );
    assert_eq!(answer.headers.get_all(header::VARY).iter().count(), 3);
    assert_eq!(answer.header("access-control-allow-credentials"), None);

    let unlisted = [
        ("origin", "https://web.example"),
        ("access-control-request-method", "LINK"),
    ];
    let answer = setup.app.send("OPTIONS", &path, &unlisted, "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), None);

    let denied = setup
        .app
        .send("GET", &path, &[("origin", "https://web.example")], "")
        .await;
    assert_eq!(denied.status, 403);
    assert_eq!(denied.header("access-control-allow-origin"), Some("*"));
    assert_eq!(denied.header("vary"), Some("Origin"));
    let missing = setup
        .send("GET", "c/x", &[("origin", "https://web.example")], "")
        .await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.header("access-control-allow-origin"), Some("*"));
    let same_origin = setup.get("?recurse=1").await;
    assert_eq!(same_origin.header("access-control-allow-origin"), None);
    assert_eq!(same_origin.header("vary"), Some("Origin"));
}

#[tokio::test]
async fn cross_origin_headers_are_absent_when_switched_off() {
    // 56
    let setup = Setup::new().await;
    let path = format!("{BASE}/kv/user/c/x");
    let preflight = [
        ("origin", "https://web.example"),
        ("access-control-request-method", "PUT"),
    ];
    let answer = setup.app.send("OPTIONS", &path, &preflight, "").await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn the_sequence_of_meet_leaves_the_newest_thirty() {
    // 57: Meet lists, reverses, and deletes everything behind the 30th.
    let setup = Setup::new().await;
    for n in 0..40 {
        setup
            .put_json(&format!("recents/{n}"), &n.to_string())
            .await;
        let mut keys = setup.keys("recents").await;
        keys.reverse();
        for key in keys.iter().skip(30) {
            assert_eq!(setup.send("DELETE", key, &[], "").await.status, 200);
        }
    }
    let expected: Vec<String> = (10..40).map(|n| format!("recents/{n}")).collect();
    assert_eq!(setup.keys("recents").await, expected);
}

#[tokio::test]
async fn entity_tags_make_reads_cheap_and_writes_conditional() {
    let setup = Setup::new().await;
    let tag = setup
        .put("c/x", "application/json", "1")
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    assert_eq!(setup.get("c/x").await.header("etag"), Some(tag.as_str()));
    let answer = setup
        .send("GET", "c/x", &[("if-none-match", &tag)], "")
        .await;
    assert_eq!((answer.status.as_u16(), answer.text()), (304, ""));
    let answer = setup.send("PUT", "c/x", &[("if-match", &tag)], "2").await;
    assert_eq!(answer.status, 200);
    for (name, value) in [("if-match", tag.as_str()), ("if-none-match", "*")] {
        assert_eq!(
            setup.send("PUT", "c/x", &[(name, value)], "3").await.status,
            412,
            "{name}"
        );
    }
    assert_eq!(
        setup
            .send("DELETE", "c/x", &[("if-match", &tag)], "")
            .await
            .status,
        412
    );
    assert_eq!(
        setup
            .send("PUT", "c/x", &[("if-match", "x")], "3")
            .await
            .status,
        400
    );
    assert_eq!(
        setup
            .send("PUT", "c/new", &[("if-match", "*")], "3")
            .await
            .status,
        412
    );
    assert_eq!(setup.get("c/x?raw=1").await.text(), "2");
}

#[tokio::test]
async fn readers_never_see_half_a_batch() {
    // 40, and two screens that write the same keys.
    let setup = Arc::new(Setup::new().await);
    let round = |n: u32| {
        let entries: Vec<Value> = (0..20)
            .map(|key| json!({"key": key.to_string(), "value": n, "content_type": "application/json"}))
            .collect();
        json!(entries)
    };
    setup.batch("c", &round(0)).await;
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let setup = Arc::clone(&setup);
            tokio::spawn(async move {
                for n in 1..30 {
                    assert_eq!(
                        setup.batch("c", &round(writer * 1000 + n)).await.status,
                        200
                    );
                }
            })
        })
        .collect();
    for _ in 0..60 {
        let listing = setup.get("c?recurse=1").await.json();
        let entries = listing.as_array().unwrap();
        assert_eq!(entries.len(), 20);
        assert!(
            entries
                .iter()
                .all(|entry| entry["value"] == entries[0]["value"]),
            "{listing}"
        );
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn the_signature_of_one_token_is_verified_once_while_it_is_valid() {
    let setup = Setup::new().await;
    let count = || setup.provider.verifications();
    for _ in 0..50 {
        setup.put_json("c/x", "1").await;
        assert_eq!(setup.get("c/x").await.status, 200);
    }
    assert_eq!(count(), 1);

    // Other bytes are another token, even for the same user.
    let other = setup.token_of("alice", "app");
    for _ in 0..5 {
        let answer = setup.as_user(&other, "GET", "c/x", &[], "").await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(count(), 2);

    // Bad ones are not remembered as good, and an expired one costs nothing.
    let forged = format!("{}x", setup.token);
    for _ in 0..3 {
        let answer = setup.as_user(&forged, "GET", "c/x", &[], "").await;
        assert_eq!(answer.status, 403);
    }
    assert_eq!(count(), 5);
    setup.world.clock.advance_ms(3_700_000);
    assert_eq!(setup.get("c/x").await.status, 403);
    assert_eq!(count(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_create_one_document_exactly_one_does() {
    let setup = Arc::new(Setup::new().await);
    for round in 0..10 {
        let key = format!("c/{round}");
        let writers = (0..16).map(|writer| {
            let (setup, key) = (Arc::clone(&setup), key.clone());
            tokio::spawn(async move {
                let headers = [("content-type", "application/json"), ("if-none-match", "*")];
                let answer = setup.send("PUT", &key, &headers, writer.to_string()).await;
                (answer.status.as_u16(), writer)
            })
        });
        let mut winners = Vec::new();
        for writer in futures_util::future::join_all(writers).await {
            match writer.unwrap() {
                (200, writer) => winners.push(writer),
                (status, _) => assert_eq!(status, 412),
            }
        }
        let [winner] = winners[..] else {
            panic!("{winners:?} have won");
        };
        assert_eq!(setup.get(&key).await.json()["value"], json!(winner));
    }
    assert_eq!(setup.keys("c").await.len(), 10);
}

//! SEC-9, the dialects' part: stored text and names in paths never become a page that runs.

use crate::support::{Answer, App};

use super::estate::Estate;

const SCRIPT: &str = "<script>alert(1)</script>";
const SCRIPT_IN_PATH: &str = "%3Cscript%3Ealert(1)%3C%2Fscript%3E";
const UUID: &str = "7b1c2a58-9a4e-4c6d-8f00-0123456789ab";

/// Expects that a browser would not run what is in the answer, even if it were made to open it.
#[track_caller]
fn check(asked: &str, answer: &Answer) {
    let kind = answer.header("content-type").unwrap_or_default();
    let plain = [
        "application/json",
        "application/problem+json",
        "text/plain",
        "application/octet-stream",
    ];
    if answer.body.is_empty() || plain.iter().any(|plain| kind.starts_with(plain)) {
        return;
    }
    assert_eq!(
        answer.header("x-content-type-options"),
        Some("nosniff"),
        "{asked}: {kind}"
    );
    let policy = answer.header("content-security-policy").unwrap_or_default();
    assert!(
        policy.contains("default-src 'none'"),
        "{asked}: {kind}, {policy:?}"
    );
    let is_sandboxed = policy.contains("sandbox");
    assert!(
        is_sandboxed || !answer.text().contains(SCRIPT),
        "{asked}: {kind}"
    );
}

async fn open(app: &App, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    all.extend_from_slice(headers);
    let answer = app.send("GET", path, &all, "").await;
    check(path, &answer);
    answer
}

#[tokio::test]
async fn stored_text_and_names_never_become_a_page_that_runs() {
    let estate = Estate::new().await;
    // Over loopback, where a browser needs no credential.
    let app = estate.world.app(estate.dialects.clone());
    let text = format!("\"{SCRIPT}\"");
    let json = [("content-type", "application/json")];
    let html = [("content-type", "text/html")];

    let put = app
        .send("PUT", "/kv/page", &json, format!("{{\"value\":{text}}}"))
        .await;
    assert_eq!(put.status, 200);
    let post = app
        .send("POST", &format!("/{UUID}/k"), &html, text.clone())
        .await;
    assert_eq!(post.status, 200);
    let bearer = format!("Bearer {}", estate.kopano_token("user-aaa", "app"));
    let kopano = [("authorization", &*bearer), html[0]];
    let put = app
        .send("PUT", "/api/kvs/v1/kv/user/c/page", &kopano, SCRIPT)
        .await;
    assert_eq!(put.status, 200);
    let edge = [
        ("x-akamai-edgedb-auth", &*estate.edge_token),
        ("content-type", "text/plain"),
    ];
    let item = "/staging/api/v1/namespaces/aaa/groups/g/items/page";
    let put = app.send("PUT", item, &edge, SCRIPT).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let info = format!("{{\"title\":{text},\"readme\":{text}}}");
    let put = app
        .send("PUT", "/_/api/v1/classworks/info", &json, info)
        .await;

    for (path, headers) in [
        ("/kv/page", &[][..]),
        ("/kv/page?meta=true", &[]),
        ("/kv?list=true", &[]),
        (&*format!("/{UUID}/k"), &[]),
        (&*format!("/{UUID}"), &[]),
        ("/classworks", &[]),
        ("/api/kvs/v1/kv/user/c/page?raw=1", &kopano[..1]),
        ("/api/kvs/v1/kv/user/c/page", &kopano[..1]),
        ("/api/kvs/v1/kv/user/c?recurse=1", &kopano[..1]),
        (item, &edge[..1]),
    ] {
        let answer = open(&app, path, headers).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    let page = open(&app, "/classworks", &[]).await;
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(
        put.status.is_success(),
        page.text().contains("&lt;script&gt;")
    );

    // Failures repeat what was asked for.
    for route in [
        "/",
        "/kv/",
        "/kv/x?limit=",
        "/classworks/",
        "/classworks/x/",
        "/classworks/x?sortBy=",
        "/products/",
        "/orders/",
        "/users/",
        "/db/",
        "/queue/",
        "/edgekv/v1/",
        "/_/api/v1/",
        "/_/api/v1/tokens/",
        "/api/kvs/v1/",
        "/api/kvs/v1/kv/user/",
        "/staging/api/v1/namespaces/",
        "/api/v1/namespaces/",
    ] {
        open(&app, &format!("{route}{SCRIPT_IN_PATH}"), &[]).await;
    }
    for path in [
        format!("/{UUID}/{SCRIPT_IN_PATH}"),
        format!("/{UUID}/a/{SCRIPT_IN_PATH}"),
    ] {
        open(&app, &path, &[]).await;
    }
}

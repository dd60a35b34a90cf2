//! Who is let in: programs on this machine, not web pages, and elsewhere only with a token.

use kvasir_testkit::raw::exchange;
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, eventually};

use crate::{options, server};

#[tokio::test]
async fn without_tokens_only_loopback_names_are_served() {
    let server = server().await;
    for (host, status) in [
        ("localhost", 404),
        ("127.0.0.1:8000", 404),
        ("rebound.example.com", 403),
    ] {
        let request = format!("GET /kv/a HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert_eq!(
            exchange(server.addr(), request).await.status,
            status,
            "{host}"
        );
    }
}

#[tokio::test]
async fn without_tokens_pages_of_other_origins_change_nothing() {
    let server = server().await;
    let own = format!("http://{}", server.addr());
    for (origin, status) in [(own.as_str(), 200), ("https://evil.example.com", 403)] {
        let response = http_client()
            .put(server.url("/kv/a"))
            .header("Origin", origin)
            .header("Content-Type", "application/json")
            .body(r#"{"value":1}"#)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), status, "{origin}");
    }
}

#[tokio::test]
async fn on_other_addresses_a_token_is_made_printed_once_and_needed() {
    let mut server = options().listen("0.0.0.0:0").start().await;
    let port = server.addr().port();
    let url = format!("http://127.0.0.1:{port}/kv/a");
    // It stands below the ready line.
    let token = eventually(DEADLINE, "a token is printed", || {
        let printed = server.stdout();
        let mut lines = printed.lines().map(str::trim);
        let token = lines.find(|line| line.starts_with("kvasir_"));
        std::future::ready(token.map(str::to_owned))
    })
    .await;

    let without = http_client().get(&url).send().await.unwrap();
    assert_eq!(without.status(), 401);
    assert!(without.headers().contains_key("www-authenticate"));
    let with = http_client().get(&url).bearer_auth(&token).send().await;
    assert_eq!(with.unwrap().status(), 404);

    server.restart().await;
    eventually(DEADLINE, "the announcement is whole", || {
        let is_whole = server.stdout().contains("kvasir ls");
        std::future::ready(is_whole.then_some(()))
    })
    .await;
    assert!(!server.stdout().contains("kvasir_"), "{}", server.stdout());
    let url = format!("http://127.0.0.1:{}/kv/a", server.addr().port());
    let again = http_client().get(&url).bearer_auth(&token).send().await;
    assert_eq!(again.unwrap().status(), 404);
}

#[tokio::test]
async fn without_bootstrap_other_addresses_need_a_token_beforehand() {
    let anywhere = || options().listen("0.0.0.0:0");
    for options in [
        anywhere().set("server.bootstrap", "false"),
        anywhere().arg("--no-bootstrap"),
    ] {
        let failure = options.try_start().await.unwrap_err();
        assert_eq!(failure.status.code(), Some(2));
        assert!(failure.stderr.contains("token create"), "{failure}");
        assert!(failure.stderr.contains("server.bootstrap"), "{failure}");
    }
}

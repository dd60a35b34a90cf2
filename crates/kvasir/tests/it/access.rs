//! Who is let in: programs on this machine, not web pages, and elsewhere only with a token.

use kvasir_testkit::raw::exchange;
use kvasir_testkit::server::http_client;

use crate::{options, server};

#[tokio::test]
async fn without_tokens_only_loopback_names_are_served() {
    let server = server().await;
    for (host, status) in [
        ("localhost", 404),
        ("127.0.0.1:8000", 404),
        ("rebound.example.com", 401),
    ] {
        let request = format!("GET /kv/a HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert_eq!(exchange(server.addr(), request).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn without_tokens_pages_of_other_origins_change_nothing() {
    let server = server().await;
    let own = format!("http://{}", server.addr());
    for (origin, status) in [(own.as_str(), 200), ("https://evil.example.com", 401)] {
        let response = http_client()
            .put(server.url("/kv/a"))
            .header("Origin", origin)
            .header("Content-Type", "application/json")
            .body(r#"{"value":1}"#)
            .send()
            .await
            .unwrap();
        let seen = response.status().as_u16();
        let is_refused = seen == 401 || seen == 403;
        assert!(seen == status || (status == 401 && is_refused), "{origin}: {seen}");
    }
}

#[tokio::test]
async fn on_other_addresses_a_token_is_made_printed_once_and_needed() {
    let mut server = options().listen("0.0.0.0:0").start().await;
    let port = server.addr().port();
    let url = format!("http://127.0.0.1:{port}/kv/a");
    let token = server
        .stdout()
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("kvasir_"))
        .expect("a token is printed")
        .to_owned();

    let without = http_client().get(&url).send().await.unwrap();
    assert_eq!(without.status(), 401);
    assert!(without.headers().contains_key("www-authenticate"));
    let with = http_client().get(&url).bearer_auth(&token).send().await;
    assert_eq!(with.unwrap().status(), 404);

    server.restart().await;
    assert!(!server.stdout().contains("kvasir_"), "{}", server.stdout());
    let url = format!("http://127.0.0.1:{}/kv/a", server.addr().port());
    let again = http_client().get(&url).bearer_auth(&token).send().await;
    assert_eq!(again.unwrap().status(), 404);
}

#[tokio::test]
async fn without_bootstrap_other_addresses_need_a_token_beforehand() {
    let failure = options()
        .listen("0.0.0.0:0")
        .set("server.bootstrap", "false")
        .try_start()
        .await
        .unwrap_err();
    assert_eq!(failure.status.code(), Some(2));
    assert!(failure.stderr.contains("token create"), "{failure}");
}

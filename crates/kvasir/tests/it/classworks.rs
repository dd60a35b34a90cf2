//! The Classworks dialect behind the real listeners: where it is served, slow bodies, its verbs.

use std::time::{Duration, Instant};

use kvasir_testkit::raw::{RawConnection, exchange};
use kvasir_testkit::server::http_client;
use kvasir_testkit::{ServerOptions, TestServer};

use crate::{options, run};

const NS: &str = "7b1c2a58-9a4e-4c6d-8f00-0123456789ab";

async fn status(server: &TestServer, host: &str, path: &str) -> u16 {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    exchange(server.addr(), request).await.status
}

/// A loopback port that was free a moment ago. Only for settings that take no port 0.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// Starts a server whose options need a free port that somebody else may take first.
async fn with_port(make: impl Fn(u16) -> ServerOptions) -> (TestServer, u16) {
    for _ in 0..5 {
        let port = free_port();
        if let Ok(server) = make(port).try_start().await {
            return (server, port);
        }
    }
    panic!("no server came up on a free port");
}

/// Line 111 of the checklist: the dialect's own bound, not that of the listener.
#[tokio::test]
async fn a_body_that_does_not_arrive_is_answered_408_by_the_dialects_own_deadline() {
    let server = options()
        .set("limits.body_gap", "200ms")
        .set("classworks.timeout_seconds", "2")
        .start()
        .await;
    for body in ["", "{\"a\":"] {
        let mut slow = RawConnection::open(server.addr()).await;
        let began = Instant::now();
        slow.send(format!(
            "POST /{NS}/k HTTP/1.1\r\nhost: localhost\r\ncontent-length: 7\r\n\r\n{body}"
        ))
        .await;
        let answer = slow.response().await;
        assert!(began.elapsed() >= Duration::from_secs(2), "too early");
        assert_eq!(answer.status, 408);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(
            answer.text(),
            r#"{"success":false,"message":"请求处理超时","details":null}"#
        );
        assert!(slow.is_closed_within(Duration::from_secs(5)).await);
    }
    let found = http_client().get(server.url(&format!("/{NS}/k"))).send();
    assert_eq!(found.await.unwrap().status(), 404, "nothing was stored");
}

#[tokio::test]
async fn under_a_host_name_of_its_own_the_dialect_has_every_path() {
    let server = options()
        .env("KVASIR_MOUNT__CLASSWORKS__HOST", "kv.example, KV2.example.")
        .start()
        .await;
    for host in [
        "kv.example",
        "KV.Example:8000",
        "kv.example.",
        "kv2.example",
    ] {
        assert_eq!(status(&server, host, "/any-name").await, 200, "{host}");
        assert_eq!(status(&server, host, "/").await, 200, "{host}");
        assert_eq!(status(&server, host, "/uuid").await, 200, "{host}");
        // Also what would be another dialect's elsewhere.
        assert_eq!(status(&server, host, "/kv").await, 200, "{host}");
    }
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(
            status(&server, host, &format!("/{NS}")).await,
            404,
            "{host}"
        );
        assert_eq!(status(&server, host, "/classworks/x").await, 404, "{host}");
        assert_eq!(status(&server, host, "/kv/a").await, 404, "{host}");
    }
}

#[tokio::test]
async fn a_listener_of_its_own_serves_any_namespace_and_the_shared_one_does_not() {
    let (server, port) = with_port(|port| {
        options().env(
            "KVASIR_MOUNT__CLASSWORKS__LISTEN",
            format!("127.0.0.1:{port}"),
        )
    })
    .await;
    let own = format!("http://127.0.0.1:{port}");
    for path in ["/example-namespace", "/", "/uuid", "/check"] {
        let answer = http_client().get(format!("{own}{path}")).send().await;
        assert_eq!(answer.unwrap().status(), 200, "{path}");
    }
    assert_eq!(status(&server, "localhost", &format!("/{NS}")).await, 404);
}

/// The environment of an old installation.
#[tokio::test]
async fn the_originals_port_and_site_key_come_from_the_environment() {
    let (server, port) = with_port(|port| {
        options()
            .env("PORT", port.to_string())
            .env("SITE_KEY", "geheim")
    })
    .await;
    let own = format!("http://127.0.0.1:{port}/example-namespace");
    let without = http_client().get(&own).send().await.unwrap();
    assert_eq!(without.status(), 401);
    let with = http_client()
        .get(&own)
        .header("x-site-key", "geheim")
        .send();
    assert_eq!(with.await.unwrap().status(), 200);

    // What is written there is read on the shared port, and the other way round.
    let write = http_client()
        .post(format!("http://127.0.0.1:{port}/{NS}/k"))
        .header("x-site-key", "geheim")
        .body("[1]")
        .send();
    assert_eq!(write.await.unwrap().status(), 200);
    let read = http_client()
        .get(server.url(&format!("/{NS}/k")))
        .header("x-site-key", "geheim")
        .send();
    assert_eq!(read.await.unwrap().text().await.unwrap(), "[1]");
}

#[tokio::test]
async fn a_port_that_the_whole_server_listens_on_is_no_listener_of_its_own() {
    let (server, port) = with_port(|port| {
        options()
            .listen(format!("127.0.0.1:{port}"))
            .env("PORT", port.to_string())
    })
    .await;
    assert_eq!(server.addr().port(), port);
    assert_eq!(status(&server, "localhost", "/kv/a").await, 404);
    assert_eq!(status(&server, "localhost", &format!("/{NS}")).await, 200);
}

#[tokio::test]
async fn namespaces_and_the_page_are_managed_by_the_command_with_and_without_a_server() {
    let mut server = options().start().await;
    let url = server.url("");
    let put = http_client()
        .put(server.url(&format!("/{NS}/_info")))
        .body(r#"{"name":"高一1班"}"#)
        .send();
    assert_eq!(put.await.unwrap().status(), 200);
    let post = http_client()
        .post(server.url(&format!("/{NS}/k")))
        .body("1");
    assert_eq!(post.send().await.unwrap().status(), 200);

    let on = async |args: &[&str]| run(args, &[("KVASIR_SERVER", &url)]).await;
    let (code, out, err) = on(&["classworks", "ls"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(NS) && out.contains("高一1班"), "{out}");
    let (_, out, _) = on(&["classworks", "ls", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listed[0]["namespace"], NS);
    assert_eq!(listed[0]["accessType"], "PUBLIC");

    let args = [
        "classworks",
        "info",
        "--title",
        "<b>作业</b>",
        "--readme",
        "读我",
    ];
    assert_eq!(on(&args).await.0, 0);
    let page = http_client().get(server.url("/classworks")).send().await;
    let page = page.unwrap().text().await.unwrap();
    assert!(
        page.contains("&lt;b&gt;作业&lt;/b&gt;") && page.contains("读我"),
        "{page}"
    );

    let data = server.data().display().to_string();
    assert!(server.terminate().await.success());
    let (code, out, err) = run(&["classworks", "info", "--data", &data], &[]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("<b>作业</b>"), "{out}");
    let (code, out, err) = run(&["classworks", "ls", "--data", &data], &[]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(NS), "{out}");
}

/// Lines 107 and 108.
#[tokio::test]
async fn the_connection_stays_open_after_errors_and_names_no_program() {
    let server = options().start().await;
    let mut connection = RawConnection::open(server.addr()).await;
    for (method, path, status) in [
        ("GET", format!("/{NS}/none"), 404),
        ("POST", format!("/{NS}/k"), 400),
        ("PATCH", format!("/{NS}/k"), 405),
        ("GET", format!("/{NS}?limit=0"), 400),
        (
            "GET",
            "/00000000-0000-4000-8000-000000000000/info".to_owned(),
            403,
        ),
        ("GET", format!("/{NS}"), 200),
    ] {
        connection
            .send(format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
            ))
            .await;
        let answer = connection.response().await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("x-powered-by"), None);
        assert_eq!(answer.header("server"), None);
        assert_ne!(answer.header("connection"), Some("close"));
    }
}

/// Lines 117, 122 and 123.
#[tokio::test]
async fn acknowledged_writes_survive_kill_9_and_a_signal_lets_requests_finish() {
    let mut server = options().start().await;
    let batch = r#"{"a":{"z":1,"y":2},"b":[1.50,12345678901234567890]}"#;
    let import = http_client()
        .post(server.url(&format!("/{NS}/_batchimport")))
        .body(batch)
        .send()
        .await
        .unwrap();
    server.kill().await;
    assert_eq!(import.status(), 200);
    server.restart().await;
    let get = async |server: &TestServer, key: &str| {
        let answer = http_client()
            .get(server.url(&format!("/{NS}/{key}")))
            .send();
        answer.await.unwrap().text().await.unwrap()
    };
    assert_eq!(get(&server, "a").await, r#"{"z":1,"y":2}"#);
    assert_eq!(get(&server, "b").await, "[1.50,12345678901234567890]");

    let mut busy = RawConnection::open(server.addr()).await;
    busy.send(format!(
        "POST /{NS}/late HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n"
    ))
    .await;
    let url = server.url("/metrics");
    kvasir_testkit::eventually(
        kvasir_testkit::DEADLINE,
        "the request is in progress",
        || {
            let url = url.clone();
            async move {
                let text = http_client()
                    .get(url)
                    .send()
                    .await
                    .unwrap()
                    .text()
                    .await
                    .unwrap();
                text.contains("kvasir_http_requests_in_progress 2")
                    .then_some(())
            }
        },
    )
    .await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    busy.send("[1]").await;
    assert_eq!(busy.response().await.status, 200);
    let status = server.wait(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0));
    server.restart().await;
    assert_eq!(get(&server, "late").await, "[1]");
}

/// Line 113: who is counted is who is really asking, as the operator's proxies say and nobody else.
#[tokio::test]
async fn limits_count_the_client_that_a_trusted_proxy_names() {
    let limited = || {
        options()
            .set("classworks.rate_limit", "on")
            .set("classworks.serve_openly", "true")
            .set("classworks.writes_per_minute", "1")
    };
    let post = async |server: &TestServer, forwarded: &str| {
        let answer = http_client()
            .post(server.url(&format!("/{NS}/k")))
            .header("x-forwarded-for", forwarded)
            .body("1")
            .send()
            .await
            .unwrap();
        answer.status().as_u16()
    };
    let behind = limited()
        .set("server.trusted_proxies", "127.0.0.1")
        .start()
        .await;
    for (forwarded, status) in [
        ("1.1.1.1", 200),
        ("2.2.2.2", 200),
        ("1.1.1.1", 429),
        // What stands left of the proxy's own word was written by the client.
        ("3.3.3.3, 1.1.1.1", 429),
        ("3.3.3.3", 200),
    ] {
        assert_eq!(post(&behind, forwarded).await, status, "{forwarded}");
    }
    let alone = limited().start().await;
    for (forwarded, status) in [("1.1.1.1", 200), ("2.2.2.2", 429)] {
        assert_eq!(post(&alone, forwarded).await, status, "{forwarded}");
    }
}

//! Clients that are slow, silent or many.

use std::time::{Duration, Instant};

use kvasir_testkit::DEADLINE;
use kvasir_testkit::raw::{RawConnection, exchange};
use kvasir_testkit::server::http_client;

use crate::options;

/// Deadlines short enough to wait for.
const SHORT: &str = "500ms";

/// By when a connection over a deadline of [`SHORT`] is closed at the latest.
const CLOSED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_connection_without_a_first_byte_is_closed() {
    let server = options().set("limits.first_byte", SHORT).start().await;
    let mut silent = RawConnection::open(server.addr()).await;
    assert!(silent.is_closed_within(CLOSED).await);
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_ends_its_connection() {
    let server = options().set("limits.head", SHORT).start().await;
    let mut slow = RawConnection::open(server.addr()).await;
    slow.send("GET /healthz HTTP/1.1\r\nhost: local").await;
    assert!(slow.is_closed_within(CLOSED).await);

    let mut preface = RawConnection::open(server.addr()).await;
    preface.send("PRI * HTTP/2.0\r\n").await;
    assert!(preface.is_closed_within(CLOSED).await);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_answered_408() {
    let server = options().set("limits.body_gap", SHORT).start().await;
    let head = "PUT /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{";
    let answer = exchange(server.addr(), head).await;
    assert_eq!(answer.status, 408);
    assert_eq!(answer.header("x-kvasir-error"), Some("body_too_slow"));
}

#[tokio::test]
async fn a_quiet_connection_is_closed_after_the_idle_time() {
    let server = options().set("limits.idle", SHORT).start().await;
    let mut connection = RawConnection::open(server.addr()).await;
    connection
        .send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    assert_eq!(connection.response().await.status, 200);
    assert!(connection.is_closed_within(CLOSED).await);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let server = options().set("limits.reader_stall", SHORT).start().await;
    let value = format!(r#"{{"value":"{}"}}"#, "a".repeat(1_000_000));
    for key in ["a", "b"] {
        let request = http_client()
            .put(server.url(&format!("/kv/{key}")))
            .header("Content-Type", "application/json")
            .body(value.clone());
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    // More than the buffers of both sockets hold.
    let mut stalled = RawConnection::open(server.addr()).await;
    let request = "GET /kv/a HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stalled.send(request.repeat(40)).await;
    let url = server.url("/metrics");
    kvasir_testkit::eventually(DEADLINE, "the stalled reader is cut off", || {
        let url = url.clone();
        async move {
            let text = http_client()
                .get(url)
                .send()
                .await
                .ok()?
                .text()
                .await
                .ok()?;
            text.contains("kvasir_http_connections 1\n").then_some(())
        }
    })
    .await;
}

#[tokio::test]
async fn silent_connections_do_not_keep_out_one_that_speaks() {
    let server = options()
        .set("limits.connections_per_address", "16")
        .start()
        .await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(RawConnection::open(server.addr()).await);
        if silent.len() % 50 == 0 {
            let began = Instant::now();
            let answer = exchange(
                server.addr(),
                "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            )
            .await;
            assert_eq!(answer.status, 200);
            assert!(began.elapsed() < Duration::from_secs(2));
        }
    }
    assert!(silent[0].is_closed_within(CLOSED).await);
}

#[tokio::test]
async fn a_connection_over_the_limit_is_told_when_all_are_busy() {
    let server = options()
        .set("limits.connections_per_address", "2")
        .start()
        .await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut connection = RawConnection::open(server.addr()).await;
        let head = "PUT /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n";
        connection.send(head).await;
        busy.push(connection);
    }
    // Another address has places of its own.
    let elsewhere = reqwest::Client::builder()
        .no_proxy()
        .local_address(std::net::IpAddr::from([127, 0, 0, 2]))
        .build()
        .unwrap();
    let url = server.url("/metrics");
    kvasir_testkit::eventually(DEADLINE, "both are busy", || {
        let request = elsewhere.get(&url);
        async move {
            let text = request.send().await.ok()?.text().await.ok()?;
            text.contains("kvasir_http_requests_in_progress 3\n")
                .then_some(())
        }
    })
    .await;
    let answer = exchange(server.addr(), "").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    busy[0].send(r#"{"value":1}"#).await;
    assert_eq!(busy[0].response().await.status, 200);
}

#[tokio::test]
async fn requests_over_the_limit_get_503_in_the_dialects_shape() {
    let server = options()
        .set("limits.requests_in_progress", "1")
        .start()
        .await;
    let mut first = RawConnection::open(server.addr()).await;
    let head = "PUT /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 11\r\nexpect: 100-continue\r\n\r\n";
    first.send(head).await;
    first.continued().await;
    let request = "GET /kv/b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = exchange(server.addr(), request).await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert!(answer.header("retry-after").is_some());
    let health = http_client().get(server.url("/healthz")).send().await;
    assert_eq!(health.unwrap().status(), 200);
    first.send(r#"{"value":1}"#).await;
    assert_eq!(first.response().await.status, 200);
}

/// Writers of the test below, each with one request at a time.
const WRITERS: usize = 600;

#[tokio::test]
async fn while_commits_take_too_long_new_writes_get_503_and_everything_else_is_served() {
    let server = options()
        .set("limits.connections_per_address", "1000")
        .start()
        .await;
    // A disk on which each sync takes 150 ms.
    let slow = tokio::process::Command::new("strace")
        .args(["-f", "-qqq", "-o", "/dev/null", "-e", "trace=fdatasync"])
        .args(["-e", "inject=fdatasync:delay_exit=150000"])
        .args(["-p", &server.pid().to_string()])
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut slow) = slow else {
        kvasir_testkit::skip("a slow disk needs strace");
        return;
    };
    let began = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        let addr = server.addr();
        writers.spawn(async move {
            let request = format!(
                "PUT /kv/many.{number} HTTP/1.1\r\nhost: localhost\r\n\
                 content-type: application/json\r\ncontent-length: 11\r\n\r\n{{\"value\":1}}"
            );
            let mut connection = RawConnection::open(addr).await;
            let mut refusal = None;
            let mut stored = 0;
            while refusal.is_none() && began.elapsed() < Duration::from_secs(10) {
                connection.send(&request).await;
                match connection.response().await {
                    answer if answer.status == 200 => stored += 1,
                    answer => refusal = Some(answer),
                }
            }
            (stored, refusal)
        });
    }
    // Meanwhile the rest of the server is as quick as ever.
    let mut slowest = Duration::ZERO;
    for path in ["/healthz", "/metrics", "/kv/nothing", "/_/api/v1/tokens"].repeat(5) {
        let asked = Instant::now();
        let status = http_client()
            .get(server.url(path))
            .send()
            .await
            .unwrap()
            .status();
        assert!(status == 200 || status == 404, "{path}: {status}");
        slowest = slowest.max(asked.elapsed());
    }
    let (mut stored, mut refused) = (0, 0);
    while let Some(writer) = writers.join_next().await {
        let (count, refusal) = writer.unwrap();
        stored += count;
        if let Some(answer) = refusal {
            assert_eq!(answer.status, 503);
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert_eq!(answer.header("x-kvasir-error"), Some("overloaded"));
            refused += 1;
        }
    }
    // Ignored: it may have ended with what it traced.
    let _ = slow.kill().await;
    println!("{stored} stored, {refused} refused, other requests took up to {slowest:?}");
    if stored > 0 && began.elapsed() < Duration::from_secs(1) && refused == 0 {
        kvasir_testkit::skip("a slow disk needs the right to trace");
        return;
    }
    assert!(
        stored > 0 && refused > 0,
        "{stored} stored, {refused} refused"
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    // And writes come back by themselves.
    let put = http_client()
        .put(server.url("/kv/a"))
        .header("Content-Type", "application/json")
        .body(r#"{"value":1}"#);
    assert_eq!(put.send().await.unwrap().status(), 200);
}

//! Requests that lie about their length, have no end or no bottom, and HTTP/2 used against the
//! server. Each ends in the right answer, and a well-behaved client notices nothing.

use std::time::Duration;

use kvasir_testkit::raw::{RawConnection, exchange};
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, eventually, within};

use crate::{options, server};

const MIB: u64 = 1024 * 1024;

/// Most that the server may grow while it is attacked, in bytes.
const GROWTH_MAX: u64 = 64 * MIB;

fn put_head(length: &str) -> String {
    format!(
        "PUT /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
    )
}

/// An ordinary client's write and read.
async fn assert_serves(server: &TestServer) {
    let url = server.url("/kv/well.behaved");
    let put = http_client()
        .put(&url)
        .header("Content-Type", "application/json")
        .body(r#"{"value":1}"#);
    let served = within(
        Duration::from_secs(5),
        "an ordinary client is served",
        async {
            assert_eq!(put.send().await.unwrap().status(), 200);
            http_client().get(&url).send().await.unwrap().status()
        },
    );
    assert_eq!(served.await, 200);
}

async fn status_of(server: &TestServer, key: &str) -> u16 {
    let url = server.url(&format!("/kv/{key}"));
    http_client()
        .get(url)
        .send()
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test]
async fn a_length_that_promises_more_than_comes_stores_nothing() {
    let server = server().await;
    let mut short = RawConnection::open(server.addr()).await;
    short
        .send(put_head("content-length: 500") + r#"{"value":1}"#)
        .await;
    short.finish().await;
    assert!(short.is_closed_within(DEADLINE).await);
    assert_eq!(status_of(&server, "a").await, 404);
}

#[tokio::test]
async fn a_length_that_promises_less_than_comes_ends_where_it_says() {
    let server = server().await;
    let mut long = RawConnection::open(server.addr()).await;
    // What follows the promised bytes is taken for a request of its own, and is none.
    long.send(put_head("content-length: 11") + r#"{"value":1}{"value":2}"#)
        .await;
    assert_eq!(long.response().await.status, 200);
    assert_eq!(long.response().await.status, 400);
    assert!(long.is_closed_within(DEADLINE).await);

    let cut = exchange(
        server.addr(),
        put_head("content-length: 5") + r#"{"value":2}"#,
    )
    .await;
    assert_eq!(cut.status, 400);
    let stored = http_client().get(server.url("/kv/a")).send().await.unwrap();
    assert_eq!(stored.text().await.unwrap(), "1");
}

#[tokio::test]
async fn lengths_that_contradict_each_other_or_are_none_are_refused() {
    let server = server().await;
    for length in [
        "content-length: 11\r\ncontent-length: 12",
        "content-length: -1",
        "content-length: 0x0b",
        "content-length: 99999999999999999999999",
        "transfer-encoding: gzip",
    ] {
        let answer = exchange(server.addr(), put_head(length) + r#"{"value":1}"#).await;
        assert!(
            (400..=501).contains(&answer.status),
            "{length}: {}",
            answer.status
        );
        assert_eq!(status_of(&server, "a").await, 404, "{length}");
    }
    // A front server may believe either field of these two, so the connection ends: what comes
    // behind the body is never taken for a request (RFC 9112 6.3).
    let both = put_head("content-length: 3\r\ntransfer-encoding: chunked");
    let smuggled = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut connection = RawConnection::open(server.addr()).await;
    connection.send(format!("{both}0\r\n\r\n{smuggled}")).await;
    let answers = String::from_utf8(connection.read_to_close().await).unwrap();
    assert!(!answers.contains("\r\n\r\nok\n"), "{answers}");
}

#[tokio::test]
async fn ten_gigabytes_are_refused_whether_announced_or_not() {
    let server = server().await;
    assert_serves(&server).await;
    let before = server.memory_bytes();
    let announced = exchange(server.addr(), put_head("content-length: 10737418240")).await;
    assert_eq!(announced.status, 413);
    assert_eq!(
        announced.header("content-type"),
        Some("application/problem+json")
    );

    // Sent in chunks without an end: the answer comes long before.
    let mut endless = RawConnection::open(server.addr()).await;
    endless
        .send(put_head("transfer-encoding: chunked") + "a\r\n{\"value\":\"\r\n")
        .await;
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    for _ in 0..400 {
        endless.send(&chunk).await;
    }
    let answer = endless.try_read_response().await;
    assert!(answer.is_none_or(|answer| answer.status == 413));
    assert!(server.memory_bytes() < before + GROWTH_MAX);
    assert_serves(&server).await;
}

#[tokio::test]
async fn depth_bombs_and_broken_text_are_refused() {
    let server = server().await;
    let deep = |depth: usize| format!(r#"{{"value":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let bodies: [(Vec<u8>, u16); 5] = [
        (deep(120).into(), 200),
        (deep(1_000).into(), 400),
        (deep(400_000).into(), 400),
        (
            [br#"{"value":"#.as_slice(), &[b'['; 1_000_000]].concat(),
            400,
        ),
        (b"{\"value\":\"\xff\xfe\"}".to_vec(), 400),
    ];
    for (body, status) in bodies {
        let length = format!("content-length: {}", body.len());
        let request = [put_head(&length).into_bytes(), body].concat();
        let answer = exchange(server.addr(), request).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_serves(&server).await;
}

/// Frames of HTTP/2, RFC 9113 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head[..], payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A header block without compression: method (an index of RFC 7541 appendix A), path, authority.
fn headers(method: u8, path: &str) -> Vec<u8> {
    let literal = |index: u8, text: &str| {
        let length = u8::try_from(text.len()).unwrap();
        [&[index, length], text.as_bytes()].concat()
    };
    [
        vec![method, 0x86],
        literal(0x04, path),
        literal(0x01, "localhost"),
    ]
    .concat()
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

async fn http2(server: &TestServer, settings: &[u8]) -> RawConnection {
    let mut connection = RawConnection::open(server.addr()).await;
    connection.send(PREFACE).await;
    connection.send(frame(SETTINGS, 0, 0, settings)).await;
    connection
}

#[tokio::test]
async fn a_client_that_resets_its_requests_at_once_is_cut_off() {
    let server = server().await;
    let before = server.memory_bytes();
    let mut rapid = http2(&server, &[]).await;
    let cancel = 8_u32.to_be_bytes();
    let mut burst = Vec::new();
    for stream in (1..20_001).step_by(2) {
        let block = headers(GET, "/kv/a");
        burst.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block));
        burst.extend(frame(RST_STREAM, 0, stream, &cancel));
    }
    rapid.send(burst).await;
    assert!(rapid.is_closed_within(DEADLINE).await);
    assert!(server.memory_bytes() < before + GROWTH_MAX);
    assert_serves(&server).await;
}

#[tokio::test]
async fn an_http2_client_that_opens_no_window_is_cut_off() {
    let server = options().set("limits.reader_stall", "500ms").start().await;
    let value = format!(r#"{{"value":"{}"}}"#, "a".repeat(500_000));
    let put = http_client()
        .put(server.url("/kv/a"))
        .header("Content-Type", "application/json")
        .body(value);
    assert_eq!(put.send().await.unwrap().status(), 200);
    // SETTINGS_INITIAL_WINDOW_SIZE = 0: answers may have heads but no bodies.
    let mut stalled = http2(&server, &[0, 4, 0, 0, 0, 0]).await;
    for stream in [1, 3, 5] {
        let block = headers(GET, "/kv/a");
        stalled
            .send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block))
            .await;
    }
    assert!(stalled.is_closed_within(DEADLINE).await);
    assert_serves(&server).await;
}

#[tokio::test]
async fn an_http2_client_that_falls_silent_is_closed() {
    let server = options()
        .set("limits.idle", "500ms")
        .set("limits.head", "500ms")
        .start()
        .await;
    let mut silent = http2(&server, &[]).await;
    assert!(silent.is_closed_within(DEADLINE).await);
    // In the middle of a head: HEADERS without END_HEADERS, and no CONTINUATION.
    let mut cut = http2(&server, &[]).await;
    cut.send(frame(HEADERS, END_STREAM, 1, &headers(GET, "/kv/a")))
        .await;
    assert!(cut.is_closed_within(DEADLINE).await);
    assert_serves(&server).await;
}

#[tokio::test]
async fn an_http2_body_that_does_not_come_takes_no_place_for_long() {
    let server = options()
        .set("limits.body_gap", "500ms")
        .set("limits.requests_in_progress", "4")
        .start()
        .await;
    let mut stalled = http2(&server, &[]).await;
    for stream in [1, 3, 5, 7] {
        let block = headers(POST, "/kv/_atomic");
        stalled
            .send(frame(HEADERS, END_HEADERS, stream, &block))
            .await;
    }
    eventually(DEADLINE, "their places are free again", || async {
        (status_of(&server, "nothing").await == 404).then_some(())
    })
    .await;
    assert_serves(&server).await;
}

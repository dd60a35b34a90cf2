//! What a client can do to hurt: depth, lengths that lie, broken text, endless lists.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::body::Bytes;
use futures_util::{StreamExt, stream};
use kvasir_kv::{
    AtomicWrite, Capabilities, ChangeStream, Entry, Error, KeyRange, ManualClock, Outcome, Page,
    PageStream, Result, Snapshot, SnapshotRead, Store, UnixMillis, Value, Versionstamp,
    WatchStream,
};

use super::*;
use crate::support::START;

#[tokio::test]
async fn depth_bombs_are_refused() {
    let app = app_with_value_limit(8 * 1024 * 1024);
    let depth = 1_000_000;
    for bomb in [
        "[".repeat(depth),
        "{\"a\":".repeat(depth),
        format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
    ] {
        for body in [format!(r#"{{"value":{bomb}}}"#), bomb.clone()] {
            assert_eq!(app.kv_put("/kv/a", body).await.status, 400);
        }
        let body = format!(r#"{{"mutations":[{{"type":"set","key":["a"],"value":{bomb}}}]}}"#);
        let answer = app.send("POST", "/kv/_atomic", &[JSON], body).await;
        assert_eq!(answer.status, 400);
        let body = format!(r#"{{"mutations":[{{"type":"delete","key":{bomb}}}]}}"#);
        let answer = app.send("POST", "/kv/_atomic", &[JSON], body).await;
        assert_eq!(answer.status, 400);
    }
    let key = percent_encoding::utf8_percent_encode(
        &"[".repeat(5_000),
        percent_encoding::NON_ALPHANUMERIC,
    )
    .to_string();
    assert_eq!(app.kv_get(&format!("/kv?key={key}")).await.status, 400);
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_the_body_is_read() {
    let app = app();
    let never = Body::from_stream(stream::pending::<std::io::Result<Bytes>>());
    let headers = [JSON, ("content-length", "10000000000")];
    let answer = app.send("PUT", "/kv/a", &headers, never).await;
    assert_problem(&answer, 413, "too_large", "over the limit");
}

#[tokio::test]
async fn an_endless_body_is_cut_off_at_the_limit() {
    let app = app();
    let read = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&read);
    let chunk = Bytes::from(vec![b' '; 64 * 1024]);
    let endless = stream::repeat(chunk).map(move |chunk| {
        counter.fetch_add(chunk.len(), Ordering::Relaxed);
        std::io::Result::Ok(chunk)
    });
    let answer = app.kv_put("/kv/a", Body::from_stream(endless)).await;
    assert_problem(&answer, 413, "too_large", "over the limit");
    assert!(read.load(Ordering::Relaxed) < 2 * 1024 * 1024);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused_and_stores_nothing() {
    let app = app();
    let broken = stream::iter([
        Ok(Bytes::from_static(br#"{"value":1}"#)),
        Err(std::io::Error::other("gone")),
    ]);
    let answer = app.kv_put("/kv/a", Body::from_stream(broken)).await;
    assert_problem(&answer, 400, "bad_request", "the body ended early");
    assert_eq!(app.kv_get("/kv/a").await.status, 404);
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused_everywhere() {
    let app = app();
    for body in [
        &b"{\"value\":\"\xff\"}"[..],
        b"\xef\xbb\xbf{\"value\":1}",
        b"{\"\xc3\x28\":1,\"value\":1}",
        b"{\"value\":\"\xed\xa0\x80\"}",
    ] {
        let answer = app.kv_put("/kv/a", body).await;
        assert_problem(&answer, 400, "bad_request", "the body is not as it must be");
    }
    for target in [
        "/kv/%ff",
        "/kv/%ED%A0%80",
        "/kv/a?list=%ff",
        "/kv?key=%22%ff%22",
    ] {
        let answer = app.kv_get(target).await;
        assert_problem(&answer, 400, "bad_request", "UTF-8");
    }
    let request = http::Request::get("/kv/a")
        .header("if-match", &b"\"\xff\""[..])
        .header("authorization", &b"Bearer \xff"[..])
        .body(Body::empty())
        .unwrap();
    let answer = app.open_request(request).await.into_answer().await;
    assert_problem(&answer, 400, "bad_request", "if-match");
}

/// A store whose lists never end.
struct Endless {
    pages_read: AtomicUsize,
}

const ENTRIES_PER_PAGE: usize = 512;

/// One page, over and over: what is counted is how many are asked for.
fn page() -> Page {
    let entries = (0..ENTRIES_PER_PAGE).map(|index| Entry {
        key: Key::from_strings(["default", "n", &format!("{index:020}")]),
        value: Value::json(format!("\"{}\"", "x".repeat(100))),
        versionstamp: Versionstamp::new(1, 0),
        expires_at: None,
        meta: None,
    });
    Page {
        entries: entries.collect(),
        versionstamp: Versionstamp::new(1, 0),
    }
}

#[derive(Clone)]
struct EndlessStore(Arc<Endless>);

#[async_trait]
impl Store for EndlessStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            backend: "endless",
            durable: false,
            shared: false,
            snapshot_scans: true,
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let is_damaged = key.as_bytes().windows(7).any(|part| part == b"damaged");
        match is_damaged {
            true => Err(Error::Corrupt("the record in /inside/table 7".into())),
            false => Ok(None),
        }
    }

    async fn read(&self, read: SnapshotRead) -> Result<Snapshot> {
        // Asked for tokens: there are none.
        Ok(Snapshot {
            ranges: read.ranges.iter().map(|_| Default::default()).collect(),
        })
    }

    fn scan(&self, _range: KeyRange, _reverse: bool) -> PageStream {
        let endless = Arc::clone(&self.0);
        Box::pin(stream::repeat(page()).map(move |page| {
            endless.pages_read.fetch_add(1, Ordering::SeqCst);
            Ok(page)
        }))
    }

    fn scan_snapshot(&self, range: KeyRange, reverse: bool) -> PageStream {
        self.scan(range, reverse)
    }

    async fn commit(&self, _write: AtomicWrite) -> Result<Outcome> {
        Err(Error::ReadOnly("it is endless"))
    }

    async fn ingest(&self, _entries: Vec<Entry>) -> Result<()> {
        Err(Error::ReadOnly("it is endless"))
    }

    fn watch(&self, _keys: Vec<Key>) -> WatchStream {
        Box::pin(stream::pending())
    }

    fn changes(&self, _range: KeyRange) -> ChangeStream {
        Box::pin(stream::pending())
    }

    async fn sweep(&self, _now: UnixMillis, _limit: NonZeroU32) -> Result<u32> {
        Ok(0)
    }

    async fn versionstamp(&self) -> Result<Versionstamp> {
        Ok(Versionstamp::new(1, 0))
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

fn endless_app() -> (App, Arc<Endless>) {
    let endless = Arc::new(Endless {
        pages_read: AtomicUsize::new(0),
    });
    let world = World::over(
        Arc::new(EndlessStore(Arc::clone(&endless))),
        ManualClock::at(START),
        Limits::default(),
        AccessSettings::default(),
    );
    (app_over(&world, Settings::default()), endless)
}

#[tokio::test]
async fn a_list_without_end_is_read_only_as_far_as_the_client_takes_it() {
    let (app, endless) = endless_app();
    let lines = [("accept", "application/x-ndjson")];
    let mut list = app.open("GET", "/kv/n?list=true", &lines, "").await;
    assert_eq!(list.status, 200);
    let mut entries = 0;
    // A quarter of a million entries.
    for chunk in 1..=500 {
        let text = list.next().await.unwrap();
        assert!(text.len() < 512 * 1024, "one page at a time");
        entries += text.iter().filter(|byte| **byte == b'\n').count();
        let read = endless.pages_read.load(Ordering::SeqCst);
        assert!(read <= chunk + 2, "{read} pages read for {chunk} chunks");
    }
    assert_eq!(entries, 500 * ENTRIES_PER_PAGE);
}

#[tokio::test]
async fn a_huge_limit_is_looked_ahead_without_holding_the_entries() {
    let (app, endless) = endless_app();
    let mut list = app
        .open("GET", "/kv/n?list=true&limit=100000", &[], "")
        .await;
    assert!(list.headers.contains_key("x-kv-cursor"));
    let ahead = endless.pages_read.load(Ordering::SeqCst);
    list.next().await.unwrap();
    assert!(endless.pages_read.load(Ordering::SeqCst) <= ahead + 3);
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_503_with_retry_after() {
    let (app, _) = endless_app();
    let answer = app.kv_put("/kv/a", r#"{"value":1}"#).await;
    assert_problem(&answer, 503, "read_only", "takes no writes");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn damage_is_500_with_a_request_id_and_nothing_of_the_inside() {
    let (app, _) = endless_app();
    for target in ["/kv/damaged", "/kv/damaged?meta=true"] {
        let answer = app.kv_get(target).await;
        assert_problem(&answer, 500, "damaged", "stored data is damaged");
        let id = answer.header("x-request-id").unwrap();
        assert!(answer.text().contains(id));
        assert!(!answer.text().contains("inside"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_store_that_is_gone_is_503_with_retry_after() {
    let app = app();
    app.world.store.close().await.unwrap();
    for (method, target) in [
        ("GET", "/kv/a"),
        ("PUT", "/kv/a"),
        ("DELETE", "/kv/a"),
        ("GET", "/kv?list=true"),
    ] {
        let answer = app.send(method, target, &[JSON], r#"{"value":1}"#).await;
        assert_problem(&answer, 503, "unavailable", "the store is unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[test]
fn generated_targets_and_bodies_never_panic() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let pieces = [
        "a",
        ".",
        "\\",
        "%5C",
        "%2E",
        "%",
        "%ff",
        "/",
        "ü",
        "&",
        "=",
        "list",
        "true",
        "limit",
        "cursor",
        "start",
        "end",
        "key",
        "[",
        "]",
        "\"",
        "{\"value\":",
        "1",
        "null",
        "}",
        ",",
        "{\"type\":\"set\"",
        "\"ttl\":",
        "1e99",
        "\\ud800",
        "\"$kvasir\":1",
        "{\"mutations\":[",
    ];
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..next() % 12 {
            text.push_str(pieces[(next() % pieces.len() as u64) as usize]);
        }
        let (path, query) = text.split_once('&').unwrap_or((&text, ""));
        kvasir_api::rest::fuzz_target(path, query);
        kvasir_api::rest::fuzz_body(text.as_bytes());
    }
}

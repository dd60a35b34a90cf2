//! The stream of changes, and requests that take too long: lines 111 and 112.

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use kvasir_auth::AccessSettings;
use kvasir_kv::{
    AtomicWrite, Capabilities, ChangeStream, Entry, Key, KeyRange, Limits, Outcome, PageStream,
    Result, Snapshot, SnapshotRead, Store, UnixMillis, Versionstamp, WatchStream,
};
use serde_json::json;
use tokio::sync::Notify;

use super::{NS, Setup, encoded, refused};
use crate::support::World;

const STREAM: [(&str, &str); 1] = [("accept", "text/event-stream")];

#[tokio::test]
async fn changes_are_told_as_they_happen() {
    let setup = Setup::with(|settings| settings.changes = true);
    let path = format!("/{NS}");
    let mut stream = setup.app.open("GET", &path, &STREAM, "").await;
    assert_eq!(
        stream.headers["content-type"],
        "text/event-stream; charset=utf-8"
    );
    stream.until("event: open\ndata: {}\n\n").await;

    setup.store(&format!("{path}/a%20b"), "1").await;
    setup.store("/classworks/other/k", "1").await;
    let event = stream.until("\n\n").await;
    assert!(
        event.contains("event: change\ndata: {\"key\":\"a b\",\"deleted\":false}\n\n"),
        "{event}"
    );
    setup.delete(&format!("{path}/a%20b")).await;
    let event = stream.until("\n\n").await;
    assert!(
        event.contains("{\"key\":\"a b\",\"deleted\":true}"),
        "{event}"
    );
    {
        let mut silence = std::pin::pin!(stream.next());
        assert!(futures_util::poll!(silence.as_mut()).is_pending());
        setup.world.clock.advance_ms(15_000);
        assert_eq!(silence.await.unwrap(), ":\n\n");
    }
    setup.world.shutdown.cancel();
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_stream_ends_when_its_reader_may_no_longer_read() {
    let setup = Setup::with(|settings| settings.changes = true);
    let path = format!("/{NS}");
    let mut stream = setup.app.open("GET", &path, &STREAM, "").await;
    stream.until("event: open").await;
    setup.protect(NS, "pw").await;
    let password = encoded("pw");
    let headers = [("x-namespace-password", &*password)];
    let body = json!({"accessType": "PRIVATE"}).to_string();
    setup
        .app
        .send("PUT", &format!("{path}/_info"), &headers, body)
        .await;
    setup
        .app
        .send("POST", &format!("{path}/k"), &headers, "1")
        .await;
    assert_eq!(stream.next().await, None);
    refused(
        &setup.app.send("GET", &path, &STREAM, "").await,
        401,
        "设备密码验证失败",
    );
}

#[tokio::test]
async fn there_is_no_stream_unless_the_settings_say_so() {
    let setup = Setup::new();
    let answer = setup.app.send("GET", &format!("/{NS}"), &STREAM, "").await;
    assert_eq!(answer.json(), json!({"items": [], "total_rows": 0}));
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_waited_for_30_seconds() {
    let setup = Setup::new();
    let never = futures_util::stream::pending::<Result<bytes::Bytes, std::convert::Infallible>>();
    let path = format!("/{NS}/k");
    let waiting = setup.app.open("POST", &path, &[], Body::from_stream(never));
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    setup.world.clock.advance_ms(29_999);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    setup.world.clock.advance_ms(1);
    let answer = waiting.await.into_answer().await;
    refused(&answer, 408, "请求处理超时");
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_write_that_takes_too_long_is_answered_and_done_as_a_whole() {
    let inner = World::new();
    let stuck = Arc::new(StuckStore {
        inner: Arc::clone(&inner.store),
        go_on: Notify::new(),
    });
    let store: Arc<dyn Store> = stuck.clone();
    let access = AccessSettings::default();
    let world = World::over(store, inner.clock.clone(), Limits::default(), access);
    let setup = Setup::over(world, |_| {});

    let path = format!("/{NS}/_batchimport");
    let waiting = setup.app.open("POST", &path, &[], r#"{"a":1,"b":2}"#);
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    setup.world.clock.advance_ms(30_000);
    let answer = waiting.await.into_answer().await;
    refused(&answer, 408, "请求处理超时");
    assert_eq!(setup.get(&format!("/{NS}")).await.json()["total_rows"], 0);
    stuck.go_on.notify_one();
    kvasir_testkit::within(kvasir_testkit::DEADLINE, "the whole write", async {
        while setup.get(&format!("/{NS}")).await.json()["total_rows"] != 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A store whose first commit waits, as a full disk or a lost connection makes them.
struct StuckStore {
    inner: Arc<dyn Store>,
    go_on: Notify,
}

#[async_trait]
impl Store for StuckStore {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn read(&self, read: SnapshotRead) -> Result<Snapshot> {
        self.inner.read(read).await
    }
    fn scan(&self, range: KeyRange, reverse: bool) -> PageStream {
        self.inner.scan(range, reverse)
    }
    fn scan_snapshot(&self, range: KeyRange, reverse: bool) -> PageStream {
        self.inner.scan_snapshot(range, reverse)
    }
    async fn commit(&self, write: AtomicWrite) -> Result<Outcome> {
        // Like a committer, it finishes what it was given also if nobody waits any more.
        let (inner, (send, receive)) = (Arc::clone(&self.inner), tokio::sync::oneshot::channel());
        tokio::spawn({
            let result = send;
            async move {
                let outcome = inner.commit(write).await;
                let _ = result.send(outcome);
            }
        });
        self.go_on.notified().await;
        receive.await.expect("the commit answers")
    }
    async fn ingest(&self, entries: Vec<Entry>) -> Result<()> {
        self.inner.ingest(entries).await
    }
    fn watch(&self, keys: Vec<Key>) -> WatchStream {
        self.inner.watch(keys)
    }
    fn changes(&self, range: KeyRange) -> ChangeStream {
        self.inner.changes(range)
    }
    async fn sweep(&self, now: UnixMillis, limit: NonZeroU32) -> Result<u32> {
        self.inner.sweep(now, limit).await
    }
    async fn versionstamp(&self) -> Result<Versionstamp> {
        self.inner.versionstamp().await
    }
    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

//! A whole site in this process: dialects over the memory store, with a clock that tests move.
//!
//! ```ignore
//! let world = World::new();
//! let app = world.app(vec![Arc::new(Rest::new(world.ctx("rest", "/kv", "default"), Settings::default()))]);
//! let answer = app.send("GET", "/kv/a", &[("accept", "application/json")], "").await;
//! assert_eq!(answer.status, 404);
//! world.clock.advance_ms(1_000);
//! ```

#![allow(dead_code, reason = "the tests of a dialect use a part of it")]
#![allow(unreachable_pub, reason = "a private module of a test binary")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use kvasir_api::context::Mounted;
use kvasir_api::request::RequestId;
use kvasir_api::{Ctx, Dialect, RequestInfo, Site};
use kvasir_auth::{Access, AccessSettings};
use kvasir_kv::{
    AtomicWrite, Clock, Committed, Entry, Key, Keyspace, KeyspaceName, Limits, ManualClock,
    Mutation, Store, UnixMillis, Value,
};
use kvasir_store::{FatalHook, MemoryStore, OpenOptions};
use kvasir_testkit::{DEADLINE, within};
use tokio_util::sync::CancellationToken;

/// Where the clock of a new world stands: 2026-01-02 03:04:05 UTC.
pub const START: UnixMillis = UnixMillis(1_767_323_045_000);

/// Everything below the dialects. Cloning shares it.
#[derive(Clone)]
pub struct World {
    pub store: Arc<dyn Store>,
    pub clock: ManualClock,
    pub limits: Limits,
    pub system: Keyspace,
    pub access: Arc<Access>,
    /// Cancel it to begin the drain.
    pub shutdown: CancellationToken,
}

impl World {
    /// An empty memory store and no tokens.
    pub fn new() -> World {
        World::with(Limits::default(), AccessSettings::default())
    }

    /// An empty memory store with other limits or access settings.
    pub fn with(limits: Limits, access: AccessSettings) -> World {
        let clock = ManualClock::at(START);
        let store = MemoryStore::new(&OpenOptions {
            clock: Arc::new(clock.clone()),
            limits,
            fatal: FatalHook::new(|error| panic!("the memory store failed: {error}")),
            sweeper: false,
            ..OpenOptions::default()
        });
        World::over(Arc::new(store), clock, limits, access)
    }

    /// The same for a store of the test's own.
    pub fn over(
        store: Arc<dyn Store>,
        clock: ManualClock,
        limits: Limits,
        access: AccessSettings,
    ) -> World {
        let system = Keyspace::new(Arc::clone(&store), KeyspaceName::system());
        let access = Access::new(system.clone(), Arc::new(clock.clone()), access);
        World {
            store,
            clock,
            limits,
            system,
            access: Arc::new(access),
            shutdown: CancellationToken::new(),
        }
    }

    /// The context of a mount at `base` on `keyspace`.
    pub fn ctx(&self, dialect: &'static str, base: &str, keyspace: &str) -> Ctx {
        Ctx::new(Mounted {
            dialect,
            base: base.to_owned(),
            keyspace: self.keyspace(keyspace),
            system: self.system.clone(),
            clock: Arc::new(self.clock.clone()),
            limits: self.limits,
            access: Arc::clone(&self.access),
            shutdown: self.shutdown.clone(),
        })
    }

    /// A keyspace of the store.
    pub fn keyspace(&self, name: &str) -> Keyspace {
        let name = name.parse().expect("tests name keyspaces well");
        Keyspace::new(Arc::clone(&self.store), name)
    }

    /// A site of these dialects, asked over loopback.
    pub fn app(&self, dialects: Vec<Arc<dyn Dialect>>) -> App {
        App {
            world: self.clone(),
            site: Arc::new(Site::new(dialects).limited_by(Arc::clone(&self.access))),
            peer: SocketAddr::from(([127, 0, 0, 1], 50_000)),
            local: SocketAddr::from(([127, 0, 0, 1], 8_000)),
            host: "localhost:8000".to_owned(),
            is_tls: false,
        }
    }

    /// Writes past all dialects.
    pub async fn put(&self, keyspace: &str, key: Key, value: Value) -> Committed {
        let write = AtomicWrite::new().push(Mutation::set(key, value));
        let outcome = self.keyspace(keyspace).commit(write).await;
        let outcome = outcome.expect("the memory store takes the write");
        outcome.committed().expect("nothing was checked")
    }

    /// Reads past all dialects.
    pub async fn get(&self, keyspace: &str, key: &Key) -> Option<Entry> {
        let entry = self.keyspace(keyspace).get(key).await;
        entry.expect("the memory store answers")
    }

    /// The present time of the test's clock.
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

/// A site to send requests to. Change the public fields to come from elsewhere.
#[derive(Clone)]
pub struct App {
    pub world: World,
    pub site: Arc<Site>,
    /// The client's end of the connection; [`RequestInfo::client`] is its address.
    pub peer: SocketAddr,
    /// The server's end; not loopback means a public listener.
    pub local: SocketAddr,
    /// The `Host` header where the request brings none.
    pub host: String,
    pub is_tls: bool,
}

impl App {
    /// The same site, asked over a public address.
    pub fn on_public_address(&self) -> App {
        App {
            peer: SocketAddr::from(([203, 0, 113, 7], 50_000)),
            local: SocketAddr::from(([198, 51, 100, 1], 8_000)),
            host: "kv.example.com".to_owned(),
            ..self.clone()
        }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let streamed = self.open(method, path, headers, body).await;
        streamed.into_answer().await
    }

    /// Sends a request and leaves the answer's body to be read bit by bit.
    pub async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Streamed {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("tests send proper methods"))
            .uri(path.parse::<Uri>().expect("tests send proper targets"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).expect("tests send proper heads");
        self.open_request(request).await
    }

    /// Sends a request of the test's own making, for example with bytes in headers.
    pub async fn open_request(&self, mut request: Request<Body>) -> Streamed {
        if !request.headers().contains_key(http::header::HOST) {
            let host = self.host.parse().expect("tests name hosts well");
            request.headers_mut().insert(http::header::HOST, host);
        }
        let info = self.info(&request);
        let response = self.site.handle(request, &info);
        let response = within(DEADLINE, "the head of the answer", response).await;
        let (parts, body) = response.into_parts();
        Streamed {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    fn info(&self, request: &Request<Body>) -> RequestInfo {
        static REQUESTS: AtomicU64 = AtomicU64::new(1);
        let host = request.headers()[http::header::HOST].to_str();
        RequestInfo {
            id: RequestId(REQUESTS.fetch_add(1, Ordering::Relaxed)),
            peer: self.peer,
            local: self.local,
            client: self.peer.ip(),
            is_tls: self.is_tls,
            received: Instant::now(),
            uri: request.uri().clone(),
            method: request.method().clone(),
            host: host.unwrap_or_default().into(),
        }
    }
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct Streamed {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
}

impl Streamed {
    /// The next bytes of the body; `None` at its clean end.
    ///
    /// # Panics
    ///
    /// If nothing comes before the deadline or the body breaks.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let frame = within(DEADLINE, "the next bytes of the body", self.body.frame()).await?;
            let frame = frame.expect("the body does not break");
            if let Ok(data) = frame.into_data() {
                return Some(data);
            }
        }
    }

    /// Reads until the bytes received since the last call contain `end`, and gives all of them.
    ///
    /// # Panics
    ///
    /// If the body ends before.
    pub async fn until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.contains(end) {
            let bytes = self.next().await;
            let bytes = bytes.unwrap_or_else(|| panic!("the body ended before {end:?}: {text}"));
            text.push_str(std::str::from_utf8(&bytes).expect("the body is text"));
        }
        text
    }

    /// Reads the rest.
    pub async fn into_answer(mut self) -> Answer {
        let mut body = BytesMut::new();
        while let Some(bytes) = self.next().await {
            body.extend_from_slice(&bytes);
        }
        Answer {
            status: self.status,
            headers: self.headers,
            body: body.freeze(),
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("the body is not JSON: {error}: {:?}", self.body))
    }

    /// A header's value, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

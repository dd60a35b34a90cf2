//! The EdgeKV dialect, line by line of its contract's checklist.
//!
//! Expectations come from the vendor's introduction to the API (the seed), or where that is silent from
//! the programs written for the service; the tests say which where it matters.

mod authentication;
mod data_plane;
mod deletion;
mod errors;
mod forged;
mod groups;
mod initialize;
mod items;
mod namespaces;
mod permission_groups;
mod rehearsal;
mod sandboxes;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvasir_api::Dialect;
use kvasir_api::edgekv::{EdgeKv, Settings};
use kvasir_auth::edgegrid::signature::{content_hash, data_to_sign, sign, signing_key};
use kvasir_auth::edgegrid::{Client, Clients, Scheme};
use kvasir_kv::{Clock, UnixMillis};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::support::{Answer, App, World};

/// The address that the tests' client signs for.
const HOST: &str = "localhost:8443";

/// The credential of the contract's signature vectors.
const SECRET: &str = "a3Zhc2lyLWxvY2FsLXNlY3JldA==";
const CLIENT_TOKEN: &str = "akab-kvasir-client";
const ACCESS_TOKEN: &str = "akab-kvasir-access";

const STAGING: &str = "/edgekv/v1/networks/staging/namespaces";
const PRODUCTION: &str = "/edgekv/v1/networks/production/namespaces";
/// A group of the namespace that most tests use.
const COUNTRIES: &str = "/edgekv/v1/networks/staging/namespaces/marketing/groups/countries";

/// A server and an EdgeGrid client of it.
struct Kv {
    app: App,
    dialect: Arc<EdgeKv>,
    nonces: AtomicU64,
}

/// How a request is signed. Tests change what they are about.
#[derive(Clone)]
struct Signing {
    secret: String,
    client_token: String,
    access_token: String,
    timestamp: String,
    nonce: String,
    scheme: Scheme,
    host: String,
}

impl Signing {
    /// The header up to the nonce's `;`.
    fn signed_header(&self) -> String {
        format!(
            "EG1-HMAC-SHA256 client_token={};access_token={};timestamp={};nonce={};",
            self.client_token, self.access_token, self.timestamp, self.nonce
        )
    }

    fn header(&self, method: &str, path: &str, body: &[u8]) -> String {
        self.complete(&self.signed_header(), method, path, body)
    }

    /// A header that begins like this, with the signature that belongs to it.
    fn complete(&self, signed: &str, method: &str, path: &str, body: &[u8]) -> String {
        let hash = content_hash(method, body);
        let data = data_to_sign(method, self.scheme, &self.host, path, &hash, signed);
        let key = signing_key(&self.secret, &self.timestamp);
        format!("{signed}signature={}", sign(&key, &data))
    }
}

impl Kv {
    /// A server with the namespace `marketing` on staging.
    async fn with_marketing() -> Kv {
        let kv = Kv::new().await;
        kv.create_namespace(STAGING, "marketing", 0).await;
        kv
    }

    /// An initialised server.
    async fn new() -> Kv {
        Kv::with(Settings::default()).await
    }

    async fn with(settings: Settings) -> Kv {
        let kv = Kv::fresh(World::new(), settings).await;
        let answer = kv.send("PUT", "/edgekv/v1/initialize", "").await;
        assert_eq!(answer.status, 201);
        kv
    }

    /// A server that nobody has initialised.
    async fn fresh(world: World, settings: Settings) -> Kv {
        let clients = Clients::new(world.system.clone(), Arc::new(world.clock.clone()));
        let client = Client {
            client_token: CLIENT_TOKEN.to_owned(),
            access_token: ACCESS_TOKEN.to_owned(),
            secret: Some(SecretString::from(SECRET)),
            name: "tests".to_owned(),
            created_at: world.now(),
        };
        clients.add(&client).await.unwrap();
        Kv::over(world, settings)
    }

    /// Another process over the same store.
    fn over(world: World, settings: Settings) -> Kv {
        let dialect = Arc::new(EdgeKv::new(world.ctx("edgekv", "", "edgekv"), settings));
        let mut app = world.app(vec![Arc::clone(&dialect) as Arc<dyn Dialect>]);
        app.host = HOST.to_owned();
        app.is_tls = true;
        Kv {
            app,
            dialect,
            nonces: AtomicU64::new(1),
        }
    }

    fn clients(&self) -> Clients {
        let world = &self.app.world;
        Clients::new(world.system.clone(), Arc::new(world.clock.clone()))
    }

    fn advance_seconds(&self, seconds: i64) {
        self.app.world.clock.advance_ms(seconds * 1000);
    }

    /// A good signature, now, with a nonce of its own.
    fn signing(&self) -> Signing {
        let nonce = self.nonces.fetch_add(1, Ordering::Relaxed);
        Signing {
            secret: SECRET.to_owned(),
            client_token: CLIENT_TOKEN.to_owned(),
            access_token: ACCESS_TOKEN.to_owned(),
            timestamp: timestamp(self.app.world.clock.now()),
            nonce: format!("nonce-{nonce}"),
            scheme: Scheme::Https,
            host: HOST.to_owned(),
        }
    }

    /// A signed request without a content type.
    async fn send(&self, method: &str, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send_with(method, path, &[], body).await
    }

    /// A signed request with JSON.
    async fn send_json(&self, method: &str, path: &str, body: Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send_with(method, path, &headers, body.to_string())
            .await
    }

    /// A signed request with further headers.
    async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        self.send_signed(&self.signing(), method, path, headers, body)
            .await
    }

    async fn send_signed(
        &self,
        signing: &Signing,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let body = body.into();
        let authorization = signing.header(method, path, &body);
        let mut headers = headers.to_vec();
        headers.push(("authorization", &authorization));
        self.app.send(method, path, &headers, body).await
    }

    async fn create_namespace(&self, network: &str, name: &str, retention_seconds: u64) {
        let body = json!({"namespace": name, "retentionInSeconds": retention_seconds});
        let answer = self.send_json("POST", network, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Writes a text item.
    async fn put(&self, path: &str, value: &str) {
        let headers = [("content-type", "text/plain")];
        let answer = self.send_with("PUT", path, &headers, value).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Reads an item; `None` if it is not there.
    async fn get(&self, path: &str) -> Option<String> {
        let answer = self.send("GET", path, "").await;
        match answer.status.as_u16() {
            200 => Some(answer.text().to_owned()),
            404 => None,
            other => panic!("{other}: {}", answer.text()),
        }
    }

    /// Makes a token for the whole of some namespaces and gives what creating it answered.
    async fn create_token(&self, name: &str, members: Value) -> Value {
        let mut body = json!({
            "name": name,
            "allowOnStaging": true,
            "allowOnProduction": true,
            "expiry": "2026-12-31",
            "namespacePermissions": {"marketing": ["r", "w", "d"]},
        });
        for (member, value) in members.as_object().expect("members are an object") {
            body[member] = value.clone();
        }
        let answer = self.send_json("POST", "/edgekv/v1/tokens", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        body_of(&answer)
    }
}

/// A moment in the form that signers use.
fn timestamp(at: UnixMillis) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap();
    at.strftime("%Y%m%dT%H:%M:%S+0000").to_string()
}

fn body_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body)
        .unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

/// The item's path in a group of `marketing` on staging.
fn country(key: &str) -> String {
    format!("{COUNTRIES}/items/{key}")
}

/// Compares an answer with a JSON body, member for member.
#[track_caller]
fn check_json(answer: &Answer, status: u16, body: Value) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(body_of(answer), body);
}

/// Compares an answer with the error object of the database: exactly the seed's members.
#[track_caller]
fn check_error(answer: &Answer, status: u16, code: &str, detail: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let mut body = body_of(answer);
    let content_type = answer.header("content-type");
    assert_eq!(content_type, Some("application/problem+json"));
    let request_id = body["additionalDetail"]["requestId"].take();
    let request_id = request_id.as_str().expect("a request id");
    assert_eq!(request_id.len(), 16);
    assert_eq!(answer.header("x-trace-id"), Some(request_id));
    let instance = body["instance"].take();
    let instance = instance.as_str().expect("an instance");
    let uuid = instance.strip_prefix("/edgeKV/error-instances/");
    assert!(uuid.is_some_and(|uuid| uuid.len() == 36), "{instance}");
    assert_eq!(
        body,
        json!({
            "additionalDetail": {"requestId": null},
            "detail": detail,
            "errorCode": code,
            "instance": null,
            "status": status,
            "title": answer.status.canonical_reason(),
            "type": "https://learn.akamai.com",
        })
    );
}

/// Compares an answer with the error object of the gateway.
#[track_caller]
fn check_gateway(answer: &Answer, status: u16, detail: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let content_type = answer.header("content-type");
    assert_eq!(content_type, Some("application/problem+json"));
    let body = body_of(answer);
    assert_eq!(body["detail"], detail);
    assert_eq!(body["status"], status);
    let (kind, title) = match status {
        401 => ("deny", "Not authorized"),
        _ => ("request-error", "Bad request"),
    };
    assert_eq!(body["title"], title);
    assert_eq!(
        body["type"],
        format!("https://problems.luna.akamaiapis.net/-/pep-authn/{kind}")
    );
    let challenge = (status == 401).then_some("EG1-HMAC-SHA256 realm=\"localhost:8443\"");
    assert_eq!(answer.header("www-authenticate"), challenge);
}

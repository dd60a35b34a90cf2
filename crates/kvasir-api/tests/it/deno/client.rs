//! A KV Connect client that can also misbehave.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use kvasir_api::deno::messages::{self as proto, AtomicWriteOutput, KvEntry, SnapshotReadOutput};
use kvasir_api::deno::{Deno, Settings};
use kvasir_kv::{Key, Part};
use prost::Message;

use crate::support::{Answer, App, Streamed, World};

/// A site with nothing but this dialect.
pub(super) fn site(world: &World) -> App {
    site_with(world, Settings::default())
}

pub(super) fn site_with(world: &World, settings: Settings) -> App {
    let ctx = world.ctx("deno", "", "default");
    world.app(vec![Arc::new(Deno::new(ctx, settings))])
}

/// A key of string parts.
pub(super) fn key(parts: &[&str]) -> Bytes {
    Key::from_strings(parts).into_bytes()
}

/// A key of any parts.
pub(super) fn key_of(parts: &[Part]) -> Bytes {
    Key::from_parts(parts).into_bytes()
}

/// The answer to an exchange.
pub(super) async fn exchange(app: &App, path: &str, token: &str, body: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    app.send("POST", path, &headers, body.to_owned()).await
}

/// A client that has done its exchange.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) app: App,
    pub(super) endpoint: String,
    pub(super) version: &'static str,
    pub(super) database_id: String,
    pub(super) token: String,
    /// The `User-Agent` header.
    pub(super) agent: &'static str,
}

impl Client {
    pub(super) async fn of(app: &App) -> Client {
        Client::open(app, "/", "an access token").await
    }

    pub(super) async fn open(app: &App, path: &str, token: &str) -> Client {
        let answer = exchange(app, path, token, r#"{"supportedVersions":[1,2,3]}"#).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let json = answer.json();
        let text = |json: &serde_json::Value| json.as_str().expect("a string").to_owned();
        Client {
            app: app.clone(),
            endpoint: text(&json["endpoints"][0]["url"]),
            version: "3",
            database_id: text(&json["databaseId"]),
            token: text(&json["token"]),
            agent: "test",
        }
    }

    /// A client of a new, empty site.
    pub(super) async fn new() -> Client {
        Client::of(&site(&World::new())).await
    }

    pub(super) fn world(&self) -> &World {
        &self.app.world
    }

    pub(super) async fn open_raw(&self, method: &str, body: impl Into<Bytes>) -> Streamed {
        let authorization = format!("Bearer {}", self.token);
        let headers = [
            ("authorization", authorization.as_str()),
            ("x-denokv-version", self.version),
            ("x-denokv-database-id", self.database_id.as_str()),
            ("user-agent", self.agent),
        ];
        let path = format!("{}/{method}", self.endpoint);
        let body: Bytes = body.into();
        self.app.open("POST", &path, &headers, body).await
    }

    pub(super) async fn raw(&self, method: &str, body: impl Into<Bytes>) -> Answer {
        self.open_raw(method, body).await.into_answer().await
    }

    /// A read that is answered.
    pub(super) async fn read(&self, ranges: Vec<proto::ReadRange>) -> SnapshotReadOutput {
        let body = proto::SnapshotRead { ranges }.encode_to_vec();
        let answer = self.raw("snapshot_read", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            Some("application/x-protobuf")
        );
        SnapshotReadOutput::decode(answer.body).expect("the answer decodes")
    }

    /// The status of a read.
    pub(super) async fn read_status(&self, ranges: Vec<proto::ReadRange>) -> StatusCode {
        let body = proto::SnapshotRead { ranges }.encode_to_vec();
        self.raw("snapshot_read", body).await.status
    }

    pub(super) async fn get(&self, key: &Bytes) -> Option<KvEntry> {
        let output = self.read(vec![one(key)]).await;
        output.ranges.into_iter().next()?.values.into_iter().next()
    }

    pub(super) async fn list(&self, prefix: &[&str]) -> Vec<KvEntry> {
        let output = self.read(vec![below(&key(prefix), 100)]).await;
        output.ranges.into_iter().next().expect("one range").values
    }

    /// A write that is answered.
    pub(super) async fn write(&self, write: proto::AtomicWrite) -> AtomicWriteOutput {
        let answer = self.raw("atomic_write", write.encode_to_vec()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            Some("application/x-protobuf")
        );
        AtomicWriteOutput::decode(answer.body).expect("the answer decodes")
    }

    /// A write of these mutations that is applied; its versionstamp.
    pub(super) async fn apply(&self, mutations: Vec<proto::Mutation>) -> Bytes {
        let output = self.write(mutating(mutations)).await;
        assert_eq!(output.status, proto::AW_SUCCESS);
        output.versionstamp
    }

    /// A write that is refused; the sentence.
    pub(super) async fn refused(&self, write: proto::AtomicWrite) -> String {
        let answer = self.raw("atomic_write", write.encode_to_vec()).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        answer.text().trim_end().to_owned()
    }
}

pub(super) fn mutating(mutations: Vec<proto::Mutation>) -> proto::AtomicWrite {
    proto::AtomicWrite {
        mutations,
        ..Default::default()
    }
}

pub(super) fn range(start: &Bytes, end: &[u8], limit: i32) -> proto::ReadRange {
    proto::ReadRange {
        start: start.clone(),
        end: Bytes::copy_from_slice(end),
        limit,
        reverse: false,
    }
}

fn with_byte(key: &Bytes, byte: u8) -> Bytes {
    let mut longer = key.to_vec();
    longer.push(byte);
    longer.into()
}

/// The range in which Deno looks for one key.
pub(super) fn one(key: &Bytes) -> proto::ReadRange {
    range(key, &with_byte(key, 0), 1)
}

/// The range that Deno lists for a prefix.
pub(super) fn below(prefix: &Bytes, limit: i32) -> proto::ReadRange {
    range(&with_byte(prefix, 0), &with_byte(prefix, 0xff), limit)
}

pub(super) fn mutation(
    kind: i32,
    key: &Bytes,
    encoding: i32,
    data: impl Into<Bytes>,
) -> proto::Mutation {
    proto::Mutation {
        key: key.clone(),
        value: Some(proto::KvValue {
            data: data.into(),
            encoding,
        }),
        mutation_type: kind,
        ..Default::default()
    }
}

pub(super) const V8: i32 = 1;
pub(super) const LE64: i32 = 2;
pub(super) const BYTES: i32 = 3;

pub(super) fn set(key: &Bytes, encoding: i32, data: impl Into<Bytes>) -> proto::Mutation {
    mutation(proto::M_SET, key, encoding, data)
}

/// Sets a key to some bytes.
pub(super) fn put(key: &Bytes, data: &'static str) -> proto::Mutation {
    set(key, BYTES, data)
}

pub(super) fn delete(key: &Bytes) -> proto::Mutation {
    proto::Mutation {
        key: key.clone(),
        mutation_type: proto::M_DELETE,
        ..Default::default()
    }
}

pub(super) fn check(key: &Bytes, versionstamp: impl Into<Bytes>) -> proto::Check {
    proto::Check {
        key: key.clone(),
        versionstamp: versionstamp.into(),
    }
}

/// A number as Deno writes it.
pub(super) fn v8_number(number: f64) -> Vec<u8> {
    let mut bytes = vec![0xff, 15, b'N'];
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}

/// A bigint as Deno writes it.
pub(super) fn v8_bigint(number: i64) -> Vec<u8> {
    let sign = u8::from(number < 0);
    let mut bytes = vec![0xff, 15, b'Z', 16 | sign];
    bytes.extend_from_slice(&number.unsigned_abs().to_le_bytes());
    bytes
}

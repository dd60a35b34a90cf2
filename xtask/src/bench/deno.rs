//! The KV Connect rows: snapshot reads and atomic writes, over both versions of HTTP, against a bare
//! server and against the incumbent where that is installed.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kvasir_kv::Key;
use prost::Message;
use serde_json::{Value as Json, json};

use super::load::{self, Call, MakeCall, Protocol};
use super::process::Process;
use super::{Bench, Row, Side, VALUE_BYTES, bare_bytes};

/// The shared secret of both servers.
const TOKEN: &str = "kvasir-bench-access-token";

/// Most entries that a point read asks for.
const ONE: i32 = 1;

/// `MutationType.M_SET` of the protocol.
const SET: i32 = 1;

/// `ValueEncoding.VE_BYTES` of the protocol.
const BYTES: i32 = 3;

#[derive(Clone, PartialEq, Message)]
struct SnapshotRead {
    #[prost(message, repeated, tag = "1")]
    ranges: Vec<ReadRange>,
}

#[derive(Clone, PartialEq, Message)]
struct ReadRange {
    #[prost(bytes = "vec", tag = "1")]
    start: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    end: Vec<u8>,
    #[prost(int32, tag = "3")]
    limit: i32,
}

#[derive(Clone, PartialEq, Message)]
struct AtomicWrite {
    #[prost(message, repeated, tag = "2")]
    mutations: Vec<Mutation>,
}

#[derive(Clone, PartialEq, Message)]
struct Mutation {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    value: Option<KvValue>,
    #[prost(int32, tag = "3")]
    mutation_type: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KvValue {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
    #[prost(int32, tag = "2")]
    encoding: i32,
}

/// A data path after the metadata exchange.
struct Session {
    addr: SocketAddr,
    path: String,
    headers: Arc<[(&'static str, String)]>,
}

impl Session {
    async fn open(addr: SocketAddr) -> Result<Session> {
        let answer = reqwest::Client::new()
            .post(format!("http://{addr}/"))
            .bearer_auth(TOKEN)
            .json(&json!({"supportedVersions": [1, 2, 3]}))
            .send()
            .await?;
        ensure!(
            answer.status().is_success(),
            "exchange: {}",
            answer.status()
        );
        let metadata: Json = answer.json().await?;
        let text = |place: &str| -> Result<String> {
            let text = metadata.pointer(place).and_then(Json::as_str);
            Ok(text.with_context(|| format!("no {place}"))?.to_owned())
        };
        let url = text("/endpoints/0/url")?;
        let path = match url.strip_prefix("http://") {
            None => url,
            Some(rest) => rest
                .find('/')
                .map_or(String::new(), |at| rest[at..].to_owned()),
        };
        let headers = [
            ("authorization", format!("Bearer {}", text("/token")?)),
            ("x-denokv-version", metadata["version"].to_string()),
            ("x-denokv-database-id", text("/databaseId")?),
            ("content-type", "application/x-protobuf".to_owned()),
        ];
        Ok(Session {
            addr,
            path: path.trim_end_matches('/').to_owned(),
            headers: headers.into(),
        })
    }

    fn call(&self, method: &str, message: &impl Message) -> Call {
        Call {
            method: "POST",
            path: format!("{}/{method}", self.path),
            headers: Arc::clone(&self.headers),
            body: Bytes::from(message.encode_to_vec()),
        }
    }

    /// Reads of one entry, always the same.
    fn reads(&self) -> MakeCall {
        let key = Key::from_strings(["bench", "hot"]);
        let range = ReadRange {
            start: key.as_bytes().to_vec(),
            end: key.successor().as_bytes().to_vec(),
            limit: ONE,
        };
        let read = SnapshotRead {
            ranges: vec![range],
        };
        self.call("snapshot_read", &read).repeated()
    }

    fn write(&self, key: &Key) -> Call {
        let mutation = Mutation {
            key: key.as_bytes().to_vec(),
            value: Some(KvValue {
                data: vec![b'v'; VALUE_BYTES],
                encoding: BYTES,
            }),
            mutation_type: SET,
        };
        let write = AtomicWrite {
            mutations: vec![mutation],
        };
        self.call("atomic_write", &write)
    }

    /// Writes of one entry each, spread over many keys.
    fn writes(self: &Arc<Self>) -> MakeCall {
        let session = Arc::clone(self);
        Arc::new(move |n| {
            let key = format!("{}", n % 100_000);
            session.write(&Key::from_strings(["bench", &key]))
        })
    }

    /// Puts the entry there that [`Session::reads`] asks for.
    async fn prepare(&self) -> Result<()> {
        let mut client = load::Client::connect(self.addr, Protocol::Http1).await?;
        let write = self.write(&Key::from_strings(["bench", "hot"]));
        let status = client.exchange(&write).await?;
        ensure!(status == 200, "the first write was answered {status}");
        Ok(())
    }
}

/// What a read answers beside the value: framing, key and versionstamp.
const READ_OVERHEAD_BYTES: usize = 48;

/// What a write answers: its status and the versionstamp.
const WRITE_ANSWER_BYTES: usize = 16;

impl Bench {
    /// The rows of this dialect.
    pub(super) async fn deno(&mut self) -> Result<()> {
        if !self.wants_some(&["KV Connect"]) {
            return Ok(());
        }
        let server = self.kvasir(&self.data("deno"), &[])?;
        let ours = Arc::new(Session::open(server.addr).await?);
        ours.prepare().await?;
        for (protocol, version) in [(Protocol::Http1, "HTTP/1.1"), (Protocol::Http2, "HTTP/2")] {
            for connections in [1, 8, 64] {
                self.deno_against_bare(&ours, protocol, version, connections)
                    .await?;
            }
        }
        self.deno_against_incumbent(&server, &ours).await
    }

    async fn deno_against_bare(
        &mut self,
        ours: &Arc<Session>,
        protocol: Protocol,
        version: &str,
        connections: usize,
    ) -> Result<()> {
        let bare = |bytes: usize, call: Call| {
            let path = bare_bytes(bytes).path;
            Side::fixed(self.bare.addr, Call { path, ..call })
        };
        let read = ours.reads()(0);
        let write = ours.writes()(0);
        let rows = [
            (
                "snapshot read",
                ours.reads(),
                bare(VALUE_BYTES + READ_OVERHEAD_BYTES, read),
            ),
            (
                "atomic write",
                ours.writes(),
                bare(WRITE_ANSWER_BYTES, write),
            ),
        ];
        for (what, make, theirs) in rows {
            let name = format!(
                "KV Connect {what}, {version}, {connections} connections, against bare hyper"
            );
            let row = Row {
                name: &name,
                goal: None,
                protocol,
                connections,
            };
            self.compare(row, Side::new(ours.addr, make), theirs)
                .await?;
        }
        Ok(())
    }

    /// Against the incumbent with its default settings, if it is there.
    async fn deno_against_incumbent(
        &mut self,
        server: &Process,
        ours: &Arc<Session>,
    ) -> Result<()> {
        // A free port, a moment ago: the incumbent does not tell which one it got.
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(&self.args.denokv);
        command
            .arg("--sqlite-path")
            .arg(self.data("incumbent.sqlite3"))
            .args([
                "serve",
                "--access-token",
                TOKEN,
                "--addr",
                &addr.to_string(),
            ]);
        let incumbent = match Process::start_silent(&mut command, addr) {
            Ok(process) => process,
            Err(error) => {
                println!("skipped: no incumbent to compare KV Connect with ({error:#})");
                return Ok(());
            }
        };
        let theirs = Arc::new(Session::open(addr).await?);
        theirs.prepare().await?;
        let rows = [
            ("snapshot read", ours.reads(), theirs.reads(), Some(4.0)),
            ("atomic write", ours.writes(), theirs.writes(), Some(15.0)),
        ];
        for (what, mine, other, goal) in rows {
            let name = format!("KV Connect {what}, HTTP/1.1, 64 connections, against denokv");
            let row = Row::http1(&name, 64, goal);
            self.compare(row, Side::new(server.addr, mine), Side::new(addr, other))
                .await?;
        }
        let name = "processor time of one KV Connect read, by denokv's";
        if self.wants(name) {
            let mine = self.cpu_per_answer(server, ours.reads()).await?;
            let other = self.cpu_per_answer(&incumbent, theirs.reads()).await?;
            self.report.figure(name, mine / other, "", Some(1.0 / 3.0));
        }
        Ok(())
    }

    async fn cpu_per_answer(&self, server: &Process, make: MakeCall) -> Result<f64> {
        let before = server.cpu_seconds()?;
        let done = super::load_http1(server.addr, 64, self.time(), &make).await?;
        Ok((server.cpu_seconds()? - before) / done.answers as f64)
    }
}

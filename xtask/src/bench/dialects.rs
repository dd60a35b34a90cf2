//! The rows of the other dialects: reads of one hot entry, each with the proof that its clients show.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kvasir_auth::edgegrid::edgerc;
use kvasir_auth::edgegrid::signature::{Scheme, content_hash, data_to_sign, sign, signing_key};
use serde_json::{Value as Json, json};

use super::load::{Call, MakeCall};
use super::process::Process;
use super::{Bench, Row, Side, VALUE_BYTES, bare_bytes, kvasir_binary};

/// How long the server may take to fetch the identity provider's keys.
const DISCOVERED_WITHIN: Duration = Duration::from_secs(20);

/// Where the EdgeKV rows keep their item.
const EDGEKV_ITEM: &str = "namespaces/bench/groups/g/items/hot";

impl Bench {
    /// All of them.
    pub(super) async fn dialects(&mut self) -> Result<()> {
        self.classworks().await?;
        self.kopano().await?;
        self.edgekv().await
    }

    /// One hot read at 1, 8 and 64 connections; the goal is for the last.
    async fn hot_read(&mut self, what: &str, goal: Option<f64>, ours: &Side) -> Result<()> {
        let probe = (ours.make)(0);
        let mut request = reqwest::Client::new().get(format!("http://{}{}", ours.addr, probe.path));
        for (name, value) in probe.headers.iter() {
            request = request.header(*name, value);
        }
        let answer = request.header("host", "localhost").send().await?;
        ensure!(answer.status() == 200, "{what}: {}", answer.status());
        let bytes = answer.bytes().await?.len();
        for connections in [1, 8, 64] {
            let name = format!("{what}, {connections} connections, against bare hyper");
            let row = Row::http1(&name, connections, goal.filter(|_| connections == 64));
            // The bare server gets the same headers and answers as many bytes.
            let make = Arc::clone(&ours.make);
            let path = bare_bytes(bytes).path;
            let same: MakeCall = Arc::new(move |n| Call {
                path: path.clone(),
                ..make(n)
            });
            self.compare(row, ours.clone(), Side::new(self.bare.addr, same))
                .await?;
        }
        Ok(())
    }

    async fn classworks(&mut self) -> Result<()> {
        const WHAT: &str = "Classworks hot GET";
        if !self.wants_some(&[WHAT]) {
            return Ok(());
        }
        let server = self.kvasir(&self.data("classworks"), &[])?;
        let path = "/7f3c1c1e-6f5d-4c8a-9a61-2f6b8d0e4c11/classworks-config";
        let value = json!({"value": "v".repeat(VALUE_BYTES)});
        let url = format!("http://{}{path}", server.addr);
        let answer = reqwest::Client::new().post(url).json(&value).send().await?;
        ensure!(answer.status().is_success(), "{WHAT}: {}", answer.status());
        self.hot_read(WHAT, Some(0.7), &Side::fixed(server.addr, Call::get(path)))
            .await
    }

    async fn kopano(&mut self) -> Result<()> {
        const WHAT: &str = "Kopano GET with a verified token";
        if !self.wants_some(&[WHAT]) {
            return Ok(());
        }
        let issuer = Process::start(Command::new(kvasir_binary()).args([
            "dev-issuer",
            "--listen",
            "127.0.0.1:0",
        ]))?;
        let issuer_url = format!("http://{}", issuer.addr);
        let server = self.kvasir(&self.data("kopano"), &["--iss", &issuer_url])?;
        let http = reqwest::Client::new();
        let token = http.get(format!("{issuer_url}/token?user=bench&client=bench"));
        let token = token.send().await?.text().await?.trim().to_owned();
        let path = "/api/kvs/v1/kv/user/bench/hot";
        let deadline = Instant::now() + DISCOVERED_WITHIN;
        loop {
            let put = http
                .put(format!("http://{}{path}", server.addr))
                .bearer_auth(&token)
                .json(&json!({"value": "v".repeat(VALUE_BYTES)}));
            let status = put.send().await?.status();
            if status.is_success() {
                break;
            }
            ensure!(
                status == 503 && Instant::now() < deadline,
                "{WHAT}: {status}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let read = Call::get(path).headers([("authorization", format!("Bearer {token}"))]);
        self.hot_read(WHAT, Some(0.5), &Side::fixed(server.addr, read))
            .await
    }

    async fn edgekv(&mut self) -> Result<()> {
        if !self.wants_some(&["EdgeKV data plane", "EdgeKV with EdgeGrid"]) {
            return Ok(());
        }
        let data = self.data("edgekv");
        let more = [
            "--edgekv.auto_initialize",
            "true",
            "--tls-listen",
            "127.0.0.1:0",
            // One client signs everything here, which would soon be refused by default.
            "--edgekv.nonces_per_client_max",
            "4000000",
        ];
        let server = self.kvasir(&data, &more)?;
        let signer = Arc::new(Signer::of(&data)?);
        let send = async |method: &'static str, path: &str, body: Json| -> Result<Json> {
            let body = Bytes::from(serde_json::to_vec(&body)?);
            let header = signer.header(method, path, &body);
            let answer = reqwest::Client::new()
                .request(method.parse()?, format!("http://{}{path}", server.addr))
                .header("host", "localhost")
                .header("authorization", header)
                .header("content-type", "application/json")
                .body(body)
                .send()
                .await?;
            let status = answer.status();
            let text = answer.text().await?;
            ensure!(status.is_success(), "{method} {path}: {status} {text}");
            Ok(serde_json::from_str(&text).unwrap_or(Json::Null))
        };
        let network = "/edgekv/v1/networks/staging";
        let namespace = json!({"namespace": "bench", "retentionInSeconds": 0});
        send("POST", &format!("{network}/namespaces"), namespace).await?;
        let item = format!("{network}/{EDGEKV_ITEM}");
        let value = json!({"value": "v".repeat(VALUE_BYTES)});
        send("PUT", &item, value).await?;
        let token = json!({
            "name": "bench",
            "allowOnStaging": true,
            "allowOnProduction": false,
            "restrictToEdgeWorkerIds": ["all"],
            "namespacePermissions": {"bench": ["r"]},
        });
        let token = send("POST", "/edgekv/v1/tokens", token).await?;
        let (name, secret) = match token["value"].as_str() {
            Some(value) => ("x-akamai-edgedb-auth", value),
            None => (
                "x-akamai-edgedb-auth-ref",
                token["uuid"].as_str().context("a token has a UUID")?,
            ),
        };
        let read = Call::get(format!("/staging/api/v1/{EDGEKV_ITEM}"));
        let read = read.headers([(name, secret.to_owned())]);
        let plane = Side::fixed(server.addr, read);
        self.hot_read("EdgeKV data plane GET", Some(0.5), &plane)
            .await?;

        let signed: MakeCall = Arc::new(move |_| {
            let header = signer.header("GET", &item, &[]);
            Call::get(item.clone()).headers([("authorization", header)])
        });
        self.hot_read(
            "EdgeKV with EdgeGrid GET",
            None,
            &Side::new(server.addr, signed),
        )
        .await
    }
}

/// Signs requests as EdgeGrid clients do.
struct Signer {
    secret: String,
    client_token: String,
    access_token: String,
}

impl Signer {
    /// With the credential that the server left in its folder.
    fn of(data: &Path) -> Result<Signer> {
        let file = std::fs::read_to_string(data.join("edgegrid/.edgerc"))?;
        let member = |name: &str| -> Result<String> {
            let value = edgerc::member(&file, "default", name);
            Ok(value.with_context(|| format!("no {name}"))?.to_owned())
        };
        Ok(Signer {
            secret: member("client_secret")?,
            client_token: member("client_token")?,
            access_token: member("access_token")?,
        })
    }

    fn header(&self, method: &str, path: &str, body: &[u8]) -> String {
        let timestamp = jiff::Timestamp::now().strftime("%Y%m%dT%H:%M:%S+0000");
        let timestamp = timestamp.to_string();
        let signed = format!(
            "EG1-HMAC-SHA256 client_token={};access_token={};timestamp={timestamp};nonce={};",
            self.client_token,
            self.access_token,
            uuid::Uuid::new_v4(),
        );
        let hash = content_hash(method, body);
        let data = data_to_sign(method, Scheme::Http, "localhost", path, &hash, &signed);
        let key = signing_key(&self.secret, &timestamp);
        format!("{signed}signature={}", sign(&key, &data))
    }
}

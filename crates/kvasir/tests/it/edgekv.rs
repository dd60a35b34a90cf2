//! EdgeKV through the real binary: signatures over real sockets, durability, bulk import.

use kvasir_auth::edgegrid::signature::{content_hash, data_to_sign, sign, signing_key};
use kvasir_auth::edgegrid::{Scheme, edgerc};
use kvasir_kv::Clock;
use kvasir_store::SystemClock;
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, eventually, within};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{KVASIR, run, server};

const NAMESPACES: &str = "/edgekv/v1/networks/staging/namespaces";

/// A client of a server's administration API, with the credential that the server leaves.
struct EdgeGrid {
    base: String,
    host: String,
    edgerc: String,
}

impl EdgeGrid {
    fn of(server: &TestServer) -> EdgeGrid {
        let file = server.data().join("edgegrid/.edgerc");
        EdgeGrid {
            base: server.url(""),
            host: server.addr().to_string(),
            edgerc: std::fs::read_to_string(file).unwrap(),
        }
    }

    /// As [`EdgeGrid::of`], of a server whose database is ready for items.
    async fn with_namespace(server: &TestServer) -> EdgeGrid {
        let client = EdgeGrid::of(server);
        assert_eq!(
            client
                .send(Method::PUT, "/edgekv/v1/initialize", "")
                .await
                .0,
            201
        );
        let body = r#"{"namespace": "marketing", "retentionInSeconds": 0}"#;
        assert_eq!(client.send(Method::POST, NAMESPACES, body).await.0, 200);
        client
    }

    fn member(&self, name: &str) -> &str {
        edgerc::member(&self.edgerc, "default", name).unwrap()
    }

    async fn send(&self, method: Method, path: &str, body: &str) -> (u16, String) {
        let now = jiff::Timestamp::from_millisecond(SystemClock.now().0).unwrap();
        let timestamp = now.strftime("%Y%m%dT%H:%M:%S+0000").to_string();
        let signed = format!(
            "EG1-HMAC-SHA256 client_token={};access_token={};timestamp={timestamp};nonce={};",
            self.member("client_token"),
            self.member("access_token"),
            uuid::Uuid::new_v4(),
        );
        let hash = content_hash(method.as_str(), body.as_bytes());
        let data = data_to_sign(
            method.as_str(),
            Scheme::Http,
            &self.host,
            path,
            &hash,
            &signed,
        );
        let key = signing_key(self.member("client_secret"), &timestamp);
        let answer = http_client()
            .request(method, format!("{}{path}", self.base))
            .header(
                "authorization",
                format!("{signed}signature={}", sign(&key, &data)),
            )
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

#[tokio::test]
async fn items_namespaces_and_tokens_that_were_acknowledged_survive_kill_9() {
    let mut server = server().await;
    let client = EdgeGrid::with_namespace(&server).await;
    let token = json!({
        "name": "bundle", "allowOnStaging": true, "allowOnProduction": false, "expiry": "2999-12-31",
        "namespacePermissions": {"marketing": ["r", "w", "d"]},
    });
    let (status, token) = client
        .send(Method::POST, "/edgekv/v1/tokens", &token.to_string())
        .await;
    assert_eq!(status, 200, "{token}");
    let token: Value = serde_json::from_str(&token).unwrap();
    let item = format!("{NAMESPACES}/marketing/groups/countries/items/DE");
    let (status, _) = client
        .send(Method::PUT, &item, r#"{"name": "Germany"}"#)
        .await;
    server.kill().await;
    assert_eq!(status, 200);

    server.restart().await;
    let client = EdgeGrid::of(&server);
    let found = client.send(Method::GET, &item, "").await;
    assert_eq!(found, (200, r#"{"name": "Germany"}"#.to_owned()));
    // The same on the data plane, with the token from before.
    let path = "/api/v1/namespaces/marketing/groups/countries/items/DE";
    let answer = http_client()
        .get(server.url(path))
        .header("x-akamai-edgedb-auth", token["value"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"name": "Germany"}"#);
    // A delete is as durable.
    let (status, _) = client.send(Method::DELETE, &item, "").await;
    server.kill().await;
    assert_eq!(status, 200);
    server.restart().await;
    assert_eq!(
        EdgeGrid::of(&server).send(Method::GET, &item, "").await.0,
        404
    );
}

/// Groups of the file that is imported, each with as many items as one listing shows.
const GROUPS: usize = 60;
const ITEMS: usize = 100;

async fn import(server: &TestServer, file: &str, more: &[&str]) -> (i32, String, String) {
    let data = server.data().to_string_lossy().into_owned();
    let base = ["edgekv", "import", file, "--network", "staging"];
    let args = [
        &base[..],
        &["--namespace", "marketing", "--data", &data, "--json"],
        more,
    ]
    .concat();
    run(&args, &[]).await
}

#[tokio::test]
async fn an_import_goes_on_where_kill_9_ended_it() {
    let server = server().await;
    let client = EdgeGrid::with_namespace(&server).await;
    let file = server.scratch().join("items.csv");
    let mut rows = "group,item,value\n".to_owned();
    for n in 0..GROUPS * ITEMS {
        rows += &format!("g{},i{},value {n}\n", n / ITEMS, n % ITEMS);
    }
    std::fs::write(&file, &rows).unwrap();
    let note = server.scratch().join("items.csv.kvasir-import");

    let mut first = tokio::process::Command::new(KVASIR)
        .args(["edgekv", "import"])
        .arg(&file)
        .args([
            "--network",
            "staging",
            "--namespace",
            "marketing",
            "--progress=json",
            "--data",
        ])
        .arg(server.data())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually(DEADLINE, "some of it is noted", || {
        let is_noted = note.exists();
        async move { is_noted.then_some(()) }
    })
    .await;
    first.start_kill().unwrap();
    let status = within(DEADLINE, "it is gone", first.wait()).await.unwrap();
    assert!(!status.success(), "it was done before it could be killed");

    let (code, out, err) = import(&server, &file.to_string_lossy(), &["--progress=json"]).await;
    assert_eq!(code, 0, "{err}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    let resumed_at = answer["resumed_at"].as_u64().unwrap();
    assert!(resumed_at >= 500, "{answer}");
    assert_eq!(answer["items"], GROUPS * ITEMS);
    assert_eq!(answer["written"], (GROUPS * ITEMS) as u64 - resumed_at);
    assert!(!note.exists());
    // Progress begins where the other ended, is JSON line by line, and ends with all of it.
    let lines: Vec<Value> = err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line = |done: u64| json!({"done": done, "total": GROUPS * ITEMS, "unit": "items"});
    assert_eq!(lines.first(), Some(&line(resumed_at)));
    assert_eq!(lines.last(), Some(&line((GROUPS * ITEMS) as u64)));

    for group in 0..GROUPS {
        let path = format!("{NAMESPACES}/marketing/groups/g{group}");
        let (_, keys) = client.send(Method::GET, &path, "").await;
        let keys: Vec<String> = serde_json::from_str(&keys).unwrap();
        assert_eq!(keys.len(), ITEMS, "group {group}");
    }
    let last = format!("{NAMESPACES}/marketing/groups/g{}/items/i99", GROUPS - 1);
    let found = client.send(Method::GET, &last, "").await;
    assert_eq!(found, (200, format!("value {}", GROUPS * ITEMS - 1)));
}

#[tokio::test]
async fn an_import_of_another_file_or_namespace_does_not_go_on() {
    let server = server().await;
    EdgeGrid::with_namespace(&server).await;
    let file = server.scratch().join("items.json");
    let path = file.to_string_lossy().into_owned();
    std::fs::write(&file, r#"{"g": {"a": "1", "bad name": "2", "c": "3"}}"#).unwrap();
    let (code, _, err) = import(&server, &path, &[]).await;
    assert_ne!(code, 0);
    assert!(err.contains("1 of 3 items were written"), "{err}");

    // As many rows, other content.
    std::fs::write(&file, r#"{"g": {"a": "1", "b": {"n": 2}, "c": 3}}"#).unwrap();
    let (code, out, err) = import(&server, &path, &[]).await;
    assert_eq!(code, 0, "{err}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer, json!({"items": 3, "resumed_at": 0, "written": 3}));
    // In a pipe nothing is said of progress unless asked for.
    assert_eq!(err, "");
}

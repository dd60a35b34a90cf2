//! What the server tells about itself: metrics, slow log, traces, logs, probes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, eventually};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{options, run, server};

/// Series that one server may have with 100 tenants; OBS-2 of the operator's contract.
const SERIES_MAX: usize = 2000;

async fn metrics(server: &TestServer) -> String {
    let answer = http_client().get(server.url("/metrics")).send().await;
    answer.unwrap().text().await.unwrap()
}

/// Names of all metrics in a text form, with the endings of histograms and counters.
fn names(text: &str) -> BTreeSet<String> {
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(str::to_owned)
        .collect()
}

/// Words in `text` that begin with `kvasir_`.
fn mentioned(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("kvasir_"));
    ours.map(str::to_owned).collect()
}

async fn put(server: &TestServer, path: &str, body: Json) -> u16 {
    let request = http_client().put(server.url(path)).json(&body);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn every_metric_of_the_dashboard_and_of_the_alert_rules_exists() {
    let server = server().await;
    put(&server, "/kv/a", json!({"value": 1})).await;
    http_client().get(server.url("/kv/a")).send().await.unwrap();
    let there = names(&metrics(&server).await);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/monitoring");
    for file in ["grafana-dashboard.json", "alerts.yml"] {
        let text = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
        let named = mentioned(&text);
        assert!(named.len() >= 12, "{file} names {named:?}");
        for name in named {
            // A histogram has no series of its own name.
            let count = format!("{name}_count");
            let is_there = there.contains(&name) || there.contains(&count);
            assert!(is_there, "{file} names {name}, which is no metric");
        }
    }
}

#[tokio::test]
async fn requests_are_counted_by_dialect_route_and_status_class() {
    let server = server().await;
    put(&server, "/kv/a", json!({"value": 1})).await;
    let client = http_client();
    for path in ["/kv/a", "/kv/b", "/kv/secret-key/x", "/nowhere/at/all"] {
        client.get(server.url(path)).send().await.unwrap();
    }
    let text = metrics(&server).await;
    for line in [
        r#"kvasir_http_requests_total{dialect="rest",route="/kv/{*keypath}",status="2xx"} 2"#,
        r#"kvasir_http_requests_total{dialect="rest",route="/kv/{*keypath}",status="4xx"} "#,
        "kvasir_process_resident_memory_bytes ",
        "kvasir_process_open_fds ",
        "kvasir_process_cpu_seconds_total ",
        "kvasir_store_queue_wait_seconds_count ",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    assert!(!text.contains("secret-key"), "no key is a label");
}

#[tokio::test]
async fn a_hundred_tenants_make_no_series_of_their_own() {
    let server = server().await;
    let client = http_client();
    for tenant in 0..100 {
        let name = format!("tenant{tenant}");
        let made = client
            .post(server.url("/_/api/v1/databases"))
            .json(&json!({"name": name}))
            .send()
            .await
            .unwrap();
        assert!(made.status().is_success(), "{}", made.text().await.unwrap());
        let paths = [
            format!("/kv/{name}/a"),
            format!("/classworks/{name}/a"),
            format!("/_/api/v1/databases/{name}/entries"),
            format!("/users/{name}"),
            format!("/api/kvs/v1/kv/user/{name}/a"),
            format!("/edgekv/v1/networks/staging/namespaces/{name}"),
            format!("/unknown/{name}"),
        ];
        for path in paths {
            client.get(server.url(&path)).send().await.unwrap();
            client.delete(server.url(&path)).send().await.unwrap();
        }
    }
    let text = metrics(&server).await;
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series <= SERIES_MAX, "{series} series");
    assert!(!text.contains("tenant7"), "no tenant is a label");
}

#[tokio::test]
async fn refusals_are_counted_by_their_reason() {
    let server = options().set("limits.value_bytes", "1000").start().await;
    let status = put(&server, "/kv/a", json!({"value": "x".repeat(2000)})).await;
    assert_eq!(status, 413);
    let request = http_client().get(server.url("/kv/a"));
    let foreign = request.header("host", "example.com").send().await;
    assert_eq!(foreign.unwrap().status(), 403);
    let (code, token, _) = run(
        &[
            "token",
            "create",
            "--data",
            &server.data().to_string_lossy(),
        ],
        &[],
    )
    .await;
    assert_eq!((code, token.is_empty()), (0, false));
    let get = || http_client().get(server.url("/kv/a"));
    assert_eq!(get().send().await.unwrap().status(), 401);
    let wrong = get().bearer_auth("wrong").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    let text = metrics(&server).await;
    for line in [
        r#"kvasir_http_rejected_total{reason="too_large"} 1"#,
        r#"kvasir_auth_failures_total{reason="foreign_host"} 1"#,
        r#"kvasir_auth_failures_total{reason="missing"} 1"#,
        r#"kvasir_auth_failures_total{reason="invalid"} 1"#,
        r#"kvasir_http_rejected_total{reason="rate"} 0"#,
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}

#[tokio::test]
async fn watchers_and_their_lag_are_measured() {
    let server = server().await;
    put(&server, "/kv/a", json!({"value": 1})).await;
    let watch = http_client().get(server.url("/kv/a?watch=true"));
    let mut watch = watch.send().await.unwrap();
    watch.chunk().await.unwrap();
    put(&server, "/kv/a", json!({"value": 2})).await;
    watch.chunk().await.unwrap();
    let text = metrics(&server).await;
    assert!(
        !text.contains("kvasir_store_watch_lag_seconds_count 0"),
        "{text}"
    );
    let is_watched = ["kvasir_store_watchers 1", "kvasir_store_followers 1"];
    assert!(is_watched.iter().any(|line| text.contains(line)), "{text}");
}

#[tokio::test]
async fn a_slow_request_is_kept_with_what_it_spent_its_time_on() {
    let server = options()
        .set("slowlog.write", "1us")
        .set("slowlog.read", "1us")
        .set("slowlog.admin", "0s")
        .start()
        .await;
    put(&server, "/kv/private-name", json!({"value": 1})).await;
    let read = http_client().get(server.url("/kv/private-name"));
    let read = read.send().await.unwrap();
    let id = read.headers()["x-request-id"].to_str().unwrap().to_owned();
    read.bytes().await.unwrap();
    let url = server.url("");
    let (code, out, err) = run(&["slowlog", "--json"], &[("KVASIR_SERVER", &url)]).await;
    assert_eq!(code, 0, "{err}");
    assert!(!out.contains("private-name"), "keys are hashed: {out}");
    let rows: Vec<Json> = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.len(), 2, "{out}");
    let (read, write) = (&rows[0], &rows[1]);
    assert_eq!(
        (&read["class"], &read["request"]),
        (&json!("read"), &json!(id))
    );
    assert_eq!(write["class"], "write");
    assert_eq!(write["route"], "/kv/{*keypath}");
    assert_eq!(write["status"], 200);
    let ms = |name: &str| write[name].as_f64().unwrap();
    assert!(ms("syncMs") > 0.0, "{write}");
    let parts = ["queueMs", "lockMs", "engineMs", "syncMs", "sendMs"];
    let sum: f64 = parts.into_iter().map(ms).sum();
    assert!(sum <= ms("totalMs") + 0.01, "{write}");
    // The same path has the same hash.
    assert_eq!(read["target"], write["target"]);
    let (_, text, _) = run(&["slowlog", "--limit", "1"], &[("KVASIR_SERVER", &url)]).await;
    assert_eq!(text.lines().count(), 1);
}

#[tokio::test]
async fn keys_are_in_the_log_only_if_that_is_switched_on() {
    for (keys, is_shown) in [("false", false), ("true", true)] {
        let server = options()
            .set("log.level", "debug")
            .set("log.keys", keys)
            .start()
            .await;
        put(
            &server,
            "/kv/private-name",
            json!({"value": "private-value"}),
        )
        .await;
        let log = eventually(DEADLINE, "the request is logged", || async {
            let log = server.stderr();
            log.contains("\"answered\"").then_some(log)
        })
        .await;
        assert_eq!(log.contains("private-name"), is_shown, "{log}");
        assert!(!log.contains("private-value"));
        // Standard error is no terminal here, so every line is JSON.
        for line in log.lines() {
            serde_json::from_str::<Json>(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        }
    }
}

#[tokio::test]
async fn the_request_id_is_in_the_answer_the_error_body_and_the_log() {
    let server = options().set("log.level", "debug").start().await;
    let answer = http_client().get(server.url("/kv/a")).send().await.unwrap();
    let id = answer.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(answer.text().await.unwrap().contains(&id));
    eventually(DEADLINE, "the request is logged", || async {
        server.stderr().contains(&id).then_some(())
    })
    .await;
}

#[tokio::test]
async fn probes_answer_while_no_other_request_is_let_in() {
    let server = options()
        .set("limits.requests_in_progress", "0")
        .start()
        .await;
    let client = http_client();
    let refused = client.get(server.url("/kv/a")).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    for path in ["/healthz", "/readyz", "/startedz", "/metrics"] {
        eventually(DEADLINE, "the probe is good", || async {
            let answer = client.get(server.url(path)).send().await.unwrap();
            (answer.status() == 200).then_some(())
        })
        .await;
        let post = client.post(server.url(path)).send().await.unwrap();
        assert_eq!(post.status(), 405);
    }
}

/// A collector of spans: answers every request with an empty success and keeps what it was sent.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Collector {
    pub(crate) async fn start() -> (Collector, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let collector = Collector::default();
        let kept = collector.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let mut held = Vec::new();
                    while let Ok(read) = socket.read_buf(&mut held).await {
                        if read == 0 {
                            return;
                        }
                        while let Some((request, rest)) = whole(&held) {
                            kept.0.lock().unwrap().push(request);
                            held = rest;
                            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                            socket.write_all(answer).await.unwrap();
                        }
                    }
                });
            }
        });
        (collector, url)
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let kept = self.0.lock().unwrap();
        let resources = kept.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

/// A whole request with a length at the begin of `held`, and what is behind it.
fn whole(held: &[u8]) -> Option<(ExportTraceServiceRequest, Vec<u8>)> {
    let head_end = held.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&held[..head_end]).to_lowercase();
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let end = head_end + length?.trim().parse::<usize>().unwrap();
    let body = held.get(head_end..end)?;
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    Some((request, held[end..].to_vec()))
}

#[tokio::test]
async fn a_callers_trace_is_joined_with_spans_for_every_part_of_a_write() {
    let (collector, url) = Collector::start().await;
    let server = options()
        .set("tracing.enabled", "true")
        .set("tracing.endpoint", &url)
        .set("tracing.sample", "0")
        .start()
        .await;
    let request = http_client()
        .put(server.url("/kv/private-name"))
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .json(&json!({"value": 1}));
    assert_eq!(request.send().await.unwrap().status(), 200);
    // Nobody sampled this one.
    put(&server, "/kv/other", json!({"value": 1})).await;
    let spans = eventually(DEADLINE, "spans arrive", || async {
        let spans = collector.spans();
        spans
            .iter()
            .any(|span| span.name == "send")
            .then_some(spans)
    })
    .await;
    let trace = data_encoding::HEXLOWER
        .decode(b"0af7651916cd43dd8448eb211c80319c")
        .unwrap();
    assert!(
        spans.iter().all(|span| span.trace_id == trace),
        "one trace only"
    );
    let root = spans.iter().find(|span| span.name == "PUT /kv/{*keypath}");
    let root = root.unwrap_or_else(|| panic!("no root among {spans:?}"));
    let parent = data_encoding::HEXLOWER.encode(&root.parent_span_id);
    assert_eq!(parent, "b7ad6b7169203331");
    let by_name: BTreeMap<&str, &Span> = spans
        .iter()
        .map(|span| (span.name.as_str(), span))
        .collect();
    for part in ["authorise", "queue", "engine", "sync", "send"] {
        let span = by_name
            .get(part)
            .unwrap_or_else(|| panic!("no span {part}"));
        assert_eq!(span.parent_span_id, root.span_id, "{part}");
        assert!(
            span.start_time_unix_nano + 1_000_000 >= root.start_time_unix_nano,
            "{part}"
        );
        assert!(
            span.end_time_unix_nano <= root.end_time_unix_nano + 1_000_000,
            "{part}"
        );
    }
    assert!(!format!("{spans:?}").contains("private-name"));
}

#[tokio::test]
async fn spans_that_wait_are_sent_when_the_server_stops() {
    let (collector, url) = Collector::start().await;
    let mut server = options()
        .set("tracing.enabled", "true")
        .set("tracing.endpoint", &url)
        .start()
        .await;
    put(&server, "/kv/a", json!({"value": 1})).await;
    assert!(server.terminate().await.success());
    eventually(Duration::from_secs(1), "the spans arrived", || async {
        let spans = collector.spans();
        spans.iter().any(|span| span.name == "sync").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_a_count() {
    let server = options()
        .set("tracing.enabled", "true")
        .set("tracing.endpoint", "http://127.0.0.1:1/v1/traces")
        .start()
        .await;
    assert_eq!(put(&server, "/kv/a", json!({"value": 1})).await, 200);
    eventually(DEADLINE, "the spans are given up", || async {
        let text = metrics(&server).await;
        let dropped = text
            .lines()
            .find_map(|line| line.strip_prefix("kvasir_traces_spans_dropped_total "))?;
        (dropped.parse::<u64>().unwrap() > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn metrics_can_be_switched_off_and_administrators_still_see_the_figures() {
    let server = options().set("metrics.enabled", "false").start().await;
    let answer = http_client()
        .get(server.url("/metrics"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 404);
    let url = server.url("/_/api/v1/figures");
    let text = http_client()
        .get(url)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(names(&text).contains("kvasir_store_commits_total"));
}

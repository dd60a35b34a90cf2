//! Several real servers over one database: what one writes the others serve, and what dies harms
//! nobody.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kvasir_testkit::databases::Shared;
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, within};

use crate::options;
use crate::speak::{Speaker, with_issuer};

const NODES: usize = 3;

/// Longest time from an acknowledged write through one node to a watch through another.
const TOLD_MAX: Duration = Duration::from_millis(100);

/// Writes whose way to a watch is measured at once. Half of them have to be in time: this machine
/// may be busy with other tests.
const MEASURED: usize = 20;

/// How often it is measured before it counts as too slow.
const MEASUREMENTS: usize = 5;

/// Writes a number and returns when it was acknowledged.
async fn put(server: &TestServer, key: &str, number: u64) -> Instant {
    let request = http_client()
        .put(server.url(&format!("/kv/{key}")))
        .header("content-type", "application/json")
        .body(format!("{{\"value\":{number}}}"));
    let response = request.send().await.unwrap();
    let status = response.status();
    assert_eq!(status, 200, "{}", response.text().await.unwrap());
    Instant::now()
}

async fn get(server: &TestServer, key: &str) -> Option<u64> {
    let url = server.url(&format!("/kv/{key}"));
    let response = http_client().get(url).send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    match status {
        200 => Some(text.parse().unwrap()),
        404 => None,
        _ => panic!("{status}: {text}"),
    }
}

/// Reads the events of a watch.
struct Watch {
    chunks: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
}

impl Watch {
    /// Watches a key that is not there yet.
    async fn of(server: &TestServer, key: &str) -> Watch {
        let url = server.url(&format!("/kv/{key}?watch=true"));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut watch = Watch {
            chunks: response.bytes_stream().boxed(),
            text: String::new(),
        };
        watch.until("\"value\":null").await;
        watch
    }

    async fn until(&mut self, part: &str) -> Instant {
        let more = async {
            while !self.text.contains(part) {
                let chunk = self
                    .chunks
                    .next()
                    .await
                    .expect("the watch goes on")
                    .unwrap();
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        within(DEADLINE, part, more).await;
        self.text.clear();
        Instant::now()
    }
}

/// Whether a change through `writer` reaches a watch through `reader` in time, mostly.
async fn is_told_in_time(writer: &TestServer, reader: &TestServer, key: &str) -> bool {
    let mut watch = Watch::of(reader, key).await;
    let mut in_time = 0;
    for number in 1..=MEASURED as u64 {
        // Both clocks are this process's. The event may even come before the answer.
        let (acknowledged, part) = (put(writer, key, number), format!("\"value\":{number},"));
        let (acknowledged, told) = tokio::join!(acknowledged, watch.until(&part));
        if told.saturating_duration_since(acknowledged) <= TOLD_MAX {
            in_time += 1;
        }
    }
    in_time * 2 >= MEASURED
}

async fn check(urls: [String; NODES]) {
    let mut speaker = Speaker::new().await;
    let mut nodes = Vec::new();
    for url in &urls {
        let options = with_issuer(options(), speaker.issuer());
        nodes.push(options.arg("--store").arg(url).start().await);
    }

    // What every dialect writes through one, all serve.
    speaker.write_and_read(&nodes[0]).await;
    for node in &nodes {
        speaker.read_again(node).await;
    }
    // At once, whoever writes and whoever reads.
    for round in 0..30_usize {
        let key = format!("round.{}", round % 4);
        put(&nodes[round % NODES], &key, round as u64).await;
        for node in &nodes {
            assert_eq!(get(node, &key).await, Some(round as u64));
        }
    }
    let mut in_time = false;
    for measurement in 0..MEASUREMENTS {
        let key = format!("watched{measurement}");
        in_time = is_told_in_time(&nodes[0], &nodes[1], &key).await;
        if in_time {
            break;
        }
    }
    assert!(in_time, "a watch is not told within {TOLD_MAX:?}");

    // A node that dies leaves the others what it acknowledged.
    put(&nodes[2], "last", 42).await;
    nodes[2].kill().await;
    assert_eq!(get(&nodes[0], "last").await, Some(42));
    put(&nodes[0], "last", 43).await;
    nodes[2].restart().await;
    assert_eq!(get(&nodes[2], "last").await, Some(43));
    for node in &mut nodes {
        assert_eq!(node.terminate().await.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_over_one_mariadb_serve_the_same_data_and_survive_a_kill() {
    if let Some(server) = Shared::mariadb() {
        let url = server.fresh_url();
        check([url.clone(), url.clone(), url]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_over_one_postgres_serve_the_same_data_and_survive_a_kill() {
    if let Some(server) = Shared::postgres() {
        let url = server.fresh_url();
        check([url.clone(), url.clone(), url]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_over_one_galera_cluster_serve_the_same_data_each_reading_from_another_member() {
    if let Some(cluster) = Shared::galera() {
        let url = cluster.fresh_url();
        let (_, rest) = url.split_once('@').unwrap();
        let hosts: Vec<&str> = rest.split_once('/').unwrap().0.split(',').collect();
        check(std::array::from_fn(|node| {
            let mut reads = hosts.clone();
            reads.rotate_left(node);
            format!("{url}?reads={}", reads.join(","))
        }))
        .await;
    }
}

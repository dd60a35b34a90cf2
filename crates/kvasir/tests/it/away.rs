//! A database that goes away under a running server, and what its clients are told meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use kvasir_testkit::databases::{Galera, MariaDb, Postgres};
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, eventually};
use rustix::process::{Pid, Signal, kill_process};

use crate::options;

/// How soon `/readyz` has to tell a loss.
const TOLD_MAX: Duration = Duration::from_secs(2);

/// How often the database is lost before "too late" counts: this machine may be busy.
const LOSSES: usize = 3;

/// Beyond the 30 s that a write waits for its database.
const DECIDED_MAX: Duration = Duration::from_secs(60);

async fn start(url: &str) -> TestServer {
    options().arg("--store").arg(url).start().await
}

async fn readiness(server: &TestServer) -> (u16, String) {
    let response = http_client()
        .get(server.url("/readyz"))
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn until_ready(server: &TestServer) {
    eventually(DEADLINE, "the server is ready", || async {
        (readiness(server).await.0 == 200).then_some(())
    })
    .await;
}

async fn until_not_ready(server: &TestServer) -> String {
    eventually(DEADLINE, "the server is not ready", || async {
        let (status, text) = readiness(server).await;
        (status == 503).then_some(text)
    })
    .await
}

fn put(server: &TestServer, key: &str, body: String) -> reqwest::RequestBuilder {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(DECIDED_MAX)
        .build()
        .unwrap();
    client
        .put(server.url(&format!("/kv/{key}")))
        .header("content-type", "application/json")
        .body(body)
}

async fn put_status(server: &TestServer, key: &str) -> u16 {
    let request = put(server, key, r#"{"value":1}"#.into());
    request.send().await.unwrap().status().as_u16()
}

async fn metric(server: &TestServer, name: &str) -> f64 {
    let response = http_client().get(server.url("/metrics")).send().await;
    let text = response.unwrap().text().await.unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
        .parse()
        .unwrap()
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Loses the database by `lose` and gets it back by `find`: told in time at least once, and well
/// again without help each time.
async fn check_readiness<D>(
    server: &TestServer,
    database: &mut D,
    lose: impl Fn(&mut D),
    find: impl Fn(&mut D),
) {
    let mut in_time = false;
    for _ in 0..LOSSES {
        until_ready(server).await;
        lose(database);
        let lost = Instant::now();
        let reason = until_not_ready(server).await;
        assert!(reason.contains("cannot be reached"), "{reason}");
        in_time |= lost.elapsed() < TOLD_MAX;
        // The process itself is well.
        let health = http_client().get(server.url("/healthz")).send().await;
        assert_eq!(health.unwrap().status(), 200);
        find(database);
        until_ready(server).await;
        assert_eq!(put_status(server, "back").await, 200);
        if in_time {
            return;
        }
    }
    panic!("a loss is not told within {TOLD_MAX:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_within_two_seconds_that_mariadb_is_killed_or_stuck_and_comes_back() {
    let Some(mut database) = MariaDb::start().unwrap() else {
        return;
    };
    let server = start(&database.fresh_url().unwrap()).await;
    let restart = |database: &mut MariaDb| database.restart().unwrap();
    check_readiness(&server, &mut database, MariaDb::kill, restart).await;
    // A server that is there but does not answer.
    let stop = |database: &mut MariaDb| signal(database.id().unwrap(), Signal::STOP);
    let resume = |database: &mut MariaDb| signal(database.id().unwrap(), Signal::CONT);
    check_readiness(&server, &mut database, stop, resume).await;
    assert!(metric(&server, "kvasir_store_database_connects_total").await >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_within_two_seconds_that_postgres_is_killed_and_comes_back() {
    let Some(mut database) = Postgres::start().unwrap() else {
        return;
    };
    let server = start(&database.fresh_url().unwrap()).await;
    let restart = |database: &mut Postgres| database.restart().unwrap();
    check_readiness(&server, &mut database, Postgres::kill, restart).await;
}

/// Most resident memory that a process ever had, in bytes.
fn memory_peak(server: &TestServer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_killed_writes_wait_up_to_a_bound_and_the_rest_gets_503() {
    let Some(mut database) = MariaDb::start().unwrap() else {
        return;
    };
    // Many connections at once on a busy machine are what this is not about.
    let server = options()
        .arg("--store")
        .arg(database.fresh_url().unwrap())
        .set("limits.connections_per_address", "2000")
        .set("limits.first_byte", "1m")
        .set("limits.body_gap", "1m")
        .start()
        .await;
    until_ready(&server).await;
    assert_eq!(put_status(&server, "before").await, 200);
    database.kill();
    until_not_ready(&server).await;

    // 128 MiB may wait; these are more.
    const WRITES: usize = 200;
    let body = format!("{{\"value\":\"{}\"}}", "x".repeat(1_000_000));
    let wave = async || {
        let began = Instant::now();
        let requests = (0..WRITES).map(|number| {
            let request = put(&server, &format!("big{number}"), body.clone());
            async move {
                let response = request.send().await.unwrap();
                let after = response.headers().get("retry-after").is_some();
                let answer = (response.status().as_u16(), after, began.elapsed());
                assert!(response.text().await.unwrap().contains("unavailable"));
                answer
            }
        });
        join_all(requests).await
    };
    let answers = wave().await;
    assert!(
        answers
            .iter()
            .all(|(status, after, _)| *status == 503 && *after),
        "{answers:?}"
    );
    let refused = metric(&server, "kvasir_store_busy_total").await;
    assert!(refused >= (WRITES - 140) as f64, "{refused}");
    assert_eq!(metric(&server, "kvasir_store_queue_writes").await, 0.0);
    // What a wave leaves behind would add up. Between waves the allocator keeps as much as it likes.
    wave().await;
    let peak = memory_peak(&server);
    assert!(peak < 1024 * 1024 * 1024, "{peak}");
    assert_eq!(metric(&server, "kvasir_store_queue_writes").await, 0.0);

    // Reads say so as well, and all is well again when the database is.
    let read = http_client()
        .get(server.url("/kv/before"))
        .send()
        .await
        .unwrap();
    assert_eq!(read.status(), 503);
    assert!(read.headers().contains_key("retry-after"));
    database.restart().unwrap();
    until_ready(&server).await;
    let read = http_client().get(server.url("/kv/before")).send().await;
    assert_eq!(read.unwrap().text().await.unwrap(), "1");
    let lost = http_client().get(server.url("/kv/big0")).send().await;
    assert_eq!(lost.unwrap().status(), 404, "a refused write is not there");
}

/// Most faults of one test. Each has a fair chance to fall into a commit.
const FAULTS: usize = 8;

/// Clients write through two servers while `fault` is done to the database again and again, until
/// fences were needed. Everything acknowledged has to be there, once.
async fn check_fault(url: &str, mut fault: impl AsyncFnMut()) {
    let servers = Arc::new([start(url).await, start(url).await]);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = (0..8).map(|client| {
        let (servers, stop) = (Arc::clone(&servers), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut acknowledged = BTreeSet::new();
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let key = format!("log.{client}-{number}");
                let request = put(&servers[client % 2], &key, r#"{"value":1}"#.into());
                if request.send().await.unwrap().status() == 200 {
                    acknowledged.insert(key);
                }
            }
            acknowledged
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut fences = 0.0;
    for _ in 0..FAULTS {
        let before = metric(&servers[0], "kvasir_store_commits_total").await;
        eventually(DEADLINE, "clients write", || async {
            let now = metric(&servers[0], "kvasir_store_commits_total").await;
            (now > before + 50.0).then_some(())
        })
        .await;
        fault().await;
        fences = metric(&servers[0], "kvasir_store_database_fences_total").await
            + metric(&servers[1], "kvasir_store_database_fences_total").await;
        if fences > 0.0 {
            break;
        }
    }
    until_ready(&servers[0]).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeSet::new();
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }
    if fences == 0.0 {
        // Whether a fault falls into a commit is up to chance, and commits are short on a fast machine.
        kvasir_testkit::skip(&format!("none of {FAULTS} faults fell into a commit"));
    }
    assert!(acknowledged.len() > 50);

    let list = servers[1].url("/kv/log?list=true&values=false");
    let request = http_client()
        .get(list)
        .header("accept", "application/x-ndjson");
    let text = request.send().await.unwrap().text().await.unwrap();
    for key in &acknowledged {
        assert!(
            text.contains(&format!("\"path\":\"{key}\"")),
            "{key} is lost"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_over_http_is_lost_when_mariadb_is_killed_in_the_middle_of_commits() {
    let Some(mut database) = MariaDb::start().unwrap() else {
        return;
    };
    let url = database.fresh_url().unwrap();
    check_fault(&url, async || {
        database.kill();
        database.restart().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_over_http_is_lost_when_postgres_is_killed_in_the_middle_of_commits() {
    let Some(mut database) = Postgres::start().unwrap() else {
        return;
    };
    let url = database.fresh_url().unwrap();
    check_fault(&url, async || {
        database.kill();
        database.restart().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_go_over_to_the_next_galera_member_when_the_first_is_killed() {
    let Some(mut cluster) = Galera::start().unwrap() else {
        return;
    };
    let server = start(&cluster.fresh_url().unwrap()).await;
    until_ready(&server).await;
    for number in 0..20 {
        assert_eq!(put_status(&server, &format!("a{number}")).await, 200);
    }
    cluster.kill(0);
    // The write that falls into the change waits for it.
    assert_eq!(put_status(&server, "during").await, 200);
    until_ready(&server).await;
    for number in 0..20 {
        let url = server.url(&format!("/kv/a{number}"));
        let response = http_client().get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert!(metric(&server, "kvasir_store_database_connects_total").await >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_made_read_only_is_told_and_reads_go_on() {
    let Some(database) = MariaDb::start().unwrap() else {
        return;
    };
    let server = start(&database.fresh_url().unwrap()).await;
    until_ready(&server).await;
    assert_eq!(put_status(&server, "a").await, 200);
    database.admin("SET GLOBAL read_only = 1").unwrap();
    let reason = until_not_ready(&server).await;
    assert!(reason.contains("takes no writes"), "{reason}");
    let read = http_client().get(server.url("/kv/a")).send().await;
    assert_eq!(read.unwrap().text().await.unwrap(), "1");
    database.admin("SET GLOBAL read_only = 0").unwrap();
    until_ready(&server).await;
    assert_eq!(put_status(&server, "a").await, 200);
}

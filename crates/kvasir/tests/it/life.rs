//! Starting, stopping, being killed, and what survives.

use std::time::Duration;

use kvasir_testkit::raw::RawConnection;
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, eventually};

use crate::{options, server};

const ENTRY: &str = r#"{"value": {"token": "abc123"}, "ttl": 3600000}"#;

async fn put(url: String, body: &'static str) -> u16 {
    let request = http_client()
        .put(url)
        .header("Content-Type", "application/json")
        .body(body);
    request.send().await.unwrap().status().as_u16()
}

async fn get(url: String) -> (u16, String) {
    let response = http_client().get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The seed's own line.
#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_at_once_afterwards() {
    let mut server = server().await;
    let status = put(server.url("/kv/users.john.session"), ENTRY).await;
    server.kill().await;
    assert_eq!(status, 200);

    server.restart().await;
    let found = get(server.url("/kv/users.john.session")).await;
    assert_eq!(found, (200, r#"{"token": "abc123"}"#.to_owned()));
}

#[tokio::test]
async fn an_entry_is_gone_when_its_time_ends_and_not_before() {
    let server = server().await;
    let began = std::time::Instant::now();
    assert_eq!(
        put(server.url("/kv/a"), r#"{"value":1,"ttl":700}"#).await,
        200
    );
    eventually(DEADLINE, "the entry is gone", || async {
        let (status, _) = get(server.url("/kv/a")).await;
        assert!(status == 200 || status == 404, "{status}");
        (status == 404).then_some(())
    })
    .await;
    assert!(began.elapsed() >= Duration::from_millis(700));
}

#[tokio::test]
async fn the_first_line_names_every_listener_with_its_real_port() {
    let server = options()
        .listen("127.0.0.1:0")
        .listen("127.0.0.1:0")
        .tls()
        .start()
        .await;
    let first = server.stdout().lines().next().unwrap().to_owned();
    let [one, two] = server.addrs() else {
        panic!("{first}");
    };
    let https = server.tls_addr();
    assert_eq!(
        first,
        format!("kvasir ready http={one},{two} https={https}")
    );
    for addr in [one, two] {
        let (status, _) = get(format!("http://{addr}/healthz")).await;
        assert_eq!(status, 200);
    }
}

#[tokio::test]
async fn without_tls_listeners_the_first_line_has_no_https() {
    let server = server().await;
    let first = server.stdout().lines().next().unwrap().to_owned();
    assert_eq!(first, format!("kvasir ready http={}", server.addr()));
}

#[tokio::test]
async fn a_signal_lets_requests_finish_and_ends_with_code_0() {
    let mut server = server().await;
    let mut idle = RawConnection::open(server.addr()).await;
    let mut busy = RawConnection::open(server.addr()).await;
    let head = "PUT /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n";
    busy.send(head).await;
    // The head is with its handler once the server counts it.
    let url = server.url("/metrics");
    eventually(DEADLINE, "the request is in progress", || {
        let url = url.clone();
        async move {
            let (_, text) = get(url).await;
            text.contains("kvasir_http_requests_in_progress 2")
                .then_some(())
        }
    })
    .await;

    let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(idle.is_closed_within(DEADLINE).await);
    busy.send(r#"{"value":1}"#).await;
    assert_eq!(busy.response().await.status, 200);
    let status = server.wait(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0));
    assert!(!server.data().join("server.json").exists());
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_when_the_server_stops() {
    let mut server = server().await;
    let mut slow = RawConnection::open(server.addr()).await;
    slow.send("PUT /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 11\r\n\r\n")
        .await;
    let began = std::time::Instant::now();
    let status = server.terminate().await;
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_or_port_refuses() {
    let server = server().await;
    let refused = options().data(server.data()).try_start().await;
    let failure = refused.unwrap_err();
    assert_eq!(failure.status.code(), Some(1));
    assert!(failure.stderr.contains("in use"), "{failure}");

    let taken = server.addr().to_string();
    let failure = options().listen(taken).try_start().await.unwrap_err();
    assert_eq!(failure.status.code(), Some(1));
    assert!(failure.stderr.contains("cannot listen"), "{failure}");
}

#[tokio::test]
async fn probes_and_metrics_answer_without_a_credential() {
    let server = server().await;
    assert_eq!(get(server.url("/healthz")).await, (200, "ok\n".to_owned()));
    eventually(DEADLINE, "the server is ready", || async {
        let (status, _) = get(server.url("/readyz")).await;
        (status == 200).then_some(())
    })
    .await;
    put(server.url("/kv/a"), r#"{"value":1}"#).await;
    // A routed request; plain ones go past the router.
    get(server.url("/kv/a?list=perhaps")).await;
    let (status, text) = get(server.url("/metrics")).await;
    assert_eq!(status, 200);
    for line in [
        r#"kvasir_http_requests_total{dialect="rest",route="/kv/{*keypath}",status="2xx"} 1"#,
        "kvasir_http_connections ",
        "kvasir_store_commits_total ",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }

    let off = options().set("metrics.enabled", "false").start().await;
    assert_eq!(get(off.url("/metrics")).await.0, 404);
}

/// Series at a hundred tenants, as the operator's contract has it (OBS-2).
const SERIES_MAX: usize = 2_000;

#[tokio::test]
async fn what_clients_send_makes_no_series() {
    let server = server().await;
    let series = async || {
        let (_, text) = get(server.url("/metrics")).await;
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    let visit = async |number: usize| {
        put(
            server.url(&format!("/kv/secret-{number}.b")),
            r#"{"value":1}"#,
        )
        .await;
        for path in [
            format!("/kv/secret-{number}.b"),
            format!("/kv/secret-{number}?list=true"),
            format!("/nowhere/secret-{number}"),
            format!("/api/kvs/v1/kv/secret-{number}/a"),
            format!("/edgekv/v1/networks/staging/namespaces/secret-{number}"),
            format!("/classworks/secret-{number}/a"),
            format!("/_/api/v1/users/secret-{number}"),
            format!("/products/secret-{number}"),
            format!("/db/secret-{number}"),
        ] {
            get(server.url(&path)).await;
        }
    };
    for number in 0..3 {
        visit(number).await;
    }
    let before = series().await;
    for number in 3..103 {
        visit(number).await;
    }
    assert_eq!(series().await, before);
    assert!(before < SERIES_MAX, "{before} series");
    let (_, text) = get(server.url("/metrics")).await;
    assert!(!text.contains("secret-"), "{text}");
}

#[tokio::test]
async fn the_start_tells_the_address_and_three_commands_that_work() {
    let server = server().await;
    let printed = eventually(DEADLINE, "the announcement is whole", || {
        let printed = server.stdout();
        std::future::ready(printed.contains("kvasir ls").then_some(printed))
    })
    .await;
    assert!(
        printed.contains(&format!("http://{}", server.addr())),
        "{printed}"
    );
    let commands: Vec<&str> = printed
        .lines()
        .skip_while(|line| line.trim() != "Try:")
        .skip(1)
        .map(str::trim)
        .collect();
    assert_eq!(commands.len(), 3, "{printed}");
    let path = std::path::Path::new(crate::KVASIR).parent().unwrap();
    for command in commands {
        let output = tokio::process::Command::new("sh")
            .args(["-c", command])
            .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
            .output();
        let output = kvasir_testkit::within(DEADLINE, "it ends", output)
            .await
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command}");
        assert!(
            shown.contains("world") || shown.contains("\"ok\":true"),
            "{command}: {shown}"
        );
    }
}

//! Very many connections, and no file handles left for them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use kvasir_testkit::raw::RawConnection;
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, eventually, skip, within};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tokio::net::{TcpSocket, TcpStream};

use crate::server;

/// Connections of the crowd, as the operator's contract has it (LIM-3).
const CROWD: usize = 20_000;

/// Handles that the test itself needs beside the crowd.
const OWN_HANDLES: usize = 200;

/// Most that the server may grow for the crowd, in bytes.
const GROWTH_MAX: u64 = 64 * 1024 * 1024;

/// Connects from one of many loopback addresses, as a crowd has many.
async fn connect(to: SocketAddr, number: usize) -> TcpStream {
    let last = u8::try_from(2 + number % 200).unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, last));
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    let connected = within(DEADLINE, "the kernel accepts", socket.connect(to)).await;
    connected.unwrap()
}

/// The slowest of some requests on new connections and on a kept one.
async fn slowest(server: &TestServer, kept: &reqwest::Client) -> Duration {
    let mut slowest = Duration::ZERO;
    for number in 0..10 {
        let client = if number % 2 == 0 {
            kept
        } else {
            &http_client()
        };
        let began = Instant::now();
        let put = client
            .put(server.url("/kv/well.behaved"))
            .header("Content-Type", "application/json")
            .body(r#"{"value":1}"#);
        assert_eq!(put.send().await.unwrap().status(), 200);
        let got = client.get(server.url("/kv/well.behaved")).send().await;
        assert_eq!(got.unwrap().status(), 200);
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

#[tokio::test]
async fn a_crowd_of_idle_connections_changes_nothing_for_a_client_that_speaks() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let handles = limit
        .maximum
        .and_then(|handles| usize::try_from(handles).ok());
    let crowd = CROWD.min(handles.unwrap_or(CROWD).saturating_sub(OWN_HANDLES));
    if crowd < CROWD {
        skip(&format!(
            "only {crowd} of {CROWD} idle connections at once: file handles are limited"
        ));
    }
    let server = server().await;
    let kept = http_client();
    slowest(&server, &kept).await;
    let before = server.memory_bytes();

    let mut held = Vec::with_capacity(crowd);
    let mut slow = Duration::ZERO;
    let mut memory = 0;
    for number in 0..CROWD {
        if held.len() == crowd {
            held.clear();
        }
        held.push(connect(server.addr(), number).await);
        if (number + 1) % (CROWD / 8) == 0 {
            slow = slow.max(slowest(&server, &kept).await);
            memory = memory.max(server.memory_bytes());
        }
    }
    let grown = memory.saturating_sub(before);
    println!("{crowd} connections: slowest {slow:?}, grown by {grown} bytes");
    assert!(slow < Duration::from_secs(5), "{slow:?}");
    assert!(grown < GROWTH_MAX, "{grown}");
}

#[tokio::test]
async fn without_file_handles_the_server_waits_quietly_and_goes_on_serving() {
    let server = server().await;
    // As many handles as it has now, and eight.
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid()));
    let open = open.unwrap().count();
    let limit = |handles: usize| Rlimit {
        current: Some(handles as u64),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(pid), Resource::Nofile, limit(open + 8)).unwrap();

    // Requests that wait for their bodies keep their places.
    let mut busy = Vec::new();
    for _ in 0..20 {
        let mut connection = RawConnection::open(server.addr()).await;
        connection
            .send("PUT /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 11\r\nconnection: close\r\n\r\n")
            .await;
        busy.push(connection);
    }
    eventually(DEADLINE, "accepting fails", || {
        let said = server.stderr().contains("cannot accept connections");
        std::future::ready(said.then_some(()))
    })
    .await;
    let used = server.processor_time();
    // Not to wait for anything: a busy loop shows in the time it burns.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = server.processor_time() - used;
    assert!(used < Duration::from_millis(500), "busy for {used:?}");

    // Whoever has a place is served, and each that ends makes room for one that waits.
    for connection in &mut busy {
        connection.send(r#"{"value":1}"#).await;
        assert_eq!(connection.response().await.status, 200);
    }
    drop(busy);
    prlimit(Some(pid), Resource::Nofile, limit(1_000)).unwrap();
    let got = http_client().get(server.url("/kv/a")).send().await.unwrap();
    assert_eq!(got.status(), 200);
}

//! Mounts at addresses and paths of their own, and clients behind reverse proxies.

use std::net::SocketAddr;

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, ServerOptions, TestServer, eventually};
use tempfile::TempDir;

use crate::options;

/// Options with a configuration file of this text.
fn configured(folder: &TempDir, text: &str) -> ServerOptions {
    let file = folder.path().join("kvasir.toml");
    std::fs::write(&file, text).unwrap();
    options().arg("--config").arg(file.to_string_lossy())
}

/// Where a mount is, as the server says it below the ready line.
async fn address_of(server: &TestServer, mount: &str) -> SocketAddr {
    let line = format!("The mount {mount} is on http://");
    eventually(DEADLINE, "the mount is announced", || {
        let printed = server.stdout();
        let mut lines = printed.lines();
        let addr = lines.find_map(|shown| shown.trim().strip_prefix(&line)?.parse().ok());
        std::future::ready(addr)
    })
    .await
}

async fn get(url: String) -> u16 {
    http_client()
        .get(url)
        .send()
        .await
        .unwrap()
        .status()
        .as_u16()
}

async fn put(url: String) -> u16 {
    let request = http_client()
        .put(url)
        .header("Content-Type", "application/json")
        .body(r#"{"value":1}"#);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_mount_with_its_own_listener_is_served_there_and_nowhere_else() {
    let folder = TempDir::new().unwrap();
    let server = configured(&folder, "[mount.rest]\nlisten = [\"127.0.0.1:0\"]\n")
        .start()
        .await;
    let own = address_of(&server, "rest").await;
    assert_ne!(own.port(), 0);
    assert_eq!(put(format!("http://{own}/kv/a")).await, 200);
    assert_eq!(get(format!("http://{own}/kv/a")).await, 200);
    assert_eq!(get(server.url("/kv/a")).await, 404);
    // The probes are everywhere, other dialects are not.
    assert_eq!(get(format!("http://{own}/healthz")).await, 200);
    assert_eq!(get(format!("http://{own}/_/api/v1/tokens")).await, 404);
}

#[tokio::test]
async fn a_mount_is_moved_given_another_keyspace_and_switched_off() {
    let folder = TempDir::new().unwrap();
    let text = "[mount.rest]\nenabled = false\n\n\
                [mount.orders]\ndialect = \"rest\"\npath = \"/orders/v1\"\nkeyspace = \"orders\"\n\n\
                [mount.notes]\ndialect = \"rest\"\npath = \"/notes\"\nstore = \"memory:\"\n";
    let server = configured(&folder, text).start().await;
    assert_eq!(get(server.url("/kv/a")).await, 404);
    assert_eq!(put(server.url("/orders/v1/a")).await, 200);
    assert_eq!(get(server.url("/orders/v1/a")).await, 200);
    assert_eq!(get(server.url("/notes/a")).await, 404, "in another store");
    assert_eq!(put(server.url("/notes/b")).await, 200);
    assert_eq!(get(server.url("/orders/v1/b")).await, 404);
}

/// A request as a reverse proxy on this machine passes it on.
async fn through_proxy(server: &TestServer, client: &str) -> u16 {
    let request = http_client()
        .get(server.url("/kv/a"))
        .header("X-Forwarded-For", client);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_client_behind_a_trusted_proxy_is_not_taken_for_a_program_on_this_machine() {
    let trusting = options()
        .set("server.trusted_proxies", "127.0.0.1")
        .start()
        .await;
    assert_eq!(through_proxy(&trusting, "203.0.113.9").await, 401);
    assert_eq!(through_proxy(&trusting, "127.0.0.1").await, 404);
    assert_eq!(get(trusting.url("/kv/a")).await, 404);
    // Nobody is believed unasked.
    let usual = options().start().await;
    assert_eq!(through_proxy(&usual, "203.0.113.9").await, 404);
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_limited_one_by_one() {
    let server = options()
        .set("server.trusted_proxies", "127.0.0.1")
        .set("limits.rates.requests_per_second_per_address", "1")
        .start()
        .await;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(through_proxy(&server, "203.0.113.9").await);
    }
    assert_eq!(statuses[..2], [401, 401]);
    assert!(statuses[2..].contains(&429), "{statuses:?}");
    assert_eq!(through_proxy(&server, "203.0.113.10").await, 401);
    // What a client writes in front of the proxy's own word counts for nothing.
    assert_eq!(
        through_proxy(&server, "198.51.100.1, 203.0.113.10").await,
        401
    );
    assert_eq!(
        through_proxy(&server, "198.51.100.2, 203.0.113.10").await,
        429
    );
}

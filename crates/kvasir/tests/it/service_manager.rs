//! What the server and a service manager tell each other.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, eventually, within};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{KVASIR, options, run};

/// The next message, within the deadline.
fn next(manager: &UnixDatagram) -> String {
    let mut message = [0; 256];
    let length = manager.recv(&mut message).expect("a message comes in time");
    String::from_utf8_lossy(&message[..length])
        .trim_end()
        .to_owned()
}

#[tokio::test]
async fn the_service_manager_hears_of_readiness_life_and_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut server = options()
        .env("NOTIFY_SOCKET", socket.to_string_lossy())
        .env("WATCHDOG_USEC", "300000")
        .start()
        .await;
    let mut heard = Vec::new();
    while heard
        .iter()
        .filter(|message| *message == "WATCHDOG=1")
        .count()
        < 3
    {
        heard.push(next(&manager));
    }
    assert!(heard.contains(&"READY=1".to_owned()), "{heard:?}");
    assert_eq!(server.terminate().await.code(), Some(0));
    while heard.last().is_none_or(|message| message != "STOPPING=1") {
        heard.push(next(&manager));
    }
}

#[tokio::test]
async fn without_a_watchdog_only_readiness_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let server = options().env("NOTIFY_SOCKET", socket.to_string_lossy());
    let _server = server.start().await;
    assert_eq!(next(&manager), "READY=1");
    manager
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(manager.recv(&mut [0; 64]).is_err(), "nothing more was said");
}

/// Starts the server with an open socket as file 3, as a service manager does.
fn with_socket(socket: std::net::TcpListener, args: &str) -> tokio::process::Child {
    let script =
        format!("exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec '{KVASIR}' serve {args}");
    tokio::process::Command::new("sh")
        .args(["-c", &script])
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn an_open_socket_is_taken_over_with_the_connections_that_wait_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    // A client that comes before the server.
    let url = format!("http://{addr}/healthz");
    let early = tokio::spawn(async move { http_client().get(url).send().await.unwrap().status() });
    let args = format!("--data '{}' --listen {addr}", data.display());
    let mut child = with_socket(socket, &args);
    let status = within(DEADLINE, "the waiting client is answered", early).await;
    assert_eq!(status.unwrap(), 200);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = within(DEADLINE, "the first line", lines.next_line()).await;
    assert_eq!(first.unwrap().unwrap(), format!("kvasir ready http={addr}"));
}

#[tokio::test]
async fn a_socket_that_no_listener_is_configured_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let args = format!("--data '{}' --listen 127.0.0.1:0", data.display());
    let child = with_socket(socket, &args);
    let ended = within(DEADLINE, "it refuses", child.wait_with_output())
        .await
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains(&addr.to_string()), "{said}");
    assert!(!data.exists(), "nothing was touched");
}

#[tokio::test]
async fn secrets_come_from_the_credentials_folder_under_both_names() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["accounts.jwt_secret", "kvasir_classworks.site_key"] {
        std::fs::write(
            folder.path().join(name),
            "a secret of more than thirty-two bytes\n",
        )
        .unwrap();
    }
    let place = folder.path().to_string_lossy().into_owned();
    let env = [("CREDENTIALS_DIRECTORY", place.as_str())];
    let (code, out, err) = run(&["config", "show", "--json"], &env).await;
    assert_eq!(code, 0, "{err}");
    for path in ["accounts.jwt_secret", "classworks.site_key"] {
        assert!(out.contains(&format!("{path}\"")), "{out}");
    }
    assert_eq!(out.matches(&place).count(), 2, "{out}");
    assert!(!out.contains("thirty-two"), "{out}");
}

#[tokio::test]
async fn the_health_verb_tells_a_container_whether_the_server_is_ready() {
    let mut server = options().start().await;
    let url = server.url("");
    eventually(DEADLINE, "it is ready", || {
        let url = url.clone();
        async move {
            let (code, ..) = run(&["health", "--server", &url], &[]).await;
            (code == 0).then_some(())
        }
    })
    .await;
    server.terminate().await;
    assert_eq!(run(&["health", "--server", &url], &[]).await.0, 6);
}

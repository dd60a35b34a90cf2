//! What the server does outside of its data folder: nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, eventually, skip};

use crate::KVASIR;

/// Calls that reach others or change files.
const TRACED: &str =
    "trace=connect,sendto,sendmsg,openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2";

/// A server with defaults under `strace`, used a little, stopped; what it called.
async fn trace(folder: &Path) -> Option<String> {
    let log = folder.join("trace");
    let probe = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        skip("no strace that may trace: calls to the outside are not watched");
        return None;
    }
    let mut child = tokio::process::Command::new("strace")
        .args(["-f", "-qq", "-s", "200", "-e", TRACED, "-o"])
        .arg(&log)
        .args([KVASIR, "serve", "--data"])
        .arg(folder.join("data"))
        .args(["--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0"])
        .env_clear()
        .current_dir("/")
        .stdout(std::fs::File::create(folder.join("out")).unwrap())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let out = folder.join("out");
    let base = eventually(DEADLINE, "the server is ready", || {
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        let addr = text.lines().next().and_then(|line| {
            let (_, rest) = line.split_once("http=")?;
            rest.split_whitespace().next().map(str::to_owned)
        });
        async move { addr.map(|addr| format!("http://{addr}")) }
    })
    .await;
    let client = http_client();
    let put = client
        .put(format!("{base}/kv/a"))
        .header("content-type", "application/json")
        .body(r#"{"value":1}"#);
    assert_eq!(put.send().await.unwrap().status(), 200);
    for path in [
        "/kv/a",
        "/",
        "/metrics",
        "/_/",
        "/edgekv/v1/initialize",
        "/api/kvs/v1/kv/a",
    ] {
        client.get(format!("{base}{path}")).send().await.unwrap();
    }
    // The server is strace's child; both end with it.
    let pid = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id().unwrap()));
    let pid = pid
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    kvasir_testkit::within(DEADLINE, "it stops", child.wait())
        .await
        .unwrap();
    Some(std::fs::read_to_string(log).unwrap())
}

#[tokio::test]
async fn a_default_server_calls_nobody_and_writes_only_into_its_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let Some(trace) = trace(folder.path()).await else {
        return;
    };
    let data = folder.path().join("data").to_string_lossy().into_owned();
    let mut strange = BTreeSet::new();
    let mut opened = 0;
    for line in trace.lines() {
        let call = line
            .split_once(' ')
            .map_or(line, |(_, call)| call.trim_start());
        let is_network = call.contains("sa_family=AF_INET");
        let calls_out = call.starts_with("connect(")
            || (is_network && (call.starts_with("sendto(") || call.starts_with("sendmsg(")));
        let opens = call.starts_with("open") || call.starts_with("creat");
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT"]
            .iter()
            .any(|flag| call.contains(flag))
            || ["creat", "mkdir", "rename"]
                .iter()
                .any(|name| call.starts_with(name));
        opened += usize::from(opens && writes);
        let is_ours = call.contains(&format!("\"{data}")) || call.contains("\"/dev/null\"");
        if calls_out || (writes && !is_ours) {
            strange.insert(call.to_owned());
        }
    }
    assert!(opened > 0, "the trace holds what the server opened");
    assert_eq!(strange, BTreeSet::new());
}

#[tokio::test]
async fn a_server_without_any_network_but_its_own_starts_serves_and_stops() {
    let probe = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "true"])
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        return skip(
            "no network namespaces for this user: a server without a network is not tried",
        );
    }
    let folder = tempfile::tempdir().unwrap();
    // In the namespace there is loopback and nothing else, so the client is there as well.
    let script = r#"
        ip link set lo up 2>/dev/null || python3 - <<'PY'
import fcntl, socket, struct
s = socket.socket()
fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))
PY
        "$KVASIR" serve --data "$FOLDER/data" --listen 127.0.0.1:8000 --tls-listen 127.0.0.1:8443 >"$FOLDER/out" 2>"$FOLDER/err" &
        server=$!
        for _ in $(seq 200); do "$KVASIR" health --server http://127.0.0.1:8000 >/dev/null 2>&1 && break; sleep 0.1; done
        "$KVASIR" put a 1 --server http://127.0.0.1:8000 || exit 11
        "$KVASIR" get a --server http://127.0.0.1:8000 || exit 12
        "$KVASIR" backup create --server http://127.0.0.1:8000 || exit 13
        kill -TERM $server
        wait $server
    "#;
    let output = tokio::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "bash", "-c", script])
        .env("KVASIR", KVASIR)
        .env("FOLDER", folder.path())
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = kvasir_testkit::within(DEADLINE, "it ends", output)
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert!(String::from_utf8_lossy(&output.stdout).contains("1\n"));
}

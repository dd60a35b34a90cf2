//! A SQLite file on a disk that runs full, and one that may not grow: no success is lost, nothing
//! half done, and the server says what to do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, ServerOptions, TestServer, eventually};
use tempfile::TempDir;

use crate::{KVASIR, options};

const MIB: usize = 1024 * 1024;

/// A tmpfs that is unmounted at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, and a line on standard error, where this process may not mount.
    fn mount(mib: usize) -> Option<SmallDisk> {
        let dir = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            kvasir_testkit::skip("a full disk needs the right to mount a tmpfs");
            return None;
        }
        Some(SmallDisk(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing to be done about it here.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

async fn put(server: &TestServer, key: &str, bytes: usize) -> reqwest::Result<(u16, String)> {
    let request = http_client()
        .put(server.url(&format!("/kv/{key}")))
        .header("content-type", "application/json")
        .body(format!("{{\"value\":\"{}\"}}", "x".repeat(bytes)));
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

async fn is_there(server: &TestServer, key: &str) -> bool {
    let url = server.url(&format!("/kv/{key}"));
    http_client().get(url).send().await.unwrap().status() == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_sqlite_refuses_writes_keeps_reads_and_deletes_and_recovers() {
    let Some(disk) = SmallDisk::mount(120) else {
        return;
    };
    let url = format!("sqlite:{}", disk.path().join("store.db").display());
    let mut server = options().arg("--store").arg(&url).start().await;
    assert_eq!(put(&server, "first", 10).await.unwrap().0, 200);
    // Another program takes most of the disk.
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![1; 50 * MIB]).unwrap();
    let mut stored = 0;
    let refused = loop {
        let (status, text) = put(&server, &format!("big.{stored}"), MIB / 2)
            .await
            .unwrap();
        if status != 200 {
            break (status, text);
        }
        stored += 1;
        assert!(stored < 300, "the disk does not run full");
    };
    assert_eq!(refused.0, 507, "{}", refused.1);
    assert!(refused.1.contains("no space left"), "{}", refused.1);
    let ready = eventually(DEADLINE, "readiness tells", || async {
        let response = http_client()
            .get(server.url("/readyz"))
            .send()
            .await
            .unwrap();
        (response.status() == 503).then_some(response)
    });
    assert!(ready.await.text().await.unwrap().contains("no space left"));
    assert!(is_there(&server, "first").await);
    let delete = http_client().delete(server.url("/kv/first")).send().await;
    assert!(delete.unwrap().status().is_success());

    // Over a crash on the full disk, too.
    server.kill().await;
    server.restart().await;
    for number in 0..stored {
        assert!(
            is_there(&server, &format!("big.{number}")).await,
            "{number}"
        );
    }
    assert!(!is_there(&server, "first").await);
    std::fs::remove_file(&filler).unwrap();
    eventually(DEADLINE, "writes come back", || async {
        let done = put(&server, "again", 10).await.unwrap();
        (done.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_that_may_not_grow_ends_the_server_with_a_code_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    // The shell counts in blocks of 512 or 1024 bytes.
    let limited = folder.path().join("kvasir-limited");
    std::fs::write(
        &limited,
        format!("#!/bin/sh\nulimit -f 4096\nexec {KVASIR} \"$@\"\n"),
    )
    .unwrap();
    std::fs::set_permissions(&limited, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = ServerOptions::new(&limited)
        .arg("--store")
        .arg(&url)
        .start()
        .await;
    let mut stored = 0;
    // Until the connection breaks or the answer is "unknown".
    while let Ok((200, _)) = put(&server, &format!("big.{stored}"), MIB / 4).await {
        stored += 1;
        assert!(stored < 100, "the file grows beyond its limit");
    }
    assert!(stored > 0);
    let status = server.wait(DEADLINE).await;
    assert_eq!(status.code(), Some(74), "{}", server.stderr());
    let log = server.stderr();
    assert!(log.contains("can no longer make writes durable"), "{log}");

    let server = options().arg("--store").arg(&url).start().await;
    for number in 0..stored {
        assert!(
            is_there(&server, &format!("big.{number}")).await,
            "{number}"
        );
    }
    assert_eq!(put(&server, "after", MIB / 4).await.unwrap().0, 200);
}

//! `kvasir store`: damaged and busy data folders, looked into and repaired by the real command.

use std::path::{Path, PathBuf};

use kvasir_testkit::server::http_client;
use kvasir_testkit::{ServerOptions, TestServer};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::{options, run, server};

/// Entries of a folder under test, each in a commit of its own.
const ENTRIES: usize = 8;

/// A folder with [`ENTRIES`] entries, as `kill -9` leaves it.
async fn recorded() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut server = at(&data).start().await;
    for number in 0..ENTRIES {
        put(&server, number).await;
    }
    server.kill().await;
    (folder, data)
}

fn at(data: &Path) -> ServerOptions {
    options().data(data)
}

async fn put(server: &TestServer, number: usize) {
    let request = http_client()
        .put(server.url(&format!("/kv/entry.{number}")))
        .header("Content-Type", "application/json")
        .body(format!(
            r#"{{"value":"marker-{number}-{}"}}"#,
            "x".repeat(40)
        ));
    assert_eq!(request.send().await.unwrap().status(), 200);
}

/// How many of the entries are there. There is no hole among them.
async fn entries(data: &Path) -> usize {
    let mut server = at(data).start().await;
    let mut found = 0;
    for number in 0..ENTRIES {
        let url = server.url(&format!("/kv/entry.{number}"));
        let status = http_client().get(url).send().await.unwrap().status();
        if status == 200 {
            assert_eq!(found, number, "no hole");
            found += 1;
        }
    }
    server.terminate().await;
    found
}

/// Flips a bit inside of the value of an entry in the journal.
fn damage(data: &Path, number: usize) -> PathBuf {
    let journal = data.join("store/0.jnl");
    let mut bytes = std::fs::read(&journal).unwrap();
    let marker = format!("marker-{number}-");
    let at = bytes
        .windows(marker.len())
        .position(|window| window == marker.as_bytes())
        .expect("the journal holds the value");
    bytes[at + 20] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    journal
}

/// Every file below a folder, with its bytes.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for child in std::fs::read_dir(next).unwrap() {
            let path = child.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_path_buf();
                files.push((name, std::fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

async fn store(data: &Path, args: &[&str]) -> (i32, String, String) {
    let data = data.to_string_lossy();
    let mut all = vec!["store"];
    all.extend(args);
    all.extend(["--data", &data]);
    run(&all, &[]).await
}

#[tokio::test]
async fn a_whole_folder_is_verified_and_needs_no_repair() {
    let (_folder, data) = recorded().await;
    let (code, out, err) = store(&data, &["verify", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let report: Json = serde_json::from_str(&out).unwrap();
    assert!(report["entries"].as_u64().unwrap() >= ENTRIES as u64);
    assert_eq!(report["problems_found"], 0);
    for how in ["--plan", "--apply"] {
        let (code, out, _) = store(&data, &["repair", how]).await;
        assert_eq!(code, 0);
        assert_eq!(out, "nothing keeps this store from opening\n");
    }
    assert_eq!(entries(&data).await, ENTRIES);
}

#[tokio::test]
async fn damage_is_refused_planned_and_repaired_with_the_old_data_kept() {
    let (_folder, data) = recorded().await;
    let journal = damage(&data, 5);
    let before = contents(&data.join("store"));
    let place = format!("{} ", journal.display());

    // Nobody opens it: neither the server nor `verify`.
    let failure = at(&data).try_start().await.unwrap_err();
    assert_eq!(failure.status.code(), Some(8), "{failure}");
    assert!(failure.stderr.contains(&place), "{failure}");
    assert!(failure.stderr.contains("at byte "), "{failure}");
    assert!(
        failure.stderr.contains("kvasir store repair --plan"),
        "{failure}"
    );
    let (code, _, err) = store(&data, &["verify"]).await;
    assert_eq!(code, 8, "{err}");
    assert!(err.contains(&place) && err.contains("at byte "), "{err}");

    let (code, out, err) = store(&data, &["repair", "--plan", "--json"]).await;
    assert_eq!(code, 8, "{err}");
    let plan: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["damage"]["file"], journal.to_string_lossy().as_ref());
    let choice = plan["choices"][1].as_str().unwrap();
    assert!(
        choice.contains("gives up the damaged group of commits and 2 later ones"),
        "{choice}"
    );

    // Nothing happens by accident.
    let (code, out, _) = store(&data, &["repair", "--apply", "--dry-run"]).await;
    assert_eq!(code, 0);
    assert!(out.contains(choice), "{out}");
    let (code, _, err) = store(&data, &["repair", "--apply"]).await;
    assert_eq!(code, 2);
    assert!(err.contains("--yes"), "{err}");
    let (code, _, err) = store(&data, &["repair", "--apply", "--yes", "--choice", "1"]).await;
    assert_eq!(code, 8);
    assert!(err.contains("restore a backup"), "{err}");
    assert_eq!(contents(&data.join("store")), before, "nothing was changed");

    let (code, out, err) = store(&data, &["repair", "--apply", "--yes", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let report: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(report["applied"], choice);
    assert_eq!(report["problems_found"], 0);
    let aside = PathBuf::from(report["aside"].as_str().unwrap());
    assert_eq!(aside, data.join("store.damaged-1"));
    assert_eq!(
        contents(&aside),
        before,
        "the damaged store is kept as it was"
    );
    assert_eq!(entries(&data).await, 5);
    let (code, _, err) = store(&data, &["verify"]).await;
    assert_eq!(code, 0, "{err}");
}

#[tokio::test]
async fn damage_that_no_choice_but_a_backup_heals_is_said_so() {
    let (_folder, data) = recorded().await;
    std::fs::write(data.join("store/keyspaces/1/current"), [0; 25]).unwrap();
    let (code, out, _) = store(&data, &["repair", "--plan"]).await;
    assert_eq!(code, 8);
    assert!(
        out.contains("1. Restore a backup") && !out.contains("2. "),
        "{out}"
    );
    let (code, _, err) = store(&data, &["repair", "--apply", "--yes"]).await;
    assert_eq!(code, 8);
    assert!(err.contains("restore a backup"), "{err}");
}

#[tokio::test]
async fn a_folder_that_a_server_holds_is_left_alone_and_the_holder_named() {
    let server = server().await;
    let holder = format!("in use by process {}", server.pid());
    let failure = at(server.data()).try_start().await.unwrap_err();
    assert_eq!(failure.status.code(), Some(1));
    assert!(failure.stderr.contains(&holder), "{failure}");
    for args in [
        &["verify"][..],
        &["repair", "--plan"],
        &["repair", "--apply", "--yes"],
    ] {
        let (code, _, err) = store(server.data(), args).await;
        assert_eq!(code, 1, "{args:?}");
        assert!(err.contains(&holder), "{args:?}: {err}");
    }
    put(&server, 0).await;
}

#[tokio::test]
async fn a_folder_without_a_store_is_not_made_into_one() {
    let folder = TempDir::new().unwrap();
    let (code, _, err) = store(folder.path(), &["verify"]).await;
    assert_eq!(code, 2);
    assert!(err.contains("holds no embedded store"), "{err}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

//! Every dialect over every backend, through the real server, and over a crash of it.

use kvasir_testkit::databases::Shared;

use crate::options;
use crate::speak::{Speaker, with_issuer};

/// Speaks every dialect, kills the server, and finds everything again.
async fn check(url: &str) {
    let mut speaker = Speaker::new().await;
    let options = with_issuer(options(), speaker.issuer())
        .arg("--store")
        .arg(url);
    let mut server = options.start().await;
    speaker.write_and_read(&server).await;
    server.kill().await;
    server.restart().await;
    speaker.read_again(&server).await;
    assert_eq!(server.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_works_over_a_sqlite_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    check(&format!("sqlite:{}", file.display())).await;
    // One ordinary file again, which other programs can read.
    assert!(!folder.path().join("store.db-wal").exists());
    let connection = rusqlite::Connection::open(&file).unwrap();
    let rows: u32 = connection
        .query_row("SELECT count(*) FROM kv_entry", [], |row| row.get(0))
        .unwrap();
    assert!(rows > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_works_over_the_embedded_engine_named_by_its_url() {
    let folder = tempfile::tempdir().unwrap();
    check(&format!(
        "embedded:{}",
        folder.path().join("store").display()
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_works_over_mariadb() {
    if let Some(server) = Shared::mariadb() {
        check(&server.fresh_url()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_works_over_galera() {
    if let Some(cluster) = Shared::galera() {
        check(&cluster.fresh_url()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_works_over_postgres() {
    if let Some(server) = Shared::postgres() {
        check(&server.fresh_url()).await;
    }
}

//! `KOPANO_KVS_DB_DRIVER` and `KOPANO_KVS_DB_DATASOURCE` on the real server: the Kopano mount lives
//! in the original's database.

use kvasir_testkit::databases::Shared;
use kvasir_testkit::oidc::Issuer;
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, ServerOptions, TestServer, eventually};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::options;

/// Three documents of one user, written in another order than that of their keys.
const ROWS: &str = "
    (3, 'recents', 'recents/b', '{\"n\":1}', 'application/json', 'ann', 'meet', 'user', ''),
    (5, 'recents', 'recents/a', '{\"n\":2}', 'application/json', 'ann', 'meet', 'user', ''),
    (9, 'recents', 'recents/c', '{\"n\":3}', 'application/json', 'ann', 'meet', 'user', '')";

const COLUMNS: &str =
    "id, collection, ekey, value, content_type, owner_id, client_id, realm, required_scopes";

fn at_issuer(issuer: &Issuer, driver: &str, datasource: &str) -> ServerOptions {
    options()
        .set("kopano.issuer", &issuer.url())
        .env("KOPANO_KVS_DB_DRIVER", driver)
        .env("KOPANO_KVS_DB_DATASOURCE", datasource)
        .env(
            "KOPANO_KVS_DB_MIGRATIONS",
            "/usr/share/kopano-kapi/kvs/migrations",
        )
}

async fn send(server: &TestServer, issuer: &Issuer, request: &str) -> (u16, String) {
    let (method, key) = request.split_once(' ').unwrap();
    let url = server.url(&format!("/api/kvs/v1/kv/user/{key}"));
    let response = http_client()
        .request(method.parse().unwrap(), url)
        .bearer_auth(issuer.access_token("ann", "meet"))
        .header("content-type", "application/json")
        .body(if method == "PUT" { "{\"n\":4}" } else { "" })
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The keys of a listing, in its order.
async fn listed(server: &TestServer, issuer: &Issuer) -> Vec<String> {
    let text = eventually(DEADLINE, "the provider's keys are known", || async {
        let (status, text) = send(server, issuer, "GET recents?recurse=1").await;
        (status == 200).then_some(text)
    })
    .await;
    let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
    let key = |entry: &Value| entry["key"].as_str().unwrap().to_owned();
    entries.iter().map(key).collect()
}

/// The documents are served in the order of their writes, once taken over, and `table` (the
/// original's rows) stays as it is.
async fn check(driver: &str, datasource: &str, table: impl Fn() -> String) {
    let issuer = Issuer::start().await;
    let before = table();
    assert!(before.contains("recents/b"), "{before}");
    let mut server = at_issuer(&issuer, driver, datasource).start().await;
    assert_eq!(
        listed(&server, &issuer).await,
        ["recents/b", "recents/a", "recents/c"]
    );
    let (_, text) = send(&server, &issuer, "GET recents/a").await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["value"], json!({"n": 2}));
    let log = server.stderr();
    assert!(log.contains("took over 3 documents"), "{log}");
    assert!(
        log.contains("KOPANO_KVS_DB_MIGRATIONS) has no effect"),
        "{log}"
    );
    assert!(log.contains("lives in the original's database"), "{log}");

    // What happens now happens to our tables, and is not undone by the next start.
    assert_eq!(send(&server, &issuer, "DELETE recents/a").await.0, 200);
    assert_eq!(send(&server, &issuer, "PUT recents/b").await.0, 200);
    server.restart().await;
    assert_eq!(listed(&server, &issuer).await, ["recents/c", "recents/b"]);
    assert!(
        !server.stderr().contains("took over"),
        "{}",
        server.stderr()
    );
    assert_eq!(table(), before);
    // The rest of the server lives in its own store.
    let put = http_client()
        .put(server.url("/kv/a"))
        .header("content-type", "application/json")
        .body(r#"{"value":1}"#);
    assert_eq!(put.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kopano_mount_lives_in_the_originals_sqlite_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kvs.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "CREATE TABLE kv (id INTEGER PRIMARY KEY ASC, collection TEXT, ekey TEXT NOT NULL,
                value BLOB NOT NULL, content_type TEXT, owner_id TEXT, client_id TEXT,
                realm TEXT NOT NULL, required_scopes TEXT);
             CREATE UNIQUE INDEX idx_no_dup ON kv (ekey, owner_id, realm);
             CREATE TABLE schema_migrations (version uint64, dirty bool);
             INSERT INTO schema_migrations VALUES (1, 'false');
             INSERT INTO kv ({COLUMNS}) VALUES {ROWS}"
        ))
        .unwrap();
    let table = || {
        let connection = Connection::open(&path).unwrap();
        let sql = "SELECT group_concat(id || ekey || value || realm, ';') FROM kv ORDER BY id";
        connection
            .query_row(sql, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    let datasource = format!("file:{}?_busy_timeout=5000", path.display());
    check("sqlite3", &datasource, table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kopano_mount_lives_in_the_originals_mysql_database() {
    let Some(server) = Shared::mariadb() else {
        return;
    };
    let url = server.fresh_url();
    let (host, name) = url.split_once('@').unwrap().1.split_once('/').unwrap();
    server
        .run_in(
            name,
            &format!(
                "CREATE TABLE kv (id INTEGER PRIMARY KEY AUTO_INCREMENT, collection VARCHAR(128),
                    ekey VARCHAR(255) NOT NULL, value BLOB NOT NULL, content_type TEXT,
                    owner_id VARCHAR(128), client_id VARCHAR(128), realm VARCHAR(64) NOT NULL,
                    required_scopes TEXT, UNIQUE idx_no_dup (ekey, owner_id, realm))
                    ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;
                 INSERT INTO kv ({COLUMNS}) VALUES {ROWS}"
            ),
        )
        .unwrap();
    let table = || {
        let sql = "SELECT GROUP_CONCAT(id, ekey, value, realm ORDER BY id) FROM kv";
        server.run_in(name, sql).unwrap()
    };
    // The time-outs of the DSN hold for the server's connections too.
    let datasource = format!(
        "kv:kv@tcp({host})/{name}?timeout=10s&readTimeout=20s&charset=utf8mb4&parseTime=true"
    );
    check("mysql", &datasource, table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_used_as_it_is_and_without_a_driver_it_is_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.db");
    let issuer = Issuer::start().await;
    let server = at_issuer(&issuer, "", &path.display().to_string())
        .start()
        .await;
    eventually(DEADLINE, "the provider's keys are known", || async {
        let (status, _) = send(&server, &issuer, "PUT recents/x").await;
        (status == 200).then_some(())
    })
    .await;
    assert!(path.exists());
}

#[tokio::test]
async fn settings_that_name_no_database_are_usage() {
    let issuer = Issuer::start().await;
    for (driver, datasource, word) in [
        ("sqlite3", "", "KOPANO_KVS_DB_DATASOURCE is empty"),
        ("postgres", "x", "expected sqlite3 or mysql"),
        ("mysql", "kv:sesame@tcp(h/db", "closing )"),
        ("mysql", "kv:sesame@tcp(h)/", "names no database"),
        ("mysql", "kv:sesame@tcp(h)/db?tls=mine", "registered name"),
        (
            "mysql",
            "kv:sesame@tcp(h)/db?allowOldPasswords=true",
            "not supported",
        ),
    ] {
        let failure = at_issuer(&issuer, driver, datasource).try_start().await;
        let failure = failure.unwrap_err();
        assert_eq!(failure.status.code(), Some(2), "{failure}");
        assert!(failure.stderr.contains(word), "{word}: {failure}");
        assert!(!failure.stderr.contains("sesame"), "{failure}");
    }
    // A time-out of the DSN, which is shorter than the usual one.
    let began = std::time::Instant::now();
    let failure = at_issuer(
        &issuer,
        "mysql",
        "kv:sesame@tcp(192.0.2.1)/db?timeout=200ms",
    )
    .try_start()
    .await
    .unwrap_err();
    assert_eq!(failure.status.code(), Some(6), "{failure}");
    assert!(failure.stderr.contains("192.0.2.1"), "{failure}");
    assert!(began.elapsed() < DEADLINE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_with_a_store_of_its_own_keeps_its_data_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kopano.db");
    let config = folder.path().join("kvasir.toml");
    let text = format!("[mount.kopano]\nstore = \"sqlite:{}\"\n", file.display());
    std::fs::write(&config, text).unwrap();
    let issuer = Issuer::start().await;
    let server = options()
        .set("kopano.issuer", &issuer.url())
        .arg("--config")
        .arg(config.display().to_string())
        .start()
        .await;
    eventually(DEADLINE, "the provider's keys are known", || async {
        let (status, _) = send(&server, &issuer, "PUT recents/x").await;
        (status == 200).then_some(())
    })
    .await;
    let connection = Connection::open(&file).unwrap();
    let rows: u32 = connection
        .query_row("SELECT count(*) FROM kv_entry", [], |row| row.get(0))
        .unwrap();
    assert!(rows > 0);
}

//! What keeps `kvasir serve` from using a store: a sentence with what to do, an exit code, and
//! nothing changed.

use kvasir_testkit::databases::{MariaDb, OldServer, Postgres, Shared};
use kvasir_testkit::server::http_client;

use crate::options;

/// Starts with a store that cannot be used. The log holds all the words, and never the password.
async fn check(url: &str, code: i32, words: &[&str]) {
    let Err(failure) = options().arg("--store").arg(url).try_start().await else {
        panic!("it started with {url}");
    };
    let text = &failure.stderr;
    assert_eq!(failure.status.code(), Some(code), "{failure}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(!text.contains("sesame"), "a password is shown: {text}");
    assert!(!failure.stdout.contains("kvasir ready"));
}

/// The URL with other credentials.
fn with_user(url: &str, user: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, rest) = rest.split_once('@').unwrap();
    format!("{scheme}://{user}@{rest}")
}

fn name_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

#[tokio::test]
async fn urls_that_make_no_sense_are_usage() {
    for (url, word) in [
        ("redis://u:sesame@h/", "redis"),
        ("mysql://u:sesame@h", "database name is missing"),
        ("mysql://u:sesame@h/d?ssl=1", "unknown option ssl"),
        ("postgres://h/d", "user name is missing"),
        ("sqlite:", "needs the path of a file"),
    ] {
        check(url, 2, &[word]).await;
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_named() {
    for scheme in ["mysql", "postgres"] {
        let url = format!("{scheme}://kv:sesame@127.0.0.1:1,127.0.0.1:2/kv");
        let words = ["no server of", "127.0.0.1:1", "check that it runs"];
        check(&url, 6, &words).await;
    }
    let url = "mysql://kv:sesame@no-such-host.invalid/kv";
    check(url, 6, &["no-such-host.invalid", "check that it runs"]).await;
}

#[tokio::test]
async fn a_server_that_is_too_old_is_named_with_the_version_that_would_do() {
    for (server, scheme, name, needed) in [
        (
            OldServer::mysql("10.2.44-MariaDB"),
            "mysql",
            "MariaDB 10.2.44",
            "MariaDB 10.6",
        ),
        (
            OldServer::mysql("5.7.44"),
            "mysql",
            "MySQL 5.7.44",
            "MySQL 8.0",
        ),
        (
            OldServer::postgres(90_624),
            "postgres",
            "PostgreSQL 9.6",
            "PostgreSQL 11",
        ),
    ] {
        let url = format!(
            "{scheme}://kv:sesame@127.0.0.1:{}/kv?tls=off",
            server.port()
        );
        check(&url, 1, &[name, "is too old", "upgrade the server", needed]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_refuses_with_what_to_do() {
    let Some(server) = Shared::mariadb() else {
        return;
    };
    let url = server.fresh_url();
    let name = name_of(&url);
    let wrong = with_user(&url, "kv:sesame");
    check(
        &wrong,
        4,
        &["Access denied", "check user name and password"],
    )
    .await;
    let missing = url.replace(name, "nowhere");
    check(
        &missing,
        1,
        &["no database of that name", "CREATE DATABASE nowhere"],
    )
    .await;

    let user = format!("reader_{}", std::process::id());
    server
        .run(&format!(
            "CREATE OR REPLACE USER {user}@'%' IDENTIFIED BY 'sesame'; \
             GRANT SELECT ON {name}.* TO {user}@'%'"
        ))
        .unwrap();
    let reader = with_user(&url, &format!("{user}:sesame"));
    check(&reader, 4, &["denied", "GRANT SELECT, INSERT"]).await;

    server
        .run(&format!(
            "CREATE TABLE {name}.kv_entry (id INT PRIMARY KEY, note TEXT); \
             INSERT INTO {name}.kv_entry VALUES (1, 'mine')"
        ))
        .unwrap();
    check(&url, 1, &["foreign tables", "a database of its own"]).await;
    let note = server.run(&format!("SELECT note FROM {name}.kv_entry"));
    assert_eq!(note.unwrap().trim(), "mine");
    let tables = server.run_in(name, "SHOW TABLES").unwrap();
    assert_eq!(tables.trim(), "kv_entry", "tables were made beside it");

    let url = server.fresh_url();
    let newer = "CREATE TABLE kv_schema (id INT PRIMARY KEY, version INT); \
                         INSERT INTO kv_schema VALUES (1, 99)";
    server.run_in(name_of(&url), newer).unwrap();
    check(&url, 1, &["has format 99", "knows up to 1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_refuses_with_what_to_do() {
    // A server of its own, because the password rules are those of the whole server.
    let rules = "local all all trust\n\
                 host all locked 127.0.0.1/32 scram-sha-256\n\
                 host all all 127.0.0.1/32 trust\n";
    let settings = ["hba_file={dir}/rules.conf"];
    let Some(server) = Postgres::start_with(&settings, &[("rules.conf", rules)]).unwrap() else {
        return;
    };
    let url = server.fresh_url().unwrap();
    let name = name_of(&url);
    server.admin("CREATE USER locked PASSWORD 'right'").unwrap();
    let wrong = with_user(&url, "locked:sesame");
    check(
        &wrong,
        4,
        &[
            "password authentication failed",
            "check user name and password",
        ],
    )
    .await;
    let unknown = with_user(&url, "nobody:sesame");
    check(&unknown, 4, &["nobody", "check user name and password"]).await;
    let missing = url.replace(name, "nowhere");
    check(
        &missing,
        1,
        &["no database of that name", "CREATE DATABASE nowhere"],
    )
    .await;
    let powerless = with_user(&url, "locked:right");
    check(
        &powerless,
        4,
        &["permission denied", "GRANT ALL ON SCHEMA public TO locked"],
    )
    .await;
    let foreign = server.fresh_url().unwrap();
    server
        .admin_in(
            name_of(&foreign),
            "CREATE TABLE kv_entry (id INT PRIMARY KEY)",
        )
        .unwrap();
    check(&foreign, 1, &["foreign tables", "a database of its own"]).await;
    server
        .admin(&format!(
            "ALTER DATABASE {name} SET default_transaction_read_only = on"
        ))
        .unwrap();
    check(&url, 1, &["read-only", "name the primary server"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_server_that_is_read_only_is_refused_and_the_next_of_the_list_used() {
    let Some(replica) = MariaDb::start_with(&["--read-only=1"], &[]).unwrap() else {
        return;
    };
    let url = replica.fresh_url().unwrap();
    check(
        &url,
        1,
        &[
            "read-only",
            "name the primary server, or switch read_only off",
        ],
    )
    .await;

    let primary = Shared::mariadb().unwrap();
    let name = name_of(&url);
    primary
        .run(&format!("CREATE DATABASE IF NOT EXISTS {name}"))
        .unwrap();
    let other = primary.fresh_url();
    let host = other.split_once('@').unwrap().1.split_once('/').unwrap().0;
    let both = format!("mysql://kv:kv@127.0.0.1:{},{host}/{name}", replica.port());
    let server = options().arg("--store").arg(&both).start().await;
    let put = http_client()
        .put(server.url("/kv/a"))
        .header("content-type", "application/json")
        .body(r#"{"value":1}"#);
    assert_eq!(put.send().await.unwrap().status(), 200);
    let read = http_client().get(server.url("/kv/a")).send().await.unwrap();
    assert_eq!(read.text().await.unwrap(), "1");
    primary.run(&format!("DROP DATABASE {name}")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_a_sqlite_file_is_told_who_holds_it_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    let first = options().arg("--store").arg(&url).start().await;
    let holder = format!("is in use by process {}", first.pid());
    check(&url, 1, &[&holder]).await;
    let put = http_client()
        .put(first.url("/kv/a"))
        .header("content-type", "application/json")
        .body(r#"{"value":1}"#);
    assert_eq!(put.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_store_of_ours_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    let content = "certainly not a database, but long enough to look at. ".repeat(20);
    std::fs::write(&text, &content).unwrap();
    check(
        &format!("sqlite:{}", text.display()),
        1,
        &["is no SQLite file", "name another file"],
    )
    .await;
    assert_eq!(std::fs::read_to_string(&text).unwrap(), content);

    let foreign = folder.path().join("orders.db");
    let connection = rusqlite::Connection::open(&foreign).unwrap();
    connection
        .execute_batch("CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (7)")
        .unwrap();
    let url = format!("sqlite:{}", foreign.display());
    check(
        &url,
        1,
        &["tables of another program (orders)", "name another file"],
    )
    .await;
    let id: u32 = connection
        .query_row("SELECT id FROM orders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(id, 7);

    let nowhere = folder.path().join("no/such/folder/s.db");
    check(
        &format!("sqlite:{}", nowhere.display()),
        1,
        &["cannot create"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_of_a_mount_is_refused_under_the_mounts_name() {
    let failure = options()
        .env(
            "KVASIR_MOUNT__KOPANO__STORE",
            "mysql://kv:sesame@127.0.0.1:1/kv",
        )
        .try_start()
        .await
        .unwrap_err();
    assert_eq!(failure.status.code(), Some(6), "{failure}");
    assert!(failure.stderr.contains("mount.kopano.store"), "{failure}");
    assert!(!failure.stderr.contains("sesame"), "{failure}");
}

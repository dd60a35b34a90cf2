//! What is in the way of opening a store, and what the operator is told about it.

use kvasir_kv::{AtomicWrite, Key, Limits, Mutation, Outcome, Store, Value};
use kvasir_store::{OpenError, OpenOptions, open};
use std::sync::Arc;

async fn refused(url: &str) -> OpenError {
    match open(url, OpenOptions::default()).await {
        Ok(_) => panic!("{url} opened"),
        Err(error) => error,
    }
}

/// The whole chain, as the command line prints it.
fn sentence(error: &OpenError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

async fn check(url: &str, exit: u8, words: &[&str]) {
    let error = refused(url).await;
    let text = sentence(&error);
    assert_eq!(error.exit_code(), exit, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(!text.contains("sesame"), "a password is shown: {text}");
}

async fn write(store: &Arc<dyn Store>) -> kvasir_kv::Result<Outcome> {
    let set = Mutation::set(Key::from_strings(["a"]), Value::json("1"));
    store.commit(AtomicWrite::new().push(set)).await
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_second_writer_is_refused_and_told_who_holds_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let store = open(&url, OpenOptions::default()).await.unwrap();
        write(&store).await.unwrap();
        let holder = format!("by process {}", std::process::id());
        check(&url, 1, &["is in use", &holder]).await;
        store.close().await.unwrap();
        let store = open(&url, OpenOptions::default()).await.unwrap();
        assert!(
            store
                .get(&Key::from_strings(["a"]))
                .await
                .unwrap()
                .is_some()
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_that_are_no_store_are_refused_and_left_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("notes.txt");
        let content = "certainly not a database, but long enough to look at. ".repeat(20);
        std::fs::write(&text, &content).unwrap();
        let url = format!("sqlite:{}", text.display());
        check(&url, 1, &["is no SQLite file", "name another file"]).await;
        assert_eq!(std::fs::read_to_string(&text).unwrap(), content);

        let missing = folder.path().join("no/such/folder/store.db");
        check(
            &format!("sqlite:{}", missing.display()),
            1,
            &["cannot create"],
        )
        .await;

        let foreign = folder.path().join("foreign.db");
        let connection = rusqlite::Connection::open(&foreign).unwrap();
        connection
            .execute_batch("CREATE TABLE orders (id INTEGER)")
            .unwrap();
        let url = format!("sqlite:{}", foreign.display());
        check(
            &url,
            1,
            &["tables of another program (orders)", "kvasir import"],
        )
        .await;
        // Unless it was meant so.
        let store = open(&format!("{url}?foreign=keep"), OpenOptions::default())
            .await
            .unwrap();
        write(&store).await.unwrap();
        let tables: u32 = connection
            .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 0);
        store.close().await.unwrap();

        connection
            .execute_batch("UPDATE kv_schema SET version = 99")
            .unwrap();
        check(&url, 1, &["has format 99", "knows up to 1"]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_flipped_bit_is_damage_and_never_another_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let url = format!("sqlite:{}", path.display());
        let store = open(&url, OpenOptions::default()).await.unwrap();
        write(&store).await.unwrap();
        // Another program may write the file; what it writes is not believed.
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "UPDATE kv_entry SET v = CAST(substr(v, 1, length(v) - 1) || x'32' AS BLOB)",
            )
            .unwrap();
        let error = store.get(&Key::from_strings(["a"])).await.unwrap_err();
        assert!(matches!(&error, kvasir_kv::Error::Corrupt(text) if text.contains("\"a\"")));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_file_is_ordinary_and_its_settings_are_the_durable_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let url = format!("sqlite:{}", path.display());
        let store = open(&url, OpenOptions::default()).await.unwrap();
        write(&store).await.unwrap();
        let reader = rusqlite::Connection::open_with_flags(
            &path,
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
        )
        .unwrap();
        let mode: String = reader
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
        let rows: u32 = reader
            .query_row("SELECT count(*) FROM kv_entry", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 1);
        store.close().await.unwrap();
    }
}

#[cfg(feature = "sql")]
mod sql {
    use kvasir_testkit::databases::Shared;

    use super::*;

    /// `scheme://user:password@host:port/name` with one part replaced.
    fn with_user(url: &str, user: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (_, rest) = rest.split_once('@').unwrap();
        format!("{scheme}://{user}@{rest}")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_unreachable_host_is_named_with_what_to_do() {
        for scheme in ["mysql", "postgres"] {
            let url = format!("{scheme}://kv:sesame@127.0.0.1:1/kv");
            check(&url, 6, &["127.0.0.1:1", "check that it runs"]).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn mariadb_tells_what_is_wrong() {
        let Some(server) = Shared::mariadb() else {
            return;
        };
        let url = server.fresh_url();
        let name = url.rsplit('/').next().unwrap().to_owned();

        check(
            &with_user(&url, "kv:sesame"),
            4,
            &["Access denied", "user name and password"],
        )
        .await;
        let missing = url.replace(&name, "nowhere");
        check(
            &missing,
            1,
            &["no database of that name", "CREATE DATABASE nowhere"],
        )
        .await;

        let user = format!("reader_{}", std::process::id());
        server
            .run(&format!(
                "CREATE OR REPLACE USER {user}@'%' IDENTIFIED BY 'sesame'; GRANT SELECT ON {name}.* TO {user}@'%'"
            ))
            .unwrap();
        let reader = with_user(&url, &format!("{user}:sesame"));
        check(&reader, 4, &["denied", "GRANT SELECT, INSERT"]).await;

        server
            .run(&format!(
                "CREATE TABLE {name}.kv_entry (id INT PRIMARY KEY)"
            ))
            .unwrap();
        check(&url, 1, &["foreign tables", "a database of its own"]).await;

        let url = server.fresh_url();
        let name = url.rsplit('/').next().unwrap().to_owned();
        let store = open(&url, OpenOptions::default()).await.unwrap();
        store.close().await.unwrap();
        server
            .run(&format!("UPDATE {name}.kv_schema SET version = 99"))
            .unwrap();
        check(&url, 1, &["has format 99"]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres_tells_what_is_wrong() {
        let Some(server) = Shared::postgres() else {
            return;
        };
        let url = server.fresh_url();
        let name = url.rsplit('/').next().unwrap().to_owned();
        let missing = url.replace(&name, "nowhere");
        check(
            &missing,
            1,
            &["no database of that name", "CREATE DATABASE nowhere"],
        )
        .await;

        check(
            &with_user(&url, "nobody:sesame"),
            4,
            &["nobody", "user name and password"],
        )
        .await;
        let user = format!("reader_{}", std::process::id());
        server.run(&format!("CREATE USER {user}")).unwrap();
        check(
            &with_user(&url, &user),
            4,
            &["permission denied", "GRANT ALL ON SCHEMA"],
        )
        .await;

        server
            .run(&format!(
                "ALTER DATABASE {name} SET default_transaction_read_only = on"
            ))
            .unwrap();
        check(&url, 1, &["read-only", "primary"]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_packet_limit_below_the_largest_value_is_refused_before_anything_is_lost() {
        let Some(server) = Shared::mariadb() else {
            return;
        };
        // The server takes 64 MiB, so only a limit beyond all sense is too large for it.
        let options = OpenOptions {
            limits: Limits {
                value_bytes_max: 64 * 1024 * 1024,
            },
            ..OpenOptions::default()
        };
        let Err(error) = open(&server.fresh_url(), options).await else {
            panic!("it opened")
        };
        assert!(sentence(&error).contains("max_allowed_packet"), "{error}");
        assert_eq!(error.exit_code(), 1);
    }
}

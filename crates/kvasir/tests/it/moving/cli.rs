//! `kvasir import kopano|classworks` and `kvasir copy` as commands: what they print and how they end.

use kvasir_testkit::server::http_client;
use serde_json::Value;

use super::*;
use crate::{options, run};

/// A command that has to end with this code; its answer.
async fn ends(code: i32, args: &[&str]) -> (String, String) {
    let (found, out, err) = run(args, &[]).await;
    assert_eq!(found, code, "{args:?}: {out}{err}");
    (out, err)
}

/// The report of a command with `--json`.
async fn report(code: i32, args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.push("--json");
    let (out, _) = ends(code, &args).await;
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn number(report: &Value, name: &str) -> u64 {
    report[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Lines of JSON on standard error, the last of which tells the end.
fn check_progress(err: &str, unit: &str, total: u64) {
    let lines: Vec<Value> = err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        assert_eq!(line["unit"], unit, "{err}");
        assert!(line["done"].as_u64().unwrap() <= total, "{err}");
    }
    let last = lines.last().expect("there is a last line");
    assert_eq!(last["done"], total, "{err}");
}

/// Dry run, import, import again: into a store of each kind.
async fn check_import(kind: &str, source: &[&str], rows: u64, written: u64, code: i32) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut stores = vec![
        format!("sqlite:{}", path("s.db")),
        format!("embedded:{}", path("folder")),
    ];
    stores.extend(Shared::mariadb().map(Shared::fresh_url));
    stores.extend(Shared::postgres().map(Shared::fresh_url));
    for store in &stores {
        let with = |more: &[&'static str]| {
            let common = ["import", kind];
            let store = ["--store", store.as_str()];
            [&common[..], source, &store[..], more].concat()
        };
        let dry = with(&["--dry-run"]);
        let seen = report(code, &dry).await;
        assert_eq!(
            (number(&seen, "rows"), number(&seen, "written")),
            (rows, written)
        );
        assert_eq!(seen["dry_run"], true);

        let (out, err) = ends(code, &with(&["--progress=json"])).await;
        assert!(out.contains(&format!("wrote {written} entries")), "{out}");
        assert!(
            out.contains(&format!("compared {written} entries")),
            "{out}"
        );
        assert!(out.contains("0 differ"), "{out}");
        if code == 0 {
            check_progress(&err, "rows", rows);
        }

        let seen = report(code, &with(&[])).await;
        assert_eq!(
            (number(&seen, "written"), number(&seen, "skipped")),
            (0, written)
        );
        assert_eq!(number(&seen, "differing"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kopano_is_imported_from_its_sqlite_file_by_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let source = kopano_file(folder.path()).display().to_string();
    check_import("kopano", &[&source], 9, 8, 0).await;
    let as_uri = format!("file:{source}?_busy_timeout=1000");
    check_import("kopano", &[&as_uri, "--driver", "sqlite3"], 9, 8, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kopano_is_imported_from_its_mysql_database_by_the_command() {
    let Some(server) = Shared::mariadb() else {
        return;
    };
    let url = kopano_mysql(server);
    check_import("kopano", &[&url], 9, 8, 0).await;
    let (host, name) = url.split_once('@').unwrap().1.split_once('/').unwrap();
    let dsn = format!("kv:kv@tcp({host})/{name}?timeout=5s&readTimeout=10s");
    check_import("kopano", &[&dsn, "--driver", "mysql"], 9, 8, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classworks_is_imported_from_each_of_its_databases_by_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let source = classworks_file(folder.path()).display().to_string();
    // One value is no JSON: left out, and told.
    check_import("classworks", &[&source], 6, 4, 7).await;
    if let Some(server) = Shared::postgres() {
        check_import("classworks", &[&classworks_postgres(server)], 4, 4, 0).await;
    }
    if let Some(server) = Shared::mariadb() {
        check_import("classworks", &[&classworks_mysql(server)], 4, 4, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_imported_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let source = classworks_file(folder.path()).display().to_string();
    let store = format!("sqlite:{}", folder.path().join("s.db").display());
    ends(7, &["import", "classworks", &source, "--store", &store]).await;
    let server = options().arg("--store").arg(&store).start().await;
    let url = server.url("/classworks/class%201/%E4%BD%9C%E4%B8%9A");
    let value = http_client().get(url).send().await.unwrap();
    assert_eq!(value.text().await.unwrap(), "[1]");
    // A private namespace asks for the password that it had before.
    let url = server.url(&format!("/classworks/{NAMESPACE}/config"));
    let value = http_client().get(url).send().await.unwrap();
    assert!(
        matches!(value.status().as_u16(), 401 | 403),
        "{}",
        value.status()
    );
    // The store is the server's as long as that runs.
    let (_, err) = ends(1, &["import", "classworks", &source, "--store", &store]).await;
    assert!(err.contains("is in use"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_of_all_kinds_are_copied_by_the_command_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let source = kopano_file(folder.path()).display().to_string();
    let first = format!("sqlite:{}", path("first.db"));
    ends(0, &["import", "kopano", &source, "--store", &first]).await;

    let mut urls = vec![first, format!("embedded:{}", path("folder"))];
    urls.extend(Shared::mariadb().map(Shared::fresh_url));
    urls.extend(Shared::galera().map(Shared::fresh_url));
    urls.extend(Shared::postgres().map(Shared::fresh_url));
    urls.push(format!("sqlite:{}", path("last.db")));
    let mut hashes = Vec::new();
    for pair in urls.windows(2) {
        let copy = ["copy", "--from", &pair[0], "--to", &pair[1]];
        let dry = report(0, &[&copy[..], &["--dry-run"]].concat()).await;
        let entries = number(&dry, "entries");
        assert!(entries > 8);
        assert_eq!(number(&dry, "written"), entries);
        assert_eq!(dry["verified"], false);

        let (out, err) = ends(0, &[&copy[..], &["--progress=json"]].concat()).await;
        assert!(
            out.contains(&format!("wrote {entries} of {entries} entries")),
            "{out}"
        );
        assert!(
            out.contains("verified by reading the target again"),
            "{out}"
        );
        check_progress(&err, "entries", entries);

        let again = report(0, &copy).await;
        assert_eq!(
            (number(&again, "written"), number(&again, "same")),
            (0, entries)
        );
        assert_eq!(again["verified"], true);
        assert_eq!(again["one_snapshot"], true, "{pair:?}");
        hashes.push(again["content_hash"].clone());
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "the content changed on the way");
    // Round, and nothing is to do.
    let (first, last) = (&urls[0], urls.last().unwrap());
    let back = report(0, &["copy", "--from", last, "--to", first]).await;
    assert_eq!(number(&back, "written"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_of_the_moving_verbs_is_told_with_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("s.db").display());
    let dump = folder.path().join("kvs.sql");
    std::fs::write(&dump, "-- MySQL dump 10.13\nCREATE TABLE kv (id INT);\n").unwrap();
    let dump = dump.display().to_string();
    let other = folder.path().join("other.db");
    let connection = Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE other (a)").unwrap();
    let other = other.display().to_string();
    let away = "mysql://u:sesame@127.0.0.1:1/d";
    let mut cases = vec![
        (2, "copy --from memory: --to memory:", "name the same store"),
        (2, "copy --from redis://h/ --to memory:", "redis"),
        (
            6,
            "copy --from mysql://u:sesame@127.0.0.1:1/d --to memory:",
            "check that it runs",
        ),
        (
            2,
            "import kopano x --driver oracle",
            "expected sqlite3 or mysql",
        ),
        (2, "import kopano u@tcp(h/d --driver mysql", "closing )"),
        (1, "import kopano /no/such/file.db", "there is no such file"),
        (2, "import classworks redis://h/", "is not a source"),
    ]
    .into_iter()
    .map(|(code, line, word)| (code, line.to_owned(), word))
    .collect::<Vec<_>>();
    cases.push((6, format!("import kopano {away}"), "check that it runs"));
    cases.push((6, format!("import classworks {away}"), "check that it runs"));
    cases.push((
        1,
        format!("import kopano {dump}"),
        "load it into a database server",
    ));
    cases.push((
        1,
        format!("import classworks {dump}"),
        "load it into a database server",
    ));
    cases.push((1, format!("import kopano {other}"), "no table kv"));
    if let Some(server) = Shared::mariadb() {
        let url = server.fresh_url().replace("kv:kv@", "kv:sesame@");
        cases.push((
            4,
            format!("import kopano {url}"),
            "check user name and password",
        ));
        let url = server.fresh_url();
        cases.push((1, format!("import kopano {url}"), "no table kv"));
    }
    for (code, line, word) in cases {
        let mut args: Vec<&str> = line.split(' ').collect();
        if args[0] == "import" {
            args.extend_from_slice(&["--store", &store]);
        }
        let (_, err) = ends(code, &args).await;
        assert!(err.contains(word), "{word} is not in: {err}");
        assert!(!err.contains("sesame"), "a password is shown: {err}");
    }
}

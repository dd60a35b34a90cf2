//! Databases through the command: made, listed, removed, moved out as JSON lines and in again.

mod csv;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, eventually, within};
use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::{KVASIR, run, server};

async fn on(server: &TestServer, args: &[&str]) -> (i32, String, String) {
    run(args, &[("KVASIR_SERVER", &server.url(""))]).await
}

/// Runs a verb that must succeed, and returns its standard error.
async fn done(server: &TestServer, args: &[&str]) -> String {
    let (code, _, err) = on(server, args).await;
    assert_eq!(code, 0, "{args:?}: {err}");
    err
}

async fn call(server: &TestServer, method: &str, path: &str, body: Json) -> Json {
    let request = http_client().request(method.parse().unwrap(), server.url(path));
    let answer = request.json(&body).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{method} {path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

async fn export(server: &TestServer, db: &str) -> String {
    let (code, out, err) = on(server, &["export", "-", "--db", db]).await;
    assert_eq!(code, 0, "{err}");
    out
}

#[tokio::test]
async fn databases_are_made_listed_and_removed_on_a_server_and_on_its_folder() {
    let mut server = server().await;
    let data = server.data().to_string_lossy().into_owned();
    for place in ["running", "stopped"] {
        let target = ["--data", data.as_str()];
        let verb = |args: &[&str]| {
            let all: Vec<String> = args
                .iter()
                .chain(&target)
                .map(ToString::to_string)
                .collect();
            async move {
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                run(&all, &[]).await
            }
        };
        assert_eq!(verb(&["db", "create", "shop"]).await.0, 0, "{place}");
        assert_eq!(verb(&["db", "create", "shop"]).await.0, 0, "again, {place}");
        let (code, out, _) = verb(&["db", "create", "other", "--json"]).await;
        let made: Json = serde_json::from_str(&out).unwrap();
        assert_eq!((code, made["name"].as_str()), (0, Some("other")));
        assert_eq!(verb(&["db", "create", "No Name"]).await.0, 2);
        let (_, out, _) = verb(&["db", "ls"]).await;
        let names: Vec<_> = out.lines().map(|line| line.split('\t').next()).collect();
        assert!(names.contains(&Some("other")) && names.contains(&Some("shop")));

        let lines = server.scratch().join("shop.jsonl");
        let entry =
            r#"{"key":[{"type":"string","value":"a"}],"value":{"type":"number","value":1}}"#;
        let message = r#"{"message":{"payload":"/w9JAg==","dueMs":0}}"#;
        std::fs::write(&lines, format!("{entry}\n{message}\n")).unwrap();
        let lines = lines.to_string_lossy();
        let (code, _, err) = verb(&["import", &lines, "--db", "shop"]).await;
        assert_eq!(code, 0, "{err}");
        assert_eq!(verb(&["db", "rm", "nothing"]).await.0, 3);
        let (code, _, err) = verb(&["db", "rm", "shop"]).await;
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("1 keys and 1 messages"), "{err}");
        assert!(err.contains("--yes"), "{err}");
        let (code, out, _) = verb(&["db", "rm", "shop", "--dry-run", "--json"]).await;
        let would: Json = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (&would["entries"], &would["messages"]),
            (&json!(1), &json!(1))
        );
        assert_eq!((code, would["sample"].as_array().unwrap().len()), (0, 1));
        let (_, out, _) = verb(&["export", "-", "--db", "shop"]).await;
        assert_eq!(out.lines().count(), 2, "nothing went: {out}");

        let (code, out, _) = verb(&["db", "rm", "shop", "--yes"]).await;
        assert_eq!(code, 0);
        assert!(out.starts_with("removed shop and 1 entries from "), "{out}");
        let (_, out, _) = verb(&["export", "-", "--db", "shop"]).await;
        assert_eq!(out, "");
        assert_eq!(verb(&["db", "rm", "shop", "--yes"]).await.0, 3);
        assert_eq!(
            verb(&["db", "rm", "other"]).await.0,
            0,
            "an empty one needs no --yes"
        );
        if place == "running" {
            server.terminate().await;
        }
    }
}

#[tokio::test]
async fn an_export_holds_entries_and_messages_and_is_the_same_after_it_was_imported() {
    let server = server().await;
    for n in 0..3 {
        let value = json!({"value": {"n": n, "text": "ž"}});
        call(&server, "PUT", &format!("/kv/users.{n}"), value).await;
    }
    for n in 0..250 {
        let message = json!({"value": n, "delayMs": 3_600_000, "undelivered": [["dead"]]});
        call(&server, "POST", "/queue/default", message).await;
    }
    call(
        &server,
        "POST",
        "/queue/default",
        json!({"value": "leased"}),
    )
    .await;
    let pulled = call(&server, "POST", "/queue/default/pull", json!({})).await;
    assert_eq!(pulled["messages"][0]["value"], "leased");

    let out = export(&server, "default").await;
    assert_eq!(out.lines().count(), 3 + 251);
    let file = server.scratch().join("default.jsonl");
    std::fs::write(&file, &out).unwrap();
    let file = file.to_string_lossy();
    let err = done(&server, &["import", &file, "--db", "copy"]).await;
    assert!(err.contains("imported 3 entries"), "{err}");
    assert!(err.contains("enqueued 251 messages, left 0"), "{err}");
    let err = done(&server, &["import", &file, "--db", "copy"]).await;
    assert!(err.contains("enqueued 0 messages, left 251"), "{err}");
    assert_eq!(export(&server, "copy").await, out);

    let (_, entries, _) = on(&server, &["export", "-", "--no-queue"]).await;
    assert_eq!(entries.lines().count(), 3);
    // What was being handled there waits here.
    let pulled = call(&server, "POST", "/queue/copy/pull", json!({})).await;
    assert_eq!(pulled["messages"][0]["value"], "leased");
    assert_eq!(pulled["messages"][0]["attempt"], 2);
}

/// JavaScript keeps the order of members, and so does an object's V8 form.
#[tokio::test]
async fn members_of_objects_keep_their_order_through_import_and_export() {
    let server = server().await;
    let line = r#"{"key":[{"type":"string","value":"a"}],"value":{"type":"json_object","value":{"z":{"type":"number","value":1},"a":{"type":"number","value":2}}},"versionstamp":"00060a24181e40000003"}"#;
    let file = server.scratch().join("order.jsonl");
    std::fs::write(&file, format!("{line}\n")).unwrap();
    done(&server, &["import", &file.to_string_lossy()]).await;
    assert_eq!(export(&server, "default").await, format!("{line}\n"));
}

#[tokio::test]
async fn an_export_that_was_cut_off_anywhere_goes_on_to_the_same_end() {
    let server = server().await;
    for n in 0..5 {
        call(&server, "PUT", &format!("/kv/k.{n}"), json!({"value": n})).await;
        let message = json!({"value": n, "delayMs": 3_600_000});
        call(&server, "POST", "/queue/default", message).await;
    }
    let whole = export(&server, "default").await;
    let file = server.scratch().join("cut.jsonl");
    let name = file.to_string_lossy().into_owned();
    let (code, _, _) = on(&server, &["export", &name]).await;
    assert_eq!(code, 0);
    assert_eq!(on(&server, &["export", &name]).await.0, 1, "it is there");
    for cut in [
        0,
        1,
        whole.len() / 4,
        whole.len() / 2,
        whole.len() - 1,
        whole.len(),
    ] {
        std::fs::write(&file, &whole.as_bytes()[..cut]).unwrap();
        done(&server, &["export", &name, "--resume"]).await;
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            whole,
            "cut at {cut}"
        );
    }
}

#[tokio::test]
async fn progress_is_shown_as_json_lines_and_not_at_all_in_a_pipe() {
    let server = server().await;
    call(&server, "PUT", "/kv/a", json!({"value": 1})).await;
    let file = server.scratch().join("a.jsonl");
    let name = file.to_string_lossy().into_owned();
    let err = done(&server, &["export", &name, "--progress=json"]).await;
    let last = |err: &str| -> Json {
        let mut lines = err
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines.next_back().expect("a line of JSON")
    };
    assert_eq!(
        last(&err),
        json!({"done": 1, "total": null, "unit": "entries"})
    );
    let bytes = std::fs::metadata(&file).unwrap().len();
    let err = done(&server, &["import", &name, "--db", "b", "--progress=json"]).await;
    assert_eq!(
        last(&err),
        json!({"done": bytes, "total": bytes, "unit": "bytes"})
    );
    for show in ["auto", "never"] {
        let err = done(&server, &["import", &name, "--db", "b", "--progress", show]).await;
        assert_eq!(err, "imported 1 entries into b, left 0 alone\n");
    }
}

/// Lines with versionstamps, and messages behind them.
fn many_lines(entries: usize, messages: usize) -> String {
    let mut text = String::new();
    for n in 0..entries {
        let text_of = "x".repeat(n % 300);
        writeln!(
            text,
            r#"{{"key":[{{"type":"string","value":"k"}},{{"type":"number","value":{n}}}],"value":{{"type":"string","value":"{text_of}"}},"versionstamp":"{:016x}0000"}}"#,
            1_700_000_000_000_000 + n
        )
        .unwrap();
    }
    for n in 0..messages {
        let message =
            r#""payload":"/w9JAg==","encoding":"v8","dueMs":4102444800000,"backoffMs":[1]"#;
        writeln!(text, r#"{{"message":{{"id":"{n:032x}",{message}}}}}"#).unwrap();
    }
    text
}

#[tokio::test]
async fn an_import_that_was_killed_and_started_again_equals_an_uninterrupted_one() {
    let server = server().await;
    let file = server.scratch().join("many.jsonl");
    std::fs::write(&file, many_lines(8_000, 1_500)).unwrap();
    let name = file.to_string_lossy().into_owned();
    done(&server, &["import", &name, "--db", "whole"]).await;
    let whole = export(&server, "whole").await;
    assert_eq!(whole.lines().count(), 9_500);

    let journal = server.scratch().join("many.jsonl.kvasir-import");
    let place = || -> u64 {
        let text = std::fs::read(&journal).unwrap_or_default();
        let read: Json = serde_json::from_slice(&text).unwrap_or_default();
        read["line"].as_u64().unwrap_or_default()
    };
    let mut kills = 0;
    for at_least in [1, 2_000, 6_000, 8_600] {
        let mut child = tokio::process::Command::new(KVASIR)
            .args(["import", &name, "--db", "killed"])
            .env_clear()
            .env("KVASIR_SERVER", server.url(""))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ended = eventually(DEADLINE, "the import comes far enough", || {
            let ended = child.try_wait().unwrap();
            let is_far = place() >= at_least;
            async move { (is_far || ended.is_some()).then_some(ended.is_some()) }
        });
        if !ended.await {
            child.kill().await.unwrap();
            kills += 1;
        }
    }
    assert!(kills >= 2, "only {kills} kills hit");
    done(&server, &["import", &name, "--db", "killed"]).await;
    assert_eq!(export(&server, "killed").await, whole);
    assert!(!journal.exists(), "nothing is left beside the file");
}

/// A file as denokv writes it, with one waiting message and one being handled.
pub(crate) fn denokv_file(path: &Path, entries: u32) {
    let mut file = Connection::open(path).unwrap();
    file.execute_batch(
        "CREATE TABLE migration_state (k integer not null primary key, version integer not null);
         INSERT INTO migration_state VALUES (0, 3);
         CREATE TABLE data_version (k integer primary key, version integer, seq integer default 0);
         INSERT INTO data_version VALUES (0, 12345, 0);
         CREATE TABLE kv (k blob primary key, v blob not null, v_encoding integer not null,
             version integer not null, seq integer not null default 0,
             expiration_ms integer not null default -1) without rowid;
         CREATE TABLE queue (ts integer not null, id text not null, data blob not null,
             backoff_schedule text not null, keys_if_undelivered blob not null, primary key (ts, id));
         CREATE TABLE queue_running (deadline integer not null, id text not null,
             data blob not null, backoff_schedule text not null,
             keys_if_undelivered blob not null, primary key (deadline, id));
         INSERT INTO queue VALUES (5, 'id-a', x'ff0f4902', '[100]', '[[2,97,0]]');
         INSERT INTO queue_running VALUES (9, 'id-b', x'ff0f4904', 'null', '[]');
         INSERT INTO kv VALUES (x'', x'01', 3, 1, 0, -1);",
    )
    .unwrap();
    let transaction = file.transaction().unwrap();
    for n in 0..entries {
        let key = format!("\u{2}{n:08}\0");
        let row = (key.as_bytes(), vec![7; (n % 50) as usize], 10 + n);
        let insert = "INSERT INTO kv (k, v, v_encoding, version) VALUES (?1, ?2, 3, ?3)";
        transaction.execute(insert, row).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_denokv_file_may_be_imported_again_and_again() {
    let server = server().await;
    let file = server.scratch().join("kv.sqlite3");
    denokv_file(&file, 20);
    let name = file.to_string_lossy().into_owned();
    let err = done(&server, &["import", "denokv", &name, "--db", "shop"]).await;
    assert!(err.contains("imported 21 entries"), "{err}");
    assert!(err.contains("enqueued 2 messages"), "{err}");
    let once = export(&server, "shop").await;
    let err = done(&server, &["import", "denokv", &name, "--db", "shop"]).await;
    assert!(err.contains("enqueued 0 messages, left 2"), "{err}");
    assert_eq!(export(&server, "shop").await, once);

    // Also once they were delivered.
    let pulled = call(&server, "POST", "/queue/shop/pull", json!({"max": 10})).await;
    let values: Vec<_> = pulled["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["value"])
        .collect();
    assert_eq!(values, [&json!(1), &json!(2)]);
    for message in pulled["messages"].as_array().unwrap() {
        let receipts = json!({"receipts": [message["receipt"]]});
        let done = call(&server, "POST", "/queue/shop/ack", receipts).await;
        assert_eq!(done["done"], json!([true]));
    }
    done(&server, &["import", "denokv", &name, "--db", "shop"]).await;
    let pulled = call(&server, "POST", "/queue/shop/pull", json!({"max": 10})).await;
    assert_eq!(pulled["messages"], json!([]));
}

#[tokio::test]
async fn a_killed_import_of_a_denokv_file_goes_on_to_the_same_end() {
    let server = server().await;
    let file = server.scratch().join("kv.sqlite3");
    denokv_file(&file, 6_000);
    let name = file.to_string_lossy().into_owned();
    done(&server, &["import", "denokv", &name, "--db", "whole"]).await;
    let whole = without_ids(&export(&server, "whole").await);
    assert_eq!(whole.lines().count(), 6_003);

    let journal = server.scratch().join("kv.sqlite3.kvasir-import");
    let mut child = tokio::process::Command::new(KVASIR)
        .args(["import", "denokv", &name, "--db", "killed"])
        .env_clear()
        .env("KVASIR_SERVER", server.url(""))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually(DEADLINE, "the import is under way", || {
        let is_far = journal.exists();
        async move { is_far.then_some(()) }
    })
    .await;
    child.kill().await.unwrap();
    assert!(journal.exists(), "it was killed before its end");
    let err = done(&server, &["import", "denokv", &name, "--db", "killed"]).await;
    assert!(err.contains("going on"), "{err}");
    assert_eq!(without_ids(&export(&server, "killed").await), whole);
    assert!(!journal.exists());
}

/// Messages that were being handled are due when they came in, which differs.
fn without_ids(export: &str) -> String {
    let plain = |line: &str| match serde_json::from_str::<Json>(line).unwrap() {
        mut json if json["message"].is_object() => {
            json["message"]["dueMs"] = Json::Null;
            json.to_string()
        }
        json => json.to_string(),
    };
    export.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// Runs a verb and returns the most memory it ever had, in KiB.
async fn peak_kib(server: &TestServer, args: &[&str]) -> u64 {
    let mut child = tokio::process::Command::new(KVASIR)
        .args(args)
        .env_clear()
        .env("KVASIR_SERVER", server.url(""))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut peak = 0;
    let ended = eventually(DEADLINE * 20, "the command ends", || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = kib.unwrap_or(0).max(peak);
        let ended = child.try_wait().unwrap();
        async move { ended }
    });
    let ended = within(DEADLINE * 20, "the command ends", ended).await;
    assert!(ended.success(), "{args:?}");
    peak
}

/// The specification allows 64 MiB for any size.
const EXTRA_KIB_MAX: u64 = 64 * 1024;

#[tokio::test]
async fn memory_does_not_grow_with_what_is_moved() {
    let server = server().await;
    let (small, large) = (
        server.scratch().join("small"),
        server.scratch().join("large"),
    );
    std::fs::write(&small, many_lines(1, 0)).unwrap();
    // 100 MiB of lines, of half a mebibyte each.
    let value = "QUJD".repeat(128 * 1024);
    {
        use std::io::Write as _;
        let mut file = std::io::BufWriter::new(std::fs::File::create(&large).unwrap());
        for n in 0..kvasir_testkit::effort::Effort::from_env().times(200) {
            let key = format!(r#"[{{"type":"number","value":{n}}}]"#);
            writeln!(
                file,
                r#"{{"key":{key},"raw":"{value}","encoding":"bytes"}}"#
            )
            .unwrap();
        }
        file.flush().unwrap();
    }
    let base = peak_kib(
        &server,
        &["import", small.to_str().unwrap(), "--db", "small"],
    )
    .await;
    let import = peak_kib(
        &server,
        &["import", large.to_str().unwrap(), "--db", "large"],
    )
    .await;
    let out = server.scratch().join("out");
    let export = peak_kib(&server, &["export", out.to_str().unwrap(), "--db", "large"]).await;
    println!("peaks in KiB: nothing {base}, import {import}, export {export}");
    assert!(
        import < base + EXTRA_KIB_MAX,
        "import: {import} KiB, {base} for nothing"
    );
    assert!(
        export < base + EXTRA_KIB_MAX,
        "export: {export} KiB, {base} for nothing"
    );
    assert!(std::fs::metadata(&out).unwrap().len() > 100 << 20);
}

#[tokio::test]
async fn an_export_is_by_prefix_keyspace_or_all_and_in_three_forms() {
    let server = server().await;
    for (key, value) in [
        ("users.ada", json!({"n": 1})),
        ("users.bob", json!("x, \"y\"")),
        ("z", json!(3)),
    ] {
        call(
            &server,
            "PUT",
            &format!("/kv/{key}"),
            json!({ "value": value }),
        )
        .await;
    }
    let namespace = "0b9a9d3e-1c2f-4a5b-8c6d-7e8f9a0b1c2d";
    let put = http_client().post(server.url(&format!("/{namespace}/timetable")));
    assert!(
        put.json(&json!({"mon": []}))
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );

    let users = ["export", "-", "--prefix", r#"["users"]"#];
    let (code, out, err) = on(&server, &users).await;
    assert_eq!((code, out.lines().count()), (0, 2), "{err}");
    let (_, out, _) = on(&server, &[&users[..], &["--format", "csv"]].concat()).await;
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "key,value,versionstamp,expiresAt");
    assert!(
        lines[1].starts_with(r#""[""users"",""ada""]","{""n"":1}",0"#),
        "{}",
        lines[1]
    );
    assert!(
        lines[2].starts_with(r#""[""users"",""bob""]","""x, \""y\""""",0"#),
        "{}",
        lines[2]
    );
    let (_, out, _) = on(&server, &[&users[..], &["--format", "raw"]].concat()).await;
    assert_eq!(out, "{\"n\":1}\n\"x, \\\"y\\\"\"\n");
    let (code, _, err) = on(&server, &["export", "-", "--prefix", "users"]).await;
    assert_eq!(code, 2, "{err}");

    let (_, all, _) = on(&server, &["export", "-", "--all"]).await;
    let keyspaces: std::collections::BTreeSet<_> = all
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap()["keyspace"].to_string())
        .collect();
    let keyspaces: Vec<_> = keyspaces.into_iter().collect();
    assert_eq!(
        keyspaces,
        ["\"classworks\"", "\"default\""],
        "no tokens, no queues"
    );

    // Elsewhere each entry comes back into its own keyspace.
    let other = crate::server().await;
    let file = server.scratch().join("all.jsonl");
    std::fs::write(&file, &all).unwrap();
    done(&other, &["import", &file.to_string_lossy()]).await;
    let (_, again, _) = on(&other, &["export", "-", "--all"]).await;
    assert_eq!(again, all);
    let got = http_client()
        .get(other.url(&format!("/{namespace}/timetable")))
        .send()
        .await;
    assert_eq!(
        got.unwrap().json::<Json>().await.unwrap(),
        json!({"mon": []})
    );
}

#[tokio::test]
async fn an_import_keeps_to_its_rule_its_rate_and_to_nothing_when_it_is_dry() {
    let server = server().await;
    let file = server.scratch().join("a.jsonl");
    let name = file.to_string_lossy().into_owned();
    std::fs::write(&file, many_lines(30, 1)).unwrap();
    let (code, _, err) = on(&server, &["import", &name, "--db", "x", "--dry-run"]).await;
    assert_eq!(code, 0);
    assert!(
        err.contains("would write 30 entries and 1 messages"),
        "{err}"
    );
    assert_eq!(export(&server, "x").await, "");
    let begun = std::time::Instant::now();
    done(&server, &["import", &name, "--db", "x", "--rate", "60"]).await;
    assert!(begun.elapsed().as_millis() >= 500, "31 at 60 a second");
    let whole = export(&server, "x").await;
    // The same again is no conflict.
    done(
        &server,
        &["import", &name, "--db", "x", "--conflict", "fail"],
    )
    .await;

    call(&server, "POST", "/_/api/v1/databases/x/entries", json!({"entries": [
        {"key": [{"type": "string", "value": "k"}, {"type": "number", "value": 3}], "value": {"type": "null", "value": null}},
    ]}))
    .await;
    let changed = export(&server, "x").await;
    let (code, _, err) = on(
        &server,
        &["import", &name, "--db", "x", "--conflict", "fail"],
    )
    .await;
    assert_eq!(code, 5, "{err}");
    for rule in ["skip", "newer"] {
        let err = done(&server, &["import", &name, "--db", "x", "--conflict", rule]).await;
        assert!(
            err.contains("left 30 alone") || err.contains("left 1 alone"),
            "{rule}: {err}"
        );
        assert_eq!(export(&server, "x").await, changed, "{rule}");
    }
    done(
        &server,
        &["import", &name, "--db", "x", "--conflict", "replace"],
    )
    .await;
    assert_eq!(export(&server, "x").await, whole);
}

//! CSV out and in again: what it keeps, what it loses, wrong rows, kills, rules.

use super::*;

async fn export_csv(server: &TestServer, db: &str) -> String {
    let (code, out, err) = on(server, &["export", "-", "--db", db, "--format", "csv"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("only jsonl restores every entry"), "{err}");
    out
}

fn write(server: &TestServer, name: &str, text: &str) -> String {
    let file = server.scratch().join(name);
    std::fs::write(&file, text).unwrap();
    file.to_string_lossy().into_owned()
}

#[tokio::test]
async fn csv_comes_back_as_it_was_exported_but_for_encodings_and_what_is_beside_values() {
    let server = server().await;
    let stamp = r#""versionstamp":"00060a24181e40000003""#;
    let lines = [
        format!(
            r#"{{"key":[{{"type":"string","value":"json"}}],"encoding":"json","value":{{"type":"json_object","value":{{"z":{{"type":"number","value":1}}}}}},"expiresAt":4102444800000,{stamp}}}"#
        ),
        format!(
            r#"{{"key":[{{"type":"string","value":"text, \"quoted\"\nand broken"}}],"encoding":"json","value":{{"type":"string","value":"a,\"b\"\n"}},{stamp}}}"#
        ),
        format!(
            r#"{{"key":[{{"type":"number","value":1.5}},{{"type":"bigint","value":"12"}},{{"type":"boolean","value":true}}],"value":{{"type":"bigint","value":"12345678901234567890"}},{stamp}}}"#
        ),
        format!(
            r#"{{"key":[{{"type":"string","value":"u64"}}],"value":{{"type":"KvU64","value":"7"}},{stamp}}}"#
        ),
        format!(
            r#"{{"key":[{{"type":"string","value":"bytes"}}],"value":{{"type":"Uint8Array","value":"AP8="}},{stamp}}}"#
        ),
        format!(
            r#"{{"key":[{{"type":"string","value":"v8"}}],"value":{{"type":"number","value":1}},"meta":{{"contentType":"text/plain"}},{stamp}}}"#
        ),
    ];
    let file = write(&server, "all.jsonl", &lines.join("\n"));
    done(&server, &["import", &file]).await;
    let whole = export(&server, "default").await;
    let csv = export_csv(&server, "default").await;
    assert!(
        csv.starts_with("key,value,versionstamp,expiresAt\n"),
        "{csv}"
    );
    let file = write(&server, "all.csv", &csv);
    let err = done(&server, &["import", &file, "--db", "copy"]).await;
    assert!(err.contains("imported 6 entries into copy"), "{err}");
    assert_eq!(
        export_csv(&server, "copy").await,
        csv,
        "CSV loses nothing of CSV"
    );
    // Of the whole, only the plain V8 number is another thing: JSON, and nothing beside it.
    let again = export(&server, "copy").await;
    let differing: Vec<_> = whole
        .lines()
        .zip(again.lines())
        .filter(|(before, after)| before != after)
        .collect();
    let [(before, after)] = differing[..] else {
        panic!("{differing:?}")
    };
    assert!(before.contains("contentType") && !after.contains("contentType"));
    assert!(after.contains(r#""encoding":"json""#), "{after}");

    // Other columns in another order, without versionstamps, by another name.
    let file = write(&server, "own.txt", "value,key\r\n1,\"[\"\"a\"\"]\"\r\n");
    let args = ["import", &file, "--db", "own", "--format", "csv"];
    done(&server, &args).await;
    let own = export(&server, "own").await;
    assert!(own.contains(r#"{"type":"string","value":"a"}"#), "{own}");
}

#[tokio::test]
async fn csv_of_all_keyspaces_goes_back_into_each_of_them() {
    let server = server().await;
    call(&server, "PUT", "/kv/a", json!({"value": 1})).await;
    call(&server, "POST", "/_/api/v1/databases", json!({"name": "b"})).await;
    let entry = json!({"entries": [{"key": [{"type": "string", "value": "a"}], "encoding": "json",
        "value": {"type": "number", "value": 2}}]});
    call(&server, "POST", "/_/api/v1/databases/b/entries", entry).await;
    let all = ["export", "-", "--all", "--format", "csv"];
    let (code, csv, err) = on(&server, &all).await;
    assert_eq!(code, 0, "{err}");
    assert!(csv.starts_with("keyspace,key,value,"), "{csv}");
    let other = crate::server().await;
    let file = write(&other, "all.csv", &csv);
    done(&other, &["import", &file]).await;
    assert_eq!(on(&other, &all).await.1, csv);
}

#[tokio::test]
async fn a_wrong_line_stops_an_import_and_is_named_with_what_is_allowed() {
    let server = server().await;
    let good = r#"{"key":[{"type":"string","value":"a"}],"value":{"type":"number","value":1}}"#;
    let row = "\"[\"\"a\"\"]\",1";
    for (name, text, words) in [
        (
            "a.jsonl",
            format!("{good}\n{good}\n{{\"key\":1}}\n"),
            ["line 3 of", "a line is an object"],
        ),
        (
            "b.jsonl",
            format!("{good}\nkey,value\n"),
            ["line 2 of", "not JSON"],
        ),
        (
            "a.csv",
            format!("key,value\n{row}\nusers.a,1\n"),
            ["line 3 of", "an array of parts"],
        ),
        (
            "b.csv",
            format!("key,value\n{row}\n\"[\"\"b\"\"]\",text\n"),
            ["line 3 of", "value: JSON"],
        ),
        (
            "c.csv",
            format!("{row}\n"),
            ["line 1", "the first line names the columns"],
        ),
        (
            "d.csv",
            format!("key,value\n{row}\n\"[\"\"b\"\"]\",\"1\n"),
            ["line 3 of", "cut off"],
        ),
    ] {
        let file = write(&server, name, &text);
        let (code, _, err) = on(&server, &["import", &file, "--db", "x", "--dry-run"]).await;
        assert_eq!(code, 1, "{name}: {err}");
        for word in words {
            assert!(err.contains(word), "{name}: {word} is not in {err}");
        }
    }
}

#[tokio::test]
async fn a_csv_import_that_was_killed_and_started_again_equals_an_uninterrupted_one() {
    let server = server().await;
    let lines = write(&server, "many.jsonl", &many_lines(8_000, 0));
    done(&server, &["import", &lines]).await;
    // Rows of two lines each, so that a place in the file is no number of rows.
    let csv = export_csv(&server, "default")
        .await
        .replace("\"[\"\"", "\"[\n\"\"");
    let name = write(&server, "many.csv", &csv);
    done(&server, &["import", &name, "--db", "whole"]).await;
    let whole = export(&server, "whole").await;
    assert_eq!(whole.lines().count(), 8_000);
    let journal = server.scratch().join("many.csv.kvasir-import");
    let place = || -> u64 {
        let text = std::fs::read(&journal).unwrap_or_default();
        let read: Json = serde_json::from_slice(&text).unwrap_or_default();
        read["line"].as_u64().unwrap_or_default()
    };
    let mut kills = 0;
    for at_least in [1, 4_000, 10_000] {
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
    let err = done(&server, &["import", &name, "--db", "killed"]).await;
    assert!(err.contains("going on behind line"), "{err}");
    assert_eq!(export(&server, "killed").await, whole);
    assert!(!journal.exists(), "nothing is left beside the file");
}

#[tokio::test]
async fn a_csv_import_keeps_to_its_rule_its_rate_and_to_nothing_when_it_is_dry() {
    let server = server().await;
    let row = |n: u32, stamp: u32| format!("\"[{n}]\",{stamp},{stamp:016x}0000,\n");
    let rows = |stamp| (0..30).map(|n| row(n, stamp)).collect::<String>();
    let head = "key,value,versionstamp,expiresAt\n";
    let old = write(&server, "old.csv", &format!("{head}{}", rows(1_000)));
    let new = write(&server, "new.csv", &format!("{head}{}", rows(2_000)));
    let err = done(&server, &["import", &old, "--db", "x", "--dry-run"]).await;
    assert!(err.contains("would write 30 entries"), "{err}");
    assert_eq!(export(&server, "x").await, "");
    let begun = std::time::Instant::now();
    done(&server, &["import", &old, "--db", "x", "--rate", "60"]).await;
    assert!(begun.elapsed().as_millis() >= 450, "30 at 60 a second");
    let first = export(&server, "x").await;
    let skip = ["import", &new, "--db", "x", "--conflict", "skip"];
    assert!(done(&server, &skip).await.contains("left 30 alone"));
    let fail = ["import", &new, "--db", "x", "--conflict", "fail"];
    let (code, _, err) = on(&server, &fail).await;
    assert!(code == 5 && err.contains("lines 1 to 31"), "{err}");
    assert_eq!(export(&server, "x").await, first);
    let newer = ["import", &new, "--db", "x", "--conflict", "newer"];
    assert!(done(&server, &newer).await.contains("imported 30"));
    let second = export(&server, "x").await;
    assert_ne!(second, first);
    let newer = ["import", &old, "--db", "x", "--conflict", "newer"];
    assert!(done(&server, &newer).await.contains("left 30 alone"));
    assert_eq!(export(&server, "x").await, second);
    done(&server, &["import", &old, "--db", "x"]).await;
    assert_eq!(export(&server, "x").await, first, "replaced");
}

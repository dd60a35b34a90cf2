//! `rm --prefix` into the trash, and `trash ls|restore|empty`, through the real binary.

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, eventually};
use serde_json::{Value as Json, json};

use crate::{KVASIR, run, server};

/// Runs a verb against a server.
async fn on(server: &TestServer, args: &[&str]) -> (i32, String, String) {
    let url = server.url("");
    run(args, &[("KVASIR_SERVER", &url)]).await
}

/// Runs a verb that has to work, and gives its answer.
async fn json_of(server: &TestServer, args: &[&str]) -> Json {
    let args = [args, &["--json"]].concat();
    let (code, out, err) = on(server, &args).await;
    assert_eq!(code, 0, "{args:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

/// Stores so many small entries below a prefix.
async fn fill(server: &TestServer, prefix: &str, count: usize) {
    let all: Vec<usize> = (0..count).collect();
    for part in all.chunks(1_000) {
        let mutations = part.iter().map(
            |n| json!({"type": "set", "key": [prefix, format!("{n:06}")], "value": {"number": n}}),
        );
        let body = json!({"mutations": mutations.collect::<Vec<_>>()});
        let request = http_client().post(server.url("/kv/_atomic")).json(&body);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn what_was_removed_below_a_prefix_is_listed_and_comes_back() {
    let server = server().await;
    fill(&server, "users", 3).await;
    on(
        &server,
        &["put", "users.000001", r#"{"b": 1.50}"#, "--ttl", "1h"],
    )
    .await;
    let before = on(&server, &["ls", "users"]).await.1;

    let plan = json_of(&server, &["rm", "users", "--prefix", "--dry-run"]).await;
    assert_eq!(
        (&plan["wouldDelete"], &plan["purge"], &plan["fits"]),
        (&json!(3), &json!(false), &json!(true))
    );
    assert_eq!(
        plan["sample"],
        json!(["users.000000", "users.000001", "users.000002"])
    );
    assert_eq!(plan["server"], server.url(""));
    assert_eq!(on(&server, &["ls", "users"]).await.1, before);

    let (code, out, err) = on(&server, &["rm", "users", "--prefix", "--yes"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with("moved 3 keys below users in http://"),
        "{out}"
    );
    assert_eq!(on(&server, &["count"]).await.1, "0\n");
    let (_, out, _) = on(&server, &["trash", "ls"]).await;
    let cells: Vec<&str> = out.trim().split('\t').collect();
    assert_eq!(
        (cells[1], cells[2], cells[3], cells[5]),
        ("default", "users", "3", "local")
    );
    let id = cells[0];
    let (_, out, _) = on(&server, &["trash", "ls", id]).await;
    assert_eq!(out.lines().count(), 3);
    assert!(out.starts_with("users.000000\tjson\t"), "{out}");

    let dry = json_of(&server, &["trash", "restore", id, "--dry-run"]).await;
    assert_eq!((&dry["restored"], &dry["kept"]), (&json!(3), &json!(0)));
    assert_eq!(on(&server, &["count"]).await.1, "0\n");
    let (code, out, err) = on(&server, &["trash", "restore", "latest"]).await;
    assert_eq!(
        (code, out.as_str()),
        (0, "3 keys below users are back\n"),
        "{err}"
    );
    assert_eq!(on(&server, &["ls", "users"]).await.1, before);
    let entry = http_client()
        .get(server.url("/kv/users.000001?meta=true"))
        .send()
        .await
        .unwrap();
    let entry: Json = entry.json().await.unwrap();
    assert!(entry["expiresAt"].is_string(), "{entry}");
    assert_eq!(on(&server, &["trash", "ls"]).await.1, "");
    assert_eq!(on(&server, &["trash", "restore", "latest"]).await.0, 3);
    assert_eq!(on(&server, &["trash", "restore", id]).await.0, 3);
}

#[tokio::test]
async fn purged_keys_are_nowhere_and_prefix_flags_need_a_prefix() {
    let server = server().await;
    fill(&server, "few", 2).await;
    assert_eq!(on(&server, &["rm", "few", "--purge"]).await.0, 2);
    assert_eq!(
        on(&server, &["rm", "few", "--prefix", "--purge"]).await.0,
        2
    );
    let plan = json_of(&server, &["rm", "few", "--prefix", "--purge", "--dry-run"]).await;
    assert_eq!(
        (&plan["purge"], &plan["wouldDelete"]),
        (&json!(true), &json!(2))
    );
    let (code, out, _) = on(&server, &["rm", "few", "--prefix", "--purge", "--yes"]).await;
    assert_eq!(code, 0);
    assert!(
        out.starts_with("removed 2 keys below few in http://"),
        "{out}"
    );
    assert_eq!(on(&server, &["trash", "ls"]).await.1, "");
}

#[tokio::test]
async fn emptying_shows_a_plan_and_wants_a_word_typed_when_it_is_much() {
    let server = server().await;
    fill(&server, "many", 1_001).await;
    fill(&server, "few", 2).await;
    for prefix in ["many", "few"] {
        let args = ["rm", prefix, "--prefix", "--confirm", prefix];
        assert_eq!(on(&server, &args).await.0, 0);
    }
    let plan = json_of(&server, &["trash", "empty", "--dry-run"]).await;
    assert_eq!(plan["wouldRemove"], 1_003);
    assert_eq!(plan["sample"].as_array().unwrap().len(), 5);
    assert_eq!(plan["server"], server.url(""));
    let (code, _, err) = on(&server, &["trash", "empty"]).await;
    assert_eq!(code, 2);
    assert!(
        err.contains("1003 keys") && err.contains("--confirm everything"),
        "{err}"
    );
    assert_eq!(
        on(&server, &["trash", "empty", "--yes"]).await.0,
        2,
        "it is much"
    );
    assert_eq!(on(&server, &["trash", "empty", "latest"]).await.0, 2);
    let few = json_of(&server, &["trash", "empty", "latest", "--yes"]).await;
    assert_eq!(few["removed"], 2);
    assert_eq!(
        on(&server, &["trash", "empty", "latest", "--yes"]).await.0,
        2
    );
    let many = [
        "trash",
        "empty",
        "latest",
        "--confirm",
        "many",
        "--progress",
        "json",
    ];
    let (code, _, err) = on(&server, &many).await;
    assert_eq!(code, 0, "{err}");
    let last: Json = serde_json::from_str(err.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["done"], &last["total"]),
        (&json!(1_001), &json!(1_001))
    );
    assert_eq!(on(&server, &["trash", "ls"]).await.1, "");
    assert_eq!(json_of(&server, &["trash", "empty"]).await["removed"], 0);
}

#[tokio::test]
async fn writing_over_keys_on_the_way_back_is_agreed_to_first() {
    let server = server().await;
    fill(&server, "a", 2).await;
    on(&server, &["rm", "a", "--prefix", "--yes"]).await;
    on(&server, &["put", "a.000001", "\"new\""]).await;
    let (code, _, err) = on(&server, &["trash", "restore", "latest"]).await;
    assert_eq!(code, 5, "{err}");
    assert_eq!(on(&server, &["count"]).await.1, "1\n");
    let replace = ["trash", "restore", "latest", "--conflict", "replace"];
    let (code, _, err) = on(&server, &replace).await;
    assert_eq!(code, 2);
    assert!(err.contains("writes over 1 keys below a"), "{err}");
    assert_eq!(on(&server, &["get", "a.000001"]).await.1, "\"new\"\n");
    let skip = ["trash", "restore", "latest", "--conflict", "skip"];
    assert_eq!(
        on(&server, &skip).await.1,
        "1 keys below a are back; 1 keys hold something again\n"
    );
    let agreed = [&replace[..], &["--yes"]].concat();
    assert_eq!(on(&server, &agreed).await.0, 0);
    assert_eq!(
        on(&server, &["get", "a.000001"]).await.1,
        "{\"number\":1}\n"
    );
}

#[tokio::test]
async fn more_than_the_trash_holds_is_refused_before_anything_is_done() {
    let server = server().await;
    fill(&server, "huge", 100_001).await;
    let confirmed = ["rm", "huge", "--prefix", "--confirm", "huge"];
    let (code, _, err) = on(&server, &confirmed).await;
    assert_eq!(code, 2);
    for word in [
        "100001 keys below huge",
        "100000 keys",
        "--purge",
        "trash empty",
    ] {
        assert!(err.contains(word), "{word}: {err}");
    }
    assert_eq!(on(&server, &["count"]).await.1, "100001\n");
    let plan = json_of(&server, &["rm", "huge", "--prefix", "--dry-run"]).await;
    assert_eq!(plan["fits"], false);
    let purge = [&confirmed[..], &["--purge", "--progress", "json"]].concat();
    let (code, _, err) = on(&server, &purge).await;
    assert_eq!(code, 0, "{err}");
    let last: Json = serde_json::from_str(err.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["done"], &last["unit"]),
        (&json!(100_001), &json!("keys"))
    );
    assert_eq!(on(&server, &["count"]).await.1, "0\n");
}

#[tokio::test]
async fn the_trash_of_a_folder_that_no_server_holds_is_reached_as_well() {
    let mut server = server().await;
    fill(&server, "a", 2).await;
    on(&server, &["rm", "a", "--prefix", "--yes"]).await;
    server.terminate().await;
    let data = server.data().to_string_lossy().into_owned();
    let (code, out, err) = run(&["trash", "restore", "latest", "--data", &data], &[]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(out, "2 keys below a are back\n");
    server.restart().await;
    assert_eq!(on(&server, &["count"]).await.1, "2\n");
}

/// Runs a verb on a terminal of its own, on which somebody types a line.
async fn on_a_terminal(server: &TestServer, line: &str, typed: &str) -> Option<(i32, String)> {
    if std::process::Command::new("script")
        .arg("--version")
        .output()
        .is_err()
    {
        kvasir_testkit::skip("no `script`: verbs are not run on a terminal");
        return None;
    }
    let script = format!("printf '%s\\n' '{typed}' | script -qec '{KVASIR} {line}' /dev/null");
    let output = tokio::process::Command::new("bash")
        .args(["-o", "pipefail", "-c", &script])
        .env("KVASIR_SERVER", server.url(""))
        .kill_on_drop(true)
        .output();
    let output = kvasir_testkit::within(DEADLINE, "the verb ends", output)
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Some((output.status.code().unwrap_or(-1), said))
}

#[tokio::test]
async fn on_a_terminal_destructive_verbs_ask_and_much_wants_its_name_typed() {
    let server = server().await;
    fill(&server, "few", 3).await;
    fill(&server, "many", 1_001).await;
    for (line, typed, code, question, left) in [
        ("rm few --prefix", "n", 1, "Go on? [y/N]", "1004\n"),
        (
            "rm few --prefix",
            "y",
            0,
            "such as few.000000, few.000001",
            "1001\n",
        ),
        (
            "rm many --prefix --yes",
            "yes",
            1,
            "Type many to go on",
            "1001\n",
        ),
        (
            "rm many --prefix",
            "many",
            0,
            "1001 keys below many in http://",
            "0\n",
        ),
        (
            "trash restore latest",
            "",
            0,
            "1001 keys below many are back",
            "1001\n",
        ),
        (
            "trash empty",
            "n",
            1,
            "lets go of 3 keys in the trash of http://",
            "1001\n",
        ),
        ("trash empty", "y", 0, "such as few.000000", "1001\n"),
        ("db create shop", "", 0, "database shop is there", "1001\n"),
    ] {
        let Some((seen, said)) = on_a_terminal(&server, line, typed).await else {
            return;
        };
        assert_eq!(seen, code, "{line}: {said}");
        assert!(said.contains(question), "{line}: {said}");
        assert_eq!(on(&server, &["count"]).await.1, left, "{line}");
    }
    on(&server, &["put", "a", "1", "--db", "shop"]).await;
    let (code, said) = on_a_terminal(&server, "db rm shop", "n").await.unwrap();
    assert_eq!(code, 1);
    assert!(
        said.contains("the database shop with 1 keys and 0 messages in http://"),
        "{said}"
    );
    assert_eq!(
        on_a_terminal(&server, "db rm shop", "y").await.unwrap().0,
        0
    );
}

#[tokio::test]
async fn long_work_shows_a_bar_on_a_terminal_and_nothing_in_a_pipe() {
    let server = server().await;
    fill(&server, "a", 3).await;
    let Some((code, said)) = on_a_terminal(&server, "count", "").await else {
        return;
    };
    assert_eq!(code, 0);
    assert!(!said.contains("keys,"), "it took no second: {said}");
    let (code, said) = on_a_terminal(&server, "bench --time 1500ms", "")
        .await
        .unwrap();
    assert_eq!(code, 0);
    assert!(
        said.contains('\u{2588}') || said.contains("left"),
        "a bar: {said}"
    );
    let (code, _, err) = on(&server, &["bench", "--time", "1200ms"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let (_, _, err) = on(
        &server,
        &["bench", "--time", "2500ms", "--progress", "json"],
    )
    .await;
    let lines: Vec<Json> = err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!((2..=8).contains(&lines.len()), "about one a second: {err}");
}

/// Verbs whose examples each find one removal in the trash.
pub(crate) const TRASH_VERBS: &[&str] = &["trash", "trash ls", "trash restore", "trash empty"];

#[tokio::test]
async fn every_example_of_the_trash_works_as_it_stands() {
    let server = server().await;
    for verb in TRASH_VERBS {
        let args: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        let (_, help, _) = run(&args, &[]).await;
        let examples: Vec<&str> = help
            .lines()
            .skip_while(|line| *line != "Examples:")
            .skip(1)
            .take_while(|line| line.starts_with("  kvasir "))
            .collect();
        assert!(examples.len() >= 2, "{verb}");
        for example in examples {
            on(&server, &["put", "users.john", "1"]).await;
            assert_eq!(
                on(&server, &["rm", "users", "--prefix", "--yes"]).await.0,
                0
            );
            let args: Vec<&str> = example.split_whitespace().skip(1).collect();
            let (code, _, err) = on(&server, &args).await;
            assert_eq!(code, 0, "{example}: {err}");
        }
    }
}

/// Entries that are moved while the server is killed.
const ENTRIES: usize = 20_000;

#[tokio::test]
async fn after_a_kill_every_entry_is_where_it_was_or_in_the_trash() {
    let mut server = server().await;
    fill(&server, "a", ENTRIES).await;
    let mut rm = tokio::process::Command::new(KVASIR)
        .args(["rm", "a", "--prefix", "--confirm", "a"])
        .env("KVASIR_SERVER", server.url(""))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let trash = server.url("/_/api/v1/trash");
    eventually(DEADLINE, "some are in the trash", || async {
        let held: Json = http_client()
            .get(&trash)
            .send()
            .await
            .ok()?
            .json()
            .await
            .ok()?;
        (held["entries"].as_u64()? > 0).then_some(())
    })
    .await;
    server.kill().await;
    rm.wait().await.unwrap();
    server.restart().await;
    let there = on(&server, &["ls", "a", "--keys"]).await.1;
    let (_, held, err) = on(&server, &["trash", "ls", "latest"]).await;
    let mut keys: Vec<&str> = there.lines().collect();
    let stayed = keys.len();
    keys.extend(held.lines().filter_map(|line| line.split('\t').next()));
    assert_eq!(keys.len(), ENTRIES, "{err}");
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), ENTRIES, "no key is in both places");
    // The count of the record is right, too, and everything comes back.
    let back = json_of(&server, &["trash", "restore", "latest"]).await;
    assert_eq!(back["restored"], ENTRIES - stayed);
    assert_eq!(on(&server, &["count"]).await.1, format!("{ENTRIES}\n"));
}

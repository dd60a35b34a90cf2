//! The verbs for looking, changing and getting around, each through the real binary.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, within};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::{KVASIR, run, server};

/// Runs a verb against a server.
async fn on(server: &TestServer, args: &[&str]) -> (i32, String, String) {
    let url = server.url("");
    run(args, &[("KVASIR_SERVER", &url)]).await
}

async fn put(server: &TestServer, keys: &[&str]) {
    for key in keys {
        let request = http_client()
            .put(server.url(&format!("/kv/{key}")))
            .json(&json!({"value": key}));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn keys_are_counted_and_shown_as_a_tree() {
    let server = server().await;
    put(
        &server,
        &[
            "users.john.name",
            "users.john.age",
            "users.mary.name",
            "stock.tea",
        ],
    )
    .await;
    let (code, out, err) = on(&server, &["count"]).await;
    assert_eq!((code, out.as_str()), (0, "4\n"), "{err}");
    assert_eq!(on(&server, &["count", "users.john"]).await.1, "2\n");
    assert_eq!(on(&server, &["tree"]).await.1, "stock\t1\nusers\t3\n");
    let (_, out, _) = on(&server, &["tree", "users", "--depth", "2"]).await;
    assert_eq!(out, "john\t2\n  age\t1\n  name\t1\nmary\t1\n  name\t1\n");
    let (_, _, err) = on(&server, &["count", "--progress", "json"]).await;
    let last: Json = serde_json::from_str(err.lines().last().unwrap()).unwrap();
    assert_eq!((&last["done"], &last["unit"]), (&json!(4), &json!("keys")));
}

#[tokio::test]
async fn another_expiry_leaves_the_value_as_it_is() {
    let server = server().await;
    let value = r#"{"b": 1.50, "a": [ 1 ]}"#;
    on(&server, &["put", "a", value]).await;
    on(&server, &["put", "bytes", "x", "--as", "bytes"]).await;
    for key in ["a", "bytes"] {
        let (code, out, err) = on(&server, &["touch", key, "--ttl", "1h"]).await;
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("expires in 1h"), "{out}");
    }
    let entry = http_client()
        .get(server.url("/kv/a?meta=true"))
        .send()
        .await
        .unwrap();
    let text = entry.text().await.unwrap();
    assert!(text.contains(value), "{text}");
    let entry: Json = serde_json::from_str(&text).unwrap();
    assert!(!entry["expiresAt"].is_null());
    assert_eq!(on(&server, &["get", "bytes", "-o", "raw"]).await.1, "x");
    assert_eq!(on(&server, &["touch", "a", "--forever"]).await.0, 0);
    let entry = http_client()
        .get(server.url("/kv/a?meta=true"))
        .send()
        .await
        .unwrap();
    let entry: Json = entry.json().await.unwrap();
    assert!(entry["expiresAt"].is_null());
    assert_eq!(on(&server, &["touch", "nothing", "--ttl", "1h"]).await.0, 3);
}

#[tokio::test]
async fn a_transaction_is_whole_or_does_nothing() {
    let server = server().await;
    let order = [
        "txn",
        "--absent",
        "orders.17",
        "--set",
        "orders.17={\"item\":\"tea\"}",
        "--sum",
        "stock.tea=-1",
    ];
    on(&server, &["put", "stock.tea", "5"]).await;
    let (code, out, err) = on(&server, &order).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("committed in "), "{out}");
    assert_eq!(on(&server, &["get", "stock.tea"]).await.1, "4\n");
    assert_eq!(on(&server, &order).await.0, 5);
    assert_eq!(on(&server, &["get", "stock.tea"]).await.1, "4\n");
    let file = server.scratch().join("txn.json");
    let text = r#"{"mutations":[{"type":"delete","key":["orders","17"]}]}"#;
    std::fs::write(&file, text).unwrap();
    assert_eq!(on(&server, &["txn", &file.to_string_lossy()]).await.0, 0);
    assert_eq!(on(&server, &["get", "orders.17"]).await.0, 3);
    assert_eq!(on(&server, &["txn"]).await.0, 2);
}

#[tokio::test]
async fn removing_many_keys_shows_a_plan_and_wants_the_prefix_typed() {
    let server = server().await;
    let mutations: Vec<Json> = (0..1000)
        .map(|n| json!({"type": "set", "key": ["many", format!("{n:04}")], "value": n}))
        .collect();
    let body = json!({"mutations": mutations});
    let written = http_client()
        .post(server.url("/kv/_atomic"))
        .json(&body)
        .send()
        .await;
    assert_eq!(written.unwrap().status(), 200);
    put(&server, &["few.a", "few.b", "many.one-more"]).await;

    let (code, out, _) = on(&server, &["rm", "few", "--prefix", "--dry-run", "--json"]).await;
    let plan: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &plan["wouldDelete"]), (0, &json!(2)));
    assert_eq!(plan["sample"], json!(["few.a", "few.b"]));
    assert_eq!(plan["server"], server.url(""));
    assert_eq!(on(&server, &["rm", "few", "--prefix"]).await.0, 2);
    assert_eq!(on(&server, &["rm", "few", "--prefix", "--yes"]).await.0, 0);

    let (code, _, err) = on(&server, &["rm", "many", "--prefix", "--yes"]).await;
    assert_eq!(code, 2);
    assert!(
        err.contains("1001 keys below many") && err.contains("--confirm many"),
        "{err}"
    );
    let wrong = ["rm", "many", "--prefix", "--yes", "--confirm", "man"];
    assert_eq!(on(&server, &wrong).await.0, 2);
    assert_eq!(on(&server, &["count"]).await.1, "1001\n");
    let right = ["rm", "many", "--prefix", "--confirm", "many"];
    assert_eq!(on(&server, &right).await.0, 0);
    assert_eq!(on(&server, &["count"]).await.1, "0\n");
}

#[tokio::test]
async fn contexts_name_servers_and_keep_credentials_to_their_owner() {
    let (one, other) = (server().await, server().await);
    put(&one, &["a"]).await;
    let home = tempfile::TempDir::new().unwrap();
    let home_path = home.path().to_string_lossy().into_owned();
    let env = [("HOME", home_path.as_str())];
    let data = other.data().to_string_lossy().into_owned();
    let (_, token, _) = run(&["token", "create", "--data", &data], &[]).await;
    let token_file = home.path().join("token.txt");
    std::fs::write(&token_file, &token).unwrap();
    let (one_url, other_url) = (one.url(""), other.url(""));
    let add = ["context", "add", "one", &one_url];
    assert_eq!(run(&add, &env).await.0, 0);
    let token_path = token_file.to_string_lossy().into_owned();
    let add = [
        "context",
        "add",
        "other",
        &other_url,
        "--token-file",
        &token_path,
    ];
    assert_eq!(run(&add, &env).await.0, 0);
    std::fs::remove_file(&token_file).unwrap();

    let credential = home.path().join(".config/kvasir/credentials/other");
    let mode = std::fs::metadata(&credential).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_, out, _) = run(&["context", "ls"], &env).await;
    assert_eq!(
        out,
        format!("one\t{one_url}\t\t\tyes\nother\t{other_url}\t\tyes\t\n")
    );
    assert!(!out.contains(token.trim()));

    // The first one is selected. A flag wins over the environment, that over the selection.
    assert_eq!(run(&["get", "a"], &env).await.0, 0);
    assert_eq!(run(&["get", "a", "--context", "other"], &env).await.0, 3);
    let variable = [env[0], ("KVASIR_CONTEXT", "other")];
    assert_eq!(run(&["get", "a"], &variable).await.0, 3);
    assert_eq!(run(&["get", "a", "--context", "one"], &variable).await.0, 0);
    let address = [
        env[0],
        ("KVASIR_CONTEXT", "other"),
        ("KVASIR_SERVER", one_url.as_str()),
    ];
    assert_eq!(run(&["get", "a"], &address).await.0, 0);
    let (code, out, err) = run(&["context", "test", "other"], &env).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("is ready and knows you as"), "{out}");
    assert_eq!(run(&["context", "use", "other"], &env).await.0, 0);
    assert_eq!(run(&["get", "a"], &env).await.0, 3);
    let (code, _, err) = run(&["get", "a", "--context", "nobody"], &env).await;
    assert_eq!(code, 3);
    assert!(err.contains("there are one, other"), "{err}");
    assert_eq!(run(&["context", "rm", "other"], &env).await.0, 0);
    assert!(!credential.exists());
    assert_eq!(run(&["context", "add", "../x", &one_url], &env).await.0, 2);
}

#[tokio::test]
async fn a_context_names_a_database_that_a_flag_and_the_environment_overrule() {
    let server = server().await;
    let home = tempfile::TempDir::new().unwrap();
    let home_path = home.path().to_string_lossy().into_owned();
    let url = server.url("");
    let env = [("HOME", home_path.as_str())];
    let shop = ["context", "add", "shop", &url, "--db", "shop"];
    assert_eq!(run(&shop, &env).await.0, 0);
    let (_, out, _) = run(&["context", "ls", "--json"], &env).await;
    let listed: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(listed[0]["database"], "shop");
    // Every verb on keys works there.
    assert_eq!(run(&["put", "a.b", "1"], &env).await.0, 0);
    assert_eq!(run(&["txn", "--set", "a.c=2"], &env).await.0, 0);
    assert_eq!(run(&["touch", "a.b", "--ttl", "1h"], &env).await.0, 0);
    for (args, expected) in [
        (&["get", "a.b"][..], "1\n"),
        (&["count"], "2\n"),
        (&["tree"], "a\t2\n"),
        (&["ls", "--keys"], "a.b\na.c\n"),
        (&["__complete", "key", "a."], "a.b\na.c\n"),
        (&["watch", "a.c", "--count", "1", "-o", "raw"], "set\n"),
    ] {
        let (code, out, err) = run(args, &env).await;
        assert_eq!((code, out.as_str()), (0, expected), "{args:?}: {err}");
    }
    let (_, out, _) = run(
        &["watch", "a", "--prefix", "--count", "2", "-o", "raw"],
        &env,
    )
    .await;
    assert_eq!(out, "set\nset\n");
    let (_, out, err) = run(&["export", "-"], &env).await;
    assert_eq!(out.lines().count(), 2, "{err}");
    // The default database holds nothing of it; a flag wins over the environment, that over the context.
    assert_eq!(on(&server, &["count"]).await.1, "0\n");
    assert_eq!(on(&server, &["count", "--db", "shop"]).await.1, "2\n");
    assert_eq!(run(&["get", "a.b", "--db", "default"], &env).await.0, 3);
    let variable = [env[0], ("KVASIR_DATABASE", "default")];
    assert_eq!(run(&["get", "a.b"], &variable).await.0, 3);
    assert_eq!(run(&["get", "a.b", "--db", "shop"], &variable).await.0, 0);
    // What is removed there goes into the trash, and comes back there.
    assert_eq!(run(&["rm", "a", "--prefix", "--yes"], &env).await.0, 0);
    let (_, out, _) = run(&["trash", "ls"], &env).await;
    assert_eq!(out.split('\t').nth(1), Some("shop"));
    assert_eq!(run(&["trash", "restore", "latest"], &env).await.0, 0);
    assert_eq!(run(&["count"], &env).await.1, "2\n");
    let (_, out, _) = on(&server, &["db", "ls"]).await;
    assert!(
        out.contains("shop"),
        "the first use of an administrator made it: {out}"
    );
    assert_eq!(
        run(&["context", "add", "x", &url, "--db", "_system"], &env)
            .await
            .0,
        2
    );
    assert_eq!(run(&["get", "a", "--db", "_system"], &env).await.0, 2);
}

/// A verb that goes on.
struct Running {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(server: &TestServer, args: &[&str]) -> Running {
        let mut child = Command::new(KVASIR)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("KVASIR_SERVER", server.url(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running {
            _child: child,
            lines,
        }
    }

    async fn line(&mut self) -> String {
        let line = within(DEADLINE, "the verb says something", self.lines.next_line());
        line.await.unwrap().expect("the verb goes on")
    }

    async fn json(&mut self) -> Json {
        serde_json::from_str(&self.line().await).unwrap()
    }
}

#[tokio::test]
async fn a_watch_tells_what_was_set_deleted_and_expired() {
    let server = server().await;
    put(&server, &["a.x"]).await;
    for args in [
        &["watch", "a.x", "-o", "jsonl"][..],
        &["watch", "a", "--prefix", "-o", "jsonl"],
    ] {
        let mut watch = Running::start(&server, args);
        let first = watch.json().await;
        assert_eq!(
            (&first["event"], &first["key"]),
            (&json!("set"), &json!("a.x")),
            "{args:?}"
        );
        on(&server, &["put", "a.x", "{\"n\":2}"]).await;
        let set = watch.json().await;
        assert_eq!(
            (&set["event"], &set["value"]),
            (&json!("set"), &json!({"n": 2}))
        );
        on(&server, &["rm", "a.x"]).await;
        assert_eq!(watch.json().await["event"], "deleted", "{args:?}");
        on(&server, &["put", "a.x", "1", "--ttl", "300ms"]).await;
        assert_eq!(watch.json().await["event"], "set");
        assert_eq!(watch.json().await["event"], "expired", "{args:?}");
        put(&server, &["a.x"]).await;
    }
}

#[tokio::test]
async fn a_watch_begins_where_it_is_told_and_shows_differences() {
    let server = server().await;
    let (_, out, _) = on(&server, &["put", "a", "{\"n\":1}", "--json"]).await;
    let stored: Json = serde_json::from_str(&out).unwrap();
    let stamp = stored["versionstamp"].as_str().unwrap();
    let mut from = Running::start(&server, &["watch", "a", "--from", stamp, "-o", "jsonl"]);
    let mut silent = Running::start(&server, &["watch", "a", "--no-initial", "-o", "jsonl"]);
    let mut differing = Running::start(&server, &["watch", "a", "--diff", "-o", "jsonl"]);
    let marker = server.scratch().join("marker");
    let command = format!(
        "echo $KVASIR_EVENT $KVASIR_KEY >> {}; cat >> {0}",
        marker.display()
    );
    let exec = ["watch", "a", "--exec", &command, "--count", "1"];
    assert_eq!(on(&server, &exec).await.0, 0);
    assert_eq!(
        std::fs::read_to_string(&marker).unwrap(),
        "set a\n{\"n\":1}"
    );
    assert_eq!(differing.json().await["value"], json!({"n": 1}));
    // Their watches are open once the server counts them.
    kvasir_testkit::eventually(DEADLINE, "all watch", || async {
        let text = http_client()
            .get(server.url("/metrics"))
            .send()
            .await
            .unwrap();
        let text = text.text().await.unwrap();
        text.contains("kvasir_store_watchers 3").then_some(())
    })
    .await;
    on(&server, &["put", "a", "{\"n\":2}"]).await;
    for watch in [&mut from, &mut silent] {
        assert_eq!(watch.json().await["value"], json!({"n": 2}));
    }
    assert_eq!(differing.json().await["diff"], json!(["/n 1 -> 2"]));
}

#[tokio::test]
async fn a_watch_goes_on_after_a_restart_without_loss_or_repetition() {
    let addr = {
        // A port that stays the same over the restart.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    let mut server = crate::options().listen(&addr).start().await;
    put(&server, &["a.x", "a.y"]).await;
    let mut one = Running::start(&server, &["watch", "a.x", "-o", "jsonl"]);
    let mut below = Running::start(&server, &["watch", "a", "--prefix", "-o", "jsonl"]);
    assert_eq!(one.json().await["key"], "a.x");
    assert_eq!(below.json().await["key"], "a.x");
    assert_eq!(below.json().await["key"], "a.y");
    server.terminate().await;
    server.restart().await;
    put(&server, &["a.x"]).await;
    on(&server, &["rm", "a.y"]).await;
    let again = one.json().await;
    assert_eq!(
        (&again["key"], &again["event"]),
        (&json!("a.x"), &json!("set"))
    );
    let mut told = [below.json().await, below.json().await];
    told.sort_by_key(|event| event["key"].to_string());
    assert_eq!(
        (&told[0]["key"], &told[0]["event"]),
        (&json!("a.x"), &json!("set"))
    );
    assert_eq!(
        (&told[1]["key"], &told[1]["event"]),
        (&json!("a.y"), &json!("deleted"))
    );
}

#[tokio::test]
async fn figures_rates_and_a_short_measurement_are_shown() {
    let server = server().await;
    put(&server, &["a"]).await;
    let (code, out, err) = on(&server, &["stats", "store_commits"]).await;
    assert!(
        code == 0 && out.starts_with("store_commits_total\t"),
        "{out}{err}"
    );
    let (code, out, _) = on(
        &server,
        &["top", "--every", "50ms", "--count", "2", "-o", "jsonl"],
    )
    .await;
    assert_eq!((code, out.lines().count()), (0, 2));
    let row: Json = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert!(row["memory MiB"].as_f64().unwrap() > 1.0, "{row}");
    let (code, out, err) = on(&server, &["bench", "--time", "200ms", "-o", "jsonl"]).await;
    assert_eq!(code, 0, "{err}");
    let rows: Vec<Json> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&rows[0]["work"], &rows[1]["work"]),
        (&json!("write"), &json!("read"))
    );
    for row in &rows {
        assert_eq!(row["durability"], "strict: every answer after its sync");
        assert!(row["perSecond"].as_f64().unwrap() > 0.0);
    }
    assert!(rows[0]["groupWrites"].as_f64().unwrap() >= 1.0);
    assert_eq!(on(&server, &["count"]).await.1, "1\n");
}

async fn sh(line: &str, env: &[(&str, &str)], folder: &Path) -> (i32, String, String) {
    let path = Path::new(KVASIR).parent().unwrap();
    let output = Command::new("bash")
        .args(["-c", line])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
        .envs(env.iter().copied())
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within(DEADLINE, "the script ends", output).await.unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[tokio::test]
async fn five_shells_get_completion_and_bash_asks_the_server_for_keys() {
    let server = server().await;
    put(&server, &["users.john", "users.mary.name", "stock"]).await;
    for (shell, word) in [
        ("bash", "_kvasir_live"),
        ("zsh", "#compdef kvasir"),
        ("fish", "complete -c kvasir"),
        ("powershell", "Register-ArgumentCompleter"),
        ("powershell", "kvasir __complete $kind \"$wordToComplete\""),
        ("nushell", "export extern kvasir"),
        ("nushell", "key: string@\"nu-complete kvasir live keys\""),
        (
            "nushell",
            "--context: string@\"nu-complete kvasir live contexts\"",
        ),
        ("nushell", "^kvasir __complete key"),
    ] {
        let (code, out, err) = run(&["completion", shell], &[]).await;
        assert_eq!(code, 0, "{err}");
        assert!(out.contains(word), "{shell}");
        assert!(out.contains("slowlog"), "{shell}");
    }
    // nushell takes no flag with a dot in its name.
    let (_, out, _) = run(&["completion", "nushell"], &[]).await;
    assert!(!out.contains("--limits.head"), "a flag of a setting");
    // Every verb with a key as its first argument has it completed, in all of PowerShell's names too.
    let live = out.matches("@\"nu-complete kvasir live keys\"").count();
    assert_eq!(live, 8);
    let url = server.url("");
    let env = [("KVASIR_SERVER", url.as_str())];
    assert_eq!(
        run(&["__complete", "key", ""], &env).await.1,
        "stock\nusers.\n"
    );
    assert_eq!(
        run(&["__complete", "key", "users."], &env).await.1,
        "users.john\nusers.mary.\n"
    );
    assert_eq!(
        run(&["__complete", "key", "users.j"], &env).await.1,
        "users.john\n"
    );
    let nobody = [("KVASIR_SERVER", "http://127.0.0.1:1")];
    assert_eq!(
        run(&["__complete", "key", ""], &nobody).await,
        (0, String::new(), String::new())
    );
    let script = "source <(kvasir completion bash); COMP_WORDS=(kvasir get users.j); COMP_CWORD=2; \
                  _kvasir_live kvasir users.j get; echo \"${COMPREPLY[@]}\"; \
                  COMP_WORDS=(kvasir slowl); COMP_CWORD=1; _kvasir_live kvasir slowl kvasir; \
                  echo \"${COMPREPLY[@]}\"";
    let (code, out, err) = sh(script, &env, server.scratch()).await;
    assert_eq!((code, out.as_str()), (0, "users.john\nslowlog\n"), "{err}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_completes_nothing_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let (code, out, _) = run(&["__complete", "key", ""], &[("KVASIR_SERVER", &url)]).await;
    assert_eq!((code, out.as_str()), (0, ""));
}

#[tokio::test]
async fn manual_pages_are_made_for_every_verb() {
    let folder = tempfile::TempDir::new().unwrap();
    let (code, out, err) = run(&["man"], &[]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(".TH kvasir 1"), "{out}");
    let pages = folder.path().join("man1").to_string_lossy().into_owned();
    assert_eq!(run(&["man", "--out", &pages], &[]).await.0, 0);
    for page in [
        "kvasir.1",
        "kvasir-serve.1",
        "kvasir-slowlog.1",
        "kvasir-context-add.1",
    ] {
        let text = std::fs::read_to_string(Path::new(&pages).join(page)).unwrap();
        assert!(text.contains("Exit codes") || page == "kvasir.1", "{page}");
    }
    assert!(!Path::new(&pages).join("kvasir-__complete.1").exists());
}

#[tokio::test]
async fn the_shell_runs_lines_until_one_fails() {
    let server = server().await;
    let url = server.url("");
    let env = [("KVASIR_SERVER", url.as_str())];
    let good =
        "printf 'put a \\'{\"n\": 1}\\'\\n# nothing\\n\\nget a\\nkvasir count\\n' | kvasir shell";
    let good = good.replace("\\'", "'\\''");
    let (code, out, err) = sh(&good, &env, server.scratch()).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.ends_with("{\"n\": 1}\n1\n"), "{out}");
    let (code, out, _) = sh(
        "printf 'get b\\nget a\\n' | kvasir shell",
        &env,
        server.scratch(),
    )
    .await;
    assert_eq!((code, out.as_str()), (3, ""));
    let (code, _, _) = sh("echo 'gte a' | kvasir shell", &env, server.scratch()).await;
    assert_eq!(code, 2);
}

/// The examples of a verb's help.
fn examples(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Examples:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .map(|line| line.trim().to_owned())
        .collect()
}

/// Verbs whose examples run one after the other against one server.
pub(crate) const VERBS: &[&str] = &[
    "tree",
    "count",
    "touch",
    "txn",
    "watch",
    "stats",
    "top",
    "bench",
    "slowlog",
    "shell",
    "completion",
    "man",
    "config schema",
    "config reload",
    "context",
    "context add",
    "context use",
    "context ls",
    "context test",
    "context rm",
];

#[tokio::test]
async fn every_example_of_these_verbs_works_as_it_stands() {
    let server = server().await;
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("token.txt"), "some-token\n").unwrap();
    put(&server, &["users.john"]).await;
    on(&server, &["put", "stock.tea", "5"]).await;
    let url = server.url("");
    let home = folder.path().to_string_lossy().into_owned();
    let env = [("KVASIR_SERVER", url.as_str()), ("HOME", home.as_str())];
    for verb in VERBS {
        let mut args: Vec<&str> = verb.split(' ').collect();
        args.push("--help");
        let (code, help, _) = run(&args, &[]).await;
        assert_eq!(code, 0, "{verb}");
        assert!(help.contains("Exit codes:"), "{verb}");
        let examples = examples(&help);
        assert!(examples.len() >= 2, "{verb}: {examples:?}");
        for example in examples {
            let line = example.replace("http://127.0.0.1:8000", &url);
            let (code, _, err) = sh(&line, &env, folder.path()).await;
            assert_eq!(code, 0, "{example}: {err}");
        }
    }
}

//! The command line: output forms, exit codes, and that every example in its help works.

use kvasir_testkit::TestServer;

use crate::{run, server};

/// Runs a verb against a server.
async fn on(server: &TestServer, args: &[&str]) -> (i32, String, String) {
    let url = server.url("");
    run(args, &[("KVASIR_SERVER", &url)]).await
}

#[tokio::test]
async fn entries_are_put_got_listed_and_removed() {
    let server = server().await;
    let (code, out, _) = on(&server, &["put", "users.john", r#"{"a":1}"#, "--json"]).await;
    let stored: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(stored["server"], server.url(""));
    assert_eq!(stored["versionstamp"].as_str().unwrap().len(), 20);

    on(&server, &["set", "users.mary", "hello"]).await;
    assert_eq!(on(&server, &["get", "users.john"]).await.1, "{\"a\":1}\n");
    assert_eq!(
        on(&server, &["get", "users.mary", "-o", "raw"]).await.1,
        "\"hello\""
    );
    let (_, out, _) = on(&server, &["list", "users"]).await;
    assert_eq!(out, "users.john\t{\"a\":1}\nusers.mary\t\"hello\"\n");
    let (_, out, _) = on(&server, &["ls", "--keys", "--reverse", "--limit", "1"]).await;
    assert_eq!(out, "users.mary\n");
    let (_, out, _) = on(&server, &["ls", "users", "-o", "csv"]).await;
    assert_eq!(
        out,
        "key,value\nusers.john,\"{\"\"a\"\":1}\"\nusers.mary,\"\"\"hello\"\"\"\n"
    );
    let (_, out, _) = on(&server, &["ls", "--json"]).await;
    let listed: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(listed.len(), 2);

    assert_eq!(on(&server, &["delete", "users.john"]).await.0, 0);
    assert_eq!(on(&server, &["get", "users.john"]).await.0, 3);
}

#[tokio::test]
async fn bytes_of_a_file_come_back_as_they_were() {
    let server = server().await;
    let file = server.scratch().join("bytes");
    let bytes: Vec<u8> = (0..=255).collect();
    std::fs::write(&file, &bytes).unwrap();
    let (code, _, err) = on(&server, &["put", "a", &format!("@{}", file.display())]).await;
    assert_eq!(code, 0, "{err}");
    let got = tokio::process::Command::new(crate::KVASIR)
        .args(["get", "a", "-o", "raw"])
        .env("KVASIR_SERVER", server.url(""))
        .output()
        .await
        .unwrap();
    assert_eq!(got.stdout, bytes);
}

#[tokio::test]
async fn exit_codes_tell_what_went_wrong() {
    let server = server().await;
    on(&server, &["put", "a", "1"]).await;
    for (code, args) in [
        (0, &["health"][..]),
        (2, &["gte", "a"]),
        (2, &["get", "a", "--jsn"]),
        (2, &["get", "a..b"]),
        (2, &["rm", "a", "--prefix"]),
        (3, &["get", "nothing.here"]),
        (5, &["put", "a", "2", "--if-absent"]),
        (3, &["token", "revoke", "0123456789abcdef"]),
        (6, &["get", "a", "--server", "http://127.0.0.1:1"]),
    ] {
        let (seen, _, err) = on(&server, args).await;
        assert_eq!(seen, code, "{args:?}: {err}");
        assert_eq!(err.is_empty(), code == 0, "{args:?}: {err}");
    }
    let (_, _, err) = on(&server, &["get", "a", "--jsn"]).await;
    assert!(err.contains("--json"), "{err}");
    let (_, _, err) = on(&server, &["wacth", "a"]).await;
    assert!(err.contains("'watch'"), "{err}");
    on(&server, &["put", "users.john", "1"]).await;
    let (code, _, err) = on(&server, &["get", "users.jhon"]).await;
    assert_eq!(code, 3);
    assert!(err.contains("did you mean users.john?"), "{err}");
    let (_, _, err) = on(&server, &["get", "orders.1"]).await;
    assert!(!err.contains("did you mean"), "{err}");
}

#[tokio::test]
async fn tokens_are_made_on_a_running_server_and_on_its_folder() {
    let mut server = server().await;
    let data = server.data().to_string_lossy().into_owned();
    let (code, out, err) = run(
        &["token", "create", "--db", "default", "--data", &data],
        &[],
    )
    .await;
    assert_eq!(code, 0, "{err}");
    let token = out.trim().to_owned();

    // From now on a token is needed.
    let url = server.url("");
    let (code, _, _) = run(&["get", "a"], &[("KVASIR_SERVER", &url)]).await;
    assert_eq!(code, 4);
    let (code, _, _) = run(
        &["get", "a"],
        &[("KVASIR_SERVER", &url), ("KVASIR_TOKEN", &token)],
    )
    .await;
    assert_eq!(code, 3);
    // A token of a database does not administrate.
    let (code, _, _) = run(
        &["token", "ls"],
        &[("KVASIR_SERVER", &url), ("KVASIR_TOKEN", &token)],
    )
    .await;
    assert_eq!(code, 4);

    server.terminate().await;
    let (code, out, err) = run(&["token", "ls", "--data", &data], &[]).await;
    assert_eq!((code, out.lines().count()), (0, 1), "{err}");
    let id = out.split('\t').next().unwrap();
    let (code, _, err) = run(&["token", "revoke", id, "--data", &data], &[]).await;
    assert_eq!(code, 0, "{err}");
    server.restart().await;
    let url = server.url("");
    let (code, _, _) = run(
        &["get", "a"],
        &[("KVASIR_SERVER", &url), ("KVASIR_TOKEN", &token)],
    )
    .await;
    assert_eq!(code, 4);
}

#[tokio::test]
async fn configuration_is_shown_with_its_origins_and_checked() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("kvasir.toml");
    std::fs::write(&file, "[limits]\nhead = \"3s\"\nhed = \"3s\"\n").unwrap();
    let file = file.to_string_lossy().into_owned();
    let (code, _, err) = run(&["config", "check", "--config", &file], &[]).await;
    assert_eq!(code, 2);
    assert!(err.contains("kvasir.toml:3:1"), "{err}");
    assert!(err.contains("did you mean limits.head?"), "{err}");

    let env = [
        ("KVASIR_LIMITS__IDLE", "7s"),
        ("JWT_SECRET", "do-not-show-me-0123456789"),
    ];
    let (code, out, err) = run(&["config", "show", "--limits.head", "9s"], &env).await;
    assert_eq!(code, 0, "{err}");
    for line in [
        "limits.head\t9s\t--limits.head",
        "limits.idle\t7s\tKVASIR_LIMITS__IDLE",
        "limits.body_gap\t15s\tdefault",
        "accounts.jwt_secret\t<set>\tJWT_SECRET",
    ] {
        assert!(
            out.lines().any(|shown| shown == line),
            "no {line} in\n{out}"
        );
    }
    assert!(!out.contains("do-not-show-me"));
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

/// Verbs whose examples run against one server after the other, in this order.
pub(crate) const CLIENT_VERBS: &[&str] = &[
    "health",
    "put",
    "get",
    "ls",
    "watch",
    "rm",
    "config show",
    "config check",
    "config default",
    "token create",
    "token ls",
    "token explain",
    "audit ls",
    "audit verify",
    "db create",
    "db ls",
    "db rm",
    "export",
    "backup create",
    "backup ls",
    "backup verify",
    "backup prune",
    "backup schedule",
    "restore-drill",
];

/// Verbs whose examples run on a folder.
pub(crate) const FOLDER_VERBS: &[&str] = &["store verify", "store repair", "store", "token revoke"];

#[tokio::test]
async fn every_example_in_the_help_of_client_verbs_works() {
    let server = server().await;
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("logo.png"), [0x89, b'P', b'N', b'G']).unwrap();
    let data = server.data().to_string_lossy().into_owned();
    let link = std::os::unix::fs::symlink(&data, folder.path().join("kvasir-data"));
    link.unwrap();
    for verb in CLIENT_VERBS {
        let mut args: Vec<&str> = verb.split(' ').collect();
        args.push("--help");
        let (code, help, _) = run(&args, &[]).await;
        assert_eq!(code, 0, "{verb}");
        assert!(help.contains("Exit codes:"), "{verb}");
        let examples = examples(&help);
        assert!(examples.len() >= 2, "{verb}: {examples:?}");
        for example in examples {
            // Addresses in examples are the default ones.
            let line = example.replace("http://127.0.0.1:8000", &server.url(""));
            let line = match *verb {
                "watch" if !line.contains("--count") => format!("{line} --count 1"),
                _ => line,
            };
            let path = std::path::Path::new(crate::KVASIR).parent().unwrap();
            let output = tokio::process::Command::new("sh")
                .args(["-c", &line])
                .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
                .current_dir(folder.path())
                .stdin(std::process::Stdio::null())
                .output();
            let output = kvasir_testkit::within(kvasir_testkit::DEADLINE, "it ends", output).await;
            let output = output.unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{example}: {err}");
        }
    }
}

/// Byte strings of a plain run; `KVASIR_TEST_EFFORT=25` does the thousand of the contract (CLI-3).
const ROUND_TRIPS: u32 = 40;

/// Longest of them, in bytes.
const BYTES_MAX: usize = 3_000;

#[tokio::test]
async fn random_bytes_come_back_from_standard_input_to_standard_output_as_they_were() {
    let server = server().await;
    let effort = kvasir_testkit::effort::Effort::from_env();
    // Numbers that are the same every time and fill the whole range of a byte.
    let mut state = effort.seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state >> 33
    };
    let command = |args: &[&str]| {
        let mut command = tokio::process::Command::new(crate::KVASIR);
        command
            .args(args)
            .env("KVASIR_SERVER", server.url(""))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        command
    };
    for number in 0..effort.times(ROUND_TRIPS) {
        let length = match number {
            0 => 0,
            _ => usize::try_from(next()).unwrap() % BYTES_MAX,
        };
        let bytes: Vec<u8> = (0..length).map(|_| next() as u8).collect();
        let key = format!("bytes.{}", number % 7);
        let mut put = command(&["put", &key, "-"]).spawn().unwrap();
        let mut stdin = put.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, &bytes)
            .await
            .unwrap();
        drop(stdin);
        assert!(put.wait().await.unwrap().success());
        let got = command(&["get", &key, "-o", "raw"]).output().await.unwrap();
        assert_eq!(got.stdout, bytes, "string {number}");
    }
}

#[tokio::test]
async fn every_form_of_output_tells_the_same() {
    let server = server().await;
    for (key, value) in [("list.a", "1"), ("list.b", r#"{"x":"y,z"}"#)] {
        on(&server, &["put", key, value]).await;
    }
    for (form, expected) in [
        (
            "table",
            "KEY     VALUE\nlist.a  1\nlist.b  {\"x\":\"y,z\"}\n",
        ),
        ("raw", "list.a\nlist.b\n"),
        (
            "csv",
            "key,value\nlist.a,1\nlist.b,\"{\"\"x\"\":\"\"y,z\"\"}\"\n",
        ),
    ] {
        let (code, out, err) = on(&server, &["ls", "list", "-o", form]).await;
        assert_eq!((code, out.as_str()), (0, expected), "{form}: {err}");
    }
    let (_, json, _) = on(&server, &["ls", "list", "-o", "json"]).await;
    let (_, lines, _) = on(&server, &["ls", "list", "-o", "jsonl"]).await;
    let listed: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let by_line: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(listed, by_line);
    assert_eq!(listed[1]["value"]["x"], "y,z");
    // Nothing is coloured in a pipe.
    assert!(!json.contains('\u{1b}'));
}

#[tokio::test]
async fn every_example_of_verbs_on_a_folder_works() {
    let mut server = server().await;
    on(&server, &["put", "a", "1"]).await;
    let data = server.data().to_string_lossy().into_owned();
    let (_, token, _) = run(
        &["token", "create", "--db", "default", "--data", &data],
        &[],
    )
    .await;
    assert!(token.starts_with("kvasir_"));
    let (_, listed, _) = run(&["token", "ls", "--data", &data], &[]).await;
    let id = listed.split('\t').next().unwrap().to_owned();
    server.terminate().await;
    let folder = tempfile::TempDir::new().unwrap();
    std::os::unix::fs::symlink(&data, folder.path().join("kvasir-data")).unwrap();
    for verb in FOLDER_VERBS {
        let mut args: Vec<&str> = verb.split(' ').collect();
        args.push("--help");
        let (_, help, _) = run(&args, &[]).await;
        let examples = examples(&help);
        assert!(examples.len() >= 2, "{verb}: {examples:?}");
        for example in examples {
            let line = example
                .replace("/var/lib/kvasir", "kvasir-data")
                .replace("0123456789abcdef", &id);
            let path = std::path::Path::new(crate::KVASIR).parent().unwrap();
            let output = tokio::process::Command::new("sh")
                .args(["-c", &line])
                .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
                .current_dir(folder.path())
                .stdin(std::process::Stdio::null())
                .output();
            let output = kvasir_testkit::within(kvasir_testkit::DEADLINE, "it ends", output).await;
            let output = output.unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{example}: {err}");
        }
    }
}

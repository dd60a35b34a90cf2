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

#[tokio::test]
async fn every_example_in_the_help_of_client_verbs_works() {
    let server = server().await;
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("logo.png"), [0x89, b'P', b'N', b'G']).unwrap();
    let data = server.data().to_string_lossy().into_owned();
    let link = std::os::unix::fs::symlink(&data, folder.path().join("kvasir-data"));
    link.unwrap();
    let verbs = [
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
        "db create",
        "db ls",
        "db rm",
        "export",
    ];
    for verb in verbs {
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
            let line = match verb {
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

//! Examples in the help of verbs that need preparation, and that no verb's examples are left out.

use std::path::Path;
use std::process::Stdio;

use kvasir_testkit::{DEADLINE, within};

use crate::{KVASIR, cli, run, server, trash, verbs};

/// Verbs whose examples run below, each on a server of its own.
const PREPARED: &[&str] = &[
    "user",
    "user create",
    "user ls",
    "user grant",
    "user disable",
    "user enable",
    "user passwd",
    "user reset",
    "user rm",
    "explain",
    "edgekv client",
    "edgekv client create",
    "edgekv client ls",
    "edgekv client revoke",
    "classworks",
    "classworks ls",
    "classworks info",
    "doctor",
    "ui",
    "config",
    "db",
    "token",
    "backup",
    "serve",
    "dev-issuer",
];

/// Verbs whose examples are run by other tests, or cannot be.
const ELSEWHERE: &[(&str, &str)] = &[
    ("restore", "backups.rs"),
    ("init", "backups.rs"),
    ("import", "moving.rs and databases.rs"),
    (
        "edgekv",
        "wants files of another service; edgekv.rs writes such",
    ),
    (
        "copy",
        "wants a database of somebody's; backends.rs has its own",
    ),
    ("audit", "audit.rs"),
];

/// The examples of a verb's help; one may go on in the next line.
fn examples(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let mut examples: Vec<String> = Vec::new();
    for line in lines.take_while(|line| line.starts_with("  ")) {
        match examples.last_mut() {
            Some(last) if !line.contains("kvasir ") => *last += &format!(" {}", line.trim()),
            _ => examples.push(line.trim().to_owned()),
        }
    }
    examples
}

async fn help(verb: &str) -> String {
    let args: Vec<&str> = verb.split_whitespace().chain(["--help"]).collect();
    let (code, help, err) = run(&args, &[]).await;
    assert_eq!(code, 0, "{verb}: {err}");
    help
}

/// All verbs with those below them.
async fn tree() -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(verb) = open.pop() {
        let text = help(&verb).await;
        let below = text.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in below.take_while(|line| line.starts_with("  ")) {
            let name = line.split_whitespace().next().unwrap();
            // What goes on from the line before is indented further.
            if name != "help" && !line.starts_with("   ") {
                open.push(format!("{verb} {name}").trim().to_owned());
            }
        }
        if !verb.is_empty() {
            found.push(verb);
        }
    }
    found
}

#[tokio::test]
async fn the_examples_of_every_verb_are_run_by_some_test() {
    let here = [
        cli::CLIENT_VERBS,
        cli::FOLDER_VERBS,
        verbs::VERBS,
        trash::TRASH_VERBS,
        PREPARED,
    ];
    let verbs = tree().await;
    assert!(verbs.len() > 60, "{} verbs", verbs.len());
    let missing: Vec<&String> = verbs
        .iter()
        .filter(|verb| !here.iter().any(|list| list.contains(&verb.as_str())))
        .filter(|verb| {
            let top = verb.split(' ').next().unwrap();
            !ELSEWHERE.iter().any(|(known, _)| *known == top)
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn every_example_of_prepared_verbs_works() {
    for verb in PREPARED {
        let examples = examples(&help(verb).await);
        assert!(examples.len() >= 2, "{verb}");
        for example in examples {
            run_example(verb, &example).await;
        }
    }
}

/// Runs one example in a folder where what it names is there.
async fn run_example(verb: &str, example: &str) {
    let server = server().await;
    let folder = server.scratch().join("reader");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("password.txt"), "correct horse\n").unwrap();
    std::os::unix::fs::symlink(server.data(), folder.join("kvasir-data")).unwrap();
    let data = server.data().to_string_lossy().into_owned();
    if verb.starts_with("user") && !example.contains("user create") {
        let file = folder.join("password.txt").to_string_lossy().into_owned();
        let create = [
            "user",
            "create",
            "alex@example.com",
            "--password-file",
            &file,
            "--data",
            &data,
        ];
        let (code, _, err) = run(&create, &[]).await;
        assert_eq!(code, 0, "{err}");
    }
    let mut line = example
        .replace("/var/lib/kvasir", "kvasir-data")
        // Nobody looks at a browser here.
        .replace(" --open", "");
    if line.contains("akab-\u{2026}") {
        let (_, made, _) = run(
            &[
                "edgekv", "client", "create", "--name", "ci", "--data", &data, "--json",
            ],
            &[],
        )
        .await;
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        line = line.replace("akab-\u{2026}", made["clientToken"].as_str().unwrap());
    }
    let goes_on = matches!(verb, "serve" | "dev-issuer");
    if goes_on {
        // Ports of this machine may be taken, and the folder is held.
        line = line
            .replace(":8000", ":0")
            .replace(":8443", ":0")
            .replace("kvasir-data", "other-data");
        line = format!("timeout --signal=TERM 3 {line}");
    }
    let path = Path::new(KVASIR).parent().unwrap();
    let mut command = tokio::process::Command::new("bash");
    command
        .args(["-c", &line])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
        .env("HOME", &folder)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if goes_on {
        command
            .env("KVASIR_SERVER__LISTEN", "127.0.0.1:0")
            .env("KVASIR_SERVER__TLS_LISTEN", "127.0.0.1:0")
            .env("KVASIR_SERVER__DATA", folder.join("other-data"));
    }
    let output = within(DEADLINE, "it ends", command.output()).await.unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap_or(-1);
    let is_expected = match verb {
        "serve" | "dev-issuer" => code == 124,
        // It tells what is wrong with this machine, too.
        "doctor" => code <= 1,
        _ => code == 0,
    };
    assert!(is_expected, "{example}: {code}: {err}");
}

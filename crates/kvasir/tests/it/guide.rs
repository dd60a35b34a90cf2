//! The commands of the documentation, run as they stand.

use std::path::Path;
use std::process::Stdio;

use kvasir_testkit::{DEADLINE, within};

use crate::{KVASIR, server};

const GUIDE: &str = include_str!("../../../../docs/operators-guide.md");

/// The lines of all blocks that are marked `sh`.
fn commands(text: &str) -> Vec<&str> {
    let mut is_inside = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        match line {
            "```sh" => is_inside = true,
            "```" => is_inside = false,
            line if is_inside => commands.push(line),
            _ => {}
        }
    }
    commands
}

#[tokio::test]
async fn every_command_of_the_operators_guide_works() {
    let server = server().await;
    let folder = server.scratch().join("guide");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(server.data(), folder.join("kvasir-data")).unwrap();
    let commands = commands(GUIDE);
    assert!(commands.len() >= 25, "{commands:?}");
    for command in commands {
        // Addresses in the guide are the default ones.
        let line = command.replace("http://127.0.0.1:8000", &server.url(""));
        let path = Path::new(KVASIR).parent().unwrap();
        let output = tokio::process::Command::new("bash")
            .args(["-c", &line])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
            .env("HOME", &folder)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = within(DEADLINE, "the command ends", output).await.unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {err}");
    }
}

/// The other pages whose commands are run, block by block.
const PAGES: [(&str, &str); 9] = [
    ("README.md", include_str!("../../../../README.md")),
    ("backends.md", include_str!("../../../../docs/backends.md")),
    ("backups.md", include_str!("../../../../docs/backups.md")),
    (
        "accounts.md",
        include_str!("../../../../docs/dialects/accounts.md"),
    ),
    (
        "classworks.md",
        include_str!("../../../../docs/dialects/classworks.md"),
    ),
    ("deno.md", include_str!("../../../../docs/dialects/deno.md")),
    (
        "edgekv.md",
        include_str!("../../../../docs/dialects/edgekv.md"),
    ),
    (
        "kopano.md",
        include_str!("../../../../docs/dialects/kopano.md"),
    ),
    ("rest.md", include_str!("../../../../docs/dialects/rest.md")),
];

/// Words of blocks that are not run here, each with where they are or why they cannot be.
const ELSEWHERE: [(&str, &str); 6] = [
    ("cargo run", "builds the program, as this test did"),
    (
        "deno ",
        "tests/clients/deno and tests/clients/article run these under Deno",
    ),
    (
        "http --auth-type",
        "tests/clients/edgekv-httpie runs these with httpie",
    ),
    (
        "db:3306",
        "wants somebody's database; the tests in moving.rs and backends.rs have their own",
    ),
    (
        "kv.sqlite3",
        "wants somebody's file; the tests in moving.rs write such files",
    ),
    (
        "FILE",
        "stands for a backup's name; the tests in backups.rs restore backups",
    ),
];

/// The blocks of a page that are marked `sh`.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block = None::<String>;
    for line in text.lines() {
        match (line, &mut block) {
            ("```sh", None) => block = Some(String::new()),
            ("```", Some(_)) => blocks.extend(block.take()),
            (line, Some(block)) => {
                block.push_str(line);
                block.push('\n');
            }
            (_, None) => {}
        }
    }
    blocks
}

/// What a reader has whose shell is set up well: requests wait until a server that was just started
/// listens, a failed one ends the block, and an endless one ends after a while.
const PRELUDE: &str = r#"
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
curl() {
  case "$*" in
    *watch=true*) timeout 2 curl -fsS "$@" || [ $? = 124 ] ;;
    *) command curl -fsS --retry 100 --retry-delay 0 --retry-max-time 20 --retry-all-errors "$@" ;;
  esac
}
uuidgen() { cat /proc/sys/kernel/random/uuid; }
"#;

#[tokio::test]
async fn the_commands_of_every_other_page_work_or_are_run_elsewhere() {
    let (mut run_here, mut elsewhere) = (0, 0);
    for (page, text) in PAGES {
        for block in blocks(text) {
            if ELSEWHERE.iter().any(|(word, _)| block.contains(word)) {
                elsewhere += 1;
                continue;
            }
            run_here += 1;
            run_block(page, &block).await;
        }
    }
    assert!(
        run_here >= 11 && elsewhere >= 8,
        "{run_here} here, {elsewhere} elsewhere"
    );
}

/// Runs a block as a script, with a server of its own unless it starts one itself.
async fn run_block(page: &str, block: &str) {
    let server = server().await;
    let folder = server.scratch().join("reader");
    std::fs::create_dir(&folder).unwrap();
    let free = || {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().port()
    };
    let (own, second, issuer) = (free(), free(), free());
    let starts_one = block.contains("kvasir serve");
    let port = match starts_one && !block.contains("8001") {
        true => own,
        false => server.addr().port(),
    };
    if !starts_one {
        std::os::unix::fs::symlink(server.data(), folder.join("kvasir-data")).unwrap();
    }
    let mut script = block
        .replace("kvasir serve\n", "kvasir serve &\n")
        .replace(
            "kvasir dev-issuer &",
            "kvasir dev-issuer --listen 127.0.0.1:8090 &",
        )
        .replace(
            "http://127.0.0.1:8090",
            &format!("http://127.0.0.1:{issuer}"),
        )
        .replace("127.0.0.1:8090", &format!("127.0.0.1:{issuer}"))
        .replace("127.0.0.1:8001", &format!("127.0.0.1:{second}"))
        .replace("localhost:8000", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:8000", &format!("127.0.0.1:{port}"))
        .replace("/tmp/kvs", &folder.join("kvs").to_string_lossy());
    // Tokens that a page takes for made.
    if script.contains("$TOKEN") && !script.contains("TOKEN=") {
        script = format!("TOKEN=$(kvasir token create --data kvasir-data)\n{script}");
    }
    let path = Path::new(KVASIR).parent().unwrap();
    let output = tokio::process::Command::new("bash")
        .args(["-c", &format!("{PRELUDE}{script}")])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
        .env("HOME", &folder)
        .env("KVASIR_SERVER__LISTEN", format!("127.0.0.1:{own}"))
        .env("KVASIR_SERVER__TLS_LISTEN", format!("127.0.0.1:{}", free()))
        .current_dir(&folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within(DEADLINE, "the block ends", output).await.unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{page}:\n{script}\n{err}");
}

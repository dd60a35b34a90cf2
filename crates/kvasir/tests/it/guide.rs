//! Every command of the operator's guide, run as it stands.

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

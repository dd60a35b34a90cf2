//! `kvasir doctor` against real servers.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::{options, run, server};

/// The findings by check; of several the worst stands last.
fn findings(out: &str) -> Vec<(String, String, String)> {
    let rows: Vec<Value> = serde_json::from_str(out).unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let found = rows
        .iter()
        .map(|row| (text(row, "check"), text(row, "state"), text(row, "remedy")));
    found.collect()
}

#[tokio::test]
async fn a_fresh_server_has_nothing_wrong_and_every_check_is_made() {
    let server = options().tls().start().await;
    let data = server.data().to_string_lossy().into_owned();
    let (code, out, err) = run(&["doctor", "--data", &data, "--json"], &[]).await;
    let found = findings(&out);
    for check in [
        "folder rights",
        "free space",
        "sync",
        "file limit",
        "clock",
        "certificate",
        "token age",
        "backup age",
        "swap",
    ] {
        let of: Vec<_> = found.iter().filter(|(name, ..)| name == check).collect();
        assert!(!of.is_empty(), "{check} is missing: {out}");
        for (_, state, remedy) in of {
            // Every finding that is not good says what to do.
            assert_eq!(
                state == "good",
                remedy.is_empty(),
                "{check}: {state} {remedy}"
            );
        }
    }
    // Disk and clock are this machine's; all else is the server's doing.
    for check in ["folder rights", "certificate", "token age"] {
        assert!(
            found
                .iter()
                .any(|(name, state, _)| name == check && state == "good"),
            "{check}: {out}"
        );
    }
    let is_bad = found.iter().any(|(_, state, _)| state == "bad");
    assert_eq!(code, i32::from(is_bad), "{out}{err}");
}

#[tokio::test]
async fn what_is_wrong_is_told_with_a_remedy_and_a_code() {
    let mut server = server().await;
    server.terminate().await;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(server.data(), open).unwrap();
    let data = server.data().to_string_lossy().into_owned();
    let (code, out, _) = run(&["doctor", "--data", &data, "--json"], &[]).await;
    assert_eq!(code, 1);
    let rights = findings(&out)
        .into_iter()
        .find(|(name, ..)| name == "folder rights");
    let (_, state, remedy) = rights.unwrap();
    assert_eq!(state, "bad");
    assert_eq!(remedy, format!("chmod go-rwx {data}"));
}

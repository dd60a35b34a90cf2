//! The files below `packaging/`: what they promise holds for the binary.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use kvasir_testkit::skip;

use crate::run;

/// Highest exposure that the service manager's analyser may find; the operator's contract, PKG-4.
const EXPOSURE_MAX: f64 = 2.0;

fn packaging(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../packaging")
        .join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(packaging(file)).unwrap()
}

/// The values of a directive in a unit file.
fn values<'a>(unit: &'a str, directive: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.strip_prefix(directive)?.strip_prefix('=');
    unit.lines().filter_map(value).collect()
}

#[test]
fn the_service_unit_is_exposed_little() {
    let analysed = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(packaging("systemd/kvasir.service"))
        .stderr(Stdio::null())
        .output();
    let Some(analysed) = analysed.ok().filter(|output| output.status.success()) else {
        return skip("no systemd-analyze that works offline: the unit's exposure is not checked");
    };
    let said = String::from_utf8_lossy(&analysed.stdout).into_owned();
    let exposure = said
        .lines()
        .find_map(|line| line.split_once("Overall exposure level for kvasir.service:"))
        .and_then(|(_, level)| level.split_whitespace().next()?.parse::<f64>().ok());
    let exposure = exposure.unwrap_or_else(|| panic!("no exposure in\n{said}"));
    assert!(exposure <= EXPOSURE_MAX, "{exposure}");
}

#[test]
fn the_service_manager_finds_nothing_wrong_with_the_units() {
    let folder = tempfile::tempdir().unwrap();
    // The analyser wants the program to be there.
    let unit =
        text("systemd/kvasir.service").replace("/usr/bin/kvasir", env!("CARGO_BIN_EXE_kvasir"));
    std::fs::write(folder.path().join("kvasir.service"), unit).unwrap();
    std::fs::copy(
        packaging("systemd/kvasir.socket"),
        folder.path().join("kvasir.socket"),
    )
    .unwrap();
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args([
            folder.path().join("kvasir.service"),
            folder.path().join("kvasir.socket"),
        ])
        .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
        .output();
    let Ok(verified) = verified else {
        return skip("no systemd-analyze: the units are not verified");
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
}

#[tokio::test]
async fn the_service_unit_fits_the_binary() {
    let unit = text("systemd/kvasir.service");
    assert_eq!(values(&unit, "Type"), ["notify"]);
    assert_eq!(values(&unit, "WatchdogSec"), ["30s"]);
    assert_eq!(values(&unit, "User"), ["kvasir"]);
    assert_eq!(
        values(&unit, "LoadCredential"),
        ["kvasir:/etc/kvasir/credentials"]
    );
    // Its command, with the packaged settings file instead of the installed one.
    let [command] = values(&unit, "ExecStart")[..] else {
        panic!("one command");
    };
    let config = packaging("kvasir.toml").to_string_lossy().into_owned();
    let command = command.replace("/etc/kvasir/kvasir.toml", &config);
    let args: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(args[..2], ["/usr/bin/kvasir", "serve"]);
    let checked = [&["config", "check", "--config", &config][..], &args[4..]].concat();
    let checked: Vec<&str> = checked
        .iter()
        .map(|arg| {
            if *arg == "--data" {
                "--server.data"
            } else {
                arg
            }
        })
        .collect();
    let (code, _, err) = run(&checked, &[]).await;
    assert_eq!((code, args[2]), (0, "--config"), "{err}");
}

#[tokio::test]
async fn the_container_recipe_keeps_its_promises() {
    let recipe = text("container/Containerfile").replace("\\\n", " ");
    let lines: Vec<(&str, &str)> = recipe
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let of = |word: &str| -> Vec<&str> {
        let of = lines.iter().filter(|(first, _)| *first == word);
        of.map(|(_, rest)| rest.trim()).collect()
    };
    assert_eq!(of("FROM"), ["scratch"], "an empty base");
    assert!(of("RUN").is_empty(), "there is nothing to run");
    assert_eq!(of("VOLUME"), [r#"["/data"]"#], "one volume");
    assert_eq!(of("STOPSIGNAL"), ["SIGTERM"]);
    let [user] = of("USER")[..] else {
        panic!("one user");
    };
    assert!(
        user.split(':')
            .all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)),
        "{user}"
    );
    assert!(of("HEALTHCHECK")[0].ends_with(r#"CMD ["/kvasir", "health"]"#));
    assert_eq!(
        (of("ENTRYPOINT"), of("CMD")),
        (vec![r#"["/kvasir"]"#], vec![r#"["serve"]"#])
    );

    // Its settings are settings, and data lies in the volume.
    let env: Vec<(&str, &str)> = of("ENV")
        .iter()
        .flat_map(|line| line.split_whitespace())
        .map(|pair| pair.split_once('=').unwrap())
        .collect();
    let (code, _, err) = run(&["config", "check"], &env).await;
    assert_eq!(code, 0, "{err}");
    assert!(env.contains(&("KVASIR_SERVER__DATA", "/data")));
}

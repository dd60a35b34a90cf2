//! Settings that change while the server runs, and what production refuses.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, eventually};
use serde_json::{Value as Json, json};

use crate::{options, run};

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
}

/// A server with a configuration file of its own.
async fn server_with(text: &str) -> (tempfile::TempDir, PathBuf, TestServer) {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("kvasir.toml");
    write(&file, text);
    let path = file.to_string_lossy().into_owned();
    let server = options().arg("--config").arg(path).start().await;
    (folder, file, server)
}

async fn reload(server: &TestServer) -> (i32, Json, String) {
    let url = server.url("");
    let (code, out, err) = run(&["config", "reload", "--json"], &[("KVASIR_SERVER", &url)]).await;
    (code, serde_json::from_str(&out).unwrap_or_default(), err)
}

async fn setting(server: &TestServer, name: &str) -> Json {
    let answer = http_client()
        .get(server.url("/_/api/v1/settings"))
        .send()
        .await;
    let answer: Json = answer.unwrap().json().await.unwrap();
    let rows = answer["settings"].as_array().unwrap().clone();
    let row = rows.into_iter().find(|row| row["setting"] == name);
    row.unwrap_or_else(|| panic!("no {name}"))
}

async fn allows(server: &TestServer, origin: &str) -> bool {
    let request = http_client()
        .get(server.url("/kv/a"))
        .header("origin", origin);
    let answer = request.send().await.unwrap();
    answer.headers().contains_key("access-control-allow-origin")
}

#[tokio::test]
async fn a_reload_takes_over_limits_origins_and_the_log_and_tells_what_waits() {
    let (_folder, file, server) = server_with("[log]\nlevel = \"info\"\n").await;
    let page = "https://app.example.com";
    assert!(!allows(&server, page).await);
    write(
        &file,
        "[log]\nlevel = \"debug\"\n[limits]\nrequests_in_progress = 0\nvalue_bytes = 5\n\
         [rest]\ncors_origins = [\"https://app.example.com\"]\n[slowlog]\nread = \"1us\"\n",
    );
    let (code, answer, err) = reload(&server).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(
        answer["applied"],
        json!([
            "limits.requests_in_progress",
            "log.level",
            "rest.cors_origins",
            "slowlog.read"
        ])
    );
    assert_eq!(answer["waiting"], json!(["limits.value_bytes"]));
    // Administration keeps its own share.
    let limited = http_client().get(server.url("/kv/a")).send().await.unwrap();
    assert_eq!(limited.status(), 503);
    assert_eq!(
        setting(&server, "limits.value_bytes").await["value"],
        "1048576"
    );
    let row = setting(&server, "limits.requests_in_progress").await;
    assert_eq!((&row["value"], &row["live"]), (&json!("0"), &json!(true)));
    let origin = row["origin"].as_str().unwrap();
    assert!(origin.ends_with("kvasir.toml:4:1"), "{origin}");

    write(
        &file,
        "[rest]\ncors_origins = [\"https://app.example.com\"]\n",
    );
    assert_eq!(reload(&server).await.0, 0);
    assert!(allows(&server, page).await);
    assert!(!allows(&server, "https://other.example.com").await);
    assert!(server.stderr().contains("\"DEBUG\""));
}

#[tokio::test]
async fn a_hang_up_signal_reloads() {
    let (_folder, file, server) = server_with("").await;
    write(&file, "[limits]\nhead = \"3s\"\n");
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    eventually(DEADLINE, "the setting is in force", || async {
        let row = setting(&server, "limits.head").await;
        (row["value"] == "3s").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_bad_file_leaves_the_running_settings_untouched() {
    let (_folder, file, server) = server_with("[limits]\nhead = \"3s\"\n").await;
    for (bad, place) in [
        ("[limits]\nhead = \"9s\"\nhed = 1\n", "kvasir.toml:3:1"),
        ("[limits]\nhead = \"9s\"\nidle = 5\n", "kvasir.toml:3:1"),
        (
            "[limits]\nhead = \"9s\"\n[log]\nlevel = \"loud=what\"\n",
            "kvasir.toml:4:1",
        ),
        (
            "[limits]\nhead = \"9s\"\n[tls]\nkey = \"/nowhere\"\n",
            "kvasir.toml:4:1",
        ),
        ("[limits]\nhead = \"9s\n", "kvasir.toml:2:"),
    ] {
        write(&file, bad);
        let (code, _, err) = reload(&server).await;
        assert_eq!(code, 2, "{bad}: {err}");
        assert!(err.contains(place), "{bad}: {err}");
        assert_eq!(setting(&server, "limits.head").await["value"], "3s");
    }
    let metrics = http_client()
        .get(server.url("/metrics"))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    let line = r#"kvasir_config_reloads_total{outcome="refused"} 5"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_reload_shows_another_certificate_to_new_connections() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("kvasir.toml");
    write(&file, "");
    let config = file.to_string_lossy().into_owned();
    let server = options().tls().arg("--config").arg(config).start().await;
    let certificate = || async {
        let (code, out, err) = sh(&format!(
            "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName",
            server.tls_addr()
        ))
        .await;
        assert_eq!(code, 0, "{err}");
        out
    };
    if sh("command -v openssl").await.0 != 0 {
        kvasir_testkit::skip("openssl is not installed");
        return;
    }
    assert!(!certificate().await.contains("kv.example.com"));
    write(&file, "[tls]\nnames = [\"kv.example.com\"]\n");
    let (code, answer, err) = reload(&server).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(answer["applied"], json!(["tls.names"]));
    assert!(certificate().await.contains("kv.example.com"));
}

async fn sh(line: &str) -> (i32, String, String) {
    let output = tokio::process::Command::new("sh")
        .args(["-c", line])
        .output();
    let output = output.await.unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[tokio::test]
async fn a_reload_takes_over_the_schedules_of_backups_and_refuses_one_that_is_none() {
    let (_folder, file, server) = server_with("").await;
    write(&file, "[backup]\nschedule = \"at noon\"\n");
    let (code, _, err) = reload(&server).await;
    assert_eq!(code, 2);
    assert!(err.contains("backup.schedule"), "{err}");
    write(&file, "[backup]\nschedule = \"0 3 * * *\"\n");
    let (code, answer, err) = reload(&server).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(answer["applied"], json!(["backup.schedule"]));
    let backups = http_client()
        .get(server.url("/_/api/v1/backups"))
        .send()
        .await;
    let shown = backups.unwrap().text().await.unwrap();
    assert!(shown.contains("0 3 * * *"), "{shown}");
}

#[tokio::test]
async fn a_token_that_is_made_or_revoked_needs_no_reload() {
    let (_folder, _file, server) = server_with("").await;
    let get = |token: Option<String>| {
        let request = http_client().get(server.url("/kv/a"));
        async move {
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            request.send().await.unwrap().status().as_u16()
        }
    };
    assert_eq!(get(None).await, 404);
    let data = server.data().to_string_lossy().into_owned();
    let (_, token, _) = run(
        &["token", "create", "--db", "default", "--data", &data],
        &[],
    )
    .await;
    assert_eq!(get(None).await, 401);
    assert_eq!(get(Some(token.trim().to_owned())).await, 404);
}

#[tokio::test]
async fn the_settings_of_the_api_equal_those_that_config_show_prints() {
    let (_folder, file, server) = server_with(
        "[limits]\nhead = \"3s\"\n[accounts]\njwt_secret = \"0123456789abcdef0123456789abcdef\"\n",
    )
    .await;
    let url = server.url("");
    let file = file.to_string_lossy().into_owned();
    let shown = |out: String| -> Vec<(Json, Json, Json)> {
        let rows: Vec<Json> = serde_json::from_str(&out).unwrap();
        let rows = rows.into_iter().map(|row| {
            (
                row["setting"].clone(),
                row["value"].clone(),
                row["origin"].clone(),
            )
        });
        // The flags by which the test server was started.
        rows.filter(|(name, _, _)| name != "server.data" && name != "server.listen")
            .collect()
    };
    let (_, local, _) = run(&["config", "show", "--config", &file, "--json"], &[]).await;
    let (code, running, err) = run(
        &["config", "show", "--running", "--json"],
        &[("KVASIR_SERVER", &url)],
    )
    .await;
    assert_eq!(code, 0, "{err}");
    assert!(
        !running.contains("0123456789abcdef"),
        "secrets are not shown"
    );
    let running = shown(running);
    assert_eq!(running, shown(local));
    let secret = running
        .iter()
        .find(|(name, _, _)| name == "accounts.jwt_secret");
    assert_eq!(secret.unwrap().1, "<set>");
}

#[tokio::test]
async fn production_refuses_what_is_convenient_and_unsafe() {
    let folder = tempfile::TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    write(&secret, "0123456789abcdef0123456789abcdef\n");
    let secret_path = secret.to_string_lossy().into_owned();
    let chmod = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&secret, permissions).unwrap();
    };
    chmod(0o644);
    let production = || options().arg("--mode").arg("production");
    let refused = [
        (production(), "there is no credential"),
        (production().listen("0.0.0.0:0"), "in the clear"),
        (
            production().set("store.url", "memory:"),
            "forgets everything",
        ),
        (
            production().set("auth.serve_openly", "true"),
            "serve_openly",
        ),
        (
            production().set("accounts.jwt_secret", "short"),
            "can be guessed",
        ),
        (
            production().set("accounts.jwt_secret_file", &secret_path),
            "everybody on this machine can read",
        ),
    ];
    for (server, sentence) in refused {
        let failure = server.try_start().await.expect_err(sentence);
        assert_eq!(failure.status.code(), Some(2), "{failure}");
        assert!(failure.stderr.contains(sentence), "{failure}");
    }
    chmod(0o640);
    let data = folder.path().join("data");
    let path = data.to_string_lossy().into_owned();
    std::fs::create_dir(&data).unwrap();
    let (code, _, err) = run(&["token", "create", "--data", &path], &[]).await;
    assert_eq!(code, 0, "{err}");
    let server = production()
        .data(&data)
        .listen("0.0.0.0:0")
        .set("tls.behind_proxy", "true")
        .set("accounts.jwt_secret_file", &secret_path)
        .start()
        .await;
    let answer = http_client().get(format!("http://127.0.0.1:{}/kv/a", server.addr().port()));
    assert_eq!(answer.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_check_names_contradictions_missing_files_and_weak_secrets() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("kvasir.toml");
    let path = file.to_string_lossy().into_owned();
    for (text, sentence) in [
        (
            "[tls]\nkey = \"/nowhere/key.pem\"\n",
            "without tls.certificate",
        ),
        (
            "[tls]\ncertificate = \"/nowhere/a\"\nkey = \"/nowhere/b\"\n",
            "cannot read /nowhere/a",
        ),
        ("[accounts]\njwt_secret = \"secret\"\n", "can be guessed"),
        ("[classworks]\nsite_key = \"a\"\n", "can be guessed"),
        ("[tracing]\nsample = 2\n", "between 0 and 1"),
        ("[log]\nlevel = \"x=y\"\n", "kvasir.toml:2:1"),
    ] {
        write(&file, text);
        let (code, _, err) = run(&["config", "check", "--config", &path], &[]).await;
        assert_eq!(code, 2, "{text}");
        assert!(
            err.contains(sentence) && err.contains("kvasir.toml:2:1"),
            "{text}: {err}"
        );
    }
}

#[tokio::test]
async fn a_secret_of_the_service_manager_is_taken_and_a_second_form_of_it_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    let secret = "0123456789abcdef0123456789abcdef";
    write(&folder.path().join("accounts.jwt_secret"), secret);
    let credentials = folder.path().to_string_lossy().into_owned();
    let credential = ("CREDENTIALS_DIRECTORY", credentials.as_str());
    let (code, out, err) = run(&["config", "show"], &[credential]).await;
    assert_eq!(code, 0, "{err}");
    let line = out
        .lines()
        .find(|line| line.starts_with("accounts.jwt_secret"))
        .unwrap();
    assert!(line.contains("<set>\tcredential "), "{line}");
    for name in [
        "JWT_SECRET",
        "KVASIR_ACCOUNTS__JWT_SECRET",
        "KVASIR_ACCOUNTS__JWT_SECRET_FILE",
    ] {
        let (code, _, err) = run(&["config", "show"], &[credential, (name, secret)]).await;
        assert_eq!(code, 2, "{name}");
        assert!(err.contains("leave one out"), "{name}: {err}");
    }
}

#[tokio::test]
async fn every_part_can_be_switched_off_and_has_no_routes_then() {
    let off = [
        "admin",
        "rest",
        "edgekv",
        "kopano",
        "deno",
        "classworks",
        "accounts",
    ];
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("kvasir.toml");
    let paths = [
        ("admin", "GET", "/_/api/v1/whoami"),
        ("rest", "GET", "/kv/a"),
        ("edgekv", "GET", "/edgekv/v1/networks/staging/namespaces"),
        ("kopano", "GET", "/api/kvs/v1/kv/user/a"),
        ("deno", "POST", "/db/a"),
        ("classworks", "GET", "/classworks/a"),
        ("accounts", "GET", "/users"),
    ];
    let text: String = off
        .iter()
        .map(|name| format!("[mount.{name}]\nenabled = false\n"))
        .collect();
    write(&file, &format!("{text}[metrics]\nenabled = false\n"));
    let server = options()
        .arg("--config")
        .arg(file.to_string_lossy())
        .start()
        .await;
    for (name, method, path) in paths {
        let method = method.parse().unwrap();
        let answer = http_client()
            .request(method, server.url(path))
            .send()
            .await
            .unwrap();
        let is_nobodys = answer.text().await.unwrap() == "no such route\n";
        assert!(is_nobodys, "{name} still answers {path}");
    }
    let on = options().start().await;
    for (name, method, path) in paths {
        let method = method.parse().unwrap();
        let answer = http_client()
            .request(method, on.url(path))
            .send()
            .await
            .unwrap();
        assert_ne!(answer.text().await.unwrap(), "no such route\n", "{name}");
    }
}

#[tokio::test]
async fn each_part_can_be_switched_off_alone() {
    let parts = [
        ("mount.console.enabled", "GET", "/_/"),
        ("mount.admin.enabled", "GET", "/_/api/v1/whoami"),
        ("mount.rest.enabled", "GET", "/kv/a"),
        (
            "mount.edgekv.enabled",
            "GET",
            "/edgekv/v1/networks/staging/namespaces",
        ),
        ("mount.kopano.enabled", "GET", "/api/kvs/v1/kv/user/a"),
        ("mount.deno.enabled", "POST", "/db/a"),
        ("mount.classworks.enabled", "GET", "/classworks/a"),
        ("mount.accounts.enabled", "GET", "/products"),
        ("metrics.enabled", "GET", "/metrics"),
    ];
    let is_served = async |server: &TestServer, method: &str, path: &str| {
        let request = http_client().request(method.parse().unwrap(), server.url(path));
        let answer = request.send().await.unwrap();
        let is_missing = answer.status() == 404;
        !(is_missing && answer.text().await.unwrap().contains("no such route"))
    };
    for (off, ..) in parts {
        let server = options().set(off, "false").start().await;
        for (part, method, path) in parts {
            let is_on = is_served(&server, method, path).await;
            assert_eq!(is_on, part != off, "{path} without {off}");
        }
    }
}

#[tokio::test]
async fn the_published_schema_is_the_one_that_the_command_prints() {
    let (code, out, err) = run(&["config", "schema"], &[]).await;
    assert_eq!(code, 0, "{err}");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kvasir.schema.json");
    let published = std::fs::read_to_string(file).unwrap_or_default();
    assert_eq!(
        published, out,
        "docs/kvasir.schema.json is old: kvasir config schema >docs/kvasir.schema.json"
    );
}

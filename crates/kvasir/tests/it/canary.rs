//! SEC-8: a secret in any field for credentials shows up nowhere else.
//!
//! The server logs everything there is, and sends a trace of every request to a collector. Each secret
//! is looked for as it is and in the encodings in which it travels, in backups behind their compression.

use std::path::Path;

use kvasir_testkit::raw::exchange;
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, eventually};
use reqwest::Method;

use crate::{options, run};

/// Unlike anything that a program would say by itself.
const CANARY: &str = "k4n4r13nv0g3l-7e57-s3cr3t";

const NS: &str = "7b1c2a58-9a4e-4c6d-8f00-0123456789ab";

fn base64(text: &str) -> String {
    data_encoding::BASE64.encode(text.as_bytes())
}

/// The forms in which the secret may show up.
fn forms() -> Vec<String> {
    let hex = data_encoding::HEXLOWER.encode(CANARY.as_bytes());
    // Base64 of longer texts holds one of three shifted forms; the middle of each is enough.
    let shifted = ["", "a", "ab"].map(|before| {
        let encoded = base64(&format!("{before}{CANARY}"));
        encoded[4..encoded.len() - 8].to_owned()
    });
    [CANARY.to_owned(), CANARY.to_uppercase(), hex]
        .into_iter()
        .chain(shifted)
        .collect()
}

#[track_caller]
fn assert_silent(place: &str, text: &str) {
    for form in forms() {
        if let Some(at) = text.find(&form) {
            let from = text.floor_char_boundary(at.saturating_sub(200));
            let to = text.floor_char_boundary((at + 200).min(text.len()));
            panic!("{place} shows the secret: …{}…", &text[from..to]);
        }
    }
}

/// Sends a request and looks at the whole answer.
async fn send(
    client: &reqwest::Client,
    server: &TestServer,
    method: Method,
    path: &str,
    headers: &[(&str, String)],
    body: String,
) -> u16 {
    let mut request = client.request(method.clone(), server.url(path)).body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
    assert!(status < 500, "{method} {path}: {status}");
    assert_silent(&format!("an answer's head to {method} {path}"), &headers);
    let body = answer.text().await.unwrap_or_default();
    assert_silent(&format!("the answer to {method} {path}"), &body);
    status
}

/// Every header and body that carries a credential, good and bad ones, whole and broken.
async fn show_everywhere(server: &TestServer, client: &reqwest::Client) {
    let paths = [
        "/kv/a",
        "/kv/a?list=true",
        "/db/other",
        "/queue/default/pull",
        "/_/api/v1/whoami",
        "/_/api/v1/tokens",
        "/_/api/v1/session",
        "/_/api/v1/users",
        "/edgekv/v1/tokens",
        "/edgekv/v1/initialize",
        "/staging/api/v1/namespaces/default/groups/g/items/i",
        "/api/kvs/v1/kv/user/c/x",
        "/profile",
        "/orders",
        "/health-check",
        "/metrics",
        "/nowhere",
    ];
    let of_namespace = [
        "",
        "/k",
        "/_info",
        "/_hint",
        "/_keys",
        "/_check",
        "/_password",
        "/_checkpassword",
    ]
    .map(|end| format!("/{NS}{end}"));
    let paths = paths.map(str::to_owned).into_iter().chain(of_namespace);
    let signature = format!(
        "EG1-HMAC-SHA256 client_token={CANARY};access_token={CANARY};\
         timestamp=20260101T00:00:00+0000;nonce={CANARY};signature={}",
        base64(CANARY)
    );
    let jwt = data_encoding::BASE64URL_NOPAD.encode(format!(r#"{{"alg":"{CANARY}"}}"#).as_bytes());
    let credentials = [
        ("authorization", format!("Bearer {CANARY}")),
        ("authorization", format!("Bearer kvasir_{CANARY}")),
        (
            "authorization",
            format!("Bearer {jwt}.{}.{}", base64(CANARY), base64(CANARY)),
        ),
        (
            "authorization",
            format!("Basic {}", base64(&format!("user:{CANARY}"))),
        ),
        ("authorization", CANARY.to_owned()),
        ("authorization", signature),
        ("x-site-key", CANARY.to_owned()),
        ("x-site-key", base64(CANARY)),
        ("x-namespace-password", base64(CANARY)),
        ("x-namespace-password", CANARY.to_owned()),
        ("x-akamai-edgedb-auth", CANARY.to_owned()),
        ("x-akamai-edgedb-auth-ref", CANARY.to_owned()),
        ("x-kvasir-session", CANARY.to_owned()),
        (
            "cookie",
            format!("kvasir_session={CANARY}; kvasir={CANARY}; sid={CANARY}"),
        ),
        ("proxy-authorization", format!("Bearer {CANARY}")),
    ];
    for path in paths {
        for (name, value) in &credentials {
            for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
                let headers = [
                    (*name, value.clone()),
                    ("content-type", "application/json".into()),
                ];
                send(client, server, method, &path, &headers, "{}".into()).await;
            }
        }
    }
    let site_key = || ("x-site-key", CANARY.to_owned());
    let json = || ("content-type", "application/json".to_owned());
    let bodies = [
        ("/users", r#"{"email":"a@example.com","password":"#),
        ("/users", r#"{"email":"a@example.com","password":"#),
        ("/login", r#"{"email":"a@example.com","password":"#),
        ("/login", r#"{"email":"nobody@example.com","password":"#),
        ("/login/reset", r#"{"password":"new password","token":"#),
        ("/login/reset", r#"{"token":"x","password":"#),
        ("/profile/password", r#"{"oldPassword":"x","newPassword":"#),
        ("/_/api/v1/session", r#"{"token":"#),
        ("/_/api/v1/session", r#"{"link":"#),
        ("/_/api/v1/tokens/explain", r#"{"token":"#),
        ("/_/api/v1/users", r#"{"email":"b@example.com","password":"#),
    ];
    let of_namespace = [
        ("_checkpassword", r#"{"password":"#),
        ("_password", r#"{"password":"#),
        ("_password", r#"{"oldPassword":"#),
    ]
    .map(|(word, start)| (format!("/{NS}/{word}"), start));
    let bodies = bodies.map(|(path, start)| (path.to_owned(), start));
    for (path, start) in bodies.into_iter().chain(of_namespace) {
        for (open, end) in [
            ("\"", "\"}"),
            ("\"", ""),
            ("[\"", "\"]}"),
            ("\"", "\"}}"),
            ("\"", "\",}"),
        ] {
            let body = format!("{start}{open}{CANARY}{end}");
            send(
                client,
                server,
                Method::POST,
                &path,
                &[site_key(), json()],
                body,
            )
            .await;
        }
        let body = format!("{}&password={CANARY}&token={CANARY}", path.len());
        let kind = (
            "content-type",
            "application/x-www-form-urlencoded".to_owned(),
        );
        send(
            client,
            server,
            Method::POST,
            &path,
            &[site_key(), kind],
            body,
        )
        .await;
    }
    // In queries, where browsers' event streams have to put them.
    for path in [format!("/{NS}"), format!("/{NS}/k"), format!("/{NS}/_keys")] {
        let query = format!("?sitekey={CANARY}&password={}", base64(CANARY));
        send(
            client,
            server,
            Method::GET,
            &format!("{path}{query}"),
            &[],
            String::new(),
        )
        .await;
    }
    // Broken heads.
    for request in [
        format!(
            "GET /kv/a HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {CANARY}\u{1}\r\n\r\n"
        ),
        format!("GET /kv/a HTTP/9.9\r\nauthorization: Bearer {CANARY}\r\n\r\n"),
        format!("GET /kv/a HTTP/1.1\r\nhost: localhost\r\nx-site-key {CANARY}\r\n\r\n"),
    ] {
        let answer = exchange(server.addr(), request).await;
        assert_silent("the answer to a broken head", &answer.text());
    }
}

fn all_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all_files(&path, found),
            false => found.push(path),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_shows_up_in_no_log_error_metric_trace_backup_or_file() {
    let issuer = crate::kopano::DevIssuer::start().await;
    let (collector, traces) = crate::telemetry::Collector::start().await;
    let mut server = options()
        .set("log.level", "trace")
        .arg("--iss")
        .arg(issuer.url.clone())
        .env("SITE_KEY", CANARY)
        .env("JWT_SECRET", format!("{CANARY}{CANARY}"))
        .set("classworks.changes", "true")
        .set("accounts.attempts_per_minute", "1000000")
        .set("tracing.enabled", "true")
        .set("tracing.endpoint", &traces)
        .start()
        .await;
    let one = http_client();
    eventually(DEADLINE, "the issuer is known", || async {
        let url = server.url("/api/kvs/v1/kv/user/c/x");
        let answer = http_client().get(url).bearer_auth(CANARY).send().await;
        (answer.unwrap().status() != 503).then_some(())
    })
    .await;
    show_everywhere(&server, &one).await;
    let two = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .timeout(DEADLINE)
        .build()
        .unwrap();
    show_everywhere(&server, &two).await;

    // A namespace whose password it is, and a user whose password it is.
    let keyed = [("x-site-key", CANARY.to_owned())];
    let body = format!(r#"{{"password":"{CANARY}"}}"#);
    let path = format!("/{NS}/_checkpassword");
    assert_eq!(
        send(&one, &server, Method::POST, &path, &keyed, body).await,
        200
    );
    let body = format!(r#"{{"email":"a@example.com","password":"{CANARY}"}}"#);
    assert_eq!(
        send(&one, &server, Method::POST, "/login", &[], body).await,
        200
    );

    let data = server.data().to_string_lossy().into_owned();
    let (code, out, err) = run(&["backup", "create", "--data", &data, "--json"], &[]).await;
    assert_eq!(code, 0, "{err}");
    assert_silent("what the backup says", &format!("{out}{err}"));
    let mut entries = 0;
    for backup in std::fs::read_dir(server.data().join("backups")).unwrap() {
        let backup = std::fs::File::open(backup.unwrap().path()).unwrap();
        let mut backup = kvasir_store::container::Reader::new(backup).unwrap();
        assert_silent("the head of the backup", &format!("{:?}", backup.header()));
        while let Some(chunk) = backup.next_chunk().unwrap() {
            for entry in chunk {
                entries += 1;
                let meta = format!("{:?}", entry.meta);
                let key = String::from_utf8_lossy(entry.key.as_bytes()).into_owned();
                let value = String::from_utf8_lossy(&entry.value.bytes).into_owned();
                assert_silent("an entry of the backup", &format!("{key} {value} {meta}"));
            }
        }
    }
    assert!(
        entries > 3,
        "it holds users and passwords: {entries} entries"
    );

    let metrics = one.get(server.url("/metrics")).send().await.unwrap();
    assert_silent("the metrics", &metrics.text().await.unwrap());
    let url = server.url("");
    let file = server.scratch().join("export.jsonl").display().to_string();
    for args in [
        &["export", &file][..],
        &["ls", "--json"],
        &["classworks", "ls", "--json"],
        &["token", "ls", "--json"],
        &["user", "ls", "--json"],
    ] {
        let (_, out, err) = run(args, &[("KVASIR_SERVER", &url)]).await;
        assert_silent(&format!("{args:?}"), &format!("{out}{err}"));
    }
    let shown = [("SITE_KEY", CANARY), ("JWT_SECRET", CANARY)];
    for args in [&["config", "show"][..], &["config", "check"]] {
        let (_, out, err) = run(args, &shown).await;
        assert_silent(&format!("{args:?}"), &format!("{out}{err}"));
    }

    assert_silent("the export", &std::fs::read_to_string(&file).unwrap());

    assert!(server.terminate().await.success());
    let spans = collector.spans();
    assert!(
        spans.len() > 1_000,
        "every request is traced: {} spans",
        spans.len()
    );
    assert_silent("the traces", &format!("{spans:?}"));
    let stderr = server.stderr();
    assert!(stderr.contains("TRACE"), "it is as talkative as it can be");
    assert_silent("standard error", &stderr);
    assert_silent("standard output", &server.stdout());
    let mut files = Vec::new();
    all_files(server.data(), &mut files);
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert_silent(
            &file.display().to_string(),
            &String::from_utf8_lossy(&bytes),
        );
    }
}

#[tokio::test]
async fn a_secret_in_an_address_of_a_store_shows_up_in_no_failure() {
    for (name, value) in [
        (
            "KVASIR_STORE__URL",
            format!("mysql://user:{CANARY}@127.0.0.1:1/db"),
        ),
        (
            "KVASIR_STORE__URL",
            format!("postgres://user:{CANARY}@127.0.0.1:1/db"),
        ),
        ("KVASIR_STORE__URL", format!("mysql://user:{CANARY}@")),
        (
            "KVASIR_STORE__URL",
            format!("nothing://user:{CANARY}@host/db"),
        ),
        (
            "KOPANO_KVS_DB_DATASOURCE",
            format!("user:{CANARY}@tcp(127.0.0.1:1)/db"),
        ),
        (
            "KOPANO_KVS_DB_DATASOURCE",
            format!("user:{CANARY}@tcp(127.0.0.1"),
        ),
        (
            "KVASIR_MOUNT__KOPANO__STORE",
            format!("mysql://user:{CANARY}@127.0.0.1:1/db"),
        ),
    ] {
        let failure = options()
            .set("log.level", "trace")
            .env("KOPANO_KVS_DB_DRIVER", "mysql")
            .env(name, value)
            .try_start()
            .await
            .expect_err("there is no such server");
        assert_silent(name, &format!("{}{}", failure.stdout, failure.stderr));
    }
}

/// A panic's text is the place where nobody thinks of secrets: types that hold them show nothing.
#[tokio::test]
async fn settings_and_their_failures_show_no_secret() {
    let (code, out, err) = run(
        &["serve", "--limits.head", "soon"],
        &[("SITE_KEY", CANARY), ("JWT_SECRET", CANARY)],
    )
    .await;
    assert_eq!(code, 2);
    assert_silent("a refused start", &format!("{out}{err}"));
    let (code, out, err) = run(
        &["config", "show"],
        &[
            ("SITE_KEY", CANARY),
            ("KVASIR_CLASSWORKS__SITE_KEY_FILE", CANARY),
        ],
    )
    .await;
    assert_ne!(code, 0);
    let shown = format!("{out}{err}").replace(&format!("_FILE={CANARY}"), "");
    assert_silent("a secret given twice", &shown);
}

/// What a panic prints of what it was about is `Debug`.
#[test]
fn settings_with_secrets_in_them_show_none_when_they_are_printed() {
    let variable = |name: &str, value: String| (name.to_owned(), value);
    let variables = vec![
        variable("SITE_KEY", CANARY.to_owned()),
        variable("JWT_SECRET", format!("{CANARY}{CANARY}")),
        variable("KVASIR_BACKUP__S3__SECRET_KEY", CANARY.to_owned()),
        variable(
            "KVASIR_STORE__URL",
            format!("mysql://user:{CANARY}@host/db"),
        ),
        variable(
            "KVASIR_MOUNT__REST__STORE",
            format!("postgres://user:{CANARY}@host/db"),
        ),
        variable(
            "KOPANO_KVS_DB_DATASOURCE",
            format!("user:{CANARY}@tcp(host)/db"),
        ),
    ];
    let sources = kvasir::config::Sources {
        variables,
        ..kvasir::config::Sources::default()
    };
    let (config, layers) = kvasir::config::Config::load(&sources).unwrap();
    for (place, text) in [
        ("the settings", format!("{config:?}")),
        ("the settings, laid out", format!("{config:#?}")),
        ("where they came from", format!("{layers:?}")),
        ("the sources", format!("{sources:?}")),
    ] {
        assert_silent(place, &text);
    }
}

/// Backups have credentials of their own.
#[tokio::test]
async fn the_credentials_of_backups_show_up_in_no_answer_and_no_failure() {
    let double = kvasir_testkit::s3::S3Double::start().await;
    let folder = tempfile::tempdir().unwrap();
    let identity = folder.path().join("identity");
    std::fs::write(&identity, format!("AGE-SECRET-KEY-1{CANARY}\n")).unwrap();
    let identity = identity.to_string_lossy().into_owned();
    let data = folder.path().join("data").to_string_lossy().into_owned();
    assert_eq!(run(&["init", "--data", &data], &[]).await.0, 0);
    let mut env = vec![
        ("KVASIR_BACKUP__TARGET", "s3://bucket/some/where"),
        ("KVASIR_BACKUP__S3__ENDPOINT", double.url.as_str()),
        (
            "KVASIR_BACKUP__S3__ACCESS_KEY",
            kvasir_testkit::s3::ACCESS_KEY,
        ),
        ("KVASIR_BACKUP__S3__SECRET_KEY", CANARY),
        ("KVASIR_BACKUP__S3__ALLOW_LOCAL", "true"),
        ("KVASIR_LOG__LEVEL", "trace"),
    ];
    let verbs: [&[&str]; 4] = [
        &["backup", "create"],
        &["backup", "ls", "--json"],
        &["backup", "verify"],
        &["config", "show"],
    ];
    for round in ["good", "refused", "away", "identity"] {
        for verb in verbs {
            let verb = match verb {
                ["config", _] => verb.to_vec(),
                _ => [verb, &["--data", &data]].concat(),
            };
            let (code, out, err) = run(&verb, &env).await;
            let is_good = round == "good" || verb[0] == "config";
            assert_eq!(code == 0, is_good, "{round} {verb:?}: {err}");
            assert_silent(&format!("{round} {verb:?}"), &format!("{out}{err}"));
        }
        match round {
            "good" => env.push(("KVASIR_BACKUP__S3__ACCESS_KEY", "somebody")),
            "refused" => env.push(("KVASIR_BACKUP__S3__ENDPOINT", "http://127.0.0.1:1")),
            _ => env.push(("KVASIR_BACKUP__IDENTITY_FILE", &identity)),
        }
    }
    for object in double.objects().values() {
        assert_silent("an object", &String::from_utf8_lossy(object));
    }
}

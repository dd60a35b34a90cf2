//! The Kopano dialect behind the real binary: the issuer for trying it, the original daemon's
//! environment and database, `kill -9`.

use std::path::Path;

use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, ServerOptions, TestServer, eventually};
use reqwest::Method;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{KVASIR, options};

/// A running `kvasir dev-issuer`.
pub(crate) struct DevIssuer {
    pub(crate) url: String,
    _child: tokio::process::Child,
}

impl DevIssuer {
    pub(crate) async fn start() -> DevIssuer {
        let mut child = tokio::process::Command::new(KVASIR)
            .args(["dev-issuer", "--listen", "127.0.0.1:0"])
            .env_clear()
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = kvasir_testkit::within(DEADLINE, "the issuer is ready", lines.next_line());
        let first = first.await.unwrap().unwrap();
        // What else it says has to be read, or it would block.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let url = first.strip_prefix("kvasir dev-issuer ready http=").unwrap();
        DevIssuer {
            url: format!("http://{url}"),
            _child: child,
        }
    }

    async fn token(&self, user: &str, client: &str, scope: &str) -> String {
        let url = format!(
            "{}/token?user={user}&client={client}&scope={scope}",
            self.url
        );
        let answer = http_client().get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap()
    }
}

/// One request, repeated until the server has the issuer's keys.
async fn ask(
    server: &TestServer,
    method: Method,
    key: &str,
    token: &str,
    body: &str,
) -> (u16, String) {
    let url = server.url(&format!("/api/kvs/v1/kv/user/{key}"));
    eventually(DEADLINE, "the issuer is known", || async {
        let request = http_client().request(method.clone(), &url);
        let request = request
            .bearer_auth(token)
            .header("content-type", "application/json");
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status != 503).then_some((status, text))
    })
    .await
}

/// The seed's examples, with the issuer for trying instead of an identity provider.
#[tokio::test]
async fn without_an_identity_provider_the_issuer_for_trying_is_enough() {
    let issuer = DevIssuer::start().await;
    let mut server = options().arg("--iss").arg(issuer.url.clone()).start().await;
    let token = issuer.token("alice", "app", "kopano/kvs").await;
    let put = ask(&server, Method::PUT, "test1/doc1", &token, "{}").await;
    assert_eq!(put, (200, String::new()));
    let batch = r#"[{"key":"a","value":"aGVsbG8=","content_type":"text/plain"},
                    {"key":"b","value":2,"content_type":"application/json"}]"#;
    let put = ask(&server, Method::PUT, "test1?batch=1", &token, batch).await;
    server.kill().await;
    assert_eq!(put.0, 200);

    // Acknowledged, so it is there.
    server.restart().await;
    let raw = ask(&server, Method::GET, "test1/a?raw=1", &token, "").await;
    assert_eq!(raw, (200, "hello".to_owned()));
    let listing = ask(&server, Method::GET, "test1?recurse=1", &token, "").await;
    assert_eq!(
        listing.1,
        r#"[{"key":"test1/doc1","value":{},"content_type":"application/json"},"#.to_owned()
            + r#"{"key":"test1/a","value":"aGVsbG8=","content_type":"text/plain"},"#
            + r#"{"key":"test1/b","value":2,"content_type":"application/json"}]"#
    );
    assert_eq!(
        ask(&server, Method::DELETE, "test1/doc1", &token, "")
            .await
            .0,
        200
    );
    assert_eq!(
        ask(&server, Method::GET, "test1/doc1", &token, "").await.0,
        404
    );
    let other = issuer.token("alice", "other", "kopano/kvs").await;
    assert_eq!(
        ask(&server, Method::GET, "test1/a", &other, "").await.0,
        404
    );
    let scopeless = issuer.token("alice", "app", "openid").await;
    assert_eq!(
        ask(&server, Method::GET, "test1/a", &scopeless, "").await.0,
        403
    );
}

#[tokio::test]
async fn the_issuer_for_trying_listens_on_loopback_only() {
    let (code, _, error) = crate::run(&["dev-issuer", "--listen", "0.0.0.0:0"], &[]).await;
    assert_eq!(code, 2);
    assert!(error.contains("not a loopback address"), "{error}");
}

/// A file of the original with one document of `ann`, and a server that the environment `names` put
/// on it.
async fn on_the_originals_file(
    issuer: &DevIssuer,
    names: [&str; 4],
    extra: &[(&str, &str)],
) -> TestServer {
    let folder = tempfile::TempDir::new().unwrap();
    let file = crate::moving::kopano_file(folder.path());
    let file = file.display().to_string();
    let [iss, driver, datasource, migrations] = names;
    let mut options: ServerOptions = options()
        .env(iss, issuer.url.clone())
        .env(driver, "sqlite3")
        .env(datasource, file.clone())
        .env(migrations, "/usr/lib/kopano/kapi-kvs/db/migrations");
    for (name, value) in extra {
        options = options.env(*name, *value);
    }
    let server = options.start().await;
    let token = issuer.token("ann", "meet", "kopano/kvs%20extra").await;
    // In the order of the original's writes.
    let listing = ask(&server, Method::GET, "recents?recurse=1", &token, "").await;
    assert_eq!(listing.0, 200, "{}", listing.1);
    let keys: Vec<_> = listing
        .1
        .match_indices("recents/")
        .map(|(at, _)| &listing.1[at..at + 9])
        .collect();
    assert_eq!(keys, ["recents/b", "recents/a", "recents/c"]);
    let put = ask(&server, Method::PUT, "recents/new", &token, "1").await;
    assert_eq!(put.0, 200);
    check_left_alone(Path::new(&file));
    drop(folder);
    server
}

/// The original's table is as it was, and ours lie beside it.
fn check_left_alone(file: &Path) {
    let connection = rusqlite::Connection::open(file).unwrap();
    let count = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM kv"), 9);
    let others = "SELECT count(*) FROM sqlite_master WHERE type = 'table' \
                  AND name NOT IN ('kv', 'schema_migrations')";
    assert!(count(others) > 0, "the documents live in the same file");
}

#[tokio::test]
async fn the_environment_of_the_original_daemon_puts_the_mount_on_its_database() {
    let issuer = DevIssuer::start().await;
    let names = [
        "OIDC_ISSUER_IDENTIFIER",
        "KOPANO_KVS_DB_DRIVER",
        "KOPANO_KVS_DB_DATASOURCE",
        "KOPANO_KVS_DB_MIGRATIONS",
    ];
    let extra = [
        ("KOPANO_KVS_ALLOW_CORS", "1"),
        ("KOPANO_KVS_REQUIRED_SCOPES", "kopano/kvs extra"),
    ];
    let server = on_the_originals_file(&issuer, names, &extra).await;

    let url = server.url("/api/kvs/v1/kv/user/recents/a");
    let preflight = http_client()
        .request(Method::OPTIONS, &url)
        .header("origin", "https://meet.example")
        .header("access-control-request-method", "PUT")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
    // Both scopes are needed now.
    let one = issuer.token("ann", "meet", "kopano/kvs").await;
    assert_eq!(
        ask(&server, Method::GET, "recents/a", &one, "").await.0,
        403
    );
}

#[tokio::test]
async fn the_packaged_configurations_names_do_the_same() {
    let issuer = DevIssuer::start().await;
    let names = [
        "oidc_issuer_identifier",
        "plugin_kvs_db_drivername",
        "plugin_kvs_db_datasource",
        "plugin_kvs_db_migrations",
    ];
    let extra = [
        ("insecure", "yes"),
        ("plugins", "kvs"),
        ("log_level", "debug"),
    ];
    let server = on_the_originals_file(&issuer, names, &extra).await;
    let stderr = server.stderr();
    assert!(stderr.to_lowercase().contains("debug"), "{stderr}");
    assert!(
        stderr.contains("has no effect"),
        "the migrations are named: {stderr}"
    );
}

#[tokio::test]
async fn a_driver_that_is_none_is_refused_with_a_sentence() {
    let failure = options()
        .env("KOPANO_KVS_DB_DRIVER", "postgres")
        .env("KOPANO_KVS_DB_DATASOURCE", "x")
        .try_start()
        .await
        .unwrap_err();
    assert_eq!(failure.status.code(), Some(2));
    assert!(
        failure.stderr.contains("KOPANO_KVS_DB_DRIVER=postgres"),
        "{failure}"
    );
}

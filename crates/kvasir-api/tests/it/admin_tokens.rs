//! The admin API: tokens, databases, health, and who may use it.

use std::sync::Arc;

use kvasir_api::Dialect;
use kvasir_api::admin::Admin;
use kvasir_auth::{AccessSettings, Grant, NewToken, Verb, Verbs};
use kvasir_kv::{Key, KeyspaceName, Limits};
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};

use crate::support::{Answer, App, World};

const JSON: (&str, &str) = ("content-type", "application/json");

fn app(world: &World) -> App {
    let ctx = world.ctx("admin", "/_", "default");
    world.app(vec![Arc::new(Admin::new(
        ctx,
        kvasir_auth::Passwords::new(1),
    ))])
}

impl App {
    async fn admin(&self, method: &str, path: &str, token: &str, body: &Json) -> Answer {
        let token = format!("Bearer {token}");
        let headers = [JSON, ("authorization", &*token)];
        let body = match body {
            Json::Null => String::new(),
            body => body.to_string(),
        };
        self.send(method, &format!("/_/api/v1{path}"), &headers, body)
            .await
    }
}

async fn administrator(world: &World) -> String {
    let text = world.access.bootstrap().await.unwrap();
    text.expect("no token is configured yet")
        .expose_secret()
        .to_owned()
}

async fn token(world: &World, grant: Grant) -> String {
    let new = NewToken {
        name: "test".into(),
        grants: vec![grant],
        sources: Default::default(),
        expires_at: None,
        created_by: "test".into(),
    };
    let (_, text) = world.access.issue(new).await.unwrap();
    text.expose_secret().to_owned()
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, detail: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let problem = answer.json();
    let told = problem["detail"].as_str().unwrap();
    assert!(told.contains(detail), "{told:?} does not say {detail:?}");
    assert_eq!(problem["requestId"].as_str(), answer.header("x-request-id"));
}

#[tokio::test]
async fn a_token_is_made_listed_explained_and_revoked() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;

    let request = json!({
        "name": "ci",
        "grants": [{"dialects": ["rest"], "keyspace": "default", "prefix": ["users", 1], "verbs": ["read", "write"]}],
        "ttlSeconds": 3600,
    });
    let answer = app.admin("POST", "/tokens", &admin, &request).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let made = answer.json();
    let text = made["token"].as_str().unwrap().to_owned();
    let id = made["id"].as_str().unwrap().to_owned();
    assert!(text.starts_with(&format!("kvasir_{id}_")));
    assert_eq!(made["state"], "valid");
    assert_eq!(made["createdAt"], "2026-01-02T03:04:05Z");
    assert_eq!(made["expiresAt"], "2026-01-02T04:04:05Z");
    assert_eq!(
        made["grants"],
        json!([{"dialects": ["rest"], "keyspace": "default", "prefix": ["users", 1], "verbs": ["read", "write"], "expiresAt": null}])
    );

    let whoami = app.admin("GET", "/whoami", &text, &Json::Null).await.json();
    assert_eq!(whoami["id"], id);
    assert_eq!(whoami["grants"], made["grants"]);

    let list = app.admin("GET", "/tokens", &admin, &Json::Null).await;
    assert!(!list.text().contains(&text), "the text is shown once");
    assert_eq!(list.json()["tokens"].as_array().unwrap().len(), 2);
    let one = app
        .admin("GET", &format!("/tokens/{id}"), &admin, &Json::Null)
        .await;
    assert_eq!(one.json()["name"], "ci");

    let explain = |key: Json, verb: &str, shown: &str| json!({"token": shown, "dialect": "rest", "keyspace": "default", "key": key, "verb": verb});
    for (request, allowed, reason) in [
        (
            explain(json!(["users", 1, "x"]), "read", &id),
            true,
            "covers",
        ),
        (explain(json!(["users", 1]), "write", &text), true, "covers"),
        (
            explain(json!(["users", 1]), "delete", &id),
            false,
            "no grant",
        ),
        (explain(json!(["users", 2]), "read", &id), false, "no grant"),
        (
            explain(json!([]), "read", "0123456789abcdef"),
            false,
            "no such token",
        ),
        (
            explain(json!([]), "read", &format!("{text}x")),
            false,
            "no such token",
        ),
    ] {
        let answer = app.admin("POST", "/tokens/explain", &admin, &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["allowed"], allowed, "{request}");
        assert!(answer.json()["reason"].as_str().unwrap().contains(reason));
    }
    let answer = app
        .admin(
            "POST",
            "/tokens/explain",
            &admin,
            &explain(json!(["users", 2]), "read", &id),
        )
        .await;
    assert_eq!(
        answer.json()["grants"][0]["mismatch"],
        "the grant is for keys below another prefix"
    );

    let path = format!("/tokens/{id}");
    let revoked = app.admin("DELETE", &path, &admin, &Json::Null).await.json();
    assert_eq!(revoked["state"], "revoked");
    assert_eq!(
        app.admin("GET", "/whoami", &text, &Json::Null).await.status,
        401
    );
    let again = app.admin("DELETE", &path, &admin, &Json::Null).await.json();
    assert_eq!(again["revokedAt"], revoked["revokedAt"]);
    let forget = format!("{path}?forget=true");
    assert_eq!(
        app.admin("DELETE", &forget, &admin, &Json::Null)
            .await
            .status,
        204
    );
    assert_problem(
        &app.admin("DELETE", &forget, &admin, &Json::Null).await,
        404,
        "no such token",
    );
    assert_problem(
        &app.admin("GET", &path, &admin, &Json::Null).await,
        404,
        "no such token",
    );
}

#[tokio::test]
async fn tokens_are_listed_in_pages() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    for _ in 0..5 {
        token(&world, Grant::everything()).await;
    }
    let mut seen = Vec::new();
    let mut path = "/tokens?limit=2".to_owned();
    loop {
        let page = app.admin("GET", &path, &admin, &Json::Null).await.json();
        seen.extend(
            page["tokens"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| t["id"].to_string()),
        );
        let Some(cursor) = page["cursor"].as_str() else {
            break;
        };
        path = format!("/tokens?limit=2&cursor={cursor}");
    }
    assert_eq!(seen.len(), 6);
    assert!(seen.is_sorted());
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    let grant = |change: Json| {
        let mut grant = json!({"verbs": ["read"]});
        for (name, value) in change.as_object().unwrap() {
            grant[name] = value.clone();
        }
        json!({"name": "x", "grants": [grant]})
    };
    for (request, detail) in [
        (json!({"name": "x"}), "missing field `grants`"),
        (
            json!({"name": "x", "grants": []}),
            "`grants` must be 1 to 64",
        ),
        (
            json!({"name": " ", "grants": [{"verbs": ["read"]}]}),
            "`name` must have 1 to 100",
        ),
        (
            json!({"name": "x", "grants": [{"verbs": ["read"]}], "admin": true}),
            "unknown field `admin`",
        ),
        (
            grant(json!({"verbs": []})),
            "`grants[0].verbs`: name at least one verb",
        ),
        (
            grant(json!({"verbs": ["all"]})),
            "`grants[0].verbs`: \"all\" is none of",
        ),
        (
            grant(json!({"dialects": ["http"]})),
            "`grants[0].dialects`: \"http\" is none of",
        ),
        (
            grant(json!({"keyspace": "_system"})),
            "`grants[0].keyspace`: a name has",
        ),
        (
            grant(json!({"prefix": "users"})),
            "`grants[0].prefix`: it must be an array",
        ),
        (
            grant(json!({"prefix": [null]})),
            "`grants[0].prefix`: part 0",
        ),
        (
            grant(json!({"expiresAt": "tomorrow"})),
            "`grants[0].expiresAt`: it must be a time",
        ),
        (
            json!({"name": "x", "grants": [{"verbs": ["read"]}], "ttlSeconds": 0}),
            "expired already",
        ),
        (
            json!({"name": "x", "grants": [{"verbs": ["read"]}], "expiresAt": "2020-01-01T00:00:00Z"}),
            "expired already",
        ),
        (
            json!({"name": "x", "grants": [{"verbs": ["read"]}], "expiresAt": "2030-01-01T00:00:00Z", "ttlSeconds": 5}),
            "not both",
        ),
    ] {
        let answer = app.admin("POST", "/tokens", &admin, &request).await;
        assert_problem(&answer, 400, detail);
    }
    for path in [
        "/tokens?limit=0",
        "/tokens?limit=1001",
        "/tokens?cursor=!",
        "/databases?limit=x",
    ] {
        assert_eq!(
            app.admin("GET", path, &admin, &Json::Null).await.status,
            400,
            "{path}"
        );
    }
    let headers = [
        ("authorization", &*format!("Bearer {admin}")),
        ("content-type", "text/plain"),
    ];
    let answer = app.send("POST", "/_/api/v1/tokens", &headers, "{}").await;
    assert_problem(&answer, 415, "application/json");
    let answer = app.admin("PUT", "/tokens", &admin, &Json::Null).await;
    assert_problem(&answer, 405, "does not take that method");
    assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"));
    assert_problem(
        &app.admin("GET", "/nowhere", &admin, &Json::Null).await,
        404,
        "no such route",
    );
    let answer = app
        .admin("GET", "/tokens/..%2f..", &admin, &Json::Null)
        .await;
    assert_problem(&answer, 404, "no such token");
}

#[tokio::test]
async fn every_admin_route_refuses_data_tokens() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    let everything_but = |change: fn(&mut Grant)| {
        let mut grant = Grant::everything();
        change(&mut grant);
        grant
    };
    let mut refused = Vec::new();
    for grant in [
        everything_but(|grant| grant.verbs = Verbs::DATA),
        everything_but(|grant| grant.keyspace = Some(KeyspaceName::default_database())),
        everything_but(|grant| grant.prefix = Key::from_strings(["tokens"])),
        everything_but(|grant| grant.dialects = vec!["rest".into()]),
        everything_but(|grant| grant.expires_at = Some(crate::support::START)),
    ] {
        refused.push(token(&world, grant).await);
    }
    let mut routes = 0;
    let described = Admin::new(
        world.ctx("admin", "/_", "default"),
        kvasir_auth::Passwords::new(1),
    );
    for (path, item) in described.openapi().paths.paths {
        let Some(path) = path.strip_prefix("/_/api/v1") else {
            continue;
        };
        // Logging in and out has rules of its own.
        if path == "/session" {
            continue;
        }
        let path = path
            .replace("{id}", "0123456789abcdef")
            .replace("{name}", "some")
            .replace("{user}", "some")
            .replace("{client_token}", "some");
        for (method, _) in kvasir_api::openapi::operations(&item) {
            routes += 1;
            let answer = app
                .send(method, &format!("/_/api/v1{path}"), &[JSON], "{}")
                .await;
            assert_problem(&answer, 401, "a token is needed");
            let answer = app.admin(method, &path, "kvasir_x", &json!({})).await;
            assert_problem(&answer, 401, "not valid");
            for token in &refused {
                let answer = app.admin(method, &path, token, &json!({})).await;
                match path.as_str() {
                    "/whoami" => assert_eq!(answer.status, 200),
                    _ => assert_problem(&answer, 403, "administrator's token"),
                }
            }
            let answer = app.admin(method, &path, &admin, &json!({})).await;
            assert!(
                !matches!(answer.status.as_u16(), 401 | 403 | 405),
                "{method} {path}"
            );
        }
    }
    assert!(routes > 22, "{routes}");
}

#[tokio::test]
async fn on_loopback_without_tokens_the_first_one_is_made_without_one() {
    let world = World::new();
    let app = app(&world);
    let request =
        json!({"name": "first", "grants": [{"verbs": ["read", "write", "delete", "admin"]}]});
    let send = || app.send("POST", "/_/api/v1/tokens", &[JSON], request.to_string());
    assert_eq!(send().await.status, 201);
    assert_eq!(send().await.status, 401, "now the server is closed");
    assert!(world.access.bootstrap().await.unwrap().is_none());

    let process = world.access.make_process_token().unwrap();
    let answer = app
        .admin("GET", "/tokens", process.expose_secret(), &Json::Null)
        .await;
    assert_eq!(answer.status, 200, "the process' own token");
}

#[tokio::test]
async fn a_server_that_is_open_to_the_network_is_not_administered_from_there() {
    let open = AccessSettings {
        serve_openly: true,
        ..AccessSettings::default()
    };
    let world = World::with(Limits::default(), open);
    let app = app(&world);
    let public = app.on_public_address();
    let answer = public.send("GET", "/_/api/v1/tokens", &[], "").await;
    assert_problem(&answer, 403, "administrator's token");
    let whoami = public.send("GET", "/_/api/v1/whoami", &[], "").await.json();
    assert_eq!(whoami["id"], "anyone");
    assert_eq!(
        app.send("GET", "/_/api/v1/tokens", &[], "").await.status,
        200
    );
}

#[tokio::test]
async fn databases_are_made_listed_and_taken_off_the_list() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    let new = json!({"name": "shop"});
    let made = app.admin("POST", "/databases", &admin, &new).await;
    assert_eq!(made.status, 201);
    let again = app.admin("POST", "/databases", &admin, &new).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, made.json()));
    let list = app
        .admin("GET", "/databases", &admin, &Json::Null)
        .await
        .json();
    assert_eq!(list["databases"][0]["name"], "shop");
    let bad = app
        .admin("POST", "/databases", &admin, &json!({"name": "_system"}))
        .await;
    assert_problem(&bad, 400, "the name of a database");
    assert_eq!(
        app.admin("DELETE", "/databases/shop", &admin, &Json::Null)
            .await
            .status,
        204
    );
    let gone = app
        .admin("DELETE", "/databases/shop", &admin, &Json::Null)
        .await;
    assert_problem(&gone, 404, "no such database");
}

#[tokio::test]
async fn health_tells_how_the_store_is() {
    let world = World::new();
    let app = app(&world);
    let health = app.send("GET", "/_/api/v1/health", &[], "").await.json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["store"]["backend"], "memory");
    assert_eq!(health["store"]["valueBytesMax"], 1024 * 1024);
}

#[tokio::test]
async fn no_answer_and_no_record_holds_a_secret() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    let hash = {
        let list = world.access.list(None, 10).await.unwrap().0;
        let key = Key::from_strings(["tokens", &list[0].id.to_string()]);
        let entry = world.system.get(&key).await.unwrap().unwrap();
        let record: Json = serde_json::from_slice(&entry.value.bytes).unwrap();
        let text = String::from_utf8(entry.value.bytes.to_vec()).unwrap();
        assert!(!text.contains(&admin[24..]), "stored as a hash only");
        record["hash"].as_str().unwrap().to_owned()
    };
    for path in ["/whoami", "/tokens", "/health", "/databases"] {
        let text = app.admin("GET", path, &admin, &Json::Null).await;
        assert!(!text.text().contains(&admin[24..]) && !text.text().contains(&hash));
    }
    let grant = Grant {
        verbs: [Verb::Read].into_iter().collect(),
        ..Grant::everything()
    };
    let debug = format!("{:?} {:?}", world.access, grant);
    assert!(!debug.contains(&admin[24..]) && !debug.contains(&hash));
}

//! Who may do what: the matrix of tokens and routes, web pages, rates.

use http::Method;
use kvasir_api::Dialect;
use kvasir_auth::{Approach, Grant, NewToken, RateSettings, Verb, Verbs};
use kvasir_kv::{KeyspaceName, UnixMillis};
use secrecy::ExposeSecret;

use super::*;
use crate::support::START;

/// The address of a client.
const SOMEBODY: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

/// A grant on `users` of the default database.
fn grant(verbs: &[Verb]) -> Grant {
    Grant {
        dialects: vec!["rest".into()],
        keyspace: Some(KeyspaceName::default_database()),
        prefix: key(&["users"]),
        verbs: verbs.iter().copied().collect::<Verbs>(),
        expires_at: None,
    }
}

impl World {
    /// A token with these grants, as the value of a header.
    async fn token(
        &self,
        grants: Vec<Grant>,
        expires_at: Option<UnixMillis>,
    ) -> (String, kvasir_auth::TokenId) {
        let new = NewToken {
            name: "test".into(),
            grants,
            sources: Default::default(),
            expires_at,
            created_by: "test".into(),
        };
        let (issued, text) = self.access.issue(new).await.unwrap();
        (format!("Bearer {}", text.expose_secret()), issued.id)
    }
}

/// Every route with its method, from the description that the router's `Allow` is compared with.
fn routes() -> Vec<(Method, String)> {
    let mut routes = Vec::new();
    let ctx = World::new().ctx("rest", "/kv", "default");
    let described = Rest::new(ctx, Settings::default()).openapi();
    for (path, item) in described.paths.paths {
        for (method, _) in kvasir_api::openapi::operations(&item) {
            routes.push((method.parse().unwrap(), path.clone()));
        }
    }
    routes
}

/// What a route needs, as requests about the key `parts`: target, body, verb.
fn requests(method: &Method, path: &str, parts: &[&str]) -> Vec<(String, String, Verb)> {
    let dotted = parts.join(".");
    let json = serde_json::to_string(parts).unwrap();
    let typed: String = json.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let put = r#"{"value":1}"#.to_owned();
    let none = String::new();
    match (method.as_str(), path) {
        ("GET", "/kv/{keypath}") => vec![
            (format!("/kv/{dotted}"), none.clone(), Verb::Read),
            (format!("/kv/{dotted}?meta=true"), none.clone(), Verb::Read),
            (format!("/kv/{dotted}?list=true"), none.clone(), Verb::Read),
            (format!("/kv/{dotted}?list=true&limit=1"), none, Verb::Read),
        ],
        ("GET", "/kv") => vec![
            (format!("/kv?key={typed}"), none.clone(), Verb::Read),
            (format!("/kv?key={typed}&list=true"), none, Verb::Read),
        ],
        ("PUT", "/kv/{keypath}") => vec![(format!("/kv/{dotted}"), put, Verb::Write)],
        ("PUT", "/kv") => vec![(format!("/kv?key={typed}"), put, Verb::Write)],
        ("DELETE", "/kv/{keypath}") => vec![
            (format!("/kv/{dotted}"), none.clone(), Verb::Delete),
            (format!("/kv/{dotted}?list=true"), none, Verb::Delete),
        ],
        ("DELETE", "/kv") => vec![
            (format!("/kv?key={typed}"), none.clone(), Verb::Delete),
            (format!("/kv?key={typed}&list=true"), none, Verb::Delete),
        ],
        ("POST", "/kv/_atomic") => {
            let mutation = |text: &str| format!(r#"{{"mutations":[{{{text},"key":{json}}}]}}"#);
            let check = format!(r#"{{"checks":[{{"key":{json},"versionstamp":null}}]}}"#);
            let target = || "/kv/_atomic".to_owned();
            vec![
                (target(), check, Verb::Read),
                (target(), mutation(r#""type":"set","value":1"#), Verb::Write),
                (target(), mutation(r#""type":"sum","value":1"#), Verb::Write),
                (target(), mutation(r#""type":"min","value":1"#), Verb::Write),
                (target(), mutation(r#""type":"max","value":1"#), Verb::Write),
                (target(), mutation(r#""type":"delete""#), Verb::Delete),
            ]
        }
        (method, path) => panic!("the access matrix has no row for {method} {path}"),
    }
}

#[tokio::test]
async fn every_route_obeys_every_kind_of_token() {
    let world = World::new();
    let app = app_over(&world, Settings::default());
    let all = [Verb::Read, Verb::Write, Verb::Delete];
    let full = grant(&all);
    let with = |change: fn(&mut Grant)| {
        let mut changed = grant(&[Verb::Read, Verb::Write, Verb::Delete]);
        change(&mut changed);
        vec![changed]
    };
    let (revoked, revoked_id) = world.token(vec![full.clone()], None).await;
    world.access.revoke(revoked_id).await.unwrap();
    let (forgotten, forgotten_id) = world.token(vec![full.clone()], None).await;
    world.access.forget(forgotten_id).await.unwrap();
    let (expired, _) = world.token(vec![full.clone()], Some(START)).await;
    let mut altered = world.token(vec![full.clone()], None).await.0;
    altered.pop();
    // Tokens that let nobody in: 401.
    let invalid = [
        None,
        Some("Bearer".to_owned()),
        Some("Bearer kvasir_0123456789abcdef_x".to_owned()),
        Some("Basic YTpi".to_owned()),
        Some(altered),
        Some(revoked),
        Some(forgotten),
        Some(expired),
    ];
    // Tokens by what they allow for a key below `users`.
    let mut valid = Vec::new();
    for verb in all {
        valid.push((world.token(vec![grant(&[verb])], None).await.0, vec![verb]));
    }
    valid.push((world.token(vec![full], None).await.0, all.to_vec()));
    for nothing in [
        with(|grant| grant.dialects = vec!["deno".into()]),
        with(|grant| grant.keyspace = Some(KeyspaceName::from_static("other"))),
        with(|grant| grant.prefix = Key::from_strings(["elsewhere"])),
        with(|grant| grant.prefix = Key::from_strings(["users", "john", "x", "y"])),
        with(|grant| grant.expires_at = Some(START)),
        with(|grant| grant.verbs = [Verb::Admin].into_iter().collect()),
        Vec::new(),
    ] {
        valid.push((world.token(nothing, None).await.0, Vec::new()));
    }

    let own: [&[&str]; 3] = [&["users"], &["users", "john"], &["users", "none", "x"]];
    let foreign: [&[&str]; 7] = [
        &["user"],
        &["users2"],
        &["Users", "john"],
        &["users\0", "john"],
        &["users\0x"],
        &["use", "rs"],
        &["other", "users"],
    ];
    let mut asked = 0;
    for (method, path) in routes() {
        for (parts, is_own) in own
            .iter()
            .map(|parts| (*parts, true))
            .chain(foreign.iter().map(|parts| (*parts, false)))
        {
            for (target, body, verb) in requests(&method, &path, parts) {
                let target = target.replace('\0', "%00");
                for credential in &invalid {
                    let answer = ask(&app, &method, &target, &body, credential.as_deref()).await;
                    assert_problem(&answer, 401, "unauthorized", "token");
                    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
                    asked += 1;
                }
                for (credential, verbs) in &valid {
                    let answer = ask(&app, &method, &target, &body, Some(credential)).await;
                    asked += 1;
                    if is_own && verbs.contains(&verb) {
                        let status = answer.status.as_u16();
                        assert!(
                            matches!(status, 200 | 404 | 409),
                            "{method} {target}: {status} {}",
                            answer.text()
                        );
                    } else {
                        assert_problem(&answer, 403, "forbidden", "does not allow to");
                    }
                }
            }
        }
    }
    assert!(asked > 3_000, "{asked} requests");
}

async fn ask(app: &App, method: &Method, target: &str, body: &str, token: Option<&str>) -> Answer {
    let mut headers = vec![JSON];
    headers.extend(token.map(|token| ("authorization", token)));
    app.send(method.as_str(), target, &headers, body.to_owned())
        .await
}

#[tokio::test]
async fn the_description_and_the_router_know_the_same_methods() {
    let app = app();
    let routes = routes();
    let mut paths: Vec<&String> = routes.iter().map(|(_, path)| path).collect();
    paths.dedup();
    for path in paths {
        let target = path.replace("{keypath}", "a");
        let answer = app.send("PATCH", &target, &[], "").await;
        let allow = answer.header("allow").expect("405 names the methods");
        let mut of_router: Vec<&str> = allow
            .split(',')
            .filter(|method| *method != "HEAD")
            .collect();
        let mut described: Vec<&str> = routes
            .iter()
            .filter(|(_, known)| known == path)
            .map(|(method, _)| method.as_str())
            .collect();
        if path == "/kv/_atomic" {
            // It is also the entry of that name.
            described.extend(["GET", "PUT", "DELETE"]);
        }
        of_router.sort_unstable();
        described.sort_unstable();
        assert_eq!(of_router, described, "{path}");
    }
}

#[tokio::test]
async fn forbidden_keys_look_alike_whether_they_exist_or_not() {
    let world = World::new();
    let app = app_over(&world, Settings::default());
    app.stored("/kv/secret.there", "1").await;
    let (token, _) = world.token(vec![grant(&[Verb::Read])], None).await;
    let mut answers = Vec::new();
    for target in ["/kv/secret.there", "/kv/secret.gone"] {
        let headers = [("authorization", &*token), ("if-none-match", "*")];
        let answer = app.send("GET", target, &headers, "").await;
        let mut problem = answer.json();
        problem["requestId"] = "".into();
        answers.push((answer.status, problem, answer.headers.len()));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, 403);
}

#[tokio::test]
async fn without_tokens_this_machine_is_served_and_no_other() {
    let app = app();
    assert_eq!(app.kv_get("/kv/a").await.status, 404);
    let any = [("authorization", "Bearer whatever")];
    assert_eq!(app.send("GET", "/kv/a", &any, "").await.status, 404);
    let public = app.on_public_address();
    let answer = public.kv_get("/kv/a").await;
    assert_problem(&answer, 401, "unauthorized", "a token is needed");

    let open = AccessSettings {
        serve_openly: true,
        ..AccessSettings::default()
    };
    let app = app_over(&World::with(Limits::default(), open), Settings::default());
    assert_eq!(app.on_public_address().kv_get("/kv/a").await.status, 404);
}

#[tokio::test]
async fn a_first_token_closes_the_server_and_only_forgetting_it_opens_it() {
    let world = World::new();
    let app = app_over(&world, Settings::default());
    let (token, id) = world.token(vec![Grant::everything()], None).await;
    let with_token = [("authorization", &*token)];
    assert_eq!(app.kv_get("/kv/a").await.status, 401);
    assert_eq!(app.send("GET", "/kv/a", &with_token, "").await.status, 404);
    world.access.revoke(id).await.unwrap();
    assert_eq!(app.send("GET", "/kv/a", &with_token, "").await.status, 401);
    assert_eq!(app.kv_get("/kv/a").await.status, 401, "still closed");
    world.access.forget(id).await.unwrap();
    assert_eq!(app.kv_get("/kv/a").await.status, 404);
}

#[tokio::test]
async fn names_that_are_not_this_machine_are_refused_while_no_token_is_needed() {
    let world = World::new();
    let app = app_over(&world, Settings::default());
    for host in [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "192.168.0.1",
    ] {
        let answer = app.send("GET", "/kv/a", &[("host", host)], "").await;
        assert_problem(&answer, 403, "foreign_host", "loopback name");
    }
    for host in ["localhost", "127.0.0.1:8000", "[::1]:8000", "kv.localhost"] {
        let answer = app.send("GET", "/kv/a", &[("host", host)], "").await;
        assert_eq!(answer.status, 404, "{host}");
    }
    let (token, _) = world.token(vec![Grant::everything()], None).await;
    let headers = [("host", "kv.example.com"), ("authorization", &*token)];
    assert_eq!(app.send("GET", "/kv/a", &headers, "").await.status, 404);
}

#[tokio::test]
async fn web_pages_of_other_origins_change_nothing_while_no_token_is_needed() {
    let app = app();
    let body = r#"{"value":1}"#;
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost:3000"),
        ("origin", "https://localhost:8000"),
        ("sec-fetch-site", "cross-site"),
    ] {
        for (method, target) in [
            ("PUT", "/kv/a"),
            ("DELETE", "/kv/a"),
            ("POST", "/kv/_atomic"),
        ] {
            let answer = app.send(method, target, &[JSON, (name, value)], body).await;
            assert_problem(&answer, 403, "foreign_origin", "another origin");
        }
    }
    for headers in [
        vec![JSON],
        vec![JSON, ("origin", "http://localhost:8000")],
        vec![JSON, ("sec-fetch-site", "same-origin")],
    ] {
        assert_eq!(app.send("PUT", "/kv/a", &headers, body).await.status, 200);
    }
    let read = app
        .send("GET", "/kv/a", &[("origin", "https://evil.example")], "")
        .await;
    assert_eq!(read.status, 200, "a browser does not show it to the page");
    assert_eq!(read.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn configured_origins_may_use_the_dialect_from_a_browser() {
    let settings = Settings {
        cors_origins: vec!["https://app.example".into()],
        ..Settings::default()
    };
    let app = app_over(&World::new(), settings);
    let own = ("origin", "https://app.example");
    let answer = app
        .send("PUT", "/kv/a", &[JSON, own], r#"{"value":1}"#)
        .await;
    assert_eq!(answer.status, 200);
    for target in ["/kv/a", "/kv/none"] {
        let answer = app.send("GET", target, &[own], "").await;
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://app.example")
        );
        assert!(
            answer
                .header("access-control-expose-headers")
                .unwrap()
                .contains("ETag")
        );
        assert!(answer.header("vary").unwrap().contains("Origin"));
    }
    let preflight = [
        own,
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "content-type,if-match"),
    ];
    let answer = app.send("OPTIONS", "/kv/a", &preflight, "").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (204, ""));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("content-type,if-match")
    );
    assert!(
        answer
            .header("access-control-allow-methods")
            .unwrap()
            .contains("PUT")
    );

    let other = ("origin", "https://evil.example");
    let answer = app
        .send("PUT", "/kv/a", &[JSON, other], r#"{"value":1}"#)
        .await;
    assert_problem(&answer, 403, "foreign_origin", "another origin");
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn too_many_requests_are_429_with_retry_after() {
    let rates = RateSettings {
        requests_per_second_per_address: 2,
        requests_per_second_per_token: 1,
        on_loopback: false,
    };
    let settings = AccessSettings {
        serve_openly: true,
        rates,
    };
    let world = World::with(Limits::default(), settings);
    let local = app_over(&world, Settings::default());
    for _ in 0..100 {
        assert_eq!(local.kv_get("/kv/a").await.status, 404, "not on loopback");
    }
    let public = local.on_public_address();
    // What is left is told before it is gone.
    for left in (0..4).rev() {
        let answer = public.kv_get("/kv/a").await;
        assert_eq!(answer.status, 404);
        let told = format!("limit=4, remaining={left}, reset=");
        let shown = answer.header("ratelimit").unwrap();
        assert!(shown.starts_with(&told), "{shown}");
    }
    let answer = public.kv_get("/kv/a").await;
    assert_problem(&answer, 429, "too_many_requests", "too many requests");
    assert_eq!(answer.header("retry-after"), Some("1"));
    world.clock.advance_ms(500);
    assert_eq!(public.kv_get("/kv/a").await.status, 404);

    let (token, _) = world.token(vec![Grant::everything()], None).await;
    let headers = [("authorization", &*token)];
    world.clock.advance_ms(10_000);
    for _ in 0..2 {
        assert_eq!(public.send("GET", "/kv/a", &headers, "").await.status, 404);
    }
    let answer = public.send("GET", "/kv/a", &headers, "").await;
    assert_problem(&answer, 429, "too_many_requests", "too many requests");
    // Headers that a client chooses do not lift the limit.
    let foreign = [headers[0], ("origin", "https://elsewhere.example")];
    let answer = public.send("DELETE", "/kv/a", &foreign, "").await;
    assert_problem(&answer, 429, "too_many_requests", "too many requests");
}

#[tokio::test]
async fn a_revoked_token_ends_its_watches() {
    let world = World::new();
    let app = app_over(&world, Settings::default());
    let (token, id) = world.token(vec![Grant::everything()], None).await;
    let headers = [("authorization", &*token)];
    let mut events = app.open("GET", "/kv/a?watch=true", &headers, "").await;
    events.until("data:").await;
    world.access.revoke(id).await.unwrap();
    world
        .put("default", key(&["a"]), kvasir_kv::Value::json("1"))
        .await;
    assert_eq!(events.next().await, None, "the change is not told");
}

#[tokio::test]
async fn a_followed_cache_is_as_right_as_reading_the_store() {
    let world = World::new();
    let app = app_over(&world, Settings::default());
    let access = Arc::clone(&world.access);
    let follower = tokio::spawn({
        let shutdown = world.shutdown.clone();
        async move { access.follow(shutdown.cancelled_owned()).await }
    });
    tokio::task::yield_now().await;
    for _ in 0..50 {
        let (token, id) = world.token(vec![Grant::everything()], None).await;
        let headers = [("authorization", &*token)];
        for _ in 0..3 {
            assert_eq!(app.send("GET", "/kv/a", &headers, "").await.status, 404);
        }
        world.access.revoke(id).await.unwrap();
        assert_eq!(app.send("GET", "/kv/a", &headers, "").await.status, 401);
    }
    // Another node over the same store: its own cache hears of the revocation.
    let other = World::over(
        Arc::clone(&world.store),
        world.clock.clone(),
        world.limits,
        AccessSettings::default(),
    );
    let (token, id) = world.token(vec![Grant::everything()], None).await;
    let shown = access_of(&token);
    assert!(
        world
            .access
            .authenticate(Some(shown), Approach::Public, SOMEBODY)
            .await
            .unwrap()
            .is_ok()
    );
    other.access.revoke(id).await.unwrap();
    kvasir_testkit::eventually(
        kvasir_testkit::DEADLINE,
        "the revocation is heard of",
        || async {
            let let_in = world
                .access
                .authenticate(Some(shown), Approach::Public, SOMEBODY)
                .await
                .unwrap();
            let_in.is_err().then_some(())
        },
    )
    .await;
    world.shutdown.cancel();
    follower.await.unwrap();
}

fn access_of(header: &str) -> &str {
    header.strip_prefix("Bearer ").unwrap()
}

#[tokio::test]
async fn the_header_names_a_database_and_the_token_has_to_allow_it() {
    let world = World::new();
    let app = app_over(&world, Settings::default()).on_public_address();
    let of = |keyspace: &str, verbs: &[Verb]| Grant {
        keyspace: Some(keyspace.parse().unwrap()),
        prefix: key(&[]),
        ..grant(verbs)
    };
    let all = [Verb::Read, Verb::Write, Verb::Delete];
    let (shop, _) = world.token(vec![of("shop", &all)], None).await;
    let everything = Grant::everything();
    let (admin, _) = world.token(vec![everything], None).await;
    let ask = async |method: &str, target: &str, token: &str, database: &str, body: &str| {
        let headers = [
            ("authorization", token),
            ("kvasir-database", database),
            JSON,
        ];
        app.send(method, target, &headers, body.to_owned()).await
    };
    let put = r#"{"value":1}"#;
    let atomic = r#"{"mutations":[{"type":"set","key":["b"],"value":2}]}"#;
    assert_eq!(ask("PUT", "/kv/a", &shop, "shop", put).await.status, 200);
    assert_eq!(
        ask("POST", "/kv/_atomic", &shop, "shop", atomic)
            .await
            .status,
        200
    );
    assert_eq!(ask("GET", "/kv/a", &shop, "shop", "").await.text(), "1");
    let listed = ask("GET", "/kv?list=true", &shop, "shop", "").await;
    assert_eq!(listed.json().as_array().unwrap().len(), 2);
    assert!(world.get("shop", &key(&["a"])).await.is_some());
    assert!(world.get("default", &key(&["a"])).await.is_none());
    // One that is there and one that is not look alike to those who may use neither.
    ask("PUT", "/kv/a", &admin, "other", put).await;
    for (method, target, body) in [
        ("GET", "/kv/a", ""),
        ("GET", "/kv?list=true", ""),
        ("PUT", "/kv/a", put),
        ("DELETE", "/kv/a", ""),
        ("POST", "/kv/_atomic", atomic),
    ] {
        let there = ask(method, target, &shop, "other", body).await;
        let not_there = ask(method, target, &shop, "nothing", body).await;
        assert_eq!(
            (there.status.as_u16(), not_there.status.as_u16()),
            (403, 403),
            "{method}"
        );
        assert_eq!(there.json()["detail"], not_there.json()["detail"]);
        let plain = app
            .send(
                method,
                target,
                &[("authorization", &shop), JSON],
                body.to_owned(),
            )
            .await;
        assert_eq!(plain.status, 403, "{method} on the default database");
    }
    let databases = kvasir_api::databases::Databases::new(world.system.clone());
    let exists = async |name: &str| {
        databases
            .find(&name.parse().unwrap())
            .await
            .unwrap()
            .is_some()
    };
    assert!(
        exists("other").await,
        "an administrator's first use makes it"
    );
    assert!(!exists("nothing").await);
    for bad in ["_system", "_queues", "A", "a/b", ""] {
        let answer = ask("GET", "/kv/a", &admin, bad, "").await;
        assert_problem(&answer, 400, "bad_request", "kvasir-database");
    }
}

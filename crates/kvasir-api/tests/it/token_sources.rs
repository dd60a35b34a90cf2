//! CON-7: tokens that may be used from some networks only, and their last use.

use std::net::SocketAddr;
use std::sync::Arc;

use kvasir_api::admin::Admin;
use kvasir_api::classworks::{self, Classworks};
use kvasir_api::deno::{self, Deno};
use kvasir_api::rest::{self, Rest};
use kvasir_auth::last_use::STORED_EVERY_MS;
use kvasir_auth::network::SOURCES_MAX;
use kvasir_kv::{Key, Value};
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};

use crate::support::{Answer, App, World};

const JSON: (&str, &str) = ("content-type", "application/json");

fn app(world: &World) -> App {
    let passwords = || kvasir_auth::Passwords::new(1);
    let ctx = |dialect, base, keyspace| world.ctx(dialect, base, keyspace);
    world
        .app(vec![
            Arc::new(Admin::new(ctx("admin", "/_", "default"), passwords())),
            Arc::new(Rest::new(
                ctx("rest", "/kv", "default"),
                rest::Settings::default(),
            )),
            Arc::new(Deno::new(
                ctx("deno", "", "default"),
                deno::Settings::default(),
            )),
            Arc::new(Classworks::new(
                ctx("classworks", "/classworks", "classworks"),
                classworks::Settings::default(),
                passwords(),
            )),
        ])
        .on_public_address()
}

/// The same site, asked by a client at this address.
fn from(app: &App, address: &str) -> App {
    App {
        peer: SocketAddr::new(address.parse().unwrap(), 50_000),
        ..app.clone()
    }
}

async fn send(app: &App, method: &str, path: &str, token: &str, body: &Json) -> Answer {
    let bearer = format!("Bearer {token}");
    let body = match body {
        Json::Null => String::new(),
        body => body.to_string(),
    };
    let headers = [JSON, ("authorization", &*bearer)];
    app.send(method, path, &headers, body).await
}

async fn administrator(world: &World) -> String {
    let text = world.access.bootstrap().await.unwrap();
    text.unwrap().expose_secret().to_owned()
}

/// A token for everything from these networks: its text and its id.
async fn token(app: &App, admin: &str, sources: &[&str]) -> (String, String) {
    let body = json!({
        "name": "here", "sources": sources,
        "grants": [{"verbs": ["read", "write", "delete", "admin"]}],
    });
    let made = send(app, "POST", "/_/api/v1/tokens", admin, &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let text = |member: &str| made[member].as_str().unwrap().to_owned();
    (text("token"), text("id"))
}

#[tokio::test]
async fn a_token_from_elsewhere_is_refused_exactly_like_an_unknown_one_on_every_kind_of_route() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    let (inside, outside) = (from(&app, "10.1.2.3"), from(&app, "11.0.0.1"));
    let (here, _) = token(&app, &admin, &["10.0.0.0/8", "2001:db8::/32"]).await;
    let (revoked, id) = token(&app, &admin, &[]).await;
    let path = format!("/_/api/v1/tokens/{id}?forget=true");
    assert_eq!(
        send(&app, "DELETE", &path, &admin, &Json::Null)
            .await
            .status,
        204
    );
    let unknown = revoked;
    world
        .put("default", Key::from_strings(["a"]), Value::json("1"))
        .await;

    let login = |token: &str| json!({ "token": token });
    for (method, path, body) in [
        ("GET", "/kv/a", Json::Null),
        ("PUT", "/kv/a", json!({"value": 2})),
        ("GET", "/kv/a?meta=true", Json::Null),
        ("GET", "/_/api/v1/whoami", Json::Null),
        ("POST", "/_/api/v1/databases", json!({"name": "x"})),
        ("POST", "/", json!({"supportedVersions": [3]})),
        (
            "GET",
            "/classworks/0f1c5bd0-7b3c-4b44-9d0e-1f5f4a1f2b3c/a",
            Json::Null,
        ),
    ] {
        let refused = send(&outside, method, path, &here, &body).await;
        let as_unknown = send(&outside, method, path, &unknown, &body).await;
        assert_eq!(refused.status, 401, "{method} {path}: {}", refused.text());
        let same = |answer: &Answer| {
            let mut headers = answer.headers.clone();
            headers.remove("x-request-id");
            headers.remove("ratelimit");
            let text = answer
                .text()
                .replace(answer.header("x-request-id").unwrap(), "");
            (answer.status, headers, text)
        };
        assert_eq!(same(&refused), same(&as_unknown), "{method} {path}");
        let admitted = send(&inside, method, path, &here, &body).await;
        assert_ne!(admitted.status, 401, "{method} {path}: {}", admitted.text());
    }
    let path = "/_/api/v1/session";
    let refused = outside
        .send("POST", path, &[JSON], login(&here).to_string())
        .await;
    assert_eq!(refused.status, 401);
    let entered = inside
        .send("POST", path, &[JSON], login(&here).to_string())
        .await;
    assert_eq!(entered.status, 200);
}

#[tokio::test]
async fn networks_hold_at_their_edges_and_ipv4_in_ipv6_is_ipv4() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    for (sources, address, is_admitted) in [
        (&["10.0.0.0/8"][..], "10.0.0.0", true),
        (&["10.0.0.0/8"], "10.255.255.255", true),
        (&["10.0.0.0/8"], "9.255.255.255", false),
        (&["10.0.0.0/8"], "::ffff:10.1.1.1", true),
        (&["::ffff:10.0.0.0/104"], "10.1.1.1", true),
        (&["192.0.2.7/32"], "192.0.2.7", true),
        (&["192.0.2.7"], "192.0.2.8", false),
        (&["0.0.0.0/0"], "203.0.113.9", true),
        (&["0.0.0.0/0"], "2001:db8::1", false),
        (&["::/0"], "2001:db8::1", true),
        (&["::/0"], "203.0.113.9", false),
        (&["2001:db8::1/128"], "2001:db8::1", true),
        (&["2001:db8::1/128"], "2001:db8::2", false),
        (&["10.0.0.0/8", "::/0"], "2001:db8::2", true),
        (&[], "203.0.113.9", true),
    ] {
        let (token, _) = token(&app, &admin, sources).await;
        let client = from(&app, address);
        let status = send(&client, "GET", "/_/api/v1/whoami", &token, &Json::Null)
            .await
            .status;
        let expected = if is_admitted { 200 } else { 401 };
        assert_eq!(status, expected, "{address} in {sources:?}");
    }
}

#[tokio::test]
async fn text_that_is_no_network_is_refused_with_what_is_allowed() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    let many = vec!["10.0.0.0/8"; SOURCES_MAX + 1];
    for (sources, told) in [
        (
            json!(["office"]),
            "`sources[0]`: write an address or a network such as",
        ),
        (json!(["10.0.0.0/8", ""]), "`sources[1]`: write an address"),
        (json!(["10.0.0.0/33"]), "0 to 32"),
        (json!(["2001:db8::/129"]), "0 to 128"),
        (json!(["10.1.2.3/8"]), "the network is written 10.0.0.0/8"),
        (json!("10.0.0.0/8"), "expected a sequence"),
        (json!([8]), "expected a string"),
        (json!(many), "at most 32 networks"),
    ] {
        let body = json!({"name": "x", "grants": [{"verbs": ["read"]}], "sources": sources});
        let answer = send(&app, "POST", "/_/api/v1/tokens", &admin, &body).await;
        assert_eq!(answer.status, 400, "{sources}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(told), "{detail:?} does not say {told:?}");
    }
    let full: Vec<String> = (0..SOURCES_MAX).map(|n| format!("10.0.0.{n}")).collect();
    let full: Vec<&str> = full.iter().map(String::as_str).collect();
    token(&app, &admin, &full).await;
}

#[tokio::test]
async fn explain_says_that_a_token_is_for_another_network() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    let (_, id) = token(&app, &admin, &["10.0.0.0/8", "2001:db8::/32"]).await;
    let ask = |from: Json| {
        let body = json!({
            "token": id, "dialect": "rest", "keyspace": "default", "key": ["a"], "verb": "read", "from": from,
        });
        let (app, admin) = (app.clone(), admin.clone());
        async move { send(&app, "POST", "/_/api/v1/tokens/explain", &admin, &body).await }
    };
    let answer = ask(json!("203.0.113.9")).await.json();
    assert_eq!(answer["allowed"], false);
    let reason = answer["reason"].as_str().unwrap();
    assert_eq!(
        reason,
        "the token may be used from 10.0.0.0/8, 2001:db8::/32 only, and 203.0.113.9 is not among them"
    );
    assert_eq!(ask(json!("::ffff:10.0.0.1")).await.json()["allowed"], true);
    let answer = ask(Json::Null).await.json();
    assert_eq!(answer["allowed"], true);
    assert!(
        answer["reason"]
            .as_str()
            .unwrap()
            .ends_with("if it comes from 10.0.0.0/8, 2001:db8::/32")
    );
    let answer = ask(json!("somewhere")).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test]
async fn cookies_links_and_data_tokens_of_a_token_do_not_outrun_its_networks() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    let (here, id) = token(&app, &admin, &["10.0.0.0/8"]).await;
    let (inside, outside) = (from(&app, "10.1.2.3"), from(&app, "203.0.113.9"));

    // A cookie.
    let session = "/_/api/v1/session";
    let body = json!({ "token": here }).to_string();
    let entered = inside.send("POST", session, &[JSON], body).await;
    let cookie = entered
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let status = async |app: &App| {
        app.send("GET", session, &[("cookie", &*cookie)], "")
            .await
            .status
    };
    assert_eq!(status(&inside).await, 200);
    assert_eq!(status(&outside).await, 401);
    assert_eq!(
        status(&inside).await,
        200,
        "whoever holds it rightly stays logged in"
    );

    // A link.
    let link = send(
        &inside,
        "POST",
        "/_/api/v1/session/links",
        &here,
        &Json::Null,
    )
    .await
    .json();
    let body = json!({ "link": link["link"] }).to_string();
    assert_eq!(
        outside.send("POST", session, &[JSON], body).await.status,
        401
    );

    // A data token of Deno, also one that is remembered.
    let exchanged = send(
        &inside,
        "POST",
        "/",
        &here,
        &json!({"supportedVersions": [3]}),
    )
    .await;
    assert_eq!(exchanged.status, 200, "{}", exchanged.text());
    let exchanged = exchanged.json();
    let text = |member: &str| exchanged[member].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {}", text("token"));
    let database = text("databaseId");
    let url = exchanged["endpoints"][0]["url"].as_str().unwrap();
    let path = format!("{url}/snapshot_read");
    let read = async |app: &App| {
        let headers = [
            ("authorization", &*bearer),
            ("x-denokv-version", "3"),
            ("x-denokv-database-id", &*database),
        ];
        app.send("POST", &path, &headers, "").await.status
    };
    assert_eq!(read(&outside).await, 401);
    assert_eq!(read(&inside).await, 200);
    assert_eq!(read(&outside).await, 401);
    assert_eq!(read(&inside).await, 200);

    let revoke = format!("/_/api/v1/tokens/{id}");
    send(&app, "DELETE", &revoke, &admin, &Json::Null).await;
    assert_eq!(status(&inside).await, 401);
}

/// What the list of tokens says about the last use of one.
async fn last_use(app: &App, admin: &str, id: &str) -> (Json, Json) {
    let one = send(
        app,
        "GET",
        &format!("/_/api/v1/tokens/{id}"),
        admin,
        &Json::Null,
    )
    .await
    .json();
    let all = send(app, "GET", "/_/api/v1/tokens", admin, &Json::Null)
        .await
        .json();
    let listed = all["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .find(|token| token["id"] == id);
    let listed = listed.unwrap();
    assert_eq!(listed["lastUsedAt"], one["lastUsedAt"]);
    assert_eq!(listed["lastUsedFrom"], one["lastUsedFrom"]);
    (one["lastUsedAt"].clone(), one["lastUsedFrom"].clone())
}

#[tokio::test]
async fn the_last_use_is_told_at_once_and_stored_once_a_minute_beside_the_requests() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    let (here, id) = token(&app, &admin, &["203.0.113.0/24"]).await;
    assert_eq!(last_use(&app, &admin, &id).await, (Json::Null, Json::Null));
    let stored = async || {
        let key = Key::from_strings(["token_uses", &id]);
        world
            .system
            .get(&key)
            .await
            .unwrap()
            .map(|entry| entry.versionstamp)
    };

    let refused = from(&app, "198.51.100.9");
    assert_eq!(
        send(&refused, "GET", "/kv/a", &here, &Json::Null)
            .await
            .status,
        401
    );
    assert_eq!(
        last_use(&app, &admin, &id).await.0,
        Json::Null,
        "a refusal is no use"
    );

    for _ in 0..3 {
        send(&app, "GET", "/kv/a", &here, &Json::Null).await;
    }
    let used = last_use(&app, &admin, &id).await;
    assert_eq!(used, (json!("2026-01-02T03:04:05Z"), json!("203.0.113.7")));
    assert_eq!(stored().await, None, "no request waits for the store");
    // The administrator's token was used too.
    assert_eq!(world.access.store_uses().await.unwrap(), 2);
    let first = stored().await;
    assert!(first.is_some());
    assert_eq!(world.access.store_uses().await.unwrap(), 0);

    world.clock.advance_ms(STORED_EVERY_MS - 1);
    send(
        &from(&app, "203.0.113.8"),
        "GET",
        "/kv/a",
        &here,
        &Json::Null,
    )
    .await;
    assert_eq!(
        world.access.store_uses().await.unwrap(),
        0,
        "not within a minute"
    );
    assert_eq!(stored().await, first);
    let used = last_use(&app, &admin, &id).await;
    assert_eq!(
        used,
        (json!("2026-01-02T03:05:04.999Z"), json!("203.0.113.8"))
    );
    world.clock.advance_ms(1);
    world.access.store_uses().await.unwrap();
    assert_ne!(stored().await, first);

    // Another process over the same store, which was told nothing.
    let other = World::over(
        Arc::clone(&world.store),
        world.clock.clone(),
        world.limits,
        kvasir_auth::AccessSettings::default(),
    );
    let there = self::app(&other);
    let seen = last_use(&there, &admin, &id).await;
    assert_eq!(
        seen,
        (json!("2026-01-02T03:05:04.999Z"), json!("203.0.113.8"))
    );

    // An earlier use of another process does not replace a later one.
    let before = stored().await;
    world.clock.advance_ms(STORED_EVERY_MS);
    send(&there, "GET", "/kv/a", &here, &Json::Null).await;
    world.clock.advance_ms(STORED_EVERY_MS);
    send(&app, "GET", "/kv/a", &here, &Json::Null).await;
    world.access.store_uses().await.unwrap();
    let later = stored().await;
    assert_ne!(later, before);
    other.access.store_uses().await.unwrap();
    assert_eq!(stored().await, later);

    // With the token's record its use is forgotten.
    let forget = format!("/_/api/v1/tokens/{id}?forget=true");
    assert_eq!(
        send(&app, "DELETE", &forget, &admin, &Json::Null)
            .await
            .status,
        204
    );
    assert_eq!(stored().await, None);
    world.clock.advance_ms(STORED_EVERY_MS);
    world.access.store_uses().await.unwrap();
    assert_eq!(stored().await, None);
}

#[tokio::test]
async fn the_last_use_is_kept_beside_the_requests_until_the_server_ends() {
    let world = World::new();
    let app = app(&world);
    let admin = administrator(&world).await;
    let (stop, access) = (world.shutdown.clone(), Arc::clone(&world.access));
    let keeping = tokio::spawn(async move { access.keep_uses(stop.cancelled()).await });
    let (here, id) = token(&app, &admin, &[]).await;
    send(&app, "GET", "/kv/a", &here, &Json::Null).await;
    world.shutdown.cancel();
    kvasir_testkit::within(kvasir_testkit::DEADLINE, "it ends", keeping)
        .await
        .unwrap();
    let key = Key::from_strings(["token_uses", &id]);
    assert!(world.system.get(&key).await.unwrap().is_some());
}

//! What the console needs of the admin API: sessions, looking around, editing, watching, expiry.

use std::sync::Arc;

use kvasir_api::admin::Admin;
use kvasir_api::admin::session::{IDLE_MS, LINK_MS, SESSION_MS, SESSIONS_MAX};
use kvasir_kv::{Key, Part, Value};
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};

use crate::support::{Answer, App, START, World};

const JSON: (&str, &str) = ("content-type", "application/json");

fn app(world: &World) -> App {
    let ctx = world.ctx("admin", "/_", "default");
    let admin = Admin::new(ctx, kvasir_auth::Passwords::new(1));
    world.app(vec![Arc::new(admin)])
}

async fn administrator(world: &World) -> String {
    let text = world.access.bootstrap().await.unwrap();
    text.unwrap().expose_secret().to_owned()
}

async fn call(
    app: &App,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Json,
) -> Answer {
    let mut all = vec![JSON];
    all.extend_from_slice(headers);
    let body = match body {
        Json::Null => String::new(),
        body => body.to_string(),
    };
    app.send(method, &format!("/_/api/v1{path}"), &all, body)
        .await
}

async fn get(app: &App, path: &str) -> Answer {
    call(app, "GET", path, &[], &Json::Null).await
}

fn key_query(key: &Json) -> String {
    percent(&key.to_string())
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A browser that is logged in: its cookie and its anti-forgery token.
struct Tab {
    cookie: String,
    forgery: String,
}

async fn log_in(app: &App, proof: &Json) -> Tab {
    let answer = call(app, "POST", "/session", &[], proof).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap();
    Tab {
        cookie: cookie.split(';').next().unwrap().to_owned(),
        forgery: answer.json()["forgeryToken"].as_str().unwrap().to_owned(),
    }
}

impl Tab {
    async fn call(&self, app: &App, method: &str, path: &str, body: &Json) -> Answer {
        let headers = [
            ("cookie", self.cookie.as_str()),
            ("x-kvasir-session", self.forgery.as_str()),
        ];
        call(app, method, path, &headers, body).await
    }

    async fn status(&self, app: &App) -> u16 {
        let answer = self.call(app, "GET", "/session", &Json::Null).await;
        answer.status.as_u16()
    }
}

#[tokio::test]
async fn a_token_begins_a_session_whose_cookie_is_strict_and_secure_on_tls() {
    let world = World::new();
    let mut app = app(&world);
    let token = administrator(&world).await;
    let proof = json!({ "token": token });

    let answer = call(&app, "POST", "/session", &[], &proof).await;
    let cookie = answer.header("set-cookie").unwrap().to_owned();
    assert!(cookie.starts_with("kvasir_session_8000="), "{cookie}");
    assert!(
        cookie.ends_with("; Path=/_/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    assert_eq!(answer.json()["by"], "session");
    app.is_tls = true;
    let answer = call(&app, "POST", "/session", &[], &proof).await;
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"));
}

#[tokio::test]
async fn who_is_no_administrator_gets_no_session() {
    let world = World::new();
    let app = app(&world);
    let token = administrator(&world).await;
    let bearer = format!("Bearer {token}");
    let made = json!({"name": "data", "grants": [{"verbs": ["read", "write"]}]});
    let made = call(
        &app,
        "POST",
        "/tokens",
        &[("authorization", &bearer)],
        &made,
    )
    .await;
    let data = made.json()["token"].clone();

    for (proof, status) in [
        (json!({ "token": data }), 403),
        (json!({"token": "nonsense"}), 401),
        (json!({"link": "nonsense"}), 401),
        (json!({}), 400),
        (json!({ "token": token, "link": "both" }), 400),
    ] {
        let answer = call(&app, "POST", "/session", &[], &proof).await;
        assert_eq!(answer.status, status, "{proof}");
        assert!(answer.header("set-cookie").is_none());
    }
}

#[tokio::test]
async fn changes_with_a_cookie_need_the_anti_forgery_token_and_the_own_origin() {
    let world = World::new();
    let app = app(&world);
    let tab = log_in(&app, &json!({ "token": administrator(&world).await })).await;
    let new = json!({"name": "made", "grants": [{"verbs": ["read"]}]});
    let cookie = ("cookie", tab.cookie.as_str());
    let forgery = ("x-kvasir-session", tab.forgery.as_str());

    for (headers, status, code) in [
        (vec![cookie], 403, Some("forgery")),
        (
            vec![cookie, ("x-kvasir-session", "wrong")],
            403,
            Some("forgery"),
        ),
        (
            vec![cookie, forgery, ("origin", "http://evil.example")],
            403,
            Some("foreign_origin"),
        ),
        (
            vec![cookie, forgery, ("origin", "http://localhost:8000")],
            201,
            None,
        ),
    ] {
        let answer = call(&app, "POST", "/tokens", &headers, &new).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
        assert_eq!(answer.header("x-kvasir-error"), code);
    }
    // Looking needs none.
    assert_eq!(
        call(&app, "GET", "/tokens", &[cookie], &Json::Null)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn sessions_end_when_idle_when_old_by_logging_out_and_with_their_token() {
    let world = World::new();
    let app = app(&world);
    let token = administrator(&world).await;
    let proof = json!({ "token": token });

    let idle = log_in(&app, &proof).await;
    world.clock.advance_ms(IDLE_MS - 1);
    assert_eq!(idle.status(&app).await, 200);
    world.clock.advance_ms(IDLE_MS);
    assert_eq!(idle.status(&app).await, 401);

    let background = log_in(&app, &proof).await;
    let headers = [
        ("cookie", background.cookie.as_str()),
        ("x-kvasir-background", "1"),
    ];
    world.clock.advance_ms(IDLE_MS - 1);
    assert_eq!(
        call(&app, "GET", "/session", &headers, &Json::Null)
            .await
            .status,
        200
    );
    world.clock.advance_ms(1);
    assert_eq!(
        background.status(&app).await,
        401,
        "what the page asks by itself is no use"
    );

    let old = log_in(&app, &proof).await;
    for _ in 0..SESSION_MS / (IDLE_MS - 1) {
        world.clock.advance_ms(IDLE_MS - 1);
        assert_eq!(old.status(&app).await, 200);
    }
    world.clock.advance_ms(IDLE_MS - 1);
    assert_eq!(old.status(&app).await, 401);

    let out = log_in(&app, &proof).await;
    assert_eq!(
        out.call(&app, "DELETE", "/session", &Json::Null)
            .await
            .status,
        204
    );
    assert_eq!(out.status(&app).await, 401);

    let revoked = log_in(&app, &proof).await;
    let id = revoked
        .call(&app, "GET", "/session", &Json::Null)
        .await
        .json()["id"]
        .clone();
    let path = format!("/tokens/{}", id.as_str().unwrap());
    assert_eq!(
        revoked
            .call(&app, "DELETE", &path, &Json::Null)
            .await
            .status,
        200
    );
    assert_eq!(revoked.status(&app).await, 401);
}

#[tokio::test]
async fn a_link_logs_in_once_and_within_a_minute() {
    let world = World::new();
    let app = app(&world);
    let bearer = format!("Bearer {}", administrator(&world).await);
    let make = async || {
        let made = call(
            &app,
            "POST",
            "/session/links",
            &[("authorization", &bearer)],
            &json!({}),
        )
        .await;
        assert_eq!(made.status, 201);
        made.json()["link"].as_str().unwrap().to_owned()
    };

    let link = make().await;
    world.clock.advance_ms(LINK_MS - 1);
    log_in(&app, &json!({ "link": link })).await;
    let again = call(&app, "POST", "/session", &[], &json!({ "link": link })).await;
    assert_eq!(again.status, 401);
    let late = make().await;
    world.clock.advance_ms(LINK_MS);
    let late = call(&app, "POST", "/session", &[], &json!({ "link": late })).await;
    assert_eq!(late.status, 401);
}

#[tokio::test]
async fn sessions_are_bounded_and_the_idlest_gives_way() {
    let world = World::new();
    let app = app(&world);
    let proof = json!({ "token": administrator(&world).await });
    let first = log_in(&app, &proof).await;
    world.clock.advance_ms(1);
    let second = log_in(&app, &proof).await;
    for _ in 2..=SESSIONS_MAX {
        world.clock.advance_ms(1);
        log_in(&app, &proof).await;
    }
    assert_eq!(first.status(&app).await, 401);
    assert_eq!(second.status(&app).await, 200);
}

#[tokio::test]
async fn logging_in_wrongly_too_often_is_slowed_down() {
    let world = World::new();
    let app = app(&world);
    administrator(&world).await;
    let wrong = json!({"token": "wrong"});
    for _ in 0..30 {
        assert_eq!(
            call(&app, "POST", "/session", &[], &wrong).await.status,
            401
        );
    }
    let answer = call(&app, "POST", "/session", &[], &wrong).await;
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").is_some());
}

async fn put(world: &World, parts: &[&str], value: &str) {
    let key = Key::from_strings(parts);
    world
        .put("default", key, Value::json(value.to_owned()))
        .await;
}

fn names(answer: &Answer) -> Vec<String> {
    let nodes = answer.json()["nodes"].as_array().unwrap().clone();
    let name = |node: &Json| {
        let text = node["text"].as_str().map(|text| format!("{text}…"));
        let part = || node["part"]["value"].to_string();
        let mark = if node["hasChildren"] == true { "/" } else { "" };
        let entry = if node["entry"].is_null() { "" } else { "*" };
        format!("{}{mark}{entry}", text.unwrap_or_else(part))
    };
    nodes.iter().map(name).collect()
}

#[tokio::test]
async fn a_tree_has_one_node_for_each_next_part_or_beginning_of_one() {
    let world = World::new();
    let app = app(&world);
    for at in 0..100 {
        put(&world, &["many", &format!("k{at:03}")], "1").await;
    }
    put(&world, &["both"], "1").await;
    put(&world, &["both", "below"], "1").await;
    for name in ["s:1:a", "s:1:b", "s:2:a", "t", "u:"] {
        put(&world, &[name], "1").await;
    }
    let number = Key::from_parts(&[Part::Number(1.5), Part::from("x")]);
    world.put("default", number, Value::json("1")).await;
    world
        .put("default", Key::new(vec![0xfe, 1]), Value::json("1"))
        .await;

    let all = get(&app, "/browse?keyspace=default&tree=true&delimiter=:").await;
    assert_eq!(
        names(&all),
        [
            r#""both"/*"#,
            r#""many"/"#,
            "s:…/",
            r#""t"*"#,
            "u:…/",
            "1.5/",
            r#""_gE"*"#
        ]
    );
    let below = get(
        &app,
        "/browse?keyspace=default&tree=true&delimiter=:&text=s:",
    )
    .await;
    assert_eq!(names(&below), ["s:1:…/", "s:2:…/"]);
    // Page by page it is the same.
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let path =
            format!("/browse?keyspace=default&tree=true&delimiter=:&limit=1&cursor={cursor}");
        let path = path.trim_end_matches("&cursor=").to_owned();
        let page = get(&app, &path).await;
        paged.extend(names(&page));
        match page.json()["cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(paged, names(&all));
}

#[tokio::test]
async fn a_list_is_paged_by_cursor_and_filtered_without_losing_the_place() {
    let world = World::new();
    let app = app(&world);
    for at in 0..1_200 {
        put(&world, &["k", &format!("{at:04}")], "1").await;
    }
    let (mut seen, mut cursor) = (0, String::new());
    loop {
        let path = format!("/browse?keyspace=default&limit=500{cursor}");
        let page = get(&app, &path).await.json();
        seen += page["entries"].as_array().unwrap().len();
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, 1_200);
    let found = get(&app, "/browse?keyspace=default&contains=077")
        .await
        .json();
    assert_eq!(
        found["entries"].as_array().unwrap().len(),
        12,
        "0077, 0770 to 0779, 1077"
    );
    assert_eq!(found["cursor"], Json::Null);
    for bad in [
        "limit=0",
        "limit=501",
        "prefix=[",
        "cursor=!",
        "keyspace=default",
    ] {
        let answer = get(&app, &format!("/browse?keyspace=default&{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    for bad in ["_system", "_queues", "A", ""] {
        let answer = get(&app, &format!("/browse?keyspace={bad}")).await;
        assert_eq!(answer.status, 400, "{bad:?}");
    }
}

#[tokio::test]
async fn a_list_begins_at_any_key_and_goes_either_way() {
    let world = World::new();
    let app = app(&world);
    for number in 0..25 {
        put(&world, &["n", &format!("{number:02}")], "1").await;
    }
    put(&world, &["m"], "1").await;
    put(&world, &["o"], "1").await;
    let below = percent(r#"[{"type":"string","value":"n"}]"#);
    let at = |number: &str| {
        let key = json!([{"type": "string", "value": "n"}, {"type": "string", "value": number}]);
        percent(&key.to_string())
    };
    let numbers = async |query: String| {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/browse?keyspace=default&prefix={below}&limit=4{query}{cursor}");
            let answer = get(&app, &path).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let page = answer.json();
            for row in page["entries"].as_array().unwrap() {
                seen.push(
                    row["key"][1]["value"]
                        .as_str()
                        .unwrap()
                        .parse::<u32>()
                        .unwrap(),
                );
            }
            let Some(next) = page["cursor"].as_str() else {
                return seen;
            };
            cursor = format!("&cursor={next}");
        }
    };
    let up = |from: u32| (from..25).collect::<Vec<_>>();
    let down = |from: u32| (0..=from).rev().collect::<Vec<_>>();
    assert_eq!(numbers(String::new()).await, up(0));
    assert_eq!(numbers("&reverse=true".to_owned()).await, down(24));
    for (from, first_up, last_down) in [("10", 10, 10), ("10a", 11, 10), ("24", 24, 24)] {
        let from = at(from);
        assert_eq!(numbers(format!("&from={from}")).await, up(first_up));
        assert_eq!(
            numbers(format!("&from={from}&reverse=true")).await,
            down(last_down)
        );
    }
    // A beginning outside of the prefix does not leave it.
    assert_eq!(numbers(format!("&from={}", percent("[]"))).await, up(0));
    assert_eq!(
        numbers(format!("&from={}", at("99"))).await,
        Vec::<u32>::new()
    );
    assert_eq!(
        numbers(format!("&from={}&reverse=true", at("99"))).await,
        down(24)
    );
    // Filters go the same way.
    let filtered = numbers(format!("&contains=1&reverse=true&from={}", at("20"))).await;
    assert_eq!(filtered, [19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 1]);
    for bad in ["from=x", "from=%7B%7D", "reverse=maybe"] {
        let answer = get(&app, &format!("/browse?keyspace=default&{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn keyspaces_of_secrets_are_not_listed() {
    let world = World::new();
    let app = app(&world);
    let bearer = format!("Bearer {}", administrator(&world).await);
    put(&world, &["a"], "1").await;
    world
        .put("other", Key::new(vec![0xff, 0xff]), Value::json("1"))
        .await;
    let answer = call(
        &app,
        "GET",
        "/keyspaces",
        &[("authorization", &bearer)],
        &Json::Null,
    )
    .await;
    assert_eq!(
        answer.json(),
        json!({"keyspaces": [{"name": "default"}, {"name": "other"}], "more": false})
    );
}

#[tokio::test]
async fn a_save_needs_the_version_that_was_read() {
    let world = World::new();
    let app = app(&world);
    let key = json!(["a", {"bigint": "7"}]);
    let save = async |versionstamp: Json, text: &str| {
        let body = json!({
            "keyspace": "default", "key": key, "versionstamp": versionstamp, "expiresAt": null,
            "value": {"encoding": "json", "text": text},
        });
        call(&app, "PUT", "/entry", &[], &body).await
    };
    let first = save(Json::Null, " 1.0 ").await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.json()["text"], " 1.0 ");
    let stamp = first.json()["versionstamp"].clone();
    let taken = save(Json::Null, "2").await;
    assert_eq!(taken.status, 409);
    assert_eq!(taken.json()["current"]["text"], " 1.0 ");
    assert_eq!(save(stamp.clone(), "3").await.status, 200);
    let late = save(stamp.clone(), "4").await;
    assert_eq!(
        (late.status.as_u16(), &late.json()["current"]["text"]),
        (409, &json!("3"))
    );

    let at = format!("/entry?keyspace=default&key={}", key_query(&key));
    let late = format!("{at}&versionstamp={}", stamp.as_str().unwrap());
    assert_eq!(
        call(&app, "DELETE", &late, &[], &Json::Null).await.status,
        409
    );
    let now = get(&app, &at).await.json();
    assert_eq!(now["text"], "3");
    let right = format!(
        "{at}&versionstamp={}",
        now["versionstamp"].as_str().unwrap()
    );
    assert_eq!(
        call(&app, "DELETE", &right, &[], &Json::Null).await.status,
        204
    );
    assert_eq!(get(&app, &at).await.status, 404);
    let gone = save(now["versionstamp"].clone(), "5").await;
    assert_eq!(
        (gone.status.as_u16(), &gone.json()["current"]),
        (409, &Json::Null)
    );
}

#[tokio::test]
async fn a_change_of_the_expiry_keeps_the_value_and_what_lies_beside_it() {
    let world = World::new();
    let app = app(&world);
    let payload = vec![0xff, 16, b'0'];
    let stamp = world
        .put(
            "default",
            Key::from_strings(["v"]),
            Value::v8(payload.clone()),
        )
        .await
        .versionstamp;
    let shown = get(
        &app,
        &format!("/entry?keyspace=default&key={}", key_query(&json!(["v"]))),
    )
    .await
    .json();
    assert_eq!(shown["exact"], false, "format 16 would not come back");

    let at = START.0 + 60_000;
    let body = json!({"keyspace": "default", "key": ["v"], "versionstamp": stamp.to_string(), "expiresAt": at});
    assert_eq!(call(&app, "PUT", "/entry", &[], &body).await.status, 200);
    let entry = world
        .get("default", &Key::from_strings(["v"]))
        .await
        .unwrap();
    assert_eq!(
        (entry.value, entry.expires_at.unwrap().0),
        (Value::v8(payload), at)
    );
    let stamp = entry.versionstamp.to_string();
    let past =
        json!({"keyspace": "default", "key": ["v"], "versionstamp": stamp, "expiresAt": START.0});
    assert_eq!(call(&app, "PUT", "/entry", &[], &past).await.status, 400);
}

#[tokio::test]
async fn what_is_no_value_is_refused() {
    let world = World::new();
    let app = app(&world);
    for value in [
        json!({"encoding": "json", "text": "{"}),
        json!({"encoding": "json", "raw": "AA=="}),
        json!({"encoding": "v8", "raw": "AA=="}),
        json!({"encoding": "v8", "raw": "?"}),
        json!({"encoding": "v8", "typed": {"type": "Uint8Array", "value": ""}}),
        json!({"encoding": "v8", "typed": {"type": "nonsense"}}),
        json!({"encoding": "u64", "raw": "AA=="}),
        json!({"encoding": "u64", "typed": {"type": "KvU64", "value": "18446744073709551616"}}),
        json!({"encoding": "xml", "text": "1"}),
        json!({"encoding": "json"}),
    ] {
        let body = json!({"keyspace": "default", "key": ["k"], "versionstamp": null, "expiresAt": null, "value": value});
        let answer = call(&app, "PUT", "/entry", &[], &body).await;
        assert_eq!(answer.status, 400, "{value}: {}", answer.text());
    }
    for body in [
        json!({"keyspace": "_system", "key": ["k"], "versionstamp": null, "expiresAt": null}),
        json!({"keyspace": "default", "key": [], "versionstamp": null, "expiresAt": null}),
        json!({"keyspace": "default", "key": ["k"], "versionstamp": null, "expiresAt": null}),
        json!({"keyspace": "default", "key": ["k"], "versionstamp": "x", "expiresAt": null}),
    ] {
        assert_eq!(
            call(&app, "PUT", "/entry", &[], &body).await.status,
            400,
            "{body}"
        );
    }
    assert!(
        world
            .get("default", &Key::from_strings(["k"]))
            .await
            .is_none()
    );
}

#[tokio::test]
async fn the_calendar_counts_by_hour_over_pages() {
    let world = World::new();
    let app = app(&world);
    let hour = 3_600_000;
    for (at, expiry) in [Some(1), Some(2), Some(hour), Some(8 * 24 * hour), None]
        .into_iter()
        .enumerate()
    {
        let body = json!({
            "keyspace": "default", "key": [at], "versionstamp": null,
            "expiresAt": expiry.map(|ms| START.0 + ms),
            "value": {"encoding": "json", "text": "1"},
        });
        assert_eq!(call(&app, "PUT", "/entry", &[], &body).await.status, 200);
    }
    let calendar = get(&app, "/expiry?keyspace=default").await.json();
    let begin = START.0 / hour * hour;
    assert_eq!(
        calendar,
        json!({
            "hours": [
                {"from": begin, "keys": 2, "bytes": 20},
                {"from": begin + hour, "keys": 1, "bytes": 10},
            ],
            "later": 1, "never": 1, "examined": 5, "cursor": null,
        })
    );
}

#[tokio::test]
async fn a_watch_tells_states_then_changes_and_goes_on_from_a_versionstamp() {
    let world = World::new();
    let app = app(&world);
    put(&world, &["w", "a"], "1").await;
    put(&world, &["x"], "1").await;
    let path = format!(
        "/_/api/v1/watch?keyspace=default&prefix={}",
        key_query(&json!(["w"]))
    );

    let mut watch = app
        .open("GET", &format!("{path}&initial=10"), &[], "")
        .await;
    assert_eq!(watch.status, 200);
    let begun = watch.until("\"ready\"").await;
    assert!(
        begun.contains("\"state\"") && !begun.contains("\"x\""),
        "{begun}"
    );
    put(&world, &["x"], "2").await;
    put(&world, &["w", "b"], "2").await;
    let told = watch.until("\"change\"").await;
    assert!(!told.contains("\"x\""), "{told}");
    let id = told
        .lines()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap()
        .to_owned();
    put(&world, &["w", "c"], "3").await;
    drop(watch);

    let mut again = app.open("GET", &path, &[("last-event-id", &id)], "").await;
    let told = again.until("\"ready\"").await;
    assert!(told.contains("\"c\"") && !told.contains("\"b\""), "{told}");
}

#[tokio::test]
async fn a_watch_ends_with_its_session() {
    let world = World::new();
    let app = app(&world);
    let tab = log_in(&app, &json!({ "token": administrator(&world).await })).await;
    let headers = [("cookie", tab.cookie.as_str())];
    let mut watch = app
        .open("GET", "/_/api/v1/watch?keyspace=default", &headers, "")
        .await;
    watch.until("\"ready\"").await;
    tab.call(&app, "DELETE", "/session", &Json::Null).await;
    assert!(watch.next().await.is_none());
}

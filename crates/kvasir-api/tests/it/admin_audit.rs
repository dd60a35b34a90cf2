//! OBS-7: who administered what is told, bounded, and nobody takes a line away or changes one unseen.

use std::sync::Arc;

use http::Method;
use kvasir_api::Dialect;
use kvasir_api::admin::Admin;
use kvasir_api::admin::audit::{ACTIONS, QUESTIONS};
use kvasir_api::audit::{Audit, Deed, RUN_MS, Settings};
use kvasir_kv::{AtomicWrite, Key, Mutation, Value};
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};

use crate::support::{Answer, App, World};

const JSON: (&str, &str) = ("content-type", "application/json");

fn audit(world: &World, settings: Settings) -> Arc<Audit> {
    let clock = Arc::new(world.clock.clone());
    Arc::new(Audit::new(world.system.clone(), clock, settings))
}

fn app(world: &World) -> (App, Arc<Audit>) {
    let audit = audit(world, Settings::default());
    let ctx = world.ctx("admin", "/_", "default");
    let admin = Admin::new(ctx, kvasir_auth::Passwords::new(1)).with_audit(Arc::clone(&audit));
    (world.app(vec![Arc::new(admin)]).on_public_address(), audit)
}

async fn administrator(world: &World) -> String {
    let text = world.access.bootstrap().await.unwrap();
    text.unwrap().expose_secret().to_owned()
}

async fn send(app: &App, method: &str, path: &str, token: &str, body: &Json) -> Answer {
    let bearer = format!("Bearer {token}");
    let body = match body {
        Json::Null => String::new(),
        body => body.to_string(),
    };
    let headers = [JSON, ("authorization", &*bearer)];
    let path = format!("/_/api/v1{path}");
    app.send(method, &path, &headers, body).await
}

/// All lines, the newest first.
async fn lines(app: &App, admin: &str) -> Vec<Json> {
    let answer = send(app, "GET", "/audit?limit=1000", admin, &Json::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["lines"].as_array().unwrap().clone()
}

async fn verdict(app: &App, admin: &str) -> Json {
    let answer = send(app, "GET", "/audit/verify", admin, &Json::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn every_change_is_a_line_that_says_who_what_when_from_where_and_which_versions() {
    let world = World::new();
    let (app, _) = app(&world);
    let admin = administrator(&world).await;
    let whoami = send(&app, "GET", "/whoami", &admin, &Json::Null)
        .await
        .json();

    let grants = json!([{"verbs": ["read"]}]);
    let made = send(
        &app,
        "POST",
        "/tokens",
        &admin,
        &json!({"name": "ci", "grants": grants}),
    )
    .await;
    let secret = made.json()["token"].as_str().unwrap().to_owned();
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let key = json!([{"type": "string", "value": "users"}, {"type": "bigint", "value": "5"}]);
    let value = json!({"encoding": "json", "text": "\"a secret value\""});
    let change = |versionstamp: Json| json!({"keyspace": "default", "key": key, "versionstamp": versionstamp, "expiresAt": null, "value": value});
    let first = send(&app, "PUT", "/entry", &admin, &change(Json::Null))
        .await
        .json();
    let second = send(
        &app,
        "PUT",
        "/entry",
        &admin,
        &change(first["versionstamp"].clone()),
    )
    .await
    .json();
    let stale = send(
        &app,
        "PUT",
        "/entry",
        &admin,
        &change(first["versionstamp"].clone()),
    )
    .await;
    assert_eq!(stale.status, 409);
    let percent = |text: String| {
        text.bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    let stamp = second["versionstamp"].as_str().unwrap();
    let gone = format!(
        "/entry?keyspace=default&key={}&versionstamp={stamp}",
        percent(key.to_string())
    );
    assert_eq!(
        send(&app, "DELETE", &gone, &admin, &Json::Null)
            .await
            .status,
        204
    );
    let password = "a long enough password";
    let user = json!({"email": "ada@example.com", "password": password});
    assert_eq!(
        send(&app, "POST", "/users", &admin, &user).await.status,
        201
    );
    let reset = send(
        &app,
        "POST",
        "/users/ada@example.com/reset",
        &admin,
        &Json::Null,
    )
    .await;
    let reset = reset.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(
        send(
            &app,
            "DELETE",
            &format!("/tokens/{id}"),
            &admin,
            &Json::Null
        )
        .await
        .status,
        200
    );
    // None of these changes anything.
    let question =
        json!({"token": id, "dialect": "rest", "keyspace": "default", "key": [], "verb": "read"});
    assert_eq!(
        send(&app, "POST", "/tokens/explain", &admin, &question)
            .await
            .status,
        200
    );
    assert_eq!(
        send(&app, "POST", "/databases", &secret, &json!({"name": "x"}))
            .await
            .status,
        401
    );
    assert_eq!(
        send(&app, "POST", "/databases", &admin, &json!({"name": "_"}))
            .await
            .status,
        400
    );
    let dry = json!({"entries": [{"key": [{"type": "string", "value": "a"}], "value": {"type": "number", "value": 1}}], "dryRun": true});
    let dry = send(&app, "POST", "/databases/default/entries", &admin, &dry).await;
    assert_eq!(dry.status, 200, "{}", dry.text());

    let all = lines(&app, &admin).await;
    let told: Vec<_> = all
        .iter()
        .rev()
        .map(|line| {
            let text = |member: &str| line[member].as_str().unwrap_or("-").to_owned();
            (text("action"), text("on"), text("before"), text("after"))
        })
        .collect();
    let place = r#"default ["users",{"bigint":"5"}]"#;
    let version = |entry: &Json| entry["versionstamp"].as_str().unwrap().to_owned();
    let none = || "-".to_owned();
    let expected = [
        ("token.create", format!("{id} (ci)"), none(), none()),
        ("entry.write", place.to_owned(), none(), version(&first)),
        (
            "entry.write",
            place.to_owned(),
            version(&first),
            version(&second),
        ),
        ("entry.remove", place.to_owned(), version(&second), none()),
        ("user.create", "ada@example.com".to_owned(), none(), none()),
        ("user.reset", "ada@example.com".to_owned(), none(), none()),
        ("token.revoke", format!("{id} (ci)"), none(), none()),
    ];
    let expected =
        expected.map(|(action, on, before, after)| (action.to_owned(), on, before, after));
    assert_eq!(told, expected);
    for (number, line) in (1..).zip(all.iter().rev()) {
        assert_eq!(line["number"], number);
        assert_eq!(line["at"], "2026-01-02T03:04:05Z");
        assert_eq!(line["by"], whoami["id"]);
        assert_eq!(line["byName"], "first administrator");
        assert_eq!(line["from"], "203.0.113.7");
        assert_eq!(line["request"].as_str().unwrap().len(), 16);
    }
    let text = Json::Array(all).to_string();
    for hidden in [
        secret.as_str(),
        admin.as_str(),
        password,
        reset.as_str(),
        "a secret value",
    ] {
        assert!(!text.contains(hidden), "{hidden} is told");
    }
    let verdict = verdict(&app, &admin).await;
    assert_eq!(
        (&verdict["intact"], &verdict["lines"]),
        (&json!(true), &json!(7))
    );
}

#[tokio::test]
async fn every_route_that_may_change_something_has_a_name() {
    let ctx = World::new().ctx("admin", "/_", "default");
    let described = Admin::new(ctx, kvasir_auth::Passwords::new(1)).openapi();
    let mut routes = Vec::new();
    for (path, item) in &described.paths.paths {
        let path = path.strip_prefix("/_/api/v1").unwrap_or(path);
        for (method, _) in kvasir_api::openapi::operations(item) {
            if !Method::from_bytes(method.as_bytes()).unwrap().is_safe() {
                routes.push((method, path.to_owned()));
            }
        }
    }
    let named = ACTIONS.iter().map(|(method, path, _)| (*method, *path));
    let known: Vec<_> = named.chain(QUESTIONS.iter().copied()).collect();
    for (method, path) in &routes {
        let is_known = known.iter().any(|known| known == &(*method, path.as_str()));
        assert!(is_known, "{method} {path} has no name in the audit list");
    }
    assert_eq!(routes.len(), known.len(), "a name is of no route");
}

#[tokio::test]
async fn logging_in_and_out_is_told_with_whose_token_it_was() {
    let world = World::new();
    let (app, _) = app(&world);
    let admin = administrator(&world).await;
    let body = json!({ "token": admin }).to_string();
    let entered = app.send("POST", "/_/api/v1/session", &[JSON], body).await;
    let cookie = entered
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let forgery = entered.json()["forgeryToken"].as_str().unwrap().to_owned();
    let wrong = app
        .send("POST", "/_/api/v1/session", &[JSON], r#"{"token":"x"}"#)
        .await;
    assert_eq!(wrong.status, 401);
    let headers = [("cookie", &*cookie), ("x-kvasir-session", &*forgery)];
    assert_eq!(
        app.send("DELETE", "/_/api/v1/session", &headers, "")
            .await
            .status,
        204
    );
    // There is none any more.
    app.send("DELETE", "/_/api/v1/session", &[], "").await;
    let all = lines(&app, &admin).await;
    let actions: Vec<_> = all
        .iter()
        .rev()
        .map(|line| line["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["session.begin", "session.end"]);
    assert_eq!(all[0]["by"], all[1]["by"]);
    assert_eq!(all[0]["byName"], "first administrator");
}

/// A chain of ten lines.
async fn ten() -> (World, App, String) {
    let world = World::new();
    let (app, audit) = app(&world);
    let admin = administrator(&world).await;
    for number in 0..10 {
        audit.record(deed(&format!("thing {number}"))).await;
    }
    (world, app, admin)
}

fn deed(on: &str) -> Deed {
    Deed {
        by: "somebody".to_owned(),
        from: "here".to_owned(),
        action: "thing.do".to_owned(),
        on: on.to_owned(),
        status: 200,
        ..Deed::default()
    }
}

fn line(number: u64) -> Key {
    Key::from_strings(["audit", "line", &format!("{number:020}")])
}

async fn change(world: &World, mutation: Mutation) {
    let write = AtomicWrite::new().push(mutation);
    world
        .system
        .commit(write)
        .await
        .unwrap()
        .committed()
        .unwrap();
}

async fn stored(world: &World, number: u64) -> Value {
    world
        .system
        .get(&line(number))
        .await
        .unwrap()
        .unwrap()
        .value
}

#[tokio::test]
async fn a_line_that_was_removed_is_found_wherever_it_stood() {
    for (removed, told) in [
        (1, "the line is missing"),
        (5, "the line is missing"),
        (10, "the last lines are missing"),
    ] {
        let (world, app, admin) = ten().await;
        assert_eq!(verdict(&app, &admin).await["intact"], true);
        change(&world, Mutation::delete(line(removed))).await;
        let verdict = verdict(&app, &admin).await;
        assert_eq!(verdict["intact"], false, "line {removed}");
        assert_eq!(verdict["fault"], json!({"number": removed, "what": told}));
    }
    let (world, app, admin) = ten().await;
    change(
        &world,
        Mutation::delete(Key::from_strings(["audit", "head"])),
    )
    .await;
    assert_eq!(verdict(&app, &admin).await["intact"], false);
    let (world, app, admin) = ten().await;
    for number in 1..=10 {
        change(&world, Mutation::delete(line(number))).await;
    }
    assert_eq!(verdict(&app, &admin).await["fault"]["number"], 1);
}

#[tokio::test]
async fn a_line_that_was_changed_is_found_also_if_its_own_hash_was_made_to_fit() {
    for number in [1, 5, 10] {
        // Any byte of it.
        let (world, app, admin) = ten().await;
        let whole = stored(&world, number).await.bytes;
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1;
            change(&world, Mutation::set(line(number), Value::bytes(bytes))).await;
            let verdict = verdict(&app, &admin).await;
            assert_eq!(
                verdict["fault"],
                json!({"number": number, "what": "the line was changed"})
            );
        }
        // The list shows the others.
        let all = lines(&app, &admin).await;
        assert_eq!(all.len(), 10);
        let damaged = all.iter().filter(|line| line["action"] == "changed line");
        assert_eq!(damaged.count(), 1);

        let text = String::from_utf8(whole.to_vec()).unwrap();
        let (_, json) = text.split_once('\n').unwrap();
        let forged = json.replace("somebody", "nobody");
        let hash = sha256(&forged);
        let forged = Value::bytes(format!("{hash}\n{forged}").into_bytes());
        change(&world, Mutation::set(line(number), forged)).await;
        let verdict = verdict(&app, &admin).await;
        assert_eq!(
            verdict["intact"], false,
            "line {number} with a hash that fits"
        );
    }
    // Two lines in each other's place.
    let (world, app, admin) = ten().await;
    let (third, fourth) = (stored(&world, 3).await, stored(&world, 4).await);
    change(&world, Mutation::set(line(3), fourth)).await;
    change(&world, Mutation::set(line(4), third)).await;
    assert_eq!(verdict(&app, &admin).await["fault"]["number"], 3);
    // A line more.
    let (world, app, admin) = ten().await;
    change(&world, Mutation::set(line(11), stored(&world, 10).await)).await;
    assert_eq!(verdict(&app, &admin).await["intact"], false);
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    data_encoding::HEXLOWER.encode(&Sha256::digest(text))
}

#[tokio::test]
async fn a_chain_that_was_written_anew_is_found_with_a_line_that_was_noted() {
    let (world, app, admin) = ten().await;
    let noted = verdict(&app, &admin).await;
    let noted = format!("{}:{}", noted["last"], noted["hash"].as_str().unwrap());
    let path = format!("/audit/verify?known={noted}");
    let ask = async || send(&app, "GET", &path, &admin, &Json::Null).await.json();
    assert_eq!(ask().await["intact"], true);
    for number in 1..=10 {
        change(&world, Mutation::delete(line(number))).await;
    }
    change(
        &world,
        Mutation::delete(Key::from_strings(["audit", "head"])),
    )
    .await;
    assert_eq!(
        verdict(&app, &admin).await["intact"],
        true,
        "an empty chain is whole"
    );
    assert_eq!(ask().await["fault"]["what"], "the noted line is missing");
    let anew = audit(&world, Settings::default());
    for number in 0..10 {
        anew.record(deed(&format!("other thing {number}"))).await;
    }
    assert_eq!(verdict(&app, &admin).await["intact"], true);
    assert_eq!(
        ask().await["fault"]["what"],
        "the line is another one than was noted"
    );
    for bad in ["1", "1:", "x:00", "1:ABC", ":", "-1:00"] {
        let path = format!("/audit/verify?known={bad}");
        assert_eq!(
            send(&app, "GET", &path, &admin, &Json::Null).await.status,
            400,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn the_list_is_a_ring_by_count_and_by_age_and_stays_whole() {
    let world = World::new();
    let (app, _) = app(&world);
    let admin = administrator(&world).await;
    let small = audit(&world, Settings { lines: 5, days: 2 });
    for number in 1..=5 {
        small.record(deed(&format!("thing {number}"))).await;
    }
    assert_eq!(verdict(&app, &admin).await["lines"], 5);
    small.record(deed("one more")).await;
    let whole = verdict(&app, &admin).await;
    let figures = ["intact", "lines", "first", "last"].map(|member| whole[member].clone());
    assert_eq!(figures, [json!(true), json!(5), json!(2), json!(6)]);

    // By age: two days are kept, and a millisecond more is not.
    world.clock.advance_ms(2 * 86_400_000);
    small.record(deed("two days later")).await;
    assert_eq!(verdict(&app, &admin).await["lines"], 5);
    world.clock.advance_ms(1);
    small.record(deed("and a little")).await;
    let whole = verdict(&app, &admin).await;
    let figures = ["intact", "lines", "first", "last"].map(|member| whole[member].clone());
    assert_eq!(figures, [json!(true), json!(2), json!(7), json!(8)]);

    // Also while nothing is written: beside the requests.
    world.clock.advance_ms(3 * 86_400_000);
    let (stop, keeper) = (world.shutdown.clone(), Arc::clone(&small));
    let keeping = tokio::spawn(async move { keeper.keep(stop.cancelled()).await });
    kvasir_testkit::eventually(kvasir_testkit::DEADLINE, "old lines go", || async {
        world.clock.advance_ms(RUN_MS);
        (verdict(&app, &admin).await["lines"] == 0).then_some(())
    })
    .await;
    world.shutdown.cancel();
    kvasir_testkit::within(kvasir_testkit::DEADLINE, "it ends", keeping)
        .await
        .unwrap();
    assert_eq!(verdict(&app, &admin).await["intact"], true);

    // Many too many, as after the limit was lowered, go with the next lines.
    let large = audit(&world, Settings::default());
    for _ in 0..300 {
        large.record(deed("x")).await;
    }
    for _ in 0..6 {
        small.record(deed("y")).await;
    }
    let whole = verdict(&app, &admin).await;
    assert_eq!(
        (&whole["intact"], &whole["lines"]),
        (&json!(true), &json!(5))
    );
}

#[tokio::test]
async fn an_import_is_told_at_once_and_then_every_ten_seconds_with_nothing_left_out() {
    let world = World::new();
    let (app, audit) = app(&world);
    let admin = administrator(&world).await;
    let write = async |first: usize| {
        let entries: Vec<_> = (first..first + 10)
            .map(|at| json!({"key": [{"type": "number", "value": at}], "value": {"type": "number", "value": at}}))
            .collect();
        let body = json!({ "entries": entries });
        let answer = send(&app, "POST", "/databases/default/entries", &admin, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    for at in 0..50 {
        write(at * 10).await;
    }
    let on = async || {
        let all = lines(&app, &admin).await;
        let texts = all
            .iter()
            .map(|line| line["on"].as_str().unwrap().to_owned());
        texts.collect::<Vec<_>>()
    };
    assert_eq!(on().await, ["default: 10 items in 1 request"]);
    world.clock.advance_ms(RUN_MS);
    write(500).await;
    assert_eq!(on().await[0], "default: 500 items in 50 requests");
    write(510).await;
    audit.flush().await;
    assert_eq!(on().await[0], "default: 10 items in 1 request");
    assert_eq!(on().await.len(), 3);
    assert_eq!(verdict(&app, &admin).await["intact"], true);
}

#[tokio::test]
async fn nodes_over_one_store_write_one_chain() {
    let world = World::new();
    let (app, _) = app(&world);
    let admin = administrator(&world).await;
    let nodes: Vec<_> = (0..4).map(|_| audit(&world, Settings::default())).collect();
    let writing = nodes.iter().map(|node| async move {
        for _ in 0..25 {
            node.record(deed("x")).await;
        }
    });
    futures_util::future::join_all(writing).await;
    for node in &nodes {
        node.flush().await;
    }
    let whole = verdict(&app, &admin).await;
    assert_eq!(
        (&whole["intact"], &whole["lines"]),
        (&json!(true), &json!(100))
    );
}

#[tokio::test]
async fn lines_come_in_pages_and_wrong_questions_are_refused() {
    let (_, app, admin) = ten().await;
    let mut seen = Vec::new();
    let mut path = "/audit?limit=3".to_owned();
    loop {
        let page = send(&app, "GET", &path, &admin, &Json::Null).await.json();
        let lines = page["lines"].as_array().unwrap();
        seen.extend(lines.iter().map(|line| line["number"].as_u64().unwrap()));
        let Some(before) = page["before"].as_u64() else {
            break;
        };
        path = format!("/audit?limit=3&before={before}");
    }
    assert_eq!(seen, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    for bad in ["limit=0", "limit=1001", "limit=x", "before=x", "before=-1"] {
        let answer = send(&app, "GET", &format!("/audit?{bad}"), &admin, &Json::Null).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    let grants = json!([{"verbs": ["read", "write", "delete"]}]);
    let data = send(
        &app,
        "POST",
        "/tokens",
        &admin,
        &json!({"name": "data", "grants": grants}),
    )
    .await;
    let data = data.json()["token"].as_str().unwrap().to_owned();
    for path in ["/audit", "/audit/verify"] {
        assert_eq!(
            send(&app, "GET", path, &data, &Json::Null).await.status,
            403
        );
    }
}

//! Access tokens: lines 63 to 72.

use super::*;
use data_encoding::BASE64URL_NOPAD;

const TOKENS: &str = "/edgekv/v1/tokens";

fn claims(token: &Value) -> Value {
    let value = token["value"].as_str().expect("a token by value");
    let parts: Vec<&str> = value.split('.').collect();
    assert_eq!(parts.len(), 3);
    serde_json::from_slice(&BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap()).unwrap()
}

/// The seed's own command, with httpie's strings for booleans and a date long past.
#[tokio::test]
async fn the_documented_command_makes_a_token_by_value() {
    let kv = Kv::new().await;
    let body = json!({
        "name": "my_token",
        "allowOnStaging": "true",
        "allowOnProduction": "true",
        "expiry": "2021-06-30",
        "namespacePermissions": {"default": ["r", "w", "d"]},
    });
    let answer = kv.send_json("POST", TOKENS, body).await;
    let created = body_of(&answer);
    check_json(
        &answer,
        200,
        json!({
            "expiry": "2021-06-30",
            "name": "my_token",
            "uuid": created["uuid"],
            "value": created["value"],
        }),
    );
    assert_eq!(created["uuid"].as_str().unwrap().len(), 36);
    // It is shown although it has expired, but listed on request only.
    check_json(
        &kv.send("GET", &format!("{TOKENS}/my_token"), "").await,
        200,
        created.clone(),
    );
    check_json(
        &kv.send("GET", TOKENS, "").await,
        200,
        json!({"tokens": []}),
    );
    let all = kv
        .send("GET", &format!("{TOKENS}?includeExpired=true"), "")
        .await;
    let summary = json!({"expiry": "2021-06-30", "name": "my_token", "uuid": created["uuid"]});
    check_json(&all, 200, json!({"tokens": [summary]}));
}

/// The claims that the vendor's tools need.
#[tokio::test]
async fn the_value_is_a_jwt_with_the_vendors_claims() {
    let kv = Kv::new().await;
    let members = json!({
        "allowOnProduction": false,
        "restrictToEdgeWorkerIds": ["12", "34"],
        "namespacePermissions": {"default": ["r"], "marketing": ["w", "d"]},
    });
    let token = kv.create_token("t", members).await;
    assert_eq!(
        claims(&token),
        json!({
            "name": "t",
            "cpc": "123456",
            "ewids": ["12", "34"],
            "env": ["s"],
            "iat": 1_767_323_045,
            "exp": 1_798_761_599, // 2026-12-31T23:59:59Z
            "jti": token["uuid"],
            "namespace-default": ["r"],
            "namespace-marketing": ["w", "d"],
        })
    );
    let token = kv
        .create_token(
            "u",
            json!({"allowOnStaging": "False", "restrictToEwids": ["all"]}),
        )
        .await;
    assert_eq!(claims(&token)["ewids"], "all");
    assert_eq!(claims(&token)["env"], json!(["p"]));
}

#[tokio::test]
async fn a_token_is_retrieved_and_listed_without_its_value() {
    let kv = Kv::new().await;
    let b = kv.create_token("b", json!({})).await;
    let a = kv.create_token("a", json!({})).await;
    check_json(
        &kv.send("GET", &format!("{TOKENS}/a"), "").await,
        200,
        a.clone(),
    );
    let summary = |token: &Value| json!({"expiry": token["expiry"], "name": token["name"], "uuid": token["uuid"]});
    let expected = json!({"tokens": [summary(&a), summary(&b)]});
    for query in ["", "?includeExpired=false", "?includeExpired=true"] {
        let listed = kv.send("GET", &format!("{TOKENS}{query}"), "").await;
        check_json(&listed, 200, expected.clone());
    }
}

#[tokio::test]
async fn names_are_unique_until_revoked_or_expired() {
    let kv = Kv::new().await;
    let first = kv.create_token("t", json!({})).await;
    let body = json!({
        "name": "t", "allowOnStaging": true, "expiry": "2026-12-31",
        "namespacePermissions": {"default": ["r"]},
    });
    let answer = kv.send_json("POST", TOKENS, body).await;
    check_error(
        &answer,
        409,
        "EKV_3000",
        "Token with name t is already stored.",
    );

    let revoked = kv.send("DELETE", &format!("{TOKENS}/t"), "").await;
    check_json(&revoked, 200, json!({"name": "t", "uuid": first["uuid"]}));
    for method in ["GET", "DELETE"] {
        let answer = kv.send(method, &format!("{TOKENS}/t"), "").await;
        check_error(
            &answer,
            404,
            "EKV_3000",
            "Token with name t does not exist.",
        );
    }
    let all = kv
        .send("GET", &format!("{TOKENS}?includeExpired=true"), "")
        .await;
    check_json(&all, 200, json!({"tokens": []}));

    let second = kv.create_token("t", json!({"expiry": "2026-01-02"})).await;
    assert_ne!(first["uuid"], second["uuid"]);
    kv.advance_seconds(24 * 3600);
    let third = kv.create_token("t", json!({})).await;
    assert_ne!(second["uuid"], third["uuid"]);
    let all = kv
        .send("GET", &format!("{TOKENS}?includeExpired=true"), "")
        .await;
    assert_eq!(body_of(&all)["tokens"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_token_cannot_be_is_refused() {
    let kv = Kv::new().await;
    let good = json!({
        "name": "t", "allowOnStaging": true, "allowOnProduction": false, "expiry": "2026-12-31",
        "namespacePermissions": {"default": ["r"]},
    });
    for (member, bad) in [
        ("name", json!("")),
        ("name", json!("a b")),
        ("name", json!("t".repeat(33))),
        ("name", Value::Null),
        ("name", json!(1)),
        ("allowOnStaging", json!(false)),
        ("allowOnStaging", json!("maybe")),
        ("allowOnProduction", json!(1)),
        ("expiry", json!("tomorrow")),
        ("expiry", json!("2026-02-30")),
        ("expiry", json!(20_261_231)),
        ("namespacePermissions", Value::Null),
        ("namespacePermissions", json!({})),
        ("namespacePermissions", json!({"default": ["x"]})),
        ("namespacePermissions", json!({"default": "r"})),
        ("namespacePermissions", json!({"a b": ["r"]})),
        (
            "restrictToEdgeWorkerIds",
            json!(["a", "b", "c", "d", "e", "f", "g", "h", "i"]),
        ),
        ("restrictToEdgeWorkerIds", json!(12)),
    ] {
        let mut body = good.clone();
        body[member] = bad.clone();
        let answer = kv.send_json("POST", TOKENS, body).await;
        assert_eq!(answer.status, 400, "{member} {bad}: {}", answer.text());
        assert_eq!(body_of(&answer)["errorCode"], "EKV_2000");
    }
    for bad in ["", "{", "[]", "1"] {
        assert_eq!(kv.send("POST", TOKENS, bad).await.status, 422);
    }
    let bad = "The name of a token must have 1 to 32 characters of A-Z a-z 0-9 _ or -.";
    for (method, path) in [("GET", "a.b"), ("DELETE", "a%20b"), ("POST", "a.b/refresh")] {
        let answer = kv.send(method, &format!("{TOKENS}/{path}"), "").await;
        check_error(&answer, 400, "EKV_2000", bad);
    }
    assert_eq!(kv.send_json("POST", TOKENS, good).await.status, 200);
}

#[tokio::test]
async fn a_time_is_an_expiry_too() {
    let kv = Kv::new().await;
    let token = kv
        .create_token("t", json!({"expiry": "2027-01-20T00:00:00Z"}))
        .await;
    assert_eq!(token["expiry"], "2027-01-20");
}

#[tokio::test]
async fn without_an_expiry_the_token_is_by_reference() {
    let kv = Kv::new().await;
    let token = kv.create_token("t", json!({"expiry": ""})).await;
    let expected = json!({
        "allowOnProduction": true,
        "allowOnStaging": true,
        "cpcode": "123456",
        "expiry": "9999-12-31",
        "issueDate": "2026-01-02T03:04:05Z",
        "latestRefreshDate": null,
        "name": "t",
        "namespacePermissions": {"marketing": ["r", "w", "d"]},
        "nextScheduledRefreshDate": "2026-04-02T03:04:05Z",
        "restrictToEdgeWorkerIds": ["all"],
        "tokenActivationStatus": "COMPLETE",
        "uuid": token["uuid"],
    });
    assert_eq!(token, expected);
    check_json(
        &kv.send("GET", &format!("{TOKENS}/t"), "").await,
        200,
        expected.clone(),
    );

    kv.advance_seconds(10);
    let refreshed = kv.send("POST", &format!("{TOKENS}/t/refresh"), "").await;
    let mut expected = expected;
    expected["latestRefreshDate"] = json!("2026-01-02T03:04:15Z");
    expected["nextScheduledRefreshDate"] = json!("2026-04-02T03:04:15Z");
    check_json(&refreshed, 200, expected);
    check_json(
        &kv.send("GET", TOKENS, "").await,
        200,
        json!({"tokens": [{
            "expiry": "9999-12-31",
            "issueDate": "2026-01-02T03:04:05Z",
            "latestRefreshDate": "2026-01-02T03:04:15Z",
            "name": "t",
            "nextScheduledRefreshDate": "2026-04-02T03:04:15Z",
            "tokenActivationStatus": "COMPLETE",
            "uuid": token["uuid"],
        }]}),
    );

    kv.create_token("v", json!({})).await;
    let answer = kv.send("POST", &format!("{TOKENS}/v/refresh"), "").await;
    check_error(
        &answer,
        400,
        "EKV_2000",
        "Only tokens by reference can be refreshed.",
    );
    let answer = kv.send("POST", &format!("{TOKENS}/none/refresh"), "").await;
    check_error(
        &answer,
        404,
        "EKV_3000",
        "Token with name none does not exist.",
    );
}

/// The vendor's rules of today, on request.
#[tokio::test]
async fn strict_tokens_follow_the_vendors_dates() {
    let settings = Settings {
        strict_tokens: true,
        ..Settings::default()
    };
    let kv = Kv::with(settings).await;
    let answer = kv.send("GET", TOKENS, "").await;
    check_error(&answer, 404, "EKV_3000", "No tokens exist.");
    let create = async |name: &str, expiry: &str| {
        let body = json!({
            "name": name, "allowOnStaging": true, "expiry": expiry,
            "namespacePermissions": {"default": ["r"]},
        });
        kv.send_json("POST", TOKENS, body).await
    };
    for bad in ["2021-06-30", "2026-01-01", "2026-01-02", "2026-07-03"] {
        check_error(
            &create("t", bad).await,
            400,
            "EKV_2000",
            "expiry must be tomorrow or later and within six months.",
        );
    }
    assert_eq!(create("near", "2026-01-03").await.status, 200);
    assert_eq!(create("far", "2026-07-02").await.status, 200);
    kv.advance_seconds(2 * 24 * 3600);
    let answer = kv.send("GET", &format!("{TOKENS}/near"), "").await;
    check_error(&answer, 410, "EKV_3000", "Token has expired.");
}

#[tokio::test]
async fn a_database_has_a_limit_of_tokens() {
    let settings = Settings {
        tokens_max: 2,
        ..Settings::default()
    };
    let kv = Kv::with(settings).await;
    kv.create_token("a", json!({})).await;
    kv.create_token("b", json!({"expiry": null})).await;
    let body = json!({
        "name": "c", "allowOnStaging": true, "namespacePermissions": {"default": ["r"]},
    });
    let answer = kv.send_json("POST", TOKENS, body).await;
    check_error(
        &answer,
        400,
        "EKV_2000",
        "A database cannot have more than 2 tokens.",
    );
    kv.send("DELETE", &format!("{TOKENS}/a"), "").await;
    kv.create_token("c", json!({})).await;
}

#[tokio::test]
async fn what_is_administered_is_told_with_who_signed_it_and_items_are_not() {
    let kv = Kv::with_marketing().await;
    let body = json!({
        "name": "reader", "allowOnStaging": true, "allowOnProduction": false,
        "expiry": "2026-12-31", "namespacePermissions": {"marketing": ["r"]},
    });
    let made = kv.send_json("POST", "/edgekv/v1/tokens", body).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let secret = made.json()["value"].as_str().unwrap().to_owned();
    kv.send("PUT", &format!("{COUNTRIES}/items/de"), "Berlin")
        .await;
    kv.send("GET", STAGING, "").await;
    kv.send("DELETE", "/edgekv/v1/tokens/nobody", "").await;
    kv.send("DELETE", "/edgekv/v1/tokens/reader", "").await;
    let world = &kv.app.world;
    let clock = Arc::new(world.clock.clone());
    let settings = kvasir_api::audit::Settings::default();
    let audit = kvasir_api::audit::Audit::new(world.system.clone(), clock, settings);
    let lines = audit.list(None, 100).await.unwrap().lines;
    let told: Vec<_> = lines
        .iter()
        .rev()
        .map(|line| (line.line.action.as_str(), line.line.on.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("edgekv PUT /initialize", "/initialize"),
            (
                "edgekv POST /networks/{network}/namespaces",
                "/networks/staging/namespaces"
            ),
            ("edgekv POST /tokens", "/tokens"),
            ("edgekv DELETE /tokens/{name}", "/tokens/reader"),
        ]
    );
    for line in &lines {
        assert_eq!(line.line.by, CLIENT_TOKEN);
        assert_eq!(line.line.from, "127.0.0.1");
        assert!(!format!("{line:?}").contains(&secret));
    }
    assert!(audit.verify(None).await.unwrap().intact);
}

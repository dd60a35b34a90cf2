//! The data plane: lines 74 to 79.

use super::*;

const ITEM: &str = "namespaces/marketing/groups/countries/items/DE";

struct Plane {
    kv: Kv,
}

impl Plane {
    async fn new() -> Plane {
        let kv = Kv::with_marketing().await;
        kv.create_namespace(PRODUCTION, "marketing", 0).await;
        Plane { kv }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.kv
            .app
            .send(method, path, headers, body.to_owned())
            .await
    }

    /// A request with a token by value.
    async fn with(&self, token: &Value, method: &str, path: &str, body: &str) -> Answer {
        let value = token["value"].as_str().expect("a token by value");
        self.send(method, path, &[("x-akamai-edgedb-auth", value)], body)
            .await
    }
}

const NO_TOKEN: &str = "The access token is missing, unknown, expired or revoked.";
const NOT_ALLOWED: &str =
    "The access token does not allow this operation in this namespace on this network.";

#[tokio::test]
async fn a_bundle_reads_writes_and_deletes_by_value_and_by_reference() {
    let plane = Plane::new().await;
    let by_value = plane.kv.create_token("v", json!({})).await;
    let by_reference = plane.kv.create_token("r", json!({"expiry": null})).await;
    for (name, secret) in [
        ("x-akamai-edgedb-auth", by_value["value"].as_str().unwrap()),
        (
            "x-akamai-edgedb-auth-ref",
            by_reference["uuid"].as_str().unwrap(),
        ),
    ] {
        let headers = [(name, secret)];
        let path = format!("/staging/api/v1/{ITEM}");
        let answer = plane.send("GET", &path, &headers, "").await;
        check_error(
            &answer,
            404,
            "EKV_9000",
            "Item 'DE' or group 'countries' was not found in the database.",
        );
        let answer = plane
            .send("PUT", &path, &headers, "{\"name\": \"Germany\"}")
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.text(),
            "Item was upserted in KV store with database 123456, namespace marketing, group countries, and key DE."
        );
        let answer = plane.send("GET", &path, &headers, "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), "{\"name\": \"Germany\"}");
        assert_eq!(answer.header("content-length"), Some("19"));
        let answer = plane.send("DELETE", &path, &headers, "").await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn both_planes_see_the_same_items_at_once() {
    let plane = Plane::new().await;
    let token = plane.kv.create_token("t", json!({})).await;
    let staging = format!("/staging/api/v1/{ITEM}");
    plane.kv.put(&country("DE"), "one").await;
    for path in [
        staging.as_str(),
        &format!("/api/v1/{ITEM}"),
        &format!("/STAGING/api/v1/{ITEM}"),
    ] {
        assert_eq!(
            plane.with(&token, "GET", path, "").await.text(),
            "one",
            "{path}"
        );
    }
    plane.with(&token, "PUT", &staging, "two").await;
    assert_eq!(plane.kv.get(&country("DE")).await.as_deref(), Some("two"));
    let production = format!("/production/api/v1/{ITEM}");
    assert_eq!(plane.with(&token, "GET", &production, "").await.status, 404);
    plane.with(&token, "DELETE", &staging, "").await;
    assert_eq!(plane.kv.get(&country("DE")).await, None);
}

#[tokio::test]
async fn the_default_network_can_be_chosen() {
    let settings = Settings {
        default_network: kvasir_api::edgekv::Network::Production,
        ..Settings::default()
    };
    let kv = Kv::with(settings).await;
    kv.create_namespace(PRODUCTION, "marketing", 0).await;
    kv.put(
        &format!("{PRODUCTION}/marketing/groups/countries/items/DE"),
        "x",
    )
    .await;
    let plane = Plane { kv };
    let token = plane.kv.create_token("t", json!({})).await;
    assert_eq!(
        plane
            .with(&token, "GET", &format!("/api/v1/{ITEM}"), "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn without_a_valid_token_the_answer_is_401() {
    let plane = Plane::new().await;
    let token = plane.kv.create_token("t", json!({})).await;
    let reference = plane.kv.create_token("r", json!({"expiry": null})).await;
    let path = format!("/staging/api/v1/{ITEM}");
    let value = token["value"].as_str().unwrap();
    let uuid = token["uuid"].as_str().unwrap();
    let parts: Vec<&str> = value.split('.').collect();
    let base64 = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
    let none = format!("{}.{}.", base64(r#"{"alg":"none","typ":"JWT"}"#), parts[1]);
    let none_signed = format!("{none}{}", parts[2]);
    let claims =
        format!(r#"{{"jti":"{uuid}","namespace-marketing":["r","w","d"],"exp":9999999999}}"#);
    let altered = format!("{}.{}.{}", parts[0], base64(&claims), parts[2]);
    let cut = &value[..value.len() - 1];
    let shown = [
        ("x-akamai-edgedb-auth", ""),
        ("x-akamai-edgedb-auth", "x"),
        ("x-akamai-edgedb-auth", "a.b.c"),
        ("x-akamai-edgedb-auth", none.as_str()),
        ("x-akamai-edgedb-auth", none_signed.as_str()),
        ("x-akamai-edgedb-auth", altered.as_str()),
        ("x-akamai-edgedb-auth", cut),
        ("x-akamai-edgedb-auth", reference["uuid"].as_str().unwrap()),
        // The UUID of a token by value is in lists and no secret.
        ("x-akamai-edgedb-auth-ref", uuid),
        (
            "x-akamai-edgedb-auth-ref",
            "00000000-0000-4000-8000-000000000000",
        ),
        ("x-akamai-edgedb-auth-ref", "x"),
        ("x-akamai-edgedb-auth-ref", value),
        ("authorization", value),
    ];
    for header in shown {
        let answer = plane.send("GET", &path, &[header], "").await;
        check_error(&answer, 401, "EKV_1000", NO_TOKEN);
        assert_eq!(answer.header("www-authenticate"), Some("EdgeDB-Auth"));
    }
    check_error(
        &plane.send("GET", &path, &[], "").await,
        401,
        "EKV_1000",
        NO_TOKEN,
    );
    let twice = [
        ("x-akamai-edgedb-auth", value),
        ("x-akamai-edgedb-auth", value),
    ];
    check_error(
        &plane.send("GET", &path, &twice, "").await,
        401,
        "EKV_1000",
        NO_TOKEN,
    );
    let long = "a.".repeat(5000);
    let long = [("x-akamai-edgedb-auth", long.as_str())];
    check_error(
        &plane.send("GET", &path, &long, "").await,
        401,
        "EKV_1000",
        NO_TOKEN,
    );
}

#[tokio::test]
async fn a_revoked_token_is_refused_with_the_next_request() {
    let plane = Plane::new().await;
    plane.kv.put(&country("DE"), "x").await;
    let token = plane.kv.create_token("t", json!({})).await;
    let path = format!("/staging/api/v1/{ITEM}");
    assert_eq!(plane.with(&token, "GET", &path, "").await.status, 200);
    plane.kv.send("DELETE", "/edgekv/v1/tokens/t", "").await;
    check_error(
        &plane.with(&token, "GET", &path, "").await,
        401,
        "EKV_1000",
        NO_TOKEN,
    );
    // A new token of the same name does not bring the old one back.
    plane.kv.create_token("t", json!({})).await;
    check_error(
        &plane.with(&token, "GET", &path, "").await,
        401,
        "EKV_1000",
        NO_TOKEN,
    );
}

#[tokio::test]
async fn a_token_ends_with_its_last_day() {
    let plane = Plane::new().await;
    plane.kv.put(&country("DE"), "x").await;
    let token = plane
        .kv
        .create_token("t", json!({"expiry": "2026-01-02"}))
        .await;
    let path = format!("/staging/api/v1/{ITEM}");
    let to_midnight = 24 * 3600 - (3 * 3600 + 4 * 60 + 5);
    plane.kv.advance_seconds(to_midnight - 1);
    assert_eq!(plane.with(&token, "GET", &path, "").await.status, 200);
    plane.kv.advance_seconds(1);
    check_error(
        &plane.with(&token, "GET", &path, "").await,
        401,
        "EKV_1000",
        NO_TOKEN,
    );
}

#[tokio::test]
async fn each_permission_stands_alone() {
    let plane = Plane::new().await;
    let path = format!("/staging/api/v1/{ITEM}");
    for letter in ["r", "w", "d"] {
        plane.kv.put(&country("DE"), "x").await;
        let members = json!({"namespacePermissions": {"marketing": [letter]}});
        let token = plane.kv.create_token(letter, members).await;
        for (method, needed) in [("GET", "r"), ("HEAD", "r"), ("PUT", "w"), ("DELETE", "d")] {
            let answer = plane.with(&token, method, &path, "x").await;
            if needed == letter {
                assert_eq!(answer.status, 200, "{method} with {letter}");
            } else {
                assert_eq!(answer.status, 403, "{method} with {letter}");
            }
        }
    }
}

#[tokio::test]
async fn other_namespaces_and_networks_are_forbidden() {
    let plane = Plane::new().await;
    plane.kv.create_namespace(STAGING, "other", 0).await;
    let staging = json!({"allowOnProduction": false});
    let staging = plane.kv.create_token("s", staging).await;
    let production = json!({"allowOnStaging": false});
    let production = plane.kv.create_token("p", production).await;
    for (token, path, expected) in [
        (&staging, format!("/staging/api/v1/{ITEM}"), 404),
        (&staging, format!("/production/api/v1/{ITEM}"), 403),
        (&production, format!("/staging/api/v1/{ITEM}"), 403),
        (&production, format!("/api/v1/{ITEM}"), 403),
        (&production, format!("/production/api/v1/{ITEM}"), 404),
        (
            &staging,
            "/staging/api/v1/namespaces/other/groups/g/items/k".to_owned(),
            403,
        ),
        // Whether a namespace exists is not told to whom it does not concern.
        (
            &staging,
            "/staging/api/v1/namespaces/missing/groups/g/items/k".to_owned(),
            403,
        ),
        (
            &staging,
            "/staging/api/v1/namespaces/MARKETING/groups/g/items/k".to_owned(),
            403,
        ),
    ] {
        let answer = plane.with(token, "GET", &path, "").await;
        match expected {
            403 => check_error(&answer, 403, "EKV_1000", NOT_ALLOWED),
            _ => assert_eq!(answer.status, expected, "{path}"),
        }
    }
}

#[tokio::test]
async fn bad_names_missing_namespaces_and_large_values_are_told() {
    let plane = Plane::new().await;
    let members = json!({"namespacePermissions": {"marketing": ["r", "w"], "missing": ["r", "w"]}});
    let token = plane.kv.create_token("t", members).await;
    let missing = "/staging/api/v1/namespaces/missing/groups/g/items/k";
    for method in ["GET", "PUT"] {
        let answer = plane.with(&token, method, missing, "x").await;
        check_error(
            &answer,
            400,
            "EKV_9000",
            "The requested namespace does not exist.",
        );
    }
    let bad = "/staging/api/v1/namespaces/marketing/groups/g/items/a.b";
    let answer = plane.with(&token, "GET", bad, "").await;
    check_error(
        &answer,
        400,
        "EKV_9000",
        "Key must only use a string that matches A-Z a-z 0-9 _ or -.",
    );
    let path = format!("/staging/api/v1/{ITEM}");
    let large = "x".repeat(262_145);
    let answer = plane.with(&token, "PUT", &path, &large).await;
    check_error(
        &answer,
        413,
        "EKV_9000",
        "Value cannot exceed 262144 characters.",
    );
    assert_eq!(
        plane.with(&token, "PUT", &path, &large[1..]).await.status,
        200
    );
    assert_eq!(
        plane.with(&token, "GET", &path, "").await.body.len(),
        262_144
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_of_the_data_plane_are_told() {
    let plane = Plane::new().await;
    let answer = plane
        .send("POST", &format!("/staging/api/v1/{ITEM}"), &[], "")
        .await;
    assert_eq!(answer.status, 405);
    for path in ["/staging/api/v1/namespaces/marketing", "/production/api/v1"] {
        let answer = plane.send("GET", path, &[], "").await;
        check_error(&answer, 404, "EKV_2000", "no such route");
    }
}

#[tokio::test]
async fn the_credentials_of_one_plane_are_worthless_on_the_other() {
    let plane = Plane::new().await;
    plane.kv.put(&country("DE"), "x").await;
    let token = plane.kv.create_token("t", json!({})).await;
    let answer = plane.with(&token, "GET", &country("DE"), "").await;
    check_gateway(&answer, 401, "Missing authorization header");
    let path = format!("/staging/api/v1/{ITEM}");
    let answer = plane.kv.send("GET", &path, "").await;
    check_error(&answer, 401, "EKV_1000", NO_TOKEN);
}

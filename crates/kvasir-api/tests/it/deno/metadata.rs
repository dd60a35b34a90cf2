//! The metadata exchange: checklist 1 to 9.

use crate::support::World;

use super::client::{Client, exchange, site, site_with};
use kvasir_api::deno::Settings;

const ALL: &str = r#"{"supportedVersions":[1,2,3]}"#;

#[tokio::test]
async fn the_highest_version_that_both_sides_know_is_taken() {
    let app = site(&World::new());
    for (body, version) in [
        (ALL, 3),
        (r#"{"supportedVersions":[2]}"#, 2),
        (r#"{"supportedVersions":[2,1,99,"3",null]}"#, 2),
        (r#"{"supportedVersions":[1]}"#, 1),
        (r#"{"supportedVersions":[3],"more":true}"#, 3),
        ("", 1),
    ] {
        let answer = exchange(&app, "/", "t", body).await;
        assert_eq!(answer.json()["version"], version, "{body}");
    }
    for body in [
        r#"{"supportedVersions":[99]}"#,
        r#"{"supportedVersions":[]}"#,
        r#"{"supportedVersions":3}"#,
        "{}",
        "[]",
        "no json",
    ] {
        let answer = exchange(&app, "/", "t", body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
    let long = format!("{ALL}{}", " ".repeat(5000));
    assert_eq!(exchange(&app, "/", "t", &long).await.status, 413);
}

#[tokio::test]
async fn the_document_is_exactly_what_the_npm_client_accepts() {
    let app = site(&World::new());
    let answer = exchange(&app, "/", "t", ALL).await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json = answer.json();
    let members: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        ["databaseId", "endpoints", "expiresAt", "token", "version"]
    );
    let endpoints = json["endpoints"].as_array().unwrap();
    assert_eq!(
        endpoints,
        &[serde_json::json!({"url": "/kv-connect/default", "consistency": "strong"})]
    );
    assert_eq!(json["expiresAt"], "2026-01-02T04:04:05Z");
    assert_ne!(json["token"], "t", "never the access token itself");
}

#[tokio::test]
async fn the_database_id_is_a_lower_case_uuid_and_stays() {
    let world = World::new();
    let first = exchange(&site(&world), "/", "t", ALL).await.json();
    // Another process over the same store.
    let second = exchange(&site(&world), "/", "u", ALL).await.json();

    let id = first["databaseId"].as_str().unwrap();
    assert_eq!(id, uuid::Uuid::parse_str(id).unwrap().to_string());
    assert_eq!(first["databaseId"], second["databaseId"]);
    let other = exchange(&site(&world), "/db/other", "t", ALL).await.json();
    assert_ne!(first["databaseId"], other["databaseId"]);
    assert_eq!(other["endpoints"][0]["url"], "/kv-connect/other");
}

#[tokio::test]
async fn version_1_and_a_public_address_have_absolute_endpoints() {
    let world = World::new();
    let app = site(&world);
    let one = exchange(&app, "/", "t", r#"{"supportedVersions":[1]}"#).await;
    assert_eq!(
        one.json()["endpoints"][0]["url"],
        "http://localhost:8000/kv-connect/default"
    );
    let mut tls = app.clone();
    tls.is_tls = true;
    let one = exchange(&tls, "/", "t", "").await;
    assert_eq!(
        one.json()["endpoints"][0]["url"],
        "https://localhost:8000/kv-connect/default"
    );
    let settings = Settings {
        public_url: Some("https://kv.example.com/".to_owned()),
        ..Settings::default()
    };
    let three = exchange(&site_with(&world, settings), "/", "t", ALL).await;
    assert_eq!(
        three.json()["endpoints"][0]["url"],
        "https://kv.example.com/kv-connect/default"
    );
}

#[tokio::test]
async fn an_exchange_without_a_token_is_401() {
    let app = site(&World::new());
    for headers in [
        &[][..],
        &[("authorization", "Basic dDp0")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
    ] {
        let answer = app.send("POST", "/", headers, ALL).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let answer = app
        .send("POST", "/", &[("authorization", "bEARER t")], ALL)
        .await;
    assert_eq!(answer.status, 200, "the scheme is in any case");
}

#[tokio::test]
async fn other_methods_and_paths_are_405_and_404() {
    let app = site(&World::new());
    let client = Client::of(&app).await;
    for path in ["/kv-connect/default/snapshot_read", "/db/default"] {
        let answer = app.send("GET", path, &[], "").await;
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    assert_eq!(app.send("GET", "/", &[], "").await.status, 404);
    assert_eq!(client.raw("pitr", "").await.status, 404);
    assert_eq!(exchange(&app, "/db/No", "t", ALL).await.status, 404);
    assert_eq!(exchange(&app, "/db/_system", "t", ALL).await.status, 404);
    assert_eq!(exchange(&app, "/db/_queues", "t", ALL).await.status, 404);
}

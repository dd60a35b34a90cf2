//! Who may do what on the data path: checklist 7 to 11, grants, and the life of data tokens.

use kvasir_api::databases::Databases;
use kvasir_api::deno::messages as proto;
use kvasir_auth::access::NewToken;
use kvasir_auth::{Grant, Verb, Verbs};
use kvasir_kv::{Key, KeyspaceName};
use secrecy::ExposeSecret;

use super::client::{Client, below, check, delete, exchange, key, mutating, one, put, range, site};
use crate::support::World;

async fn issue(world: &World, grants: Vec<Grant>) -> (kvasir_auth::TokenId, String) {
    let new = NewToken {
        name: "test".to_owned(),
        grants,
        sources: Default::default(),
        expires_at: None,
        created_by: "test".to_owned(),
    };
    let (issued, secret) = world.access.issue(new).await.unwrap();
    (issued.id, secret.expose_secret().to_owned())
}

fn grant(prefix: &[&str], verbs: Verbs) -> Grant {
    Grant {
        dialects: vec!["deno".to_owned()],
        keyspace: Some(KeyspaceName::default_database()),
        prefix: Key::from_strings(prefix),
        verbs,
        expires_at: None,
    }
}

#[tokio::test]
async fn every_data_method_wants_version_token_and_database_id_in_this_order() {
    let client = Client::new().await;
    let bearer = format!("Bearer {}", client.token);
    let id = client.database_id.as_str();
    let foreign = "00000000-0000-4000-8000-000000000000";
    let version = ("x-denokv-version", "3");
    let token = ("authorization", bearer.as_str());
    for method in ["snapshot_read", "atomic_write", "watch"] {
        let path = format!("{}/{method}", client.endpoint);
        for (headers, status) in [
            (vec![], 400),
            (vec![("x-denokv-version", "4"), token], 400),
            (vec![("x-denokv-version", "1"), token], 400),
            (vec![version], 401),
            (vec![version, ("authorization", "Bearer nonsense")], 401),
            (vec![version, ("authorization", "Bearer a.b")], 401),
            (vec![version, token], 400),
            (vec![version, token, ("x-denokv-database-id", "1")], 400),
            (vec![version, token, ("x-denokv-database-id", foreign)], 400),
            (vec![("x-transaction-domain-id", foreign), token], 400),
        ] {
            let answer = client.app.send("POST", &path, &headers, "").await;
            assert_eq!(answer.status, status, "{method} {headers:?}");
            assert_eq!(
                answer.header("content-type"),
                Some("text/plain; charset=utf-8")
            );
        }
        if method != "watch" {
            let headers = [token, ("x-transaction-domain-id", id)];
            let answer = client.app.send("POST", &path, &headers, "").await;
            assert_eq!(answer.status, 200, "version 1");
            let upper = id.to_uppercase();
            let headers = [
                token,
                ("x-denokv-version", "2"),
                ("x-denokv-database-id", &upper),
            ];
            let answer = client.app.send("POST", &path, &headers, "").await;
            assert_eq!(answer.status, 200, "version 2");
        }
    }
}

#[tokio::test]
async fn a_token_is_for_one_database() {
    let app = site(&World::new());
    let client = Client::of(&app).await;
    let other = Client::open(&app, "/db/other", "t").await;
    client.apply(vec![put(&key(&["a"]), "1")]).await;
    assert_eq!(other.get(&key(&["a"])).await, None);

    let strayed = Client {
        token: client.token.clone(),
        ..other
    };
    assert_eq!(strayed.read_status(vec![]).await, 401);
}

#[tokio::test]
async fn an_altered_token_is_401() {
    let client = Client::new().await;
    let (claims, seal) = client.token.split_once('.').unwrap();
    let mut claims = claims.to_owned();
    let last = if claims.ends_with('A') { "B" } else { "A" };
    claims.replace_range(claims.len() - 1.., last);
    let altered = Client {
        token: format!("{claims}.{seal}"),
        ..client.clone()
    };
    assert_eq!(altered.read_status(vec![]).await, 401);
    assert_eq!(client.read_status(vec![]).await, 200);
}

#[tokio::test]
async fn with_tokens_configured_others_are_refused() {
    let world = World::new();
    let app = site(&world);
    let (_, token) = issue(&world, vec![grant(&[], Verbs::DATA)]).await;

    let body = r#"{"supportedVersions":[3]}"#;
    assert_eq!(exchange(&app, "/", "other", body).await.status, 401);
    // As for a database that there is: strangers do not learn which there are.
    assert_eq!(exchange(&app, "/db/other", &token, body).await.status, 403);
    let client = Client::open(&app, "/", &token).await;
    client.apply(vec![put(&key(&["a"]), "1")]).await;

    let (_, elsewhere) = issue(
        &world,
        vec![Grant {
            keyspace: Some("elsewhere".parse().unwrap()),
            ..grant(&[], Verbs::DATA)
        }],
    )
    .await;
    assert_eq!(exchange(&app, "/", &elsewhere, body).await.status, 403);
}

#[tokio::test]
async fn a_token_without_admin_opens_only_databases_that_were_made() {
    let world = World::new();
    let app = site(&world);
    let (_, token) = issue(
        &world,
        vec![Grant {
            verbs: Verbs::DATA,
            ..Grant::everything()
        }],
    )
    .await;
    let body = r#"{"supportedVersions":[3]}"#;

    let answer = exchange(&app, "/db/later", &token, body).await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("kvasir db create later"));
    let name = "later".parse().unwrap();
    Databases::new(world.system.clone())
        .create(&name)
        .await
        .unwrap();
    assert_eq!(exchange(&app, "/db/later", &token, body).await.status, 200);
}

#[tokio::test]
async fn a_read_only_token_reads_and_is_told_that_writes_are_disabled() {
    let world = World::new();
    let app = site(&world);
    Client::of(&app)
        .await
        .apply(vec![put(&key(&["a"]), "1")])
        .await;
    let (_, token) = issue(&world, vec![grant(&[], Verbs::READ)]).await;

    let client = Client::open(&app, "/", &token).await;

    assert_eq!(client.get(&key(&["a"])).await.unwrap().value, "1");
    let output = client.write(mutating(vec![put(&key(&["a"]), "2")])).await;
    assert_eq!(output.status, proto::AW_WRITE_DISABLED);
    assert_eq!(client.get(&key(&["a"])).await.unwrap().value, "1");
}

#[tokio::test]
async fn a_token_for_a_prefix_sees_and_touches_nothing_else() {
    let world = World::new();
    let app = site(&world);
    let (inside, outside) = (key(&["mine", "a"]), key(&["other", "a"]));
    Client::of(&app)
        .await
        .apply(vec![put(&inside, "1"), put(&outside, "2")])
        .await;
    let (_, token) = issue(
        &world,
        vec![grant(
            &["mine"],
            [Verb::Read, Verb::Write].into_iter().collect(),
        )],
    )
    .await;
    let client = Client::open(&app, "/", &token).await;

    assert!(client.get(&inside).await.is_some());
    // The npm client reads a key through a range without a real end.
    let found = client.read(vec![range(&inside, &[0xff], 10)]).await;
    assert_eq!(found.ranges[0].values.len(), 1);
    assert_eq!(client.list(&["mine"]).await.len(), 1);
    assert_eq!(client.read_status(vec![one(&outside)]).await, 403);
    assert_eq!(
        client.read_status(vec![below(&key(&["other"]), 1)]).await,
        403
    );

    client.apply(vec![put(&key(&["mine", "b"]), "3")]).await;
    for refused in [
        mutating(vec![put(&outside, "3")]),
        mutating(vec![delete(&inside)]),
        proto::AtomicWrite {
            checks: vec![check(&outside, "")],
            ..Default::default()
        },
        proto::AtomicWrite {
            enqueues: vec![proto::Enqueue::default()],
            ..Default::default()
        },
    ] {
        let answer = client
            .raw("atomic_write", prost::Message::encode_to_vec(&refused))
            .await;
        assert_eq!(answer.status, 403);
    }
}

#[tokio::test]
async fn data_tokens_overlap_and_end() {
    let client = Client::new().await;
    let clock = client.world().clock.clone();
    let hour = 3_600_000;

    clock.advance_ms(hour);
    let newer = Client::of(&client.app).await;
    assert_ne!(newer.token, client.token);
    assert_eq!(client.read_status(vec![]).await, 200, "announced end");
    clock.advance_ms(24 * hour - 1);
    assert_eq!(client.read_status(vec![]).await, 200, "just before the end");
    clock.advance_ms(1);
    assert_eq!(client.read_status(vec![]).await, 401);
    assert_eq!(newer.read_status(vec![]).await, 200);
}

#[tokio::test]
async fn revoking_a_token_ends_its_data_tokens_within_seconds() {
    let world = World::new();
    let app = site(&world);
    let (id, token) = issue(&world, vec![grant(&[], Verbs::DATA)]).await;
    let client = Client::open(&app, "/", &token).await;
    assert_eq!(client.read_status(vec![]).await, 200);

    world.access.revoke(id).await.unwrap();
    world.clock.advance_ms(5_000);

    assert_eq!(client.read_status(vec![]).await, 401);
}

#[tokio::test]
async fn removing_a_database_ends_its_data_tokens_also_when_it_is_made_again() {
    let world = World::new();
    let app = site(&world);
    let client = Client::open(&app, "/db/short", "t").await;
    assert_eq!(client.read_status(vec![]).await, 200);
    let name = "short".parse().unwrap();
    let databases = Databases::new(world.system.clone());

    assert!(databases.forget(&name).await.unwrap());
    world.clock.advance_ms(5_000);
    assert_eq!(client.read_status(vec![]).await, 401);
    databases.create(&name).await.unwrap();
    assert_eq!(client.read_status(vec![]).await, 401);
}

#[tokio::test]
async fn data_tokens_of_an_open_server_end_when_it_gets_tokens() {
    let world = World::new();
    let client = Client::of(&site(&world)).await;
    assert_eq!(client.read_status(vec![]).await, 200);

    issue(&world, vec![Grant::everything()]).await;
    world.clock.advance_ms(5_000);

    assert_eq!(client.read_status(vec![]).await, 401);
}

#[tokio::test]
async fn a_web_page_of_another_origin_gets_no_data_token() {
    let app = site(&World::new());
    let headers = [
        ("authorization", "Bearer t"),
        ("origin", "https://evil.example"),
    ];
    let answer = app
        .send("POST", "/", &headers, r#"{"supportedVersions":[3]}"#)
        .await;
    assert_eq!(answer.status, 403);
}

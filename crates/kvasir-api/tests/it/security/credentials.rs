//! Everything that a stranger may show to get at somebody else's things.

use kvasir_auth::{Grant, NewToken, TokenId, Verb, Verbs};
use kvasir_kv::{Key, KeyspaceName, UnixMillis};
use secrecy::ExposeSecret;
use serde_json::json;

use super::estate::{Estate, FOREIGN, OWN};
use crate::support::START;

/// A kind of credential: headers that go with every request.
pub(super) struct Credential {
    pub(super) kind: &'static str,
    pub(super) headers: Vec<(String, String)>,
}

impl Credential {
    fn bearer(kind: &'static str, token: &str) -> Credential {
        let bearer = format!("Bearer {token}");
        Credential {
            kind,
            headers: vec![("authorization".into(), bearer)],
        }
    }
}

fn grant(keyspace: Option<&'static str>, prefix: &[&str], verbs: Verbs) -> Grant {
    Grant {
        dialects: Vec::new(),
        keyspace: keyspace.map(KeyspaceName::from_static),
        prefix: Key::from_strings(prefix),
        verbs,
        expires_at: None,
    }
}

async fn token(
    estate: &Estate,
    grants: Vec<Grant>,
    expires_at: Option<UnixMillis>,
) -> (String, TokenId) {
    let new = NewToken {
        name: "test".into(),
        grants,
        sources: Default::default(),
        expires_at,
        created_by: "test".into(),
    };
    let (issued, text) = estate.world.access.issue(new).await.unwrap();
    (text.expose_secret().to_owned(), issued.id)
}

/// All kinds. None may reach what belongs to [`FOREIGN`].
pub(super) async fn all(estate: &Estate) -> Vec<Credential> {
    let data = || grant(Some("default"), &[OWN], Verbs::DATA);
    let everywhere = || {
        vec![
            data(),
            grant(Some("classworks"), &[OWN], Verbs::DATA),
            grant(Some(OWN), &[], Verbs::DATA),
        ]
    };
    let mut all = vec![Credential {
        kind: "nothing",
        headers: Vec::new(),
    }];
    let (good, _) = token(estate, everywhere(), None).await;
    for (kind, text) in [
        ("a word", "x".to_owned()),
        ("a form of a token", "kvasir_0123456789abcdef_x".to_owned()),
        ("a token cut short", good[..good.len() - 1].to_owned()),
        ("a token in capitals", good.to_uppercase()),
    ] {
        all.push(Credential::bearer(kind, &text));
    }
    all.push(Credential {
        kind: "basic authentication",
        headers: vec![("authorization".into(), "Basic YWFhOmJiYg==".into())],
    });
    let (expired, _) = token(estate, vec![Grant::everything()], Some(START)).await;
    all.push(Credential::bearer(
        "an expired administrator's token",
        &expired,
    ));
    let (revoked, id) = token(estate, vec![Grant::everything()], None).await;
    estate.world.access.revoke(id).await.unwrap();
    all.push(Credential::bearer(
        "a revoked administrator's token",
        &revoked,
    ));

    for (kind, grants) in [
        ("a token for everything of its own", everywhere()),
        (
            "a token that reads",
            vec![grant(Some("default"), &[OWN], Verbs::READ)],
        ),
        (
            "a token for one dialect",
            vec![Grant {
                dialects: vec!["rest".into()],
                ..data()
            }],
        ),
        (
            "a token for one namespace",
            vec![grant(Some("classworks"), &[OWN], Verbs::DATA)],
        ),
        (
            "a token for one database",
            vec![grant(Some(OWN), &[], Verbs::DATA)],
        ),
        (
            "a token for all verbs on its prefix",
            vec![grant(Some("default"), &[OWN], Verbs::ALL)],
        ),
        (
            "a token for administering nothing",
            vec![grant(
                Some("default"),
                &[OWN],
                [Verb::Admin].into_iter().collect(),
            )],
        ),
        (
            "a token for the name of the system keyspace by another",
            vec![grant(Some("system"), &[], Verbs::ALL)],
        ),
        ("a token without grants", Vec::new()),
    ] {
        let (text, _) = token(estate, grants, None).await;
        all.push(Credential::bearer(kind, &text));
    }

    let kopano = |user: &str, client: &str| estate.kopano_token(user, client);
    all.push(Credential::bearer(
        "an access token of Kopano",
        &kopano("user-aaa", "app"),
    ));
    // The same name as the other user for another application.
    all.push(Credential::bearer(
        "an access token of another application",
        &kopano("user-aaa", "user-bbb"),
    ));
    all.push(Credential::bearer(
        "a session of the accounts dialect",
        &estate.session,
    ));
    for name in ["x-akamai-edgedb-auth", "authorization"] {
        let value = match name {
            "authorization" => format!("Bearer {}", estate.edge_token),
            _ => estate.edge_token.clone(),
        };
        all.push(Credential {
            kind: "an EdgeKV access token",
            headers: vec![(name.into(), value)],
        });
    }
    all.push(Credential::bearer(
        "a data token of Deno",
        &data_token(estate, &good).await,
    ));
    all.push(Credential {
        kind: "the other's names in all headers",
        headers: [
            "x-site-key",
            "x-namespace-password",
            "x-app-token",
            "x-forwarded-user",
        ]
        .map(|name| (name.into(), FOREIGN.into()))
        .into(),
    });
    all
}

/// What the Deno dialect makes of a token for one's own database.
async fn data_token(estate: &Estate, token: &str) -> String {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", &*bearer),
        ("content-type", "application/json"),
    ];
    let path = format!("/db/{OWN}");
    let body = json!({"supportedVersions": [1, 2, 3]}).to_string();
    let answer = estate.app.send("POST", &path, &headers, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["token"].as_str().unwrap().to_owned()
}

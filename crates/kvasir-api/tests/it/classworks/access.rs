//! Who may do what: lines 68 to 77, 113, and being closed to strangers.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use kvasir_api::classworks::{RateLimit, SiteInfo};
use kvasir_auth::{AccessSettings, Grant, NewToken, Verbs};
use kvasir_kv::{Key, KeyspaceName, Limits};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{NS, RESERVED, Setup, refused};
use crate::support::{App, World};

const SITE_KEY_NEEDED: &str = "此服务器已开启站点密钥验证，请提供有效的站点密钥";
const NO_RIGHT: &str = "无权限访问此命名空间";

/// Method and path of every route below a namespace.
fn routes(namespace: &str) -> Vec<(&'static str, String)> {
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/k"),
        ("POST", "/k"),
        ("DELETE", "/k"),
        ("GET", "/k/metadata"),
        ("GET", "/_info"),
        ("PUT", "/_info"),
        ("GET", "/_check"),
        ("GET", "/_hint"),
        ("PUT", "/_hint"),
        ("GET", "/_keys"),
        ("POST", "/_password"),
        ("DELETE", "/_password"),
        ("POST", "/_checkpassword"),
        ("POST", "/_batchimport"),
        ("PATCH", "/k"),
        ("GET", "/a/b/c"),
        ("GET", "/a%zz"),
    ]
    .map(|(method, rest)| (method, format!("/{namespace}{rest}")))
    .to_vec()
}

#[tokio::test]
async fn the_reserved_namespace_is_closed_on_every_route() {
    let setup = Setup::with(|settings| settings.site_key = Some("geheim".into()));
    let escaped = "%30000000%30-0000-4000-8000%2d000000000000";
    let trailing = format!("{RESERVED}/");
    let prefixed = format!("classworks/{RESERVED}");
    for namespace in [RESERVED, escaped, &trailing, &prefixed] {
        for (method, path) in routes(namespace) {
            if path.contains("//") {
                continue;
            }
            for headers in [
                vec![("x-site-key", "geheim")],
                vec![("x-site-key", "geheim"), ("authorization", "Bearer wrong")],
            ] {
                let answer = setup.app.send(method, &path, &headers, "{}").await;
                refused(&answer, 403, NO_RIGHT);
            }
            refused(
                &setup.app.send(method, &path, &[], "{}").await,
                401,
                SITE_KEY_NEEDED,
            );
        }
    }
}

async fn token(world: &World, grants: Vec<Grant>) -> String {
    let new = NewToken {
        name: "test".into(),
        grants,
        sources: Default::default(),
        expires_at: None,
        created_by: "test".into(),
    };
    let (_, secret) = world.access.issue(new).await.unwrap();
    format!("Bearer {}", secret.expose_secret())
}

#[tokio::test]
async fn an_administrator_writes_the_page_and_it_shows_at_once_as_text() {
    let setup = Setup::new();
    let page = setup.get("/classworks").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.text().contains(&SiteInfo::default().title));
    assert!(page.text().contains("暂无 Readme 内容"));

    let admin = token(&setup.world, vec![Grant::everything()]).await;
    let headers = [("authorization", &*admin)];
    let info = json!({"title": "<b>班级</b>", "readme": "a & b"}).to_string();
    let path = format!("/{RESERVED}/info");
    let answer = setup.app.send("POST", &path, &headers, info.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let page = setup.own.send("GET", "/", &[], "").await;
    assert!(page.text().contains("&lt;b&gt;班级&lt;/b&gt;"));
    assert!(page.text().contains("a &amp; b"));
    assert_eq!(
        setup.app.send("GET", &path, &headers, "").await.text(),
        info
    );
    let list = setup
        .app
        .send("GET", &format!("/{RESERVED}"), &headers, "")
        .await;
    assert_eq!(list.json()["total_rows"], 1);
    refused(&setup.get(&path).await, 403, NO_RIGHT);

    // Neither other dialects nor tokens for the data see it.
    let range = kvasir_kv::KeyRange::starting_with(&Key::default());
    let read = kvasir_kv::SnapshotRead::range(kvasir_kv::RangeRead::new(range, 10));
    let seen = setup.world.keyspace("classworks").read(read).await.unwrap();
    assert!(seen.ranges[0].entries.is_empty());
    let data = Grant {
        keyspace: Some(KeyspaceName::from_static("classworks")),
        verbs: Verbs::DATA,
        ..Grant::everything()
    };
    let user = token(&setup.world, vec![data]).await;
    let answer = setup
        .app
        .send("GET", &path, &[("authorization", &*user)], "")
        .await;
    refused(&answer, 403, NO_RIGHT);
}

#[tokio::test]
async fn without_the_site_key_nothing_but_the_test_and_the_page_is_served() {
    let setup = Setup::with(|settings| settings.site_key = Some("geheim".into()));
    for (method, path) in routes(NS) {
        for headers in [&[][..], &[("x-site-key", "falsch")], &[("x-site-key", "")]] {
            let answer = setup.app.send(method, &path, headers, "{}").await;
            refused(&answer, 401, SITE_KEY_NEEDED);
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        }
    }
    let in_value = json!({"sitekey": "geheim", "password": "geheim"}).to_string();
    refused(
        &setup.post(&format!("/{NS}/k"), in_value).await,
        401,
        SITE_KEY_NEEDED,
    );
    assert_eq!(setup.get("/check").await.status, 200);
    assert_eq!(setup.own.send("GET", "/", &[], "").await.status, 200);
    refused(
        &setup.own.send("GET", "/uuid", &[], "").await,
        401,
        SITE_KEY_NEEDED,
    );
    let preflight = setup
        .app
        .send("OPTIONS", &format!("/{NS}/k"), &[], "")
        .await;
    assert_eq!(preflight.status, 204);
}

#[tokio::test]
async fn the_site_key_is_taken_as_it_is_in_base64_and_from_the_query() {
    let setup = Setup::with(|settings| settings.site_key = Some("%E7%8F%AD?>~".into()));
    let plain = "班?>~";
    let path = format!("/{NS}");
    for shown in [
        BASE64.encode(plain.as_bytes()),
        BASE64URL_NOPAD.encode(plain.as_bytes()),
        "%E7%8F%AD?>~".to_owned(),
    ] {
        let answer = setup
            .app
            .send("GET", &path, &[("x-site-key", &shown)], "")
            .await;
        assert_eq!(answer.status, 200, "{shown}");
    }
    let raw = http::Request::get(&path).header("x-site-key", plain.as_bytes());
    let raw = raw.body(axum::body::Body::empty()).unwrap();
    assert_eq!(setup.app.open_request(raw).await.status, 200);
    let query = BASE64URL_NOPAD.encode(plain.as_bytes());
    assert_eq!(
        setup.get(&format!("{path}?sitekey={query}")).await.status,
        200
    );
    refused(
        &setup.get(&format!("{path}?sitekey=x")).await,
        401,
        SITE_KEY_NEEDED,
    );
}

#[tokio::test]
async fn a_public_address_without_site_key_is_closed_unless_the_settings_say_so() {
    let closed = Setup::new();
    let public = closed.app.on_public_address();
    let path = format!("/{NS}/k");
    refused(
        &public.send("GET", &path, &[], "").await,
        401,
        "此服务器未设置站点密钥",
    );
    assert_eq!(public.send("GET", "/check", &[], "").await.status, 200);

    let reader = Grant {
        keyspace: Some(KeyspaceName::from_static("classworks")),
        prefix: Key::from_strings([NS]),
        verbs: Verbs::READ,
        ..Grant::everything()
    };
    let reader = token(&closed.world, vec![reader]).await;
    let with = async |method: &str, path: &str| {
        let headers = [("authorization", &*reader)];
        public.send(method, path, &headers, "1").await
    };
    assert_eq!(with("GET", &format!("/{NS}")).await.status, 200);
    refused(&with("POST", &path).await, 403, NO_RIGHT);
    refused(&with("GET", "/classworks/other").await, 403, NO_RIGHT);

    let open = Setup::with(|settings| settings.serve_openly = true);
    let answer = open
        .app
        .on_public_address()
        .send("POST", &path, &[], "1")
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn web_pages_of_other_origins_are_served_over_loopback() {
    let setup = Setup::new();
    let headers = [
        ("origin", "https://cs.example"),
        ("sec-fetch-site", "cross-site"),
    ];
    let answer = setup
        .app
        .send("POST", &format!("/{NS}/k"), &headers, "1")
        .await;
    assert_eq!(answer.status, 200);
}

async fn exhaust(app: &App, method: &str, path: &str, count: usize) {
    for _ in 0..count {
        let answer = app.send(method, path, &[], "1").await;
        assert!(answer.status.is_success(), "{}", answer.text());
        assert!(answer.header("ratelimit").is_some());
    }
}

#[tokio::test]
async fn too_many_requests_are_refused_with_when_to_come_again() {
    let settings = AccessSettings::default();
    let setup = Setup::over(World::with(Limits::default(), settings), |settings| {
        settings.serve_openly = true;
        settings.reads_per_minute = 3;
        settings.writes_per_minute = 2;
    });
    let public = setup.app.on_public_address();
    let path = format!("/{NS}/k");
    exhaust(&public, "POST", &path, 2).await;
    exhaust(&public, "GET", &path, 3).await;

    let headers = [("x-forwarded-for", "9.9.9.9"), ("x-real-ip", "9.9.9.9")];
    let answer = public.send("POST", &path, &headers, "1").await;
    refused(&answer, 429, "请求过于频繁，请稍后再试");
    assert_eq!(answer.header("ratelimit-policy"), Some("2;w=60"));
    assert_eq!(
        answer.header("ratelimit"),
        Some("limit=2, remaining=0, reset=60")
    );
    assert_eq!(answer.header("retry-after"), Some("30"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(public.send("GET", &path, &[], "").await.status, 429);
    exhaust(&public, "GET", "/classworks/other", 1).await;
    let mut neighbour = public.clone();
    neighbour.peer = ([203, 0, 113, 8], 1).into();
    exhaust(&neighbour, "POST", &path, 1).await;

    setup.world.clock.advance_ms(30_000);
    exhaust(&public, "POST", &path, 1).await;
    assert_eq!(public.send("POST", &path, &[], "1").await.status, 429);
}

#[tokio::test]
async fn over_loopback_nobody_is_limited_unless_the_settings_say_so() {
    let path = format!("/{NS}");
    let usual = Setup::with(|settings| settings.reads_per_minute = 1);
    for _ in 0..3 {
        let answer = usual.get(&path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("ratelimit")),
            (200, None)
        );
    }
    let limited = Setup::with(|settings| {
        settings.reads_per_minute = 1;
        settings.rate_limit = RateLimit::On;
    });
    assert_eq!(limited.get(&path).await.status, 200);
    assert_eq!(limited.get(&path).await.status, 429);
}

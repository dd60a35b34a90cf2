//! Cross-origin requests and the connection test: lines 78 to 82.

use serde_json::json;

use super::{NS, Setup};

#[tokio::test]
async fn every_answer_may_be_read_by_pages_of_other_origins() {
    let setup = Setup::new();
    for (method, path) in [
        ("GET", ""),
        ("GET", "/none"),
        ("PATCH", "/k"),
        ("POST", "/k"),
    ] {
        let path = format!("/{NS}{path}");
        for headers in [&[][..], &[("origin", "https://cs.example")]] {
            let answer = setup.app.send(method, &path, headers, "").await;
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
            let exposed = answer.header("access-control-expose-headers").unwrap();
            for name in ["ratelimit-policy", "retry-after", "ratelimit"] {
                assert!(exposed.split(',').any(|exposed| exposed == name));
            }
        }
    }
}

#[tokio::test]
async fn a_preflight_allows_what_the_app_sends_and_may_be_remembered() {
    let setup = Setup::with(|settings| settings.site_key = Some("geheim".into()));
    let asked = "content-type,x-namespace-password,x-site-key";
    for path in [
        format!("/{NS}/k"),
        "/check".to_owned(),
        "/classworks/ns/_info".to_owned(),
    ] {
        let answer = setup
            .app
            .send(
                "OPTIONS",
                &path,
                &[
                    ("origin", "https://cs.example"),
                    ("access-control-request-method", "PUT"),
                    ("access-control-request-headers", asked),
                    ("access-control-request-private-network", "true"),
                ],
                "",
            )
            .await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            (
                "access-control-allow-methods",
                "GET,HEAD,PUT,PATCH,POST,DELETE",
            ),
            ("access-control-allow-headers", asked),
            ("access-control-max-age", "86400"),
            ("access-control-allow-private-network", "true"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
    }
}

#[tokio::test]
async fn other_origins_can_be_kept_out() {
    let good = "https://cs.example";
    let setup = Setup::with(|settings| settings.cors_origins = vec![good.into()]);
    for (origin, allowed) in [(good, Some(good)), ("https://evil.example", None)] {
        for (method, path) in [("GET", format!("/{NS}")), ("GET", format!("/{NS}/none"))] {
            let answer = setup
                .app
                .send(method, &path, &[("origin", origin)], "")
                .await;
            assert_eq!(answer.header("access-control-allow-origin"), allowed);
            assert_eq!(answer.header("vary"), Some("Origin"));
        }
    }
}

#[tokio::test]
async fn the_connection_test_says_success() {
    let setup = Setup::new();
    let expected = json!({
        "status": "success",
        "message": "API is running",
        "time": setup.world.now().0,
    });
    for path in ["/check", "/classworks/check", "/classworks/check/"] {
        assert_eq!(setup.get(path).await.json(), expected);
    }
    let made = setup.get("/classworks/uuid").await.json();
    let made = made["namespace"].as_str().unwrap();
    assert_eq!((made.len(), &made[14..15]), (36, "4"));
}

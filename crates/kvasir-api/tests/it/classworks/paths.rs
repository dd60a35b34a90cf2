//! Keys and namespaces in paths: lines 18, 39 to 52, 101 to 103 and 120.

use http::Method;
use kvasir_api::Dialect;
use kvasir_api::classworks::{Classworks, Namespaces, Settings};
use kvasir_auth::Passwords;

use super::{NS, Setup, no_such_key, refused};
use crate::support::World;

#[tokio::test]
async fn keys_are_taken_as_decoded() {
    let setup = Setup::new();
    for (encoded, key) in [
        ("a%20b", "a b"),
        ("%E4%BD%9C%E4%B8%9A", "作业"),
        ("a.b:c+d", "a.b:c+d"),
        ("%22%27%3F%23%25", "\"'?#%"),
        ("a%2Fb", "a/b"),
        ("%2F", "/"),
        ("metadata", "metadata"),
        ("_own", "_own"),
        ("_INFO", "_INFO"),
        ("%2e", "."),
        ("%2E%2E", ".."),
        ("e%CC%81", "e\u{301}"),
        ("%C3%A9", "é"),
        ("K", "K"),
        ("k", "k"),
    ] {
        let path = format!("/{NS}/{encoded}");
        let stored = setup
            .store(&path, &format!("{{\"is\":\"{encoded}\"}}"))
            .await
            .json();
        assert_eq!(
            (stored["key"].as_str(), &stored["created"]),
            (Some(key), &true.into())
        );
        let metadata = setup.get(&format!("{path}/metadata")).await.json();
        assert_eq!(metadata["key"], key);
        assert_eq!(setup.get(&path).await.json()["is"], encoded);
    }
    assert_eq!(setup.get(&format!("/{NS}")).await.json()["total_rows"], 15);
}

#[tokio::test]
async fn one_trailing_slash_is_ignored_and_other_paths_do_not_exist() {
    let setup = Setup::new();
    setup.store(&format!("/{NS}/k/"), "1").await;
    assert_eq!(setup.get(&format!("/{NS}/k/")).await.text(), "1");
    assert_eq!(setup.get(&format!("/{NS}/")).await.json()["total_rows"], 1);
    for rest in ["/k/x", "/k/metadata/x", "//k", "/k//"] {
        let path = format!("/{NS}{rest}");
        refused(&setup.get(&path).await, 404, &format!("找不到路径: {path}"));
    }
}

#[tokio::test]
async fn keys_that_cannot_be_are_refused() {
    let setup = Setup::new();
    for key in ["a%", "%zz", "%ff", "a%00b"] {
        let answer = setup.post(&format!("/{NS}/{key}"), "{}").await;
        refused(&answer, 400, "");
    }
    let longest = "k".repeat(1024);
    setup.store(&format!("/{NS}/{longest}"), "1").await;
    refused(
        &setup.post(&format!("/{NS}/{longest}k"), "1").await,
        400,
        "键名过长",
    );
    refused(
        &setup.get(&format!("/{NS}/{}", "k".repeat(6000))).await,
        400,
        "键名过长",
    );
    for word in ["_info", "_check", "_hint", "_keys", "%5Fkeys"] {
        let answer = setup.post(&format!("/{NS}/{word}"), r#"{"a":1}"#).await;
        refused(&answer, 400, "'_");
    }
    assert_eq!(setup.get(&format!("/{NS}")).await.json()["total_rows"], 1);
}

#[tokio::test]
async fn namespaces_are_separate_and_compared_byte_for_byte() {
    let setup = Setup::new();
    let upper = NS.to_uppercase();
    setup.store(&format!("/{NS}/k"), "1").await;
    refused(
        &setup.get(&format!("/{upper}/k")).await,
        404,
        &no_such_key(&upper, "k"),
    );
    setup.store(&format!("/{upper}/k"), "2").await;
    assert_eq!(setup.get(&format!("/{NS}/k")).await.text(), "1");
    // Below the prefix the same namespace is the same.
    assert_eq!(setup.get(&format!("/classworks/{NS}/k")).await.text(), "1");
}

#[tokio::test]
async fn any_name_is_a_namespace_below_the_prefix_and_on_its_own() {
    let setup = Setup::new();
    setup.store("/classworks/example-namespace/k", "1").await;
    setup.store("/classworks/a%20b%3F%3F/1", "1").await;
    setup.store("/classworks/a%20b%3F%3F/2", "1").await;
    let list = setup.get("/classworks/a%20b%3F%3F?limit=1").await.json();
    assert_eq!(
        list["load_more"],
        "/classworks/a%20b%3F%3F?sortBy=key&sortDir=asc&limit=1&skip=1"
    );
    let own = setup.own.send("GET", "/example-namespace/k", &[], "").await;
    assert_eq!((own.status.as_u16(), own.text()), (200, "1"));
    let list = setup
        .own
        .send("GET", "/a%20b%3F%3F?limit=1", &[], "")
        .await
        .json();
    assert_eq!(
        list["load_more"],
        "/a%20b%3F%3F?sortBy=key&sortDir=asc&limit=1&skip=1"
    );
    for path in ["/favicon.ico", "/uuid/k", "/check/k"] {
        refused(
            &setup.own.send("GET", path, &[], "").await,
            404,
            "找不到路径",
        );
    }
    let longest = "n".repeat(191);
    setup.store(&format!("/classworks/{longest}/k"), "1").await;
    let answer = setup.post(&format!("/classworks/{longest}n/k"), "1").await;
    refused(&answer, 400, "命名空间过长");
}

#[tokio::test]
async fn only_uuids_are_namespaces_where_the_settings_say_so() {
    let setup = Setup::with(|settings| settings.namespaces = Namespaces::Uuid);
    refused(
        &setup.post("/classworks/ns/k", "1").await,
        400,
        "命名空间必须是 UUID",
    );
    setup.store(&format!("/classworks/{NS}/k"), "1").await;
}

#[test]
fn on_a_shared_port_only_uuids_and_the_connection_test_are_claimed() {
    let world = World::new();
    let ctx = world.ctx("classworks", "/classworks", "classworks");
    let shared = Classworks::new(ctx.clone(), Settings::default(), Passwords::new(1));
    let claims = |method: Method, path: &str| shared.claims(&method, path);
    for path in [
        "/",
        "/kv",
        "/kv/a",
        "/users",
        "/edgekv/v1",
        "/uuid",
        "/classworksx",
        "/check/k",
    ] {
        assert!(!claims(Method::GET, path), "{path}");
        assert!(shared.on_its_own().claims(&Method::GET, path), "{path}");
    }
    for path in ["/classworks", "/classworks/", "/classworks/ns/k", "/check"] {
        assert!(claims(Method::GET, path), "{path}");
        assert!(claims(Method::OPTIONS, path), "{path}");
    }
    assert!(!claims(Method::POST, "/check"));
    for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
        assert!(claims(method, &format!("/{NS}/k")));
    }
    let settings = Settings {
        root: false,
        ..Settings::default()
    };
    let without_root = Classworks::new(ctx, settings, Passwords::new(1));
    assert!(!without_root.claims(&Method::GET, &format!("/{NS}/k")));
    assert!(without_root.claims(&Method::GET, &format!("/classworks/{NS}/k")));
}

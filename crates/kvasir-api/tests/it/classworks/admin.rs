//! The admin API's view of the dialect.

use std::sync::Arc;

use kvasir_api::admin::Admin;
use kvasir_auth::Passwords;
use serde_json::json;

use super::{NS, Setup};
use crate::support::App;

fn admin(setup: &Setup) -> App {
    let ctx = setup.world.ctx("admin", "/_", "default");
    setup
        .world
        .app(vec![Arc::new(Admin::new(ctx, Passwords::new(1)))])
}

#[tokio::test]
async fn administrators_see_the_namespaces_page_by_page() {
    let setup = Setup::new();
    for namespace in ["a", "b", NS] {
        setup
            .store(&format!("/classworks/{namespace}/k1"), "1")
            .await;
        setup
            .store(&format!("/classworks/{namespace}/k2"), "1")
            .await;
    }
    setup
        .put("/classworks/b/_info", &json!({"name": "高一1班"}))
        .await;
    setup.protect(NS, "pw").await;
    let number = kvasir_kv::Key::from_parts(&[kvasir_kv::Part::Number(1.0)]);
    setup
        .world
        .put("classworks", number, kvasir_kv::Value::json("1"))
        .await;

    let admin = admin(&setup);
    let list = "/_/api/v1/classworks/namespaces";
    let namespace = |name: &str, label: Option<&str>, access: &str, has_password: bool| json!({"namespace": name, "name": label, "accessType": access, "hasPassword": has_password});
    let all = admin.send("GET", list, &[], "").await;
    assert_eq!(
        all.json(),
        json!({"cursor": null, "namespaces": [
            namespace(NS, None, "PROTECTED", true),
            namespace("a", None, "PUBLIC", false),
            namespace("b", Some("高一1班"), "PUBLIC", false),
        ]})
    );
    let mut seen = Vec::new();
    let mut path = format!("{list}?limit=1");
    loop {
        let page = admin.send("GET", &path, &[], "").await.json();
        seen.extend(page["namespaces"].as_array().unwrap().clone());
        match page["cursor"].as_str() {
            Some(cursor) => path = format!("{list}?limit=1&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(json!(seen), all.json()["namespaces"]);
    for bad in ["limit=0", "limit=x", "cursor=!"] {
        let answer = admin.send("GET", &format!("{list}?{bad}"), &[], "").await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    let stranger = admin.on_public_address().send("GET", list, &[], "").await;
    assert_eq!(stranger.status, 401);
}

#[tokio::test]
async fn administrators_set_what_the_page_shows() {
    let setup = Setup::new();
    let admin = admin(&setup);
    let path = "/_/api/v1/classworks/info";
    let default = admin.send("GET", path, &[], "").await.json();
    assert_eq!(default["title"], "Classworks 服务端");
    let info = json!({"title": "高一1班", "readme": "作业"});
    let answer = admin
        .send(
            "PUT",
            path,
            &[("content-type", "application/json")],
            info.to_string(),
        )
        .await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, info.clone()));
    assert_eq!(admin.send("GET", path, &[], "").await.json(), info);
    let page = setup.get("/classworks/").await;
    assert!(page.text().contains("<h1>高一1班</h1>"), "{}", page.text());
    let headers = [("content-type", "application/json")];
    for bad in ["1", "{", &json!({"title": "x".repeat(1025)}).to_string()] {
        assert_eq!(
            admin
                .send("PUT", path, &headers, bad.to_owned())
                .await
                .status,
            400
        );
    }
}

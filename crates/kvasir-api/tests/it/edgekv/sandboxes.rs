//! Sandboxes: line 82.

use super::*;

#[tokio::test]
async fn each_sandbox_has_items_of_its_own_for_two_days() {
    let kv = Kv::with_marketing().await;
    let one = format!("{}?sandboxId=one", country("DE"));
    let two = format!("{}?sandboxId=two", country("DE"));
    kv.put(&country("DE"), "plain").await;
    kv.put(&country("US"), "plain").await;
    kv.put(&one, "sandbox").await;
    assert_eq!(kv.get(&one).await.as_deref(), Some("sandbox"));
    assert_eq!(kv.get(&country("DE")).await.as_deref(), Some("plain"));
    assert_eq!(kv.get(&two).await, None);
    assert_eq!(
        kv.get(&format!("{two}&sandboxFallback=true"))
            .await
            .as_deref(),
        Some("plain")
    );
    assert_eq!(
        kv.get(&format!("{one}&sandboxFallback=true"))
            .await
            .as_deref(),
        Some("sandbox")
    );

    let listed = kv
        .send("GET", &format!("{COUNTRIES}?sandboxId=one"), "")
        .await;
    assert_eq!(listed.text(), r#"["DE"]"#);
    let groups = kv
        .send(
            "GET",
            &format!("{STAGING}/marketing/groups?sandboxId=one"),
            "",
        )
        .await;
    assert_eq!(groups.text(), r#"["countries"]"#);
    assert_eq!(
        kv.send("GET", &format!("{COUNTRIES}?sandboxId=two"), "")
            .await
            .status,
        404
    );

    kv.send("DELETE", &format!("{}?sandboxId=two", country("US")), "")
        .await;
    assert!(kv.get(&country("US")).await.is_some());
    kv.advance_seconds(2 * 24 * 3600 - 1);
    assert!(kv.get(&one).await.is_some());
    kv.advance_seconds(1);
    assert_eq!(kv.get(&one).await, None);
    assert!(kv.get(&country("DE")).await.is_some());
}

#[tokio::test]
async fn production_has_no_sandboxes_and_their_ids_are_checked() {
    let kv = Kv::with_marketing().await;
    let path = format!("{PRODUCTION}/default/groups/g/items/k?sandboxId=one");
    let answer = kv.send("GET", &path, "").await;
    check_error(
        &answer,
        400,
        "EKV_2000",
        "Sandboxes exist on the staging network only.",
    );
    for bad in ["a%2Fb", "%00", &"x".repeat(129)] {
        let answer = kv
            .send("GET", &format!("{}?sandboxId={bad}", country("DE")), "")
            .await;
        check_error(
            &answer,
            400,
            "EKV_2000",
            "sandboxId is not the id of a sandbox.",
        );
    }
}

#[tokio::test]
async fn a_bundle_works_in_a_sandbox_too() {
    let kv = Kv::with_marketing().await;
    let token = kv.create_token("t", json!({})).await;
    let token = [("x-akamai-edgedb-auth", token["value"].as_str().unwrap())];
    let path = "/staging/api/v1/namespaces/marketing/groups/countries/items/DE?sandboxId=one";
    assert_eq!(kv.app.send("PUT", path, &token, "x").await.status, 200);
    assert_eq!(kv.app.send("GET", path, &token, "").await.text(), "x");
    assert_eq!(kv.get(&country("DE")).await, None);
}

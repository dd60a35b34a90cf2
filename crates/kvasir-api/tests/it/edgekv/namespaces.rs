//! Namespaces: lines 26 to 41.

use super::*;

fn namespace(name: &str, retention: u64) -> Value {
    json!({"geoLocation": "US", "namespace": name, "retentionInSeconds": retention})
}

#[tokio::test]
async fn a_created_namespace_is_read_and_listed() {
    let kv = Kv::new().await;
    let body = json!({"namespace": "marketing", "retentionInSeconds": 0});
    let answer = kv.send_json("POST", STAGING, body).await;
    check_json(&answer, 200, namespace("marketing", 0));
    let one = kv.send("GET", &format!("{STAGING}/marketing"), "").await;
    check_json(&one, 200, namespace("marketing", 0));

    let details =
        json!({"namespaces": [namespace("default", 15_724_800), namespace("marketing", 0)]});
    let names = json!({"namespaces": [{"namespace": "default"}, {"namespace": "marketing"}]});
    for (query, expected) in [
        ("?details=on", &details),
        ("?details=true", &details),
        ("?other=1&details=on", &details),
        ("", &names),
        ("?details=off", &names),
        ("?details=false", &names),
    ] {
        let answer = kv.send("GET", &format!("{STAGING}{query}"), "").await;
        check_json(&answer, 200, expected.clone());
    }
    // Networks are separate.
    let answer = kv.send("GET", PRODUCTION, "").await;
    check_json(
        &answer,
        200,
        json!({"namespaces": [{"namespace": "default"}]}),
    );
    let answer = kv.send("GET", &format!("{PRODUCTION}/marketing"), "").await;
    check_error(
        &answer,
        400,
        "EKV_9000",
        "The requested namespace does not exist.",
    );
}

/// httpie writes `retentionInSeconds=0` as a string; the answer has a number.
#[tokio::test]
async fn numbers_may_come_as_strings() {
    let kv = Kv::new().await;
    let body = json!({"namespace": "a", "retentionInSeconds": "0", "groupId": "7", "more": [1]});
    let answer = kv.send_json("POST", STAGING, body).await;
    let mut expected = namespace("a", 0);
    expected["groupId"] = json!(7);
    check_json(&answer, 200, expected.clone());

    let body = json!({"namespace": "a", "retentionInSeconds": "2592000", "groupId": "7"});
    let answer = kv.send_json("PUT", &format!("{STAGING}/a"), body).await;
    expected["retentionInSeconds"] = json!(2_592_000);
    check_json(&answer, 200, expected.clone());
    check_json(
        &kv.send("GET", &format!("{STAGING}/a"), "").await,
        200,
        expected,
    );
}

#[tokio::test]
async fn what_is_missing_or_out_of_bounds_is_refused() {
    let kv = Kv::new().await;
    let refused = async |body: Value, detail: &str| {
        let answer = kv.send_json("POST", STAGING, body).await;
        check_error(&answer, 400, "EKV_2000", detail);
    };
    refused(
        json!({"namespace": "a"}),
        "Retention period must be specified.",
    )
    .await;
    refused(
        json!({"retentionInSeconds": 0}),
        "Namespace must be specified.",
    )
    .await;
    let bounds = "Retention period must be 0 or 86400 to 315360000 seconds.";
    for bad in [
        json!(1),
        json!(86_399),
        json!(315_360_001),
        json!(-1),
        json!("soon"),
        json!([]),
    ] {
        refused(json!({"namespace": "a", "retentionInSeconds": bad}), bounds).await;
    }
    let name =
        "Namespace must have 1 to 32 characters of A-Z a-z 0-9 _ or - and must not begin with -.";
    for bad in ["", "-a", "a b", "a/b", "ä", "a.b", &"a".repeat(33)] {
        refused(json!({"namespace": bad, "retentionInSeconds": 0}), name).await;
    }
    refused(json!({"namespace": 1, "retentionInSeconds": 0}), name).await;
    let geo = "geoLocation must have 2 to 8 characters of A-Z.";
    for bad in [json!("us"), json!("U"), json!("ABCDEFGHI"), json!(1)] {
        refused(
            json!({"namespace": "a", "retentionInSeconds": 0, "geoLocation": bad}),
            geo,
        )
        .await;
    }
    let group = "groupId must be an integer from 0 on.";
    for bad in [json!(-1), json!("x"), json!(1.5)] {
        refused(
            json!({"namespace": "a", "retentionInSeconds": 0, "groupId": bad}),
            group,
        )
        .await;
    }

    for (name, retention) in [("a".repeat(32), 86_400), ("_B-0".to_owned(), 315_360_000)] {
        kv.create_namespace(STAGING, &name, retention).await;
    }
}

#[tokio::test]
async fn bodies_that_are_no_object_are_422() {
    let kv = Kv::new().await;
    for bad in [
        "",
        "{",
        "[]",
        "[\"a\",0]",
        "1",
        "null",
        "\"\"",
        "{\"namespace\":\"a\",\"namespace\":\"a\",\"retentionInSeconds\":0}",
    ] {
        let answer = kv.send("POST", STAGING, bad).await;
        check_error(
            &answer,
            422,
            "EKV_2001",
            "The JSON request body contained a syntax error or duplicate attributes.",
        );
    }
}

#[tokio::test]
async fn a_name_in_use_is_a_conflict_and_changes_nothing() {
    let kv = Kv::with_marketing().await;
    for (name, retention) in [("marketing", 86_400), ("marketing", 0), ("default", 0)] {
        let body = json!({"namespace": name, "retentionInSeconds": retention});
        let answer = kv.send_json("POST", STAGING, body).await;
        check_error(
            &answer,
            409,
            "EKV_3000",
            &format!(
                "A namespace with the name {name} already exists with a different configuration"
            ),
        );
    }
    let answer = kv.send("GET", &format!("{STAGING}/marketing"), "").await;
    check_json(&answer, 200, namespace("marketing", 0));
    kv.create_namespace(PRODUCTION, "marketing", 0).await;
}

/// The seed's own example of an error.
#[tokio::test]
async fn a_missing_namespace_is_400() {
    let kv = Kv::new().await;
    let answer = kv
        .send("GET", &format!("{STAGING}/bad_namespace"), "")
        .await;
    check_error(
        &answer,
        400,
        "EKV_9000",
        "The requested namespace does not exist.",
    );
}

#[tokio::test]
async fn an_update_sticks_and_needs_both_members() {
    let kv = Kv::with_marketing().await;
    let path = format!("{STAGING}/marketing");
    let answer = kv
        .send_json("PUT", &path, namespace("marketing", 2_592_000))
        .await;
    check_json(&answer, 200, namespace("marketing", 2_592_000));
    check_json(
        &kv.send("GET", &path, "").await,
        200,
        namespace("marketing", 2_592_000),
    );

    let refused = async |path: &str, body: Value, detail: &str| {
        let answer = kv.send_json("PUT", path, body).await;
        check_error(&answer, 400, "EKV_2000", detail);
    };
    refused(
        &path,
        namespace("other", 0),
        "The namespace must be the one in the path.",
    )
    .await;
    refused(
        &path,
        json!({"retentionInSeconds": 0}),
        "Namespace must be specified.",
    )
    .await;
    refused(
        &path,
        json!({"namespace": "marketing"}),
        "Retention period must be specified.",
    )
    .await;
    let mut moved = namespace("marketing", 0);
    moved["geoLocation"] = json!("EU");
    refused(&path, moved, "geoLocation cannot be changed.").await;
    let default = format!("{STAGING}/default");
    refused(
        &default,
        namespace("default", 0),
        "The default namespace cannot be changed.",
    )
    .await;

    let missing = format!("{STAGING}/missing");
    let answer = kv.send_json("PUT", &missing, namespace("missing", 0)).await;
    check_error(
        &answer,
        400,
        "EKV_9000",
        "The requested namespace does not exist.",
    );
    check_json(
        &kv.send("GET", &path, "").await,
        200,
        namespace("marketing", 2_592_000),
    );
}

#[tokio::test]
async fn networks_are_known_in_any_case_and_others_are_not() {
    let kv = Kv::new().await;
    for name in ["STAGING", "Staging", "PRODUCTION", "production"] {
        let path = format!("/edgekv/v1/networks/{name}/namespaces/default");
        assert_eq!(kv.send("GET", &path, "").await.status, 200, "{name}");
    }
    for path in [
        "/edgekv/v1/networks/test/namespaces",
        "/edgekv/v1/networks/test/namespaces/a",
    ] {
        let answer = kv.send("GET", path, "").await;
        check_error(
            &answer,
            400,
            "EKV_2000",
            "The network must be staging or production.",
        );
    }
}

#[tokio::test]
async fn a_group_id_is_echoed_and_not_changed_by_an_update() {
    let kv = Kv::new().await;
    let mut body = namespace("a", 0);
    body["groupId"] = json!(7);
    check_json(
        &kv.send_json("POST", STAGING, body.clone()).await,
        200,
        body.clone(),
    );
    let path = format!("{STAGING}/a");
    check_json(
        &kv.send_json("PUT", &path, body.clone()).await,
        200,
        body.clone(),
    );
    for other in [json!(8), json!(0), Value::Null] {
        let mut changed = body.clone();
        changed["groupId"] = other;
        let answer = kv.send_json("PUT", &path, changed).await;
        check_error(
            &answer,
            400,
            "EKV_3000",
            "groupId changes must be made through the reauthorize endpoint.",
        );
    }
    // For a namespace without a group, 0 is no change.
    kv.create_namespace(STAGING, "b", 0).await;
    let mut zero = namespace("b", 0);
    zero["groupId"] = json!(0);
    check_json(
        &kv.send_json("PUT", &format!("{STAGING}/b"), zero).await,
        200,
        namespace("b", 0),
    );
}

#[tokio::test]
async fn locations_are_kept() {
    let kv = Kv::new().await;
    for code in ["EU", "JP", "GLOBAL"] {
        let mut body = namespace(code, 0);
        body["geoLocation"] = json!(code);
        check_json(
            &kv.send_json("POST", STAGING, body.clone()).await,
            200,
            body,
        );
    }
}

#[tokio::test]
async fn policies_are_inherited_or_overridden() {
    let kv = Kv::new().await;
    let policy = json!({"dataAccessPolicy": {"restrictDataAccess": "true", "allowNamespacePolicyOverride": true}});
    let answer = kv
        .send_json("PUT", "/edgekv/v1/auth/database", policy)
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        body_of(&answer)["dataAccessPolicy"],
        json!({"restrictDataAccess": true, "allowNamespacePolicyOverride": true})
    );
    let mut body = namespace("a", 0);
    let created = body_of(&kv.send_json("POST", STAGING, body.clone()).await);
    let inherited = json!({"restrictDataAccess": true, "policyType": "inherited"});
    assert_eq!(created["dataAccessPolicy"], inherited);
    body["namespace"] = json!("b");
    body["dataAccessPolicy"] = json!({"restrictDataAccess": false});
    let created = body_of(&kv.send_json("POST", STAGING, body).await);
    let overridden = json!({"restrictDataAccess": false, "policyType": "overridden"});
    assert_eq!(created["dataAccessPolicy"], overridden);
    // Namespaces that were there keep what they had.
    let default = body_of(&kv.send("GET", &format!("{STAGING}/default"), "").await);
    assert_eq!(default["dataAccessPolicy"], Value::Null);

    let answer = kv
        .send_json("PUT", "/edgekv/v1/auth/database", json!({}))
        .await;
    check_error(
        &answer,
        400,
        "EKV_2000",
        "dataAccessPolicy must be specified.",
    );
}

#[tokio::test]
async fn a_network_has_at_most_twenty_namespaces() {
    let kv = Kv::new().await;
    for n in 1..20 {
        kv.create_namespace(STAGING, &format!("n{n}"), 0).await;
    }
    let answer = kv.send_json("POST", STAGING, namespace("n20", 0)).await;
    check_error(
        &answer,
        400,
        "EKV_2000",
        "A network cannot have more than 20 namespaces.",
    );
    kv.create_namespace(PRODUCTION, "n20", 0).await;
    assert_eq!(
        kv.send("DELETE", &format!("{STAGING}/n1?sync=true"), "")
            .await
            .status,
        200
    );
    kv.create_namespace(STAGING, "n20", 0).await;
}

#[tokio::test]
async fn creations_at_once_do_not_pass_the_limit() {
    let settings = Settings {
        namespaces_max: 3,
        ..Settings::default()
    };
    let kv = Kv::with(settings).await;
    let names: Vec<String> = (0..8).map(|n| format!("n{n}")).collect();
    let created = names
        .iter()
        .map(|name| kv.send_json("POST", STAGING, namespace(name, 0)));
    let created = futures_util::future::join_all(created).await;
    let count = created.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(count, 2, "the default namespace is the third");
}

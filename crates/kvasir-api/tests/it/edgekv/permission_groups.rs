//! Permission groups: line 80.

use super::*;

fn capabilities() -> Value {
    json!([
        "READ_DATA",
        "READ_STAGING_DATA",
        "WRITE_DATA",
        "WRITE_STAGING_DATA",
        "DELETE_DATA",
        "DELETE_STAGING_DATA",
        "VIEW_NAMESPACE",
        "VIEW_STAGING_NAMESPACE",
        "CREATE_NAMESPACE",
        "CREATE_STAGING_NAMESPACE",
        "MODIFY_NAMESPACE",
        "MODIFY_STAGING_NAMESPACE",
        "DELETE_NAMESPACE",
        "DELETE_STAGING_NAMESPACE",
        "AUTHORIZE_NAMESPACE",
        "AUTHORIZE_STAGING_NAMESPACE",
        "VIEW_TOKEN",
        "VIEW_STAGING_TOKEN",
        "CREATE_TOKEN",
        "CREATE_STAGING_TOKEN",
        "REVOKE_TOKEN",
        "REVOKE_STAGING_TOKEN",
    ])
}

#[tokio::test]
async fn a_namespace_moves_to_another_group_on_every_network_that_has_it() {
    let kv = Kv::with_marketing().await;
    kv.create_namespace(PRODUCTION, "marketing", 0).await;
    kv.create_namespace(STAGING, "alone", 0).await;
    let authorize = "/edgekv/v1/auth/namespaces";
    let answer = kv
        .send_json(
            "PUT",
            &format!("{authorize}/marketing"),
            json!({"groupId": "7"}),
        )
        .await;
    check_json(&answer, 200, json!({"groupId": 7}));
    for network in [STAGING, PRODUCTION] {
        let found = body_of(&kv.send("GET", &format!("{network}/marketing"), "").await);
        assert_eq!(found["groupId"], 7);
    }
    let answer = kv
        .send_json("PUT", &format!("{authorize}/alone"), json!({"groupId": 8}))
        .await;
    check_json(&answer, 200, json!({"groupId": 8}));

    let answer = kv
        .send_json("PUT", &format!("{authorize}/none"), json!({"groupId": 7}))
        .await;
    check_error(
        &answer,
        400,
        "EKV_1002",
        "That resource does not exist or you are missing the 'AUTHORIZE_NAMESPACE' permission for it.",
    );
    for bad in [json!({}), json!({"groupId": "x"}), json!({"groupId": -1})] {
        let answer = kv
            .send_json("PUT", &format!("{authorize}/alone"), bad)
            .await;
        assert_eq!(body_of(&answer)["errorCode"], "EKV_2000");
    }
}

#[tokio::test]
async fn groups_are_zero_and_those_of_namespaces() {
    let kv = Kv::with_marketing().await;
    let groups = "/edgekv/v1/auth/groups";
    let zero = json!({"capabilities": capabilities(), "groupId": 0, "groupName": "Account Group"});
    let seven = json!({"capabilities": capabilities(), "groupId": 7, "groupName": "Group 7"});
    check_json(
        &kv.send("GET", groups, "").await,
        200,
        json!({"groups": [zero.clone()]}),
    );
    check_json(
        &kv.send("GET", &format!("{groups}/0"), "").await,
        200,
        zero.clone(),
    );
    let answer = kv.send("GET", &format!("{groups}/7"), "").await;
    check_error(
        &answer,
        403,
        "EKV_1000",
        "You do not have access to group 7.",
    );
    let authorize = "/edgekv/v1/auth/namespaces/marketing";
    kv.send_json("PUT", authorize, json!({"groupId": 7})).await;
    check_json(
        &kv.send("GET", groups, "").await,
        200,
        json!({"groups": [zero, seven.clone()]}),
    );
    check_json(
        &kv.send("GET", &format!("{groups}/7"), "").await,
        200,
        seven,
    );
    assert_eq!(kv.send("GET", &format!("{groups}/x"), "").await.status, 400);
}

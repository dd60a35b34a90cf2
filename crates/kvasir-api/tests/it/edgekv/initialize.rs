//! `/initialize`: lines 21 to 25, and what happens before.

use super::*;
use kvasir_api::edgekv::settings::CpCode;

const INITIALIZE: &str = "/edgekv/v1/initialize";

fn initialized() -> Value {
    json!({
        "accountStatus": "INITIALIZED",
        "cpcode": "123456",
        "productionStatus": "INITIALIZED",
        "stagingStatus": "INITIALIZED",
    })
}

#[tokio::test]
async fn initialising_answers_201_every_time_and_keeps_data() {
    let kv = Kv::fresh(World::new(), Settings::default()).await;
    check_json(&kv.send("PUT", INITIALIZE, "").await, 201, initialized());
    check_json(&kv.send("GET", INITIALIZE, "").await, 200, initialized());
    kv.create_namespace(STAGING, "marketing", 0).await;
    kv.put(&country("DE"), "Germany").await;
    check_json(&kv.send("PUT", INITIALIZE, "").await, 201, initialized());
    assert_eq!(kv.get(&country("DE")).await.as_deref(), Some("Germany"));
}

#[tokio::test]
async fn every_network_begins_with_the_default_namespace() {
    let kv = Kv::new().await;
    let default =
        json!({"geoLocation": "US", "namespace": "default", "retentionInSeconds": 15_724_800});
    for network in [STAGING, PRODUCTION] {
        let answer = kv.send("GET", &format!("{network}?details=on"), "").await;
        check_json(&answer, 200, json!({"namespaces": [default.clone()]}));
    }
}

#[tokio::test]
async fn before_initialisation_nothing_else_works() {
    let kv = Kv::fresh(World::new(), Settings::default()).await;
    check_json(
        &kv.send("GET", INITIALIZE, "").await,
        404,
        json!({
            "accountStatus": "UNINITIALIZED",
            "cpcode": null,
            "dataAccessPolicy": null,
            "productionStatus": "UNINITIALIZED",
            "stagingStatus": "UNINITIALIZED",
        }),
    );
    for (method, path) in [
        ("GET", STAGING),
        ("POST", STAGING),
        ("GET", "/edgekv/v1/tokens"),
        ("POST", "/edgekv/v1/tokens"),
        ("PUT", &country("DE")),
        ("GET", "/edgekv/v1/auth/groups"),
    ] {
        let answer = kv.send(method, path, "{}").await;
        check_error(&answer, 404, "EKV_9000", "The database is not initialized.");
    }
    let data = "/staging/api/v1/namespaces/default/groups/g/items/k";
    let answer = kv.app.send("GET", data, &[], "").await;
    check_error(&answer, 400, "EKV_9000", "The database is not initialized.");
}

#[tokio::test]
async fn a_server_can_start_initialised() {
    let settings = Settings {
        auto_initialize: true,
        ..Settings::default()
    };
    let kv = Kv::fresh(World::new(), settings).await;
    check_json(&kv.send("GET", INITIALIZE, "").await, 200, initialized());
}

#[tokio::test]
async fn the_number_of_a_database_never_changes() {
    let world = World::new();
    let with = |code: &str| Settings {
        cpcode: CpCode::try_from(code.to_owned()).unwrap(),
        ..Settings::default()
    };
    let kv = Kv::fresh(world.clone(), with("42")).await;
    kv.send("PUT", INITIALIZE, "").await;
    let kv = Kv::over(world, with("43"));
    kv.advance_seconds(1);
    assert_eq!(
        body_of(&kv.send("GET", INITIALIZE, "").await)["cpcode"],
        "42"
    );
    for bad in ["", "12a", "-1", &"1".repeat(21)] {
        assert!(CpCode::try_from(bad.to_owned()).is_err());
    }
}

#[tokio::test]
async fn a_data_access_policy_is_answered_once_it_was_given() {
    let kv = Kv::fresh(World::new(), Settings::default()).await;
    let policy = json!({"restrictDataAccess": true, "allowNamespacePolicyOverride": "false"});
    let answer = kv
        .send_json("PUT", INITIALIZE, json!({"dataAccessPolicy": policy}))
        .await;
    let mut expected = initialized();
    expected["dataAccessPolicy"] =
        json!({"restrictDataAccess": true, "allowNamespacePolicyOverride": false});
    check_json(&answer, 201, expected.clone());
    check_json(&kv.send("GET", INITIALIZE, "").await, 200, expected.clone());
    // A later one changes nothing.
    let other = json!({"dataAccessPolicy": {"restrictDataAccess": false}});
    check_json(&kv.send_json("PUT", INITIALIZE, other).await, 201, expected);

    // What the vendor's command line sends for no body.
    assert_eq!(kv.send("PUT", INITIALIZE, "\"\"").await.status, 201);
    assert_eq!(kv.send("PUT", INITIALIZE, "[]").await.status, 422);
}

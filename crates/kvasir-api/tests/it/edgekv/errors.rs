//! The shape of errors: lines 61 and 73.

use super::*;

#[tokio::test]
async fn unknown_resources_and_methods_are_told_apart() {
    let kv = Kv::with_marketing().await;
    for path in [
        "/edgekv/v1",
        "/edgekv/v1/",
        "/edgekv/v1/nowhere",
        "/edgekv/v1/networks/staging",
        "/edgekv/v1/networks/staging/namespaces/marketing/groups/countries/items/",
        "/edgekv/v1/initialize/",
    ] {
        let answer = kv.send("GET", path, "").await;
        check_error(&answer, 404, "EKV_2000", "no such route");
    }
    for (method, path, allow) in [
        (
            "POST",
            "/edgekv/v1/initialize".to_owned(),
            ["GET", "PUT"].as_slice(),
        ),
        ("DELETE", STAGING.to_owned(), &["GET", "POST"]),
        ("PATCH", country("DE"), &["DELETE", "GET", "PUT"]),
        ("POST", country("DE"), &["DELETE", "GET", "PUT"]),
        ("PUT", "/edgekv/v1/tokens".to_owned(), &["GET", "POST"]),
    ] {
        let answer = kv.send(method, &path, "").await;
        check_error(
            &answer,
            405,
            "EKV_2000",
            "this route does not take that method",
        );
        let allowed = answer.header("allow").expect("405 says what is allowed");
        for method in allow {
            assert!(
                allowed.split(',').any(|name| name.trim() == *method),
                "{allowed}"
            );
        }
    }
}

#[tokio::test]
async fn every_error_has_an_id_of_its_own() {
    let kv = Kv::new().await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5 {
        let body = body_of(&kv.send("GET", &format!("{STAGING}/none"), "").await);
        assert!(seen.insert(body["instance"].to_string()));
        assert!(seen.insert(body["additionalDetail"]["requestId"].to_string()));
    }
}

#[tokio::test]
async fn answers_that_are_no_errors_carry_the_trace_id_too() {
    let kv = Kv::with_marketing().await;
    kv.put(&country("DE"), "x").await;
    let answer = kv.send("GET", &country("DE"), "").await;
    assert_eq!(answer.header("x-trace-id"), answer.header("x-request-id"));
    assert_eq!(answer.header("x-trace-id").map(str::len), Some(16));
}

#[tokio::test]
async fn operations_that_are_known_and_not_built_are_501() {
    let kv = Kv::with_marketing().await;
    // The paths are those that the vendor's PowerShell module calls.
    for (method, path) in [
        ("GET", "download?maxItems=10&showExpires=true"),
        ("GET", "groups/countries/download"),
        ("POST", "upload?dryRun=false"),
        ("GET", "upload"),
        ("GET", "upload/1?includeErrors=true"),
    ] {
        let answer = kv
            .send(method, &format!("{STAGING}/marketing/{path}"), "")
            .await;
        check_error(
            &answer,
            501,
            "EKV_0000",
            "This operation is not implemented.",
        );
    }
}

#[tokio::test]
async fn a_damaged_record_is_an_internal_error_without_details() {
    let kv = Kv::with_marketing().await;
    let key = kvasir_kv::Key::from_strings(["edgekv", "namespaces", "staging", "marketing"]);
    let write = kvasir_kv::AtomicWrite::new()
        .push(kvasir_kv::Mutation::set(key, kvasir_kv::Value::json("{")));
    kv.app.world.system.commit(write).await.unwrap();
    let answer = kv.send("GET", &country("DE"), "").await;
    check_error(&answer, 500, "EKV_0000", "An internal error occurred.");
}

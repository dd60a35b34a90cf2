//! `kvasir user ...` through the real binary, and what its users can then do over HTTP.

use kvasir_testkit::TestServer;
use kvasir_testkit::server::http_client;
use serde_json::{Value as Json, json};

use crate::{options, run};

/// Runs `kvasir user ...` on a folder, and reads what it prints.
async fn user(data: &str, args: &[&str]) -> (i32, Json, String) {
    let mut all = vec!["user"];
    all.extend(args);
    all.extend(["--data", data, "--json"]);
    let (code, out, error) = run(&all, &[]).await;
    (code, serde_json::from_str(&out).unwrap_or_default(), error)
}

async fn call(
    server: &TestServer,
    method: &str,
    path: &str,
    token: &str,
    body: &Json,
) -> (u16, Json) {
    let request = http_client().request(method.parse().unwrap(), server.url(path));
    let request = match token {
        "" => request,
        token => request.bearer_auth(token),
    };
    let request = match body {
        Json::Null => request,
        body => request
            .header("content-type", "application/json")
            .body(body.to_string()),
    };
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn login(server: &TestServer, email: &str, password: &str) -> (u16, String) {
    let body = json!({"email": email, "password": password});
    let (status, answer) = call(server, "POST", "/login", "", &body).await;
    (
        status,
        answer["token"].as_str().unwrap_or_default().to_owned(),
    )
}

#[tokio::test]
async fn users_are_made_granted_disabled_and_given_passwords_by_the_command_line() {
    let mut server = options().start().await;
    let data = server.data().to_str().unwrap().to_owned();

    // Made, with a password that is printed once.
    let (code, made, _) = user(&data, &["create", "--role", "admin", "Ada@Example.com"]).await;
    assert_eq!(code, 0);
    assert_eq!(
        (&made["email"], &made["role"]),
        (&json!("ada@example.com"), &json!("admin"))
    );
    let first = made["password"].as_str().unwrap().to_owned();
    let (status, token) = login(&server, "ada@example.com", &first).await;
    assert_eq!(status, 200);
    let product = json!({"id": "mug", "name": "Mug", "price": 1999});
    assert_eq!(
        call(&server, "POST", "/products", &token, &product).await.0,
        201
    );

    // Listed; a second one with the email, and one that does not exist, are told by the exit code.
    let (_, listed, _) = user(&data, &["ls"]).await;
    assert_eq!(listed[0]["email"], "ada@example.com");
    assert!(listed[0].get("password").is_none());
    assert_eq!(user(&data, &["create", "ada@example.com"]).await.0, 5);
    assert_eq!(user(&data, &["disable", "eve@example.com"]).await.0, 3);

    // A role that goes is gone for sessions that are there.
    assert_eq!(
        user(&data, &["grant", "ada@example.com", "user"]).await.0,
        0
    );
    let mended = json!({"name": "Mug", "price": 1});
    assert_eq!(
        call(&server, "PUT", "/products/mug", &token, &mended)
            .await
            .0,
        403
    );

    // Disabled at once, and let in again.
    assert_eq!(user(&data, &["disable", "ada@example.com"]).await.0, 0);
    assert_eq!(
        call(&server, "GET", "/profile", &token, &Json::Null)
            .await
            .0,
        401
    );
    assert_eq!(login(&server, "ada@example.com", &first).await.0, 401);
    assert_eq!(user(&data, &["enable", "ada@example.com"]).await.0, 0);
    assert_eq!(login(&server, "ada@example.com", &first).await.0, 200);

    // Another password; the old one is over.
    let (_, changed, _) = user(&data, &["passwd", "ada@example.com"]).await;
    let second = changed["password"].as_str().unwrap();
    assert_eq!(login(&server, "ada@example.com", &first).await.0, 401);
    assert_eq!(login(&server, "ada@example.com", second).await.0, 200);

    // A reset works once.
    let (code, reset, _) = user(&data, &["reset", "ada@example.com"]).await;
    assert_eq!(code, 0);
    let body = json!({"token": reset["token"], "password": "third password"});
    assert_eq!(
        call(&server, "POST", "/login/reset", "", &body).await.0,
        204
    );
    assert_eq!(
        call(&server, "POST", "/login/reset", "", &body).await.0,
        400
    );
    assert_eq!(
        login(&server, "ada@example.com", "third password").await.0,
        200
    );

    // While no server runs, the same verbs work on the folder.
    server.terminate().await;
    let (code, _, error) = user(&data, &["create", "--name", "Grace", "grace@example.com"]).await;
    assert_eq!(code, 0, "{error}");
    let (_, listed, _) = user(&data, &["ls"]).await;
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(user(&data, &["rm", "ada@example.com"]).await.0, 0);
    assert_eq!(user(&data, &["rm", "ada@example.com"]).await.0, 3);
}

#[tokio::test]
async fn a_failure_names_its_request_in_header_body_and_log() {
    let server = options().set("log.level", "debug").start().await;
    let request = http_client().get(server.url("/profile"));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let text = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let (id, code) = (text("x-request-id"), text("x-kvasir-error"));
    assert_eq!(code, "unauthorized");
    let body: Json = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(body, json!({"error": "log in first", "requestId": id}));
    kvasir_testkit::eventually(
        kvasir_testkit::DEADLINE,
        "the log names the request",
        || async { server.stderr().contains(&id).then_some(()) },
    )
    .await;
}

#[tokio::test]
async fn codes_are_explained_by_the_command_line() {
    let (code, out, _) = run(&["explain", "conflict"], &[]).await;
    assert_eq!(code, 0);
    assert!(out.contains("conflict (status 409)"), "{out}");
    let (_, out, _) = run(&["explain", "urn:kvasir:error:too_large", "--json"], &[]).await;
    let told: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(told["code"], "too_large");
    assert!(told["remedy"].as_str().unwrap().ends_with('.'));
    let (_, out, _) = run(&["explain", "5"], &[]).await;
    assert!(out.starts_with("exit code 5"), "{out}");
    let (_, out, _) = run(&["explain"], &[]).await;
    assert!(out.lines().count() > 30, "{out}");
    let (code, _, error) = run(&["explain", "conflit"], &[]).await;
    assert_eq!(code, 3);
    assert!(error.contains("did you mean conflict?"), "{error}");
}

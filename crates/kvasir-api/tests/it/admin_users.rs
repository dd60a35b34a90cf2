//! Users through the admin API: what `kvasir user` asks for.

use std::sync::Arc;

use kvasir_api::accounts::{Accounts, Settings};
use kvasir_api::admin::Admin;
use kvasir_auth::Passwords;
use serde_json::{Value, json};

use crate::support::{Answer, App, World};

const PASSWORD: &str = "correct horse";

fn app() -> App {
    let world = World::new();
    let passwords = Passwords::new(2);
    let accounts = Accounts::new(
        world.ctx("accounts", "", "default"),
        Settings::default(),
        passwords.clone(),
    );
    let admin = Admin::new(world.ctx("admin", "/_", "default"), passwords);
    world.app(vec![Arc::new(admin), Arc::new(accounts)])
}

async fn send(app: &App, method: &str, path: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    app.send(method, path, &headers, body).await
}

async fn login(app: &App, password: &str) -> Answer {
    let body = json!({"email": "a@example.com", "password": password});
    send(app, "POST", "/login", &body).await
}

#[tokio::test]
async fn an_administrator_makes_changes_and_removes_users() {
    let app = app();
    let new = json!({"email": "A@example.com", "password": PASSWORD, "role": "admin"});
    let made = send(&app, "POST", "/_/api/v1/users", &new).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(
        (&made["email"], &made["role"], &made["disabled"]),
        (&json!("a@example.com"), &json!("admin"), &json!(false))
    );
    assert!(!made.to_string().contains("argon2"));
    assert_eq!(
        send(&app, "POST", "/_/api/v1/users", &new).await.status,
        409
    );

    let by_id = format!("/_/api/v1/users/{}", made["id"].as_str().unwrap());
    assert_eq!(send(&app, "GET", &by_id, &Value::Null).await.json(), made);
    let by_email = "/_/api/v1/users/a@example.com";
    assert_eq!(send(&app, "GET", by_email, &Value::Null).await.json(), made);

    let changed = send(
        &app,
        "PATCH",
        by_email,
        &json!({"role": "user", "disabled": true}),
    )
    .await;
    assert_eq!(
        (&changed.json()["role"], &changed.json()["disabled"]),
        (&json!("user"), &json!(true))
    );
    assert_eq!(login(&app, PASSWORD).await.status, 401);
    send(
        &app,
        "PATCH",
        by_email,
        &json!({"disabled": false, "password": "battery staple"}),
    )
    .await;
    assert_eq!(login(&app, PASSWORD).await.status, 401);
    assert_eq!(login(&app, "battery staple").await.status, 200);

    assert_eq!(
        send(&app, "DELETE", by_email, &Value::Null).await.status,
        204
    );
    for method in ["GET", "DELETE"] {
        assert_eq!(send(&app, method, by_email, &Value::Null).await.status, 404);
    }
    assert_eq!(login(&app, "battery staple").await.status, 401);
}

#[tokio::test]
async fn a_reset_leads_to_a_new_password() {
    let app = app();
    send(
        &app,
        "POST",
        "/_/api/v1/users",
        &json!({"email": "a@example.com", "password": PASSWORD}),
    )
    .await;
    let reset = send(
        &app,
        "POST",
        "/_/api/v1/users/a@example.com/reset",
        &Value::Null,
    )
    .await;
    assert_eq!(reset.status, 201);
    assert_eq!(reset.json()["expiresAt"], "2026-01-02T04:04:05Z");
    let body = json!({"token": reset.json()["token"], "password": "battery staple"});
    assert_eq!(send(&app, "POST", "/login/reset", &body).await.status, 204);
    assert_eq!(login(&app, "battery staple").await.status, 200);
}

#[tokio::test]
async fn users_are_listed_in_pages() {
    let app = app();
    for n in 0..5 {
        let new = json!({"email": format!("u{n}@example.com"), "password": PASSWORD});
        assert_eq!(
            send(&app, "POST", "/_/api/v1/users", &new).await.status,
            201
        );
    }
    let mut seen = Vec::new();
    let mut path = "/_/api/v1/users?limit=2".to_owned();
    loop {
        let page = send(&app, "GET", &path, &Value::Null).await.json();
        let users = page["users"].as_array().unwrap();
        assert!(users.len() <= 2);
        seen.extend(
            users
                .iter()
                .map(|user| user["id"].as_str().unwrap().to_owned()),
        );
        match page["cursor"].as_str() {
            Some(cursor) => path = format!("/_/api/v1/users?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted());
}

#[tokio::test]
async fn bad_users_are_refused_by_name() {
    let app = app();
    for (body, word) in [
        (json!({"email": "no", "password": PASSWORD}), "email"),
        (
            json!({"email": "a@example.com", "password": "short"}),
            "password",
        ),
        (json!({"email": "a@example.com"}), "password"),
        (
            json!({"email": "a@example.com", "password": PASSWORD, "role": "king"}),
            "role",
        ),
        (
            json!({"email": "a@example.com", "password": PASSWORD, "rank": 1}),
            "rank",
        ),
    ] {
        let answer = send(&app, "POST", "/_/api/v1/users", &body).await;
        assert_eq!(answer.status, 400, "{body}");
        let is_named = answer.text().contains(word) || answer.text().contains("variant");
        assert!(is_named, "{}", answer.text());
    }
}

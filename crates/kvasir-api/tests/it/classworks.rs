//! The Classworks dialect against the checklist of its contract. Test names are the check's names in
//! the checklist turned into sentences; a comment names the check where the sentence does not.

mod access;
mod admin;
mod browsers;
mod changes;
mod lists;
mod namespaces;
mod ordering;
mod paths;
mod values;

use std::sync::Arc;

use axum::body::Body;
use data_encoding::BASE64;
use kvasir_api::classworks::{Classworks, Settings};
use kvasir_auth::Passwords;
use serde_json::{Value, json};

use crate::support::{Answer, App, World};

/// A namespace as the app makes them.
const NS: &str = "7b1c2a58-9a4e-4c6d-8f00-0123456789ab";

const RESERVED: &str = "00000000-0000-4000-8000-000000000000";

/// Where a new world's clock stands, as the dialect writes it.
const START_STAMP: &str = "2026-01-02T03:04:05.000Z";

/// A site with only this dialect, on a shared port and on a listener of its own.
struct Setup {
    world: World,
    app: App,
    own: App,
}

impl Setup {
    fn new() -> Setup {
        Setup::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Setup {
        Setup::over(World::new(), change)
    }

    fn over(world: World, change: impl FnOnce(&mut Settings)) -> Setup {
        let mut settings = Settings::default();
        change(&mut settings);
        let ctx = world.ctx("classworks", "/classworks", "classworks");
        let classworks = Classworks::new(ctx, settings, Passwords::new(2));
        let own = world.app(vec![Arc::new(classworks.on_its_own())]);
        let app = world.app(vec![Arc::new(classworks)]);
        Setup { world, app, own }
    }

    async fn get(&self, path: &str) -> Answer {
        self.app.send("GET", path, &[], "").await
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.app.send("POST", path, &[], body).await
    }

    async fn put(&self, path: &str, body: &Value) -> Answer {
        self.app.send("PUT", path, &[], body.to_string()).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.app.send("DELETE", path, &[], "").await
    }

    /// Stores a value and expects that to work.
    async fn store(&self, path: &str, body: &str) -> Answer {
        let answer = self.post(path, body.to_owned()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer
    }

    /// Gives a namespace a password.
    async fn protect(&self, namespace: &str, password: &str) {
        let body = json!({ "password": password });
        let path = format!("/{namespace}/_password");
        let answer = self.post(&path, body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json(), json!({"message": "密码已成功修改"}));
    }
}

/// The header value that carries a password.
fn encoded(password: &str) -> String {
    BASE64.encode(password.as_bytes())
}

/// Expects a failure in the dialect's own shape.
#[track_caller]
fn refused(answer: &Answer, status: u16, message: &str) {
    assert_eq!(answer.status, status, "{:?}", answer.body);
    assert_eq!(
        answer.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    let body = answer.json();
    assert_eq!(body["success"], false);
    assert_eq!(body["details"], Value::Null);
    assert_eq!(body.get("statusCode").is_some(), status == 401);
    let found = body["message"].as_str().expect("there is a message");
    assert!(found.starts_with(message), "{found} is not {message}");
    assert!(!found.is_ascii(), "{found} is not in Chinese");
}

fn no_such_key(namespace: &str, key: &str) -> String {
    format!("未找到命名空间 '{namespace}' 下键名为 '{key}' 的记录")
}

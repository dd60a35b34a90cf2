//! The REST dialect against its contract. Expectations marked "seed" stand in the document that
//! the dialect follows; the others are choices that `docs/dialects/rest.md` tells users.

use std::sync::Arc;

use axum::body::Body;
use kvasir_api::rest::{Rest, Settings};
use kvasir_auth::AccessSettings;
use kvasir_kv::{Key, Limits};

use crate::support::{Answer, App, World};

mod access;
mod atomic;
mod bad_input;
mod conditions;
mod entries;
mod hostile;
mod lists;
mod watch;

const JSON: (&str, &str) = ("content-type", "application/json");

fn app() -> App {
    app_over(&World::new(), Settings::default())
}

fn app_over(world: &World, settings: Settings) -> App {
    let rest = Rest::new(world.ctx("rest", "/kv", "default"), settings);
    world.app(vec![Arc::new(rest)])
}

/// A site whose store takes values of at most so many bytes.
fn app_with_value_limit(value_bytes_max: usize) -> App {
    let world = World::with(Limits { value_bytes_max }, AccessSettings::default());
    app_over(&world, Settings::default())
}

fn key(parts: &[&str]) -> Key {
    Key::from_strings(parts)
}

impl App {
    async fn kv_get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], "").await
    }

    async fn kv_put(&self, target: &str, body: impl Into<Body>) -> Answer {
        self.send("PUT", target, &[JSON], body).await
    }

    /// Stores a value and gives its versionstamp.
    async fn stored(&self, target: &str, value: &str) -> String {
        let answer = self.kv_put(target, format!(r#"{{"value":{value}}}"#)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let stamp = answer.json()["versionstamp"].as_str().map(str::to_owned);
        stamp.expect("a versionstamp")
    }
}

/// The answer is a problem of this status whose detail contains `detail`.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str, detail: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(answer.header("x-kvasir-error"), Some(code));
    let problem = answer.json();
    let members: Vec<_> = problem.as_object().unwrap().keys().cloned().collect();
    assert_eq!(members, ["detail", "requestId", "status", "title", "type"]);
    assert_eq!(problem["type"], format!("urn:kvasir:error:{code}"));
    assert_eq!(problem["status"], status);
    assert_eq!(
        problem["title"].as_str(),
        answer.status.canonical_reason(),
        "the title is the status in words"
    );
    assert_eq!(
        problem["requestId"].as_str(),
        answer.header("x-request-id"),
        "body and header name the same request"
    );
    let told = problem["detail"].as_str().unwrap();
    assert!(told.contains(detail), "{told:?} does not say {detail:?}");
}

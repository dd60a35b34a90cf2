//! `POST /kv/_atomic`.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use kvasir_auth::Verb;
use kvasir_kv::{Mutation, Outcome};
use serde_json::json;

use crate::error::ApiError;

use super::super::description::{Atomic, Committed, Conflict};
use super::super::wire;
use super::Asker;

/// `POST /kv/_atomic`: checks and mutations that happen together or not at all.
///
/// A failed check is 409 with the indexes of all failing checks.
#[utoipa::path(
    post, path = "/kv/_atomic", tag = "rest",
    params(("Kvasir-Database" = Option<String>, Header, description = "another database than the mount's own")),
    request_body = Atomic,
    responses(
        (status = 200, description = "committed", body = Committed),
        (status = 400, description = "the body is wrong"),
        (status = 409, description = "checks failed; nothing was changed", body = Conflict),
    )
)]
pub(in super::super) async fn commit(
    Asker { rested, caller }: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let ctx = &rested.ctx;
    crate::body::require_json(&headers)?;
    let limit = wire::atomic_body_bytes_max(&ctx.limits);
    let body = crate::body::read(&headers, body, limit).await?;
    let write = wire::read_atomic(&body, ctx.clock.now())?.write;
    for check in &write.checks {
        caller.require(ctx, &ctx.keyspace, Verb::Read, &check.key)?;
    }
    for mutation in &write.mutations {
        let verb = match mutation {
            Mutation::Delete { .. } => Verb::Delete,
            _ => Verb::Write,
        };
        caller.require(ctx, &ctx.keyspace, verb, mutation.key())?;
    }

    let outcome = ctx.keyspace.commit(write).await?;

    match outcome {
        Outcome::Committed(committed) => Ok(wire::json_response(format!(
            r#"{{"ok":true,"versionstamp":"{}"}}"#,
            committed.versionstamp
        ))),
        Outcome::Conflict { failed } => {
            let detail = "a check failed; nothing was changed";
            let body = json!({"ok": false, "error": detail, "failed": failed});
            Err(ApiError::new(StatusCode::CONFLICT, "conflict", detail).with_data(body))
        }
    }
}

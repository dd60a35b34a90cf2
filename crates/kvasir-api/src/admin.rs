//! The admin API below `/_/api/v1`: what the command line and the console use.
//!
//! Every route needs the verb `admin` on everything: a grant that is bound to a database or to a
//! prefix does not reach here. One file per noun; a noun adds its routes in [`Admin::routes`].

mod tokens;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::{Method, header};
use kvasir_kv::Key;

use kvasir_auth::Verb;

use crate::context::{Caller, Ctx};
use crate::error::ApiError;
use crate::mount::{Dialect, finish};
use crate::request::RequestInfo;

/// Where the API lies below the mount.
const API: &str = "/api/v1";

/// The dialect on one mount, usually `/_`.
pub struct Admin {
    ctx: Ctx,
}

impl Admin {
    /// The dialect on `ctx`.
    pub fn new(ctx: Ctx) -> Admin {
        Admin { ctx }
    }
}

impl Dialect for Admin {
    fn name(&self) -> &'static str {
        "admin"
    }

    fn claims(&self, _method: &Method, path: &str) -> bool {
        path.strip_prefix(&*self.ctx.base)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn routes(&self) -> Router {
        let base = format!("{}{API}", self.ctx.base);
        let routes = tokens::routes(&base);
        finish(routes.with_state(self.ctx.clone()))
    }

    fn render(&self, error: &ApiError, request: &RequestInfo) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": error.status().canonical_reason(),
            "status": error.status().as_u16(),
            "code": error.code(),
            "detail": error.detail(),
            "requestId": request.id.to_string(),
        });
        (
            error.status(),
            [(header::CONTENT_TYPE, "application/problem+json")],
            body.to_string(),
        )
            .into_response()
    }
}

/// Refuses everybody but administrators.
fn require_admin(ctx: &Ctx, caller: &Caller) -> Result<(), ApiError> {
    caller
        .require(ctx, &ctx.system, Verb::Admin, &Key::default())
        .map_err(|_| ApiError::forbidden("this needs an administrator token"))
}

/// An answer in JSON.
fn json_answer(answer: &serde_json::Value) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, answer.to_string()).into_response()
}

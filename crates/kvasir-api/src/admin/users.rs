//! `/users`: the users of the accounts dialect. A user is named by id or email.
//!
//! They are those of the default database, where the dialect is mounted unless it was moved.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use kvasir_auth::Passwords;
use kvasir_kv::keyspace::Cursor;
use kvasir_kv::{Key, Keyspace, KeyspaceName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::Told;
use super::tokens::Paging;
use super::{Administrator, Body, ok};
use crate::accounts::users::{Account, RESET_MS, Role, Users};
use crate::context::Ctx;
use crate::error::ApiError;
use crate::time::rfc3339;

/// What these routes hold.
#[derive(Clone)]
pub(super) struct Held {
    ctx: Ctx,
    users: Users,
}

impl FromRef<Held> for Ctx {
    fn from_ref(held: &Held) -> Ctx {
        held.ctx.clone()
    }
}

pub(super) fn routes(ctx: &Ctx, passwords: Passwords) -> Router<Ctx> {
    let store = Arc::clone(ctx.system.store());
    let database = Keyspace::new(store, KeyspaceName::default_database());
    let users = Users::new(database, Arc::clone(&ctx.clock), passwords);
    Router::new()
        .route("/users", get(list).post(create))
        .route("/users/{user}", get(show).patch(change).delete(remove))
        .route("/users/{user}/reset", post(reset))
        .with_state(Held {
            ctx: ctx.clone(),
            users,
        })
}

/// One user.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserInfo {
    id: String,
    email: String,
    name: Option<String>,
    /// `user` or `admin`.
    #[schema(value_type = String)]
    role: Role,
    disabled: bool,
    created_at: String,
}

impl From<Account> for UserInfo {
    fn from(account: Account) -> UserInfo {
        let (user, secrets) = (account.user.record, account.secrets.record);
        UserInfo {
            id: user.id,
            email: user.email,
            name: user.name,
            role: secrets.role,
            disabled: secrets.disabled,
            created_at: user.created_at,
        }
    }
}

/// One page of users.
#[derive(Serialize, ToSchema)]
pub struct UserPage {
    users: Vec<UserInfo>,
    /// Where to go on, if there are more.
    cursor: Option<String>,
}

/// What a new user is made of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    email: String,
    /// 8 to 256 characters.
    password: String,
    name: Option<String>,
    /// `user` or `admin`; `user` if left out.
    #[serde(default)]
    #[schema(value_type = String)]
    role: Role,
}

/// What is to be different; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// `user` or `admin`.
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
    /// A disabled user cannot log in, and all sessions end.
    disabled: Option<bool>,
    /// A new password; all sessions end.
    password: Option<String>,
}

/// A one-time reset, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetInfo {
    /// For `POST /login/reset`.
    token: String,
    expires_at: String,
}

impl Held {
    /// The id of a user, also of one that another program wrote and that has no password here yet.
    async fn id_of(&self, user: &str) -> Result<String, ApiError> {
        let id = self.users.id_of(user).await?;
        id.ok_or_else(|| ApiError::not_found("no such user"))
    }

    async fn find(&self, user: &str) -> Result<Account, ApiError> {
        let found = match user.contains('@') {
            true => self.users.by_email(user).await?,
            false => self.users.get(user).await?,
        };
        found.ok_or_else(|| ApiError::not_found("no such user"))
    }
}

/// `GET /_/api/v1/users`: the users in the order of their ids.
#[utoipa::path(
    get, path = "/_/api/v1/users", tag = "admin",
    responses((status = 200, description = "one page", body = UserPage))
)]
pub(super) async fn list(
    State(held): State<Held>,
    _administrator: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Paging { cursor, limit } = Paging::read(query.as_deref())?;
    let after = cursor.and_then(|cursor| String::from_utf8(cursor.0.as_bytes().to_vec()).ok());
    let (users, last) = held.users.list(after.as_deref(), limit).await?;
    let cursor = last.map(|last| Cursor(Key::new(last)).to_string());
    Ok(ok(UserPage {
        users: users.into_iter().map(UserInfo::from).collect(),
        cursor,
    }))
}

/// `POST /_/api/v1/users`: makes a user, whether or not registration is open.
#[utoipa::path(
    post, path = "/_/api/v1/users", tag = "admin", request_body = NewUser,
    responses(
        (status = 201, description = "the user was made", body = UserInfo),
        (status = 400, description = "no email or password", body = crate::problem::Problem<'static>),
        (status = 409, description = "the email is taken", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn create(
    State(held): State<Held>,
    _administrator: Administrator,
    Body(new): Body<NewUser>,
) -> Result<Response, ApiError> {
    let user = held
        .users
        .create(&new.email, &new.password, new.name, new.role)
        .await?;
    let account = held.find(&user.id).await?;
    let response = (StatusCode::CREATED, ok(UserInfo::from(account))).into_response();
    Ok(Told::on(new.email).with(response))
}

/// `GET /_/api/v1/users/{user}`.
#[utoipa::path(
    get, path = "/_/api/v1/users/{user}", tag = "admin",
    params(("user" = String, Path, description = "id or email")),
    responses(
        (status = 200, description = "the user", body = UserInfo),
        (status = 404, description = "no such user", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn show(
    State(held): State<Held>,
    _administrator: Administrator,
    Path(user): Path<String>,
) -> Result<Response, ApiError> {
    Ok(ok(UserInfo::from(held.find(&user).await?)))
}

/// `PATCH /_/api/v1/users/{user}`: role, state, password.
#[utoipa::path(
    patch, path = "/_/api/v1/users/{user}", tag = "admin", request_body = UserChange,
    params(("user" = String, Path, description = "id or email")),
    responses(
        (status = 200, description = "the user as it is now", body = UserInfo),
        (status = 400, description = "no password", body = crate::problem::Problem<'static>),
        (status = 404, description = "no such user", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn change(
    State(held): State<Held>,
    _administrator: Administrator,
    Path(user): Path<String>,
    Body(change): Body<UserChange>,
) -> Result<Response, ApiError> {
    let id = held.id_of(&user).await?;
    if let Some(password) = &change.password {
        held.users.set_password(&id, password, None).await?;
    }
    if change.role.is_some() || change.disabled.is_some() {
        let apply = |secrets: &mut crate::accounts::users::Secrets| {
            secrets.role = change.role.unwrap_or(secrets.role);
            secrets.disabled = change.disabled.unwrap_or(secrets.disabled);
        };
        held.users.change(&id, apply).await?;
    }
    Ok(ok(UserInfo::from(held.find(&id).await?)))
}

/// `POST /_/api/v1/users/{user}/reset`: a one-time token for a new password, good for an hour.
#[utoipa::path(
    post, path = "/_/api/v1/users/{user}/reset", tag = "admin",
    params(("user" = String, Path, description = "id or email")),
    responses(
        (status = 201, description = "the token, shown once", body = ResetInfo),
        (status = 404, description = "no such user", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn reset(
    State(held): State<Held>,
    _administrator: Administrator,
    Path(user): Path<String>,
) -> Result<Response, ApiError> {
    let id = held.id_of(&user).await?;
    let token = held.users.begin_reset(&id).await?;
    let until = held
        .ctx
        .clock
        .now()
        .checked_add_ms(RESET_MS)
        .unwrap_or_default();
    let info = ResetInfo {
        token,
        expires_at: rfc3339(until),
    };
    Ok((StatusCode::CREATED, ok(info)).into_response())
}

/// `DELETE /_/api/v1/users/{user}`: the account with its sessions; orders stay.
#[utoipa::path(
    delete, path = "/_/api/v1/users/{user}", tag = "admin",
    params(("user" = String, Path, description = "id or email")),
    responses(
        (status = 204, description = "the user is gone"),
        (status = 404, description = "no such user", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn remove(
    State(held): State<Held>,
    _administrator: Administrator,
    Path(user): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = held.find(&user).await?.user.record.id;
    held.users.delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

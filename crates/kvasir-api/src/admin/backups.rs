//! `/backups` and `/jobs`: taking, reading, rehearsing and removing backups.
//!
//! Longer work answers 202 with a job; `GET /jobs/{id}` tells how far it is.

use std::sync::Arc;

use axum::body::Body as Stream;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::Told;
use super::{Administrator, Body, ok};
use crate::backups::{
    BackupList, Backups, Job, NewBackup, NewDrill, NewSchedule, Prune, Pruned, Schedule,
};
use crate::context::Ctx;
use crate::error::ApiError;

/// Longest comment beside a backup, in characters.
const COMMENT_CHARS_MAX: usize = 1_000;

/// Who does the work; none where nobody can.
type Desk = Option<Arc<dyn Backups>>;

/// The routes of these nouns.
pub(super) fn routes(desk: Desk) -> Router<Ctx> {
    Router::new()
        .route("/backups", get(list).post(create))
        .route("/backups/drill", post(drill))
        .route("/backups/prune", post(prune))
        .route("/backups/schedule", put(set_schedule))
        .route("/backups/{name}/verify", post(verify))
        .route("/backups/{name}/content", get(content))
        .route("/jobs", get(jobs))
        .route("/jobs/{id}", get(job).delete(cancel))
        .layer(Extension(desk))
}

fn at(desk: &Desk) -> Result<&Arc<dyn Backups>, ApiError> {
    desk.as_ref()
        .ok_or_else(|| ApiError::not_found("no backups are taken here"))
}

fn begun(job: Job) -> Response {
    (StatusCode::ACCEPTED, ok(job)).into_response()
}

/// All jobs that are remembered.
#[derive(Serialize, ToSchema)]
pub struct JobList {
    /// The newest first.
    jobs: Vec<Job>,
}

/// `GET /_/api/v1/backups`: the backups at the target, schedule, retention and the last rehearsal.
#[utoipa::path(
    get, path = "/_/api/v1/backups", tag = "admin",
    responses(
        (status = 200, description = "all there is to see", body = BackupList),
        (status = 503, description = "the target cannot be reached", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn list(
    _administrator: Administrator,
    Extension(desk): Extension<Desk>,
) -> Result<Response, ApiError> {
    Ok(ok(at(&desk)?.list().await?))
}

/// `POST /_/api/v1/backups`: takes a backup of everything, as it is at one moment.
#[utoipa::path(
    post, path = "/_/api/v1/backups", tag = "admin", request_body = NewBackup,
    responses(
        (status = 202, description = "it is being taken", body = Job),
        (status = 409, description = "another job is at work", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn create(
    _administrator: Administrator,
    Extension(desk): Extension<Desk>,
    Body(new): Body<NewBackup>,
) -> Result<Response, ApiError> {
    if new.comment.chars().count() > COMMENT_CHARS_MAX {
        return Err(ApiError::bad_request(format!(
            "a comment has up to {COMMENT_CHARS_MAX} characters"
        )));
    }
    Ok(begun(at(&desk)?.create(new).await?))
}

/// `POST /_/api/v1/backups/{name}/verify`: reads a backup to its end without restoring it.
#[utoipa::path(
    post, path = "/_/api/v1/backups/{name}/verify", tag = "admin",
    params(("name" = String, Path, description = "its name")),
    responses(
        (status = 202, description = "it is being read", body = Job),
        (status = 404, description = "there is none of this name", body = crate::problem::Problem<'static>),
        (status = 409, description = "another job is at work", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn verify(
    _administrator: Administrator,
    Extension(desk): Extension<Desk>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    Ok(begun(at(&desk)?.verify(&name).await?))
}

/// `POST /_/api/v1/backups/drill`: restores a backup into scratch space and compares it with the live
/// store.
#[utoipa::path(
    post, path = "/_/api/v1/backups/drill", tag = "admin", request_body = NewDrill,
    responses(
        (status = 202, description = "it is being restored", body = Job),
        (status = 404, description = "there is none", body = crate::problem::Problem<'static>),
        (status = 409, description = "another job is at work", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn drill(
    _administrator: Administrator,
    Extension(desk): Extension<Desk>,
    Body(new): Body<NewDrill>,
) -> Result<Response, ApiError> {
    Ok(begun(at(&desk)?.drill(new).await?))
}

/// `POST /_/api/v1/backups/prune`: removes backups that the rules do not keep. The newest that was
/// found whole stays whatever they say.
#[utoipa::path(
    post, path = "/_/api/v1/backups/prune", tag = "admin", request_body = Prune,
    responses((status = 200, description = "what went and what stays", body = Pruned))
)]
pub(super) async fn prune(
    _administrator: Administrator,
    Extension(desk): Extension<Desk>,
    Body(rules): Body<Prune>,
) -> Result<Response, ApiError> {
    let is_dry = rules.dry_run;
    let pruned = at(&desk)?.prune(rules).await?;
    let told = match is_dry {
        true => Told::nothing(),
        false => Told::on(pruned.removed.join(" ")),
    };
    Ok(told.with(ok(pruned)))
}

/// `PUT /_/api/v1/backups/schedule`: sets when backups are taken.
#[utoipa::path(
    put, path = "/_/api/v1/backups/schedule", tag = "admin", request_body = NewSchedule,
    responses(
        (status = 200, description = "it counts from now on", body = Schedule),
        (status = 400, description = "it makes no sense", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn set_schedule(
    _administrator: Administrator,
    Extension(desk): Extension<Desk>,
    Body(new): Body<NewSchedule>,
) -> Result<Response, ApiError> {
    Ok(ok(at(&desk)?.set_schedule(new).await?))
}

/// `GET /_/api/v1/backups/{name}/content`: the file, as it is at the target.
#[utoipa::path(
    get, path = "/_/api/v1/backups/{name}/content", tag = "admin",
    params(("name" = String, Path, description = "its name")),
    responses(
        (status = 200, description = "the file", content_type = "application/octet-stream"),
        (status = 404, description = "there is none of this name", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn content(
    _administrator: Administrator,
    Extension(desk): Extension<Desk>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let (bytes, stream) = at(&desk)?.content(&name).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
        // The name was found at the target: it holds nothing that would need quoting.
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    Ok((headers, Stream::from_stream(stream)).into_response())
}

/// `GET /_/api/v1/jobs`: the jobs that run and the last ones that ended.
#[utoipa::path(
    get, path = "/_/api/v1/jobs", tag = "admin",
    responses((status = 200, description = "the newest first", body = JobList))
)]
pub(super) async fn jobs(
    _administrator: Administrator,
    Extension(desk): Extension<Desk>,
) -> Result<Response, ApiError> {
    Ok(ok(JobList {
        jobs: desk.map_or_else(Vec::new, |desk| desk.jobs()),
    }))
}

/// `GET /_/api/v1/jobs/{id}`: how far a job is.
#[utoipa::path(
    get, path = "/_/api/v1/jobs/{id}", tag = "admin",
    params(("id" = String, Path, description = "its id")),
    responses(
        (status = 200, description = "how far it is", body = Job),
        (status = 404, description = "nobody remembers it", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn job(
    _administrator: Administrator,
    Extension(desk): Extension<Desk>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let job = desk.and_then(|desk| desk.job(&id));
    job.map(ok)
        .ok_or_else(|| ApiError::not_found("no such job"))
}

/// `DELETE /_/api/v1/jobs/{id}`: asks a job to stop. What it wrote so far is removed.
#[utoipa::path(
    delete, path = "/_/api/v1/jobs/{id}", tag = "admin",
    params(("id" = String, Path, description = "its id")),
    responses(
        (status = 202, description = "it was asked to"),
        (status = 404, description = "no such job runs", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn cancel(
    _administrator: Administrator,
    Extension(desk): Extension<Desk>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    match desk.is_some_and(|desk| desk.cancel(&id)) {
        true => Ok(StatusCode::ACCEPTED.into_response()),
        false => Err(ApiError::not_found("no such job runs")),
    }
}

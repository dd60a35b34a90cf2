//! Values: one by one, and many at once.

use axum::body::Body;
use axum::response::Response;
use http::{StatusCode, header};
use kvasir_kv::{AtomicWrite, Committed, Entry, Key, Meta, Mutation, Outcome, Value, Versionstamp};
use serde::Serialize;

use super::super::gate::Right;
use super::super::wire::{self, Item, Metadata, Stamp, Tags, Written};
use super::super::{error, path, value};
use super::{Call, Opened};
use crate::error::ApiError;
use crate::v8json;

/// Most keys of one batch.
pub const BATCH_KEYS_MAX: usize = 10_000;

/// How often a conditional write is tried again because the value changed between look and write.
const CONDITION_TRIES: usize = 16;

async fn find(call: &Call<'_>, opened: &Opened, key: &str) -> Result<Entry, ApiError> {
    let entry = opened.space.keyspace.get(&opened.space.key(key)).await?;
    entry.ok_or_else(|| error::no_such_key(call.namespace, key))
}

/// `GET /:namespace/:key`: the bare value.
#[utoipa::path(
    get, path = "/classworks/{namespace}/{key}", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
        ("key" = String, Path, description = "the key"),
    ),
    responses(
        (status = 200, description = "the value", body = serde_json::Value),
        (status = 304, description = "the value has the version of If-None-Match"),
        (status = 404, description = "no such key"),
    )
)]
pub(super) async fn get(call: &Call<'_>, key: &str) -> Result<Response, ApiError> {
    let opened = call.open(Right::Read).await?;
    let entry = find(call, &opened, key).await?;

    let known = Tags::read(call.headers, header::IF_NONE_MATCH);
    let mut response = match known.is_some_and(|known| known.hold(entry.versionstamp)) {
        true => empty(StatusCode::NOT_MODIFIED),
        // What other dialects wrote is shown as JSON too.
        false => wire::json_bytes(v8json::render(&entry.value).text),
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, wire::etag(entry.versionstamp));
    Ok(response)
}

/// `GET /:namespace/:key/metadata`: who wrote the key last, and when it was made and written.
#[utoipa::path(
    get, path = "/classworks/{namespace}/{key}/metadata", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
        ("key" = String, Path, description = "the key"),
    ),
    responses(
        (status = 200, description = "what is known about the key", body = Item<'static>),
        (status = 404, description = "no such key"),
    )
)]
pub(super) async fn metadata(call: &Call<'_>, key: &str) -> Result<Response, ApiError> {
    let opened = call.open(Right::Read).await?;
    let entry = find(call, &opened, key).await?;

    Ok(wire::json(&Item {
        namespace: call.namespace,
        key,
        metadata: Metadata::of(&entry),
    }))
}

/// `POST /:namespace/:key`: creates or replaces. 200 in both cases.
#[utoipa::path(
    post, path = "/classworks/{namespace}/{key}", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
        ("key" = String, Path, description = "the key"),
    ),
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses(
        (status = 200, description = "written", body = Written<'static>),
    )
)]
pub(super) async fn post(call: &Call<'_>, key: &str, body: Body) -> Result<Response, ApiError> {
    let opened = call.open(Right::Write).await?;
    let body = call.body(body, call.app.value_bytes_max()).await?;
    let json = value::checked(body)?;

    let set = set(call, opened.space.key(key), Value::json(json));
    let committed = commit_on_condition(call, &opened, key, set).await?;
    call.wrote(&opened, 1);

    let mut response = wire::json(&Written {
        namespace: call.namespace,
        key,
        created: !existed(&committed, 0),
        updated_at: Stamp(committed.versionstamp.time()),
    });
    let headers = response.headers_mut();
    headers.insert(header::ETAG, wire::etag(committed.versionstamp));
    Ok(response)
}

/// `DELETE /:namespace/:key`.
#[utoipa::path(
    delete, path = "/classworks/{namespace}/{key}", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
        ("key" = String, Path, description = "the key"),
    ),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "no such key"),
    )
)]
pub(super) async fn delete(call: &Call<'_>, key: &str) -> Result<Response, ApiError> {
    let opened = call.open(Right::Write).await?;

    let delete = Mutation::delete(opened.space.key(key));
    let committed = commit_on_condition(call, &opened, key, delete).await?;

    match existed(&committed, 0) {
        true => Ok(empty(StatusCode::NO_CONTENT)),
        false => Err(error::no_such_key(call.namespace, key)),
    }
}

/// The answer of `POST /:namespace/_batchimport`.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksImported)]
pub(in super::super) struct Imported<'a> {
    namespace: &'a str,
    total: usize,
    successful: usize,
    failed: usize,
    results: Vec<ImportedKey<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FailedKey<'a>>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksImportedKey)]
pub(in super::super) struct ImportedKey<'a> {
    key: &'a str,
    created: bool,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksFailedKey)]
pub(in super::super) struct FailedKey<'a> {
    key: &'a str,
    error: String,
}

/// `POST /:namespace/_batchimport`: all good keys of an object, in one commit. Bad ones are named in
/// the answer.
#[utoipa::path(
    post, path = "/classworks/{namespace}/_batchimport", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
    ),
    request_body(content = std::collections::BTreeMap<String, serde_json::Value>, content_type = "application/json"),
    responses(
        (status = 200, description = "which keys were written, and which not", body = Imported<'static>),
    )
)]
pub(super) async fn import(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let opened = call.open(Right::Write).await?;
    let body = call.body(body, call.app.settings.batch_bytes_max).await?;
    let members = value::members(body)?;
    if members.len() > BATCH_KEYS_MAX {
        let count = members.len();
        return Err(error::bad(format!(
            "键过多：{count} 个，最多 {BATCH_KEYS_MAX} 个"
        )));
    }

    let mut write = AtomicWrite::new().reporting_existed();
    let (mut good, mut errors) = (Vec::new(), Vec::new());
    for (key, json) in &members {
        let checked = path::check_written_key(key).and_then(|()| {
            let fits = json.len() <= call.app.value_bytes_max();
            fits.then_some(()).ok_or_else(error::too_large)
        });
        match checked {
            Ok(()) => {
                let value = Value::json(json.clone());
                write
                    .mutations
                    .push(set(call, opened.space.key(key), value));
                good.push(key.as_str());
            }
            Err(error) => errors.push(FailedKey {
                key,
                error: error.detail().to_owned(),
            }),
        }
    }
    let committed = match good.is_empty() {
        true => None,
        false => opened.space.keyspace.commit(write).await?.committed(),
    };
    call.wrote(&opened, good.len());
    let keys = good.iter().enumerate().map(|(place, key)| ImportedKey {
        key,
        created: !committed.as_ref().is_some_and(|done| existed(done, place)),
    });
    Ok(wire::json(&Imported {
        namespace: call.namespace,
        total: members.len(),
        successful: good.len(),
        failed: errors.len(),
        results: keys.collect(),
        errors,
    }))
}

/// Stores a value. The time of creation of a key that is already there is kept.
fn set(call: &Call<'_>, key: Key, value: Value) -> Mutation {
    Mutation::Set {
        key,
        value,
        expires_at: None,
        meta: Some(Meta {
            creator: Some(call.creator()),
            ..Meta::default()
        }),
        keep_created: true,
    }
}

/// Whether the key of a mutation was there before.
fn existed(committed: &Committed, place: usize) -> bool {
    committed.existed.get(place).copied().unwrap_or_default()
}

/// Commits one mutation, if the value is the one that the client says it is. Clients that say
/// nothing, as all of the original's, cost no look.
async fn commit_on_condition(
    call: &Call<'_>,
    opened: &Opened,
    key: &str,
    mutation: Mutation,
) -> Result<Committed, ApiError> {
    let keyspace = &opened.space.keyspace;
    let write = AtomicWrite::new().push(mutation).reporting_existed();
    let must_be = Tags::read(call.headers, header::IF_MATCH);
    let must_not_be = Tags::read(call.headers, header::IF_NONE_MATCH);
    let is_met = |present: Option<Versionstamp>| {
        let holds = |tags: &Tags| present.is_some_and(|present| tags.hold(present));
        must_be.as_ref().is_none_or(holds) && !must_not_be.as_ref().is_some_and(holds)
    };
    if must_be.is_none() && must_not_be.is_none() {
        let outcome = keyspace.commit(write).await?;
        return outcome.committed().ok_or_else(error::changed_meanwhile);
    }
    let key = opened.space.key(key);
    for _ in 0..CONDITION_TRIES {
        let present = keyspace.get(&key).await?.map(|entry| entry.versionstamp);
        if !is_met(present) {
            return Err(error::changed_meanwhile());
        }
        let write = match present {
            Some(present) => write.clone().check(key.clone(), present),
            None => write.clone().check_absent(key.clone()),
        };
        if let Outcome::Committed(committed) = keyspace.commit(write).await? {
            return Ok(committed);
        }
    }
    Err(error::changed_meanwhile())
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

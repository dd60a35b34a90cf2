//! `/classworks`: the namespaces of the Classworks dialect, and what its page shows.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use kvasir_kv::keyspace::Cursor;
use kvasir_kv::{
    AtomicWrite, Key, KeyRange, Keyspace, KeyspaceName, Mutation, Part, RangeRead, SnapshotRead,
    Value,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::classworks::layout::{self, AccessType, Device};
use crate::classworks::{INFO_KEY, SiteInfo, TEXT_BYTES_MAX};
use crate::context::Ctx;
use crate::error::ApiError;

use super::tokens::Paging;
use super::{Administrator, Body, ok};

/// Most namespaces of a page. Each takes two reads.
const NAMESPACES_MAX: usize = 200;

/// One namespace.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceInfo {
    namespace: String,
    name: Option<String>,
    /// `PUBLIC`, `PROTECTED` or `PRIVATE`.
    #[schema(value_type = String)]
    access_type: AccessType,
    has_password: bool,
}

/// One page of namespaces.
#[derive(Serialize, ToSchema)]
pub struct NamespacePage {
    namespaces: Vec<NamespaceInfo>,
    /// Where to go on, if there are more.
    cursor: Option<String>,
}

/// `GET /_/api/v1/classworks/namespaces`: names with their settings, in the order of their bytes.
///
/// Those of the usual keyspace in the main store. A namespace with settings but without keys is not
/// in it.
#[utoipa::path(
    get, path = "/_/api/v1/classworks/namespaces", tag = "admin",
    responses((status = 200, description = "one page", body = NamespacePage))
)]
pub(super) async fn namespaces(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Paging { cursor, limit } = Paging::read(query.as_deref())?;
    let limit = limit.min(NAMESPACES_MAX);
    let name = KeyspaceName::from_static("classworks");
    let keyspace = Keyspace::new(ctx.system.store().clone(), name);
    let mut rest = KeyRange::starting_with(&Key::default());
    if let Some(Cursor(last)) = cursor {
        rest.start = KeyRange::starting_with(&last).end;
    }
    let (mut namespaces, mut last) = (Vec::new(), None);
    let cursor = loop {
        if namespaces.len() == limit {
            break last.map(|last| Cursor(last).to_string());
        }
        let first = SnapshotRead::range(RangeRead::new(rest.clone(), 1));
        let Some(entry) = keyspace.read(first).await?.into_firsts().next().flatten() else {
            break None;
        };
        // What has no text in front was put there by another dialect.
        let parts = entry.key.parts().unwrap_or_default();
        let Some(Part::String(namespace)) = parts.into_iter().next() else {
            rest.start = entry.key.successor();
            continue;
        };
        let prefix = Key::from_strings([&namespace]);
        rest.start = KeyRange::starting_with(&prefix).end;
        last = Some(prefix);
        namespaces.push(shown(&ctx, namespace).await?);
    };
    Ok(ok(NamespacePage { namespaces, cursor }))
}

async fn shown(ctx: &Ctx, namespace: String) -> Result<NamespaceInfo, ApiError> {
    let stored = ctx.system.get(&layout::device_key(&namespace)).await?;
    let device = match stored {
        Some(entry) => Device::read(&entry.value)?,
        None => Device::default(),
    };
    Ok(NamespaceInfo {
        namespace,
        access_type: device.access_type(),
        has_password: device.password.is_some(),
        name: device.name,
    })
}

/// `GET /_/api/v1/classworks/info`: title and text of the page.
#[utoipa::path(
    get, path = "/_/api/v1/classworks/info", tag = "admin",
    responses((status = 200, description = "what the page shows", body = SiteInfo))
)]
pub(super) async fn info(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
) -> Result<Response, ApiError> {
    let entry = ctx.system.get(&layout::site_key(INFO_KEY)).await?;
    let stored = entry.and_then(|entry| serde_json::from_slice(&entry.value.bytes).ok());
    let info: SiteInfo = stored.unwrap_or_default();
    Ok(ok(info))
}

/// `PUT /_/api/v1/classworks/info`: sets title and text, which the page shows at once. A missing
/// member gets its default.
#[utoipa::path(
    put, path = "/_/api/v1/classworks/info", tag = "admin", request_body = SiteInfo,
    responses((status = 200, description = "what the page shows", body = SiteInfo))
)]
pub(super) async fn set_info(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Body(info): Body<SiteInfo>,
) -> Result<Response, ApiError> {
    if info.title.len() > TEXT_BYTES_MAX {
        return Err(ApiError::bad_request(format!(
            "`title` is over the limit of {TEXT_BYTES_MAX} bytes"
        )));
    }
    let json = serde_json::to_vec(&info).map_err(ApiError::internal)?;
    let set = Mutation::set(layout::site_key(INFO_KEY), Value::json(json));
    ctx.system.commit(AtomicWrite::new().push(set)).await?;
    Ok(ok(info))
}

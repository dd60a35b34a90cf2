//! `/keyspaces`: the parts of the main store, for looking around.
//!
//! The keyspaces of tokens, users' secrets and queues are not among them: nobody reads those as
//! data. Nor are those of mounts with a store of their own.

use axum::extract::State;
use axum::response::Response;
use kvasir_kv::keyspace::KEYSPACE_NAME_BYTES_MAX;
use kvasir_kv::{Key, KeyRange, Keyspace, KeyspaceName, Part, RangeRead, SnapshotRead};
use serde::Serialize;
use utoipa::ToSchema;

use crate::context::Ctx;
use crate::error::ApiError;

use super::{Administrator, ok};

/// Most keyspaces that are listed. Each takes one read.
const KEYSPACES_MAX: usize = 1_000;

/// All keyspaces with something in them.
#[derive(Serialize, ToSchema)]
pub struct KeyspaceList {
    keyspaces: Vec<KeyspaceInfo>,
    /// Whether there are more than are listed.
    more: bool,
}

/// One keyspace.
#[derive(Serialize, ToSchema)]
pub struct KeyspaceInfo {
    name: String,
}

/// The keyspace of a name from outside.
pub(super) fn named(ctx: &Ctx, name: &str) -> Result<Keyspace, ApiError> {
    let name: KeyspaceName = name
        .parse()
        .map_err(|error| ApiError::bad_request(format!("the name of a keyspace: {error}")))?;
    Ok(Keyspace::new(ctx.system.store().clone(), name))
}

/// `GET /_/api/v1/keyspaces`: names of keyspaces that hold entries, in order.
#[utoipa::path(
    get, path = "/_/api/v1/keyspaces", tag = "admin",
    responses((status = 200, description = "their names", body = KeyspaceList))
)]
pub(super) async fn list(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
) -> Result<Response, ApiError> {
    let mut rest = KeyRange::starting_with(&Key::default());
    let mut keyspaces = Vec::new();
    while keyspaces.len() < KEYSPACES_MAX {
        let first = SnapshotRead::range(RangeRead::new(rest.clone(), 1));
        let found = ctx.system.store().read(first).await?;
        let Some(entry) = found.into_firsts().next().flatten() else {
            return Ok(ok(KeyspaceList {
                keyspaces,
                more: false,
            }));
        };
        let Some(name) = first_name(&entry.key) else {
            rest.start = entry.key.successor();
            continue;
        };
        // Behind every key of it, whatever bytes those begin with: names hold no zero byte, so no
        // other name begins with these bytes.
        rest.start = KeyRange::starting_with(&Key::from_strings([&name])).end;
        if name.parse::<KeyspaceName>().is_ok() {
            keyspaces.push(KeyspaceInfo { name });
        }
    }
    Ok(ok(KeyspaceList {
        keyspaces,
        more: true,
    }))
}

/// The name in front of a stored key. Keys may go on with bytes that are no tuple.
fn first_name(key: &Key) -> Option<String> {
    let bytes = key.as_bytes();
    let head = &bytes[..bytes.len().min(KEYSPACE_NAME_BYTES_MAX + 2)];
    let end = head.iter().position(|byte| *byte == 0)?;
    match Key::new(head[..=end].to_vec()).parts().ok()?.as_slice() {
        [Part::String(name)] => Some(name.clone()),
        _ => None,
    }
}

//! `DELETE …?list=true&trash=true`: away from the data and into the trash, from where an
//! administrator can bring it back.

use axum::response::Response;
use http::StatusCode;
use kvasir_auth::Verb;
use kvasir_kv::{Key, KeyRange, Keyspace, KeyspaceName, RangeRead, SnapshotRead};
use serde_json::json;

use crate::context::Ctx;
use crate::error::ApiError;
use crate::query::Query;
use crate::time::rfc3339;
use crate::trash::{BYTES_MAX, ENTRIES_MAX, KEPT_MS, Load, Refusal, Removal, Trash};

use super::super::{Rested, keypath, selection::Selection, wire};
use super::Head;

/// Keys that a plan shows.
const SAMPLE: usize = 5;

/// What `trash=` says.
pub(super) enum Wish {
    /// Away for good.
    Purge,
    /// A new removal.
    New,
    /// More of a removal that an earlier request began.
    MoreOf(String),
}

impl Wish {
    /// Reads `trash`.
    ///
    /// # Errors
    ///
    /// 400 if it is given twice.
    pub(super) fn read(query: &Query<'_>) -> Result<Wish, ApiError> {
        Ok(match query.text("trash")? {
            None | Some("false" | "0") => Wish::Purge,
            Some("true" | "1") => Wish::New,
            Some(id) => Wish::MoreOf(id.to_owned()),
        })
    }
}

/// The trash beside the mount's data.
fn trash(ctx: &Ctx) -> Result<Trash, ApiError> {
    let (data, main) = (ctx.store().as_ref(), ctx.system.store().as_ref());
    if !std::ptr::addr_eq(data, main) {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "no_trash",
            "the data lies in a store of its own, which has no trash; leave trash=true out to delete \
             it for good",
        ));
    }
    let system = Keyspace::new(ctx.store().clone(), KeyspaceName::system());
    Ok(Trash::new(system))
}

/// `GET …?list=true&trash=true`: what such a DELETE would take away, and whether it fits.
pub(super) async fn plan(
    state: &Rested,
    head: &Head,
    selection: Selection,
) -> Result<Response, ApiError> {
    let ctx = &state.ctx;
    head.require(ctx, Verb::Read, &selection.prefix)?;
    head.require(ctx, Verb::Delete, &selection.prefix)?;
    let trash = trash(ctx)?;

    let asked = trash.weigh(&ctx.keyspace, &selection.range).await?;
    let room = Trash::room(&trash.removals().await?, true);
    let sample = sample(&ctx.keyspace, &selection.range).await?;

    let plan = json!({
        "trash": {"entriesMax": ENTRIES_MAX, "bytesMax": BYTES_MAX, "seconds": KEPT_MS / 1000},
        "entries": asked.entries,
        "bytes": asked.bytes,
        "fits": asked.fits(room),
        "sample": sample,
    });
    Ok(wire::json_response(plan.to_string()))
}

/// The first keys of a range as keypaths, or as JSON where they have none.
async fn sample(keyspace: &Keyspace, range: &KeyRange) -> Result<Vec<String>, ApiError> {
    let mut keys = Vec::new();
    let mut range = range.clone();
    while keys.len() < SAMPLE {
        // One at a time: values may be large.
        let read = SnapshotRead::range(RangeRead::new(range.clone(), 1));
        let Some(entry) = keyspace.read(read).await?.into_firsts().next().flatten() else {
            break;
        };
        keys.push(shown(&entry.key));
        range.start = entry.key.successor();
    }
    Ok(keys)
}

fn shown(key: &Key) -> String {
    let path = key.parts().ok().and_then(|parts| keypath::format(&parts));
    path.unwrap_or_else(|| crate::v8json::key::to_typed(key).to_string())
}

/// Moves what is selected into the trash, in commits of bounded size.
pub(super) async fn delete(
    state: &Rested,
    head: &Head,
    selection: Selection,
    more_of: Option<String>,
) -> Result<Response, ApiError> {
    let ctx = &state.ctx;
    head.require(ctx, Verb::Delete, &selection.prefix)?;
    if selection.reverse {
        return Err(ApiError::bad_request("reverse=true does not go with trash"));
    }
    let trash = trash(ctx)?;
    let (name, by) = (ctx.keyspace.name(), head.caller.principal().id());
    let mut removal = match more_of {
        None => {
            let asked = trash.weigh(&ctx.keyspace, &selection.range).await?;
            let room = Trash::room(&trash.removals().await?, true);
            if !asked.fits(room) {
                return Err(full(asked));
            }
            Removal::new(name.clone(), selection.prefix, by, ctx.clock.now())
        }
        Some(id) => {
            let removal = trash.removal(&id).await?;
            let own = removal.filter(|removal| removal.keyspace == *name && removal.by == by);
            own.ok_or_else(|| {
                ApiError::not_found("you have no such removal; trash=true begins one")
            })?
        }
    };

    let most = selection.limit.map_or(u64::MAX, |limit| limit as u64);
    let moved = trash.take(&ctx.keyspace, &selection.range, most, &mut removal);
    let moved = moved.await.map_err(refused)?;

    let kept = (removal.left.entries > 0)
        .then(|| json!({"id": removal.id, "until": rfc3339(removal.until)}));
    let answer = json!({"ok": true, "deleted": moved, "trash": kept});
    Ok(wire::json_response(answer.to_string()))
}

/// Says nothing of how full the trash is: others throw into it, too.
fn full(asked: Load) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "trash_full",
        format!(
            "{} entries of {} bytes do not fit into the trash, which holds {ENTRIES_MAX} entries and \
             {BYTES_MAX} bytes at most, what is there already included; empty it, or leave trash=true \
             out to delete for good",
            asked.entries, asked.bytes
        ),
    )
}

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Full(asked) => full(asked),
        Refusal::Store(error) => error.into(),
        Refusal::Busy | Refusal::Occupied(_) => ApiError::new(
            StatusCode::CONFLICT,
            "conflict",
            "the same entries keep being changed; what was moved so far is in the trash, try again",
        ),
    }
}

//! `GET …?watch=true`: server-sent events.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, future};
use kvasir_auth::Verb;
use kvasir_kv::{Entry, Key};

use crate::error::ApiError;
use crate::stream::{Guard, event, event_stream};

use super::super::{Rested, wire};
use super::Head;

/// One event with the entry as it is now, then one after each change. A key that holds nothing has
/// a `versionstamp` of `null`. States between two events may be skipped, the last one never.
pub(super) async fn watch(state: &Rested, head: &Head) -> Result<Response, ApiError> {
    let ctx = &state.ctx;
    let key = head.key()?;
    head.require(ctx, Verb::Read, &key)?;
    let permit = Arc::clone(&state.watches)
        .try_acquire_owned()
        .map_err(|_| ApiError::unavailable("too many watches are open; try again later"))?;

    let states = ctx.keyspace.watch(std::slice::from_ref(&key));

    let guard = Guard {
        ctx: ctx.clone(),
        caller: head.caller.clone(),
        keyspace: ctx.keyspace.clone(),
        key: key.clone(),
        verb: Verb::Read,
    };
    let request = head.info.id;
    let events = states
        .take_while(move |state| {
            if let Err(error) = state {
                tracing::error!(%request, source = error as &dyn std::error::Error, "a watch ended");
            }
            future::ready(state.is_ok())
        })
        .map(move |state| {
            // The permit lives as long as the stream.
            let _permit = &permit;
            let entry = state.ok().and_then(|mut states| states.pop().flatten());
            state_event(&key, entry.as_ref())
        });
    Ok(event_stream(guard, events))
}

fn state_event(key: &Key, entry: Option<&Entry>) -> Bytes {
    let mut data = Vec::new();
    match entry {
        Some(entry) => wire::write_entry(entry, true, &mut data),
        None => wire::write_absent(key, &mut data),
    }
    let id = entry.map(|entry| entry.versionstamp.to_string());
    event(id.as_deref(), &data)
}

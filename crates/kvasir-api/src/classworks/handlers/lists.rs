//! Lists of keys, and the end of all of them.

use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::StatusCode;
use kvasir_kv::{AtomicWrite, KeyRange, Mutation};

use super::super::error;
use super::super::gate::Right;
use super::super::listing::{ROWS_MAX, Row, TooManyKeys};
use super::super::wire::{self, CurrentPage, Item, ItemList, KeyList, ListQuery, SortBy};
use super::Call;
use super::values::empty;
use crate::error::ApiError;

/// Most keys that are deleted in one commit. A namespace with more goes in several.
const DELETE_KEYS_MAX: usize = 50_000;

/// `GET /:namespace`: keys with what is known about them, without values.
#[utoipa::path(
    get, path = "/classworks/{namespace}", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
        ("sortBy" = Option<String>, Query, description = "key, createdAt, updatedAt or creatorIp"),
        ("sortDir" = Option<String>, Query, description = "asc or desc"),
        ("limit" = Option<u32>, Query, description = "most keys"),
        ("skip" = Option<u64>, Query, description = "keys to leave out"),
    ),
    responses(
        (status = 200, description = "keys with what is known about them; events, if that is asked for",
            content((ItemList<'static> = "application/json"), (String = "text/event-stream"))),
    )
)]
pub(super) async fn items(call: &Call<'_>) -> Result<Response, ApiError> {
    let encoded = wire::encode_component(call.namespace);
    let path = format!("{}/{encoded}", call.base);
    list(call, |rows, query, total_rows| {
        let items = rows.map(|row| Item {
            namespace: call.namespace,
            key: &row.key,
            metadata: row.metadata(),
        });
        wire::to_json(&ItemList {
            items: items.collect(),
            total_rows,
            load_more: query.load_more(&path, total_rows),
        })
    })
    .await
}

/// `GET /:namespace/_keys`: the same, just the names.
#[utoipa::path(
    get, path = "/classworks/{namespace}/_keys", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
        ("sortBy" = Option<String>, Query, description = "key, createdAt, updatedAt or creatorIp"),
        ("sortDir" = Option<String>, Query, description = "asc or desc"),
        ("limit" = Option<u32>, Query, description = "most keys"),
        ("skip" = Option<u64>, Query, description = "keys to leave out"),
    ),
    responses(
        (status = 200, description = "names of keys", body = KeyList<'static>),
    )
)]
pub(super) async fn keys(call: &Call<'_>) -> Result<Response, ApiError> {
    let encoded = wire::encode_component(call.namespace);
    let path = format!("{}/{encoded}/_keys", call.base);
    list(call, |rows, query, total_rows| {
        let keys: Vec<&str> = rows.map(|row| &*row.key).collect();
        wire::to_json(&KeyList {
            total_rows,
            current_page: CurrentPage {
                limit: query.limit,
                skip: query.skip,
                count: keys.len(),
            },
            load_more: query.load_more(&path, total_rows),
            keys,
        })
    })
    .await
}

/// Finds the rows that the query asks for and writes them with `write`, which also gets the number
/// of all rows, from the same moment.
async fn list(
    call: &Call<'_>,
    write: impl Fn(&mut dyn Iterator<Item = &Row>, &ListQuery, usize) -> Bytes,
) -> Result<Response, ApiError> {
    let opened = call.open(Right::Read).await?;
    let query = ListQuery::parse(Some(call.query))?;
    let ListQuery {
        sort_by,
        descending,
        limit,
        skip,
    } = query;

    let listings = &call.app.listings;
    let shown = listings.with_rows(&opened.space, |rows| {
        let total = rows.len();
        write(
            &mut rows.page(sort_by, descending, skip, limit),
            &query,
            total,
        )
    });
    let json = match shown.await? {
        Ok(json) => json,
        Err(TooManyKeys) if matches!(sort_by, SortBy::Key | SortBy::Namespace) => {
            let page = listings.page_by_key(&opened.space, descending, skip, limit);
            let (rows, total) = page.await?;
            write(&mut rows.iter(), &query, total)
        }
        Err(TooManyKeys) => {
            return Err(error::bad(format!(
                "命名空间中的键超过 {ROWS_MAX} 个，只能按 key 排序"
            )));
        }
    };
    Ok(wire::json_bytes(json))
}

/// `DELETE /:namespace`: all keys. The settings stay, so that a password still guards the name.
#[utoipa::path(
    delete, path = "/classworks/{namespace}", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
    ),
    responses(
        (status = 204, description = "all keys are gone"),
        (status = 404, description = "there were none"),
    )
)]
pub(super) async fn delete_all(call: &Call<'_>) -> Result<Response, ApiError> {
    let opened = call.open(Right::Write).await?;

    let space = &opened.space;
    let mut pages = space.keyspace.scan(&KeyRange::below(&space.prefix), false);
    let (mut deletes, mut found) = (AtomicWrite::new(), false);
    while let Some(page) = pages.next().await {
        for entry in page?.entries {
            if space.name_of(&entry.key).is_some() {
                deletes.mutations.push(Mutation::delete(entry.key));
            }
        }
        if deletes.mutations.len() >= DELETE_KEYS_MAX {
            found = true;
            space.keyspace.commit(std::mem::take(&mut deletes)).await?;
        }
    }
    if !deletes.mutations.is_empty() {
        found = true;
        space.keyspace.commit(deletes).await?;
    }
    match found {
        true => Ok(empty(StatusCode::NO_CONTENT)),
        false => Err(error::no_such_namespace(call.namespace)),
    }
}

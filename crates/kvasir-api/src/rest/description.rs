//! Shapes of bodies and answers, as OpenAPI describes them. `wire` reads and writes them by hand, to
//! keep values as they are.

#![expect(dead_code, reason = "describes what `wire` reads and writes")]

use serde_json::Value;
use utoipa::ToSchema;

/// The body of a PUT.
#[derive(ToSchema)]
#[schema(as = RestPut)]
pub(super) struct Put {
    /// Any JSON; `{"type": ..., "value": ..., "$kvasir": 1}` stands for values that JSON has no word for.
    value: Value,
    /// Milliseconds until the entry expires. Without it the entry stays for ever.
    #[schema(value_type = i64, required = false, minimum = 1)]
    ttl: Option<i64>,
}

/// The answer to a PUT.
#[derive(ToSchema)]
#[schema(as = RestStored, rename_all = "camelCase")]
pub(super) struct Stored {
    ok: bool,
    key: Vec<Value>,
    versionstamp: String,
    expires_at: Option<String>,
}

/// The answer to a DELETE: `existed` for one entry, `deleted` for all below a keypath.
#[derive(ToSchema)]
#[schema(as = RestDeleted)]
pub(super) struct Deleted {
    ok: bool,
    #[schema(value_type = bool, required = false)]
    existed: Option<bool>,
    #[schema(value_type = u64, required = false)]
    deleted: Option<u64>,
    /// With `trash`: the removal in the trash, or `null` if there was nothing to keep.
    #[schema(value_type = Option<Kept>, required = false)]
    trash: Option<Kept>,
}

/// A removal in the trash.
#[derive(ToSchema)]
#[schema(as = RestKept)]
pub(super) struct Kept {
    id: String,
    until: String,
}

/// Checks and mutations that happen together or not at all.
#[derive(ToSchema)]
#[schema(as = RestAtomic)]
pub(super) struct Atomic {
    #[schema(value_type = Vec<Check>, required = false, max_items = 1000)]
    checks: Option<Vec<Check>>,
    #[schema(value_type = Vec<Mutation>, required = false, max_items = 1000)]
    mutations: Option<Vec<Mutation>>,
}

/// The versionstamp that an entry must have; `null`: that there is none.
#[derive(ToSchema)]
#[schema(as = RestCheck)]
pub(super) struct Check {
    /// Parts: texts, numbers, booleans, or tagged forms.
    #[schema(min_items = 1)]
    key: Vec<Value>,
    #[schema(required = true, pattern = "^[0-9a-f]{20}$")]
    versionstamp: Option<String>,
}

/// One change.
#[derive(ToSchema)]
#[schema(as = RestMutation)]
pub(super) struct Mutation {
    /// `set`, `delete`, `sum`, `min` or `max`.
    r#type: String,
    #[schema(min_items = 1)]
    key: Vec<Value>,
    /// Not with `delete`.
    #[schema(value_type = Value, required = false)]
    value: Option<Value>,
    /// Milliseconds; only with `set`.
    #[schema(value_type = i64, required = false, minimum = 1)]
    ttl: Option<i64>,
}

/// The answer to an atomic write.
#[derive(ToSchema)]
#[schema(as = RestCommitted)]
pub(super) struct Committed {
    ok: bool,
    versionstamp: String,
}

/// The answer to an atomic write whose checks failed.
#[derive(ToSchema)]
#[schema(as = RestConflict)]
pub(super) struct Conflict {
    ok: bool,
    error: String,
    /// Places of the failed checks.
    failed: Vec<u64>,
}

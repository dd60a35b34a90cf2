//! What the dialect offers, as OpenAPI.

use utoipa::OpenApi;

use super::handlers::{data_plane, database, items, namespaces, tokens};

/// What a failed request gets: the shape of the database, or that of the gateway in front of it,
/// which has no `errorCode`.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what `error` makes")]
pub(super) struct EdgeKvProblem {
    /// What kind of failure, as an address.
    r#type: String,
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// What was wrong, in one sentence.
    detail: String,
    /// Names this failure.
    instance: String,
    /// `EKV_` and four digits.
    #[schema(value_type = String, required = false)]
    error_code: Option<String>,
}

/// Every route.
#[derive(OpenApi)]
#[openapi(
    paths(
        database::initialize,
        database::status,
        database::set_policy,
        database::reauthorize,
        database::groups,
        database::one_group,
        namespaces::list,
        namespaces::create,
        namespaces::read,
        namespaces::update,
        namespaces::delete,
        namespaces::schedule,
        namespaces::reschedule,
        namespaces::cancel,
        namespaces::groups,
        namespaces::keys,
        namespaces::not_built,
        namespaces::not_built_for_groups,
        namespaces::not_built_upload,
        namespaces::not_built_uploads,
        namespaces::not_built_upload_job,
        items::read,
        items::write,
        items::delete,
        tokens::create,
        tokens::list,
        tokens::read,
        tokens::revoke,
        tokens::refresh,
        data_plane::read,
        data_plane::write,
        data_plane::delete,
        data_plane::read_of_default,
        data_plane::write_of_default,
        data_plane::delete_of_default
    ),
    components(schemas(EdgeKvProblem))
)]
pub(super) struct Description;

//! What the dialect offers, as OpenAPI.

use utoipa::OpenApi;
use utoipa::openapi::{Content, RefOr};

use super::handlers::{data_plane, database, items, namespaces, tokens};
use crate::openapi::{Shared, operations_mut};

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

/// The description of the routes. A path whose first segment is no network is not this dialect's, and
/// is answered in plain text.
pub(super) fn describe(shared: &Shared, base: &str) -> utoipa::openapi::OpenApi {
    let mut described = shared.complete(Description::openapi(), base);
    let of_network = format!("{base}/{{network}}/");
    for (path, item) in &mut described.paths.paths {
        if !path.starts_with(&of_network) {
            continue;
        }
        for (_, operation) in operations_mut(item) {
            if let Some(RefOr::T(failure)) = operation.responses.responses.get_mut("4XX") {
                let text = Content::new(None::<RefOr<utoipa::openapi::Schema>>);
                failure.content.insert("text/plain".to_owned(), text);
            }
        }
    }
    described
}

//! What the dialect offers, as OpenAPI.
//!
//! Below the prefix; at the root the same paths hold for namespaces that are UUIDs.

use utoipa::OpenApi;

use super::error::ErrorBody;
use super::handlers::{devices, lists, site, values};

/// Every route.
#[derive(OpenApi)]
#[openapi(
    paths(
        site::page,
        site::check,
        site::new_namespace,
        lists::items,
        lists::delete_all,
        lists::keys,
        values::get,
        values::post,
        values::delete,
        values::metadata,
        values::import,
        devices::info,
        devices::set_info,
        devices::check,
        devices::hint,
        devices::set_hint,
        devices::set_password,
        devices::remove_password,
        devices::check_password
    ),
    components(schemas(ErrorBody<'static>))
)]
pub(super) struct Description;

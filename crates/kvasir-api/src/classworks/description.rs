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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::classworks::handlers::allowed;
    use crate::classworks::path::{Place, Word};
    use crate::openapi::operations;

    #[test]
    fn every_place_is_described_with_its_methods_and_nothing_else_is() {
        let mut places = vec![
            ("/classworks/".to_owned(), Place::Home),
            ("/classworks/check".to_owned(), Place::Check),
            ("/classworks/uuid".to_owned(), Place::NewNamespace),
            ("/classworks/{namespace}".to_owned(), Place::Namespace),
            (
                "/classworks/{namespace}/{key}".to_owned(),
                Place::Value(String::new()),
            ),
            (
                "/classworks/{namespace}/{key}/metadata".to_owned(),
                Place::Metadata(String::new()),
            ),
        ];
        for word in Word::ALL {
            let path = format!("/classworks/{{namespace}}/{}", word.name());
            places.push((path, Place::Word(word)));
        }
        let mut described = Description::openapi().paths.paths;
        for (path, place) in places {
            let item = described.remove(&path);
            let item = item.unwrap_or_else(|| panic!("{path} is not described"));
            let methods: BTreeSet<_> = operations(&item).map(|(method, _)| method).collect();
            let taken = allowed(&place).split(", ").filter(|name| *name != "HEAD");
            assert_eq!(methods, taken.collect(), "{path}");
        }
        assert!(described.is_empty(), "{:?}", described.keys());
    }
}

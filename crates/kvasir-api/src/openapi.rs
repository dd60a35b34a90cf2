//! What the mounts of a server offer, as one OpenAPI document.
//!
//! Each dialect describes its routes beside its handlers, with the paths of its usual mount
//! ([`crate::mount::Dialect::openapi`]). Here the descriptions are moved to where the dialects are
//! mounted, completed with what all routes of a dialect share (how failures look, how one shows who
//! one is) and merged. The tests compare the result with the routers.
//!
//! `HEAD` answers wherever `GET` does and `OPTIONS` where a dialect speaks to browsers; neither is
//! listed.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response, Schema,
};

/// The ways to show who one is, by the names that [`Shared::proofs`] uses.
pub mod proof {
    /// A Kvasir token, `Authorization: Bearer kv_...`. On an open loopback address nothing is needed.
    pub const TOKEN: &str = "token";
    /// A session token of `POST /login`.
    pub const SESSION: &str = "session";
    /// An OAuth2 access token of the configured identity provider.
    pub const OIDC: &str = "oidc";
    /// A request signed with EdgeGrid.
    pub const EDGEGRID: &str = "edgegrid";
    /// An EdgeKV access token.
    pub const EDGEKV: &str = "edgekv";
    /// A Classworks site key.
    pub const SITE_KEY: &str = "siteKey";
}

/// What all routes of one dialect have in common.
pub struct Shared {
    /// Name of the dialect; the tag of its operations.
    pub dialect: &'static str,
    /// Prefix of the paths in the description: that of the usual mount.
    pub usual: &'static str,
    /// Media type of a failure's body.
    pub failure_type: &'static str,
    /// Name of the schema of a failure's body; `None` for text.
    pub failure: Option<&'static str>,
    /// Proofs of which one is needed, unless the route says otherwise; see [`proof`]. Empty for none.
    pub proofs: &'static [&'static str],
}

impl Shared {
    /// The description of a dialect that is mounted at `base`.
    pub fn complete(&self, mut api: OpenApi, base: &str) -> OpenApi {
        let described = std::mem::take(&mut api.paths.paths);
        for (path, mut item) in described {
            let below = path.strip_prefix(self.usual).unwrap_or(&path);
            let path = match format!("{base}{below}") {
                path if path.is_empty() => "/".to_owned(),
                path => path,
            };
            for (method, operation) in operations_mut(&mut item) {
                self.complete_operation(operation);
                operation.operation_id = Some(operation_id(method, &path));
            }
            api.paths.paths.insert(path, item);
        }
        api
    }

    fn complete_operation(&self, operation: &mut Operation) {
        operation.tags = Some(vec![self.dialect.to_owned()]);
        if operation.security.is_none() && !self.proofs.is_empty() {
            let needed = self.proofs.iter();
            let needed = needed.map(|proof| SecurityRequirement::new(*proof, [""; 0]));
            operation.security = Some(needed.collect());
        }
        let responses = &mut operation.responses.responses;
        for (status, text) in [
            (
                "4XX",
                "the request is wrong, not allowed, or comes too soon",
            ),
            ("5XX", "the server or its store cannot do it now"),
        ] {
            let described = || RefOr::T(Response::new(text));
            responses.entry(status.to_owned()).or_insert_with(described);
        }
        for (status, response) in responses {
            let RefOr::T(response) = response else {
                continue;
            };
            let is_failure = status.starts_with(['4', '5']);
            // Where the media type is left out it is that of answers, also for failures. A failure of
            // another shape than the usual one travels as what it is.
            let failure = self.failure_schema();
            let is_usual = |content: &Content| content.schema.as_ref() == Some(&failure);
            if is_failure
                && self.failure_type != "application/json"
                && response
                    .content
                    .get("application/json")
                    .is_some_and(is_usual)
                && let Some(content) = response.content.shift_remove("application/json")
            {
                response
                    .content
                    .insert(self.failure_type.to_owned(), content);
            }
            if is_failure && response.content.is_empty() {
                let content = Content::new(Some(self.failure_schema()));
                response
                    .content
                    .insert(self.failure_type.to_owned(), content);
            }
        }
    }

    fn failure_schema(&self) -> RefOr<Schema> {
        match self.failure {
            Some(name) => Ref::from_schema_name(name).into(),
            None => utoipa::openapi::schema::ObjectBuilder::new()
                .schema_type(utoipa::openapi::schema::Type::String)
                .into(),
        }
    }
}

/// The operations of a path, with their methods in capital letters.
pub fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    let all = [
        ("GET", &item.get),
        ("PUT", &item.put),
        ("POST", &item.post),
        ("DELETE", &item.delete),
        ("PATCH", &item.patch),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

pub(crate) fn operations_mut(
    item: &mut PathItem,
) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("GET", &mut item.get),
        ("PUT", &mut item.put),
        ("POST", &mut item.post),
        ("DELETE", &mut item.delete),
        ("PATCH", &mut item.patch),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// A name that no other operation of the document has: method and path.
fn operation_id(method: &str, path: &str) -> String {
    let mut id = method.to_ascii_lowercase();
    for word in path.split(|char: char| !char.is_ascii_alphanumeric()) {
        if !word.is_empty() {
            id.push('_');
            id.push_str(word);
        }
    }
    id
}

/// The document of a server with these descriptions, which come in the order in which the mounts are
/// asked: of two operations with one method and path the first counts.
pub fn whole(descriptions: impl IntoIterator<Item = OpenApi>) -> OpenApi {
    let info = InfoBuilder::new()
        .title("Kvasir")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Everything this server answers, by dialect. HEAD answers wherever GET does. Every \
             answer names its request in `X-Request-Id`; a failure carries its stable code in \
             `X-Kvasir-Error`, which `kvasir explain CODE` explains.",
        ));
    let mut document = OpenApiBuilder::new().info(info).build();
    for description in descriptions {
        document.merge(description);
    }
    let components = document.components.take().unwrap_or_default();
    document.components = Some(with_proofs(components));
    document
}

fn with_proofs(components: utoipa::openapi::Components) -> utoipa::openapi::Components {
    let bearer = |description: &str| {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(description))
            .build();
        SecurityScheme::Http(scheme)
    };
    let header = |name: &str, description: &str| {
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
            name,
            description,
        )))
    };
    ComponentsBuilder::from(components)
        .security_scheme(
            proof::TOKEN,
            bearer("A Kvasir token. Not needed on a loopback address while no token exists."),
        )
        .security_scheme(
            proof::SESSION,
            bearer("The token that `POST /login` answers."),
        )
        .security_scheme(
            proof::OIDC,
            bearer("An access token of the identity provider in `kopano.issuer`."),
        )
        .security_scheme(
            proof::EDGEGRID,
            header("Authorization", "A signature, `EG1-HMAC-SHA256 ...`."),
        )
        .security_scheme(
            proof::EDGEKV,
            header("X-Akamai-EdgeDB-Auth", "An EdgeKV access token."),
        )
        .security_scheme(
            proof::SITE_KEY,
            header("x-site-key", "The site key, if the server has one."),
        )
        .build()
}

/// The document of a running server, written once all mounts exist. Clones share it.
#[derive(Clone, Default)]
pub struct Document(Arc<OnceLock<Bytes>>);

impl Document {
    /// Sets the document. The first call counts.
    pub fn set(&self, document: &OpenApi) {
        let json = serde_json::to_vec(document).expect("descriptions are plain data");
        let _ = self.0.set(json.into());
    }

    /// The document as JSON; `{}` before it is set.
    pub fn json(&self) -> Bytes {
        let json = self.0.get().cloned();
        json.unwrap_or_else(|| Bytes::from_static(b"{}"))
    }
}

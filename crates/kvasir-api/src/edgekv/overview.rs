//! What administrators see of EdgeKV: namespaces and tokens, without the tokens' values.

use serde::Serialize;
use utoipa::ToSchema;

use super::database::Database;
use super::tokens::{Permission, TokenKind};
use super::{Network, Settings};
use crate::context::Ctx;
use crate::error::ApiError;
use crate::time::rfc3339;

/// Namespaces and tokens of this server.
#[derive(Serialize, ToSchema)]
pub struct Overview {
    namespaces: Vec<NamespaceOverview>,
    tokens: Vec<TokenOverview>,
}

/// One namespace.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceOverview {
    name: String,
    /// `staging` or `production`.
    network: &'static str,
    geo_location: String,
    /// How long items are kept; 0 for ever.
    retention_seconds: u64,
    /// When it is going to be deleted.
    deletes_at: Option<String>,
}

/// One access token, without its value.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenOverview {
    name: String,
    uuid: String,
    on_staging: bool,
    on_production: bool,
    /// What it allows, by namespace: some of `read`, `write`, `delete`.
    permissions: Vec<PermissionOverview>,
    issued_at: String,
    /// The last day, of a token by value.
    last_day: Option<String>,
    expired: bool,
}

/// What a token allows in one namespace.
#[derive(Serialize, ToSchema)]
pub struct PermissionOverview {
    namespace: String,
    verbs: Vec<&'static str>,
}

/// Everything there is, of both networks.
///
/// # Errors
///
/// Those of the store.
pub async fn overview(ctx: &Ctx) -> Result<Overview, ApiError> {
    let database = Database::new(ctx.clone(), Settings::default());
    let now = database.now();
    let mut namespaces = Vec::new();
    for network in Network::ALL {
        for found in database.namespaces(network).await? {
            let deletes_at = found.record.delete_at_ms.map(kvasir_kv::UnixMillis);
            namespaces.push(NamespaceOverview {
                name: found.name,
                network: network.name(),
                geo_location: found.record.geo_location,
                retention_seconds: found.record.retention_seconds,
                deletes_at: deletes_at.map(rfc3339),
            });
        }
    }
    let tokens = database.tokens().await?.into_iter().map(|token| {
        let permissions = token.permissions.iter().map(|(namespace, verbs)| {
            let names = verbs.iter().map(|verb| match verb {
                Permission::Read => "read",
                Permission::Write => "write",
                Permission::Delete => "delete",
            });
            PermissionOverview {
                namespace: namespace.clone(),
                verbs: names.collect(),
            }
        });
        TokenOverview {
            permissions: permissions.collect(),
            expired: token.is_expired(now),
            last_day: match &token.kind {
                TokenKind::Value { last_day, .. } => Some(last_day.to_string()),
                TokenKind::Reference { .. } => None,
            },
            issued_at: rfc3339(kvasir_kv::UnixMillis(token.issued_at_ms)),
            name: token.name,
            uuid: token.uuid,
            on_staging: token.on_staging,
            on_production: token.on_production,
        }
    });
    Ok(Overview {
        tokens: tokens.collect(),
        namespaces,
    })
}

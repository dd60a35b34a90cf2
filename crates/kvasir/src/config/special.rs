//! Names that the replaced programs gave their settings, and short flags.

/// A further name of a setting.
#[derive(Clone, Copy, Debug)]
pub struct Alias {
    /// The variable, or the flag without its dashes.
    pub name: &'static str,
    /// The setting.
    pub path: &'static str,
}

const fn alias(name: &'static str, path: &'static str) -> Alias {
    Alias { name, path }
}

/// Variables without the `KVASIR_` prefix. The prefixed form wins.
pub const VARIABLES: &[Alias] = &[
    alias("JWT_SECRET", "accounts.jwt_secret"),
    alias("SITE_KEY", "classworks.site_key"),
    alias("OIDC_ISSUER_IDENTIFIER", "kopano.issuer"),
    alias("KOPANO_KVS_DB_DRIVER", "kopano_db.driver"),
    alias("KOPANO_KVS_DB_DATASOURCE", "kopano_db.datasource"),
    alias("KOPANO_KVS_DB_MIGRATIONS", "kopano_db.migrations"),
    alias("KOPANO_KVS_ALLOW_CORS", "kopano.allow_cors"),
    alias("KOPANO_KVS_REQUIRED_SCOPES", "kopano.required_scopes"),
];

/// Flags without a section.
pub const FLAGS: &[Alias] = &[
    alias("data", "server.data"),
    alias("listen", "server.listen"),
    alias("tls-listen", "server.tls_listen"),
    alias("store", "store.url"),
    alias("iss", "kopano.issuer"),
];

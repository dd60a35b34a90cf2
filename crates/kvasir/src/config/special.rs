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
    alias("PORT", "classworks.port"),
    alias("OIDC_ISSUER_IDENTIFIER", "kopano.issuer"),
    alias("KOPANO_KVS_DB_DRIVER", "kopano_db.driver"),
    alias("KOPANO_KVS_DB_DATASOURCE", "kopano_db.datasource"),
    alias("KOPANO_KVS_DB_MIGRATIONS", "kopano_db.migrations"),
    alias("KOPANO_KVS_ALLOW_CORS", "kopano.allow_cors"),
    alias("KOPANO_KVS_REQUIRED_SCOPES", "kopano.required_scopes"),
];

/// Names of the original Kopano daemon's packaged configuration file, which its service manager
/// turns into variables. Weaker than [`VARIABLES`], and read only if one of the first names is set,
/// since the others are everyday words.
pub const PACKAGED: &[Alias] = &[
    alias("oidc_issuer_identifier", "kopano.issuer"),
    alias("plugin_kvs_db_drivername", "kopano_db.driver"),
    alias("plugin_kvs_db_datasource", "kopano_db.datasource"),
    alias("plugin_kvs_db_migrations", "kopano_db.migrations"),
    alias("listen", "server.listen"),
    alias("insecure", "kopano.insecure"),
    alias("log_level", "log.level"),
];

/// How many of [`PACKAGED`] belong to nobody else.
pub const PACKAGED_OWN: usize = 4;

/// The level that a level of the original Kopano daemon means.
pub fn packaged_level(level: &str) -> &str {
    match level {
        // Both are about the daemon's own end, which is always logged.
        "panic" | "fatal" => "error",
        level => level,
    }
}

/// Flags without a section.
pub const FLAGS: &[Alias] = &[
    alias("data", "server.data"),
    alias("listen", "server.listen"),
    alias("tls-listen", "server.tls_listen"),
    alias("store", "store.url"),
    alias("iss", "kopano.issuer"),
    alias("mode", "server.mode"),
];

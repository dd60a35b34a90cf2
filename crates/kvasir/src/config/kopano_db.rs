//! `[kopano_db]`: the original Kopano daemon's own database settings.

use std::fmt;

use serde::Deserialize;

use super::secrets::shown;

/// `[kopano_db]`: puts the Kopano mount into the database that the original used. Kvasir's tables
/// live there beside the original's, whose documents are taken over once and left as they are.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KopanoDbSettings {
    /// `sqlite3` or `mysql`; empty means `sqlite3`. Also `KOPANO_KVS_DB_DRIVER`.
    pub driver: String,
    /// Path of the SQLite file, or a MySQL DSN. Empty: the mount uses its store as any other. Also
    /// `KOPANO_KVS_DB_DATASOURCE`.
    pub datasource: String,
    /// The original's folder of migrations. Accepted so that an existing environment works, without
    /// effect: Kvasir makes its tables itself. Also `KOPANO_KVS_DB_MIGRATIONS`.
    pub migrations: String,
}

/// The DSN may hold a password.
impl fmt::Debug for KopanoDbSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KopanoDbSettings")
            .field("driver", &self.driver)
            .field("datasource", &shown(&self.datasource))
            .field("migrations", &self.migrations)
            .finish()
    }
}

//! The Kopano mount in the original's own database.

use kvasir_kv::{Keyspace, KeyspaceName};

use super::Shared;
use crate::config::kopano_db::KopanoDbSettings;
use crate::exit::Failure;
use crate::moving::datasource::Datasource;
use crate::moving::kopano;
use crate::moving::legacy::Source;

/// The original's database and the URL of our store in it.
pub(super) struct Place {
    pub(super) store_url: String,
    source: Source,
}

/// Where the settings put the mount; `None` for its usual store.
pub(super) fn place(settings: &KopanoDbSettings) -> Result<Option<Place>, Failure> {
    if !settings.migrations.is_empty() {
        tracing::info!(
            "kopano_db.migrations (KOPANO_KVS_DB_MIGRATIONS) has no effect: Kvasir makes its tables \
             itself and leaves those of the original alone"
        );
    }
    if settings.datasource.is_empty() && settings.driver.is_empty() {
        return Ok(None);
    }
    let refused = |error| Failure::usage(format!("kopano_db: {error}"));
    let datasource =
        Datasource::parse(Some(&settings.driver), &settings.datasource).map_err(refused)?;
    for note in datasource.notes() {
        tracing::warn!("kopano_db.datasource: {note}");
    }
    let store_url = datasource.store_url().map_err(refused)?;
    let source = match datasource {
        Datasource::Sqlite(path) => Source::Sqlite(path),
        Datasource::MySql(_) => Source::MySql(store_url.clone()),
    };
    Ok(Some(Place { store_url, source }))
}

impl Place {
    /// Takes the original's documents over, unless that was done.
    pub(super) async fn take_over(
        &self,
        shared: &Shared,
        store: std::sync::Arc<dyn kvasir_kv::Store>,
        keyspace: KeyspaceName,
    ) -> Result<(), Failure> {
        let keyspace = Keyspace::new(store.clone(), keyspace);
        let clock = &*shared.clock;
        let report =
            kopano::take_over(&self.source, &store, &keyspace, clock, &shared.limits).await?;
        tracing::info!(source = ?self.source, "the Kopano mount lives in the original's database");
        let Some(report) = report else { return Ok(()) };
        tracing::info!(
            documents = report.written,
            left_out = report.refused,
            "took over {} documents of the original; its table kv was not changed",
            report.written
        );
        for (kind, remark) in &report.remarks {
            tracing::warn!(
                rows = remark.count,
                "taken over: {} rows {kind}",
                remark.count
            );
        }
        Ok(())
    }
}

//! The stores of mounts that do not use the main one. A URL named twice is opened once.

use std::collections::HashMap;
use std::sync::Arc;

use kvasir_api::backups::LeftOut;
use kvasir_kv::Store;
use kvasir_store::Timed;

use super::{OtherStore, Shared};
use crate::config::mounts::MountSettings;
use crate::exit::Failure;

/// Stores by URL, opened when first asked for.
pub(super) struct Stores<'a> {
    shared: &'a Shared,
    open: HashMap<String, Arc<dyn Store>>,
}

impl<'a> Stores<'a> {
    pub(super) fn new(shared: &'a Shared) -> Stores<'a> {
        Stores {
            shared,
            open: HashMap::new(),
        }
    }

    /// The store of a mount.
    pub(super) async fn of(
        &mut self,
        name: &str,
        settings: &MountSettings,
    ) -> Result<Arc<dyn Store>, Failure> {
        let Some(url) = &settings.store else {
            return Ok(self.shared.store.clone());
        };
        let apart = |store: &Arc<dyn Store>| LeftOut {
            mount: name.to_owned(),
            backend: store.capabilities().backend.to_owned(),
        };
        if let Some(store) = self.open.get(url) {
            self.shared.note_apart(apart(store));
            return Ok(store.clone());
        }
        let options = self.shared.open_options();
        let metrics = Arc::clone(&options.metrics);
        let store = kvasir_store::open(url, options).await.map_err(|error| {
            let failure = Failure::from(error);
            Failure {
                exit: failure.exit,
                error: failure.error.context(format!("mount.{name}.store")),
            }
        })?;
        let store: Arc<dyn Store> = Timed::over(store);
        self.shared.keep(OtherStore {
            store: store.clone(),
            mount: name.to_owned(),
            metrics,
        });
        self.shared.note_apart(apart(&store));
        self.open.insert(url.clone(), store.clone());
        Ok(store)
    }
}

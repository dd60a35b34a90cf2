//! How each backend makes an empty store for a test.

use std::sync::Arc;

use kvasir_kv::{ManualClock, Store};
use kvasir_store::{OpenOptions, open};
use kvasir_testkit::conformance::{Bed, START};
#[cfg(feature = "sql")]
use kvasir_testkit::databases::Shared;

/// Options of a store that goes by `clock` and is swept only by the test.
pub(crate) fn options(clock: &ManualClock) -> OpenOptions {
    let mut options = OpenOptions {
        clock: Arc::new(clock.clone()),
        sweeper: false,
        ..OpenOptions::default()
    };
    // Preallocating it takes longer than most tests.
    options.embedded.ballast_bytes = 0;
    options
}

/// The specification.
pub(crate) async fn memory() -> Bed {
    let clock = ManualClock::at(START);
    let store = open("memory:", options(&clock)).await.unwrap();
    Bed::new(store, clock)
}

/// The engine in a folder of its own.
pub(crate) async fn embedded() -> Bed {
    in_folder("embedded", "store").await
}

/// A bed of a backend whose URL is a scheme and a path.
async fn in_folder(scheme: &str, name: &str) -> Bed {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("{scheme}:{}", folder.path().join(name).display());
    durable(url).await.keeping(folder)
}

/// A store at `url`, opened again at the same one.
async fn durable(url: String) -> Bed {
    let clock = ManualClock::at(START);
    let reopen = {
        let clock = clock.clone();
        move || {
            let (url, options) = (url.clone(), options(&clock));
            async move { open(&url, options).await.unwrap() }
        }
    };
    let store: Arc<dyn Store> = reopen().await;
    Bed::new(store, clock).reopening(reopen)
}

/// One SQLite file.
#[cfg(feature = "sqlite")]
pub(crate) async fn sqlite() -> Bed {
    in_folder("sqlite", "store.db").await
}

/// A database on a MariaDB server.
#[cfg(feature = "sql")]
pub(crate) async fn mariadb() -> Option<Bed> {
    Some(durable(Shared::mariadb()?.fresh_url()).await)
}

/// A database on a Galera cluster of three nodes.
#[cfg(feature = "sql")]
pub(crate) async fn galera() -> Option<Bed> {
    Some(durable(Shared::galera()?.fresh_url()).await)
}

/// A database on a PostgreSQL server.
#[cfg(feature = "sql")]
pub(crate) async fn postgres() -> Option<Bed> {
    Some(durable(Shared::postgres()?.fresh_url()).await)
}

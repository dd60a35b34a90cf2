//! Generated operations, step by step on each backend and on `memory`.

use kvasir_testkit::script::agree;

use crate::beds;

#[test]
fn memory_agrees_with_the_model() {
    agree(200, async || Some(beds::memory().await), beds::memory);
}

#[test]
fn embedded_agrees_with_memory() {
    agree(12, async || Some(beds::embedded().await), beds::memory);
}

#[cfg(feature = "sqlite")]
#[test]
fn sqlite_agrees_with_memory() {
    agree(12, async || Some(beds::sqlite().await), beds::memory);
}

#[cfg(feature = "sql")]
#[test]
fn mariadb_agrees_with_memory() {
    agree(6, beds::mariadb, beds::memory);
}

#[cfg(feature = "sql")]
#[test]
fn postgres_agrees_with_memory() {
    agree(6, beds::postgres, beds::memory);
}

#[cfg(feature = "sql")]
#[test]
fn galera_agrees_with_memory() {
    agree(3, beds::galera, beds::memory);
}

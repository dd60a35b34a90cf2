//! Many clients at once on each backend, judged by the checker.

use std::sync::Arc;

use kvasir_testkit::conformance::Bed;
use kvasir_testkit::crowd::judge;
use kvasir_testkit::effort::Effort;

use crate::beds;

async fn check(bed: Bed, operations: u32) {
    let effort = Effort::from_env();
    let operations = effort.times(operations);
    let clock = Arc::new(bed.clock.clone());
    match judge(bed.store().clone(), clock, effort.seed, operations).await {
        Ok(report) => assert!(report.commits > 0 && report.observations > 0, "{report:?}"),
        Err(violation) => panic!("KVASIR_TEST_SEED={}: {violation}", effort.seed),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_its_promises_to_many_clients() {
    check(beds::memory().await, 150).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_keeps_its_promises_to_many_clients() {
    check(beds::embedded().await, 60).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_its_promises_to_many_clients() {
    check(beds::sqlite().await, 60).await;
}

#[cfg(feature = "sql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_keeps_its_promises_to_many_clients() {
    if let Some(bed) = beds::mariadb().await {
        check(bed, 30).await;
    }
}

#[cfg(feature = "sql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn galera_keeps_its_promises_to_many_clients() {
    if let Some(bed) = beds::galera().await {
        check(bed, 30).await;
    }
}

#[cfg(feature = "sql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_its_promises_to_many_clients() {
    if let Some(bed) = beds::postgres().await {
        check(bed, 30).await;
    }
}

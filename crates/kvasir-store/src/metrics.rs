//! What a store counts and measures.
//!
//! One [`StoreMetrics`] per opened store. It has no labels of its own; who registers several stores
//! gives each registry a constant label. Names follow Prometheus' habits (seconds, bytes).

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters, gauges and histograms of one store. Cheap to update from any thread.
#[derive(Debug)]
pub struct StoreMetrics {
    /// Atomic writes that were applied.
    pub commits: Counter,
    /// Atomic writes that were refused by a check.
    pub conflicts: Counter,
    /// Groups of writes that were made durable together.
    pub groups: Counter,
    /// Writes in one group.
    pub group_writes: Histogram,
    /// Time to write and sync one group, in seconds.
    pub sync_seconds: Histogram,
    /// Time from submission of a write to the start of its group, in seconds.
    pub queue_wait_seconds: Histogram,
    /// Nine tenths of the writes of the last group waited for it no longer than this, in seconds.
    pub queue_wait_p90_seconds: Gauge<f64, AtomicU64>,
    /// Writes that wait or are being written.
    pub queue_writes: Gauge,
    /// Bytes of writes that wait or are being written.
    pub queue_bytes: Gauge,
    /// Writes refused because the queue was full.
    pub busy: Counter,
    /// Writes refused for lack of space.
    pub no_space: Counter,
    /// Writes with unknown outcome.
    pub outcome_unknown: Counter,
    /// Transactions that a database rolled back, or whose server was lost, and that ran again.
    pub database_retries: Counter,
    /// Transactions that decided whether an earlier one was applied.
    pub database_fences: Counter,
    /// Connections made for writes; more than one means that the first was lost.
    pub database_connects: Counter,
    /// Point reads answered by the cache.
    pub cache_hits: Counter,
    /// Point reads that had to ask the engine.
    pub cache_misses: Counter,
    /// Open watches.
    pub watchers: Gauge,
    /// Open followers of ranges.
    pub followers: Gauge,
    /// Times that a slow follower lost changes and was told so.
    pub follower_overflows: Counter,
    /// Time from a commit to its being told to a watcher or follower, in seconds.
    pub watch_lag_seconds: Histogram,
    /// Expired entries removed.
    pub expired_swept: Counter,
    /// Entries past their expiry that the last sweep found. A value that stays at the size of a
    /// sweep says that sweeping falls behind.
    pub expiries_due: Gauge,
    /// Keys, as far as the backend knows without counting.
    pub keys: Gauge,
    /// Keys that expire, as far as the backend knows without counting.
    pub keys_expiring: Gauge,
    /// Damaged records met by reads.
    pub corrupt_records: Counter,
    /// Torn journal tails cut off at start.
    pub mend_repairs: Counter,
    /// Bytes cut off with them.
    pub mend_bytes: Counter,
    /// Bytes that the store takes on its disk.
    pub disk_bytes: Gauge,
    /// Bytes free on that disk.
    pub disk_free_bytes: Gauge,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        // 1 to 65,536 writes; 50 µs to 1.6 s.
        let sizes = || Histogram::new(exponential_buckets(1.0, 2.0, 17));
        let times = || Histogram::new(exponential_buckets(0.000_05, 2.0, 16));
        StoreMetrics {
            commits: Counter::default(),
            conflicts: Counter::default(),
            groups: Counter::default(),
            group_writes: sizes(),
            sync_seconds: times(),
            queue_wait_seconds: times(),
            queue_wait_p90_seconds: Gauge::default(),
            queue_writes: Gauge::default(),
            queue_bytes: Gauge::default(),
            busy: Counter::default(),
            no_space: Counter::default(),
            outcome_unknown: Counter::default(),
            database_retries: Counter::default(),
            database_fences: Counter::default(),
            database_connects: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            watchers: Gauge::default(),
            followers: Gauge::default(),
            follower_overflows: Counter::default(),
            watch_lag_seconds: times(),
            expired_swept: Counter::default(),
            expiries_due: Gauge::default(),
            keys: Gauge::default(),
            keys_expiring: Gauge::default(),
            corrupt_records: Counter::default(),
            mend_repairs: Counter::default(),
            mend_bytes: Counter::default(),
            disk_bytes: Gauge::default(),
            disk_free_bytes: Gauge::default(),
        }
    }
}

impl StoreMetrics {
    /// A sweep removed so many entries.
    pub(crate) fn swept(&self, removed: u32) {
        self.expired_swept.inc_by(u64::from(removed));
        self.expiries_due.set(i64::from(removed));
    }

    /// Makes all of them part of `registry`, under names that begin with `store_`.
    #[rustfmt::skip]
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("store");
        registry.register("commits", "Atomic writes applied", self.commits.clone());
        registry.register("conflicts", "Atomic writes refused by a check", self.conflicts.clone());
        registry.register("groups", "Groups of writes made durable together", self.groups.clone());
        registry.register("group_writes", "Writes in one group", self.group_writes.clone());
        registry.register("sync_seconds", "Time to write and sync one group", self.sync_seconds.clone());
        registry.register("queue_wait_seconds", "Time from submission of a write to its group", self.queue_wait_seconds.clone());
        registry.register("queue_wait_p90_seconds", "Time that nine tenths of the last group waited for it at most", self.queue_wait_p90_seconds.clone());
        registry.register("queue_writes", "Writes waiting or being written", self.queue_writes.clone());
        registry.register("queue_bytes", "Bytes of writes waiting or being written", self.queue_bytes.clone());
        registry.register("busy", "Writes refused because the queue was full", self.busy.clone());
        registry.register("no_space", "Writes refused for lack of space", self.no_space.clone());
        registry.register("outcome_unknown", "Writes with unknown outcome", self.outcome_unknown.clone());
        registry.register("database_retries", "Transactions that a database rolled back or lost and that ran again", self.database_retries.clone());
        registry.register("database_fences", "Transactions that decided an unknown earlier one", self.database_fences.clone());
        registry.register("database_connects", "Connections made for writes", self.database_connects.clone());
        registry.register("cache_hits", "Point reads answered by the cache", self.cache_hits.clone());
        registry.register("cache_misses", "Point reads that asked the engine", self.cache_misses.clone());
        registry.register("watchers", "Open watches", self.watchers.clone());
        registry.register("followers", "Open followers of ranges", self.followers.clone());
        registry.register("follower_overflows", "Times a slow follower lost changes", self.follower_overflows.clone());
        registry.register("watch_lag_seconds", "Time from a commit to its being told to a watcher or follower", self.watch_lag_seconds.clone());
        registry.register("expiries_due", "Entries past their expiry that the last sweep found", self.expiries_due.clone());
        registry.register("keys", "Keys, roughly", self.keys.clone());
        registry.register("keys_expiring", "Keys with an expiry, roughly", self.keys_expiring.clone());
        registry.register("expired_swept", "Expired entries removed", self.expired_swept.clone());
        registry.register("corrupt_records", "Damaged records met by reads", self.corrupt_records.clone());
        registry.register("mend_repairs", "Torn journal tails cut off at start", self.mend_repairs.clone());
        registry.register("mend_bytes", "Bytes of torn journal tails cut off at start", self.mend_bytes.clone());
        registry.register("disk_bytes", "Bytes that the store takes on its disk", self.disk_bytes.clone());
        registry.register("disk_free_bytes", "Bytes free on the disk of the store", self.disk_free_bytes.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_metrics_appear_in_the_text_form() {
        let metrics = StoreMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.commits.inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("store_commits_total 1\n"), "{text}");
    }
}

//! What is counted of backups.

use std::sync::atomic::AtomicU64;

use kvasir_kv::UnixMillis;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// See the module. Figures of what never happened are NaN.
#[derive(Clone, Debug)]
pub struct BackupMetrics {
    /// Seconds since the newest backup at the target.
    pub age_seconds: Gauge<f64, AtomicU64>,
    /// Its size.
    pub bytes: Gauge<f64, AtomicU64>,
    /// Backups that were taken by this process.
    pub taken: Counter,
    /// Backups that could not be taken, or were found damaged.
    pub failed: Counter,
    /// 1 if the last rehearsal was right, 0 if not.
    pub drill_ok: Gauge<f64, AtomicU64>,
    /// When it was, in seconds since 1970.
    pub drill_timestamp_seconds: Gauge<f64, AtomicU64>,
    /// How long it took.
    pub drill_duration_seconds: Gauge<f64, AtomicU64>,
}

impl Default for BackupMetrics {
    fn default() -> Self {
        let never = || {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(f64::NAN);
            gauge
        };
        BackupMetrics {
            age_seconds: never(),
            bytes: never(),
            taken: Counter::default(),
            failed: Counter::default(),
            drill_ok: never(),
            drill_timestamp_seconds: never(),
            drill_duration_seconds: never(),
        }
    }
}

impl BackupMetrics {
    /// Makes them appear.
    #[rustfmt::skip]
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("backup");
        registry.register("age_seconds", "Time since the newest backup at the target", self.age_seconds.clone());
        registry.register("last_bytes", "Size of the newest backup at the target", self.bytes.clone());
        registry.register("taken", "Backups taken by this process", self.taken.clone());
        registry.register("failures", "Backups that could not be taken or were found damaged", self.failed.clone());
        registry.register("drill_success", "Whether the last rehearsal of a restore was right", self.drill_ok.clone());
        registry.register("drill_timestamp_seconds", "When the last rehearsal of a restore ended", self.drill_timestamp_seconds.clone());
        registry.register("drill_duration_seconds", "How long the last rehearsal of a restore took", self.drill_duration_seconds.clone());
    }

    /// The newest backup is of this moment.
    pub(super) fn newest(&self, newest: Option<(UnixMillis, u64)>, now: UnixMillis) {
        let (age, bytes) = match newest {
            None => (f64::NAN, f64::NAN),
            Some((at, bytes)) => (seconds(now.0.saturating_sub(at.0)), bytes as f64),
        };
        self.age_seconds.set(age);
        self.bytes.set(bytes);
    }

    /// A rehearsal ended.
    pub(super) fn drilled(&self, is_ok: bool, duration_ms: i64, now: UnixMillis) {
        self.drill_ok.set(f64::from(u8::from(is_ok)));
        self.drill_duration_seconds.set(seconds(duration_ms));
        self.drill_timestamp_seconds.set(seconds(now.0));
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

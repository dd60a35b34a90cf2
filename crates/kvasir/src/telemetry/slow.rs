//! The slow log: the last requests that took longer than their class may, and on what.

use std::collections::VecDeque;
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use kvasir_kv::UnixMillis;
use kvasir_kv::spent::Part;
use serde::{Deserialize, Serialize};

use super::account::Finished;
use crate::config::duration;

/// Slow requests that are kept; OBS-6 of the operator's contract. Older ones make room.
pub const SLOW_REQUESTS_MAX: usize = 1000;

/// `[slowlog]`: from when on a request counts as slow. 0 switches a class off.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlowLogSettings {
    /// Requests that only read single keys, or nothing.
    #[serde(with = "duration")]
    pub read: Duration,
    /// Requests that commit.
    #[serde(with = "duration")]
    pub write: Duration,
    /// Requests that read ranges, until the last byte of their answer is handed over.
    #[serde(with = "duration")]
    pub scan: Duration,
    /// Requests of the admin API.
    #[serde(with = "duration")]
    pub admin: Duration,
}

impl Default for SlowLogSettings {
    fn default() -> Self {
        SlowLogSettings {
            read: Duration::from_millis(100),
            write: Duration::from_millis(250),
            scan: Duration::from_secs(1),
            admin: Duration::from_secs(2),
        }
    }
}

/// What kind of request it was, as far as how long it may take depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Reads single keys, or nothing.
    Read,
    /// Commits.
    Write,
    /// Reads ranges.
    Scan,
    /// Belongs to the admin API.
    Admin,
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 4] = [Class::Read, Class::Write, Class::Scan, Class::Admin];

    /// Its name, also as a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Class::Read => "read",
            Class::Write => "write",
            Class::Scan => "scan",
            Class::Admin => "admin",
        }
    }

    fn of(finished: &Finished<'_>) -> Class {
        match finished.spent {
            _ if finished.dialect == "admin" => Class::Admin,
            spent if spent.has_written() => Class::Write,
            spent if spent.has_scanned() => Class::Scan,
            _ => Class::Read,
        }
    }
}

impl SlowLogSettings {
    fn threshold(&self, class: Class) -> Duration {
        match class {
            Class::Read => self.read,
            Class::Write => self.write,
            Class::Scan => self.scan,
            Class::Admin => self.admin,
        }
    }
}

/// One slow request. Times are in milliseconds; what `total` has beyond the others went into
/// decoding, encoding, hashing of passwords and waiting for the request's body. `authorise` lies
/// partly in `engine`, when a token had to be read from the store.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlowRequest {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: i64,
    /// Its id, as in the answer's `X-Request-Id`.
    pub request: String,
    /// Its class.
    pub class: Class,
    /// Who served it.
    pub dialect: &'static str,
    /// The template of its route.
    pub route: String,
    /// Its method.
    pub method: String,
    /// Its path, or a hash of it unless `log.keys` is on.
    pub target: String,
    /// The status that was answered.
    pub status: u16,
    /// From the head of the request to the end of the answer.
    pub total_ms: f64,
    /// Finding out who asks.
    pub authorise_ms: f64,
    /// Waiting for a group of writes.
    pub queue_ms: f64,
    /// Waiting while the group was planned.
    pub lock_ms: f64,
    /// Reading and applying.
    pub engine_ms: f64,
    /// Making the group durable.
    pub sync_ms: f64,
    /// From the head of the answer to its end.
    pub send_ms: f64,
}

fn millis(duration: Duration) -> f64 {
    // Microseconds are enough to read, and what clocks are good for.
    duration.as_micros() as f64 / 1e3
}

impl SlowRequest {
    /// The row of a finished request.
    pub fn of(finished: &Finished<'_>, at: UnixMillis, target: String) -> SlowRequest {
        let part = |part| millis(finished.spent.sum(part));
        SlowRequest {
            at_ms: at.0,
            request: finished.info.id.to_string(),
            class: Class::of(finished),
            dialect: finished.dialect,
            route: finished.route.to_owned(),
            method: finished.info.method.to_string(),
            target,
            status: finished.status.as_u16(),
            total_ms: millis(finished.total()),
            authorise_ms: part(Part::Authorise),
            queue_ms: part(Part::Queue),
            lock_ms: part(Part::Lock),
            engine_ms: part(Part::Engine),
            sync_ms: part(Part::Sync),
            send_ms: millis(finished.send()),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct SlowLog {
    settings: RwLock<SlowLogSettings>,
    kept: Mutex<VecDeque<SlowRequest>>,
}

impl SlowLog {
    /// An empty log.
    pub fn new(settings: SlowLogSettings) -> SlowLog {
        SlowLog {
            settings: RwLock::new(settings),
            kept: Mutex::default(),
        }
    }

    /// From now on judges by these thresholds. What is kept stays.
    pub fn set(&self, settings: SlowLogSettings) {
        *self.settings.write().expect("only copied while held") = settings;
    }

    /// Whether a request took longer than its class may.
    pub fn is_slow(&self, finished: &Finished<'_>) -> bool {
        let settings = self.settings.read().expect("only copied while held");
        let threshold = settings.threshold(Class::of(finished));
        !threshold.is_zero() && finished.total() >= threshold
    }

    /// Keeps one.
    pub fn push(&self, slow: SlowRequest) {
        let mut kept = self.kept.lock().expect("no panic while held");
        if kept.len() >= SLOW_REQUESTS_MAX {
            kept.pop_front();
        }
        kept.push_back(slow);
    }

    /// The latest, at most `limit`, the newest first.
    pub fn latest(&self, limit: usize) -> Vec<SlowRequest> {
        let kept = self.kept.lock().expect("no panic while held");
        kept.iter().rev().take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(number: i64) -> SlowRequest {
        SlowRequest {
            at_ms: number,
            request: String::new(),
            class: Class::Read,
            dialect: "rest",
            route: String::new(),
            method: String::new(),
            target: String::new(),
            status: 200,
            total_ms: 0.0,
            authorise_ms: 0.0,
            queue_ms: 0.0,
            lock_ms: 0.0,
            engine_ms: 0.0,
            sync_ms: 0.0,
            send_ms: 0.0,
        }
    }

    #[test]
    fn the_log_keeps_the_newest_thousand() {
        let log = SlowLog::default();
        let one_more = SLOW_REQUESTS_MAX as i64 + 1;
        for number in 1..=one_more {
            log.push(slow(number));
        }
        let kept = log.latest(usize::MAX);
        assert_eq!(kept.len(), SLOW_REQUESTS_MAX);
        assert_eq!(kept[0].at_ms, one_more);
        assert_eq!(kept[SLOW_REQUESTS_MAX - 1].at_ms, 2);
        assert_eq!(log.latest(3).len(), 3);
    }
}

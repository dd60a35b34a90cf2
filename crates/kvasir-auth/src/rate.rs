//! Limits on how often somebody may do something.
//!
//! [`Rates`] is a bounded table of token buckets over our own [`Clock`]. A bucket is one number, the
//! moment at which it will be full again, so an idle caller costs nothing but its place, and a
//! place that was pushed out counts as a full bucket.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvasir_kv::Clock;
use quick_cache::unsync::Cache;

/// Most callers that a table remembers. At about 100 bytes each a full table is 6 MiB.
pub const CALLERS_MAX: usize = 65_536;

/// So many at once, and one more each time `every` has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many may come at once.
    pub burst: u32,
    /// After which time one more may come.
    pub every: Duration,
}

impl Quota {
    /// `count` per minute, all of which may come at once; at least one.
    pub fn per_minute(count: u32) -> Quota {
        let count = count.max(1);
        Quota {
            burst: count,
            every: Duration::from_secs(60) / count,
        }
    }

    fn every_micros(self) -> u64 {
        u64::try_from(self.every.as_micros())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn full_micros(self) -> u64 {
        self.every_micros().saturating_mul(u64::from(self.burst))
    }
}

/// How a bucket stands after asking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether there was one left to take.
    pub is_allowed: bool,
    /// How many a full bucket holds.
    pub limit: u32,
    /// How many are left.
    pub remaining: u32,
    /// Until one is there again; zero if there is.
    pub retry_after: Duration,
    /// Until the bucket is full again.
    pub reset: Duration,
}

impl Standing {
    /// [`Standing::retry_after`] in whole seconds, rounded up, at least one: for `Retry-After`.
    pub fn retry_after_seconds(&self) -> u64 {
        self.retry_after.as_micros().div_ceil(1_000_000).max(1) as u64
    }

    /// [`Standing::reset`] in whole seconds, rounded up.
    pub fn reset_seconds(&self) -> u64 {
        self.reset.as_micros().div_ceil(1_000_000) as u64
    }
}

/// One bucket per caller, for the last [`CALLERS_MAX`] callers or so.
#[derive(Debug)]
pub struct Rates<K> {
    quota: Quota,
    clock: Arc<dyn Clock>,
    /// Caller to the moment (in microseconds) when its bucket is full.
    full_at: Mutex<Cache<K, u64>>,
}

impl<K: Hash + Eq + Clone> Rates<K> {
    /// A table of full buckets.
    pub fn new(quota: Quota, clock: Arc<dyn Clock>) -> Rates<K> {
        Rates {
            quota,
            clock,
            full_at: Mutex::new(Cache::new(CALLERS_MAX)),
        }
    }

    /// The quota of every bucket.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Takes one, if there is one.
    pub fn take(&self, caller: &K) -> Standing {
        self.ask(caller, true)
    }

    /// How the bucket stands, without taking.
    pub fn look(&self, caller: &K) -> Standing {
        self.ask(caller, false)
    }

    /// Fills the bucket again, as after a success.
    pub fn forgive(&self, caller: &K) {
        let mut table = self.full_at.lock().expect("no panic while held");
        table.remove(caller);
    }

    fn ask(&self, caller: &K, takes: bool) -> Standing {
        let now = self.clock.now_micros();
        let every = self.quota.every_micros();
        let full = self.quota.full_micros();
        let mut table = self.full_at.lock().expect("no panic while held");
        // A clock that stepped back must not leave a caller waiting for longer than a whole bucket.
        let known = table.get(caller).copied();
        let full_at = known
            .unwrap_or_default()
            .clamp(now, now.saturating_add(full));
        let room = now.saturating_add(full) - full_at;
        let is_allowed = room >= every;
        let full_at = match is_allowed && takes {
            true => full_at.saturating_add(every),
            false => full_at,
        };
        if takes || known.is_some() {
            table.insert(caller.clone(), full_at);
        }
        drop(table);
        let room_left = now.saturating_add(full) - full_at;
        Standing {
            is_allowed,
            limit: self.quota.burst,
            remaining: u32::try_from(room_left / every).unwrap_or(u32::MAX),
            retry_after: Duration::from_micros(every.saturating_sub(room_left)),
            reset: Duration::from_micros(full_at - now),
        }
    }
}

/// The address under which requests are counted: a network of IPv6 belongs to one customer, so all
/// of a /64 is one caller.
pub fn counted_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & (u128::MAX << 64)).into()),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use kvasir_kv::ManualClock;
    use kvasir_kv::UnixMillis;

    use super::*;

    fn rates(quota: Quota) -> (Rates<&'static str>, ManualClock) {
        let clock = ManualClock::at(UnixMillis(1_000_000));
        (Rates::new(quota, Arc::new(clock.clone())), clock)
    }

    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let (rates, clock) = rates(Quota::per_minute(3));
        for left in [2, 1, 0] {
            let standing = rates.take(&"a");
            assert!(standing.is_allowed);
            assert_eq!(standing.remaining, left);
        }
        let refused = rates.take(&"a");
        assert!(!refused.is_allowed);
        assert_eq!(refused.retry_after_seconds(), 20);
        assert_eq!(refused.reset_seconds(), 60);
        assert!(rates.take(&"b").is_allowed, "callers are separate");

        clock.advance_ms(19_999);
        assert!(!rates.take(&"a").is_allowed);
        clock.advance_ms(1);
        assert!(rates.take(&"a").is_allowed);
        assert!(!rates.take(&"a").is_allowed);
    }

    #[test]
    fn looking_takes_nothing_and_forgiving_fills() {
        let (rates, _) = rates(Quota::per_minute(1));
        assert!(rates.look(&"a").is_allowed);
        assert!(rates.take(&"a").is_allowed);
        assert!(!rates.look(&"a").is_allowed);
        rates.forgive(&"a");
        assert!(rates.take(&"a").is_allowed);
    }

    #[test]
    fn a_clock_that_steps_back_locks_nobody_out() {
        let (rates, clock) = rates(Quota::per_minute(2));
        rates.take(&"a");
        clock.set(UnixMillis(1_000));
        assert_eq!(rates.look(&"a").retry_after_seconds(), 30);
        clock.advance_ms(30_000);
        assert!(rates.take(&"a").is_allowed);
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller() {
        let at = |text: &str| counted_address(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    }
}

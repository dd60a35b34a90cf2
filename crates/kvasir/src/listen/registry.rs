//! Every open connection, the bounds on their number, and the reaper of those past a deadline.
//!
//! At a bound a new connection takes the place of the one that has been silent longest, so that a
//! crowd of idle connections does not keep out a client that has something to say.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::coarse::{CoarseClock, TICK};
use super::pulse::{Deadlines, Pulse, Verdict};

/// Most connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// From all addresses together, over all listeners.
    pub total: usize,
    /// From one address, or one /64 network of IPv6.
    pub per_address: usize,
}

/// See the module. Clones share the connections.
#[derive(Clone, Debug)]
pub(super) struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rules: RwLock<(ConnectionLimits, Deadlines)>,
    clock: CoarseClock,
    open: Mutex<Open>,
    released: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next_id: u64,
    connections: HashMap<u64, (IpAddr, Arc<Pulse>)>,
    per_address: HashMap<IpAddr, usize>,
    is_draining: bool,
}

impl Registry {
    pub(super) fn new(limits: ConnectionLimits, deadlines: Deadlines) -> Registry {
        Registry(Arc::new(Shared {
            rules: RwLock::new((limits, deadlines)),
            clock: CoarseClock::new(),
            open: Mutex::default(),
            released: Notify::new(),
        }))
    }

    /// Takes over other limits. Connections beyond them stay until they end.
    pub(super) fn set(&self, limits: ConnectionLimits, deadlines: Deadlines) {
        *self.0.rules.write().expect("only copied while held") = (limits, deadlines);
    }

    fn rules(&self) -> (ConnectionLimits, Deadlines) {
        *self.0.rules.read().expect("only copied while held")
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().expect("no panic while held")
    }

    /// Takes a connection in, if need be in place of an idle one. `None` if every connection in
    /// question is being served, or the server is stopping.
    pub(super) fn admit(&self, peer: IpAddr) -> Option<Admitted> {
        let address = accounted(peer);
        let (limits, _) = self.rules();
        let mut open = self.open();
        if open.is_draining {
            return None;
        }
        let from_address = open.per_address.get(&address).copied().unwrap_or_default();
        if from_address >= limits.per_address && !open.evict(Some(address), Duration::ZERO) {
            return None;
        }
        if open.connections.len() >= limits.total && !open.evict(None, Duration::ZERO) {
            return None;
        }
        let pulse = Arc::new(Pulse::new(self.0.clock.clone()));
        let id = open.next_id;
        open.next_id += 1;
        open.connections.insert(id, (address, pulse.clone()));
        *open.per_address.entry(address).or_default() += 1;
        Some(Admitted {
            registry: self.clone(),
            id,
            pulse,
        })
    }

    /// Ends one connection that has been idle for `quiet_min`, if there is one. Those that were just
    /// accepted get the time to say something.
    pub(super) fn make_room(&self, quiet_min: Duration) -> bool {
        self.open().evict(None, quiet_min)
    }

    /// Completes when a connection has ended.
    pub(super) async fn released(&self) {
        self.0.released.notified().await;
    }

    /// How many connections are open.
    pub(super) fn len(&self) -> usize {
        self.open().connections.len()
    }

    /// Tells every connection to finish, and takes no new ones.
    pub(super) fn drain(&self, verdict: Verdict) {
        let mut open = self.open();
        open.is_draining = true;
        for (_, pulse) in open.connections.values() {
            pulse.doom(verdict);
        }
    }

    /// Moves the coarse clock and judges all connections, for as long as it is polled.
    pub(super) async fn reap(self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.0.clock.tick();
            let (_, deadlines) = self.rules();
            let open = self.open();
            for (_, pulse) in open.connections.values() {
                pulse.judge(&deadlines);
            }
        }
    }
}

impl Open {
    /// Closes the idlest connection (of one address) and forgets it at once.
    fn evict(&mut self, address: Option<IpAddr>, quiet_min: Duration) -> bool {
        let idlest = self
            .connections
            .iter()
            .filter(|(_, (from, _))| address.is_none_or(|address| *from == address))
            .filter_map(|(id, (_, pulse))| Some((pulse.idleness(quiet_min)?, Reverse(*id))))
            .max();
        let Some((_, Reverse(id))) = idlest else {
            return false;
        };
        if let Some(pulse) = self.forget(id) {
            pulse.doom(Verdict::Close);
        }
        true
    }

    fn forget(&mut self, id: u64) -> Option<Arc<Pulse>> {
        let (address, pulse) = self.connections.remove(&id)?;
        if let Some(count) = self.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
        Some(pulse)
    }
}

/// The address under which connections are counted: networks of IPv6 are handed out as /64.
fn accounted(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => {
            let network = ip.to_bits() & (u128::MAX << 64);
            IpAddr::V6(network.into())
        }
        ip => ip,
    }
}

/// A place among the open connections, given back when dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    registry: Registry,
    id: u64,
    pub(super) pulse: Arc<Pulse>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.registry.open().forget(self.id);
        self.registry.0.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn registry(total: usize, per_address: usize) -> Registry {
        let deadlines = Deadlines {
            first_byte: Duration::from_secs(5),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            reader_stall: Duration::from_secs(30),
            bytes_per_second_min: 1024,
        };
        Registry::new(ConnectionLimits { total, per_address }, deadlines)
    }

    #[test]
    fn a_new_connection_takes_the_place_of_a_silent_one() {
        let registry = registry(10, 2);
        let first = registry.admit(HERE).unwrap();
        let _second = registry.admit(HERE).unwrap();
        let _third = registry.admit(HERE).unwrap();
        assert_eq!(registry.len(), 2);
        assert_eq!(first.pulse.verdict(), Verdict::Close);
    }

    #[test]
    fn connections_that_are_served_keep_their_place() {
        let registry = registry(10, 1);
        let busy = registry.admit(HERE).unwrap();
        busy.pulse.request_began();
        assert!(registry.admit(HERE).is_none());
        assert!(registry.admit(THERE).is_some());
        busy.pulse.request_ended();
        assert!(registry.admit(HERE).is_some());
    }

    #[test]
    fn the_total_holds_over_all_addresses() {
        let registry = registry(2, 2);
        let places = [
            registry.admit(HERE).unwrap(),
            registry.admit(THERE).unwrap(),
        ];
        for place in &places {
            place.pulse.request_began();
        }
        assert!(registry.admit(HERE).is_none());
        drop(places);
        assert_eq!(registry.len(), 0);
        assert!(registry.open().per_address.is_empty());
    }

    #[test]
    fn one_network_of_ipv6_counts_as_one_address() {
        let ip = |text: &str| accounted(text.parse().unwrap());
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
    }
}

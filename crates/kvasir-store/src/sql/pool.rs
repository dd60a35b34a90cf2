//! Connections for reads, and the way to a server that answers.
//!
//! A session that was not given back is closed: a step on it failed, or its caller went away in the
//! middle. So a session in the pool is always between two transactions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::address::{Address, Server};
use super::fault::{Class, Fault};
use super::session::{self, Probe, Session};

/// Most reads that wait for a connection. Beyond it the answer is "unavailable" at once.
pub(super) const WAITING_MAX: usize = 4_096;

/// Longest a read waits for a free connection.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What a connection is for, hence which servers will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Only a server that takes writes.
    Write,
    /// A server whose answers are never old.
    Read,
}

/// Connects to the first server of `servers`, beginning at place `first`, that will do. Returns its
/// place too.
pub(super) async fn connect_any(
    address: &Address,
    servers: &[Server],
    first: usize,
    purpose: Purpose,
) -> Result<(Box<dyn Session>, usize), Fault> {
    let mut worst: Option<Fault> = None;
    for step in 0..servers.len() {
        let place = (first + step) % servers.len();
        match connect_for(address, &servers[place], purpose, servers.len()).await {
            Ok(session) => return Ok((session, place)),
            Err(fault) => {
                tracing::debug!(server = %servers[place], error = %fault, "cannot use {}", servers[place]);
                // A refusal says more than a server that is down.
                let tells_more = worst
                    .as_ref()
                    .is_none_or(|worst| worst.class == Class::Lost);
                if tells_more {
                    worst = Some(fault);
                }
            }
        }
    }
    Err(worst.unwrap_or_else(|| Fault::new(Class::Lost, "the list of servers is empty")))
}

async fn connect_for(
    address: &Address,
    server: &Server,
    purpose: Purpose,
    servers: usize,
) -> Result<Box<dyn Session>, Fault> {
    let mut session = session::connect(address, server).await?;
    let probe = session.probe().await?;
    judge(&probe, purpose, servers).map(|()| session)
}

/// Whether a server will do.
fn judge(probe: &Probe, purpose: Purpose, servers: usize) -> Result<(), Fault> {
    if !probe.is_ready {
        return Err(Fault::new(
            Class::Lost,
            "the node is not part of its cluster",
        ));
    }
    match purpose {
        Purpose::Write if probe.is_read_only => {
            Err(Fault::new(Class::ReadOnly, "the server is read-only"))
        }
        // A read-only server among several is most likely a replica, whose data may be old.
        Purpose::Read if probe.is_standby || (probe.is_read_only && servers > 1) => {
            Err(Fault::new(
                Class::ReadOnly,
                "the server is a replica whose data may be old",
            ))
        }
        _ => Ok(()),
    }
}

/// Connections for reads.
pub(super) struct Pool {
    address: Arc<Address>,
    idle: Mutex<Vec<Box<dyn Session>>>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Place of the server that answered last.
    place: AtomicUsize,
}

impl Pool {
    pub(super) fn new(address: Arc<Address>) -> Pool {
        Pool {
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(address.connections)),
            waiting: AtomicUsize::new(0),
            place: AtomicUsize::new(0),
            address,
        }
    }

    /// A connection, a used one if there is one.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Fault> {
        let permit = self.permit().await?;
        let idle = self.lock().pop();
        let session = match idle {
            Some(session) => session,
            None => {
                let servers = &self.address.read_servers;
                let first = self.place.load(Ordering::Relaxed);
                let (session, place) =
                    connect_any(&self.address, servers, first, Purpose::Read).await?;
                self.place.store(place, Ordering::Relaxed);
                session
            }
        };
        Ok(Lease {
            session,
            pool: Arc::clone(self),
            permit,
        })
    }

    async fn permit(self: &Arc<Self>) -> Result<OwnedSemaphorePermit, Fault> {
        let busy = || Fault::new(Class::Other, "too many reads wait for the database");
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = Waiting::new(&self.waiting);
        if waiting.place >= WAITING_MAX {
            return Err(busy());
        }
        let permit = Arc::clone(&self.permits).acquire_owned();
        match tokio::time::timeout(WAIT_MAX, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Fault::new(Class::Other, "the store is closed")),
            Err(_) => Err(busy()),
        }
    }

    /// Forgets idle connections: their server is gone.
    pub(super) fn forget_idle(&self) {
        self.lock().clear();
    }

    /// Refuses further leases and says goodbye on idle connections.
    pub(super) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.lock());
        for session in idle {
            let _ = tokio::time::timeout(session::CONNECT_MAX, session.close()).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Session>>> {
        self.idle.lock().expect("no panic while the pool is held")
    }
}

/// A count of waiting reads, taken back when the wait ends in whatever way.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    place: usize,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Waiting<'a> {
        let place = count.fetch_add(1, Ordering::Relaxed);
        Waiting { count, place }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection in use.
pub(super) struct Lease {
    session: Box<dyn Session>,
    pool: Arc<Pool>,
    permit: OwnedSemaphorePermit,
}

impl Lease {
    pub(super) fn session(&mut self) -> &mut dyn Session {
        &mut *self.session
    }

    /// Puts the connection back. Only after everything on it was done to its end.
    pub(super) fn give_back(self) {
        let Lease {
            session,
            pool,
            permit,
        } = self;
        if !pool.permits.is_closed() {
            pool.lock().push(session);
        }
        drop(permit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(is_read_only: bool, is_standby: bool, is_ready: bool) -> Probe {
        Probe {
            version: String::new(),
            is_supported: true,
            is_read_only,
            is_standby,
            is_ready,
            statement_bytes_max: None,
            durability_gap: None,
        }
    }

    #[test]
    fn writes_need_a_writable_server_and_reads_one_that_is_not_behind() {
        let check = |probe: Probe, purpose, servers| judge(&probe, purpose, servers).is_ok();
        assert!(check(probe(false, false, true), Purpose::Write, 3));
        assert!(!check(probe(true, false, true), Purpose::Write, 1));
        assert!(!check(probe(false, false, false), Purpose::Write, 1));
        assert!(!check(probe(false, false, false), Purpose::Read, 1));
        // A single server that was made read-only still holds the newest data.
        assert!(check(probe(true, false, true), Purpose::Read, 1));
        assert!(!check(probe(true, false, true), Purpose::Read, 2));
        assert!(!check(probe(true, true, true), Purpose::Read, 1));
    }
}

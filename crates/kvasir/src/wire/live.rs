//! The settings in force, and changing them while the server runs.
//!
//! A reload reads every source again: the flags and the environment of the process, and the file as
//! it is now. Only if all of it is right anything is changed. What a running server can take over
//! is named in [`LIVE`]; every other change waits for a restart, and the answer says so.

use std::sync::{Arc, Mutex, OnceLock, RwLock};

use kvasir_api::Dialect;
use kvasir_api::admin::operator::{Operator, Reloaded, SettingRow};
use kvasir_auth::Access;
use kvasir_kv::Clock;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::backup::desk::Desk;
use crate::config::{Config, Layers, Sources};
use crate::listen::{BodyPace, LiveLimits, gate::Gate, handles};
use crate::telemetry::account::Telemetry;
use crate::telemetry::logs;
use crate::telemetry::requests::OutcomeLabel;
use crate::tls::Certificates;

/// Settings, or with a dot at the end sections, whose changes are taken over by a running server.
/// Tokens, users and clients lie in the store and need no reload at all.
const LIVE: &[&str] = &[
    "log.level",
    "log.keys",
    "slowlog.",
    "limits.first_byte",
    "limits.head",
    "limits.head_bytes",
    "limits.body_gap",
    "limits.bytes_per_second_min",
    "limits.idle",
    "limits.reader_stall",
    "limits.connections",
    "limits.connections_per_address",
    "limits.http2_streams",
    "limits.requests_in_progress",
    "limits.rates.",
    "auth.",
    "backup.schedule",
    "backup.drill_schedule",
    "rest.cors_origins",
    "classworks.cors_origins",
    "kopano.allow_cors",
    "tls.certificate",
    "tls.key",
    "tls.names",
];

/// What a reload changes.
pub(super) struct Parts {
    pub(super) gate: Arc<Gate>,
    pub(super) body_pace: Arc<RwLock<BodyPace>>,
    pub(super) listeners: LiveLimits,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) registry: Arc<Registry>,
    pub(super) access: Arc<Access>,
    pub(super) certificates: Option<Certificates>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) backups: Desk,
    pub(super) dialects: Vec<Arc<dyn Dialect>>,
}

/// See the module.
pub(super) struct Live {
    sources: Sources,
    running: Mutex<Layers>,
    /// The settings that were read last, for whoever follows them.
    config: watch::Sender<Arc<Config>>,
    parts: OnceLock<Parts>,
}

impl Live {
    pub(super) fn new(sources: Sources, config: Config, layers: Layers) -> Live {
        Live {
            sources,
            running: Mutex::new(layers),
            config: watch::Sender::new(Arc::new(config)),
            parts: OnceLock::new(),
        }
    }

    /// Names what is to be changed. Called once, when all of it is there.
    pub(super) fn attach(&self, parts: Parts) {
        // A second call cannot happen: there is one caller.
        let _ = self.parts.set(parts);
    }

    /// Reads everything again.
    pub(super) fn reload(&self) -> Result<Reloaded, String> {
        let outcome = self.try_reload();
        match &outcome {
            Ok(Reloaded { applied, waiting }) => tracing::info!(
                applied = applied.join(" "),
                waiting = waiting.join(" "),
                "read the settings again; {} changed, {} wait for a restart",
                applied.len(),
                waiting.len()
            ),
            Err(error) => {
                tracing::error!("kept the running settings, the new ones are wrong: {error}");
            }
        }
        if let Some(parts) = self.parts.get() {
            let outcome = if outcome.is_ok() { "ok" } else { "refused" };
            let label = OutcomeLabel { outcome };
            parts.telemetry.metrics.reloads.get_or_create(&label).inc();
        }
        outcome
    }

    fn try_reload(&self) -> Result<Reloaded, String> {
        let parts = self.parts.get().ok_or("the server is still starting")?;
        let (config, layers) = Config::load(&self.sources).map_err(|error| error.to_string())?;
        config.check(&layers).map_err(|error| error.to_string())?;
        Desk::check_schedules(&config.backup).map_err(|error| format!("{error:#}"))?;
        let certificates = match &parts.certificates {
            None => None,
            // One that is issued over ACME renews itself.
            Some(_) if !config.tls.acme.names.is_empty() => None,
            Some(shown) => {
                let read = Certificates::load(&config, &*parts.clock);
                Some((shown, read.map_err(|error| format!("{error:#}"))?))
            }
        };
        // From here on nothing fails.
        let mut running = self.running.lock().expect("no panic while held");
        let (applied, waiting): (Vec<String>, Vec<String>) = running
            .differences(&layers)
            .into_iter()
            .partition(|path| is_live(path));
        logs::change(&config.log).map_err(|error| error.to_string())?;
        parts.telemetry.slow.set(config.slowlog.clone());
        let mut limits = config.limits.listeners();
        limits.connections.total = handles::connections(limits.connections.total);
        parts.listeners.set(limits);
        parts.gate.set(config.limits.requests_in_progress);
        *parts.body_pace.write().expect("only copied while held") = config.limits.body_pace();
        let is_of_access =
            |path: &String| path.starts_with("auth.") || path.starts_with("limits.rates.");
        if applied.iter().any(is_of_access) {
            parts.access.change(super::access_settings(&config));
        }
        if applied.iter().any(|path| path.starts_with("backup.")) {
            let rescheduled = parts.backups.reschedule(&config.backup);
            rescheduled.map_err(|error| format!("{error:#}"))?;
        }
        for dialect in &parts.dialects {
            match dialect.name() {
                "rest" => dialect.allow_origins(&config.rest.cors_origins),
                "classworks" => dialect.allow_origins(&config.classworks.cors_origins),
                "kopano" if config.kopano.allow_cors => dialect.allow_origins(&["*".to_owned()]),
                "kopano" => dialect.allow_origins(&[]),
                _ => {}
            }
        }
        if let Some((shown, read)) = certificates {
            // Files are read again in any case. The local authority has nothing new to show unless
            // it is to certify other names.
            if config.tls.certificate.is_some()
                || applied.iter().any(|path| path.starts_with("tls."))
            {
                shown.replace(&read);
            }
        }
        running.take_over(&applied, &layers);
        self.config.send_replace(Arc::new(config));
        Ok(Reloaded { applied, waiting })
    }
}

/// Whether a running server takes over changes of a setting.
fn is_live(path: &str) -> bool {
    LIVE.iter().any(|live| match live.strip_suffix('.') {
        Some(section) => {
            let rest = path.strip_prefix(section);
            rest.is_some_and(|rest| rest.starts_with('.'))
        }
        None => *live == path,
    })
}

impl Operator for Live {
    fn settings(&self) -> Vec<SettingRow> {
        let running = self.running.lock().expect("no panic while held");
        let rows = running.effective().into_iter();
        rows.map(|(setting, value, origin)| SettingRow {
            live: is_live(&setting),
            setting,
            value,
            origin: origin.to_string(),
        })
        .collect()
    }

    fn reload(&self) -> Result<Reloaded, String> {
        Live::reload(self)
    }

    fn slow(&self, limit: usize) -> Vec<serde_json::Value> {
        let Some(parts) = self.parts.get() else {
            return Vec::new();
        };
        let latest = parts.telemetry.slow.latest(limit).into_iter();
        latest
            .map(|slow| serde_json::to_value(slow).expect("text and numbers are JSON"))
            .collect()
    }

    fn figures(&self) -> String {
        let mut text = String::new();
        if let Some(parts) = self.parts.get() {
            // Writing to a string does not fail.
            let _ = prometheus_client::encoding::text::encode(&mut text, &parts.registry);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_as_live_is_a_setting() {
        let settings = Config::settings();
        for live in LIVE {
            let known = settings.iter().any(|setting| match live.ends_with('.') {
                true => setting.path.starts_with(live),
                false => setting.path == *live,
            });
            assert!(known, "{live}");
        }
        assert!(is_live("limits.rates.on_loopback"));
        assert!(!is_live("limits.value_bytes"));
        assert!(!is_live("server.listen"));
    }
}

//! Logs: readable on a terminal, one JSON object a line otherwise. They go to standard error, so
//! that standard output holds only what commands answer.
//!
//! A process has one log, so its level and whether it shows keys are kept here and can be changed
//! while it runs.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Uri;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// `[log]`: what is logged, and in which form.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Least important level that is logged, `error`, `warn`, `info`, `debug` or `trace`, or a list
    /// of `target=level` for parts of the program.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Whether the log, the slow log and traces show the paths of requests, which hold keys. Off,
    /// they show a hash by which requests for the same path can be told.
    pub keys: bool,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Readable on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Always readable.
    Text,
    /// Always JSON.
    Json,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings {
            level: "info".into(),
            format: LogFormat::Auto,
            keys: false,
        }
    }
}

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

static SHOWS_KEYS: AtomicBool = AtomicBool::new(false);

/// Digits of the hash that stands for a path. Enough to tell the paths of one log apart.
const HASH_DIGITS: usize = 16;

#[expect(
    clippy::disallowed_methods,
    reason = "a convention of terminals, not a setting of ours"
)]
fn wants_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Begins to log. Does nothing if something logs already, as in tests.
///
/// # Errors
///
/// For a level that is none.
pub fn begin(settings: &LogSettings) -> anyhow::Result<()> {
    let (filter, handle) = reload::Layer::new(filter(&settings.level)?);
    SHOWS_KEYS.store(settings.keys, Ordering::Relaxed);
    let on_terminal = std::io::stderr().is_terminal();
    let is_json = match settings.format {
        LogFormat::Auto => !on_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if is_json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_ansi(wants_colour()).with_target(false).boxed()
    };
    let begun = tracing_subscriber::registry().with(filter).with(lines);
    // An error means that another subscriber is there.
    if begun.try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
    Ok(())
}

/// Takes over the level and whether keys are shown. The format stays.
///
/// # Errors
///
/// For a level that is none; nothing is changed then.
pub fn change(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = filter(&settings.level)?;
    if let Some(handle) = FILTER.get() {
        handle.reload(filter)?;
    }
    SHOWS_KEYS.store(settings.keys, Ordering::Relaxed);
    Ok(())
}

/// Whether the level is one.
///
/// # Errors
///
/// If it is none.
pub fn check(settings: &LogSettings) -> anyhow::Result<()> {
    filter(&settings.level).map(|_| ())
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    Ok(EnvFilter::builder().parse(level)?)
}

/// The path of a request as it may be logged.
pub fn shown_target(uri: &Uri) -> String {
    if SHOWS_KEYS.load(Ordering::Relaxed) {
        uri.path().to_owned()
    } else {
        hashed(uri.path())
    }
}

fn hashed(path: &str) -> String {
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(path));
    format!("#{}", &digest[..HASH_DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_path_has_the_same_hash_and_cannot_be_read_in_it() {
        let hash = hashed("/kv/users.john");
        assert_eq!(hash, hashed("/kv/users.john"));
        assert_ne!(hash, hashed("/kv/users.jane"));
        assert_eq!(hash.len(), 1 + HASH_DIGITS);
        assert!(!hash.contains("john"));
    }
}

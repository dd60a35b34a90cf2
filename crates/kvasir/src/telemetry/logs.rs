//! Logs: readable on a terminal, one JSON object a line otherwise. They go to standard error, so
//! that standard output holds only what commands answer.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// `[log]`: what is logged, and in which form.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Least important level that is logged, `error`, `warn`, `info`, `debug` or `trace`, or a list
    /// of `target=level` for parts of the program.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
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
        }
    }
}

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
    let filter = EnvFilter::builder().parse(&settings.level)?;
    let on_terminal = std::io::stderr().is_terminal();
    let is_json = match settings.format {
        LogFormat::Auto => !on_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    // An error means that another subscriber is there.
    let _ = if is_json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder
            .with_ansi(wants_colour())
            .with_target(false)
            .try_init()
    };
    Ok(())
}

//! Opens a store by its URL.

use std::path::PathBuf;
use std::sync::Arc;

use kvasir_kv::{Cause, Clock, Limits, SteadyClock, Store};

use crate::clock::SystemClock;
#[cfg(feature = "embedded")]
use crate::embedded::{self, EmbeddedSettings};
use crate::fatal::FatalHook;
use crate::memory::MemoryStore;
use crate::metrics::StoreMetrics;
use crate::sweeper::{self, ExpiryHint};

/// What a store is opened with, whatever its backend.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Limits that the operator can set.
    pub limits: Limits,
    /// What the store counts.
    pub metrics: Arc<StoreMetrics>,
    /// What to do when a commit could not be made durable.
    pub fatal: FatalHook,
    /// Memory and disk space of the embedded engine.
    #[cfg(feature = "embedded")]
    pub embedded: EmbeddedSettings,
    /// Whether a task removes expired entries. Tests that set the clock switch it off.
    pub sweeper: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
            metrics: Arc::default(),
            fatal: FatalHook::exit(),
            #[cfg(feature = "embedded")]
            embedded: EmbeddedSettings::default(),
            sweeper: true,
        }
    }
}

/// Opens the store at `url`, creating it if it is not there.
///
/// | url | backend |
/// | --- | --- |
/// | `memory:` | [`MemoryStore`] |
/// | `embedded:DIR` | the embedded engine in a folder |
/// | `sqlite:FILE` | one SQLite file |
/// | `mysql://…`, `postgres://…` | a database server |
///
/// The store goes by a [`SteadyClock`] over that of the options, so what has expired stays expired
/// when the time of day steps back. Must be called inside a tokio runtime with its timer enabled.
///
/// # Errors
///
/// [`OpenError`] by what the operator does next; [`OpenError::exit_code`] for the process.
pub async fn open(url: &str, mut options: OpenOptions) -> Result<Arc<dyn Store>, OpenError> {
    options.clock = Arc::new(SteadyClock::new(options.clock));
    let (scheme, rest) = url.split_once(':').ok_or_else(|| OpenError::BadUrl {
        reason: "it has no scheme, such as embedded:".into(),
    })?;
    match scheme {
        "memory" if rest.is_empty() => {
            let store = MemoryStore::new(&options);
            let hint = Arc::clone(store.expiry_hint());
            Ok(with_sweeper(Arc::new(store), hint, options))
        }
        "memory" => Err(OpenError::BadUrl {
            reason: "nothing may follow memory:".into(),
        }),
        #[cfg(feature = "embedded")]
        "embedded" => embedded::open(rest, options).await,
        #[cfg(not(feature = "embedded"))]
        "embedded" => Err(OpenError::NotBuilt(scheme.to_owned())),
        #[cfg(feature = "sql")]
        "mysql" | "mariadb" | "postgres" | "postgresql" => {
            let store = crate::sql::SqlStore::open(url, &options).await?;
            let hint = Arc::clone(store.expiry_hint());
            Ok(with_sweeper(Arc::new(store), hint, options))
        }
        #[cfg(not(feature = "sql"))]
        "mysql" | "mariadb" | "postgres" | "postgresql" => {
            Err(OpenError::NotBuilt(scheme.to_owned()))
        }
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let store = crate::sqlite::SqliteStore::open(rest, &options).await?;
            let hint = Arc::clone(store.expiry_hint());
            Ok(with_sweeper(Arc::new(store), hint, options))
        }
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(OpenError::NotBuilt(scheme.to_owned())),
        // The URL may hold a password, so only its scheme is shown.
        _ => Err(OpenError::BadUrl {
            reason: format!("the scheme {scheme:?} is not known"),
        }),
    }
}

/// Starts the sweeper of a store that was just opened, unless it is switched off.
fn with_sweeper(
    store: Arc<dyn Store>,
    hint: Arc<ExpiryHint>,
    options: OpenOptions,
) -> Arc<dyn Store> {
    if options.sweeper {
        sweeper::spawn(Arc::downgrade(&store), options.clock, hint);
    }
    store
}

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL makes no sense.
    #[error("bad store url: {reason}")]
    BadUrl {
        /// What is wrong with it. Holds no part of the URL that may be secret.
        reason: String,
    },

    /// This program was built without the backend.
    #[error("this program was built without the {0} backend")]
    NotBuilt(String),

    /// Another process has the store open.
    #[error("{} is in use{}", path.display(), holder.map_or(String::new(), |pid| format!(" by process {pid}")))]
    Locked {
        /// The folder or file.
        path: PathBuf,
        /// The process that holds it, if it left its number.
        holder: Option<u32>,
    },

    /// A newer version of this program wrote the store.
    #[error("{} has format {found}, this version knows up to {known}", path.display())]
    NewerFormat {
        /// The folder or file.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format that this program reads.
        known: u32,
    },

    /// Committed data is damaged. Nothing was changed.
    #[error(
        "{} is damaged at byte {offset}: {what}; `kvasir store repair --plan` lists the choices",
        file.display()
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where the damage begins, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },

    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `create`, `sync`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The error below.
        #[source]
        source: std::io::Error,
    },

    /// The database server cannot be reached.
    #[error("the database cannot be reached")]
    Unreachable(#[source] Cause),

    /// The database server refuses the user or a right is missing.
    #[error("{what}; {remedy}")]
    Denied {
        /// What was refused.
        what: String,
        /// What to do about it.
        remedy: String,
    },

    /// The database or file is there but cannot be used as it is.
    #[error("{what}; {remedy}")]
    Unusable {
        /// What is in the way.
        what: String,
        /// What to do about it.
        remedy: String,
    },

    /// The engine refused for another reason.
    #[error("the engine does not open")]
    Engine(#[source] Cause),
}

impl OpenError {
    /// The exit code of a process that needed the store: 1 failed, 2 usage, 4 denied, 6
    /// unreachable, 8 data damaged.
    pub fn exit_code(&self) -> u8 {
        match self {
            OpenError::BadUrl { .. } | OpenError::NotBuilt(_) => 2,
            OpenError::Denied { .. } => 4,
            OpenError::Unreachable(_) => 6,
            OpenError::Damaged { .. } => 8,
            OpenError::Locked { .. }
            | OpenError::NewerFormat { .. }
            | OpenError::Io { .. }
            | OpenError::Unusable { .. }
            | OpenError::Engine(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(url: &str) -> OpenError {
        match open(url, OpenOptions::default()).await {
            Ok(_) => panic!("{url} opened"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn bad_urls_are_refused_without_showing_secrets() {
        for url in ["", "memory", "memory:x", "redis://user:secret@host/"] {
            let error = refused(url).await;
            assert_eq!(error.exit_code(), 2, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}

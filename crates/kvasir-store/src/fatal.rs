//! Errors after which the process must not go on.
//!
//! After a failed write or sync nobody knows what is on the disk, and the kernel may call pages
//! clean that never reached it. The only sound way on is a restart that recovers from the log. So
//! a backend that meets such an error answers what is in flight with "outcome unknown", refuses
//! everything after, and calls the [`FatalHook`].

use std::fmt;
use std::sync::Arc;

use kvasir_kv::Cause;

/// Exit code of a process that ended because a commit could not be made durable: `EX_IOERR` of
/// BSD's `sysexits.h`, apart from the codes 0 to 8 of the command line.
pub const FATAL_EXIT_CODE: i32 = 74;

/// Why the process must end.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct FatalError {
    /// What failed.
    pub what: &'static str,
    /// The error below.
    #[source]
    pub source: Cause,
}

impl FatalError {
    /// An error with a cause given as text.
    pub fn new(what: &'static str, cause: impl Into<String>) -> FatalError {
        let source: Box<dyn std::error::Error + Send + Sync> = cause.into().into();
        FatalError {
            what,
            source: source.into(),
        }
    }
}

/// What to do about a [`FatalError`]. Called once per store, from any thread, and must not block
/// for long. It is expected to end the process; where it returns (tests), the store stays refused.
#[derive(Clone)]
pub struct FatalHook(Arc<dyn Fn(&FatalError) + Send + Sync>);

impl FatalHook {
    /// Calls `hook`.
    pub fn new(hook: impl Fn(&FatalError) + Send + Sync + 'static) -> FatalHook {
        FatalHook(Arc::new(hook))
    }

    /// Logs the error and ends the process with [`FATAL_EXIT_CODE`], without destructors: a clean
    /// close would write on.
    pub fn exit() -> FatalHook {
        FatalHook::new(|error| {
            tracing::error!(
                error = %error,
                cause = %error.source,
                "the store can no longer make writes durable, ending the process"
            );
            std::process::exit(FATAL_EXIT_CODE);
        })
    }

    /// Reports `error`.
    pub fn call(&self, error: &FatalError) {
        (self.0)(error);
    }
}

impl fmt::Debug for FatalHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FatalHook")
    }
}

//! Exit codes of the command, and errors that carry one.

use std::fmt;

use crate::moving::failure::SourceFailure;

/// How the command ended. Published: scripts rely on these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// It failed in a way that has no code of its own.
    Failed = 1,
    /// The arguments or the configuration are wrong.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// A credential is missing or does not allow it.
    Denied = 4,
    /// Somebody else changed it meanwhile.
    Conflict = 5,
    /// The server or database cannot be reached.
    Unreachable = 6,
    /// A part was done.
    Partly = 7,
    /// Stored data is damaged.
    Damaged = 8,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

/// Why the command did not do what it was asked: a sentence for people and a code for scripts.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// What happened and what to do, without the `kvasir: ` in front.
    pub error: anyhow::Error,
}

impl Failure {
    /// A failure with a sentence.
    pub fn new(exit: Exit, sentence: impl Into<String>) -> Failure {
        Failure {
            exit,
            error: anyhow::Error::msg(sentence.into()),
        }
    }

    /// Wrong arguments or configuration.
    pub fn usage(sentence: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, sentence)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let exit = if error.is::<crate::config::ConfigError>() {
            Exit::Usage
        } else if let Some(error) = error.downcast_ref::<kvasir_store::OpenError>() {
            match error.exit_code() {
                2 => Exit::Usage,
                4 => Exit::Denied,
                6 => Exit::Unreachable,
                8 => Exit::Damaged,
                _ => Exit::Failed,
            }
        } else if let Some(failure) = error.downcast_ref::<SourceFailure>() {
            match failure {
                SourceFailure::Unreachable(_) => Exit::Unreachable,
                SourceFailure::Denied(_) => Exit::Denied,
            }
        } else {
            Exit::Failed
        };
        Failure { exit, error }
    }
}

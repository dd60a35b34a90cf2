//! Why a store operation did not happen.

use std::sync::Arc;

/// What an operation on a store returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error below, kept for the log. Shared, because one failed sync answers many writes.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why a store operation did not happen, by what the caller does next.
///
/// A missing key is `None` and a failed check is [`crate::Outcome::Conflict`]; neither is an error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key, value or write is over its limit. The request has to change.
    #[error("{what} is {actual} bytes, over the limit of {limit}")]
    TooLarge {
        /// What was too large, such as `value`.
        what: &'static str,
        /// Its size in bytes.
        actual: usize,
        /// The largest allowed size in bytes.
        limit: usize,
    },

    /// There are too many of something. The request has to change.
    #[error("{actual} {what}, over the limit of {limit}")]
    TooMany {
        /// Plural noun, such as `mutations`.
        what: &'static str,
        /// How many there were.
        actual: usize,
        /// How many are allowed.
        limit: usize,
    },

    /// The request makes no sense whatever the store holds, such as an operand of a wrong type.
    #[error("{0}")]
    Invalid(String),

    /// A sum, min or max does not fit the stored value. Nothing was changed.
    #[error("{0}")]
    TypeMismatch(String),

    /// The store takes no writes now. Reads go on.
    #[error("the store takes no writes: {0}")]
    ReadOnly(&'static str),

    /// Too little space is left for writes. Reads and deletes go on, and writes come back when
    /// there is space again.
    #[error("no space left for writes")]
    NoSpace,

    /// The store cannot be reached, is too busy or is closed. The write was not applied; the same
    /// request may succeed later.
    #[error("the store is unavailable")]
    Unavailable(#[source] Cause),

    /// The write was sent but nobody knows whether it was applied. Retry only with a check that
    /// detects the first attempt.
    #[error("the outcome of the write is unknown")]
    OutcomeUnknown(#[source] Cause),

    /// Stored bytes do not decode. Retrying does not help; somebody has to look.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
}

impl Error {
    /// [`Error::Unavailable`] with a cause given as text.
    pub fn unavailable(cause: impl Into<String>) -> Error {
        Error::Unavailable(text_cause(cause.into()))
    }

    /// [`Error::OutcomeUnknown`] with a cause given as text.
    pub fn outcome_unknown(cause: impl Into<String>) -> Error {
        Error::OutcomeUnknown(text_cause(cause.into()))
    }
}

fn text_cause(text: String) -> Cause {
    Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(text))
}

//! Why a source cannot be read, where the exit code depends on it.

/// A source that does not answer, or refuses.
#[derive(Debug, thiserror::Error)]
pub enum SourceFailure {
    /// No server of it could be reached.
    #[error("no server answers ({0}); check that it runs and that the address is right")]
    Unreachable(String),
    /// User or password are wrong, or a right is missing.
    #[error("{0}; check user name and password in the URL")]
    Denied(String),
}

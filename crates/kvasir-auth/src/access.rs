//! Issued tokens: making, checking and revoking them.

use std::sync::Arc;

use kvasir_kv::{Clock, Keyspace};

use crate::principal::Principal;

/// Settings of [`Access`].
#[derive(Clone, Debug, Default)]
pub struct AccessSettings {
    /// Serve non-loopback addresses without any credential. Off unless the operator says so.
    pub serve_openly: bool,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No credential was shown.
    #[error("a token is needed: send `Authorization: Bearer <token>`")]
    Missing,
    /// The credential is unknown, altered, expired or revoked; which of these is not told.
    #[error("the token is not valid")]
    Invalid,
}

/// Knows the issued tokens. Tokens live in the system keyspace as hashes.
#[derive(Debug)]
pub struct Access {
    #[expect(dead_code, reason = "tokens land with the next change")]
    system: Keyspace,
    #[expect(dead_code, reason = "tokens land with the next change")]
    clock: Arc<dyn Clock>,
    settings: AccessSettings,
}

impl Access {
    /// Reads and keeps tokens in `system`.
    pub fn new(system: Keyspace, clock: Arc<dyn Clock>, settings: AccessSettings) -> Access {
        Access {
            system,
            clock,
            settings,
        }
    }

    /// The principal behind a bearer token, or, without one, whoever may ask without.
    ///
    /// # Errors
    ///
    /// The outer error is the store's, the inner one says why the request is not let in.
    pub async fn authenticate(
        &self,
        bearer: Option<&str>,
        on_loopback: bool,
    ) -> kvasir_kv::Result<Result<Principal, Denied>> {
        match bearer {
            None if on_loopback || self.settings.serve_openly => Ok(Ok(Principal::local())),
            None => Ok(Err(Denied::Missing)),
            Some(_) if on_loopback => Ok(Ok(Principal::local())),
            Some(_) => Ok(Err(Denied::Invalid)),
        }
    }
}

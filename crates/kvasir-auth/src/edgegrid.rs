//! EdgeGrid (`EG1-HMAC-SHA256`): requests signed with a client's secret.
//!
//! [`header`] reads the `Authorization` header, [`signature`] computes what it should say, and both
//! are pure. [`clients`] keeps the credentials in the system keyspace, [`nonces`] remembers which
//! requests were seen, and [`Verifier`] puts them together in the order that clients rely on.
//!
//! The protocol protects method, scheme, host, path, query and the first 128 KiB of a `POST` body,
//! and nothing else: the body of a `PUT` can be changed on the way unless the connection is
//! encrypted. Nothing here renders answers; [`Refusal`] carries the texts of the original gateway.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header::AUTHORIZATION};
use kvasir_kv::{Clock, Result};
use secrecy::ExposeSecret;

pub mod clients;
pub mod edgerc;
pub mod header;
pub mod nonces;
pub mod signature;

pub use clients::{Client, ClientSummary, Clients};
pub use header::Authorization;
pub use nonces::Nonces;
pub use signature::{Scheme, Target};

use nonces::Novelty;

/// How far a signed timestamp may be off, either way, unless configured otherwise. The original
/// service's window.
pub const WINDOW_DEFAULT: Duration = Duration::from_secs(30);

/// Added to twice the window for how long a nonce is remembered, against rounding at its ends.
pub const NONCE_MARGIN: Duration = Duration::from_secs(5);

/// Most nonces remembered for one client token unless configured otherwise. At 65 seconds of
/// memory this is 4,000 requests per second for ever, in about 16 MiB.
pub const NONCES_PER_CLIENT_DEFAULT: usize = 1 << 18;

/// Why a signed request is not let in. The texts are those of the original gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No `Authorization` header, or one of another scheme.
    #[error("Missing authorization header")]
    MissingHeader,
    /// The header does not follow the grammar.
    #[error("Invalid authorization header")]
    MalformedHeader,
    /// Nobody has this client token.
    #[error("Invalid client token")]
    UnknownClient,
    /// The access token is not the one that belongs to the client token.
    #[error("Invalid access token")]
    UnknownAccessToken,
    /// The credential was revoked.
    #[error("Inactive client token")]
    InactiveClient,
    /// The timestamp has another form or is outside of the window.
    #[error("Invalid timestamp")]
    InvalidTimestamp,
    /// The signature is not that of this request by this client.
    #[error("The signature does not match")]
    SignatureMismatch,
    /// The client has used this nonce before.
    #[error("Duplicate nonce")]
    DuplicateNonce,
    /// The memory for nonces of this client is full, so a replay could not be noticed.
    #[error("Too many requests")]
    TooManyRequests,
}

/// Settings of a [`Verifier`].
#[derive(Clone, Copy, Debug)]
pub struct VerifierSettings {
    /// How far a timestamp may be off, either way.
    pub window: Duration,
    /// Most nonces remembered for one client token; beyond it its requests are refused.
    pub nonces_per_client_max: usize,
}

impl Default for VerifierSettings {
    fn default() -> Self {
        VerifierSettings {
            window: WINDOW_DEFAULT,
            nonces_per_client_max: NONCES_PER_CLIENT_DEFAULT,
        }
    }
}

/// Checks signed requests.
#[derive(Debug)]
pub struct Verifier {
    clients: Clients,
    nonces: Nonces,
    clock: Arc<dyn Clock>,
    window_ms: i64,
}

/// A request whose client is known and whose time is right; its signature is not checked yet.
#[derive(Debug)]
pub struct Claim<'a> {
    authorization: Authorization<'a>,
    client: Client,
}

impl Verifier {
    /// Checks requests against the credentials in `clients`.
    pub fn new(clients: Clients, clock: Arc<dyn Clock>, settings: VerifierSettings) -> Verifier {
        let window_ms = i64::try_from(settings.window.as_millis()).unwrap_or(i64::MAX / 4);
        Verifier {
            clients,
            nonces: Nonces::new(
                2 * settings.window + NONCE_MARGIN,
                settings.nonces_per_client_max,
            ),
            clock,
            window_ms: window_ms.min(i64::MAX / 4),
        }
    }

    /// Whoever the header says it is, if the credential exists and the time is right: everything
    /// that can be judged before the body has arrived.
    ///
    /// # Errors
    ///
    /// The outer error is the store's, the inner one says why the request is not let in.
    pub async fn identify<'a>(&self, headers: &'a HeaderMap) -> Result<Result<Claim<'a>, Refusal>> {
        let authorization = match authorization_of(headers) {
            Ok(authorization) => authorization,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let client = self.clients.get(authorization.client_token).await?;
        Ok(self.claim(authorization, client))
    }

    fn claim<'a>(
        &self,
        authorization: Authorization<'a>,
        client: Option<Client>,
    ) -> Result<Claim<'a>, Refusal> {
        let client = client.ok_or(Refusal::UnknownClient)?;
        if !client.has_access_token(authorization.access_token) {
            return Err(Refusal::UnknownAccessToken);
        }
        if client.secret.is_none() {
            return Err(Refusal::InactiveClient);
        }
        let signed_at =
            header::timestamp(authorization.timestamp).ok_or(Refusal::InvalidTimestamp)?;
        // Both are years away from the ends of the type: a timestamp has four digits of year.
        let off_ms = (self.clock.now().0 - signed_at.0).abs();
        if off_ms > self.window_ms {
            return Err(Refusal::InvalidTimestamp);
        }
        Ok(Claim {
            authorization,
            client,
        })
    }

    /// Lets the request in if it is signed by its client and was not seen before. Only then is its
    /// nonce remembered, so nobody can use up another's nonces or fill the memory.
    ///
    /// `body` is looked at for `POST` only.
    ///
    /// # Errors
    ///
    /// [`Refusal::SignatureMismatch`], [`Refusal::DuplicateNonce`], [`Refusal::TooManyRequests`].
    pub fn admit(
        &self,
        claim: Claim<'_>,
        target: &Target<'_>,
        body: &[u8],
    ) -> Result<Client, Refusal> {
        let Claim {
            authorization,
            client,
        } = claim;
        let secret = client.secret.as_ref().ok_or(Refusal::InactiveClient)?;
        if !signature::is_signed(&authorization, secret.expose_secret(), target, body) {
            return Err(Refusal::SignatureMismatch);
        }
        let now = self.clock.now();
        match self
            .nonces
            .admit(authorization.client_token, authorization.nonce, now)
        {
            Novelty::New => Ok(client),
            Novelty::Seen => Err(Refusal::DuplicateNonce),
            Novelty::Full => Err(Refusal::TooManyRequests),
        }
    }
}

fn authorization_of(headers: &HeaderMap) -> Result<Authorization<'_>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::MissingHeader)?;
    if values.next().is_some() {
        return Err(Refusal::MalformedHeader);
    }
    let text = value.to_str().map_err(|_| Refusal::MalformedHeader)?;
    Authorization::parse(text)
}

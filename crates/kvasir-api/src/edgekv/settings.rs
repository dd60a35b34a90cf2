//! Settings of the dialect.

use serde::{Deserialize, Serialize};

use super::wire::Network;

/// Largest value unless configured otherwise, in bytes. The vendor counts characters.
pub const VALUE_BYTES_DEFAULT: usize = 262_144;

/// `[edgekv]`: what the original leaves to the account, and what testers can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Start initialised, without `PUT /initialize`.
    pub auto_initialize: bool,
    /// Judge the dates of tokens as the vendor does today: no expiry before tomorrow or beyond six
    /// months, 410 for expired tokens, 404 for an empty list.
    pub strict_tokens: bool,
    /// The number of the database, 1 to 20 digits. Read once, when the database is initialised.
    pub cpcode: CpCode,
    /// Where `/api/v1/...` of the data plane leads.
    pub default_network: Network,
    /// Most namespaces of a network, `default` included.
    pub namespaces_max: usize,
    /// Most access tokens.
    pub tokens_max: usize,
    /// Largest value, in bytes; above it the answer is 413. The store's own limit holds as well.
    pub value_bytes_max: usize,
    /// How long a scheduled deletion of a namespace waits if no time is given, in seconds.
    pub delete_delay_seconds: u32,
    /// For so long after a write, reads of the item answer 404, as the vendor's eventually consistent
    /// network may. In milliseconds; 0 for never.
    pub inconsistency_window_ms: u32,
    /// How far the timestamp of a signed request may be off, either way, in seconds.
    pub signature_window_seconds: u32,
    /// Most signed requests of one client that are remembered against replay. Beyond it its
    /// requests are refused with 429.
    pub nonces_per_client_max: usize,
    /// Schemes that clients may have signed. Behind a proxy that ends TLS the server sees `http`
    /// where clients signed `https`, so both are tried.
    pub schemes: Vec<SchemeName>,
    /// Also try the host in `X-Forwarded-Host`. Only for servers behind a proxy that sets it.
    pub trust_forwarded_host: bool,
    /// Failures on request.
    pub rehearsal: RehearsalSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            auto_initialize: false,
            strict_tokens: false,
            cpcode: CpCode::default(),
            default_network: Network::Staging,
            namespaces_max: 20,
            tokens_max: 10_000,
            value_bytes_max: VALUE_BYTES_DEFAULT,
            delete_delay_seconds: 72 * 3600,
            inconsistency_window_ms: 0,
            signature_window_seconds: 30,
            nonces_per_client_max: kvasir_auth::edgegrid::NONCES_PER_CLIENT_DEFAULT,
            schemes: vec![SchemeName::Https, SchemeName::Http],
            trust_forwarded_host: false,
            rehearsal: RehearsalSettings::default(),
        }
    }
}

/// `[edgekv.rehearsal]`: failures that a client's retries can be tested with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RehearsalSettings {
    /// Requests per second, over all clients; further ones get 429. 0 for no limit.
    pub requests_per_second_max: u32,
    /// Every so many requests, one gets 504 and does nothing. 0 for never.
    pub timeout_every: u32,
}

/// A scheme that clients may have signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemeName {
    /// `https`
    Https,
    /// `http`
    Http,
}

/// The number of a database: 1 to 20 digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpCode(String);

impl CpCode {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for CpCode {
    fn default() -> Self {
        CpCode("123456".to_owned())
    }
}

/// The text is not the number of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a CP code has 1 to 20 digits")]
pub struct ParseCpCodeError;

impl TryFrom<String> for CpCode {
    type Error = ParseCpCodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = (1..=20).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(CpCode(text))
        } else {
            Err(ParseCpCodeError)
        }
    }
}

impl From<CpCode> for String {
    fn from(code: CpCode) -> String {
        code.0
    }
}

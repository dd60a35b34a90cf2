//! `[classworks]` of the configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use secrecy::SecretString;
use serde::Deserialize;

/// Largest value unless configured otherwise, in bytes.
pub const VALUE_BYTES_DEFAULT: usize = 1024 * 1024;

/// Largest batch unless configured otherwise, in bytes.
pub const BATCH_BYTES_DEFAULT: usize = 8 * 1024 * 1024;

/// `[classworks]`: who may use the dialect, from where, and how much.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the dialect is mounted. At the root of the shared port it also serves every path whose
    /// first segment looks like a UUID, unless `root` is off.
    pub prefix: String,
    /// Serve paths that begin with a UUID, and `GET /check`, at the root of the shared port.
    pub root: bool,
    /// Which namespaces there are: `any` name, or only those that look like a UUID.
    pub namespaces: Namespaces,
    /// The key that every request has to show in `X-Site-Key`. Empty means none, too.
    pub site_key: Option<SecretString>,
    /// A further port that serves this dialect and nothing else, as the original did. The binary
    /// listens there, at the address of its first listener.
    pub port: Option<u16>,
    /// Serve other addresses than loopback to everybody although there is no site key. Without this
    /// and without a site key, such requests need a Kvasir token for the namespace.
    pub serve_openly: bool,
    /// Limit how often one client may ask about one namespace: `auto` means on, except over
    /// loopback.
    pub rate_limit: RateLimit,
    /// Requests per minute that read.
    pub reads_per_minute: u32,
    /// Requests per minute that write.
    pub writes_per_minute: u32,
    /// Proxies whose `X-Forwarded-For` is believed for the address that is noted with what is
    /// written, beside those that the listener trusts. Limits believe only the latter, or any
    /// program on this machine could get around them.
    pub trusted_proxies: Vec<IpAddr>,
    /// Largest value, in bytes. Above it the answer is 413. The store's own limit holds as well.
    pub value_bytes_max: usize,
    /// Largest body of `_batchimport`, in bytes. Above it the answer is 413.
    pub batch_bytes_max: usize,
    /// Longest a request may take, its body included, in seconds. Then the answer is 408.
    pub timeout_seconds: u32,
    /// Origins whose pages may use the dialect from a browser; `*` for all.
    pub cors_origins: Vec<String>,
    /// Answer `GET /:namespace` with `Accept: text/event-stream` by a stream of changes.
    pub changes: bool,
    /// Let namespaces have a second name under which they can only be read.
    pub read_only_links: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            prefix: "/classworks".to_owned(),
            root: true,
            namespaces: Namespaces::Any,
            site_key: None,
            port: None,
            serve_openly: false,
            rate_limit: RateLimit::Auto,
            reads_per_minute: 600,
            writes_per_minute: 300,
            trusted_proxies: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            value_bytes_max: VALUE_BYTES_DEFAULT,
            batch_bytes_max: BATCH_BYTES_DEFAULT,
            timeout_seconds: 30,
            cors_origins: vec!["*".to_owned()],
            changes: false,
            read_only_links: false,
        }
    }
}

/// See [`Settings::namespaces`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespaces {
    /// Any name.
    #[default]
    Any,
    /// 8-4-4-4-12 hexadecimal digits.
    Uuid,
}

/// See [`Settings::rate_limit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateLimit {
    /// On, except for requests over loopback.
    #[default]
    Auto,
    /// On.
    #[serde(alias = "true")]
    On,
    /// Off.
    #[serde(alias = "false")]
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_defaults_and_refuse_unknown_names() {
        let read = |json: &str| serde_json::from_str::<Settings>(json);
        assert_eq!(read("{}").unwrap().prefix, "/classworks");
        for (text, meant) in [
            ("on", RateLimit::On),
            ("off", RateLimit::Off),
            ("false", RateLimit::Off),
            ("auto", RateLimit::Auto),
        ] {
            let settings = read(&format!(r#"{{"rate_limit":"{text}"}}"#)).unwrap();
            assert_eq!(settings.rate_limit, meant);
        }
        assert!(read(r#"{"rate_limit":"much"}"#).is_err());
        assert!(read(r#"{"sitekey":"x"}"#).is_err());
    }

    #[test]
    fn the_site_key_is_not_shown() {
        let settings = Settings {
            site_key: Some("geheim".into()),
            ..Settings::default()
        };
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}

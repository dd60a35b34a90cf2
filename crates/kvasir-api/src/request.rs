//! What is known about a request before its dialect sees it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri, header};
use kvasir_auth::Approach;

use crate::error::ApiError;

/// Facts about a request, in its extensions. The listener makes them, the site completes them.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// Names the request in answers and logs.
    pub id: RequestId,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The address of this end.
    pub local: SocketAddr,
    /// The client's address: the peer, or what trusted proxies say.
    pub client: IpAddr,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// When the head of the request was complete. For latencies only, never for data.
    pub received: Instant,
    /// The target as the client sent it, before any mount prefix is looked at.
    pub uri: Uri,
    /// The method as the client sent it.
    pub method: http::Method,
    /// The `Host` header or the authority of an HTTP/2 request; empty if there is none.
    pub host: Arc<str>,
}

/// Routes are only asked by the site, which tells them about the request.
#[derive(Debug, thiserror::Error)]
#[error("the request did not come through a site")]
struct NotThroughSite;

impl RequestInfo {
    /// What the site knows about a request that it gave to a route.
    ///
    /// # Errors
    ///
    /// 500 for requests that did not come through a site.
    pub fn of(parts: &Parts) -> Result<RequestInfo, ApiError> {
        let info = parts.extensions.get().cloned();
        info.ok_or_else(|| ApiError::internal(NotThroughSite))
    }

    /// Whether the address that was connected to is a loopback one, and the client is on this machine
    /// too: a reverse proxy here may speak for clients anywhere.
    pub fn on_loopback(&self) -> bool {
        let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
        is_loopback(self.local.ip()) && is_loopback(self.client)
    }

    /// How the request came in, as far as serving it without a credential depends on it.
    pub fn approach(&self, headers: &HeaderMap) -> Approach {
        if !self.method.is_safe() && self.is_from_elsewhere(headers) {
            Approach::ForeignOrigin
        } else if !self.on_loopback() {
            Approach::Public
        } else if !is_loopback_name(host_name(&self.host)) {
            Approach::ForeignHost
        } else {
            Approach::Loopback
        }
    }

    /// Whether a web page of another origin sent the request. Programs other than browsers send
    /// neither header.
    fn is_from_elsewhere(&self, headers: &HeaderMap) -> bool {
        if let Some(origin) = headers.get(header::ORIGIN) {
            // `null`, from sandboxed pages and files, is nobody's own origin.
            let scheme = if self.is_tls { "https://" } else { "http://" };
            let name = origin.to_str().ok().and_then(|o| o.strip_prefix(scheme));
            return !name.is_some_and(|name| name.eq_ignore_ascii_case(&self.host));
        }
        let site = headers.get("sec-fetch-site");
        site.is_some_and(|site| site == "cross-site" || site == "same-site")
    }
}

/// The host without its port.
pub(crate) fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether a name can only mean this machine: `localhost` and names below it (RFC 6761), loopback
/// addresses, and nothing at all, as from HTTP/1.0 programs.
fn is_loopback_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_localhost = |name: &str| name.eq_ignore_ascii_case("localhost");
    name.is_empty()
        || is_localhost(name)
        || name
            .rsplit_once('.')
            .is_some_and(|(_, last)| is_localhost(last))
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

/// A random id, shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The id as the value of a header.
    pub fn header(self) -> HeaderValue {
        let mut digits = [0; 16];
        data_encoding::HEXLOWER.encode_mut(&self.0.to_be_bytes(), &mut digits);
        HeaderValue::from_bytes(&digits).expect("hexadecimal digits are a header value")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The client that trusted proxies name in `X-Forwarded-For`: the nearest hop that is not itself a
/// trusted proxy. A hop that is no address ends the search, since whatever stands further away was
/// not written by a trusted proxy.
pub fn forwarded_client(
    headers: &HeaderMap,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut hops = headers
        .get_all("x-forwarded-for")
        .iter()
        .rev()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.rsplit(','))
        .map_while(|hop| hop.trim().parse::<IpAddr>().ok())
        .map(|hop| hop.to_canonical());
    hops.find(|hop| !is_trusted(*hop))
}

/// The bearer token of an `Authorization` header; the scheme in any case.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback_names() {
        for good in [
            "",
            "localhost",
            "LOCALHOST:8000",
            "localhost.:8000",
            "app.localhost",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]:8000",
            "[::1]",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(is_loopback_name(host_name(good)), "{good}");
        }
        for bad in [
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "notlocalhost",
            "192.168.0.1:8000",
            "0.0.0.0",
            "[::]:8000",
            "[2001:db8::1]",
            "2130706433",
        ] {
            assert!(!is_loopback_name(host_name(bad)), "{bad}");
        }
    }
}

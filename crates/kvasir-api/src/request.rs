//! What is known about a request before its dialect sees it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Uri, header};

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

impl RequestInfo {
    /// Whether the address that was connected to is a loopback one.
    pub fn on_loopback(&self) -> bool {
        self.local.ip().to_canonical().is_loopback()
    }
}

/// A random id, shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

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

/// The bearer token of an `Authorization` header; the scheme in any case.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

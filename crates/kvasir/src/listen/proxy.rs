//! What trusted reverse proxies say about the client in front of them.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use kvasir_api::RequestInfo;
use kvasir_api::request::forwarded_client;

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Nobody else's are.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(pub Vec<IpAddr>);

impl TrustedProxies {
    /// Replaces the client's address and the scheme by what a trusted proxy says.
    pub(super) fn apply(&self, headers: &HeaderMap, info: &mut RequestInfo) {
        if self.0.is_empty() || !self.contains(info.peer.ip()) {
            return;
        }
        if let Some(client) = forwarded_client(headers, |hop| self.contains(hop)) {
            info.client = client;
        }
        if let Some(scheme) = headers.get(FORWARDED_PROTO) {
            info.is_tls = scheme.as_bytes().eq_ignore_ascii_case(b"https");
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use kvasir_api::request::RequestId;

    use super::*;

    /// The client and whether it used TLS, for a request of `peer` with these headers.
    fn seen(peer: &str, headers: &[(&'static str, &'static str)]) -> (String, bool) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let peer: std::net::SocketAddr = peer.parse().unwrap();
        let mut info = RequestInfo {
            id: RequestId(1),
            peer,
            local: peer,
            client: peer.ip(),
            is_tls: false,
            received: Instant::now(),
            uri: http::Uri::from_static("/"),
            method: http::Method::GET,
            host: Arc::from(""),
        };
        TrustedProxies(vec!["192.0.2.1".parse().unwrap()]).apply(&map, &mut info);
        (info.client.to_string(), info.is_tls)
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let headers = [
            ("x-forwarded-for", "203.0.113.9, 198.51.100.7, 192.0.2.1"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(seen("192.0.2.1:1", &headers), ("198.51.100.7".into(), true));
        assert_eq!(seen("192.0.2.2:1", &headers), ("192.0.2.2".into(), false));
    }

    #[test]
    fn a_hop_that_is_no_address_ends_the_search() {
        let headers = [("x-forwarded-for", "198.51.100.7, unknown")];
        assert_eq!(seen("192.0.2.1:1", &headers), ("192.0.2.1".into(), false));
    }
}

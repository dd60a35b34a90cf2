//! Requests that this program sends to addresses from its settings.
//!
//! Such an address may not lead to this machine itself, to its link, or to a service that gives out
//! the machine's credentials, unless a setting allows it. Names are looked at after they were resolved,
//! for each connection, and redirects are not followed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Url, redirect};

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Longest silence of a peer.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Services of clouds that give out credentials, beside those with link-local addresses.
const METADATA: [IpAddr; 3] = [
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle Cloud.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // Amazon, over IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// A client for a target. Only with `allow_local` it reaches every address.
///
/// # Errors
///
/// If there is no memory or no certificates for it.
pub fn client(allow_local: bool) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_MAX)
        .read_timeout(SILENCE_MAX)
        .redirect(redirect::Policy::none())
        .no_proxy();
    match allow_local {
        true => builder.build(),
        false => builder.dns_resolver(Arc::new(Guarded)).build(),
    }
}

/// Refuses a URL whose host is an address that may not be reached. Names are looked at when they are
/// resolved.
///
/// # Errors
///
/// The sentence for the operator.
pub fn check(url: &Url, allow_local: bool) -> Result<(), Refused> {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(addr) if !allow_local && !may_be_reached(addr) => Err(Refused(addr)),
        _ => Ok(()),
    }
}

/// An address that may not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is an address of this machine, its link, or a service with credentials: \
     set allow_local = true if it is meant"
)]
pub struct Refused(IpAddr);

fn may_be_reached(addr: IpAddr) -> bool {
    let addr = addr.to_canonical();
    let is_local = match addr {
        IpAddr::V4(addr) => {
            addr.is_loopback()
                || addr.is_link_local()
                || addr.is_unspecified()
                || addr.is_broadcast()
                || addr.is_multicast()
                // 0.0.0.0/8 is "this network".
                || addr.octets()[0] == 0
        }
        IpAddr::V6(addr) => {
            addr.is_loopback()
                || addr.is_unspecified()
                || addr.is_multicast()
                || addr.is_unicast_link_local()
        }
    };
    !is_local && !METADATA.contains(&addr)
}

/// Resolves names as the system does, and refuses what they must not mean.
struct Guarded;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            // One bad address among good ones is a sign that somebody plays tricks.
            match found.iter().find(|addr| !may_be_reached(addr.ip())) {
                Some(bad) => Err(Refused(bad.ip()).into()),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_and_of_credentials_are_refused() {
        for (addr, may) in [
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("169.254.169.254", false),
            ("169.254.0.1", false),
            ("100.100.100.200", false),
            ("192.0.0.192", false),
            ("224.0.0.1", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("10.0.0.1", true),
            ("192.168.1.1", true),
            ("93.184.216.34", true),
            ("2606:2800:220:1::1", true),
        ] {
            assert_eq!(may_be_reached(addr.parse().unwrap()), may, "{addr}");
        }
    }

    #[test]
    fn addresses_in_urls_are_looked_at_in_every_spelling() {
        for (url, is_fine) in [
            ("http://127.0.0.1:9000/", false),
            ("http://2130706433/", false),
            ("http://0x7f.1/", false),
            ("http://[::1]/", false),
            ("http://[::ffff:a9fe:a9fe]/", false),
            ("https://s3.example.com/", true),
            ("http://10.1.2.3/", true),
        ] {
            let url: Url = url.parse().unwrap();
            assert_eq!(check(&url, false).is_ok(), is_fine, "{url}");
            assert_eq!(check(&url, true), Ok(()));
        }
    }

    #[tokio::test]
    async fn names_are_looked_at_after_they_were_resolved() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "http://localhost:{}/",
            listener.local_addr().unwrap().port()
        );
        let error = client(false).unwrap().get(&url).send().await.unwrap_err();
        let mut text = error.to_string();
        let mut source: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(error) = source {
            text += &error.to_string();
            source = error.source();
        }
        assert!(text.contains("allow_local"), "{text}");
    }
}

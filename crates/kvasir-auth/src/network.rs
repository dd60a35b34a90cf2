//! Networks from which a token may be used, written as addresses with a length (CIDR, RFC 4632).
//!
//! An IPv4 address that comes as IPv6 (`::ffff:192.0.2.7`) is the IPv4 address, in the text of a
//! network as on the wire. So `0.0.0.0/0` is all of IPv4, `::/0` all of IPv6, and neither holds the
//! other.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// Most networks of one token.
pub const SOURCES_MAX: usize = 32;

/// Longest text that is looked at: the longest address with its length is shorter.
const TEXT_CHARS_MAX: usize = 64;

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// Its lowest address.
    address: IpAddr,
    /// How many bits count: up to 32, or 128.
    bits: u8,
}

/// Why a text is no network. Says what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNetworkError {
    /// It has another form.
    #[error("write an address or a network such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32")]
    Form,
    /// The length is longer than an address.
    #[error("the length behind the slash is 0 to {0} for such an address")]
    Length(u8),
    /// The address has bits that do not count.
    #[error("the address goes on behind its length; the network is written {0}")]
    Beyond(Network),
}

impl Network {
    fn of(address: IpAddr, bits: u8) -> Network {
        let address = match address {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & mask32(bits)).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & mask128(bits)).into(),
        };
        Network { address, bits }
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && Network::of(address, self.bits).address == self.address
    }
}

fn mask32(bits: u8) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(bits.min(32)))
        .unwrap_or(0)
}

fn mask128(bits: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(bits.min(128)))
        .unwrap_or(0)
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > TEXT_CHARS_MAX {
            return Err(ParseNetworkError::Form);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ParseNetworkError::Form)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            Some(bits) => {
                let is_plain = bits == "0" || !bits.starts_with('0');
                let is_number = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
                if !is_plain || !is_number {
                    return Err(ParseNetworkError::Form);
                }
                let bits = bits.parse().ok().filter(|bits| *bits <= bits_max);
                bits.ok_or(ParseNetworkError::Length(bits_max))?
            }
        };
        let network = Network::of(address, bits);
        if network.address != address {
            return Err(ParseNetworkError::Beyond(network));
        }
        // An IPv4 network in IPv6's clothes. With a shorter length its address would go on behind it.
        Ok(match address.to_canonical() {
            v4 @ IpAddr::V4(_) if address.is_ipv6() => Network::of(v4, bits - 96),
            _ => network,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// From where something may be used: some networks, or anywhere if it names none. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Arc<[Network]>);

impl Sources {
    /// Whether it may be used from an address.
    pub fn admit(&self, address: IpAddr) -> bool {
        self.0.is_empty() || self.0.iter().any(|network| network.contains(address))
    }

    /// The networks; none for anywhere.
    pub fn networks(&self) -> &[Network] {
        &self.0
    }
}

impl FromIterator<Network> for Sources {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Sources(networks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, address: &str, is_inside: bool) {
        let parsed: Network = network.parse().unwrap();
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(
            parsed.contains(address),
            is_inside,
            "{address} in {network}"
        );
    }

    #[test]
    fn a_network_holds_its_first_and_last_address_and_not_their_neighbours() {
        for (network, inside, outside) in [
            (
                "10.0.0.0/8",
                ["10.0.0.0", "10.255.255.255"],
                ["9.255.255.255", "11.0.0.0"],
            ),
            (
                "192.0.2.128/25",
                ["192.0.2.128", "192.0.2.255"],
                ["192.0.2.127", "192.0.3.0"],
            ),
            (
                "192.0.2.7",
                ["192.0.2.7", "192.0.2.7"],
                ["192.0.2.6", "192.0.2.8"],
            ),
            (
                "192.0.2.7/32",
                ["192.0.2.7", "::ffff:192.0.2.7"],
                ["192.0.2.8", "::c000:207"],
            ),
            (
                "2001:db8::/32",
                ["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"],
                ["2001:db7:ffff::", "2001:db9::"],
            ),
            (
                "2001:db8::1/128",
                ["2001:db8::1", "2001:db8::1"],
                ["2001:db8::", "2001:db8::2"],
            ),
            (
                "2001:db8::1",
                ["2001:db8::1", "2001:db8::1"],
                ["2001:db8::", "::1"],
            ),
        ] {
            for address in inside {
                check(network, address, true);
            }
            for address in outside {
                check(network, address, false);
            }
        }
    }

    #[test]
    fn a_length_of_0_holds_all_addresses_of_its_kind() {
        for address in ["0.0.0.0", "255.255.255.255", "::ffff:10.1.2.3"] {
            check("0.0.0.0/0", address, true);
            check("::/0", address, false);
        }
        for address in [
            "::",
            "2001:db8::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            check("::/0", address, true);
            check("0.0.0.0/0", address, false);
        }
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        check("::ffff:10.0.0.0/104", "10.9.9.9", true);
        check("::ffff:10.0.0.0/104", "::ffff:10.9.9.9", true);
        check("::ffff:10.0.0.0/104", "11.0.0.0", false);
        check("::ffff:0.0.0.0/96", "203.0.113.9", true);
        check("10.0.0.0/8", "::ffff:10.9.9.9", true);
        let network: Network = "::ffff:10.0.0.0/104".parse().unwrap();
        assert_eq!(network.to_string(), "10.0.0.0/8");
    }

    #[test]
    fn other_text_is_refused_with_what_is_allowed() {
        for bad in [
            "",
            " ",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/8 ",
            " 10.0.0.0/8",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/-1",
            "10.0.0/8",
            "10.0.0.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0\\8",
            "localhost",
            "example.com/8",
            "fe80::1%eth0",
            "[::1]/128",
            "10.0.0.0/255.0.0.0",
            "*",
            "10.*",
            "10.0.0.0-10.0.0.9",
            "::ffff:10.0.0.0/8/8",
            "10.0.0.0/8\0",
        ] {
            assert_eq!(
                bad.parse::<Network>(),
                Err(ParseNetworkError::Form),
                "{bad:?}"
            );
        }
        for (bad, told) in [
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.0/999", "0 to 32"),
            ("2001:db8::/129", "0 to 128"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("0.0.0.1/0", "0.0.0.0/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
            // All of IPv4 and more, so no network of either.
            ("::ffff:0.0.0.0/95", "::fffe:0:0/95"),
        ] {
            let error = bad.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(told), "{bad}: {error}");
        }
        let long = format!("10.0.0.0/{}", "8".repeat(10_000));
        assert_eq!(long.parse::<Network>(), Err(ParseNetworkError::Form));
    }

    #[test]
    fn no_network_at_all_admits_everybody_and_several_admit_any_of_theirs() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(Sources::default().admit(at("203.0.113.9")));
        let sources = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap());
        let sources: Sources = sources.into_iter().collect();
        for (address, is_admitted) in [
            ("10.1.1.1", true),
            ("::ffff:10.1.1.1", true),
            ("2001:db8::9", true),
            ("11.0.0.0", false),
            ("::1", false),
        ] {
            assert_eq!(sources.admit(at(address)), is_admitted, "{address}");
        }
    }
}

//! Parses IP networks, and says which addresses are in them: whose word about a client's address is believed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// An IP network in CIDR notation; a bare address is a network of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network(IpNet);

impl Network {
    /// Whether `address` lies in it. An IPv4 address that a dual-stack socket shows as `::ffff:a.b.c.d` counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether `address` lies in one of `networks`.
    #[must_use]
    pub fn any_contains(networks: &[Self], address: IpAddr) -> bool {
        networks.iter().any(|network| network.contains(address))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not an IP network.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor a network.
    #[error("not a network; write it as \"10.0.0.0/8\" or \"2001:db8::/32\", or a bare address")]
    Form,
    /// The number after the slash.
    #[error("the number after the slash is at most {max}")]
    PrefixLen {
        /// 32 for IPv4, 128 for IPv6.
        max: u8,
    },
    /// Bits after the prefix are set: a typing error in the address or in the length.
    #[error("bits after the prefix are set; the network is {network}")]
    HostBits {
        /// What was probably meant.
        network: Network,
    },
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, len) = text
            .split_once('/')
            .map_or((text, None), |(address, len)| (address, Some(len)));
        let address = address.parse::<IpAddr>().map_err(|_| NetworkError::Form)?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match len {
            None => max,
            Some(len) if len.bytes().all(|b| b.is_ascii_digit()) && !len.is_empty() => {
                len.parse().map_err(|_| NetworkError::PrefixLen { max })?
            }
            Some(_) => return Err(NetworkError::Form),
        };
        let network = IpNet::new(address, prefix_len).map_err(|_| NetworkError::PrefixLen { max })?;
        if network.trunc() == network {
            Ok(Network(network))
        } else {
            let network = Network(network.trunc());
            Err(NetworkError::HostBits { network })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    #[test]
    fn a_network_contains_its_first_and_last_address_and_not_the_next() {
        let cases = [
            ("10.0.0.0/8", "10.0.0.0", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.128/25", "192.0.2.128", "192.0.2.255", "192.0.2.127"),
            (
                "2001:db8::/32",
                "2001:db8::",
                "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
                "2001:db9::",
            ),
            ("::1", "::1", "::1", "::2"),
        ];
        for (text, first, last, next) in cases {
            let network = network(text);
            assert!(network.contains(first.parse().unwrap()), "{text} {first}");
            assert!(network.contains(last.parse().unwrap()), "{text} {last}");
            assert!(!network.contains(next.parse().unwrap()), "{text} {next}");
        }
    }

    #[test]
    fn everything_is_one_family_and_mapped_addresses_count_as_ipv4() {
        assert!(network("0.0.0.0/0").contains("203.0.113.9".parse().unwrap()));
        assert!(network("0.0.0.0/0").contains("::ffff:203.0.113.9".parse().unwrap()));
        assert!(network("10.0.0.0/8").contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!network("0.0.0.0/0").contains("2001:db8::1".parse().unwrap()));
        assert!(!network("::/0").contains("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        let network = network("10.0.0.0/8");
        let cases = [
            ("", NetworkError::Form),
            ("localhost", NetworkError::Form),
            ("10.0.0.0/", NetworkError::Form),
            ("10.0.0.0/+8", NetworkError::Form),
            ("10.0.0/8", NetworkError::Form),
            ("10.0.0.0/33", NetworkError::PrefixLen { max: 32 }),
            ("::/129", NetworkError::PrefixLen { max: 128 }),
            ("::/999", NetworkError::PrefixLen { max: 128 }),
            ("10.0.0.1/8", NetworkError::HostBits { network }),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Network>(), Err(error), "{text:?}");
        }
    }
}

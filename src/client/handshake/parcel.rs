//! Packs a request for the way to its home shard.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Who sent a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Peer {
    /// The client's, as far as we know: its own, or what the PROXY protocol header says.
    pub(super) address: SocketAddr,
    /// Our own peer is among `trusted_proxies`: its word on certificates is believed.
    pub(super) is_trusted: bool,
}

/// A request with its sender and its deadline (since the start, by which all shards count), as it travels to the home shard.
pub(super) fn pack(peer: Peer, deadline: Duration, head: &[u8]) -> Vec<u8> {
    let address = match peer.address.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    [
        &address.octets()[..],
        &peer.address.port().to_be_bytes(),
        &[peer.is_trusted.into()],
        &deadline_ms.to_be_bytes(),
        head,
    ]
    .concat()
}

/// What [`pack`] has packed.
pub(super) fn unpack(bytes: &[u8]) -> Option<(Peer, Duration, &[u8])> {
    let (address, rest) = bytes.split_first_chunk::<16>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (is_trusted, rest) = rest.split_first()?;
    let (deadline_ms, head) = rest.split_first_chunk::<8>()?;
    let address = Ipv6Addr::from(*address).to_canonical();
    let peer = Peer {
        address: SocketAddr::new(address, u16::from_be_bytes(*port)),
        is_trusted: *is_trusted != 0,
    };
    let deadline = Duration::from_millis(u64::from_be_bytes(*deadline_ms));
    Some((peer, deadline, head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_arrives_as_it_was() {
        for (address, is_trusted) in [("10.1.2.3:4567", false), ("[2001:db8::7]:1", true)] {
            let address = address.parse().unwrap();
            let peer = Peer { address, is_trusted };
            let deadline = Duration::from_millis(9_876_543_210);
            let bytes = pack(peer, deadline, b"GET / HTTP/1.1\r\n\r\n");
            assert_eq!(unpack(&bytes), Some((peer, deadline, &b"GET / HTTP/1.1\r\n\r\n"[..])));
        }
    }
}

//! Packs a request for the way to its home shard.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use protocol::mapping::TlsFacts;
use protocol::record::{Fields, Writer};
use protocol::tls::Records;

/// Who sent a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Peer {
    /// The client's, as far as we know: its own, or what the PROXY protocol header says.
    pub(super) address: SocketAddr,
    /// Our own peer is among `trusted_proxies`: its word on certificates is believed.
    pub(super) is_trusted: bool,
    /// Its TLS, if it speaks any.
    pub(super) tls: Option<Box<TlsFacts>>,
}

/// A request with its sender, what TLS keeps of it, and its deadline (since the start, by which all shards count), as it travels to
/// the home shard.
pub(super) fn pack(peer: &Peer, records: Option<&Records>, deadline: Duration, head: &[u8]) -> Vec<u8> {
    let address = match peer.address.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    let mut bytes = [
        &address.octets()[..],
        &peer.address.port().to_be_bytes(),
        &deadline_ms.to_be_bytes(),
        &[peer.is_trusted.into(), peer.tls.is_some().into()],
    ]
    .concat();
    if let Some(tls) = &peer.tls {
        tls.write(&mut bytes);
    }
    let mut tls = Vec::new();
    if let Some(records) = records {
        records.write_record(&mut Writer::fields_only(&mut tls));
    }
    let len = u16::try_from(tls.len()).expect("no record in part travels");
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.append(&mut tls);
    bytes.extend_from_slice(head);
    bytes
}

/// What [`pack`] has packed.
pub(super) fn unpack(bytes: &[u8]) -> Option<(Peer, Option<Records>, Duration, &[u8])> {
    let (address, rest) = bytes.split_first_chunk::<16>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (deadline_ms, rest) = rest.split_first_chunk::<8>()?;
    let ([is_trusted, has_tls], mut head) = rest.split_first_chunk()?;
    let tls = match has_tls {
        0 => None,
        _ => Some(Box::new(TlsFacts::read(&mut head)?)),
    };
    let (len, rest) = head.split_first_chunk::<2>()?;
    let (records, head) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
    let records = match records {
        [] => None,
        fields => Some(Records::from_record(Fields::only(fields)).ok()?),
    };
    let address = Ipv6Addr::from(*address).to_canonical();
    let peer = Peer {
        address: SocketAddr::new(address, u16::from_be_bytes(*port)),
        is_trusted: *is_trusted != 0,
        tls,
    };
    let deadline = Duration::from_millis(u64::from_be_bytes(*deadline_ms));
    Some((peer, records, deadline, head))
}

#[cfg(test)]
mod tests {
    use protocol::mapping::tls_facts::ClientCertificate;

    use super::*;

    #[test]
    fn what_is_handed_over_arrives_as_it_was() {
        let tls = TlsFacts::new(b"TLSv1.3", None, ClientCertificate::Absent).map(Box::new);
        for (address, is_trusted, tls) in [("10.1.2.3:4567", false, None), ("[2001:db8::7]:1", true, tls)] {
            let address = address.parse().unwrap();
            let peer = Peer {
                address,
                is_trusted,
                tls,
            };
            let deadline = Duration::from_millis(9_876_543_210);
            let bytes = pack(&peer, None, deadline, b"GET / HTTP/1.1\r\n\r\n");
            let (arrived, records, until, head) = unpack(&bytes).unwrap();
            assert_eq!((arrived, until, head), (peer, deadline, &b"GET / HTTP/1.1\r\n\r\n"[..]));
            assert!(records.is_none());
        }
    }
}

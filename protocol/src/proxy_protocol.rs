//! Parses the PROXY protocol header that a load balancer puts before a connection (versions 1 and 2; HAProxy's
//! proxy-protocol.txt). It is read only where the config says that one comes.

use std::net::SocketAddr;

use ppp::{HeaderResult, PartialResult, v1, v2};

/// What a whole header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxyHeader {
    /// Its length in bytes; the connection's own begin there.
    pub len: usize,
    /// The client; `None` for the balancer's own connections (health checks) and for unknown families.
    pub source: Option<SocketAddr>,
}

/// The bytes are no PROXY protocol header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no PROXY protocol header")]
pub struct NoProxyHeader;

/// The longest header that is waited for, TLVs included.
pub const PROXY_HEADER_LEN_MAX: usize = 4096;

/// Reads the header at the start of `bytes`. `Ok(None)`: more bytes are needed.
///
/// # Errors
/// [`NoProxyHeader`]: nothing that follows would make it one, or it is longer than [`PROXY_HEADER_LEN_MAX`].
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, NoProxyHeader> {
    let bytes = bytes.get(..PROXY_HEADER_LEN_MAX).unwrap_or(bytes);
    // The library guesses at a version 1 line that is not complete; a line is short, so it is waited for.
    let is_line = bytes.iter().zip(V1_PREFIX).all(|(byte, expected)| byte == expected);
    let line_ended = bytes.len() >= V1_LEN_MAX || bytes.contains(&b'\n');
    if is_line && !line_ended {
        return Ok(None);
    }
    let result = HeaderResult::parse(bytes);
    if !is_line && result.is_incomplete() && bytes.len() < PROXY_HEADER_LEN_MAX {
        return Ok(None);
    }
    match result {
        HeaderResult::V1(Ok(header)) => {
            let source = match header.addresses {
                v1::Addresses::Tcp4(addresses) => Some((addresses.source_address, addresses.source_port).into()),
                v1::Addresses::Tcp6(addresses) => Some((addresses.source_address, addresses.source_port).into()),
                v1::Addresses::Unknown => None,
            };
            Ok(Some(ProxyHeader {
                len: header.header.len(),
                source,
            }))
        }
        HeaderResult::V2(Ok(header)) => {
            let local = header.command == v2::Command::Local;
            let source = match header.addresses {
                v2::Addresses::IPv4(addresses) if !local => {
                    Some((addresses.source_address, addresses.source_port).into())
                }
                v2::Addresses::IPv6(addresses) if !local => {
                    Some((addresses.source_address, addresses.source_port).into())
                }
                _ => None,
            };
            Ok(Some(ProxyHeader {
                len: header.len(),
                source,
            }))
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(NoProxyHeader),
    }
}

/// Whether a header of either version begins here, at its first six bytes.
#[must_use]
pub fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(V1_PREFIX) || bytes.starts_with(v2::PROTOCOL_PREFIX.split_at(V1_PREFIX.len()).0)
}

const V1_PREFIX: &[u8] = b"PROXY ";
/// With its line end (proxy-protocol.txt, 2.1).
const V1_LEN_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x0a\x01\x02\x03\x7f\x00\x00\x01\x11\xd7\x0f\xa0";

    #[test]
    fn a_header_is_read_in_any_pieces_and_what_follows_is_left() {
        let v1 = b"PROXY TCP6 2001:db8::7 2001:db8::1 4567 4000\r\n";
        let cases = [(V2, "10.1.2.3:4567"), (&v1[..], "[2001:db8::7]:4567")];
        for (header, source) in cases {
            for split in 0..header.len() {
                assert_eq!(parse(&header[..split]), Ok(None), "{split}");
            }
            let expected = ProxyHeader {
                len: header.len(),
                source: Some(source.parse().unwrap()),
            };
            assert_eq!(parse(&[header, b"GET /"].concat()), Ok(Some(expected)));
        }
    }

    #[test]
    fn a_balancers_own_connection_has_no_client() {
        let mut local = V2.to_vec();
        local[12] = 0x20;
        assert_eq!(
            parse(&local),
            Ok(Some(ProxyHeader {
                len: V2.len(),
                source: None
            }))
        );
        let unknown = b"PROXY UNKNOWN\r\n";
        assert_eq!(
            parse(unknown),
            Ok(Some(ProxyHeader {
                len: unknown.len(),
                source: None
            }))
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 1.2.3.4\r\n",
            b"\r\n\r\n\0\r\nQUIX\n",
        ] {
            assert_eq!(parse(bytes), Err(NoProxyHeader), "{}", bytes.escape_ascii());
        }
        let mut endless = V2.to_vec();
        endless[14] = 0xff;
        endless.resize(PROXY_HEADER_LEN_MAX + 1, 0);
        assert_eq!(parse(&endless), Err(NoProxyHeader));
    }
}

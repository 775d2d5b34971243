//! Parses the PROXY protocol header that a load balancer puts before a connection (versions 1 and 2; HAProxy's
//! proxy-protocol.txt). It is read only where the config says that one comes.

use std::net::SocketAddr;

use ppp::v2::{Type, TypeLengthValues};
use ppp::{HeaderResult, PartialResult, v1, v2};

use crate::mapping::tls_facts::{ClientCertificate, TlsFacts};

/// What a whole header says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxyHeader {
    /// Its length in bytes; the connection's own begin there.
    pub len: usize,
    /// The client; `None` for the balancer's own connections (health checks) and for unknown families.
    pub source: Option<SocketAddr>,
    /// The client's TLS, if it speaks TLS with the balancer and the balancer says so.
    pub tls: Option<Box<TlsFacts>>,
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
/// [`NoProxyHeader`]: nothing that follows would make it one, it is longer than [`PROXY_HEADER_LEN_MAX`], or what stands
/// behind its addresses has another form than the specification says, or two meanings.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, NoProxyHeader> {
    let bytes = bytes.get(..PROXY_HEADER_LEN_MAX).unwrap_or(bytes);
    // The library guesses at what is not complete. A version 1 line is short, so it is waited for; what begins as neither is refused.
    let may_begin = |prefix: &[u8]| bytes.iter().zip(prefix).all(|(byte, expected)| byte == expected);
    let is_line = may_begin(V1_PREFIX);
    if !is_line && !may_begin(v2::PROTOCOL_PREFIX) {
        return Err(NoProxyHeader);
    }
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
                tls: None,
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
            let tls = tls(header.tlvs()).ok_or(NoProxyHeader)?;
            Ok(Some(ProxyHeader {
                len: header.len(),
                source,
                tls: tls.filter(|_| !local).map(Box::new),
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

/// What the balancer says of the client's TLS, `Some(None)` if nothing (2.2.6). `None`: the values are not whole, or one that has
/// one meaning stands there twice.
fn tls(values: TypeLengthValues<'_>) -> Option<Option<TlsFacts>> {
    let mut facts = None;
    for value in values {
        let value = value.ok()?;
        if value.kind == Type::SSL as u8 && facts.replace(ssl(&value.value)?).is_some() {
            return None;
        }
    }
    Some(facts.flatten())
}

/// One `PP2_TYPE_SSL`, as [`tls`] is about all of them.
fn ssl(value: &[u8]) -> Option<Option<TlsFacts>> {
    let (client, rest) = value.split_first()?;
    let (verify, values) = rest.split_first_chunk::<4>()?;
    let (mut version, mut common_name, mut cipher) = (None, None, None);
    for value in TypeLengthValues::from(values) {
        let value = value.ok()?;
        let place = match value.kind {
            kind if kind == Type::SSLVersion as u8 => &mut version,
            kind if kind == Type::SSLCommonName as u8 => &mut common_name,
            kind if kind == Type::SSLCipher as u8 => &mut cipher,
            _ => continue,
        };
        if place.replace(value.value).is_some() {
            return None;
        }
    }
    if client & CLIENT_SSL == 0 {
        return Some(None);
    }
    // A balancer says zero, verified, of a client without a certificate, too.
    let certificate = if client & CLIENT_CERT == 0 {
        ClientCertificate::Absent
    } else if *verify != [0; 4] {
        ClientCertificate::Unverified
    } else {
        let common_name = common_name.filter(|name| !name.is_empty());
        ClientCertificate::Verified {
            common_name: common_name.map(|name| name.as_ref().into()),
        }
    };
    TlsFacts::new(&version?, cipher.as_deref(), certificate).map(Some)
}

/// `PP2_CLIENT_SSL`: the client speaks TLS with the balancer.
const CLIENT_SSL: u8 = 0x01;
/// `PP2_CLIENT_CERT_CONN` and `PP2_CLIENT_CERT_SESS`: it has shown a certificate on this connection, or on the one whose session
/// this one resumes.
const CLIENT_CERT: u8 = 0x02 | 0x04;
const V1_PREFIX: &[u8] = b"PROXY ";
/// With its line end (proxy-protocol.txt, 2.1).
const V1_LEN_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x0a\x01\x02\x03\x7f\x00\x00\x01\x11\xd7\x0f\xa0";

    #[test]
    fn what_begins_as_neither_version_is_refused_at_once_and_whatever_follows() {
        for bytes in [
            &b"P\rP"[..],
            b"P\r",
            b"\r\r",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"G",
            b"PROXY\n",
            b"P\rP\r\n\rpX\nQ\0\nY\0\xe5\0",
        ] {
            for rest in [&b""[..], b"\r\n", &[0; 40]] {
                let bytes = [bytes, rest].concat();
                assert_eq!(parse(&bytes), Err(NoProxyHeader), "{}", bytes.escape_ascii());
            }
        }
    }

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
                tls: None,
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
                source: None,
                tls: None,
            }))
        );
        let unknown = b"PROXY UNKNOWN\r\n";
        assert_eq!(
            parse(unknown),
            Ok(Some(ProxyHeader {
                len: unknown.len(),
                source: None,
                tls: None,
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

    fn value(kind: u8, content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[kind], &len[..], content].concat()
    }

    fn ssl_value(client: u8, verify: u32, values: &[Vec<u8>]) -> Vec<u8> {
        value(0x20, &[&[client], &verify.to_be_bytes()[..], &values.concat()].concat())
    }

    /// [`V2`] with these bytes behind its addresses.
    fn with(values: &[u8]) -> Vec<u8> {
        let mut header = V2.to_vec();
        let len = u16::try_from(12 + values.len()).unwrap().to_be_bytes();
        header[14..16].copy_from_slice(&len);
        [&header, values].concat()
    }

    fn told(values: &[u8]) -> Result<Option<TlsFacts>, NoProxyHeader> {
        let header = with(values);
        let read = parse(&header)?.expect("a whole header");
        assert_eq!(read.len, header.len());
        Ok(read.tls.map(|tls| *tls))
    }

    #[test]
    fn what_the_balancer_says_of_tls_is_read() {
        let (version, cipher) = (value(0x21, b"TLSv1.3"), value(0x23, b"TLS_AES_256_GCM_SHA384"));
        let cn = value(0x22, "Lades\u{e4}ule 1".as_bytes());
        let of = |certificate| TlsFacts::new(b"TLSv1.3", Some(b"TLS_AES_256_GCM_SHA384"), certificate);
        let verified = || ClientCertificate::Verified {
            common_name: Some("Lades\u{e4}ule 1".as_bytes().into()),
        };
        let all = [version.clone(), cn.clone(), cipher.clone()];
        // On this connection, and on the one before.
        for client in [0x07, 0x03, 0x05] {
            assert_eq!(told(&ssl_value(client, 0, &all)), Ok(of(verified())));
        }
        assert_eq!(told(&ssl_value(0x07, 18, &all)), Ok(of(ClientCertificate::Unverified)));
        assert_eq!(told(&ssl_value(0x01, 0, &all)), Ok(of(ClientCertificate::Absent)));
        // Without TLS there is none, whatever else is said.
        assert_eq!(told(&ssl_value(0x00, 0, &[])), Ok(None));
        assert_eq!(told(&ssl_value(0x06, 0, &all)), Ok(None));
        // What is not known here is passed over, inside and outside; the order is any.
        let unknown = value(0xee, b"\0");
        let mixed = [unknown.clone(), cipher, value(0x25, b"EC256"), cn, version.clone()];
        let around = [&unknown[..], &ssl_value(0x07, 0, &mixed), &value(0x04, b""), &unknown].concat();
        assert_eq!(told(&around), Ok(of(verified())));
        let nameless = TlsFacts::new(b"TLSv1.3", None, ClientCertificate::Verified { common_name: None });
        for cn in [vec![], value(0x22, b"")] {
            assert_eq!(told(&ssl_value(0x07, 0, &[version.clone(), cn])), Ok(nameless.clone()));
        }
        assert_eq!(told(&unknown), Ok(None));
    }

    #[test]
    fn a_balancers_own_connection_has_no_tls() {
        let mut local = with(&ssl_value(0x07, 0, &[value(0x21, b"TLSv1.3")]));
        assert!(parse(&local).unwrap().unwrap().tls.is_some());
        local[12] = 0x20;
        assert_eq!(parse(&local).unwrap().unwrap().tls, None);
    }

    #[test]
    fn words_on_tls_that_are_broken_or_have_two_meanings_are_refused() {
        let version = value(0x21, b"TLSv1.3");
        let one = ssl_value(0x01, 0, std::slice::from_ref(&version));
        assert!(told(&one).unwrap().is_some());
        let long = value(0x22, &b"n".repeat(256));
        for bad in [
            [&one[..], &one].concat(),
            ssl_value(0x01, 0, &[version.clone(), version.clone()]),
            ssl_value(0x07, 0, &[version.clone(), value(0x22, b"a"), value(0x22, b"b")]),
            ssl_value(0x01, 0, &[]),
            ssl_value(0x01, 0, &[value(0x21, b"TLSv1.3\r\nX-Client-Id: b")]),
            ssl_value(0x01, 0, &[version.clone(), value(0x23, b"")]),
            ssl_value(0x07, 0, &[version.clone(), long]),
            value(0x20, b""),
            value(0x20, b"\x01\0\0\0"),
            value(0x20, b"\0\0\0\0\0\x21\0\x02a"),
            b"\x04".to_vec(),
            b"\x04\0\x02a".to_vec(),
        ] {
            assert_eq!(told(&bad), Err(NoProxyHeader), "{}", bad.escape_ascii());
        }
    }
}

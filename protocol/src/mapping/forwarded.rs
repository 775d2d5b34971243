//! Decides what of a client's own request the backend is told, and what of it is believed.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV4};

use smallvec::{SmallVec, smallvec};

use super::identity::address_text;
use crate::http::RequestHead;
use crate::ocpp::ClientId;

/// Where a request comes from, as far as it is believed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hops {
    /// The client: the last hop that is no trusted proxy.
    pub client: IpAddr,
    /// The value of `X-Forwarded-For` for the backend: the client, and the proxies behind it up to our own peer.
    pub chain: String,
}

impl Hops {
    /// Reads `X-Forwarded-For` from its right end, beginning with `peer`: a hop is believed what it says of the one
    /// before it if `is_trusted` says so. What stands left of the client was written by the client, and goes nowhere. A
    /// hop that is no address ends the chain, and the proxy that named it is the client. Hops may have ports
    /// (`203.0.113.7:5678`, `[2001:db8::7]:80`); they are left off.
    #[must_use]
    pub fn read(head: &RequestHead<'_>, peer: IpAddr, is_trusted: impl Fn(IpAddr) -> bool) -> Self {
        let mut client = peer;
        let mut hops: SmallVec<[IpAddr; HOPS_INLINE]> = smallvec![peer];
        let lines: SmallVec<[&[u8]; HOPS_INLINE]> = head.headers("x-forwarded-for").collect();
        let said = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        for hop in said.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()) {
            if !is_trusted(client) || hops.len() == HOPS_MAX {
                break;
            }
            let Some(address) = address(hop) else { break };
            hops.push(address);
            client = address;
        }
        let mut chain = String::with_capacity(hops.len() * ADDRESS_LEN);
        for hop in hops.iter().rev() {
            if !chain.is_empty() {
                chain.push_str(", ");
            }
            chain.push_str(&address_text(*hop));
        }
        Self { client, chain }
    }
}

/// The client's own address in a chain that [`Hops::read`] has made.
#[must_use]
pub fn client_address(chain: &str) -> &str {
    chain.split(',').next().unwrap_or_default()
}

/// A hop's address, without its port.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?;
    let address = match hop.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
            address.parse::<Ipv6Addr>().ok().filter(|_| is_port)?.into()
        }
        None => match hop.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => hop.parse::<SocketAddrV4>().ok()?.ip().to_owned().into(),
        },
    };
    Some(address.to_canonical())
}

/// Why the headers that `/connect` would carry are refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PassingError {
    /// One that has one meaning stands there twice: 400.
    #[error("a header that may stand there once is repeated")]
    Repeated,
    /// More lines than [`PASSING_MAX`]: 431.
    #[error("too many headers of those that the backend is told")]
    TooMany,
}

impl PassingError {
    /// The status to answer with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Repeated => 400,
            Self::TooMany => 431,
        }
    }
}

/// The headers that `/connect` carries: those of `forward_headers`, of `trusted_headers` (empty unless a trusted proxy
/// sent the request), and the offered subprotocols. Ours are never among them: the config refuses their names.
///
/// # Errors
/// [`PassingError`]: nothing is left out in silence, and nothing passes with two readings.
pub fn passing_headers<'h>(
    head: &RequestHead<'h>,
    forward_headers: &'h [String],
    trusted_headers: &'h [String],
) -> Result<Vec<(&'h str, &'h str)>, PassingError> {
    let mut passing = Vec::new();
    let forwarded = forward_headers.iter().map(|name| (&**name, SINGLE.contains(&&**name)));
    let trusted = trusted_headers.iter().map(|name| (&**name, true));
    for (name, is_single) in forwarded.chain(trusted).chain([(OFFERED, false)]) {
        let mut values = head.headers(name).filter_map(|value| str::from_utf8(value).ok());
        let before = passing.len();
        passing.extend(values.by_ref().take(PASSING_MAX + 1).map(|value| (name, value)));
        if is_single && passing.len() > before + 1 {
            return Err(PassingError::Repeated);
        }
        if passing.len() > PASSING_MAX {
            return Err(PassingError::TooMany);
        }
    }
    Ok(passing)
}

/// Whether the user part of `Authorization: Basic`, if there is one, is the ClientId (RFC 7617; the id may contain
/// colons, so it is compared as a prefix).
#[must_use]
pub fn basic_user_fits(head: &RequestHead<'_>, client: &ClientId) -> bool {
    head.headers("authorization").all(|value| {
        let (scheme, credentials) = split_scheme(value);
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return true;
        }
        let Ok(decoded) = data_encoding::BASE64.decode(credentials) else {
            return false;
        };
        decoded
            .strip_prefix(client.as_str().as_bytes())
            .is_some_and(|rest| rest.first() == Some(&b':'))
    })
}

fn split_scheme(value: &[u8]) -> (&[u8], &[u8]) {
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    (scheme, rest.trim_ascii())
}

/// More proxies than stand in front of anybody: what is left of them is not read.
const HOPS_MAX: usize = 32;
const HOPS_INLINE: usize = 4;
const ADDRESS_LEN: usize = "255.255.255.255, ".len();
/// Header lines of the client that `/connect` carries, at most.
pub const PASSING_MAX: usize = 40;
/// Headers that have one value (RFC 9110, 10.1.5 and 11.6.2; RFC 6454, 7.3).
const SINGLE: [&str; 3] = ["authorization", "origin", "user-agent"];
/// The subprotocols that the client can speak.
const OFFERED: &str = "sec-websocket-protocol";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parse_request;

    fn fits(authorization: &str, client: &str) -> bool {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: {authorization}\r\n\r\n");
        let head = parse_request(head.as_bytes(), 8192).unwrap().unwrap();
        basic_user_fits(&head, &ClientId::parse(client).unwrap())
    }

    fn is_trusted(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address.is_loopback(),
        }
    }

    /// The chain for a request of `peer` with these lines.
    fn chain(peer: &str, lines: &[&[u8]]) -> String {
        let mut head = b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec();
        for line in lines {
            head.extend_from_slice(b"X-Forwarded-For: ");
            head.extend_from_slice(line);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let head = parse_request(&head, 8192).unwrap().unwrap();
        let hops = Hops::read(&head, peer.parse().unwrap(), is_trusted);
        assert_eq!(client_address(&hops.chain), address_text(hops.client));
        hops.chain
    }

    #[test]
    fn the_clients_address_is_the_last_that_no_trusted_proxy_has() {
        for (lines, expected) in [
            (&[][..], "10.0.0.1"),
            (&[&b"203.0.113.7"[..]], "203.0.113.7, 10.0.0.1"),
            (
                &[b"198.51.100.1, 203.0.113.7, 10.0.0.2"],
                "203.0.113.7, 10.0.0.2, 10.0.0.1",
            ),
            (&[b"10.0.0.3"], "10.0.0.3, 10.0.0.1"),
            (&[b"198.51.100.1", b"203.0.113.7"], "203.0.113.7, 10.0.0.1"),
            (&[b"203.0.113.7", b"::1"], "203.0.113.7, ::1, 10.0.0.1"),
            (&[b"203.0.113.7", b"", b" , "], "203.0.113.7, 10.0.0.1"),
            (&[b"203.0.113.7:5678"], "203.0.113.7, 10.0.0.1"),
            (&[b"[2001:db8::7]:80, 10.0.0.2:1"], "2001:db8::7, 10.0.0.2, 10.0.0.1"),
            (&[b"[2001:db8::7]"], "2001:db8::7, 10.0.0.1"),
            (&[b"::ffff:203.0.113.7"], "203.0.113.7, 10.0.0.1"),
        ] {
            assert_eq!(chain("10.0.0.1", lines), expected, "{lines:?}");
        }
        assert_eq!(chain("192.0.2.1", &[b"203.0.113.7"]), "192.0.2.1", "nobody is believed");
    }

    #[test]
    fn nothing_that_a_client_wrote_takes_the_place_of_its_address() {
        let long = [b"198.51.100.7, ".repeat(200), b"198.51.100.7".to_vec()].concat();
        let forged = [
            &long[..],
            b"\xff",
            b"unknown",
            b"<b>, 198.51.100.7, ",
            b"[198.51.100.7",
            b"1.2.3.4:99999",
        ];
        for forged in forged {
            let same_line = [forged, b", 203.0.113.9"].concat();
            for lines in [&[forged, b"203.0.113.9"][..], &[&same_line]] {
                assert_eq!(chain("10.0.0.1", lines), "203.0.113.9, 10.0.0.1", "{lines:?}");
            }
        }
        // What is no address is not shown: the proxy that named it is all that is known.
        assert_eq!(chain("10.0.0.1", &[b"<b>"]), "10.0.0.1");
    }

    #[test]
    fn headers_that_pass_are_neither_left_out_nor_doubled() {
        let of = |lines: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
            let head = parse_request(head.as_bytes(), 8192).unwrap().unwrap();
            let forward = ["authorization", "user-agent", "x-list"].map(str::to_owned);
            let trusted = ["x-ssl-client-cn".to_owned()];
            passing_headers(&head, &forward, &trusted).map(|passing| passing.len())
        };
        assert_eq!(of("Authorization: a\r\nX-SSL-Client-CN: b\r\nX-Other: c\r\n"), Ok(2));
        assert_eq!(of(&"X-List: a\r\n".repeat(PASSING_MAX)), Ok(PASSING_MAX));
        assert_eq!(of(&"X-List: a\r\n".repeat(PASSING_MAX + 1)), Err(PassingError::TooMany));
        for twice in ["Authorization", "User-Agent", "X-SSL-Client-CN"] {
            assert_eq!(of(&format!("{twice}: a\r\n").repeat(2)), Err(PassingError::Repeated));
        }
        assert_eq!(PassingError::Repeated.status(), 400);
        assert_eq!(PassingError::TooMany.status(), 431);
    }

    #[test]
    fn the_basic_user_is_the_client_id_colons_included() {
        let basic = |text: &str| format!("Basic {}", data_encoding::BASE64.encode(text.as_bytes()));
        assert!(fits(&basic("CP1:secret"), "CP1"));
        assert!(fits(&basic("urn:cp:1:secret:too"), "urn:cp:1"));
        assert!(fits(&basic("CP1:").replace("Basic", "bAsIc"), "CP1"));
        for wrong in ["CP2:secret", "CP1", "CP", "CP11:x", ":CP1", ""] {
            assert!(!fits(&basic(wrong), "CP1"), "{wrong}");
        }
        assert!(!fits("Basic not-base64", "CP1"));
        assert!(fits("Bearer abc", "CP1"), "another scheme is the backend's business");
    }
}

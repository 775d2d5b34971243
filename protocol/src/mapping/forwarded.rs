//! Decides what of a client's own request the backend is told, and what of it is believed.

use std::net::IpAddr;

use super::identity::address_text;
use crate::http::RequestHead;
use crate::ocpp::ClientId;

/// The value of `X-Forwarded-For` for the backend: the peer's address, after what the peer said if it is a trusted proxy.
#[must_use]
pub fn forwarded_for(head: &RequestHead<'_>, peer: IpAddr, is_trusted: bool) -> String {
    let mut chain = String::new();
    if is_trusted {
        for value in head
            .headers("x-forwarded-for")
            .filter_map(|value| str::from_utf8(value).ok())
        {
            if chain.len() + value.len() <= CHAIN_LEN_MAX {
                chain.push_str(value);
                chain.push_str(", ");
            }
        }
    }
    chain.push_str(&address_text(peer));
    chain
}

/// The client's own address in such a chain: the last one that is not a proxy that we trust, or else the first.
#[must_use]
pub fn client_address(chain: &str, is_trusted: impl Fn(IpAddr) -> bool) -> &str {
    let is_proxy = |hop: &&str| hop.parse().is_ok_and(&is_trusted);
    let hops = || chain.split(',').map(str::trim);
    hops()
        .rev()
        .find(|hop| !is_proxy(hop))
        .or_else(|| hops().next())
        .unwrap_or_default()
}

/// The headers that `/connect` carries: those of `forward_headers`, of `trusted_headers` (empty unless a trusted proxy or a
/// load balancer sent the request), and the offered subprotocols. Ours are never among them: the config refuses their names.
#[must_use]
pub fn passing_headers<'h>(
    head: &RequestHead<'h>,
    forward_headers: &'h [String],
    trusted_headers: &'h [String],
) -> Vec<(&'h str, &'h str)> {
    let names = forward_headers.iter().chain(trusted_headers).map(String::as_str);
    let mut passing = Vec::new();
    for name in names.chain([OFFERED]) {
        let values = head.headers(name).filter_map(|value| str::from_utf8(value).ok());
        passing.extend(values.map(|value| (name, value)));
    }
    passing.truncate(PASSING_MAX);
    passing
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
    (&value[..end], value[end..].trim_ascii())
}

/// Some dozens of hops; what is longer is not a chain of proxies.
const CHAIN_LEN_MAX: usize = 1024;
const PASSING_MAX: usize = 40;
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

    #[test]
    fn the_clients_address_is_the_last_that_no_trusted_proxy_has() {
        let trusted = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address.is_loopback(),
        };
        let cases = [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7, 10.0.0.1", "203.0.113.7"),
            ("198.51.100.1, 203.0.113.7, 10.0.0.2, 10.0.0.1", "203.0.113.7"),
            ("10.0.0.3, 10.0.0.1", "10.0.0.3"),
            ("unknown, ::1", "unknown"),
        ];
        for (chain, expected) in cases {
            assert_eq!(client_address(chain, trusted), expected, "{chain}");
        }
        assert_eq!(
            client_address("1.2.3.4, 10.0.0.1", |_| false),
            "10.0.0.1",
            "nobody is believed"
        );
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

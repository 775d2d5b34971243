//! Reads and writes the authority of a URL without a user: `host[:port]` (RFC 3986, 3.2).

use std::net::Ipv6Addr;

/// Why a text is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AuthorityError {
    /// The host is empty, too long, or has a character that no host has.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
}

/// The host, an IPv6 address without its brackets, and the port if one is named.
pub(super) fn split(authority: &str) -> Result<(&str, Option<u16>), AuthorityError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(AuthorityError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| AuthorityError::Host)?;
        (host, port)
    } else {
        let (host, port) = authority.find(':').map_or((authority, ""), |at| authority.split_at(at));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !(1..=HOST_LEN_MAX).contains(&host.len()) || !host.bytes().all(allowed) {
            return Err(AuthorityError::Host);
        }
        (host, port)
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = digits.parse().ok().filter(|port| *port > 0);
            Some(port.ok_or(AuthorityError::Port)?)
        }
        _ => return Err(AuthorityError::Port),
    };
    Ok((host, port))
}

/// `host:port`, with IPv6 in brackets.
pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// RFC 1035, 2.3.4.
pub(super) const HOST_LEN_MAX: usize = 253;

//! Holds the rules of a WebSocket's opening handshake, not its I/O (RFC 6455, 4.2).

use sha1::{Digest, Sha1};

use crate::http::{Framing, RequestHead};

/// A request that may become a WebSocket.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'b> {
    /// `Sec-WebSocket-Key`: 16 bytes in base64, as sent.
    pub key: &'b [u8],
}

/// Why a request does not become a WebSocket. The client's fault, never ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UpgradeRefusal {
    /// The method is not GET.
    #[error("method other than GET")]
    Method,
    /// The request is not HTTP/1.1.
    #[error("HTTP/1.0")]
    HttpVersion,
    /// A body, or the announcement of one.
    #[error("request with a body")]
    Body,
    /// No `Upgrade: websocket`.
    #[error("no Upgrade: websocket")]
    Upgrade,
    /// No `Connection: Upgrade`.
    #[error("no Connection: Upgrade")]
    Connection,
    /// `Sec-WebSocket-Version` is missing, repeated, or not 13.
    #[error("Sec-WebSocket-Version other than 13")]
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated, or not 16 bytes in base64.
    #[error("malformed Sec-WebSocket-Key")]
    Key,
}

impl UpgradeRefusal {
    /// The status to answer with: 400, 405 or 426.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            UpgradeRefusal::Method => 405,
            UpgradeRefusal::Version => 426,
            _ => 400,
        }
    }

    /// The headers that this status has to come with (RFC 9110, 15.5.6 and 15.5.22; RFC 6455, 4.4).
    #[must_use]
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            UpgradeRefusal::Method => &[("Allow", "GET")],
            UpgradeRefusal::Version => &[
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
            ],
            _ => &[],
        }
    }
}

/// What a handshake may lack. Nothing else could be meant by what is tolerated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tolerance {
    /// `Connection: Upgrade`, beside `Upgrade: websocket` and a key.
    pub no_connection_header: bool,
    /// A `Sec-WebSocket-Key` of 16 bytes in base64: any one to 128 visible characters are answered.
    pub any_key: bool,
}

/// Checks a client's opening handshake (RFC 6455, 4.2.1). That there is exactly one `Host` was checked with the head.
///
/// # Errors
/// [`UpgradeRefusal`]; the backend is not asked.
pub fn check_upgrade<'b>(head: &RequestHead<'b>, tolerance: Tolerance) -> Result<Upgrade<'b>, UpgradeRefusal> {
    if head.method != "GET" {
        return Err(UpgradeRefusal::Method);
    }
    if !head.http11 {
        return Err(UpgradeRefusal::HttpVersion);
    }
    // A body would be read as frames, or frames as a body, by somebody on the way.
    if head.framing != Framing::Length(0) {
        return Err(UpgradeRefusal::Body);
    }
    if !head.has_token("upgrade", "websocket") {
        return Err(UpgradeRefusal::Upgrade);
    }
    let is_tolerated = tolerance.no_connection_header && head.header("connection").is_none();
    if !head.has_token("connection", "upgrade") && !is_tolerated {
        return Err(UpgradeRefusal::Connection);
    }
    let mut versions = head.headers("sec-websocket-version");
    if versions.next() != Some(b"13") || versions.next().is_some() {
        return Err(UpgradeRefusal::Version);
    }
    let mut keys = head.headers("sec-websocket-key");
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) || tolerance.any_key && is_answerable(key) => Ok(Upgrade { key }),
        _ => Err(UpgradeRefusal::Key),
    }
}

/// `Sec-WebSocket-Accept` for `key` (RFC 6455, 4.2.2, 5.4): 28 characters of base64.
#[must_use]
pub fn accept_key(key: &[u8]) -> [u8; ACCEPT_LEN] {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let mut accept = [0; ACCEPT_LEN];
    data_encoding::BASE64.encode_mut(&digest, &mut accept);
    accept
}

/// Whether `key` decodes to 16 bytes. The four bits that the last digit has too many may be anything: there are clients
/// that draw their key as random characters, and nobody decodes it.
fn is_key(key: &[u8]) -> bool {
    match key.strip_suffix(b"==") {
        Some(digits) => {
            digits.len() == KEY_DIGITS
                && digits
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte))
        }
        None => false,
    }
}

/// Whether `Sec-WebSocket-Accept` can be made of it without doubt about what it is.
fn is_answerable(key: &[u8]) -> bool {
    (1..=KEY_LEN_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic)
}

const KEY_LEN_MAX: usize = 128;
const KEY_DIGITS: usize = 22;
const ACCEPT_LEN: usize = 28;
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{parse_request, write_response, write_switching_protocols};

    const GOOD: &str = "GET /CP1 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn check(request: &str) -> Result<Vec<u8>, UpgradeRefusal> {
        let head = parse_request(request.as_bytes(), 8192)
            .expect("a proper head")
            .expect("a complete head");
        check_upgrade(&head, Tolerance::default()).map(|upgrade| upgrade.key.to_vec())
    }

    #[test]
    fn the_sample_of_the_rfc_is_answered_as_there() {
        let key = check(GOOD).unwrap();
        assert_eq!(&accept_key(&key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut out = Vec::new();
        write_switching_protocols(&mut out, &key, Some("ocpp1.6"), None);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n";
        assert_eq!(str::from_utf8(&out), Ok(expected));
        out.clear();
        write_switching_protocols(&mut out, &key, None, Some("permessage-deflate"));
        let answer = String::from_utf8(out).unwrap();
        assert!(!answer.contains("Sec-WebSocket-Protocol"), "{answer}");
        assert!(
            answer.ends_with("\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            "{answer}"
        );
    }

    #[test]
    fn harmless_variants_are_accepted() {
        for (from, to) in [
            ("Upgrade: websocket", "upgrade: WebSocket"),
            ("Upgrade: websocket", "Upgrade: h2c, websocket"),
            ("Connection: Upgrade", "Connection: keep-alive, upgrade"),
            ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: UPGRADE"),
            ("Host: h", "Host: h\r\nContent-Length: 0"),
            ("ub25jZQ==", "ub25jZ/=="),
            ("ub25jZQ==", "ub25jZ+=="),
        ] {
            assert!(check(&GOOD.replacen(from, to, 1)).is_ok(), "{to}");
        }
    }

    #[test]
    fn a_handshake_that_breaks_a_rule_is_refused() {
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        let version = "Sec-WebSocket-Version: 13";
        for (from, to, refusal) in [
            ("GET", "POST", UpgradeRefusal::Method),
            ("GET", "get", UpgradeRefusal::Method),
            ("GET", "HEAD", UpgradeRefusal::Method),
            ("HTTP/1.1", "HTTP/1.0", UpgradeRefusal::HttpVersion),
            ("Host: h", "Host: h\r\nContent-Length: 1", UpgradeRefusal::Body),
            ("Host: h", "Host: h\r\nTransfer-Encoding: chunked", UpgradeRefusal::Body),
            ("Upgrade: websocket\r\n", "", UpgradeRefusal::Upgrade),
            ("Upgrade: websocket", "Upgrade: websockets", UpgradeRefusal::Upgrade),
            ("Upgrade: websocket", "Upgrade: websocket/13", UpgradeRefusal::Upgrade),
            (
                "Connection: Upgrade",
                "Connection: keep-alive",
                UpgradeRefusal::Connection,
            ),
            ("Connection: Upgrade\r\n", "", UpgradeRefusal::Connection),
            (key, "X: y", UpgradeRefusal::Key),
            (key, &format!("{key}\r\n{key}"), UpgradeRefusal::Key),
            ("ub25jZQ==", "", UpgradeRefusal::Key),
            ("ub25jZQ==", "ub25jZQ=", UpgradeRefusal::Key),
            ("ub25jZQ==", "ub25jZQQ==", UpgradeRefusal::Key),
            ("ub25jZQ==", "ub25jZ==", UpgradeRefusal::Key),
            ("ub25jZQ==", "ub25jZQQQ", UpgradeRefusal::Key),
            ("ub25jZQ==", "ub25jZ-==", UpgradeRefusal::Key),
            (version, "X: y", UpgradeRefusal::Version),
            (version, "Sec-WebSocket-Version: 8", UpgradeRefusal::Version),
            (version, "Sec-WebSocket-Version: 013", UpgradeRefusal::Version),
            (version, "Sec-WebSocket-Version: 13, 8", UpgradeRefusal::Version),
            (version, &format!("{version}\r\n{version}"), UpgradeRefusal::Version),
        ] {
            let request = GOOD.replacen(from, to, 1);
            assert_ne!(request, GOOD);
            assert_eq!(check(&request), Err(refusal), "{to}");
        }
    }

    #[test]
    fn a_refusal_names_what_would_be_right() {
        for (refusal, status, line) in [
            (UpgradeRefusal::Method, "405 Method Not Allowed", "Allow: GET"),
            (
                UpgradeRefusal::Version,
                "426 Upgrade Required",
                "Sec-WebSocket-Version: 13",
            ),
            (UpgradeRefusal::Key, "400 Bad Request", "Content-Length: 0"),
        ] {
            let mut out = Vec::new();
            write_response(&mut out, refusal.status(), refusal.headers(), b"", false);
            let out = String::from_utf8(out).unwrap();
            assert!(out.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{out}");
            assert!(out.contains(&format!("\r\n{line}\r\n")), "{out}");
            assert!(
                out.contains("\r\nConnection: close\r\n") && out.ends_with("\r\n\r\n"),
                "{out}"
            );
        }
    }
}

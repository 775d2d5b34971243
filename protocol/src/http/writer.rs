//! Writes our messages: each is appended whole to a buffer, without `format!`.
//!
//! What goes into a head is asserted to be safe, because a CR or LF in a value would let whoever chose the value write
//! headers and whole messages of their own.

use super::head::{is_target_byte, is_token_byte, is_value_byte};
use super::vocabulary::reason;
use crate::websocket::accept_key;

/// The constant parts of the POSTs to one backend route, put together once at start.
#[derive(Clone, Debug)]
pub struct RequestTemplate {
    /// `POST <prefix>`
    start: Box<[u8]>,
    /// From the end of the target to the value of `Content-Length`.
    middle: Box<[u8]>,
}

impl RequestTemplate {
    /// POSTs to `host` (the value of `Host`) at targets that begin with `prefix` (percent-encoded, `""` or begins with
    /// `/`). All of them have these `headers`.
    #[must_use]
    pub fn new(host: &str, prefix: &str, headers: &[(&str, &str)]) -> Self {
        assert!(
            (prefix.is_empty() || prefix.starts_with('/')) && is_target_safe(prefix),
            "the prefix is a path"
        );
        assert!(is_header_value_safe(host.as_bytes()), "the host is a header value");
        let lines = HeaderLines::new(headers);
        let start = [" HTTP/1.1\r\nHost: ", host, "\r\n", lines.as_str()].concat();
        let middle = [&start, CONTENT_TYPE_JSON, CONTENT_LENGTH].concat();
        RequestTemplate {
            start: ["POST ", prefix].concat().into_bytes().into(),
            middle: middle.into_bytes().into(),
        }
    }

    /// Appends a POST with a JSON `body`. `path` is what follows the prefix; `headers` come after `lines`.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        path: &[PathPart<'_>],
        lines: &HeaderLines,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        out.extend_from_slice(&self.start);
        for part in path {
            out.extend_from_slice(part.0.as_bytes());
        }
        out.extend_from_slice(&self.middle);
        push_number(out, body.len());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(lines.0.as_bytes());
        push_headers(out, headers);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
    }
}

/// A part of a request's target that may stand there as it is, percent-encoded where it has to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PathPart<'t>(&'t str);

impl<'t> PathPart<'t> {
    /// # Panics
    /// Where a byte would end the target, or the head's line.
    #[must_use]
    pub fn new(text: &'t str) -> Self {
        assert!(is_target_safe(text), "parts of a target are percent-encoded");
        Self(text)
    }

    /// As [`new`](Self::new), for what was encoded, or found to need no encoding, before.
    pub(crate) fn known(text: &'t str) -> Self {
        debug_assert!(is_target_safe(text), "parts of a target are percent-encoded");
        Self(text)
    }
}

/// Header lines that are checked and put together once, and written many times.
#[derive(Clone, Debug, Default)]
pub struct HeaderLines(Box<str>);

impl HeaderLines {
    /// The lines of `headers`, in their order.
    #[must_use]
    pub fn new(headers: &[(&str, &str)]) -> Self {
        let mut lines = Vec::with_capacity(headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum());
        push_headers(&mut lines, headers);
        Self(String::from_utf8(lines).expect("put together from texts").into())
    }

    /// These, and behind them the lines of `headers`.
    #[must_use]
    pub fn with(&self, headers: &[(&str, &str)]) -> Self {
        let more = Self::new(headers);
        Self([self.as_str(), more.as_str()].concat().into())
    }

    /// As they are written, each with its CRLF.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first value under exactly this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let lines = self.0.split_terminator('\n');
        lines
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.strip_suffix('\r'))
            .next()
    }
}

/// Appends a request. `path` is the target, percent-encoded, in pieces. A `body` is JSON and has its length announced,
/// also an empty one; `None` is for GET and DELETE.
pub fn write_request(
    out: &mut Vec<u8>,
    method: &str,
    path: &[&str],
    host: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) {
    assert!(
        !method.is_empty() && method.bytes().all(is_token_byte),
        "the method is a token"
    );
    assert!(
        path.first().is_some_and(|first| first.starts_with('/')),
        "the target is in origin-form"
    );
    assert!(is_header_value_safe(host.as_bytes()), "the host is a header value");
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    for part in path {
        out.extend_from_slice(PathPart::new(part).0.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(body) = body {
        out.extend_from_slice(CONTENT_TYPE_JSON.as_bytes());
        out.extend_from_slice(CONTENT_LENGTH.as_bytes());
        push_number(out, body.len());
        out.extend_from_slice(b"\r\n");
    }
    push_headers(out, headers);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body.unwrap_or_default());
}

/// Appends a final response. A `body` is JSON unless `headers` has its own `Content-Type`. `keep_alive` false adds
/// `Connection: close`; the caller then closes.
pub fn write_response(out: &mut Vec<u8>, status: u16, headers: &[(&str, &str)], body: &[u8], keep_alive: bool) {
    write_response_head(out, status, headers, body.len(), keep_alive);
    out.extend_from_slice(body);
}

/// Appends the head of a response whose body comes in chunks, as long as it lasts: the connection's end is its end, too.
pub fn write_chunked_head(out: &mut Vec<u8>, status: u16, headers: &[(&str, &str)]) {
    assert!((200..=999).contains(&status), "a final status");
    push_status_line(out, status);
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\nConnection: close\r\n");
    push_headers(out, headers);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of the final response whose body is `body_len` bytes long: all of the answer to a HEAD (RFC 9110, 9.3.2).
pub fn write_response_head(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[(&str, &str)],
    body_len: usize,
    keep_alive: bool,
) {
    assert!((200..=999).contains(&status), "a final status");
    // RFC 9110, 8.6 and 6.4.1.
    let bodiless = matches!(status, 204 | 304);
    assert!(!bodiless || body_len == 0, "this status has no body");
    push_status_line(out, status);
    if body_len > 0
        && !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        out.extend_from_slice(CONTENT_TYPE_JSON.as_bytes());
    }
    if !bodiless {
        out.extend_from_slice(CONTENT_LENGTH.as_bytes());
        push_number(out, body_len);
        out.extend_from_slice(b"\r\n");
    }
    if !keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    push_headers(out, headers);
    out.extend_from_slice(b"\r\n");
}

/// Appends `100 Continue` (RFC 9110, 10.1.1).
pub fn write_continue(out: &mut Vec<u8>) {
    push_status_line(out, 100);
    out.extend_from_slice(b"\r\n");
}

/// Appends the 101 that opens a WebSocket (RFC 6455, 4.2.2). `key` is the client's `Sec-WebSocket-Key`; the other two are what was
/// chosen of its offers.
pub fn write_switching_protocols(out: &mut Vec<u8>, key: &[u8], subprotocol: Option<&str>, extension: Option<&str>) {
    push_status_line(out, 101);
    out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    out.extend_from_slice(&accept_key(key));
    out.extend_from_slice(b"\r\n");
    if let Some(subprotocol) = subprotocol {
        push_headers(out, &[("Sec-WebSocket-Protocol", subprotocol)]);
    }
    if let Some(extension) = extension {
        push_headers(out, &[("Sec-WebSocket-Extensions", extension)]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether `value` may stand in a header line: no CR, LF, NUL or other control character but HTAB (RFC 9110, 5.5).
/// What [`parse_request`](super::parse_request) and [`parse_response`](super::parse_response) give always is.
#[must_use]
pub fn is_header_value_safe(value: &[u8]) -> bool {
    value.iter().all(|byte| is_value_byte(*byte))
}

fn is_target_safe(piece: &str) -> bool {
    piece.bytes().all(is_target_byte)
}

fn push_status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, usize::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn push_headers(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        assert!(
            !name.is_empty() && name.bytes().all(is_token_byte),
            "a header name is a token"
        );
        assert!(
            is_header_value_safe(value.as_bytes()),
            "a header value has no control character"
        );
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

const CONTENT_TYPE_JSON: &str = "Content-Type: application/json\r\n";
const CONTENT_LENGTH: &str = "Content-Length: ";

#[cfg(test)]
mod tests {
    use super::super::{Framing, parse_request, parse_response, whole_body};
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before ".to_vec();
        write(&mut out);
        String::from_utf8(out.split_off("before ".len())).unwrap()
    }

    #[test]
    fn a_request_is_one_that_we_would_read() {
        let headers = [("X-Client-Id", "CP%201"), ("X-Connection-Id", "7")];
        let general = written(|out| {
            write_request(
                out,
                "POST",
                &["/api", "/call/", "Boot"],
                "backend:5000",
                &headers,
                Some(b"{\"a\":1}"),
            );
        });
        assert_eq!(
            general,
            "POST /api/call/Boot HTTP/1.1\r\nHost: backend:5000\r\nContent-Type: application/json\r\n\
             Content-Length: 7\r\nX-Client-Id: CP%201\r\nX-Connection-Id: 7\r\n\r\n{\"a\":1}"
        );
        let template = RequestTemplate::new("backend:5000", "/api", &[]);
        assert_eq!(
            written(|out| {
                let lines = HeaderLines::new(&headers[..1]);
                template.write(
                    out,
                    &["/call/", "Boot"].map(PathPart::new),
                    &lines,
                    &headers[1..],
                    b"{\"a\":1}",
                );
            }),
            general
        );

        let head = parse_request(general.as_bytes(), 8192).unwrap().unwrap();
        assert_eq!(
            (head.method, head.target, head.framing),
            ("POST", "/api/call/Boot", Framing::Length(7))
        );
        assert_eq!(
            whole_body(head.framing, &general.as_bytes()[head.len..]),
            Some(&b"{\"a\":1}"[..])
        );

        let get = written(|out| write_request(out, "GET", &["/"], "h", &[], None));
        assert_eq!(get, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let empty = written(|out| write_request(out, "POST", &["/"], "h", &[], Some(b"")));
        assert!(empty.contains("Content-Length: 0\r\n"), "{empty}");
    }

    #[test]
    fn a_response_is_one_that_we_would_read() {
        for (status, headers, body, keep_alive, expected) in [
            (
                202,
                &[][..],
                "{}",
                true,
                "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            ),
            (
                404,
                &[],
                "",
                true,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            ),
            (204, &[], "", true, "HTTP/1.1 204 No Content\r\n\r\n"),
            (
                503,
                &[("Retry-After", "1")],
                "",
                false,
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: 1\r\n\r\n",
            ),
            (
                200,
                &[("content-type", "text/plain")],
                "a",
                true,
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-type: text/plain\r\n\r\na",
            ),
        ] {
            let out = written(|out| write_response(out, status, headers, body.as_bytes(), keep_alive));
            assert_eq!(out, expected);
            let head = parse_response(out.as_bytes(), 8192).unwrap().unwrap();
            assert_eq!((head.status, head.keep_alive), (status, keep_alive));
            assert_eq!(
                whole_body(head.framing, &out.as_bytes()[head.len..]),
                Some(body.as_bytes())
            );
        }
        assert_eq!(written(write_continue), "HTTP/1.1 100 Continue\r\n\r\n");
    }

    #[test]
    fn a_value_cannot_become_a_header_of_its_own() {
        for byte in 0..=u8::MAX {
            let safe = byte == b'\t' || (byte >= 0x20 && byte != 0x7F);
            assert_eq!(is_header_value_safe(&[b'a', byte, b'b']), safe, "{byte:#x}");
        }
        assert!(is_header_value_safe(b""));
    }

    #[test]
    #[should_panic(expected = "a header value has no control character")]
    fn an_injected_header_is_our_own_error() {
        write_response(&mut Vec::new(), 200, &[("A", "b\r\nSet-Cookie: c")], b"", true);
    }

    #[test]
    #[should_panic(expected = "parts of a target are percent-encoded")]
    fn an_injected_target_is_our_own_error() {
        write_request(&mut Vec::new(), "GET", &["/a", " HTTP/1.1\r\n"], "h", &[], None);
    }
}

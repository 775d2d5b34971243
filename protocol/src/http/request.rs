//! Parses the head of a request.

use std::mem::MaybeUninit;
use std::ops::Deref;

use super::framing::{Framing, declared_framing};
use super::head::{HeadError, head_len, is_host_byte, is_target_byte, is_token_byte, refusal};
use super::headers::{HEADERS_MAX, Headers};

/// A request's head (RFC 9112, 3). Derefs to its [`Headers`].
#[derive(Clone, Debug)]
pub struct RequestHead<'b> {
    /// A token, as sent: methods are case-sensitive (RFC 9110, 9.1).
    pub method: &'b str,
    /// In origin-form: begins with `/`, visible ASCII, no fragment (RFC 9112, 3.2.1). Of a target in absolute-form
    /// (3.2.2) the part behind the authority.
    pub target: &'b str,
    /// Of a target in absolute-form its host and port, which count more than `Host`.
    pub authority: Option<&'b str>,
    /// The value of `Host`.
    pub host: Option<&'b str>,
    /// HTTP/1.1; false is HTTP/1.0.
    pub http11: bool,
    /// How the body is delimited; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// HTTP/1.1 without `Connection: close` (RFC 9112, 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends a body (RFC 9110, 10.1.1).
    pub expect_continue: bool,
    /// Bytes of the head, its blank line included.
    pub len: usize,
    headers: Headers<'b>,
}

impl RequestHead<'_> {
    /// Whether the connection may carry another request. Not behind one with `Upgrade`, which is answered as if it had none:
    /// somebody on the way may take what follows for the other protocol.
    #[must_use]
    pub fn may_have_a_successor(&self) -> bool {
        self.keep_alive && self.header("upgrade").is_none()
    }
}

impl<'b> Deref for RequestHead<'b> {
    type Target = Headers<'b>;

    fn deref(&self) -> &Headers<'b> {
        &self.headers
    }
}

/// Reads the head at the start of `buf`. `Ok(None)`: no blank line yet, call again with more bytes.
///
/// `head_len_max` bounds the head in bytes ([`HEAD_LEN_MAX`](super::HEAD_LEN_MAX) at most): a head of that length is
/// read.
///
/// # Errors
/// [`HeadError`], as early as a byte shows that no head will come; [`HeadError::status`] has the answer.
pub fn parse_request(buf: &[u8], head_len_max: usize) -> Result<Option<RequestHead<'_>>, HeadError> {
    let Some(len) = whole_head_len(buf, head_len_max)? else {
        return Ok(None);
    };
    let head = buf.get(..len).unwrap_or(buf);

    let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let result = parsed.parse_with_uninit_headers(head, &mut lines);
    let parsed_len = result.map_err(|error| refusal(error, version_part(head)))?;
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(HeadError::StartLine);
    };
    // Two parsers that disagree on where a head ends are how requests are smuggled.
    if parsed_len != httparse::Status::Complete(len) {
        return Err(HeadError::StartLine);
    }
    let (authority, target) = origin_form(target)?;

    let http11 = minor == 1;
    let headers = Headers::new(head, parsed.headers);
    let host = check_host(&headers, http11)?;
    let framing = declared_framing(&headers, http11)?.unwrap_or(Framing::Length(0));
    check_method(method, framing)?;
    let keep_alive = http11 && !headers.has_token("connection", "close");
    let expect_continue = http11 && !framing.is_empty() && headers.has_token("expect", "100-continue");
    Ok(Some(RequestHead {
        method,
        target,
        authority,
        host,
        http11,
        framing,
        keep_alive,
        expect_continue,
        len,
        headers,
    }))
}

/// Whether [`parse_request`] has an answer for these bytes, be it an error: the caller need not wait for more.
#[must_use]
pub fn is_request_decided(buf: &[u8], head_len_max: usize) -> bool {
    !matches!(whole_head_len(buf, head_len_max), Ok(None))
}

fn whole_head_len(buf: &[u8], head_len_max: usize) -> Result<Option<usize>, HeadError> {
    match buf.first() {
        None => Ok(None),
        // Anything from a TLS hello to an empty line: not worth the wait for the end of a line.
        Some(byte) if !is_token_byte(*byte) => Err(HeadError::StartLine),
        Some(_) => head_len(buf, head_len_max),
    }
}

/// Where the version of a request line stands: after the second space.
fn version_part(head: &[u8]) -> &[u8] {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or(head);
    line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default()
}

/// What follows a CONNECT belongs to another protocol and server (RFC 9110, 9.3.6), and a TRACE has no content (9.3.8): two
/// servers would not agree on where the next request begins.
fn check_method(method: &str, framing: Framing) -> Result<(), HeadError> {
    match method {
        "CONNECT" => Err(HeadError::Method),
        "TRACE" if !framing.is_empty() => Err(HeadError::Method),
        _ => Ok(()),
    }
}

/// The target's authority, if it is a URL, and its path and query. An authority has to look like one; an empty path is `/`.
fn origin_form(target: &str) -> Result<(Option<&str>, &str), HeadError> {
    if let Some(at) = target.bytes().position(|byte| !is_target_byte(byte)) {
        return Err(HeadError::Target { at });
    }
    if target.starts_with('/') {
        return Ok((None, target));
    }
    let (scheme, rest) = target.split_once("://").ok_or(HeadError::Target { at: 0 })?;
    if !SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return Err(HeadError::Target { at: 0 });
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let at = target.len() - rest.len();
    // A user name in it is a disguise (RFC 9110, 4.2.4).
    if authority.is_empty() || !authority.bytes().all(is_host_byte) || path.starts_with('?') {
        return Err(HeadError::Target { at });
    }
    Ok((Some(authority), if path.is_empty() { "/" } else { path }))
}

/// In absolute-form, from clients that think they speak to a proxy.
const SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];

fn check_host<'b>(headers: &Headers<'b>, http11: bool) -> Result<Option<&'b str>, HeadError> {
    let mut hosts = headers.headers("host");
    let Some(host) = hosts.next() else {
        return if http11 { Err(HeadError::HostMissing) } else { Ok(None) };
    };
    if hosts.next().is_some() {
        return Err(HeadError::HostRepeated);
    }
    match str::from_utf8(host) {
        Ok(host) if host.bytes().all(is_host_byte) => Ok(Some(host)),
        _ => Err(HeadError::HostValue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 8192;

    fn parse(bytes: &[u8]) -> Result<Option<RequestHead<'_>>, HeadError> {
        parse_request(bytes, LIMIT)
    }

    fn accept(bytes: &str) -> RequestHead<'_> {
        parse(bytes.as_bytes())
            .unwrap_or_else(|error| panic!("{error}: {bytes:?}"))
            .expect("a complete head")
    }

    fn refuse(bytes: &[u8]) -> HeadError {
        match parse(bytes) {
            Err(error) => error,
            Ok(head) => panic!("accepted {}: {head:?}", bytes.escape_ascii()),
        }
    }

    /// A request with these lines beside `Host`.
    fn with(lines: &str) -> Vec<u8> {
        format!("POST /a HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes()
    }

    #[test]
    fn a_request_head_comes_out_as_sent() {
        let text = "POST /call/A%20b/1?x=y HTTP/1.1\r\nHost: h:1\r\nContent-Length: 7\r\nX: \t a b \r\n\r\n{\"a\":1}";
        let head = accept(text);
        assert_eq!(
            (head.method, head.target, head.http11),
            ("POST", "/call/A%20b/1?x=y", true)
        );
        assert_eq!(
            (head.framing, head.keep_alive, head.expect_continue),
            (Framing::Length(7), true, false)
        );
        assert_eq!(head.header("x"), Some(&b"a b"[..]));
        assert_eq!(&text[head.len..], "{\"a\":1}");
        let bare = accept("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(
            (bare.http11, bare.keep_alive, bare.framing),
            (false, false, Framing::Length(0))
        );
    }

    #[test]
    fn a_target_in_absolute_form_is_its_path() {
        for (target, expected) in [
            ("http://h/a/b?c", "/a/b?c"),
            ("ws://h:80/CP1", "/CP1"),
            ("WSS://[::1]:443//CP1", "//CP1"),
            ("https://h", "/"),
        ] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n");
            let head = accept(&text);
            assert_eq!((head.target, head.host), (expected, Some("other")));
            assert_eq!(head.authority, target.split('/').nth(2));
        }
    }

    #[test]
    fn framing_and_persistence_follow_the_headers() {
        let chunked = with("Transfer-Encoding: chunked\r\nExpect: 100-Continue\r\n");
        let chunked = parse(&chunked).unwrap().unwrap();
        assert_eq!(
            (chunked.framing, chunked.keep_alive, chunked.expect_continue),
            (Framing::Chunked, true, true)
        );
        for (lines, keep_alive) in [
            ("Connection: close\r\n", false),
            ("Connection: x, CLOSE\r\n", false),
            ("Connection: x\r\nconnection: close\r\n", false),
            ("Connection: keep-alive\r\n", true),
            ("Connection: closed\r\n", true),
            ("X: close\r\n", true),
        ] {
            let bytes = with(lines);
            let head = parse(&bytes).unwrap().unwrap();
            assert_eq!(
                (head.keep_alive, head.may_have_a_successor()),
                (keep_alive, keep_alive),
                "{lines}"
            );
        }
        for lines in ["Upgrade: h2c\r\n", "upgrade:\r\n"] {
            assert!(!parse(&with(lines)).unwrap().unwrap().may_have_a_successor(), "{lines}");
        }
        let waits = |bytes: &str| accept(bytes).expect_continue;
        assert!(
            !waits("GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n"),
            "nothing to wait for"
        );
        assert!(
            !waits("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"),
            "RFC 9110, 10.1.1"
        );
    }

    #[test]
    fn a_message_with_two_lengths_is_refused() {
        for (lines, error) in [
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                HeadError::LengthAndCoding,
            ),
            (
                "Transfer-Encoding: chunked\r\ncontent-length: 5\r\n",
                HeadError::LengthAndCoding,
            ),
            (
                "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
                HeadError::LengthAndCoding,
            ),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", HeadError::LengthRepeated),
            ("Content-Length: 5\r\nCONTENT-LENGTH: 6\r\n", HeadError::LengthRepeated),
            ("Content-Length:\r\n", HeadError::LengthValue),
            ("Content-Length: +5\r\n", HeadError::LengthValue),
            ("Content-Length: 5, 5\r\n", HeadError::LengthValue),
            ("Content-Length: 5 5\r\n", HeadError::LengthValue),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                HeadError::CodingRepeated,
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
                HeadError::CodingRepeated,
            ),
            ("Transfer-Encoding: gzip, chunked\r\n", HeadError::CodingUnknown),
            ("Transfer-Encoding: chunked, chunked\r\n", HeadError::CodingValue),
            ("Transfer-Encoding:\r\n", HeadError::CodingValue),
        ] {
            assert_eq!(refuse(&with(lines)), error, "{lines}");
        }
        let old = b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(refuse(old), HeadError::CodingVersion);
    }

    #[test]
    fn a_line_with_two_readings_is_refused() {
        for (lines, error) in [
            ("A: 1\r\n folded\r\n", HeadError::HeaderName),
            ("A: 1\r\n\tfolded\r\n", HeadError::HeaderName),
            (" A: 1\r\n", HeadError::HeaderName),
            ("A : 1\r\n", HeadError::HeaderName),
            ("A\t: 1\r\n", HeadError::HeaderName),
            ("A\r\n", HeadError::HeaderName),
            (": 1\r\n", HeadError::HeaderName),
            ("A B: 1\r\n", HeadError::HeaderName),
            ("A(: 1\r\n", HeadError::HeaderName),
            ("\u{e4}: 1\r\n", HeadError::HeaderName),
            ("A\0: 1\r\n", HeadError::HeaderName),
            ("A: 1\r2\r\n", HeadError::HeaderValue),
            ("A: 1\r\r\n", HeadError::HeaderValue),
            ("A: \0\r\n", HeadError::HeaderValue),
            ("A: 1\0\r\n", HeadError::HeaderValue),
            ("A: \x0b1\r\n", HeadError::HeaderValue),
            ("A: 1\x7f\r\n", HeadError::HeaderValue),
            ("A: 1\n", HeadError::LineEnd { at: 31 }),
            ("A: 1\nB: 2\r\n", HeadError::LineEnd { at: 31 }),
        ] {
            assert_eq!(refuse(&with(lines)), error, "{lines:?}");
        }
    }

    #[test]
    fn a_request_line_has_one_reading() {
        for (line, error) in [
            ("\r\nGET / HTTP/1.1", HeadError::StartLine),
            ("\nGET / HTTP/1.1", HeadError::StartLine),
            (" GET / HTTP/1.1", HeadError::StartLine),
            ("\x16\x03\x01\x02", HeadError::StartLine),
            ("GET", HeadError::StartLine),
            ("GET /", HeadError::StartLine),
            ("GET  / HTTP/1.1", HeadError::StartLine),
            ("GET /  HTTP/1.1", HeadError::StartLine),
            ("GET / HTTP/1.1 ", HeadError::StartLine),
            ("GET\t/ HTTP/1.1", HeadError::StartLine),
            ("GET / a HTTP/1.1", HeadError::StartLine),
            ("GET / http/1.1", HeadError::StartLine),
            ("GET / HTTP/1.10", HeadError::StartLine),
            ("GET / HTTP/11", HeadError::StartLine),
            ("GET / HTTP/x.1", HeadError::StartLine),
            ("GET / \rHTTP/1.1", HeadError::StartLine),
            ("GE(T / HTTP/1.1", HeadError::StartLine),
            ("GET / HTTP/1.2", HeadError::Version { major: 1, minor: 2 }),
            ("GET / HTTP/0.9", HeadError::Version { major: 0, minor: 9 }),
            ("PRI * HTTP/2.0", HeadError::Version { major: 2, minor: 0 }),
            ("OPTIONS * HTTP/1.1", HeadError::Target { at: 0 }),
            ("GET ftp://h/ HTTP/1.1", HeadError::Target { at: 0 }),
            ("GET http:///a HTTP/1.1", HeadError::Target { at: 7 }),
            ("GET http://u@h/a HTTP/1.1", HeadError::Target { at: 7 }),
            ("GET http://h?a HTTP/1.1", HeadError::Target { at: 7 }),
            ("GET http:/a HTTP/1.1", HeadError::Target { at: 0 }),
            ("CONNECT h:80 HTTP/1.1", HeadError::Target { at: 0 }),
            ("CONNECT / HTTP/1.1", HeadError::Method),
            ("CONNECT http://h/ HTTP/1.1", HeadError::Method),
            ("GET http://h|h/ HTTP/1.1", HeadError::Target { at: 7 }),
            ("GET ?a HTTP/1.1", HeadError::Target { at: 0 }),
            ("GET /a#b HTTP/1.1", HeadError::Target { at: 2 }),
            ("GET /\u{e4} HTTP/1.1", HeadError::Target { at: 1 }),
            ("GET /a<b HTTP/1.1", HeadError::Target { at: 2 }),
            ("GET /a\\b HTTP/1.1", HeadError::Target { at: 2 }),
            ("GET /\x7f HTTP/1.1", HeadError::StartLine),
        ] {
            assert_eq!(
                refuse(format!("{line}\r\nHost: h\r\n\r\n").as_bytes()),
                error,
                "{line:?}"
            );
        }
        for target in [
            "/",
            "//",
            "/a/../b",
            "/%2F%zz",
            "/a?b?c=/",
            "/~a-b_c.d!$&'()*+,;=:@",
            "/[a]{b}|^",
        ] {
            assert_eq!(
                accept(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).target,
                target
            );
        }
    }

    #[test]
    fn a_trace_has_no_content() {
        let trace = |lines: &str| format!("TRACE / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        accept(&trace(""));
        accept(&trace("Content-Length: 0\r\n"));
        for lines in ["Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"] {
            assert_eq!(refuse(trace(lines).as_bytes()), HeadError::Method, "{lines}");
        }
    }

    #[test]
    fn there_is_exactly_one_host() {
        let lines = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n").into_bytes();
        assert_eq!(refuse(&lines("")), HeadError::HostMissing);
        assert_eq!(refuse(&lines("Host: a\r\nHost: a\r\n")), HeadError::HostRepeated);
        assert_eq!(
            refuse(b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
            HeadError::HostRepeated
        );
        for host in ["a b", "a/b", "a@b", "a?b", "a#b", "a\\b", "\u{e4}"] {
            assert_eq!(
                refuse(&lines(&format!("Host: {host}\r\n"))),
                HeadError::HostValue,
                "{host}"
            );
        }
        for host in ["", "a", "a.example:4000", "[::1]:80", "1.2.3.4", "a_b"] {
            assert!(parse(&lines(&format!("Host: {host}\r\n"))).is_ok(), "{host}");
        }
    }

    #[test]
    fn the_number_of_headers_is_bounded() {
        let lines = |count: usize| with(&"A: 1\r\n".repeat(count - 1));
        assert_eq!(parse(&lines(HEADERS_MAX)).unwrap().unwrap().iter().count(), HEADERS_MAX);
        assert_eq!(
            refuse(&lines(HEADERS_MAX + 1)),
            HeadError::HeadersTooMany { limit: HEADERS_MAX }
        );
    }

    #[test]
    fn the_length_of_a_head_is_bounded() {
        let head_of = |len: usize| with(&format!("A: {}\r\n", "x".repeat(len - with("A: \r\n").len())));
        let head = head_of(LIMIT);
        assert_eq!(parse(&head).unwrap().map(|head| head.len), Some(LIMIT));
        assert!(parse(&head[..LIMIT - 1]).unwrap().is_none());
        assert_eq!(refuse(&head_of(LIMIT + 1)), HeadError::TooLong { limit: LIMIT });
        assert_eq!(refuse(&vec![b'A'; LIMIT]), HeadError::TooLong { limit: LIMIT });
    }

    #[test]
    fn a_head_that_drips_in_is_the_same_head() {
        for bytes in [
            with("Content-Length: 3\r\nA: b\r\n"),
            with("Transfer-Encoding: chunked\r\n"),
            with("A: 1\nB: 2\r\n"),
            with("Content-Length: 3\r\nContent-Length: 3\r\n"),
            b"GET http://h/ HTTP/1.1\r\n\r\n".to_vec(),
        ] {
            let whole = parse(&bytes).map(|head| head.map(|head| (head.len, head.framing)));
            for len in 0..=bytes.len() {
                let is_decided = !matches!(parse(&bytes[..len]), Ok(None));
                assert_eq!(is_request_decided(&bytes[..len], LIMIT), is_decided, "{len}");
            }
            let first = (0..=bytes.len())
                .map(|len| parse(&bytes[..len]))
                .find(|result| !matches!(result, Ok(None)));
            let first = first
                .expect("an end")
                .map(|head| head.map(|head| (head.len, head.framing)));
            assert_eq!(first, whole, "{}", bytes.escape_ascii());
        }
    }
}

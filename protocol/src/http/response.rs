//! Parses the head of a response.

use std::mem::MaybeUninit;
use std::ops::Deref;
use std::time::Duration;

use super::framing::{Framing, declared_framing};
use super::head::{HEAD_LEN_MAX, HeadError, head_len, refusal};
use super::headers::{HEADERS_MAX, Headers};

/// Most interim (1xx) responses before the final one.
pub const INTERIM_MAX: usize = 16;

/// A final response's head (RFC 9112, 4). Derefs to its [`Headers`].
#[derive(Clone, Debug)]
pub struct ResponseHead<'b> {
    /// The status code, 200 to 999.
    pub status: u16,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the connection may carry another request once the body is read, and nothing came after it: HTTP/1.1,
    /// no `Connection: close`, not delimited by the close.
    pub keep_alive: bool,
    /// Bytes of the head, its blank line and the interim responses before it included.
    pub len: usize,
    headers: Headers<'b>,
}

impl<'b> Deref for ResponseHead<'b> {
    type Target = Headers<'b>;

    fn deref(&self) -> &Headers<'b> {
        &self.headers
    }
}

impl ResponseHead<'_> {
    /// For how long the other side keeps the connection when there is nothing to do, if it says so
    /// (`Keep-Alive: timeout=SECONDS`; RFC 2068, 19.7.1.1).
    #[must_use]
    pub fn keep_alive_timeout(&self) -> Option<Duration> {
        let mut parameters = self.elements("keep-alive");
        let value = parameters.find_map(|one| {
            let (name, value) = one.split_at_checked(b"timeout=".len())?;
            name.eq_ignore_ascii_case(b"timeout=").then_some(value)
        })?;
        let seconds: u32 = str::from_utf8(value).ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds.into()))
    }
}

/// Reads the head of the final response to a GET or a POST at the start of `buf`; interim ones are skipped.
/// `Ok(None)`: it is not complete, call again with more bytes.
///
/// `head_len_max` bounds the head and the interim ones together, in bytes.
///
/// # Errors
/// [`HeadError`]; the connection is of no more use.
pub fn parse_response(buf: &[u8], head_len_max: usize) -> Result<Option<ResponseHead<'_>>, HeadError> {
    let limit = head_len_max.min(HEAD_LEN_MAX);
    let (mut start, mut rest) = (0, buf);
    for _ in 0..=INTERIM_MAX {
        // A start that cannot become a status line: not worth the wait for the end of a line.
        if !rest.iter().zip(b"HTTP/").all(|(byte, expected)| byte == expected) {
            return Err(HeadError::StartLine);
        }
        let head = match head_len(rest, limit - start) {
            Ok(Some(len)) => {
                let (head, after) = rest.split_at(len);
                rest = after;
                head
            }
            Ok(None) => return Ok(None),
            Err(HeadError::TooLong { .. }) => return Err(HeadError::TooLong { limit }),
            Err(HeadError::LineEnd { at }) => return Err(HeadError::LineEnd { at: start + at }),
            Err(error) => return Err(error),
        };
        start += head.len();
        if let Some(response) = parse_one(head, start)? {
            return Ok(Some(response));
        }
    }
    Err(HeadError::InterimTooMany { limit: INTERIM_MAX })
}

/// Reads one complete head; `None` for an interim response.
fn parse_one(head: &[u8], len: usize) -> Result<Option<ResponseHead<'_>>, HeadError> {
    let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let result = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, &mut lines);
    let parsed_len = result.map_err(|error| refusal(error, head.get(..VERSION_LEN).unwrap_or(head)))?;
    let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(HeadError::StartLine);
    };
    if parsed_len != httparse::Status::Complete(head.len()) {
        return Err(HeadError::StartLine);
    }
    match status {
        100 | 102..=199 => return Ok(None),
        200..=999 => {}
        _ => return Err(HeadError::Status { status }),
    }

    let http11 = minor == 1;
    let headers = Headers::new(head, parsed.headers);
    let declared = declared_framing(&headers, http11)?;
    let framing = match status {
        204 | 304 => Framing::Length(0),
        _ => declared.unwrap_or(Framing::UntilClose),
    };
    let keep_alive = http11 && framing != Framing::UntilClose && !headers.has_token("connection", "close");
    Ok(Some(ResponseHead {
        status,
        framing,
        keep_alive,
        len,
        headers,
    }))
}

const VERSION_LEN: usize = "HTTP/1.1".len();

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 8192;

    fn accept(bytes: &str) -> ResponseHead<'_> {
        let head = parse_response(bytes.as_bytes(), LIMIT);
        head.unwrap_or_else(|error| panic!("{error}: {bytes:?}"))
            .expect("a complete head")
    }

    fn refuse(bytes: &str) -> HeadError {
        match parse_response(bytes.as_bytes(), LIMIT) {
            Err(error) => error,
            Ok(head) => panic!("accepted {bytes:?}: {head:?}"),
        }
    }

    #[test]
    fn a_response_head_says_how_its_body_ends() {
        for (bytes, status, framing, keep_alive) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
                200,
                Framing::Length(2),
                true,
            ),
            (
                "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
                200,
                Framing::Length(0),
                true,
            ),
            (
                "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n",
                200,
                Framing::Chunked,
                true,
            ),
            ("HTTP/1.1 404 Nicht da \u{e4}\r\n\r\n", 404, Framing::UntilClose, false),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
                200,
                Framing::Length(2),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n",
                200,
                Framing::Length(2),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n",
                200,
                Framing::UntilClose,
                false,
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, Framing::Length(0), true),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
                204,
                Framing::Length(0),
                true,
            ),
            (
                "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
                204,
                Framing::Length(0),
                true,
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                304,
                Framing::Length(0),
                true,
            ),
            (
                "HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n",
                999,
                Framing::Length(0),
                true,
            ),
        ] {
            let head = accept(bytes);
            assert_eq!(
                (head.status, head.framing, head.keep_alive),
                (status, framing, keep_alive),
                "{bytes:?}"
            );
            assert_eq!(head.len, bytes.find("\r\n\r\n").unwrap() + 4);
        }
    }

    #[test]
    fn interim_responses_are_skipped() {
        let bytes = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\nContent-Length: 9\r\n\r\n\
                     HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n\r\n{}";
        let head = accept(bytes);
        assert_eq!((head.status, head.len), (200, bytes.len() - 2));
        assert_eq!((head.header("link"), head.header("a")), (None, Some(&b"b"[..])));

        let interim = |count| "HTTP/1.1 100\r\n\r\n".repeat(count) + "HTTP/1.1 204\r\n\r\n";
        assert_eq!(accept(&interim(INTERIM_MAX)).status, 204);
        assert_eq!(
            refuse(&interim(INTERIM_MAX + 1)),
            HeadError::InterimTooMany { limit: INTERIM_MAX }
        );
        let all = interim(2);
        assert!(parse_response(all.as_bytes(), all.len()).is_ok());
        let limit = all.len() - 1;
        assert_eq!(
            parse_response(all.as_bytes(), limit).unwrap_err(),
            HeadError::TooLong { limit }
        );
        let limit = "HTTP/1.1 100\r\n\r\n".len();
        assert_eq!(
            parse_response(all.as_bytes(), limit).unwrap_err(),
            HeadError::TooLong { limit }
        );
    }

    #[test]
    fn a_response_with_two_readings_is_refused() {
        for (bytes, error) in [
            (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
                HeadError::Status { status: 101 },
            ),
            ("HTTP/1.1 000 x\r\n\r\n", HeadError::Status { status: 0 }),
            ("HTTP/1.1 099 x\r\n\r\n", HeadError::Status { status: 99 }),
            ("HTTP/1.1 20 OK\r\n\r\n", HeadError::StartLine),
            ("HTTP/1.1 2000 OK\r\n\r\n", HeadError::StartLine),
            ("HTTP/1.1  200 OK\r\n\r\n", HeadError::StartLine),
            ("HTTP/1.1 200 a\0\r\n\r\n", HeadError::StartLine),
            ("HTTP/1.1 200 a\rb\r\n\r\n", HeadError::StartLine),
            ("HTTP/2.0 200 OK\r\n\r\n", HeadError::Version { major: 2, minor: 0 }),
            ("HTTP/11 200 OK\r\n\r\n", HeadError::StartLine),
            ("ICY 200 OK\r\n\r\n", HeadError::StartLine),
            ("h", HeadError::StartLine),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", HeadError::StartLine),
            ("HTTP/1.1 200 OK\n\r\n", HeadError::LineEnd { at: 15 }),
            ("HTTP/1.1 100\r\n\r\nHTTP/1.1 200 OK\n", HeadError::LineEnd { at: 31 }),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", HeadError::HeaderName),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", HeadError::HeaderName),
            ("HTTP/1.1 200 OK\r\nA: \x01\r\n\r\n", HeadError::HeaderValue),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                HeadError::LengthRepeated,
            ),
            (
                "HTTP/1.1 204 No\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                HeadError::LengthRepeated,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", HeadError::LengthValue),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadError::LengthAndCoding,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                HeadError::CodingUnknown,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
                HeadError::CodingValue,
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadError::CodingVersion,
            ),
        ] {
            assert_eq!(refuse(bytes), error, "{bytes:?}");
        }
    }

    #[test]
    fn a_response_that_drips_in_is_the_same_response() {
        for bytes in [
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 102\r\n\r\nHTTP/1.1 101 No\r\n\r\n",
            "HTTP/1.1 100\r\n\r\nHTTP/2",
            "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
        ] {
            let whole = parse_response(bytes.as_bytes(), LIMIT).map(|head| head.map(|head| (head.status, head.len)));
            let first = (0..=bytes.len())
                .map(|len| parse_response(&bytes.as_bytes()[..len], LIMIT))
                .find(|result| !matches!(result, Ok(None)));
            let first = first
                .unwrap_or(Ok(None))
                .map(|head| head.map(|head| (head.status, head.len)));
            assert_eq!(first, whole, "{bytes:?}");
        }
    }
}

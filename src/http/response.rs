//! The head of a response.

use std::mem::MaybeUninit;
use std::ops::Deref;

use super::framing::{Framing, declared_framing};
use super::head::{HEAD_LEN_MAX, HeadError, head_len, refusal};
use super::headers::{HEADERS_MAX, Headers};

/// Most interim (1xx) responses before the final one.
pub const INTERIM_MAX: usize = 16;

/// A final response's head (RFC 9112, 4). Derefs to its [`Headers`].
#[derive(Clone, Debug)]
pub struct ResponseHead<'b> {
    /// 200 to 999.
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

/// Reads the head of the final response to a GET or a POST at the start of `buf`; interim ones are skipped.
/// `Ok(None)`: it is not complete, call again with more bytes.
///
/// `head_len_max` bounds the head and the interim ones together, in bytes.
///
/// # Errors
/// [`HeadError`]; the connection is of no more use.
pub fn parse_response(buf: &[u8], head_len_max: usize) -> Result<Option<ResponseHead<'_>>, HeadError> {
    let limit = head_len_max.min(HEAD_LEN_MAX);
    let mut start = 0;
    for _ in 0..=INTERIM_MAX {
        let rest = &buf[start..];
        // A start that cannot become a status line: not worth the wait for the end of a line.
        if !rest.iter().zip(b"HTTP/").all(|(byte, expected)| byte == expected) {
            return Err(HeadError::StartLine);
        }
        let head = match head_len(rest, limit - start) {
            Ok(Some(len)) => &rest[..len],
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
    let parsed_len = result.map_err(|error| refusal(error, &head[..head.len().min(VERSION_LEN)]))?;
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

//! The head of a request.

use std::mem::MaybeUninit;
use std::ops::Deref;

use super::framing::{Framing, declared_framing};
use super::head::{HeadError, head_len, is_token_byte, refusal};
use super::headers::{HEADERS_MAX, Headers};

/// A request's head (RFC 9112, 3). Derefs to its [`Headers`].
#[derive(Clone, Debug)]
pub struct RequestHead<'b> {
    /// A token, as sent: methods are case-sensitive (RFC 9110, 9.1).
    pub method: &'b str,
    /// The origin-form as sent: begins with `/`, visible ASCII, no fragment (RFC 9112, 3.2.1).
    pub target: &'b str,
    /// HTTP/1.1; false is HTTP/1.0.
    pub http11: bool,
    /// How the body is delimited; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the connection may carry another request: HTTP/1.1 without `Connection: close` (RFC 9112, 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends a body (RFC 9110, 10.1.1).
    pub expect_continue: bool,
    /// Bytes of the head, its blank line included.
    pub len: usize,
    headers: Headers<'b>,
}

impl<'b> Deref for RequestHead<'b> {
    type Target = Headers<'b>;

    fn deref(&self) -> &Headers<'b> {
        &self.headers
    }
}

/// Reads the head at the start of `buf`. `Ok(None)`: no blank line yet, call again with more bytes.
///
/// `head_len_max` bounds the head in bytes ([`HEAD_LEN_MAX`](super::HEAD_LEN_MAX) at most): a head of that length is read.
///
/// # Errors
/// [`HeadError`], as early as a byte shows that no head will come; [`HeadError::status`] has the answer.
pub fn parse_request(buf: &[u8], head_len_max: usize) -> Result<Option<RequestHead<'_>>, HeadError> {
    match buf.first() {
        None => return Ok(None),
        // Anything from a TLS hello to an empty line: not worth the wait for the end of a line.
        Some(byte) if !is_token_byte(*byte) => return Err(HeadError::StartLine),
        Some(_) => {}
    }
    let Some(len) = head_len(buf, head_len_max)? else {
        return Ok(None);
    };
    let head = &buf[..len];

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
    check_target(target)?;

    let http11 = minor == 1;
    let headers = Headers::new(head, parsed.headers);
    check_host(&headers, http11)?;
    let framing = declared_framing(&headers, http11)?.unwrap_or(Framing::Length(0));
    let keep_alive = http11 && !headers.has_token("connection", "close");
    let expect_continue = http11 && !framing.is_empty() && headers.has_token("expect", "100-continue");
    Ok(Some(RequestHead {
        method,
        target,
        http11,
        framing,
        keep_alive,
        expect_continue,
        len,
        headers,
    }))
}

/// Where the version of a request line stands: after the second space.
fn version_part(head: &[u8]) -> &[u8] {
    let line = &head[..memchr::memchr(b'\r', head).unwrap_or(head.len())];
    line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default()
}

fn check_target(target: &str) -> Result<(), HeadError> {
    if !target.starts_with('/') {
        return Err(HeadError::Target { at: 0 });
    }
    match target.bytes().position(|byte| !is_target_byte(byte)) {
        None => Ok(()),
        Some(at) => Err(HeadError::Target { at }),
    }
}

/// RFC 3986, 3.3 and 3.4, and what browsers leave as it is. The others have several meanings among servers.
pub(super) fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"#<>\\`".contains(&byte)
}

fn check_host(headers: &Headers<'_>, http11: bool) -> Result<(), HeadError> {
    let mut hosts = headers.headers("host");
    let Some(host) = hosts.next() else {
        return if http11 { Err(HeadError::HostMissing) } else { Ok(()) };
    };
    if hosts.next().is_some() {
        return Err(HeadError::HostRepeated);
    }
    if host
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte))
    {
        Ok(())
    } else {
        Err(HeadError::HostValue)
    }
}

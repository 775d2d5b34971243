//! Reads and writes HTTP/1.1 heads with a Content-Length: as much as both ends of a benchmark need. Chunked bodies are
//! refused.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub use loadgen::head::find_header;

/// A request's head; `path` borrows the bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request<'a> {
    /// `POST`, say.
    pub method: &'a str,
    /// The request target.
    pub path: &'a str,
    /// Bytes before the body.
    pub head_len: usize,
    /// Bytes of the body.
    pub body_len: usize,
    /// The connection stays open after the answer.
    pub keep_alive: bool,
    /// The proxy made this outcome itself (`X-Origin: ws2api`).
    pub made_by_proxy: bool,
}

/// An answer's head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answer {
    /// 200, say.
    pub status: u16,
    /// Bytes before the body.
    pub head_len: usize,
    /// Bytes of the body.
    pub body_len: usize,
    /// The connection may be used again.
    pub keep_alive: bool,
}

/// Not HTTP/1.1 as this package speaks it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

/// Reads a request's head at the start of `bytes`; `None`: more bytes are needed.
///
/// # Errors
/// [`Malformed`], or a head or body beyond the limits of this module.
pub fn parse_request(bytes: &[u8]) -> Result<Option<Request<'_>>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_LEN_MAX => return Ok(None),
        _ => return Err(Malformed),
    };
    let (Some(method), Some(path)) = (request.method, request.path) else {
        return Err(Malformed);
    };
    let fields = Fields::read(request.headers, request.version == Some(1))?;
    let (body_len, keep_alive, made_by_proxy) = (fields.body_len, fields.keep_alive, fields.made_by_proxy);
    Ok(Some(Request {
        method,
        path,
        head_len,
        body_len,
        keep_alive,
        made_by_proxy,
    }))
}

/// Reads an answer's head at the start of `bytes`; `None`: more bytes are needed.
///
/// # Errors
/// [`Malformed`], or a head or body beyond the limits of this module.
pub fn parse_answer(bytes: &[u8]) -> Result<Option<Answer>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let head_len = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_LEN_MAX => return Ok(None),
        _ => return Err(Malformed),
    };
    let Some(status) = answer.code else {
        return Err(Malformed);
    };
    let fields = Fields::read(answer.headers, answer.version == Some(1))?;
    let body_len = if matches!(status, 100..=199 | 204 | 304) {
        0
    } else {
        fields.body_len
    };
    Ok(Some(Answer {
        status,
        head_len,
        body_len,
        keep_alive: fields.keep_alive,
    }))
}

/// One request over a connection of its own; the status and body of the answer. For set-up and figures, not for load.
///
/// # Errors
/// Refused, slow (5 s), or not an answer.
pub fn fetch(address: SocketAddr, method: &str, path: &str) -> io::Result<(u16, Vec<u8>)> {
    fetch_within(address, method, path, FETCH_TIMEOUT)
}

/// The same where the answer may take that long.
///
/// # Errors
/// Refused, slow, or not an answer.
pub fn fetch_within(address: SocketAddr, method: &str, path: &str, timeout: Duration) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, FETCH_TIMEOUT)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(FETCH_TIMEOUT))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(answer) = parse_answer(&bytes).map_err(|Malformed| io::Error::other("not an HTTP answer"))?
            && bytes.len() >= answer.head_len + answer.body_len
        {
            bytes.truncate(answer.head_len + answer.body_len);
            return Ok((answer.status, bytes.split_off(answer.head_len)));
        }
        let len = stream.read(&mut chunk)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..len]);
    }
}

struct Fields {
    body_len: usize,
    keep_alive: bool,
    made_by_proxy: bool,
}

impl Fields {
    fn read(headers: &[httparse::Header<'_>], http_1_1: bool) -> Result<Self, Malformed> {
        let mut fields = Self {
            body_len: 0,
            keep_alive: http_1_1,
            made_by_proxy: false,
        };
        for header in headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let text = str::from_utf8(header.value).map_err(|_| Malformed)?;
                fields.body_len = text.parse().map_err(|_| Malformed)?;
                if fields.body_len > BODY_LEN_MAX {
                    return Err(Malformed);
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(Malformed);
            } else if header.name.eq_ignore_ascii_case("connection") {
                fields.keep_alive = !header.value.eq_ignore_ascii_case(b"close");
            } else if header.name.eq_ignore_ascii_case("x-origin") {
                fields.made_by_proxy = header.value == b"ws2api";
            }
        }
        Ok(fields)
    }
}

/// Longest body that this package takes.
pub const BODY_LEN_MAX: usize = 2 << 20;
/// Longest head that this package takes.
pub const HEAD_LEN_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_when_its_head_is_whole() {
        let bytes = b"POST /call/A/c1/m1 HTTP/1.1\r\nHost: x\r\ncontent-length: 2\r\nX-Origin: ws2api\r\n\r\n{}";
        let request = parse_request(bytes).unwrap().unwrap();
        assert_eq!(
            (request.method, request.path, request.body_len),
            ("POST", "/call/A/c1/m1", 2)
        );
        assert_eq!(&bytes[request.head_len..], b"{}");
        assert!(request.keep_alive && request.made_by_proxy);
        for cut in 0..request.head_len {
            assert_eq!(parse_request(&bytes[..cut]), Ok(None));
        }
    }

    #[test]
    fn an_answer_without_a_body_needs_no_length() {
        let answer = parse_answer(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!((answer.status, answer.body_len, answer.keep_alive), (204, 0, false));
    }

    #[test]
    fn what_this_package_does_not_speak_is_refused() {
        assert_eq!(
            parse_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Err(Malformed)
        );
        assert_eq!(
            parse_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n"),
            Err(Malformed)
        );
        assert_eq!(
            parse_request(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
            Err(Malformed)
        );
        assert_eq!(parse_request(&vec![b'a'; HEAD_LEN_MAX + 1]), Err(Malformed));
    }
}

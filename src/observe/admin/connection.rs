//! Serves one connection to the admin listener: requests without a body, one after another, on a thread of its own. An answer
//! that goes on and on is the last one.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use protocol::http::{RequestHead, parse_request, write_chunked_head, write_response_head};

/// A request.
pub(super) struct Query<'r> {
    /// GET for a HEAD, too.
    pub(super) method: &'r str,
    /// Whether only the head of the answer is wanted.
    pub(super) is_head: bool,
    pub(super) path: &'r str,
    parameters: &'r str,
    pub(super) head: &'r RequestHead<'r>,
}

/// Its answer.
pub(super) struct Response {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    lasting: Option<Lasting>,
}

/// A body that is written as it comes, chunk by chunk.
pub(super) type Lasting = Box<dyn FnOnce(&mut Chunks) -> io::Result<()>>;

/// Where it goes.
pub(super) struct Chunks {
    stream: TcpStream,
}

impl Query<'_> {
    /// True when the client names this media type.
    pub(super) fn accepts(&self, media_type: &str) -> bool {
        let accept = self.head.header("accept").unwrap_or_default();
        memchr::memmem::find(accept, media_type.as_bytes()).is_some()
    }

    /// The value of a parameter in the query, percent-decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.parameters.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
        let value = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
        Some(value.into_owned())
    }
}

impl Response {
    pub(super) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", content_type), ("Cache-Control", "no-store")],
            body: body.into(),
            lasting: None,
        }
    }

    /// One whose body comes bit by bit, and whose end is the connection's.
    pub(super) fn lasting(content_type: &'static str, lasting: Lasting) -> Self {
        Self {
            lasting: Some(lasting),
            ..Self::new(200, content_type, Vec::new())
        }
    }

    pub(super) fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into())
    }

    pub(super) fn not_allowed(allow: &'static str) -> Self {
        Self::text(405, format!("only {allow}\n")).with("Allow", allow)
    }

    pub(super) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl Chunks {
    /// Writes `bytes` as a chunk. One that takes nothing for [`STALLED_TIMEOUT`] has gone.
    ///
    /// # Errors
    /// It has gone.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(STALLED_TIMEOUT))?;
        let len = format!("{:x}\r\n", bytes.len());
        let mut parts = [len.as_bytes(), bytes, b"\r\n"].map(IoSlice::new);
        let mut parts = &mut parts[..];
        while !parts.is_empty() {
            match self.stream.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => IoSlice::advance_slices(&mut parts, len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for that time. What the other side says meanwhile has no meaning.
    ///
    /// # Errors
    /// It has gone.
    pub(super) fn wait(&mut self, time: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(time))?;
        match self.stream.read(&mut [0; 512]) {
            Ok(0) => Err(io::ErrorKind::ConnectionAborted.into()),
            Ok(_) => Ok(()),
            Err(error) if is_for_now(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.stream.write_all(b"0\r\n\r\n")
    }
}

fn is_for_now(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// Answers requests until the client goes, or is silent for too long; after an answer, also if `is_last` says so. `hold` is called for
/// an answer that lasts.
pub(super) fn serve(
    mut stream: TcpStream,
    answer: impl Fn(&Query<'_>) -> Response,
    hold: impl FnOnce(&mut dyn FnMut() -> io::Result<()>) -> io::Result<()>,
    is_last: impl Fn() -> bool,
) -> io::Result<()> {
    // What was accepted by one that does not block may not block either.
    stream.set_nonblocking(false)?;
    let mut buffer = Vec::new();
    // For the request that comes next, whole.
    let mut deadline = Instant::now() + REQUEST_TIMEOUT;
    loop {
        let (mut response, len, keep_alive, is_head) = match parse_request(&buffer, HEAD_LEN_MAX) {
            Ok(None) => {
                let mut piece = [0; 2048];
                stream.set_read_timeout(Some(left(deadline)?))?;
                let count = match stream.read(&mut piece) {
                    // A profile's signal; sockets with a time-out are not restarted.
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read?,
                };
                if count == 0 {
                    return Ok(());
                }
                buffer.extend_from_slice(&piece[..count]);
                continue;
            }
            Err(error) => (
                Response::text(error.status(), format!("{error}\n")),
                buffer.len(),
                false,
                false,
            ),
            Ok(Some(head)) => {
                let (path, parameters) = head.target.split_once('?').unwrap_or((head.target, ""));
                let is_head = head.method == "HEAD";
                let query = Query {
                    method: if is_head { "GET" } else { head.method },
                    is_head,
                    path,
                    parameters,
                    head: &head,
                };
                // Nobody has a body to send; what comes in one is not mistaken for a request.
                let keep_alive = head.may_have_a_successor() && head.framing.is_empty();
                let response = answer(&query);
                let lasts = response.lasting.is_some();
                if lasts && !head.http11 {
                    (Response::text(505, "only HTTP/1.1\n"), head.len, false, is_head)
                } else {
                    (response, head.len, keep_alive && !lasts, is_head)
                }
            }
        };
        buffer.drain(..len);
        let keep_alive = keep_alive && !is_last();
        let mut bytes = Vec::new();
        if let Some(lasting) = response.lasting.take() {
            write_chunked_head(&mut bytes, response.status, &response.headers);
            write(&mut stream, &bytes)?;
            if is_head {
                return Ok(());
            }
            let mut chunks = Chunks { stream };
            let mut lasting = Some(lasting);
            return hold(&mut || match lasting.take() {
                Some(lasting) => lasting(&mut chunks).and_then(|()| chunks.finish()),
                None => Ok(()),
            });
        }
        let body_len = response.body.len();
        write_response_head(&mut bytes, response.status, &response.headers, body_len, keep_alive);
        if !is_head {
            bytes.extend_from_slice(&response.body);
        }
        write(&mut stream, &bytes)?;
        if !keep_alive {
            return Ok(());
        }
        deadline = Instant::now() + REQUEST_TIMEOUT;
    }
}

/// Writes all of it, or has had its time.
fn write(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The time until `deadline`: never nothing, which sockets take for "for ever".
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left.max(Duration::from_millis(1)))
}

const HEAD_LEN_MAX: usize = 8192;
/// From the end of an answer, or the beginning of the connection, to the end of the next request's head.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Long enough for somebody who reads page by page.
const STALLED_TIMEOUT: Duration = Duration::from_secs(300);

//! Speaks HTTP/1.1 as strictly as a test wants it: both ends, blocking, on TCP or a Unix socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use super::tls::TlsStream;
use super::{DEADLINE, Value, parse};

/// A connection of either kind.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        Stream::Tcp(stream).prepared()
    }

    /// With the deadlines that every stream has.
    pub(crate) fn prepared(self) -> io::Result<Self> {
        match &self {
            Stream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                stream.set_write_timeout(Some(DEADLINE))?;
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(DEADLINE))?;
                stream.set_write_timeout(Some(DEADLINE))?;
            }
            // Its socket has them.
            Stream::Tls(_) => {}
        }
        Ok(self)
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
            Stream::Tls(_) => return Err(ErrorKind::Unsupported.into()),
        })
    }

    pub fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
            Stream::Tls(stream) => stream.socket.shutdown(how),
        };
    }

    /// Ends a TCP connection with a reset as soon as it is closed.
    pub fn reset_on_close(&self) {
        let socket = match self {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => &stream.socket,
            Stream::Unix(_) => return,
        };
        rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO)).unwrap();
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buf),
            Stream::Unix(stream) => stream.read(buf),
            Stream::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(buf),
            Stream::Unix(stream) => stream.write(buf),
            Stream::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A start line and header lines.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub start: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The only header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is repeated: {self:?}");
        value
    }

    pub fn count(&self, name: &str) -> usize {
        self.headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .count()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line
                .split_once(": ")
                .ok_or_else(|| format!("odd header line {line:?}"))?;
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let visible = |b: u8| b == b'\t' || (b >= b' ' && b != 0x7F);
            if name.is_empty() || !name.bytes().all(token) || !value.bytes().all(visible) || value.trim() != value {
                return Err(format!("odd header line {line:?}"));
            }
            headers.push((name.to_owned(), value.to_owned()));
        }
        if text.contains(['\0']) || start.contains('\n') {
            return Err(format!("odd head {text:?}"));
        }
        Ok(Head { start, headers })
    }
}

/// A stream and what was read of it too early.
#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    pub unread: Vec<u8>,
}

impl Connection {
    pub fn new(stream: Stream) -> Self {
        Connection {
            stream,
            unread: Vec::new(),
        }
    }

    /// Reads more; false at the end of the stream. A reset is an end.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(len) => {
                    self.unread.extend_from_slice(&chunk[..len]);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn cut(&mut self, len: usize) -> Vec<u8> {
        let rest = self.unread.split_off(len);
        std::mem::replace(&mut self.unread, rest)
    }

    /// `len` bytes, or an error when the stream ends before.
    pub fn exactly(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < len {
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.cut(len))
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line = self.cut(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// A head; `None` when the stream ends where one could begin.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.cut(end + 4);
                let text = std::str::from_utf8(&head[..end]).map_err(|_| invalid("head is not UTF-8"))?;
                return Head::parse(text).map(Some).map_err(|error| invalid(&error));
            }
            if !self.fill()? {
                return if self.unread.is_empty() {
                    Ok(None)
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    pub fn chunked(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk()? {
            body.extend(chunk);
        }
        Ok(body)
    }

    /// The next chunk of a body; `None` at its end.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let len = usize::from_str_radix(&line, 16).map_err(|_| invalid("odd chunk size"))?;
        if len == 0 {
            return match self.line()?.as_str() {
                "" => Ok(None),
                _ => Err(invalid("trailers")),
            };
        }
        let chunk = self.exactly(len)?;
        if self.exactly(2)? != b"\r\n" {
            return Err(invalid("odd chunk end"));
        }
        Ok(Some(chunk))
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.unread))
    }
}

pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub head: Head,
    pub body: String,
}

impl Reply {
    #[track_caller]
    pub fn json(&self) -> Value {
        parse(&self.body)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Asserts the status, showing the whole answer otherwise.
    #[track_caller]
    pub fn expect(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// One keep-alive connection to an HTTP server.
#[derive(Debug)]
pub struct Http {
    pub connection: Connection,
}

impl Http {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Http {
            connection: Connection::new(Stream::connect(address).unwrap()),
        }
    }

    /// Over a connection that there is already.
    #[track_caller]
    pub fn over(stream: TcpStream) -> Self {
        Http {
            connection: Connection::new(Stream::Tcp(stream).prepared().unwrap()),
        }
    }

    /// Sends bytes as they are. That the peer has closed already is no error: its answer may still be there to read.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        match self.connection.stream.write_all(bytes.as_ref()) {
            Err(error) if !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                panic!("{error}")
            }
            _ => {}
        }
    }

    /// Sends a request with a JSON body of known length; the empty one has none.
    #[track_caller]
    pub fn send_request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        self.send(request_bytes(method, target, headers, body.as_ref()));
    }

    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
        self.send_request(method, target, headers, body);
        self.reply()
    }

    #[track_caller]
    pub fn get(&mut self, target: &str) -> Reply {
        self.request("GET", target, &[], "")
    }

    /// The answer to a HEAD, which ends with its head whatever length it announces.
    #[track_caller]
    pub fn head(&mut self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.send_request("HEAD", target, headers, "");
        let head = self.connection.head().unwrap().expect("an answer");
        let status = head.start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        Reply {
            status: status.and_then(|digits| digits.parse().ok()).expect("a status"),
            head,
            body: String::new(),
        }
    }

    /// The bytes of a 200.
    #[track_caller]
    pub fn download(&mut self, target: &str) -> Vec<u8> {
        self.send_request("GET", target, &[], "");
        let (status, _, body) = self.raw_reply();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        body
    }

    #[track_caller]
    pub fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Reply {
        self.request("POST", target, &[], body)
    }

    /// `POST /call/<Action>/<ClientId>/<MessageId>`.
    #[track_caller]
    pub fn push(&mut self, client: &str, action: &str, message_id: &str, payload: impl AsRef<[u8]>) -> Reply {
        self.post(&call_target(client, action, message_id), payload)
    }

    /// The next answer, interim ones included.
    #[track_caller]
    pub fn any_reply(&mut self) -> Reply {
        match self.try_reply() {
            Ok(Some(reply)) => reply,
            Ok(None) => panic!("the connection was closed without an answer"),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The next final answer to a request other than HEAD.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        loop {
            let reply = self.any_reply();
            if reply.status >= 200 {
                return reply;
            }
        }
    }

    pub fn try_reply(&mut self) -> io::Result<Option<Reply>> {
        let Some((status, head, body)) = self.try_raw_reply()? else {
            return Ok(None);
        };
        let body = String::from_utf8(body).map_err(|_| invalid("body is not UTF-8"))?;
        Ok(Some(Reply { status, head, body }))
    }

    /// Status, head and body; the body may be anything.
    #[track_caller]
    pub fn raw_reply(&mut self) -> (u16, Head, Vec<u8>) {
        let reply = self.try_raw_reply().expect("an answer");
        reply.expect("an answer before the end")
    }

    fn try_raw_reply(&mut self) -> io::Result<Option<(u16, Head, Vec<u8>)>> {
        let Some(head) = self.connection.head()? else {
            return Ok(None);
        };
        let status = head.start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status: u16 = status
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| invalid(&head.start))?;
        let length = head.header("content-length");
        let coding = head.header("transfer-encoding");
        let body = match (status, length, coding) {
            (100..200 | 204 | 304, None, None) => Vec::new(),
            (200.., Some(length), None) => {
                let len = length.parse().map_err(|_| invalid("odd Content-Length"))?;
                self.connection.exactly(len)?
            }
            (200.., None, Some("chunked")) => self.connection.chunked()?,
            (200.., None, None) if head.header("connection") == Some("close") => self.connection.rest()?,
            _ => return Err(invalid(&format!("unclear framing: {head:?}"))),
        };
        Ok(Some((status, head, body)))
    }

    /// Asserts that the peer closes and says nothing more.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.connection.rest().unwrap();
        assert!(rest.is_empty(), "more came: {:?}", String::from_utf8_lossy(&rest));
    }
}

/// The path of a push.
pub fn call_target(client: &str, action: &str, message_id: &str) -> String {
    let [action, client, message_id] = [action, client, message_id].map(super::percent_encode);
    format!("/call/{action}/{client}/{message_id}")
}

/// A request whose body has its length announced. Without body and for GET there is no `Content-Type`.
pub fn request_bytes(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n");
    let has = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    if method == "POST" {
        if !has("content-type") {
            request.push_str("Content-Type: application/json\r\n");
        }
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    [request.as_bytes(), body].concat()
}

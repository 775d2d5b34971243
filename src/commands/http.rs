//! Sends a request to the ingress or the admin address and reads its answer, on a connection of its own.
//!
//! An answer is bounded in bytes and in time; what refuses everybody alike (no token, a wrong one) is told in words here.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use super::failure::Failure;
use super::place::Listener;
use protocol::http::{BodyDecoder, Framing, parse_response, write_request};

/// The way to one listener of a process.
#[derive(Debug)]
pub(super) struct Client {
    listener: Listener,
    address: String,
    /// And the file that it comes from.
    token: Option<(PathBuf, String)>,
    /// How long the process may say nothing.
    timeout: Option<Duration>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    /// Path and query, percent-encoded.
    pub(super) target: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: Option<&'a [u8]>,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) body: String,
}

/// An answer whose body is read as it comes.
pub(super) struct Stream {
    pub(super) status: u16,
    retry_after: Option<String>,
    address: String,
    socket: TcpStream,
    decoder: BodyDecoder,
    /// What was received and is not decoded yet.
    received: Vec<u8>,
    is_over: bool,
}

impl<'a> Ask<'a> {
    pub(super) fn get(target: &'a str) -> Self {
        Self {
            method: "GET",
            target,
            headers: &[],
            body: None,
        }
    }

    pub(super) fn post(target: &'a str) -> Self {
        Self {
            method: "POST",
            ..Self::get(target)
        }
    }
}

impl Answer {
    /// Why it says no, in the words of whoever does.
    pub(super) fn why(&self) -> String {
        let body = serde_json::from_str::<serde_json::Value>(&self.body);
        let words = match &body {
            Ok(body) => ["description", "error"]
                .iter()
                .find_map(|name| body.get(name)?.as_str()),
            Err(_) => Some(self.body.trim()).filter(|words| !words.is_empty() && words.len() < WORDS_LEN_MAX),
        };
        let words = words.unwrap_or("it does not say why");
        match &self.retry_after {
            Some(seconds) => format!("{words}; again in {seconds} s"),
            None => words.to_owned(),
        }
    }
}

impl Client {
    pub(super) fn new(listener: Listener, address: String, token: Option<(PathBuf, String)>) -> Self {
        Self {
            listener,
            address,
            token,
            timeout: Some(ANSWER_TIMEOUT),
        }
    }

    /// The process may be silent for so long; `None`: for ever.
    pub(super) fn with_timeout(self, timeout: Option<Duration>) -> Self {
        Self { timeout, ..self }
    }

    /// Asks, and reads the whole answer. One that refuses everybody alike is a [`Failure`], any other an [`Answer`].
    ///
    /// # Errors
    /// Nobody answers there, or it is no ws2api, or one is not let in.
    pub(super) fn ask(&self, ask: Ask<'_>) -> Result<Answer, Failure> {
        let mut stream = self.open(ask, ANSWER_LEN_MAX)?;
        let mut body = Vec::new();
        while stream.read(&mut body)? {}
        let Stream {
            status, retry_after, ..
        } = stream;
        let body = String::from_utf8_lossy(&body).into_owned();
        let answer = Answer {
            status,
            retry_after,
            body,
        };
        match status {
            401 => Err(self.unauthorised()),
            403 => Err(Failure::Refused(format!("{}: {}", self.name(), answer.why()))),
            _ => Ok(answer),
        }
    }

    /// Asks, and leaves the body of the answer, of at most `body_len_max` bytes, to be read as it comes.
    ///
    /// # Errors
    /// Nobody answers there, or it is no ws2api.
    pub(super) fn open(&self, ask: Ask<'_>, body_len_max: usize) -> Result<Stream, Failure> {
        let mut socket = self.connect()?;
        let bearer = self.token.as_ref().map(|(_, token)| format!("Bearer {token}"));
        let mut headers = ask.headers.to_vec();
        headers.push(("Connection", "close"));
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let mut request = Vec::new();
        write_request(
            &mut request,
            ask.method,
            &[ask.target],
            &self.address,
            &headers,
            ask.body,
        );
        let lost = |error: io::Error| lost(&self.name(), &error);
        // It may have answered without reading a large body: the answer says more than the error.
        let sent = socket.write_all(&request);
        let mut received = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            let none = |why: &str| Failure::Nobody(format!("what answers at {} is no ws2api: {why}", self.name()));
            match parse_response(&received, HEAD_LEN_MAX) {
                Err(error) => return Err(none(&error.to_string())),
                Ok(Some(head)) => {
                    let framing = if ask.method == "HEAD" {
                        Framing::Length(0)
                    } else {
                        head.framing
                    };
                    let retry_after = head
                        .header("retry-after")
                        .map(|value| String::from_utf8_lossy(value).into_owned());
                    let decoder = BodyDecoder::new(framing, body_len_max).map_err(|error| none(&error.to_string()))?;
                    let (status, len) = (head.status, head.len);
                    received.drain(..len);
                    return Ok(Stream {
                        status,
                        retry_after,
                        address: self.name(),
                        is_over: decoder.is_done(),
                        socket,
                        decoder,
                        received,
                    });
                }
                Ok(None) => match receive(&mut socket, &mut piece).map_err(lost)? {
                    0 => {
                        sent.map_err(lost)?;
                        return Err(none("the connection was closed without an answer"));
                    }
                    count => received.extend_from_slice(&piece[..count]),
                },
            }
        }
    }

    /// Which listener, and where.
    fn name(&self) -> String {
        format!("the {} address {}", self.listener.key(), self.address)
    }

    fn connect(&self) -> Result<TcpStream, Failure> {
        let key = self.listener.key();
        let addresses = self.address.to_socket_addrs();
        let addresses = addresses.map_err(|error| Failure::Nobody(format!("--{key} {}: {error}", self.address)))?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_read_timeout(self.timeout)?;
                    socket.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                    return Ok(socket);
                }
                Err(error) => last = error,
            }
        }
        Err(Failure::Nobody(format!(
            "nobody answers at {}: {last}; is ws2api running, and is that its address? --{key} ADDR or --config FILE says another one",
            self.name()
        )))
    }

    fn unauthorised(&self) -> Failure {
        let (name, key) = (self.name(), self.listener.token_key());
        Failure::Refused(match &self.token {
            None => format!("{name} wants a token: --config FILE names its file, or --set {key}=FILE"),
            Some((file, _)) => format!(
                "{name} does not take the token of {}: it may have been changed there; is it that process's file?",
                file.display()
            ),
        })
    }
}

impl Stream {
    /// Another handle of its connection: who shuts it down ends what is read.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn socket(&self) -> io::Result<TcpStream> {
        self.socket.try_clone()
    }

    /// All that is left of the body, as words.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub(super) fn rest(&mut self) -> Result<String, Failure> {
        let mut body = Vec::new();
        while body.len() < ANSWER_LEN_MAX && self.read(&mut body)? {}
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    }

    /// Appends what comes next of the body; false at its end.
    ///
    /// # Errors
    /// The connection is lost before the end, or the process says nothing for too long.
    pub(super) fn read(&mut self, body: &mut Vec<u8>) -> Result<bool, Failure> {
        let before = body.len();
        loop {
            if !self.received.is_empty() {
                let decoded = self.decoder.decode(&self.received, body).map_err(|error| {
                    Failure::Nobody(format!("the answer of {} can't be read: {error}", self.address))
                })?;
                self.received.drain(..decoded.consumed);
                self.is_over = decoded.done;
            }
            if body.len() > before {
                return Ok(true);
            }
            if self.is_over {
                return Ok(false);
            }
            let mut piece = [0; 16 * 1024];
            match receive(&mut self.socket, &mut piece) {
                Ok(0) => {
                    self.is_over = true;
                    return self.decoder.finish().map(|()| false).map_err(|error| {
                        Failure::Nobody(format!("the answer of {} ended too soon: {error}", self.address))
                    });
                }
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
                Err(error) => return Err(lost(&self.address, &error)),
            }
        }
    }
}

fn receive(socket: &mut TcpStream, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn lost(name: &str, error: &io::Error) -> Failure {
    Failure::Nobody(match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("{name} took the request and does not answer"),
        _ => format!("the connection to {name} was lost: {error}"),
    })
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The slowest answer that needs no client's.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const HEAD_LEN_MAX: usize = 64 * 1024;
const ANSWER_LEN_MAX: usize = 64 * 1024 * 1024;
/// A longer text is a page for a browser.
const WORDS_LEN_MAX: usize = 1024;

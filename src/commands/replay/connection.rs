//! Opens a client's WebSocket (RFC 6455, 4.1) and carries its text messages.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::commands::target::Target;
use protocol::websocket::accept_key;

/// A client's end.
pub(super) struct Connection {
    socket: WebSocket<TcpStream>,
}

/// What comes.
#[derive(Debug)]
pub(super) enum Received {
    Text(String),
    /// Nothing in that time.
    Nothing,
    /// The server has closed.
    Closed,
}

impl Connection {
    /// Connects as `client`. `Ok(None)`: it is refused.
    ///
    /// # Errors
    /// Nobody is there.
    pub(super) fn open(target: &Target, client: &str, subprotocol: Option<&str>) -> io::Result<Option<Self>> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in target.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, OPEN_TIMEOUT) {
                Ok(stream) => return Self::upgrade(stream, target, client, subprotocol),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn upgrade(
        mut stream: TcpStream,
        target: &Target,
        client: &str,
        subprotocol: Option<&str>,
    ) -> io::Result<Option<Self>> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(OPEN_TIMEOUT))?;
        stream.set_write_timeout(Some(OPEN_TIMEOUT))?;
        let random = RandomState::new();
        let key = [random.hash_one(0).to_le_bytes(), random.hash_one(1).to_le_bytes()].concat();
        let key = BASE64.encode(&key);
        let mut request = format!(
            "GET {}{} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {key}\r\n",
            target.prefix,
            utf8_percent_encode(client, SEGMENT),
            target.address
        );
        if let Some(subprotocol) = subprotocol {
            request.push_str(&format!("Sec-WebSocket-Protocol: {subprotocol}\r\n"));
        }
        if let Some(password) = &target.password {
            let credentials = BASE64.encode(format!("{client}:{password}").as_bytes());
            request.push_str(&format!("Authorization: Basic {credentials}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes())?;
        let mut received = Vec::new();
        let len = loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut headers);
            let parsed = head
                .parse(&received)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            if let httparse::Status::Complete(len) = parsed {
                let accepts = |header: &httparse::Header<'_>| {
                    header.name.eq_ignore_ascii_case("sec-websocket-accept")
                        && header.value == accept_key(key.as_bytes()).as_slice()
                };
                if head.code != Some(101) || !head.headers.iter().any(accepts) {
                    return Ok(None);
                }
                break len;
            }
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece)?;
            if count == 0 || received.len() > HEAD_LEN_MAX {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received.extend_from_slice(&piece[..count]);
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_LEN_MAX))
            .max_frame_size(Some(MESSAGE_LEN_MAX))
            .read_buffer_size(READ_BUFFER_LEN);
        let socket = WebSocket::from_partially_read(stream, received.split_off(len), Role::Client, Some(config));
        Ok(Some(Self { socket }))
    }

    /// Sends a text message. False: the connection is over.
    pub(super) fn send(&mut self, text: &str) -> bool {
        self.socket.send(Message::text(text)).is_ok()
    }

    /// Waits for a message, at most that long. Pings are answered meanwhile.
    pub(super) fn receive(&mut self, time: Duration) -> Received {
        // No time at all is "for ever" for a socket.
        let time = time.max(Duration::from_millis(1));
        if self.socket.get_ref().set_read_timeout(Some(time)).is_err() {
            return Received::Closed;
        }
        match self.socket.read() {
            Ok(Message::Text(text)) => Received::Text(text.as_str().to_owned()),
            Ok(Message::Close(_)) => Received::Closed,
            Ok(_) => Received::Nothing,
            Err(Error::Io(error)) if is_for_now(&error) => Received::Nothing,
            Err(_) => Received::Closed,
        }
    }

    /// Closes with `code`, or with 1000 where it can't be said.
    pub(super) fn close(&mut self, code: u16) {
        let code = Some(CloseCode::from(code))
            .filter(|code| code.is_allowed())
            .unwrap_or(CloseCode::Normal);
        let frame = CloseFrame {
            code,
            reason: "".into(),
        };
        let _ = self.socket.close(Some(frame));
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while Instant::now() < deadline {
            if let Received::Closed = self.receive(deadline.saturating_duration_since(Instant::now())) {
                break;
            }
        }
    }
}

fn is_for_now(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// Everything but RFC 3986 unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_LEN_MAX: usize = 64 * 1024;
const MESSAGE_LEN_MAX: usize = 64 << 20;
const READ_BUFFER_LEN: usize = 8 * 1024;

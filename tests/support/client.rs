//! Speaks WebSocket as a client (RFC 6455), shows and sends every byte, also wrong ones.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Instant;

use sha1::{Digest, Sha1};

use super::Compression;
use super::http::{Connection, Head, Http, Reply, Stream};
use super::tls::TlsStream;
use super::{DEADLINE, Value, parse, percent_encode};

/// An opening handshake, as the test wants it.
#[derive(Clone, Debug)]
pub struct Handshake {
    start: String,
    headers: Vec<(String, String)>,
    after: Vec<u8>,
}

impl Handshake {
    /// A valid one for that ClientId, without subprotocol.
    pub fn new(client_id: &str) -> Self {
        Self::target(&format!("/{}", percent_encode(client_id)))
    }

    /// A valid one for that path.
    pub fn target(target: &str) -> Self {
        let headers = [
            ("Host", "test"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
        ];
        Handshake {
            start: format!("GET {target} HTTP/1.1"),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            after: Vec::new(),
        }
    }

    /// Another request line.
    pub fn start(self, line: &str) -> Self {
        Handshake {
            start: line.to_owned(),
            ..self
        }
    }

    /// One more header line.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without the header lines of that name.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// Another value in the place of the usual one.
    pub fn replace(self, name: &str, value: &str) -> Self {
        self.without(name).header(name, value)
    }

    pub fn subprotocols(self, offer: &str) -> Self {
        self.header("Sec-WebSocket-Protocol", offer)
    }

    /// Offers an extension.
    pub fn offer(self, extension: &str) -> Self {
        self.header("Sec-WebSocket-Extensions", extension)
    }

    /// HTTP Basic.
    pub fn basic(self, user: &str, password: &str) -> Self {
        let word = base64(format!("{user}:{password}").as_bytes());
        self.header("Authorization", &format!("Basic {word}"))
    }

    /// Bytes that follow the head at once.
    pub fn followed_by(self, bytes: impl AsRef<[u8]>) -> Self {
        Handshake {
            after: bytes.as_ref().to_vec(),
            ..self
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.after].concat()
    }

    /// Sends the request; the answer is not read yet.
    #[track_caller]
    pub fn send(&self, address: SocketAddr) -> Http {
        let mut http = Http::connect(address);
        http.send(self.bytes());
        http
    }

    /// A client, or the test fails with what came instead.
    #[track_caller]
    pub fn open(&self, address: SocketAddr) -> Client {
        Client::upgrade(self.send(address))
    }

    /// The answer that is not a 101; the connection has to close after it.
    #[track_caller]
    pub fn refused(&self, address: SocketAddr) -> Reply {
        let mut http = self.send(address);
        let reply = http.any_reply();
        assert!(
            reply.status >= 400,
            "{reply:?} to {}",
            String::from_utf8_lossy(&self.bytes())
        );
        http.expect_end();
        reply
    }
}

/// What a client may see.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// The end of the stream, orderly or not.
    End,
}

/// A WebSocket after its handshake. Reading is strict; pings are answered unless [`Client::mute`] says otherwise.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    /// The head of the 101.
    pub head: Head,
    answers_pings: bool,
    /// If it was agreed on.
    compression: Option<Compression>,
}

impl Client {
    /// Reads the 101 and takes over.
    #[track_caller]
    pub fn upgrade(mut http: Http) -> Self {
        let reply = http.any_reply();
        Self::from_reply(http, reply)
    }

    /// Takes over after a 101 that the test has read.
    #[track_caller]
    pub fn from_reply(http: Http, reply: Reply) -> Self {
        assert_eq!(reply.status, 101, "{reply:?}");
        assert_eq!(
            reply.header("upgrade").map(str::to_ascii_lowercase).as_deref(),
            Some("websocket")
        );
        assert_eq!(
            reply.header("connection").map(str::to_ascii_lowercase).as_deref(),
            Some("upgrade")
        );
        assert_eq!(reply.header("sec-websocket-accept"), Some(&*accept_key()));
        assert!(reply.head.count("sec-websocket-extensions") <= 1);
        let compression = reply.header("sec-websocket-extensions").map(Compression::agreed);
        Client {
            connection: http.connection,
            head: reply.head,
            answers_pings: true,
            compression,
        }
    }

    /// What of the extensions that were offered was agreed on.
    pub fn extensions(&self) -> Option<&str> {
        self.head.header("sec-websocket-extensions")
    }

    /// What it compresses with.
    #[track_caller]
    pub fn compression(&mut self) -> &mut Compression {
        self.compression.as_mut().expect("compression was agreed on")
    }

    /// What was negotiated.
    pub fn subprotocol(&self) -> Option<&str> {
        self.head.header("sec-websocket-protocol")
    }

    /// From now on pings are shown, not answered.
    pub fn mute(&mut self) {
        self.answers_pings = false;
    }

    /// What is under it.
    pub fn stream(&self) -> &Stream {
        &self.connection.stream
    }

    /// The TLS under it, if there is any.
    #[track_caller]
    pub fn tls(&mut self) -> &mut TlsStream {
        match &mut self.connection.stream {
            Stream::Tls(tls) => tls,
            other => panic!("no TLS: {other:?}"),
        }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        match self.connection.stream.write_all(bytes.as_ref()) {
            // Whoever has closed may have said why: that is read next.
            Err(error) if !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                panic!("{error}")
            }
            _ => {}
        }
    }

    /// Sends one WebSocket frame, masked.
    #[track_caller]
    pub fn send_frame(&mut self, fin: bool, opcode: u8, payload: impl AsRef<[u8]>) {
        self.send_raw(frame_bytes(fin, opcode, payload.as_ref()));
    }

    #[track_caller]
    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.send_frame(true, TEXT, text);
    }

    /// Sends a text message compressed; how many bytes its payload has then.
    #[track_caller]
    pub fn send_compressed(&mut self, text: impl AsRef<[u8]>) -> usize {
        let payload = self.compression().deflate(text.as_ref());
        self.send_frame(true, RSV1 | TEXT, &payload);
        payload.len()
    }

    /// `[2,"<id>","<action>",<payload>]`, the names put in as they are.
    #[track_caller]
    pub fn send_call(&mut self, message_id: &str, action: &str, payload: &str) {
        self.send(format!("[2,\"{message_id}\",\"{action}\",{payload}]"));
    }

    /// A Heartbeat and its CallResult.
    #[track_caller]
    pub fn call(&mut self, number: usize) {
        self.send_call(&number.to_string(), "Heartbeat", "{}");
        let answer = self.text();
        assert!(answer.starts_with(&format!("[3,\"{number}\",")), "{answer}");
    }

    /// `[3,"<id>",<payload>]`
    #[track_caller]
    pub fn send_result(&mut self, message_id: &str, payload: &str) {
        self.send(format!("[3,\"{message_id}\",{payload}]"));
    }

    #[track_caller]
    pub fn send_close(&mut self, code: u16, reason: &str) {
        self.send_frame(true, CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat());
    }

    /// Ends the stream without a word.
    pub fn vanish(self) {
        self.connection.stream.shutdown(Shutdown::Both);
    }

    /// Ends the stream with a reset.
    pub fn reset(self) {
        self.connection.stream.reset_on_close();
    }

    /// The next message; fragments are put together.
    #[track_caller]
    pub fn message(&mut self) -> Message {
        let begun = Instant::now();
        let mut started: Option<(u8, Vec<u8>)> = None;
        loop {
            assert!(begun.elapsed() < DEADLINE, "nothing but pings came for {DEADLINE:?}");
            let Some((fin, opcode, mut payload)) = self.frame() else {
                assert!(started.is_none(), "the stream ended within a message");
                return Message::End;
            };
            match opcode {
                TEXT | BINARY | COMPRESSED_TEXT | COMPRESSED_BINARY => {
                    assert!(started.is_none(), "a message within a message");
                    assert!(opcode & RSV1 == 0 || fin, "we send no fragments");
                    if opcode & RSV1 != 0 {
                        payload = self.compression().inflate(&payload);
                    }
                    started = Some((opcode, payload));
                }
                CONTINUATION => {
                    let (_, message) = started.as_mut().expect("a continuation of nothing");
                    message.extend(payload);
                }
                CLOSE => return close_message(&payload),
                PING if self.answers_pings => {
                    self.send_frame(true, PONG, &payload);
                    continue;
                }
                PING => return Message::Ping(payload),
                PONG => return Message::Pong(payload),
                _ => panic!("opcode {opcode}"),
            }
            if fin && let Some((opcode, message)) = started.take() {
                return match opcode & !RSV1 {
                    TEXT => Message::Text(String::from_utf8(message).expect("text is UTF-8")),
                    _ => Message::Binary(message),
                };
            }
        }
    }

    /// The next frame as it comes: whether it is the last one of its message, its opcode with [`RSV1`], its payload.
    pub fn frame(&mut self) -> Option<(bool, u8, Vec<u8>)> {
        let head = self.try_exactly(2)?;
        let (fin, opcode, masked) = (head[0] & 0x80 != 0, head[0] & (RSV1 | 0x0F), head[1] & 0x80 != 0);
        assert_eq!(head[0] & 0x30, 0, "reserved bits");
        assert!(
            opcode & RSV1 == 0 || self.compression.is_some(),
            "compressed without agreement"
        );
        assert!(!masked, "a server does not mask");
        let len = match head[1] {
            126 => {
                let len = self.try_exactly(2)?;
                usize::from(u16::from_be_bytes(len.try_into().unwrap()))
            }
            127 => {
                let len = self.try_exactly(8)?;
                u64::from_be_bytes(len.try_into().unwrap()) as usize
            }
            len => usize::from(len),
        };
        assert!(
            opcode & 8 == 0 || (fin && len < 126),
            "a control frame is short and whole"
        );
        Some((fin, opcode, self.try_exactly(len)?))
    }

    /// `None` at the end of the stream.
    fn try_exactly(&mut self, len: usize) -> Option<Vec<u8>> {
        match self.connection.exactly(len) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => panic!("nothing came for {DEADLINE:?}: {error}"),
        }
    }

    /// The next message, which has to be text.
    #[track_caller]
    pub fn text(&mut self) -> String {
        match self.message() {
            Message::Text(text) => text,
            other => panic!("a text message was due, not {other:?}"),
        }
    }

    /// The next message, which has to be that text, byte for byte.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        assert_eq!(self.text(), text);
    }

    /// The next message, as JSON.
    #[track_caller]
    pub fn json(&mut self) -> Value {
        parse(&self.text())
    }

    /// The next message, which has to be a CallError with that id and code; its description.
    #[track_caller]
    pub fn expect_error(&mut self, message_id: &str, code: &str) -> String {
        let frame = self.json();
        let elements = frame.as_array().expect("an array");
        assert_eq!(elements.len(), 5, "{frame}");
        assert_eq!(
            (&elements[0], &elements[1], &elements[2]),
            (&4.into(), &message_id.into(), &code.into()),
            "{frame}"
        );
        assert!(elements[4].is_object(), "{frame}");
        elements[3].as_str().expect("a description").to_owned()
    }

    /// Nothing has come so far: a ping comes back and nothing before it.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        self.send_frame(true, PING, "nothing?");
        assert_eq!(self.message(), Message::Pong(b"nothing?".to_vec()));
    }

    /// The next message has to be a close with that code; it is answered, and the stream has to end. Its reason.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> String {
        match self.message() {
            Message::Close(Some(found), reason) => {
                assert_eq!(found, code, "{reason}");
                self.send_frame(true, CLOSE, code.to_be_bytes());
                assert_eq!(self.message(), Message::End);
                reason
            }
            other => panic!("close {code} was due, not {other:?}"),
        }
    }

    /// Closes as a client does: says so, waits for the echo and the end.
    #[track_caller]
    pub fn close(mut self, code: u16, reason: &str) {
        self.send_close(code, reason);
        match self.message() {
            Message::Close(Some(found), _) => assert_eq!(found, code),
            other => panic!("the close was not echoed: {other:?}"),
        }
        assert_eq!(self.message(), Message::End);
    }
}

fn close_message(payload: &[u8]) -> Message {
    match payload {
        [] => Message::Close(None, String::new()),
        [high, low, reason @ ..] => {
            let reason = std::str::from_utf8(reason).expect("a reason is UTF-8");
            Message::Close(Some(u16::from_be_bytes([*high, *low])), reason.to_owned())
        }
        [_] => panic!("a close with one byte"),
    }
}

/// One WebSocket frame as a client sends it.
pub fn frame_bytes(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::from(fin) << 7 | opcode];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn accept_key() -> String {
    let digest = Sha1::new()
        .chain_update(KEY)
        .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    base64(&digest)
}

fn base64(bytes: &[u8]) -> String {
    let mut text = vec![0; data_encoding::BASE64.encode_len(bytes.len())];
    data_encoding::BASE64.encode_mut(bytes, &mut text);
    String::from_utf8(text).unwrap()
}

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
/// Beside an opcode: the message is compressed.
pub const RSV1: u8 = 0x40;
const COMPRESSED_TEXT: u8 = RSV1 | TEXT;
const COMPRESSED_BINARY: u8 = RSV1 | BINARY;

/// RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

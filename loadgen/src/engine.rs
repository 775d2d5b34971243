//! Holds one thread's WebSocket clients on one epoll: connects, opening handshakes, frames, pings, closes.
//!
//! What clients say, when, and what becomes of it is the business of a [`Script`]. A client costs its socket, the few fields
//! of [`Client`] and what the script keeps for it. The script's functions are given the engine, and with it the script.

use std::net::{Ipv4Addr, SocketAddr};
use std::{fmt, io, mem};

use protocol::tls::HandshakeError;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::head::find_header;
use crate::poller::{Event, Poller, now_ns};
use crate::stream::{self, BUFFER_LEN_MIN, Stream};
use crate::websocket::{self, Header};

/// What clients say, when, and what becomes of it.
pub trait Script: Sized {
    /// What it keeps for each client.
    type Client: Default;

    /// Whether the thread may end.
    fn is_over(&self) -> bool;

    /// Does what is due at `now`, and says when it wants to be asked next; `u64::MAX`: whenever.
    fn advance(engine: &mut Engine<Self>, now: u64) -> u64;

    /// Appends the request's line and the headers that are its own, each with its end of line. The engine adds those of RFC 6455.
    fn write_request(&self, number: u32, out: &mut Vec<u8>);

    /// The subprotocol that the client number `number` offers and has to be answered with.
    fn subprotocol(&self, number: u32) -> Option<&str>;

    /// The client has its WebSocket.
    fn handle_open(engine: &mut Engine<Self>, slot: usize);

    /// A frame has come that is no control frame; not masked.
    fn handle_data(engine: &mut Engine<Self>, slot: usize, header: Header, payload: &[u8]);

    /// A ping was answered.
    fn handle_ping(&mut self);

    /// The client, whose state was `was`, is gone.
    fn handle_end(engine: &mut Engine<Self>, slot: usize, was: State, end: &End<'_>);
}

/// With what clients shake hands where the server speaks TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The server's, which its certificate has to be for.
    pub name: ServerName<'static>,
    /// Of those who come for the first time.
    pub first: ClientConfig,
    /// Of those who come again.
    pub again: ClientConfig,
}

/// How far a client has got.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// Not connected yet.
    #[default]
    Unborn,
    /// Its connection is being made, or its request waits for the answer.
    Handshaking,
    /// It has its WebSocket.
    Open,
    /// It has said that it closes.
    Closing,
    /// It has no connection any more.
    Gone,
}

/// How a client's connection ended, or why it came to none.
#[derive(Debug)]
pub enum End<'a> {
    /// The network says no.
    Failed(io::Error),
    /// The handshake of TLS has come to nothing, or the other side has sent an alert.
    NoTls(HandshakeError),
    /// The handshake was answered with another status than 101.
    Refused(u16),
    /// The handshake was answered, and not as it has to be: so begins its head.
    Misunderstood(&'a [u8]),
    /// The other side has closed with this code; 1005: without one.
    Closed(u16),
    /// The connection is over without a close.
    Cut,
    /// What came is not what RFC 6455 lets a server send.
    Broken(&'a str),
    /// It was not answered in the time that the script allows.
    TimedOut,
}

impl fmt::Display for End<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(formatter),
            Self::NoTls(error) => write!(formatter, "no TLS: {error}"),
            Self::Refused(status) => write!(formatter, "refused with {status}"),
            Self::Misunderstood(head) => {
                let shown = String::from_utf8_lossy(&head[..head.len().min(HEAD_SHOWN_LEN)]);
                write!(formatter, "upgrade wrong: {shown:?}")
            }
            Self::Closed(code) => write!(formatter, "closed with {code}"),
            Self::Cut => formatter.write_str("closed by the other side"),
            Self::Broken(what) => formatter.write_str(what),
            Self::TimedOut => formatter.write_str("not answered in time"),
        }
    }
}

/// One client.
#[derive(Debug, Default)]
pub struct Client<T> {
    stream: Option<Stream>,
    state: State,
    said: T,
    input: Vec<u8>,
}

/// See the module.
pub struct Engine<S: Script> {
    /// What the clients say.
    pub script: S,
    /// What [`send`](Self::send) sends: whoever writes a message clears it first.
    pub text: Vec<u8>,
    /// How connections are made with TLS; without it they are plain.
    pub tls: Option<Tls>,
    thread: u32,
    threads: u32,
    poller: Poller,
    clients: Vec<Client<S::Client>>,
    /// Opening handshakes under way.
    handshaking: u32,
    mask: u32,
    frame: Vec<u8>,
    /// What is sealed.
    wire: Vec<u8>,
    buffer: Vec<u8>,
}

impl<S: Script> Engine<S> {
    /// The clients of thread `thread` of `threads`, as many as it has.
    ///
    /// # Errors
    /// No descriptor for an epoll.
    pub fn new(script: S, thread: u32, threads: u32, clients: u32) -> io::Result<Self> {
        Ok(Self {
            script,
            text: Vec::new(),
            tls: None,
            thread,
            threads,
            poller: Poller::new()?,
            clients: (0..clients).map(|_| Client::default()).collect(),
            handshaking: 0,
            mask: 0x9e37_79b9 ^ thread,
            frame: Vec::new(),
            wire: Vec::new(),
            buffer: vec![0; READ_LEN],
        })
    }

    /// Runs until the script says that it is over.
    ///
    /// # Errors
    /// What epoll says; what happens to single clients is the script's.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.script.is_over() {
            let now = now_ns();
            let deadline = S::advance(self, now).min(now + NAP_NS);
            for index in 0..self.poller.wait(Some(deadline))? {
                let event = self.poller.event(index);
                self.handle_event(event);
            }
        }
        Ok(())
    }

    /// Resets every connection, and gives the script back.
    #[must_use]
    pub fn finish(mut self) -> S {
        for client in &mut self.clients {
            if let Some(stream) = client.stream.take() {
                stream.reset();
            }
        }
        self.script
    }

    /// How many clients there are; a slot is a number below.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The number of a client among those of all threads.
    #[must_use]
    pub fn number(&self, slot: usize) -> u32 {
        slot as u32 * self.threads + self.thread
    }

    /// How far a client has got.
    #[must_use]
    pub fn state(&self, slot: usize) -> State {
        self.clients[slot].state
    }

    /// What the script keeps for a client.
    pub fn client(&mut self, slot: usize) -> &mut S::Client {
        &mut self.clients[slot].said
    }

    /// Opening handshakes under way.
    #[must_use]
    pub fn handshaking(&self) -> u32 {
        self.handshaking
    }

    /// Whether a client's TLS goes on with an earlier session.
    #[must_use]
    pub fn is_resumed(&self, slot: usize) -> bool {
        self.clients[slot].stream.as_ref().is_some_and(Stream::is_resumed)
    }

    /// Connects a client that has no connection.
    pub fn connect(&mut self, slot: usize, target: SocketAddr) {
        debug_assert!(self.clients[slot].stream.is_none(), "a client has one connection");
        self.handshaking += 1;
        let was = mem::replace(&mut self.clients[slot].state, State::Handshaking);
        if let Err(error) = self.try_connect(slot, target, was == State::Unborn) {
            self.end(slot, &End::Failed(error));
        }
    }

    fn try_connect(&mut self, slot: usize, target: SocketAddr, is_first: bool) -> io::Result<()> {
        let number = self.number(slot);
        let source = target.ip().is_loopback() && target.is_ipv4();
        let tls = self.tls.as_ref().map(|tls| match is_first {
            true => (&tls.first, &tls.name),
            false => (&tls.again, &tls.name),
        });
        let mut stream = Stream::connect(target, source.then(|| source_address(number)), tls)?;
        self.poller.add(&stream, slot as u64)?;
        self.text.clear();
        self.script.write_request(number, &mut self.text);
        if let Some(subprotocol) = self.script.subprotocol(number) {
            self.text.extend_from_slice(b"Sec-WebSocket-Protocol: ");
            self.text.extend_from_slice(subprotocol.as_bytes());
            self.text.extend_from_slice(b"\r\n");
        }
        self.text.extend_from_slice(
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
        );
        self.text.extend_from_slice(&websocket::client_key(nonce(number)));
        self.text.extend_from_slice(b"\r\n\r\n");
        stream.send(&self.text, &mut self.wire)?;
        self.clients[slot].stream = Some(stream);
        Ok(())
    }

    /// Sends [`text`](Self::text) as a message.
    pub fn send(&mut self, slot: usize) {
        self.send_frame(slot, websocket::TEXT);
    }

    /// Says that the client closes; its end comes when the other side has said so, too.
    pub fn close(&mut self, slot: usize, code: u16) {
        if self.clients[slot].state == State::Open {
            self.clients[slot].state = State::Closing;
            self.text.clear();
            self.text.extend_from_slice(&code.to_be_bytes());
            self.send_frame(slot, websocket::CLOSE);
        }
    }

    /// Cuts a client off as a network does that fails: the script is not told.
    pub fn cut(&mut self, slot: usize) {
        let client = &mut self.clients[slot];
        let was = mem::replace(&mut client.state, State::Gone);
        client.input = Vec::new();
        if let Some(stream) = client.stream.take() {
            stream.reset();
        }
        if was == State::Handshaking {
            self.handshaking -= 1;
        }
    }

    /// Ends a client's connection, and tells the script.
    pub fn end(&mut self, slot: usize, end: &End<'_>) {
        let client = &mut self.clients[slot];
        let was = mem::replace(&mut client.state, State::Gone);
        client.input = Vec::new();
        client.stream = None;
        match was {
            State::Unborn | State::Gone => return,
            State::Open | State::Closing => {}
            State::Handshaking => self.handshaking -= 1,
        }
        S::handle_end(self, slot, was, end);
    }

    /// Sends `self.text` as one masked frame.
    fn send_frame(&mut self, slot: usize, opcode: u8) {
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        self.frame.clear();
        websocket::write_client_frame(&mut self.frame, opcode, &self.text, self.mask.to_ne_bytes());
        let Some(stream) = &mut self.clients[slot].stream else {
            return;
        };
        if let Err(error) = stream.send(&self.frame, &mut self.wire) {
            self.end(slot, &End::Failed(error));
        }
    }

    fn handle_event(&mut self, event: Event) {
        let slot = event.token as usize;
        if event.writable
            && let Some(stream) = &mut self.clients[slot].stream
            && let Err(error) = stream.flush()
        {
            return self.end(slot, &End::Failed(error));
        }
        if !event.readable {
            return;
        }
        loop {
            let Some(stream) = &mut self.clients[slot].stream else {
                return;
            };
            let received = stream.receive(&mut self.buffer, &mut self.wire, event.closed);
            if received.len > 0 {
                let buffer = mem::take(&mut self.buffer);
                self.handle_bytes(slot, &buffer[..received.len]);
                self.buffer = buffer;
            }
            match received.end {
                Some(stream::End::Closed) => return self.end(slot, &End::Cut),
                Some(stream::End::Failed(error)) => return self.end(slot, &End::Failed(error)),
                Some(stream::End::NoTls(error)) => return self.end(slot, &End::NoTls(error)),
                None if received.has_more => {}
                None => return,
            }
        }
    }

    fn handle_bytes(&mut self, slot: usize, fresh: &[u8]) {
        let mut kept = mem::take(&mut self.clients[slot].input);
        let mut bytes = if kept.is_empty() {
            fresh
        } else {
            kept.extend_from_slice(fresh);
            &kept[..]
        };
        if self.clients[slot].state == State::Handshaking {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                self.clients[slot].input = bytes.to_vec();
                if bytes.len() > HEAD_LEN_MAX {
                    self.end(slot, &End::Broken("an endless answer to the handshake"));
                }
                return;
            };
            self.handle_answer(slot, &bytes[..end + 4]);
            bytes = &bytes[end + 4..];
        }
        while matches!(self.clients[slot].state, State::Open | State::Closing) {
            match Header::parse(bytes) {
                Ok(Some(header)) if bytes.len() >= header.frame_len() => {
                    let payload = &bytes[header.header_len..header.frame_len()];
                    bytes = &bytes[header.frame_len()..];
                    self.handle_frame(slot, header, payload);
                }
                Ok(_) => {
                    if !bytes.is_empty() {
                        self.clients[slot].input = bytes.to_vec();
                    }
                    return;
                }
                Err(error) => return self.end(slot, &End::Broken(&format!("not a frame: {error:?}"))),
            }
        }
    }

    fn handle_answer(&mut self, slot: usize, head: &[u8]) {
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return match parse_status(head) {
                Some(status) if status != 101 => self.end(slot, &End::Refused(status)),
                _ => self.end(slot, &End::Misunderstood(head)),
            };
        }
        let number = self.number(slot);
        let accept = websocket::accept_key(&websocket::client_key(nonce(number)));
        let offered = self.script.subprotocol(number).map(str::as_bytes);
        if find_header(head, "sec-websocket-accept") != Some(&accept[..])
            || find_header(head, "sec-websocket-protocol") != offered
        {
            return self.end(slot, &End::Misunderstood(head));
        }
        self.clients[slot].state = State::Open;
        self.handshaking -= 1;
        S::handle_open(self, slot);
    }

    fn handle_frame(&mut self, slot: usize, header: Header, payload: &[u8]) {
        match header.opcode {
            _ if header.mask.is_some() => self.end(slot, &End::Broken("a frame that is masked")),
            websocket::PING => {
                self.script.handle_ping();
                self.text.clear();
                self.text.extend_from_slice(payload);
                self.send_frame(slot, websocket::PONG);
            }
            websocket::PONG => {}
            websocket::CLOSE => {
                let code = payload.first_chunk().map_or(NO_CODE, |code| u16::from_be_bytes(*code));
                if self.clients[slot].state == State::Open {
                    self.text.clear();
                    self.text.extend_from_slice(payload);
                    self.send_frame(slot, websocket::CLOSE);
                }
                self.end(slot, &End::Closed(code));
            }
            _ => S::handle_data(self, slot, header, payload),
        }
    }
}

/// The status of an answer's head.
fn parse_status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    str::from_utf8(digits).ok()?.parse().ok()
}

/// 127.0.x.y: one address for each 4,000 clients, so that a free port is found at once.
fn source_address(client: u32) -> Ipv4Addr {
    let index = client / CLIENTS_PER_ADDRESS;
    Ipv4Addr::new(127, 0, 1 + (index / 250 % 250) as u8, 1 + (index % 250) as u8)
}

/// What a client's key is made of: the same again when its answer comes.
fn nonce(client: u32) -> u128 {
    (u128::from(client) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

/// Threads that `clients` need, each with a table of `open_files` descriptors.
#[must_use]
pub fn threads_for(clients: u32, open_files: u64) -> u32 {
    let per_thread = open_files.saturating_sub(DESCRIPTORS_RESERVED).clamp(1, 1 << 20);
    u64::from(clients).div_ceil(per_thread) as u32
}

/// How many clients thread `thread` of `threads` gets: shares differ by one at most.
#[must_use]
pub fn share(total: u32, thread: u32, threads: u32) -> u32 {
    total / threads + u32::from(thread < total % threads)
}

/// Descriptors of a thread that are no clients.
pub const DESCRIPTORS_RESERVED: u64 = 100;
/// Of a close frame that has no code (RFC 6455, 7.1.5).
const NO_CODE: u16 = 1005;
const CLIENTS_PER_ADDRESS: u32 = 4_000;
const NAP_NS: u64 = 100_000_000;
const READ_LEN: usize = 64 << 10;
/// The longest answer to a handshake.
const HEAD_LEN_MAX: usize = 16 << 10;
const HEAD_SHOWN_LEN: usize = 200;

const _: () = assert!(READ_LEN > BUFFER_LEN_MIN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_as_many_as_their_tables_ask_for() {
        assert_eq!(threads_for(120_000, 20_000), 7);
        assert_eq!(threads_for(19_900, 20_000), 1);
        assert_eq!(threads_for(19_901, 20_000), 2);
        assert_eq!(threads_for(2, 10), 2);
    }

    #[test]
    fn shares_differ_by_one_at_most_and_add_up() {
        let shares: Vec<u32> = (0..7).map(|thread| share(100, thread, 7)).collect();
        assert_eq!(shares.iter().sum::<u32>(), 100);
        assert_eq!((shares.iter().min(), shares.iter().max()), (Some(&14), Some(&15)));
    }

    #[test]
    fn a_status_is_read_from_the_line() {
        for (head, status) in [
            (&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], Some(403)),
            (b"HTTP/1.0 200\r\n\r\n", Some(200)),
            (b"HTTP/2 200\r\n\r\n", None),
            (b"HTTP/1.1 20\r\n\r\n", None),
            (b"SSH-2.0\r\n\r\n", None),
        ] {
            assert_eq!(parse_status(head), status);
        }
    }
}

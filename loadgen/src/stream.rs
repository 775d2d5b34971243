//! Carries a client's bytes: the one place that knows what is between them and their socket. That is nothing, or TLS.
//!
//! With TLS, what is sent waits for the end of the handshake. Of that the keys remain, and no buffer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use protocol::tls::{ClientHandshake, HANDSHAKE_LEN_MAX, HandshakeError, RECORD_LEN_MAX, Records, Tickets};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error};

use crate::net;

/// A connection that is being made or is there.
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
    tls: Option<Box<Tls>>,
    unsent: Vec<u8>,
}

/// What a read gave.
#[derive(Debug, Default)]
pub struct Received {
    /// So many bytes of text are at the front of the buffer.
    pub len: usize,
    /// Behind them nothing more comes.
    pub end: Option<End>,
    /// More may be there already, and no event will tell.
    pub has_more: bool,
}

/// How a connection ends.
#[derive(Debug)]
pub enum End {
    /// The other side has closed it.
    Closed,
    /// It has failed, or was never made.
    Failed(io::Error),
    /// The handshake has come to nothing, or an alert has come.
    NoTls(HandshakeError),
}

#[expect(
    clippy::large_enum_variant,
    reason = "it is in a box, and almost always the large one"
)]
#[derive(Debug)]
enum Tls {
    Handshake(Box<Handshake>),
    Sealed(Sealed),
}

#[derive(Debug)]
struct Handshake {
    handshake: ClientHandshake,
    /// What is sent when it is done.
    waiting: Vec<u8>,
}

#[derive(Debug)]
struct Sealed {
    records: Records,
    /// Who keeps the server's tickets, until it has said anything: they come before.
    tickets: Option<Box<Tickets>>,
    is_resumed: bool,
}

impl Stream {
    /// Starts a connection, from `source` if given, and with TLS if a server is named; writable means made or failed.
    ///
    /// # Errors
    /// Refused at once, out of descriptors or ports.
    pub fn connect(
        address: SocketAddr,
        source: Option<Ipv4Addr>,
        tls: Option<(&ClientConfig, &ServerName<'static>)>,
    ) -> io::Result<Self> {
        let mut unsent = Vec::new();
        let tls = match tls {
            None => None,
            Some((config, name)) => Some(Box::new(Tls::Handshake(Box::new(Handshake {
                handshake: ClientHandshake::new(config, name.clone(), &mut unsent).map_err(io::Error::other)?,
                waiting: Vec::new(),
            })))),
        };
        let socket = net::connect(address, source)?;
        Ok(Self { socket, tls, unsent })
    }

    /// Sends `text` behind what waits already. `wire` is room to seal it in.
    ///
    /// # Errors
    /// The connection has failed, or too much would wait.
    pub fn send(&mut self, text: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        let bytes = match self.tls.as_deref_mut() {
            None => text,
            Some(Tls::Handshake(handshake)) => {
                handshake.waiting.extend_from_slice(text);
                return Ok(());
            }
            Some(Tls::Sealed(sealed)) => {
                wire.clear();
                sealed.records.seal(&[text], wire).map_err(io::Error::other)?;
                wire
            }
        };
        net::transmit_or_keep(&self.socket, bytes, &mut self.unsent, UNSENT_MAX)
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn flush(&mut self) -> io::Result<()> {
        net::flush(&self.socket, &mut self.unsent)
    }

    /// Reads what is there into `buffer`, of [`BUFFER_LEN_MIN`] bytes or more. `wire` is room for what has to be said to that.
    ///
    /// `is_closing`: the event says that the other side has closed, so a short read does not mean that no more comes.
    pub fn receive(&mut self, buffer: &mut [u8], wire: &mut Vec<u8>, is_closing: bool) -> Received {
        let kept = match self.tls.as_deref() {
            Some(Tls::Sealed(sealed)) => sealed.records.begin(buffer),
            None | Some(Tls::Handshake(_)) => 0,
        };
        let len = match net::try_receive(&self.socket, &mut buffer[kept..]) {
            Ok(net::Received::Bytes(len)) => kept + len,
            Ok(net::Received::Nothing) => return Received::default(),
            Ok(net::Received::Closed) => return End::Closed.into(),
            Err(error) => return End::Failed(error).into(),
        };
        let has_more = len == buffer.len() || is_closing;
        let received = match self.tls.as_deref_mut() {
            None => Received {
                len,
                ..Received::default()
            },
            Some(Tls::Handshake(_)) => self.shake_hands(buffer, len, wire),
            Some(Tls::Sealed(sealed)) => {
                wire.clear();
                let received = sealed.open(&mut buffer[..len], wire);
                if received.end.is_some() {
                    // Whether it is heard is of no matter: it is the last word.
                    let _ = net::transmit(&self.socket, wire);
                }
                received
            }
        };
        Received { has_more, ..received }
    }

    /// Whether it has TLS, and the handshake is done.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        matches!(self.tls.as_deref(), Some(Tls::Sealed(_)))
    }

    /// Whether its TLS goes on with an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        matches!(self.tls.as_deref(), Some(Tls::Sealed(sealed)) if sealed.is_resumed)
    }

    /// Ends it so that no TIME_WAIT is left behind.
    pub fn reset(self) {
        net::close_with_reset(self.socket);
    }

    fn shake_hands(&mut self, buffer: &mut [u8], len: usize, wire: &mut Vec<u8>) -> Received {
        let Some(Tls::Handshake(own)) = self.tls.as_deref_mut() else {
            return Received::default();
        };
        wire.clear();
        let advanced = own.handshake.advance(&buffer[..len], wire);
        let sent = match wire.is_empty() {
            true => Ok(()),
            false => net::transmit_or_keep(&self.socket, wire, &mut self.unsent, UNSENT_MAX),
        };
        match (advanced, sent) {
            (Err(error), _) => End::NoTls(error).into(),
            (Ok(_), Err(error)) => End::Failed(error).into(),
            (Ok(false), Ok(())) => Received::default(),
            (Ok(true), Ok(())) => self.finish_handshake(buffer, wire),
        }
    }

    /// Opens what has come behind it, and sends what has waited.
    fn finish_handshake(&mut self, buffer: &mut [u8], wire: &mut Vec<u8>) -> Received {
        let Some(Tls::Handshake(own)) = self.tls.take().map(|tls| *tls) else {
            return Received::default();
        };
        let (established, tickets) = match own.handshake.finish() {
            Ok(finished) => finished,
            Err(error) => return End::NoTls(error).into(),
        };
        let mut sealed = Sealed {
            records: established.records,
            tickets: tickets.map(Box::new),
            is_resumed: established.facts.is_resumed,
        };
        let front = &mut buffer[..established.unopened.len()];
        front.copy_from_slice(&established.unopened);
        wire.clear();
        let received = sealed.open(front, wire);
        self.tls = Some(Box::new(Tls::Sealed(sealed)));
        match self.send(&own.waiting, wire) {
            Err(error) if received.end.is_none() => End::Failed(error).into(),
            _ => received,
        }
    }
}

impl Sealed {
    /// Opens what came, in its place, and appends what is to be said to its end.
    fn open(&mut self, received: &mut [u8], out: &mut Vec<u8>) -> Received {
        let opened = self.records.open(received);
        if let Some(tickets) = &mut self.tickets {
            for ticket in &opened.tickets {
                // One that is none is not used.
                let _ = tickets.handle(ticket);
            }
        }
        if opened.plain_len > 0 {
            self.tickets = None;
        }
        let end = opened.end.map(|end| match end {
            protocol::tls::End::CloseNotify => {
                self.records.close(out);
                End::Closed
            }
            protocol::tls::End::Alert(alert) => End::NoTls(HandshakeError::Tls(Error::AlertReceived(alert.into()))),
            protocol::tls::End::Fault(fault) => {
                self.records.alert(fault, out);
                End::Failed(io::Error::other(fault))
            }
        });
        Received {
            len: opened.plain_len,
            end,
            has_more: false,
        }
    }
}

impl From<End> for Received {
    fn from(end: End) -> Self {
        Self {
            end: Some(end),
            ..Self::default()
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The first message of a client that shakes hands with the server of this name.
///
/// # Errors
/// The configuration is not one to work with.
pub fn hello(config: &ClientConfig, name: &ServerName<'static>) -> io::Result<Vec<u8>> {
    let mut hello = Vec::new();
    ClientHandshake::new(config, name.clone(), &mut hello).map_err(io::Error::other)?;
    Ok(hello)
}

/// What a connection with TLS keeps beside its [`Stream`], when the server has said anything.
pub const TLS_BYTES: usize = size_of::<Tls>();
/// There is room for what a handshake leaves unopened, and for a record.
pub const BUFFER_LEN_MIN: usize = if HANDSHAKE_LEN_MAX > RECORD_LEN_MAX {
    HANDSHAKE_LEN_MAX
} else {
    RECORD_LEN_MAX
};
const UNSENT_MAX: usize = 4 << 20;

const _: () = assert!(size_of::<Option<Stream>>() <= 40, "each client has one");

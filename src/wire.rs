//! Holds a connection's socket, plain or under TLS: this is the one place where that makes a difference.
//!
//! What comes is opened where it was received, in the reader's buffer. What leaves is sealed whole when its writing begins, and
//! what the socket does not take of that is kept as it is: nothing is sealed twice.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use shards::{Socket, Timer};

use crate::env::Env;
use crate::stream;
use protocol::tls::{End, Fault, RECORD_LEN_MAX, Records};

/// What bytes travel on.
#[derive(Debug)]
pub enum Wire {
    /// As they are.
    Plain(Socket),
    /// In records.
    Tls(Box<TlsSocket>),
}

/// A socket whose TLS handshake is done.
#[derive(Debug)]
pub struct TlsSocket {
    socket: Socket,
    records: Records,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    /// The other side has said that it sends no more.
    Ended,
    /// It has sent what is no record.
    Broken,
    /// What comes is of no use any more, and not opened.
    Deaf,
}

impl Wire {
    /// A socket, under TLS where there are `records`. Where these have had their end, it has.
    #[must_use]
    pub fn new(socket: Socket, records: Option<Records>) -> Self {
        let Some(records) = records else {
            return Self::Plain(socket);
        };
        let state = if records.is_receiving() {
            State::Open
        } else {
            State::Ended
        };
        Self::Tls(Box::new(TlsSocket { socket, records, state }))
    }

    /// A socket whose TLS handshake is done, and what `unopened`, which came behind that, says in plain text.
    #[must_use]
    pub fn secured(socket: Socket, records: Records, mut unopened: Vec<u8>) -> (Self, Vec<u8>) {
        let mut tls = Box::new(TlsSocket {
            socket,
            records,
            state: State::Open,
        });
        let plain_len = tls.open(&mut unopened);
        unopened.truncate(plain_len);
        (Self::Tls(tls), unopened)
    }

    /// What is below, to be waited for or closed.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }

    /// What TLS keeps, to be written down.
    #[must_use]
    pub fn records(&self) -> Option<&Records> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(&tls.records),
        }
    }

    /// Leaves the rest.
    #[must_use]
    pub fn into_parts(self) -> (Socket, Option<Records>) {
        match self {
            Self::Plain(socket) => (socket, None),
            Self::Tls(tls) => (tls.socket, Some(tls.records)),
        }
    }

    /// What came last was no record, and the other side was told so.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.state == State::Broken)
    }

    /// Bytes that are kept of a record in part.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.records().map_or(0, Records::held_len)
    }

    /// Receives at most `room` bytes, and puts what they say to the front of `buffer`, which has at least [`RECORD_LEN_MAX`] bytes if
    /// this is TLS: how many those are. 0 is the end.
    ///
    /// # Errors
    /// What `recv(2)` gives; and a record that is none, whose sender has been told so.
    pub fn poll_recv(&mut self, context: &mut Context<'_>, buffer: &mut [u8], room: usize) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => {
                let (buffer, _) = buffer.split_at_mut(room.min(buffer.len()));
                socket.poll_recv(context, buffer)
            }
            Self::Tls(tls) => tls.poll_recv(context, buffer, room),
        }
    }

    /// Waits for bytes and lends them to `take`. Returns their length; 0: the other side has closed or broken the connection, or
    /// `timer` has expired.
    pub async fn recv(&mut self, env: &Env, timer: &mut Timer, mut take: impl FnMut(&[u8])) -> usize {
        match self {
            Self::Plain(socket) => stream::recv(env, socket, timer, take).await,
            Self::Tls(tls) => {
                poll_fn(|context| {
                    let mut scratch = env.scratch();
                    let room = scratch.len();
                    match tls.poll_recv(context, &mut scratch, room) {
                        Poll::Pending => timer.poll_expired(context).map(|()| 0),
                        Poll::Ready(received) => {
                            let len = received.unwrap_or_else(|error| count_broken(env, &error));
                            take(scratch.split_at(len).0);
                            Poll::Ready(len)
                        }
                    }
                })
                .await
            }
        }
    }

    /// Writes all of `bytes`, and with `is_last` that nothing follows.
    ///
    /// # Errors
    /// What `send(2)` gives, or a time-out at `deadline`.
    pub async fn send_all(&mut self, env: &Env, bytes: &[u8], is_last: bool, deadline: Instant) -> io::Result<()> {
        match self {
            Self::Plain(socket) => stream::send_all(env, socket, bytes, deadline).await,
            Self::Tls(tls) => {
                let mut sealed = Vec::new();
                tls.seal(&[bytes], &mut sealed)?;
                if is_last {
                    tls.records.close(&mut sealed);
                }
                stream::send_all(env, &tls.socket, &sealed, deadline).await
            }
        }
    }

    /// Says that nothing follows, if that can be said at once, and closes our side.
    pub fn shutdown_write(&mut self) {
        self.say_goodbye();
        self.socket().shutdown_write();
    }

    /// Says that nothing follows, if that can be said at once. Nothing may be written any more, nor be on its way in part.
    pub fn say_goodbye(&mut self) {
        if let Self::Tls(tls) = self {
            tls.say_goodbye();
        }
    }

    /// What comes from now on is of no use, and takes no memory.
    pub fn deafen(&mut self) {
        if let Self::Tls(tls) = self {
            tls.state = State::Deaf;
            tls.records.forget();
        }
    }
}

impl TlsSocket {
    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Appends the records of a text in parts.
    ///
    /// # Errors
    /// The connection is at its end.
    pub fn seal(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) -> io::Result<()> {
        self.records
            .seal(parts, out)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn poll_recv(&mut self, context: &mut Context<'_>, buffer: &mut [u8], room: usize) -> Poll<io::Result<usize>> {
        debug_assert!(buffer.len() >= RECORD_LEN_MAX, "a record is opened in one piece");
        loop {
            let begun = match self.state {
                State::Ended => return Poll::Ready(Ok(0)),
                State::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                State::Deaf => 0,
                State::Open => self.records.begin(buffer),
            };
            let (_, free) = buffer.split_at_mut(begun);
            let (free, _) = free.split_at_mut(room.min(free.len()));
            let len = ready!(self.socket.poll_recv(context, free))?;
            if len == 0 || self.state == State::Deaf {
                return Poll::Ready(Ok(len));
            }
            let (received, _) = buffer.split_at_mut(begun + len);
            // What came before an end counts.
            let plain_len = self.open(received);
            if plain_len > 0 {
                return Poll::Ready(Ok(plain_len));
            }
        }
    }

    /// Opens what was received, in its place, and notes its end. Returns the length of the text at its front.
    fn open(&mut self, received: &mut [u8]) -> usize {
        let opened = self.records.open(received);
        match opened.end {
            None => {}
            Some(End::Fault(fault)) => {
                self.refuse(fault);
                self.state = State::Broken;
            }
            Some(End::CloseNotify | End::Alert(_)) => self.state = State::Ended,
        }
        opened.plain_len
    }

    /// Tells the other side what is wrong, if that can be done at once.
    fn refuse(&mut self, fault: Fault) {
        let mut alert = Vec::new();
        self.records.alert(fault, &mut alert);
        let _ = self.socket.try_send(&alert);
    }

    fn say_goodbye(&mut self) {
        let mut goodbye = Vec::new();
        self.records.close(&mut goodbye);
        if !goodbye.is_empty() {
            let _ = self.socket.try_send(&goodbye);
        }
    }
}

/// The connection has broken: 0 bytes come.
pub fn count_broken(env: &Env, error: &io::Error) -> usize {
    if error.kind() == io::ErrorKind::InvalidData {
        env.counters.tls_records_bad.add();
    }
    0
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Wire>() == size_of::<Socket>(), "plain clients pay nothing");
#[cfg(all(not(simulation), target_pointer_width = "64"))]
const _: () = assert!(
    size_of::<TlsSocket>() <= 256,
    "all that an idle client has more under TLS"
);

//! Keeps what a client's WebSocket needs beside its session: the socket, plain or under TLS, who is woken for it, and what came of a message
//! that is not whole yet. Between two messages that is a few words.

use std::io;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use shards::socket::HungUp;
use shards::turn;

use super::frame::{Frame, send_some};
use super::write_queue::{Left, WriteQueue};
use crate::wire::Wire;
use protocol::websocket::deflate::Deflate;
use protocol::websocket::{Decoder, DecoderLimits, Incoming, WebSocketError};

/// A server's WebSocket whose opening handshake is done (RFC 6455, 4.2). Nothing was read beyond it.
#[derive(Debug)]
pub(super) struct WebSocket {
    wire: Wire,
    /// Its task, which is woken when the socket can do what it could not.
    waker: Waker,
    decoder: Decoder,
    /// Of a client that compresses.
    deflate: Option<Box<Deflate>>,
    unread: Option<Box<Unread>>,
}

/// Bytes that were received and whose turn has not come: the client is not read now, or others go first.
#[derive(Debug)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    /// So many of them have had their turn.
    taken: usize,
}

impl WebSocket {
    pub(super) fn new(wire: Wire, deflate: Option<Deflate>) -> Self {
        Self {
            wire,
            waker: Waker::noop().clone(),
            decoder: Decoder::default(),
            deflate: deflate.map(Box::new),
            unread: None,
        }
    }

    /// What it is on, to be looked at.
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Nothing more is written.
    pub(super) fn shutdown_write(&mut self) {
        self.wire.shutdown_write();
    }

    /// The connection is over; nothing of it is on its way in part.
    pub(super) fn say_goodbye(&mut self) {
        self.wire.say_goodbye();
    }

    /// What [`set_waker`](Self::set_waker) has set; before, it wakes nobody.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(super) fn set_waker(&mut self, waker: &Waker) {
        self.waker.clone_from(waker);
    }

    /// Receives what is there, at most `room` bytes; its task is woken for more. 0 bytes are the end.
    pub(super) fn poll_receive(&mut self, buffer: &mut [u8], room: usize) -> Poll<io::Result<usize>> {
        self.wire.poll_recv(&mut Context::from_waker(&self.waker), buffer, room)
    }

    /// Ready once the connection is broken, or the client has closed its side and all that it sent was received and had its turn;
    /// its task is woken when that may be.
    pub(super) fn poll_gone(&self) -> Poll<()> {
        let mut context = Context::from_waker(&self.waker);
        match self.wire.socket().poll_hung_up(&mut context) {
            Poll::Ready(HungUp::Closed) if self.unread.is_some() => Poll::Pending,
            hung_up => hung_up.map(drop),
        }
    }

    /// Takes a frame, or what there is of it, from the front of `input`. A message has at most `message_max` bytes.
    pub(super) fn decode<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        message_max: usize,
    ) -> Result<Option<Incoming<'b>>, WebSocketError> {
        turn::spend(FRAME_COST);
        let limits = DecoderLimits {
            message_max,
            is_deflate_agreed: self.deflate.is_some(),
        };
        self.decoder.decode(input, limits)
    }

    /// What its compressed messages refer to, if they may be compressed.
    pub(super) fn deflate(&mut self) -> Option<&mut Deflate> {
        self.deflate.as_deref_mut()
    }

    /// What [`deflate`](Self::deflate) gives, to be looked at.
    pub(super) fn deflate_state(&self) -> Option<&Deflate> {
        self.deflate.as_deref()
    }

    /// What has come of a frame or a message in part, and what had no turn.
    pub(super) fn received(&self) -> (&Decoder, &[u8]) {
        let unread = self.unread.as_ref();
        (
            &self.decoder,
            unread.map_or(&[], |unread| unread.bytes.split_at(unread.taken).1),
        )
    }

    /// Goes on with what [`received`](Self::received) was elsewhere.
    pub(super) fn with_received(mut self, decoder: Decoder, unread: &[u8]) -> Self {
        self.decoder = decoder;
        self.unread = (!unread.is_empty()).then(|| Unread::new(unread));
        self
    }

    /// Leaves the rest.
    pub(super) fn into_wire(self) -> Wire {
        self.wire
    }

    /// Writes `frame` as far as the socket takes it now; its task is woken when it takes more.
    pub(super) fn poll_write(&mut self, frame: &mut Frame, scratch: &mut Vec<u8>) -> Poll<io::Result<()>> {
        frame.poll_write(&mut Context::from_waker(&self.waker), &mut self.wire, scratch)
    }

    /// Writes frames that were built before, as far as the socket takes them now. Returns what is left; then its task is woken
    /// when it takes more.
    pub(super) fn write_bytes(&mut self, bytes: &[u8], scratch: &mut Vec<u8>) -> io::Result<Option<Frame>> {
        let context = &mut Context::from_waker(&self.waker);
        let socket = match &mut self.wire {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => {
                scratch.clear();
                tls.seal(&[bytes], scratch)?;
                let (_, rest) = scratch.split_at(send_some(context, tls.socket(), scratch)?);
                return Ok((!rest.is_empty()).then(|| Frame::sealed(rest)));
            }
        };
        let (_, rest) = bytes.split_at(send_some(context, socket, bytes)?);
        Ok((!rest.is_empty()).then(|| Frame::whole(rest.to_vec())))
    }

    /// The same for what waits; see [`WriteQueue::poll_write`].
    pub(super) fn poll_write_queue(
        &mut self,
        queue: &mut WriteQueue,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) -> Poll<io::Result<(Frame, Left)>> {
        queue.poll_write(&mut Context::from_waker(&self.waker), &mut self.wire, scratch, now)
    }

    /// Bytes that are kept for what has come and is not a whole message, or had no turn.
    pub(super) fn held_len(&self) -> usize {
        let unread = self.unread.as_ref().map_or(0, |unread| unread.bytes.capacity());
        self.decoder.held_len() + unread + self.wire.held_len()
    }

    /// Lets go of what is not a whole message, or had no turn. What comes from now on is of no use.
    pub(super) fn forget(&mut self) {
        self.wire.deafen();
        self.decoder = Decoder::default();
        self.unread = None;
    }

    pub(super) fn take_unread(&mut self) -> Option<Box<Unread>> {
        self.unread.take()
    }

    /// Keeps what is left of `unread`.
    pub(super) fn keep_unread(&mut self, unread: Box<Unread>) {
        if unread.taken < unread.bytes.len() {
            self.unread = Some(unread);
        }
    }
}

impl Unread {
    pub(super) fn new(bytes: &[u8]) -> Box<Self> {
        Box::new(Self {
            bytes: bytes.to_vec(),
            taken: 0,
        })
    }

    /// Lends what is left to `take`, which takes from its front.
    pub(super) fn with(&mut self, take: impl FnOnce(&mut &mut [u8])) {
        let (_, mut rest) = self.bytes.split_at_mut(self.taken);
        take(&mut rest);
        let left = rest.len();
        self.taken = self.bytes.len() - left;
    }
}

/// What a frame costs beside its bytes, in the cost of received ones. A message's smallest part is a frame without a payload.
const FRAME_COST: usize = 256;
/// How long the other side may take to answer a close frame.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

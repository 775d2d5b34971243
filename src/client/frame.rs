//! Holds a frame on its way to the client, and how much of it the socket has taken.

use std::io;
use std::task::{Context, Poll, ready};

use shards::Socket;

use crate::wire::{TlsSocket, Wire};
use protocol::ocpp::PushKey;
use protocol::websocket::{self, Header};

/// A frame that is to be written.
#[derive(Debug)]
pub(super) struct Frame {
    /// A message's header; nothing where the body is whole frames.
    header: Header,
    body: Vec<u8>,
    /// Bytes of both that the socket has taken.
    sent: usize,
    /// The push that it is the frame of.
    pub(super) push: Option<PushKey>,
    /// Its body is what TLS has made of it.
    is_sealed: bool,
}

impl Frame {
    /// A text message.
    pub(super) fn text(text: String, push: Option<PushKey>) -> Self {
        Self::new(Header::text(text.len(), false), text.into_bytes(), push)
    }

    /// A binary message.
    pub(super) fn binary(bytes: Vec<u8>) -> Self {
        Self::new(Header::binary(bytes.len(), false), bytes, None)
    }

    /// A ping without payload.
    pub(super) fn ping() -> Self {
        Self::whole(websocket::ping())
    }

    /// The answer to a ping.
    pub(super) fn pong(payload: &[u8]) -> Self {
        Self::whole(websocket::pong(payload))
    }

    /// A close frame; `None`: one without a code.
    pub(super) fn close(close: Option<(u16, &str)>) -> Self {
        Self::whole(websocket::close(close))
    }

    /// What was built before, frame after frame.
    pub(super) fn whole(bytes: Vec<u8>) -> Self {
        Self::new(Header::default(), bytes, None)
    }

    /// What TLS has made of frames, and the socket has not taken.
    pub(super) fn sealed(records: &[u8]) -> Self {
        Self {
            is_sealed: true,
            ..Self::whole(records.to_vec())
        }
    }

    fn new(header: Header, body: Vec<u8>, push: Option<PushKey>) -> Self {
        Self {
            header,
            body,
            sent: 0,
            push,
            is_sealed: false,
        }
    }

    /// Bytes that the socket has not taken.
    pub(super) fn len(&self) -> usize {
        self.header.len() + self.body.len() - self.sent
    }

    /// Whether it may leave a little later: an answer and a pong may, a push says whether it has left.
    pub(super) fn may_wait(&self) -> bool {
        self.push.is_none() && matches!(self.kind(), "text" | "pong")
    }

    /// What it is, in a word.
    pub(super) fn kind(&self) -> &'static str {
        let first = self.header.first().or(self.body.first());
        match first.map(|first| first & OPCODE) {
            Some(0x1) => "text",
            Some(0x2) => "binary",
            Some(0x8) => "close",
            Some(0x9) => "ping",
            _ => "pong",
        }
    }

    /// The payload of a message, or of a control frame, whose header has two bytes.
    pub(super) fn payload(&self) -> &[u8] {
        let skipped = if self.header.is_empty() { 2 } else { 0 };
        self.body.get(skipped..).unwrap_or_default()
    }

    /// The payload of a message, which may be compressed.
    pub(super) fn message(&self) -> &[u8] {
        if self.header.is_empty() { &[] } else { &self.body }
    }

    /// Puts the message's compressed payload in the place of the plain one.
    pub(super) fn set_deflated(&mut self, deflated: &[u8]) {
        self.header = match self.kind() {
            "text" => Header::text(deflated.len(), true),
            _ => Header::binary(deflated.len(), true),
        };
        self.body.clear();
        self.body.extend_from_slice(deflated);
    }

    /// Gives back memory that holds nothing, before it waits.
    pub(super) fn shrink(&mut self) {
        self.body.shrink_to_fit();
    }

    /// Appends all of it to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
        out.extend_from_slice(&self.body);
    }

    /// The memory of its payload.
    pub(super) fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// Writes on, as far as the socket takes it. `scratch` is overwritten: a header leaves with what follows it, in one call.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        wire: &mut Wire,
        scratch: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        match wire {
            Wire::Plain(socket) => self.poll_send(context, socket, scratch),
            Wire::Tls(tls) if self.is_sealed => self.poll_send(context, tls.socket(), scratch),
            Wire::Tls(tls) => self.poll_seal(context, tls, scratch),
        }
    }

    /// Seals all of it, and sends it as far as the socket takes it; the rest takes its place.
    fn poll_seal(
        &mut self,
        context: &mut Context<'_>,
        tls: &mut TlsSocket,
        scratch: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        if self.len() == 0 {
            return Poll::Ready(Ok(()));
        }
        scratch.clear();
        tls.seal(&[&self.header, &self.body], scratch)?;
        let sent = send_some(context, tls.socket(), scratch)?;
        let (_, rest) = scratch.split_at(sent);
        let is_whole = rest.is_empty();
        if is_whole {
            self.sent = self.header.len() + self.body.len();
        } else {
            let push = self.push;
            *self = Self {
                push,
                ..Self::sealed(rest)
            };
        }
        if scratch.capacity() > SCRATCH_KEPT {
            *scratch = Vec::new();
        }
        if is_whole { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_send(&mut self, context: &mut Context<'_>, socket: &Socket, scratch: &mut Vec<u8>) -> Poll<io::Result<()>> {
        while self.len() > 0 {
            let taken = match self.header.get(self.sent..).filter(|rest| !rest.is_empty()) {
                Some(rest) => {
                    scratch.clear();
                    scratch.extend_from_slice(rest);
                    scratch.extend_from_slice(self.body.get(..COPIED_LEN_MAX).unwrap_or(&self.body));
                    ready!(socket.poll_send(context, scratch))?
                }
                None => {
                    let (_, rest) = self.body.split_at(self.sent - self.header.len());
                    ready!(socket.poll_send(context, rest))?
                }
            };
            self.sent += taken;
        }
        Poll::Ready(Ok(()))
    }
}

/// Sends as much of `bytes` as the socket takes now, and how much that is. If it is less than all, the task is woken when it takes
/// more.
pub(super) fn send_some(context: &mut Context<'_>, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while let Some(rest @ [_, ..]) = bytes.get(sent..) {
        match socket.poll_send(context, rest) {
            Poll::Pending => break,
            Poll::Ready(taken) => sent += taken?,
        }
    }
    Ok(sent)
}

/// The opcode in a frame's first byte (RFC 6455, 5.2).
const OPCODE: u8 = 0x0f;
/// How much of a payload is copied behind its header. The rest of a longer one is written from where it is.
const COPIED_LEN_MAX: usize = 16 * 1024;
/// What is kept of the room in which frames are sealed.
const SCRATCH_KEPT: usize = 64 * 1024;

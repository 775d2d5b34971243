//! Makes the WebSocket library's streams with every bound set, and says what their results mean.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Error, Message};
use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use futures_sink::Sink;
use shards::Socket;

use super::boundary::Boundary;
use crate::config::Core;

/// A WebSocket of the library's.
pub type WebSocket = WebSocketStream<Wire>;

/// The socket as the library has it. Whoever waits for it is told once, by [`set_waker`](Self::set_waker): the
/// library's own wakers are one for each direction, behind atomics, and renewed with every call.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    waker: Waker,
    boundary: Boundary,
    /// The library's buffers have grown to hold a large frame.
    is_overgrown: bool,
    /// What the one for reading holds anyway.
    read_buffer: usize,
}

/// A server's WebSocket on a socket whose opening handshake is done (RFC 6455, 4.2). Nothing was read beyond it.
pub async fn open(socket: Socket, core: &Core) -> WebSocket {
    let wire = Wire {
        socket,
        waker: Waker::noop().clone(),
        boundary: Boundary::default(),
        is_overgrown: false,
        read_buffer: core.read_buffer,
    };
    let config = WebSocketConfig::default()
        // Resident for every client; the library's default is 128 KiB.
        .read_buffer_size(core.read_buffer)
        // What is deferred waits here; all else is flushed behind the message.
        .write_buffer_size(DEFERRED_LEN_MAX)
        // One frame at a time is handed over, and a pong or a close beside it.
        .max_write_buffer_size(FRAMES_BUFFERED * (core.message_max + FRAME_OVERHEAD))
        .max_message_size(Some(core.message_max))
        .max_frame_size(Some(core.message_max))
        .accept_unmasked_frames(false);
    WebSocketStream::from_raw_socket(wire, Role::Server, Some(config)).await
}

/// Gives back the memory of a large frame once it has come or gone: the library keeps its buffers as large as they ever
/// were. It gets new ones when it has nothing in the old ones; until then nothing happens. The caller knows that the
/// connection is open and that all it wrote, pongs included, has left.
pub fn shrink(stream: &mut Option<WebSocket>) {
    let Some(overgrown) = stream.take_if(|stream| stream.get_ref().can_shrink()) else {
        return;
    };
    // The client's limits stay those that it came with.
    let config = *overgrown.get_config();
    let mut wire = overgrown.into_inner();
    wire.is_overgrown = false;
    let fresh = pin!(WebSocketStream::from_raw_socket(wire, Role::Server, Some(config)));
    match fresh.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(fresh) => *stream = Some(fresh),
        Poll::Pending => unreachable!("there is no handshake to wait for"),
    }
}

impl Wire {
    /// Its task, which is woken when the socket can do what it could not.
    pub fn set_waker(&mut self, waker: &Waker) {
        self.waker.clone_from(waker);
    }

    /// What [`set_waker`](Self::set_waker) has set; before, it wakes nobody.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// The socket beneath the library's stream.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    fn can_shrink(&self) -> bool {
        self.is_overgrown && self.boundary.is_all_taken()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let received = self.socket.poll_recv(&mut Context::from_waker(&self.waker), buffer);
        if let Poll::Ready(Ok(len)) = received {
            let largest = self.boundary.advance(&buffer[..len]);
            self.is_overgrown |= largest > self.read_buffer as u64;
        }
        received
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_overgrown |= bytes.len() > SENT_LEN_KEPT;
        self.socket.poll_send(&mut Context::from_waker(&self.waker), bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.shutdown_write();
        Poll::Ready(Ok(()))
    }
}

/// The next message; [`Wire::set_waker`]'s task is woken for it.
pub fn read(stream: &mut WebSocket) -> Poll<Option<Result<Message, Error>>> {
    let message = Pin::new(&mut *stream).poll_next(&mut Context::from_waker(Waker::noop()));
    if let Poll::Ready(Some(Ok(_))) = message {
        stream.get_mut().boundary.take();
    }
    message
}

/// Like [`read`], for a connection that is open and owes no pong: the library is not asked when it has handed out all
/// that came. It would clear its buffer for reading first, to find that there is nothing to read.
pub fn read_news(stream: &mut WebSocket) -> Poll<Option<Result<Message, Error>>> {
    let Wire {
        socket,
        waker,
        boundary,
        ..
    } = stream.get_ref();
    if boundary.is_all_taken() && socket.poll_readable(&mut Context::from_waker(waker)).is_pending() {
        return Poll::Pending;
    }
    read(stream)
}

/// Goes on with what the socket did not take before.
pub fn flush(stream: &mut WebSocket) -> Poll<Result<(), Error>> {
    Pin::new(stream).poll_flush(&mut Context::from_waker(Waker::noop()))
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// The kernel has all of it.
    Whole,
    /// The socket is full; the rest leaves when it is not.
    Partly,
    /// The connection is of no more use.
    Failed,
}

/// Writes `message` as far as the socket takes it now.
pub fn write(stream: &mut WebSocket, message: Message) -> Written {
    let mut context = Context::from_waker(Waker::noop());
    let mut sink = Pin::new(stream);
    // A pong may still wait in the library; the message then waits behind it.
    if let Poll::Ready(Err(_)) = sink.as_mut().poll_ready(&mut context) {
        return Written::Failed;
    }
    let is_close = message.is_close();
    match sink.as_mut().start_send(message) {
        Ok(()) => {}
        Err(_) if is_close => return Written::Whole,
        Err(_) => return Written::Failed,
    }
    match sink.poll_flush(&mut context) {
        Poll::Pending => Written::Partly,
        Poll::Ready(Ok(())) => Written::Whole,
        Poll::Ready(Err(_)) if is_close => Written::Whole,
        Poll::Ready(Err(_)) => Written::Failed,
    }
}

/// Hands over a message that leaves with the next [`flush`]; one that follows [`DEFERRED_LEN_MAX`] bytes of them may
/// leave before.
///
/// # Errors
/// The connection is of no more use.
pub fn enqueue(stream: &mut WebSocket, message: Message) -> Result<(), Error> {
    Pin::new(stream).start_send(message)
}

/// The close code and reason for a client that sent what it may not (RFC 6455, 7.4.1); `None`: it is gone, and nobody
/// is there to be told.
#[must_use]
pub fn close_code(error: &Error) -> Option<(u16, &'static str)> {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | Error::Io(_)
        | Error::ConnectionClosed
        | Error::AlreadyClosed => None,
        Error::Utf8(_) => Some((1007, "invalid UTF-8")),
        Error::Capacity(_) => Some((1009, "message too large")),
        _ => Some((1002, "protocol error")),
    }
}

/// Reads and drops what a client still sends that has broken the protocol. False: it has closed its side.
pub fn discard(stream: &WebSocket) -> Poll<bool> {
    let mut scratch = [0; DISCARD_LEN];
    let Wire { socket, waker, .. } = stream.get_ref();
    let received = socket.poll_recv(&mut Context::from_waker(waker), &mut scratch);
    received.map(|received| matches!(received, Ok(1..)))
}

/// How many bytes of frames a connection keeps that were handed over and not flushed.
pub const DEFERRED_LEN_MAX: usize = 4096;
/// The header of such a frame, at most (RFC 6455, 5.2).
pub const DEFERRED_HEADER_LEN: usize = 4;
const _: () = assert!(
    DEFERRED_LEN_MAX < FRAMES_BUFFERED * FRAME_OVERHEAD,
    "the library wants it below its bound"
);

/// How long the other side may take to answer a close frame.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The buffer for writing begins empty and may stay as large as such a frame makes it, or twice that.
const SENT_LEN_KEPT: usize = 256;
const FRAMES_BUFFERED: usize = 2;
/// What we put around a payload of `message_max` bytes: ids, an action, brackets, a frame header.
const FRAME_OVERHEAD: usize = 4096;
const DISCARD_LEN: usize = 2048;

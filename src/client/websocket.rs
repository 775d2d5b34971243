//! The WebSocket library's one user: makes it with every bound set, and says what its results mean.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Error, Message};
use futures_sink::Sink;
use shards::Socket;

use crate::config::Core;

/// A server's WebSocket on a socket whose opening handshake is done (RFC 6455, 4.2). Nothing was read beyond it.
pub async fn open(socket: Socket, core: &Core) -> WebSocketStream<Socket> {
    let config = WebSocketConfig::default()
        // Resident for every client; the library's default is 128 KiB.
        .read_buffer_size(core.read_buffer)
        // Each message leaves at once.
        .write_buffer_size(0)
        // One frame at a time is handed over, and a pong or a close beside it.
        .max_write_buffer_size(FRAMES_BUFFERED * (core.message_max + FRAME_OVERHEAD))
        .max_message_size(Some(core.message_max))
        .max_frame_size(Some(core.message_max))
        .accept_unmasked_frames(false);
    WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await
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
pub fn write(mut stream: Pin<&mut WebSocketStream<Socket>>, context: &mut Context<'_>, message: Message) -> Written {
    // A pong may still wait in the library; the message then waits behind it.
    if let Poll::Ready(Err(_)) = stream.as_mut().poll_ready(context) {
        return Written::Failed;
    }
    let is_close = message.is_close();
    match stream.as_mut().start_send(message) {
        Ok(()) => {}
        Err(_) if is_close => return Written::Whole,
        Err(_) => return Written::Failed,
    }
    match stream.poll_flush(context) {
        Poll::Pending => Written::Partly,
        Poll::Ready(Ok(())) => Written::Whole,
        Poll::Ready(Err(_)) if is_close => Written::Whole,
        Poll::Ready(Err(_)) => Written::Failed,
    }
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
pub fn discard(stream: &WebSocketStream<Socket>, context: &mut Context<'_>) -> Poll<bool> {
    let mut scratch = [0; DISCARD_LEN];
    let received = stream.get_ref().poll_recv(context, &mut scratch);
    received.map(|received| matches!(received, Ok(1..)))
}

/// How long the other side may take to answer a close frame.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

const FRAMES_BUFFERED: usize = 2;
/// What we put around a payload of `message_max` bytes: ids, an action, brackets, a frame header.
const FRAME_OVERHEAD: usize = 4096;
const DISCARD_LEN: usize = 2048;

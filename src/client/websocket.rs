//! The one place that makes a WebSocket: every bound of the library is set here.

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
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

const FRAMES_BUFFERED: usize = 2;
/// What we put around a payload of `message_max` bytes: ids, an action, brackets, a frame header.
const FRAME_OVERHEAD: usize = 4096;

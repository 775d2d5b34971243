//! Holds very many WebSocket clients on few threads: sockets, polling and frames, for `hold120k` and `ws2api load`.
//!
//! It speaks only the wire, and imports nothing of what it measures.

pub mod head;
pub mod net;
pub mod poller;
pub mod sys;
pub mod websocket;

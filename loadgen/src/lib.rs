//! Holds very many WebSocket clients on few threads, for whoever tells them what to say: `hold120k` and `ws2api load`.
//!
//! [`engine`] is all of it put together; a `Script` is what its clients say. It speaks only the wire, and imports nothing of
//! what it measures but the records of TLS, which are checked against those of rustls.

pub mod amounts;
pub mod engine;
pub mod head;
pub mod net;
pub mod poller;
pub mod stream;
pub mod sys;
pub mod websocket;

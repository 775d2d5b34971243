//! Acts: the clients' side. Accepts, checks the opening handshake, asks the backend, and holds the WebSockets.

pub mod accept;
mod boundary;
pub mod connection;
pub mod deferred_writes;
pub mod forwarded;
pub mod handshake;
pub mod identity;
pub mod registry;
mod trace;
pub mod websocket;
mod write_queue;

pub use connection::Connection;
pub use deferred_writes::DeferredWrites;
pub use identity::{ConnectionId, Identity};
pub use registry::Registry;

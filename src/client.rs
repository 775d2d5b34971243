//! Acts: the clients' side. Accepts, checks the opening handshake, asks the backend, and holds the WebSockets.

pub mod accept;
mod boundary;
pub mod connection;
pub mod deferred_writes;
pub mod handshake;
pub mod registry;
mod trace;
pub mod websocket;
mod write_queue;

pub use connection::Connection;
pub use deferred_writes::DeferredWrites;
pub use registry::Registry;

//! Acts: the clients' side. Accepts, checks the opening handshake, asks the backend, and holds the WebSockets.

pub mod accept;
mod boundary;
pub mod connection;
pub mod departures;
pub mod forwarded;
pub mod handshake;
pub mod identity;
pub mod registry;
mod sending;
mod trace;
pub mod websocket;

pub use connection::Connection;
pub use departures::Departures;
pub use identity::{ConnectionId, Identity};
pub use registry::Registry;

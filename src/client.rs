//! Serves the clients: accepts, checks the opening handshake, asks the backend, and holds the WebSockets.

pub mod accept;
mod boundary;
mod clients;
pub mod connection;
mod conversation;
mod deferred_writes;
mod description;
mod earlier_calls;
mod end;
mod handshake;
mod permit;
mod places;
mod questions;
mod registry;
mod trace;
mod upgrade_rate;
mod verdict;
pub mod websocket;
mod write_queue;

pub use clients::{Backend, Clients, Overloaded};
pub use connection::Connection;
pub use conversation::Conversation;
pub use description::Description;
pub use verdict::Verdict;

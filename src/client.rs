//! Serves the clients: accepts, checks the opening handshake, asks the backend, and holds the WebSockets.

pub mod accept;
mod adoption;
mod clients;
mod compression;
pub mod connection;
mod conversation;
mod deferred_writes;
mod description;
mod earlier_calls;
mod end;
mod frame;
mod handshake;
mod incidents;
pub mod parcel;
mod permit;
mod places;
mod questions;
mod quiet;
mod registry;
pub mod room;
pub mod tickets;
pub mod tls;
mod top;
mod trace;
mod twins;
mod upgrade_rate;
mod verdict;
mod websocket;
mod write_queue;

pub use clients::{Backend, Clients, Overloaded};
pub use connection::Connection;
pub use conversation::{Conversation, Message};
pub use description::Description;
pub use top::{TOP_LEN, TopBy, TopSlice};
pub use verdict::Verdict;

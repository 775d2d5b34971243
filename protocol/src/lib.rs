//! Decides for ws2api. Bytes, times and random numbers come in as arguments; frames, requests and deadlines go out as
//! values.
//!
//! Nothing here knows a socket, a clock, a thread or a task, and this package depends on nothing that does, so that a
//! seeded simulation can drive it through every interleaving.
//!
//! - [`ocpp`]: the OCPP-J conversation of one client.
//! - [`http`]: HTTP/1.1 messages, strictly.
//! - [`mapping`]: what stands between the two: requests to the backend, its answers, the routes and bodies of the ingress.
//! - [`balance`]: which backend gets the next request.
//! - [`buffers`]: who waits and who goes when a shard holds too many bytes for others.
//! - [`capacity`]: how many a backend gets at once, and which shard may send them.
//! - [`cluster`]: how nodes find each other's clients.
//! - [`nats`]: the client protocol of NATS, on which nodes speak.
//! - [`takeover`]: how a new process takes over from the one that runs.
//! - [`record`]: a client written down for another process.
//! - [`question`]: what the ingress asks about a client, wherever that is.
//! - [`websocket`]: the rules of the opening handshake, frames, and compression.
//! - [`tls`]: handshakes, and records behind them.
//! - [`proxy_protocol`]: the header that a load balancer writes before a connection's first byte.
//! - [`tap`]: what operators see of the clients' frames.
//! - [`trace_context`]: the header that ties the requests of several systems together.

// Bytes of the network and of configurations get everywhere in here, and never cause a panic: what could is refused by the
// compiler, or says why it does not.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::unwrap_used, clippy::panic)
)]

#[allow(
    clippy::indexing_slicing,
    reason = "backends and connections are numbered here; no byte chooses one"
)]
pub mod balance;
pub mod buffers;
#[allow(
    clippy::indexing_slicing,
    reason = "shards and kinds are numbered by the program; no byte chooses one"
)]
pub mod capacity;
pub mod cluster;
pub mod http;
pub mod mapping;
pub mod nats;
pub mod ocpp;
pub mod proxy_protocol;
pub mod question;
pub mod record;
pub mod takeover;
pub mod tap;
pub mod tls;
pub mod trace_context;
pub mod websocket;

#[cfg(test)]
mod random;
#[cfg(test)]
mod worlds;

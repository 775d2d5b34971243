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
//! - [`takeover`]: how a new process takes over from the one that runs.
//! - [`record`]: a client written down for another process.
//! - [`websocket`]: the rules of the opening handshake, frames, and compression.
//! - [`proxy_protocol`]: the header that a load balancer writes before a connection's first byte.
//! - [`tap`]: what operators see of the clients' frames.
//! - [`trace_context`]: the header that ties the requests of several systems together.

pub mod balance;
pub mod buffers;
pub mod capacity;
pub mod http;
pub mod mapping;
pub mod ocpp;
pub mod proxy_protocol;
pub mod record;
pub mod takeover;
pub mod tap;
pub mod trace_context;
pub mod websocket;

#[cfg(test)]
mod random;

//! Connects this node with others through NATS, so that a push finds its client on whichever node it is.
//!
//! One ordinary thread, `cluster`, owns the connection to NATS and the [`Member`](protocol::cluster::Member), which decides. Shards
//! say things to it through a [`Line`](line::Line), and hear from it by mail; none of them waits for it, and nothing of it is on the way of what
//! is about a client that is here. Without `cluster` there is neither thread nor line.

pub mod credentials;
mod going;
pub mod line;
pub mod link;
pub mod reach;
pub mod status;
pub mod thread;
mod unsent;

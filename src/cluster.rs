//! Finds clients of other nodes through NATS.

pub mod credentials;
pub mod link;
pub mod reach;

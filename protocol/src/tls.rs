//! Decides TLS without its I/O (RFC 8446, and RFC 5246 with AEAD suites).
//!
//! A handshake is rustls', bytes in and bytes out. When it is done, rustls has gone, and what is left of it are [`Records`]: keys,
//! numbers of records and nothing else. They seal and open in the caller's buffers, and have no heap between two records.
//!
//! rustls is built without its standard library here: that is, without a clock, without files and without locks. The time, and
//! where randomness comes from, are the caller's, in the configuration that it gives.

pub mod certificate;
pub mod certificates;
mod fault;
mod handshake;
mod keys;
mod records;
mod suite;
#[cfg(test)]
mod tests;

pub use self::fault::{End, Fault, SealError};
pub use self::handshake::{
    ClientHandshake, Established, Facts, HANDSHAKE_LEN_MAX, HandshakeError, ServerHandshake, Tickets,
};
pub use self::records::{Opened, RECORD_LEN_MAX, Records};
pub use self::suite::{Suite, Version};

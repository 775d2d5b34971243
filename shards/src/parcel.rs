//! Defines what a socket travels in from one shard to another.

use std::os::fd::OwnedFd;

use crate::socket::Descriptor;

/// A socket on its way, with the bytes that belong to it.
#[derive(Debug)]
pub struct Parcel {
    /// The connected socket, in no shard's reactor.
    pub socket: Descriptor,
    /// At most [`BYTES_MAX`] bytes; their meaning is the user's.
    pub bytes: Vec<u8>,
}

/// The same between a shard and the ordinary threads, which have real sockets only.
#[derive(Debug)]
pub struct Passed {
    /// The connected socket.
    pub socket: OwnedFd,
    /// At most [`BYTES_MAX`] bytes.
    pub bytes: Vec<u8>,
}

/// A socket that could not be received (out of descriptors): the kernel has closed that connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lost {
    /// What the parcel had beside the socket: it tells whose that was.
    pub bytes: Vec<u8>,
}

/// So many bytes go with one socket at the most.
pub const BYTES_MAX: usize = 65 * 1024;
/// So many sockets wait for one receiver at the most; one more is refused.
pub const WAITING_MAX: usize = 1024;

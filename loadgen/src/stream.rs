//! Carries a client's bytes: the one place that knows what is between them and their socket. That is nothing, so far.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::net::{self, Received};

/// A connection that is being made or is there.
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
}

impl Stream {
    /// Starts a connection, from `source` if given; writable means made or failed.
    ///
    /// # Errors
    /// Refused at once, out of descriptors or ports.
    pub fn connect(address: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<Self> {
        Ok(Self {
            socket: net::connect(address, source)?,
        })
    }

    /// Sends `bytes`, or what waits in `unsent` before them; what does not fit is kept in `unsent`.
    ///
    /// # Errors
    /// The connection has failed, or more than `unsent_max` bytes would wait.
    pub fn send(&mut self, bytes: &[u8], unsent: &mut Vec<u8>, unsent_max: usize) -> io::Result<()> {
        net::transmit_or_keep(&self.socket, bytes, unsent, unsent_max)
    }

    /// Sends what waits; an empty buffer gives its memory back.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn flush(&mut self, unsent: &mut Vec<u8>) -> io::Result<()> {
        net::flush(&self.socket, unsent)
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// The connection has failed, or was never made.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        net::try_receive(&self.socket, buffer)
    }

    /// Ends it so that no TIME_WAIT is left behind.
    pub fn reset(self) {
        net::close_with_reset(self.socket);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

//! Reads and writes non-blocking TCP, with answers that fit an edge-triggered loop.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// A SO_REUSEPORT listener, non-blocking. Every thread opens its own; the kernel spreads connections over them.
///
/// # Errors
/// Address taken by another user, not ours, or no descriptor left.
pub fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds a free port of `ip` without listening, so that nobody else takes it while our child opens its SO_REUSEPORT
/// listener there. Keep the socket until the child listens.
///
/// # Errors
/// What `bind(2)` says.
pub fn reserve_port(ip: Ipv4Addr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((ip, 0)).into())?;
    let address = socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the kernel gave a port without an address"))?;
    Ok((socket, address))
}

/// The next connection, `None` when no more wait.
///
/// # Errors
/// Out of descriptors or memory; one that died while it waited is skipped.
pub fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    loop {
        match rustix::net::accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => {
                sockopt::set_tcp_nodelay(&socket, true)?;
                return Ok(Some(socket));
            }
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Starts a connection, from `source` if given; writable means made or failed.
///
/// # Errors
/// Refused at once, out of descriptors or ports.
pub fn connect(address: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(ip) = source {
        crate::sys::set_bind_address_no_port(&socket)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(ip, 0))?;
    }
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// What a read gave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// So many bytes were read, at least one.
    Bytes(usize),
    /// Nothing now; an event will come.
    Nothing,
    /// The peer closed its side, or the connection failed.
    Closed,
}

/// Reads what is there; whatever ends the connection is [`Received::Closed`].
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Received {
    try_receive(socket, buffer).unwrap_or(Received::Closed)
}

/// Reads what is there.
///
/// # Errors
/// The connection has failed.
pub fn try_receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    loop {
        return match rustix::net::recv(&socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(Received::Closed),
            Ok((_, len)) => Ok(Received::Bytes(len)),
            Err(Errno::AGAIN) => Ok(Received::Nothing),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Writes what fits and says how much; `NotConnected` and `WouldBlock` are 0.
///
/// # Errors
/// The connection has failed.
pub fn transmit(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        return match rustix::net::send(&socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(len) => Ok(len),
            Err(Errno::AGAIN | Errno::NOTCONN) => Ok(0),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Writes `bytes`, or what waits in `unsent` before them; what does not fit is kept in `unsent`.
///
/// # Errors
/// The connection has failed, or more than `unsent_max` bytes would wait.
pub fn transmit_or_keep(socket: impl AsFd, bytes: &[u8], unsent: &mut Vec<u8>, unsent_max: usize) -> io::Result<()> {
    if unsent.is_empty() {
        let len = transmit(socket, bytes)?;
        if len < bytes.len() {
            unsent.extend_from_slice(&bytes[len..]);
        }
        return Ok(());
    }
    if unsent.len() + bytes.len() > unsent_max {
        return Err(io::Error::other("the peer does not read"));
    }
    unsent.extend_from_slice(bytes);
    flush(socket, unsent)
}

/// Writes what waits; an empty buffer gives its memory back.
///
/// # Errors
/// The connection has failed.
pub fn flush(socket: impl AsFd, unsent: &mut Vec<u8>) -> io::Result<()> {
    if unsent.is_empty() {
        return Ok(());
    }
    let len = transmit(socket, unsent)?;
    if len == unsent.len() {
        *unsent = Vec::new();
    } else {
        unsent.drain(..len);
    }
    Ok(())
}

/// Makes the coming close a reset: no TIME_WAIT is left behind, so that the next run finds all ports free.
pub fn close_with_reset(socket: OwnedFd) {
    let _ = sockopt::set_socket_linger(&socket, Some(std::time::Duration::ZERO));
    drop(socket);
}

const BACKLOG: i32 = 4096;

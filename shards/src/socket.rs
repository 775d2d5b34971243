//! Reads and writes a TCP or Unix stream socket that is in the shard's epoll.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};

use crate::reactor::{Entry, Reactor, Urgency};
use crate::turn::{self, TURN_LEN};

/// A connected socket in no reactor.
pub type Descriptor = OwnedFd;

/// A non-blocking stream socket, edge-triggered, owned by one shard. Reads and writes try the system call first and
/// wait only after it said "again".
#[derive(Debug)]
pub struct Socket {
    reactor: Rc<Reactor>,
    /// `None` only while `into_fd` takes it apart.
    entry: Option<Rc<Entry>>,
}

impl Socket {
    /// Takes over a connected, non-blocking descriptor.
    ///
    /// # Errors
    /// When epoll refuses it (out of kernel memory or watches).
    pub fn adopt(reactor: &Rc<Reactor>, fd: OwnedFd) -> io::Result<Self> {
        Self::register(reactor, fd, Urgency::Usual)
    }

    /// Opens a connection to `address`, without a delay for small writes and with keep-alive probes.
    ///
    /// # Errors
    /// What `connect(2)` gives: refused, unreachable, out of descriptors or ports. It sets no deadline of its own.
    pub async fn connect(reactor: &Rc<Reactor>, address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let fd = stream_socket(family)?;
        net::sockopt::set_tcp_nodelay(&fd, true)?;
        net::sockopt::set_socket_keepalive(&fd, true)?;
        let outcome = net::connect(&fd, &address);
        Self::finish_connect(reactor, fd, outcome).await
    }

    /// Opens a connection to the Unix socket at `path`.
    ///
    /// # Errors
    /// What `connect(2)` gives; a listener whose backlog is full counts as refused.
    pub async fn connect_unix(reactor: &Rc<Reactor>, path: &std::path::Path) -> io::Result<Self> {
        let fd = stream_socket(AddressFamily::UNIX)?;
        let outcome = net::connect(&fd, &net::SocketAddrUnix::new(path)?);
        Self::finish_connect(reactor, fd, outcome).await
    }

    /// The reactor that this socket is in.
    #[must_use]
    pub fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    /// True when epoll has said that the peer has closed its side or that the connection is broken; data may still wait
    /// to be read. Costs nothing; what happened since the last pass is not known yet.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        self.entry().peer_closed()
    }

    /// Reads what is there into `buffer`; 0 bytes mean the end. Not ready when the task's [turn] is over.
    ///
    /// # Errors
    /// What `recv(2)` gives.
    pub fn poll_recv(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(turn::poll_left(context));
        let entry = self.entry();
        let capacity = buffer.len().min(TURN_LEN);
        let received = entry.poll_read(context, capacity, || recv(entry.fd(), &mut buffer[..capacity]));
        count(received)
    }

    /// Ready when there may be something to read, which only a read tells.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.entry().poll_readable(context)
    }

    /// Writes as much of `bytes` as fits. Not ready when the task's [turn] is over.
    ///
    /// # Errors
    /// What `send(2)` gives; a broken pipe is an error, not a signal.
    pub fn poll_send(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(turn::poll_left(context));
        let entry = self.entry();
        count(entry.poll_write(context, || send(entry.fd(), bytes)))
    }

    /// Writes as much of `bytes` as fits now; `None` when nothing does. Leaves no waker behind, and is ready in any turn.
    pub fn try_send(&self, bytes: &[u8]) -> Option<io::Result<usize>> {
        let entry = self.entry();
        let sent = entry.try_write(|| send(entry.fd(), bytes));
        if let Some(Ok(len)) = sent {
            turn::spend(len);
        }
        sent
    }

    /// Ready once the peer has closed its side or the connection is broken; reads nothing.
    pub fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        self.entry().poll_closed(context)
    }

    /// Ready once the connection is broken, whatever waits to be read, or the peer has closed its side and nothing does; reads
    /// nothing.
    pub fn poll_hung_up(&self, context: &mut Context<'_>) -> Poll<HungUp> {
        let entry = self.entry();
        if entry.is_broken() {
            return Poll::Ready(HungUp::Broken);
        }
        if self.peer_closed() && !matches!(self.peek(), Ok(1..) | Err(Errno::AGAIN | Errno::INTR)) {
            return Poll::Ready(HungUp::Closed);
        }
        entry.await_readable(context);
        Poll::Pending
    }

    /// Asks the kernel, without waiting for epoll, whether nothing has come on a connection on which nothing is
    /// expected: false for the end, an error, and bytes nobody asked for.
    #[must_use]
    pub fn ask_idle(&self) -> bool {
        !self.peer_closed() && matches!(self.peek(), Err(Errno::AGAIN))
    }

    /// Asks the kernel, without waiting for epoll, whether the peer has closed its side or the connection is broken.
    /// Bytes that came before may hide the end until they are read.
    #[must_use]
    pub fn ask_ended(&self) -> bool {
        self.peer_closed() || !matches!(self.peek(), Ok(1) | Err(Errno::AGAIN | Errno::INTR))
    }

    fn peek(&self) -> rustix::io::Result<usize> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        net::recv(self.as_fd(), &mut [0], flags).map(|(len, _)| len)
    }

    /// Says that no more will be written; what was written is still delivered.
    pub fn shutdown_write(&self) {
        // The peer may be gone already, which is what this asks for.
        let _ = net::shutdown(self.as_fd(), Shutdown::Write);
    }

    /// Takes the socket out of this shard's epoll and gives the descriptor, to be sent elsewhere.
    #[must_use]
    pub fn into_fd(mut self) -> OwnedFd {
        let entry = self
            .entry
            .take()
            .expect("a socket has its entry until it is taken apart");
        self.reactor.deregister(&entry);
        Rc::try_unwrap(entry)
            .expect("only the socket and the reactor hold an entry")
            .into_fd()
    }

    fn register(reactor: &Rc<Reactor>, fd: OwnedFd, urgency: Urgency) -> io::Result<Self> {
        Ok(Self {
            reactor: reactor.clone(),
            entry: Some(reactor.register(fd, urgency)?),
        })
    }

    async fn finish_connect(reactor: &Rc<Reactor>, fd: OwnedFd, outcome: rustix::io::Result<()>) -> io::Result<Self> {
        let pending = match outcome {
            Ok(()) => false,
            Err(Errno::INPROGRESS) => true,
            Err(error) => return Err(error.into()),
        };
        let socket = Self::register(reactor, fd, Urgency::First)?;
        if pending {
            socket.entry().clear_writable();
            poll_fn(|context| socket.entry().poll_writable(context)).await;
            net::sockopt::socket_error(socket.as_fd())??;
        }
        Ok(socket)
    }

    fn entry(&self) -> &Entry {
        self.entry
            .as_ref()
            .expect("a socket has its entry until it is taken apart")
    }
}

/// How a peer has gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HungUp {
    /// The connection is broken: a reset, an error.
    Broken,
    /// The peer has closed its side, and all that it sent was read.
    Closed,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.entry().fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            self.reactor.deregister(entry);
        }
    }
}

const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

fn count(done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    if let Poll::Ready(Ok(len)) = done {
        turn::spend(len);
    }
    done
}

fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    net::send(fd, &bytes[..bytes.len().min(TURN_LEN)], SEND_FLAGS)
}

fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    net::recv(fd, buffer, RecvFlags::DONTWAIT).map(|(len, _)| len)
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(net::socket_with(family, SocketType::STREAM, flags, None)?)
}

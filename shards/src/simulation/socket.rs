//! Stands in for a stream socket, with the methods of the real one.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;

use super::network::End;
use super::reactor::Reactor;
use super::watch::Watch;
use crate::turn::{self, TURN_LEN};

/// See the real one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HungUp {
    /// A reset.
    Broken,
    /// The peer has closed its side, and all that it sent was read.
    Closed,
}

/// What stands for a file descriptor.
#[derive(Debug)]
pub struct Descriptor(pub(super) End);

/// See the real one.
#[derive(Debug)]
pub struct Socket {
    reactor: Rc<Reactor>,
    watch: Rc<Watch>,
    /// `None` only while `into_fd` takes it apart.
    end: Option<End>,
}

impl Socket {
    /// Takes over a connection.
    ///
    /// # Errors
    /// Never.
    pub fn adopt(reactor: &Rc<Reactor>, descriptor: Descriptor) -> io::Result<Self> {
        reactor.sockets.set(reactor.sockets.get() + 1);
        let end = descriptor.0;
        let (incoming, outgoing) = end.pipes();
        Ok(Self {
            watch: Watch::new(&reactor.events, incoming, outgoing),
            reactor: reactor.clone(),
            end: Some(end),
        })
    }

    /// Opens a connection to a place in the world.
    ///
    /// # Errors
    /// Refused, or out of descriptors.
    pub async fn connect(reactor: &Rc<Reactor>, address: SocketAddr) -> io::Result<Self> {
        crate::timer::sleep(reactor, crate::timers::TICK / 8).await;
        match reactor.network.open(address) {
            None => pending().await,
            Some(Err(errno)) => Err(errno.into()),
            Some(Ok(end)) => Self::adopt(reactor, Descriptor(end)),
        }
    }

    /// There are no Unix sockets here.
    ///
    /// # Errors
    /// Always.
    pub async fn connect_unix(_: &Rc<Reactor>, _: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The reactor that this socket is in.
    #[must_use]
    pub fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    /// See the real one.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        self.watch.readiness.peer_closed()
    }

    /// Reads what is there into `buffer`; 0 bytes mean the end.
    ///
    /// # Errors
    /// A reset.
    pub fn poll_recv(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(turn::poll_left(context));
        let capacity = buffer.len().min(TURN_LEN);
        let end = self.end();
        let call = || counted(end, |end| end.try_recv(&mut buffer[..capacity]));
        let received = self.watch.readiness.poll_read(context, capacity, call);
        spend(received)
    }

    /// Ready when there may be something to read, which only a read tells.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.watch.readiness.poll_readable(context)
    }

    /// Writes as much of `bytes` as fits.
    ///
    /// # Errors
    /// A broken connection.
    pub fn poll_send(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(turn::poll_left(context));
        let end = self.end();
        spend(self.watch.readiness.poll_write(context, || send(end, bytes)))
    }

    /// Writes as much of `bytes` as fits now; `None` when nothing does.
    pub fn try_send(&self, bytes: &[u8]) -> Option<io::Result<usize>> {
        let end = self.end();
        let sent = self.watch.readiness.try_write(|| send(end, bytes));
        if let Some(Ok(len)) = sent {
            turn::spend(len);
        }
        sent
    }

    /// Ready once the peer has closed its side or the connection is broken; reads nothing.
    pub fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        self.watch.readiness.poll_closed(context)
    }

    /// Ready once the connection is broken, whatever waits to be read, or the peer has closed its side and nothing does.
    pub fn poll_hung_up(&self, context: &mut Context<'_>) -> Poll<HungUp> {
        if self.watch.readiness.is_broken() {
            return Poll::Ready(HungUp::Broken);
        }
        if self.peer_closed() && !matches!(self.end().peek(), Some(Ok(1)) | None) {
            return Poll::Ready(HungUp::Closed);
        }
        self.watch.readiness.await_readable(context);
        Poll::Pending
    }

    /// False for the end, an error, and bytes nobody asked for.
    #[must_use]
    pub fn ask_idle(&self) -> bool {
        !self.peer_closed() && self.end().peek().is_none()
    }

    /// True when the peer has closed its side or the connection is broken, and no bytes hide it.
    #[must_use]
    pub fn ask_ended(&self) -> bool {
        self.peer_closed() || !matches!(self.end().peek(), Some(Ok(1)) | None)
    }

    /// Says that no more will be written.
    pub fn shutdown_write(&self) {
        self.end().finish();
    }

    /// Takes the socket out of this shard.
    #[must_use]
    pub fn into_fd(mut self) -> Descriptor {
        Descriptor(self.end.take().expect("a socket has its end until it is taken apart"))
    }

    fn end(&self) -> &End {
        self.end.as_ref().expect("a socket has its end until it is taken apart")
    }
}

fn send(end: &End, bytes: &[u8]) -> Result<usize, Errno> {
    counted(end, |end| end.try_send(&bytes[..bytes.len().min(TURN_LEN)]))
}

/// A system call.
fn counted(end: &End, call: impl FnOnce(&End) -> Option<Result<usize, Errno>>) -> Result<usize, Errno> {
    if end.interrupts() {
        return Err(Errno::INTR);
    }
    let result = call(end).unwrap_or(Err(Errno::AGAIN));
    super::task::count_call(result.unwrap_or(0));
    result
}

fn spend(done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    if let Poll::Ready(Ok(len)) = done {
        turn::spend(len);
    }
    done
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.watch.leave();
        self.reactor.sockets.set(self.reactor.sockets.get() - 1);
    }
}

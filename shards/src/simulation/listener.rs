//! Stands in for a listening socket.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::network::Queue;
use super::reactor::Reactor;
use super::socket::Descriptor;
use crate::timer::Timer;

/// As the real one's.
pub const PAUSE: Duration = Duration::from_millis(100);

/// See the real one.
#[derive(Debug)]
pub struct Listener {
    reactor: Rc<Reactor>,
    queue: Rc<Queue>,
    pause: Timer,
    pauses_count: u64,
}

/// See the real one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sharing {
    /// See the real one.
    pub is_shared: bool,
    /// See the real one.
    pub is_kept: bool,
}

/// Nothing needs to be reserved. Boxed, so that letting it go means something to the compiler.
#[derive(Debug)]
pub struct Reservation(Box<SocketAddr>);

/// See the real one.
///
/// # Errors
/// Never.
pub fn reserve(address: SocketAddr) -> io::Result<Reservation> {
    Ok(Reservation(Box::new(address)))
}

impl Reservation {
    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        *self.0
    }

    /// There are none.
    ///
    /// # Errors
    /// Always.
    pub fn into_sockets(self, _: usize) -> io::Result<Vec<OwnedFd>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Listener {
    /// Listens on `address` beside the other shards.
    ///
    /// # Errors
    /// Never.
    pub fn bind(reactor: &Rc<Reactor>, address: SocketAddr, _: u32) -> io::Result<Self> {
        reactor.sockets.set(reactor.sockets.get() + 1);
        Ok(Self {
            reactor: reactor.clone(),
            queue: reactor.network.listen(address),
            pause: Timer::new(reactor),
            pauses_count: 0,
        })
    }

    /// A socket that was passed in, which a simulation does not have.
    ///
    /// # Errors
    /// Always.
    pub fn adopt(_: &Rc<Reactor>, _: OwnedFd, _: u32, _: Sharing) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        false
    }

    /// How often accepting had to pause for want of descriptors.
    #[must_use]
    pub fn pauses_count(&self) -> u64 {
        self.pauses_count
    }

    /// There is no other shard to be woken.
    pub fn rest(&mut self) {}

    /// It does not, either.
    pub fn suspend(&mut self) {}

    /// The next connection.
    pub async fn accept(&mut self) -> (Descriptor, SocketAddr) {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// See [`accept`](Self::accept).
    pub fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<(Descriptor, SocketAddr)> {
        match self.reactor.network.poll_accept(&self.queue, context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(end)) => {
                let peer = end.peer;
                Poll::Ready((Descriptor(end), peer))
            }
            Poll::Ready(Err(_)) => {
                self.pauses_count += 1;
                self.pause.set(Some(self.reactor.now() + PAUSE));
                let _ = self.pause.poll_expired(context);
                Poll::Pending
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.reactor.network.stop_listening(&self.queue);
        self.reactor.sockets.set(self.reactor.sockets.get() - 1);
    }
}

//! Opens listening sockets: one per shard and port, spread by the kernel (`SO_REUSEPORT`); or takes those that were
//! passed in.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Type};

use crate::reactor::{Entry, Reactor, Urgency};
use crate::timer::Timer;

/// How long accepting pauses when the process or the machine is out of descriptors or memory. The edge that
/// announced the connections is gone by then, so somebody has to look again.
pub const PAUSE: Duration = Duration::from_millis(100);

/// Bytes beyond what is on its way to the peer that the kernel takes for a connection; twice what one call writes.
pub const UNSENT_LEN: u32 = 128 * 1024;

/// A shard's own listening socket.
#[derive(Debug)]
pub struct Listener {
    reactor: Rc<Reactor>,
    entry: Rc<Entry>,
    pause: Timer,
    pauses_count: u64,
    sharing: Sharing,
    is_resting: bool,
}

/// Who else has a listening socket that was opened before.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sharing {
    /// Others may accept from it at the same time: shards of this process or of another one.
    pub is_shared: bool,
    /// It goes on listening when this process has closed it.
    pub is_kept: bool,
}

/// Keeps a port for this process until its shards listen on it. It takes no connections itself.
#[derive(Debug)]
pub struct Reservation {
    address: SocketAddr,
    socket: socket2::Socket,
}

/// Reserves `address`; port 0 gives a free one. Fails if any other socket is bound there, also one that would
/// share the port: two servers by mistake on one port would each get half of the clients.
///
/// # Errors
/// When the address is taken, not this machine's, or not allowed.
pub fn reserve(address: SocketAddr) -> io::Result<Reservation> {
    let probe = stream_socket(address)?;
    probe.bind(&address.into())?;
    let bound = local_address(&probe)?;
    drop(probe);
    let socket = stream_socket(bound)?;
    socket.set_reuse_port(true)?;
    socket.bind(&bound.into())?;
    Ok(Reservation { address: bound, socket })
}

impl Reservation {
    /// The address with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As many sockets for that port; nobody listens on them yet, and [`Listener::adopt`] does.
    ///
    /// # Errors
    /// When there are no descriptors for them.
    pub fn into_sockets(self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = Vec::with_capacity(count);
        for _ in 1..count {
            let socket = stream_socket(self.address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&self.address.into())?;
            sockets.push(socket.into());
        }
        sockets.push(self.socket.into());
        Ok(sockets)
    }
}

impl Listener {
    /// Listens on `address` beside the other shards.
    ///
    /// # Errors
    /// When the address can't be bound by this process.
    pub fn bind(reactor: &Rc<Reactor>, address: SocketAddr, backlog: u32) -> io::Result<Self> {
        let socket = stream_socket(address)?;
        socket.set_reuse_port(true)?;
        set_up(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(Self::new(
            reactor,
            reactor.register(socket.into(), Urgency::Usual)?,
            Sharing::default(),
        ))
    }

    /// Listens on a socket that is bound already. Where others accept from it, too, the kernel wakes one of those that sleep
    /// per connection (`EPOLLEXCLUSIVE`).
    ///
    /// # Errors
    /// When it is no TCP socket.
    pub fn adopt(reactor: &Rc<Reactor>, socket: OwnedFd, backlog: u32, sharing: Sharing) -> io::Result<Self> {
        let socket = socket2::Socket::from(socket);
        set_up(&socket)?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let entry = if sharing.is_shared {
            reactor.register_exclusive(socket.into())?
        } else {
            reactor.register(socket.into(), Urgency::Usual)?
        };
        Ok(Self::new(reactor, entry, sharing))
    }

    fn new(reactor: &Rc<Reactor>, entry: Rc<Entry>, sharing: Sharing) -> Self {
        Self {
            reactor: reactor.clone(),
            entry,
            pause: Timer::new(reactor),
            pauses_count: 0,
            sharing,
            is_resting: false,
        }
    }

    /// Whether it goes on listening when this process has closed it.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.sharing.is_kept
    }

    /// How often accepting had to pause for want of descriptors or memory.
    #[must_use]
    pub fn pauses_count(&self) -> u64 {
        self.pauses_count
    }

    /// Takes no connections for a while, until the next [`poll_accept`](Self::poll_accept): one that comes to a socket that others
    /// have, too, wakes another shard.
    pub fn rest(&mut self) {
        if self.sharing.is_shared {
            self.suspend();
        }
    }

    /// As [`rest`](Self::rest), whoever has it: another process accepts.
    pub fn suspend(&mut self) {
        if !self.is_resting {
            self.is_resting = self.reactor.suspend(&self.entry).is_ok();
        }
    }

    /// The next connection. Out of descriptors it pauses and goes on by itself; a connection that was gone before it
    /// could be accepted is passed over.
    pub async fn accept(&mut self) -> (OwnedFd, SocketAddr) {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// See [`accept`](Self::accept).
    pub fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<(OwnedFd, SocketAddr)> {
        if self.is_resting {
            self.is_resting = self.reactor.resume_exclusive(&self.entry).is_err();
        }
        loop {
            let mut accepted = None;
            let entry = &self.entry;
            let result = entry.poll_read(context, 0, || {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                acceptfrom_with(entry.fd(), flags).map(|connection| {
                    accepted = Some(connection);
                    0
                })
            });
            match result {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) if is_of_one_connection(&error) => continue,
                Poll::Ready(Err(_)) => {
                    self.pauses_count += 1;
                    self.pause.set(Some(self.reactor.now() + PAUSE));
                    let waiting = self.pause.poll_expired(context);
                    debug_assert!(waiting.is_pending(), "the deadline is ahead");
                    self.rest();
                    return Poll::Pending;
                }
            }
            let Some((fd, Some(peer))) = accepted else {
                continue;
            };
            if let Ok(peer) = SocketAddr::try_from(peer) {
                return Poll::Ready((fd, peer));
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_resting {
            // Whoever is taken out is in.
            let _ = self.reactor.resume_exclusive(&self.entry);
        }
        self.reactor.deregister(&self.entry);
    }
}

fn stream_socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` also takes IPv4, whatever the system's default.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// What accepted sockets have from their listener: no delay for small writes, and little that the kernel keeps unsent. So a socket
/// says soon that its peer has taken something, however slowly it reads.
fn set_up(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_LEN)?;
    socket.set_nonblocking(true)
}

fn local_address(socket: &socket2::Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
}

/// Errors of the connection that was to be accepted (accept(2), "Error handling"): the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    const ERRORS: [Errno; 10] = [
        Errno::CONNABORTED,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
        Errno::PERM,
    ];
    ERRORS
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

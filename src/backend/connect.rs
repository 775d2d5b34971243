//! Opens one connection to a backend, within the time that there is.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use shards::{Reactor, Socket, Timer};

use protocol::tls::HandshakeError;

/// Where one backend is.
#[derive(Clone, Debug)]
pub enum Target {
    /// The addresses that its host name has; empty while it has none.
    Tcp(Vec<SocketAddr>),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Target {
    /// Where connections may go: all are of use, and there is one at least.
    pub(super) fn places(self) -> Vec<Place> {
        match self {
            Self::Tcp(addresses) if addresses.is_empty() => vec![Place::Nowhere],
            Self::Tcp(addresses) => addresses.into_iter().map(Place::Tcp).collect(),
            Self::Unix(path) => vec![Place::Unix(path)],
        }
    }
}

/// Where one connection goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// The backend's name has no address.
    Nowhere,
}

/// As whoever looks for it writes it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Nowhere => f.write_str("no address"),
        }
    }
}

/// Connects to `place`, before `deadline`.
///
/// # Errors
/// What `connect(2)` gives, or a time-out.
pub(super) async fn connect(reactor: &Rc<Reactor>, place: Place, deadline: Instant) -> io::Result<Socket> {
    match place {
        Place::Unix(path) => loop {
            let result = within(reactor, deadline, Socket::connect_unix(reactor, &path)).await;
            // Its queue is full, and the kernel says nothing when there is room again.
            let is_full = matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            if !is_full || reactor.now() >= deadline {
                return result;
            }
            shards::timer::sleep(reactor, UNIX_RETRY_PAUSE).await;
        },
        Place::Tcp(address) => within(reactor, deadline, Socket::connect(reactor, address)).await,
        Place::Nowhere => Err(io::Error::from(io::ErrorKind::AddrNotAvailable)),
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// Of the system, or a time-out.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Of TLS.
    #[error(transparent)]
    Tls(#[from] HandshakeError),
    /// It was connected to, and said nothing of TLS in time.
    #[error("no answer to the TLS handshake in time")]
    Silent,
}

/// We have no descriptor, or the kernel no memory, for one connection more.
pub(super) fn is_for_want_of_descriptors(error: &io::Error) -> bool {
    const ERRNOS: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    ERRNOS
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// `future`, or a time-out at `deadline`.
pub(super) async fn within<T, E: From<io::Error>>(
    reactor: &Rc<Reactor>,
    deadline: Instant,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut future = std::pin::pin!(future);
    let mut timer = Timer::new(reactor);
    timer.set(Some(deadline));
    poll_fn(|context| {
        if let Poll::Ready(result) = future.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        timer
            .poll_expired(context)
            .map(|()| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    })
    .await
}

/// A Unix socket whose queue is full is tried again after this.
const UNIX_RETRY_PAUSE: Duration = Duration::from_millis(20);

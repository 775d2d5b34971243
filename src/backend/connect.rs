//! Opens one connection to a backend: its addresses in turn, within the time that there is.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use shards::{Reactor, Socket, Timer};

/// Where one backend is.
#[derive(Clone, Debug)]
pub enum Target {
    /// The addresses that its host name has, in the order to try; empty while it has none.
    Tcp(Vec<SocketAddr>),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Connects to `target`, before `deadline`.
///
/// # Errors
/// Those of the last address that was tried, or a time-out.
pub(super) async fn connect(reactor: &Rc<Reactor>, target: Target, deadline: Instant) -> io::Result<Socket> {
    match target {
        Target::Unix(path) => loop {
            let result = within(reactor, deadline, Socket::connect_unix(reactor, &path)).await;
            // Its queue is full, and the kernel says nothing when there is room again.
            let is_full = matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            if !is_full || reactor.now() >= deadline {
                return result;
            }
            shards::timer::sleep(reactor, UNIX_RETRY_PAUSE).await;
        },
        Target::Tcp(addresses) => {
            let mut result = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
            for (tried, address) in addresses.iter().enumerate() {
                // Each gets its share of what is left, lest one that does not answer uses all of it.
                let now = reactor.now();
                let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
                let until = now + deadline.saturating_duration_since(now) / left;
                result = within(reactor, until, Socket::connect(reactor, *address)).await;
                if result.is_ok() {
                    break;
                }
            }
            result
        }
    }
}

/// We have no descriptor, or the kernel no memory, for one connection more.
pub(super) fn is_for_want_of_descriptors(error: &io::Error) -> bool {
    const ERRNOS: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    ERRNOS
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// `future`, or a time-out at `deadline`.
async fn within<T>(
    reactor: &Rc<Reactor>,
    deadline: Instant,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut future = std::pin::pin!(future);
    let mut timer = Timer::new(reactor);
    timer.set(Some(deadline));
    poll_fn(|context| {
        if let Poll::Ready(result) = future.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        timer
            .poll_expired(context)
            .map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)))
    })
    .await
}

/// A Unix socket whose queue is full is tried again after this.
const UNIX_RETRY_PAUSE: Duration = Duration::from_millis(20);

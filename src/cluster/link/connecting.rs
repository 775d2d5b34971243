//! Connects to a server on a thread of its own: looking up a name blocks, and cannot be called off.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

/// A connection that is being made.
pub(super) struct Connecting {
    result: mpsc::Receiver<Result<TcpStream, String>>,
    /// Readable once the thread has ended.
    ended: UnixStream,
    deadline: Instant,
}

/// Who counts the threads: those that were given up and have not ended yet, too.
pub(super) type Threads = Arc<()>;

impl Connecting {
    /// Begins. `None`: too many threads are looking up names already.
    pub(super) fn begin(
        threads: &Threads,
        (host, port): (&str, u16),
        now: Instant,
        timeout: Duration,
    ) -> io::Result<Option<Self>> {
        if Arc::strong_count(threads) > THREADS_MAX {
            return Ok(None);
        }
        let (sender, result) = mpsc::channel();
        let (ended, end) = UnixStream::pair()?;
        let (host, place) = (host.to_owned(), threads.clone());
        std::thread::Builder::new()
            .name("cluster-connect".into())
            .spawn(move || {
                // Nobody waits for it any more, perhaps.
                let _ = sender.send(connect(&host, port, timeout));
                drop((place, end));
            })?;
        Ok(Some(Self {
            result,
            ended,
            deadline: now + timeout + GRACE,
        }))
    }

    /// The connection; `None`: it is not there yet.
    pub(super) fn poll(&self, now: Instant) -> Option<Result<TcpStream, String>> {
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Disconnected) => Some(Err("no thread could connect to it".to_owned())),
            Err(TryRecvError::Empty) if now >= self.deadline => Some(Err(
                "its name was not looked up in time: the DNS does not answer".to_owned(),
            )),
            Err(TryRecvError::Empty) => None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let began = Instant::now();
    let addresses = (host, port).to_socket_addrs();
    let addresses: Vec<_> = addresses
        .map_err(|error| format!("its name has no address: {error}"))?
        .collect();
    let mut why = "its name has no address".to_owned();
    for (at, address) in addresses.iter().take(ADDRESSES_MAX).enumerate() {
        let left = timeout.saturating_sub(began.elapsed());
        let others = addresses.len().min(ADDRESSES_MAX) - at;
        let share = left / u32::try_from(others).unwrap_or(1);
        match open(address, share.max(LEAST_TIMEOUT)) {
            Ok(socket) => return Ok(socket),
            Err(error) => why = format!("it cannot be connected to at {address}: {error}"),
        }
    }
    Err(why)
}

fn open(address: &std::net::SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(address, timeout)?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Of a name, those that are tried.
const ADDRESSES_MAX: usize = 8;
/// At once; a resolver that says nothing holds each of them for half a minute or so. The one that counts is one.
const THREADS_MAX: usize = 8;
const LEAST_TIMEOUT: Duration = Duration::from_millis(10);
/// For what else the thread does.
const GRACE: Duration = Duration::from_millis(250);

//! Reads and writes a connection that does not block, plain or under TLS.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// A connection to a server.
pub(super) enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// In records.
    Secure(Box<ClientConnection>, TcpStream),
}

impl Stream {
    /// Speaks TLS from now on. What is written before the server has shown who it is waits for that.
    pub(super) fn secure(&mut self, config: &Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<()> {
        let (Self::Plain(socket) | Self::Secure(_, socket)) = self;
        let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let socket = socket.try_clone()?;
        *self = Self::Secure(Box::new(connection), socket);
        Ok(())
    }

    /// `Ok(0)`: nothing more comes. [`ErrorKind::WouldBlock`]: nothing now.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (connection, socket) = match self {
            Self::Plain(socket) => return again(|| socket.read(buffer)),
            Self::Secure(connection, socket) => (connection, socket),
        };
        loop {
            match connection.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if again(|| connection.read_tls(socket))? == 0 {
                return match connection.is_handshaking() {
                    true => Err(ErrorKind::UnexpectedEof.into()),
                    false => Ok(0),
                };
            }
            if let Err(error) = connection.process_new_packets() {
                // That it hears why is a courtesy.
                let _ = connection.write_tls(socket);
                return Err(io::Error::other(error));
            }
        }
    }

    /// How many bytes it took; [`ErrorKind::WouldBlock`]: none now.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => again(|| socket.write(bytes)),
            Self::Secure(connection, _) => {
                let taken = connection.writer().write(bytes)?;
                match self.flush() {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                    _ if taken == 0 && !bytes.is_empty() => Err(ErrorKind::WouldBlock.into()),
                    _ => Ok(taken),
                }
            }
        }
    }

    /// Sends what TLS has to send by itself, and what it keeps of what was written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Self::Secure(connection, socket) = self {
            while connection.wants_write() {
                again(|| connection.write_tls(socket))?;
            }
        }
        Ok(())
    }

    /// Whether [`flush`](Self::flush) has something left.
    pub(super) fn wants_write(&self) -> bool {
        matches!(self, Self::Secure(connection, _) if connection.wants_write())
    }

    /// Sends `bytes` and says that nothing follows, and waits until the other side has ended too, or for `timeout`: what was sent
    /// would be lost if the connection went while something unread lies on this side.
    pub(super) fn finish(mut self, bytes: &[u8], timeout: Duration) -> io::Result<()> {
        let deadline = Instant::now() + timeout;
        let (Self::Plain(socket) | Self::Secure(_, socket)) = &self;
        let socket = socket.try_clone()?;
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(timeout.max(LEAST_TIMEOUT)))?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.write(rest)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        if let Self::Secure(connection, _) = &mut self {
            connection.send_close_notify();
        }
        self.flush()?;
        socket.shutdown(Shutdown::Write)?;
        let mut passed = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            socket.set_read_timeout(Some(left.max(LEAST_TIMEOUT)))?;
            if left.is_zero() || again(|| (&socket).read(&mut passed))? == 0 {
                return Ok(());
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let (Self::Plain(socket) | Self::Secure(_, socket)) = self;
        socket.as_fd()
    }
}

/// A signal is no reason to stop.
fn again<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// None at all would be for ever.
const LEAST_TIMEOUT: Duration = Duration::from_millis(1);

//! Takes the sockets that the service manager has opened for us (sd_listen_fds(3), systemd.socket(5)): clients that
//! come while the service restarts wait in them instead of being refused.
//!
//! A socket says what it is for by its name (`FileDescriptorName=`): `listen`, `listen_tls`, `ingress` or `admin`. There is one for
//! all shards, which then accept from one queue, or one per shard (`ReusePort=yes`), as if the shards had made them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{SocketType, sockopt};

/// The sockets that the service manager passed in, by what they are for.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    /// Sockets that clients connect to.
    pub listen: Vec<Socket>,
    /// The same, with TLS.
    pub listen_tls: Vec<Socket>,
    /// Sockets that the backend pushes to.
    pub ingress: Vec<Socket>,
    /// Sockets of the admin listener.
    pub admin: Vec<Socket>,
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct Socket {
    /// The address that the socket listens on.
    pub address: SocketAddr,
    /// The socket.
    pub fd: OwnedFd,
}

/// Why what was passed is refused.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// LISTEN_FDS does not hold what sd_listen_fds(3) says.
    #[error("LISTEN_FDS={value}: {error}")]
    Descriptors {
        /// The variable's value.
        value: String,
        /// What is wrong with it.
        error: io::Error,
    },
    /// Nobody says what it is for.
    #[error(
        "a socket is passed in as \"{name}\": FileDescriptorName= in its unit must be listen, listen_tls, ingress or admin"
    )]
    Name {
        /// The socket's name, as it was passed.
        name: String,
    },
    /// Something else than a listening TCP socket.
    #[error(
        "what is passed in as {name} is no listening TCP socket: its unit needs ListenStream=ADDRESS and Accept=no"
    )]
    Kind {
        /// The socket's name.
        name: String,
    },
    /// Connections to the rest would wait for ever.
    #[error("{count} sockets are passed in as {name}, for {listeners}: pass one for all of them, or one for each")]
    TooMany {
        /// The sockets' name.
        name: &'static str,
        /// How many they are.
        count: usize,
        /// How many there could be, in words.
        listeners: String,
    },
}

impl InheritedSockets {
    /// Takes what was passed to this process; mostly nothing. Once, and before anything else opens a descriptor.
    ///
    /// # Errors
    /// [`ActivationError`] names the socket and what its unit should say.
    pub fn take() -> Result<Self, ActivationError> {
        let variable = |name| std::env::var(name).unwrap_or_default();
        // Else it was meant for another process, say for a wrapper that has not cleared it away.
        if variable("LISTEN_PID") != std::process::id().to_string() {
            return Ok(Self::default());
        }
        let value = variable("LISTEN_FDS");
        let taken = match value.parse() {
            Ok(count) if count <= PASSED_MAX => shards::fd_table::take_inherited(count),
            _ => Err(io::Error::other(format!("it is a number up to {PASSED_MAX}"))),
        };
        let descriptors = taken.map_err(|error| ActivationError::Descriptors { value, error })?;
        Self::sort(descriptors, &variable("LISTEN_FDNAMES"))
    }

    /// `names`: in the order of the descriptors, with `:` between them.
    fn sort(descriptors: Vec<OwnedFd>, names: &str) -> Result<Self, ActivationError> {
        let mut inherited = Self::default();
        let mut names = names.split(':');
        for fd in descriptors {
            let name = names.next().unwrap_or_default();
            let sockets = match name {
                "listen" => &mut inherited.listen,
                "listen_tls" => &mut inherited.listen_tls,
                "ingress" => &mut inherited.ingress,
                "admin" => &mut inherited.admin,
                _ => return Err(ActivationError::Name { name: name.to_owned() }),
            };
            let socket = Socket::new(fd).ok_or_else(|| ActivationError::Kind { name: name.to_owned() })?;
            sockets.push(socket);
        }
        Ok(inherited)
    }

    /// Whether each socket has somebody who accepts from it.
    ///
    /// # Errors
    /// [`ActivationError::TooMany`].
    pub fn check(&self, shards_count: usize) -> Result<(), ActivationError> {
        let shards = || format!("{shards_count} shard{}", if shards_count == 1 { "" } else { "s" });
        for (name, sockets, max) in [
            ("listen", &self.listen, shards_count),
            ("listen_tls", &self.listen_tls, shards_count),
            ("ingress", &self.ingress, shards_count),
            ("admin", &self.admin, 1),
        ] {
            if sockets.len() > max {
                return Err(ActivationError::TooMany {
                    name,
                    count: sockets.len(),
                    listeners: if name == "admin" {
                        "1 thread".to_owned()
                    } else {
                        shards()
                    },
                });
            }
        }
        Ok(())
    }
}

impl Socket {
    /// `None`: it is no listening TCP socket.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Option<Self> {
        let is_stream = sockopt::socket_type(&fd) == Ok(SocketType::STREAM);
        let is_listening = sockopt::socket_acceptconn(&fd) == Ok(true);
        let address = rustix::net::getsockname(&fd).ok()?.try_into().ok()?;
        (is_stream && is_listening).then_some(Self { address, fd })
    }
}

/// One per shard of the largest node and purpose would be more than systemd passes.
const PASSED_MAX: usize = 4096;

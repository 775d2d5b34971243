//! Opens the listening sockets of all shards, or takes those that there are already, and keeps a copy of each, to be given to
//! a process that takes over.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use shards::listener::{self, Sharing};

use super::inherited_sockets::{ActivationError, InheritedSockets, Socket};
use crate::config::Config;
use crate::shard::Listening;
use protocol::takeover::{Listener, ListenerName};

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Its address is taken or not ours.
    #[error("{key} = {address}: {error}{}", hint(.error))]
    Address {
        /// The key of the address.
        key: &'static str,
        /// The address as it was configured.
        address: SocketAddr,
        /// The kernel's error.
        error: io::Error,
    },
    /// A socket that was passed in.
    #[error(transparent)]
    Inherited(#[from] ActivationError),
}

/// Where listening sockets come from.
#[derive(Debug)]
pub enum Origin {
    /// Those that the service manager has passed in, if any; the others are opened.
    ServiceManager(InheritedSockets),
    /// Those of the process that is taken over, as far as the configuration names the same address; the others are opened.
    Predecessor(Vec<(Listener, OwnedFd)>),
}

impl Default for Origin {
    fn default() -> Self {
        Self::ServiceManager(InheritedSockets::default())
    }
}

/// All listening sockets of the process.
#[derive(Debug)]
pub struct Listeners {
    listen: Option<Place>,
    listen_tls: Option<Place>,
    ingress: Place,
    admin: Place,
}

/// The copies that the process keeps, until somebody has no use for them any more. Clones are the same.
#[derive(Clone, Debug)]
pub struct KeptListeners(Arc<Mutex<Option<Listeners>>>);

/// The sockets of one address.
#[derive(Debug)]
struct Place {
    name: ListenerName,
    configured: SocketAddr,
    address: SocketAddr,
    sockets: Vec<OwnedFd>,
    sharing: Sharing,
}

impl Listeners {
    /// Opens what does not come from `origin`. Nobody accepts yet.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn open(config: &Config, origin: Origin) -> Result<Self, ListenError> {
        let node = &config.node;
        let shards = config.cores.len();
        let (mut manager, mut predecessor) = match origin {
            Origin::ServiceManager(inherited) => {
                inherited.check(shards)?;
                (inherited, Vec::new())
            }
            Origin::Predecessor(sockets) => (InheritedSockets::default(), sockets),
        };
        let mut place = |name, configured, passed: &mut Vec<Socket>| {
            let handed_over = take_named(&mut predecessor, name, configured);
            Place::open(name, configured, shards, std::mem::take(passed), handed_over)
        };
        let mut optional = |name, configured: Option<SocketAddr>, passed| {
            let opened = configured.map(|configured| place(name, configured, passed));
            opened.transpose()
        };
        Ok(Self {
            listen: optional(ListenerName::Listen, node.listen, &mut manager.listen)?,
            listen_tls: optional(ListenerName::ListenTls, node.listen_tls, &mut manager.listen_tls)?,
            ingress: place(ListenerName::Ingress, node.ingress, &mut manager.ingress)?,
            admin: place(ListenerName::Admin, node.admin, &mut manager.admin)?,
        })
    }

    /// Where clients connect: plainly, and with TLS.
    #[must_use]
    pub fn listen(&self) -> [Option<(SocketAddr, Listening)>; 2] {
        [&self.listen, &self.listen_tls].map(|place| {
            let place = place.as_ref()?;
            Some((place.address, place.listening()))
        })
    }

    /// Where the backend connects.
    #[must_use]
    pub fn ingress(&self) -> (SocketAddr, Listening) {
        (self.ingress.address, self.ingress.listening())
    }

    /// Where operators connect.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn admin(&self) -> io::Result<(SocketAddr, TcpListener)> {
        let socket = self.admin.sockets.first().ok_or(io::ErrorKind::NotFound)?;
        let listener = TcpListener::from(socket.try_clone()?);
        // Whoever else has it accepts, too: what was there a moment ago may be gone.
        listener.set_nonblocking(true)?;
        Ok((self.admin.address, listener))
    }

    /// Per shard, the sockets that it accepts from: of `listen` first, then of `listen_tls`, then of `ingress`.
    #[must_use]
    pub fn per_shard(&self, shards_count: usize) -> Vec<Vec<BorrowedFd<'_>>> {
        let of = |shard: usize| {
            let clients = self.listen.iter().chain(&self.listen_tls);
            let places = clients.chain([&self.ingress]);
            let own = places.flat_map(|place| {
                let indices = Listening::of_shard(place.sockets.len(), shard, shards_count);
                indices.map(|index| place.sockets[index].as_fd())
            });
            own.collect()
        };
        (0..shards_count).map(of).collect()
    }

    /// Each socket, and what is said of it to a process that takes over.
    pub fn each(&self) -> impl Iterator<Item = (Listener, BorrowedFd<'_>)> {
        let clients = self.listen.iter().chain(&self.listen_tls);
        let places = clients.chain([&self.ingress, &self.admin]);
        places.flat_map(|place| {
            let told = Listener {
                name: place.name,
                configured: place.configured,
                is_kept: place.sharing.is_kept,
            };
            place.sockets.iter().map(move |socket| (told.clone(), socket.as_fd()))
        })
    }
}

impl KeptListeners {
    /// These.
    #[must_use]
    pub fn new(listeners: Listeners) -> Self {
        Self(Arc::new(Mutex::new(Some(listeners))))
    }

    /// From now on what the shards close is closed.
    pub fn let_go(&self) {
        drop(self.lock().take());
    }

    /// They are there until this is dropped.
    pub fn lock(&self) -> MutexGuard<'_, Option<Listeners>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn open(
        name: ListenerName,
        configured: SocketAddr,
        shards: usize,
        passed: Vec<Socket>,
        handed_over: Vec<(Listener, Socket)>,
    ) -> Result<Self, ListenError> {
        let place = |address, sockets, sharing| Self {
            name,
            configured,
            address,
            sockets,
            sharing,
        };
        let key = name.key();
        if let Some(address) = passed.first().map(|socket| socket.address) {
            let (count, were) = (
                passed.len(),
                if passed.len() == 1 {
                    "socket was"
                } else {
                    "sockets were"
                },
            );
            tracing::info!("{key}: {count} {were} passed in, at {address}; the configured {configured} is not used");
            let sharing = Sharing {
                is_shared: true,
                is_kept: true,
            };
            return Ok(place(
                address,
                passed.into_iter().map(|socket| socket.fd).collect(),
                sharing,
            ));
        }
        if let Some(address) = handed_over.first().map(|(_, socket)| socket.address) {
            let sharing = Sharing {
                is_shared: true,
                is_kept: handed_over.iter().any(|(told, _)| told.is_kept),
            };
            let sockets = handed_over.into_iter().map(|(_, socket)| socket.fd);
            return Ok(place(address, sockets.collect(), sharing));
        }
        let of_address = |error| ListenError::Address {
            key,
            address: configured,
            error,
        };
        if name == ListenerName::Admin {
            let listener = TcpListener::bind(configured).map_err(of_address)?;
            let address = listener.local_addr().map_err(of_address)?;
            return Ok(place(address, vec![listener.into()], Sharing::default()));
        }
        let reservation = listener::reserve(configured).map_err(of_address)?;
        let address = reservation.address();
        let sockets = reservation.into_sockets(shards).map_err(of_address)?;
        Ok(place(address, sockets, Sharing::default()))
    }

    fn listening(&self) -> Listening {
        Listening::Inherited {
            sockets: self.sockets.len(),
            sharing: self.sharing,
        }
    }
}

/// Of what the process before has handed over: that of this name, if it is what is configured now, or if it is the service manager's,
/// which has its own idea of addresses.
fn take_named(
    sockets: &mut Vec<(Listener, OwnedFd)>,
    name: ListenerName,
    configured: SocketAddr,
) -> Vec<(Listener, Socket)> {
    let own = sockets.extract_if(.., |(told, _)| told.name == name);
    let sockets = own.filter_map(|(told, fd)| Some((told, Socket::new(fd)?)));
    let is_meant = |(told, socket): &(Listener, Socket)| {
        told.is_kept || told.configured == configured || socket.address == configured
    };
    sockets.filter(is_meant).collect()
}

/// What helps.
pub(super) fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => return ". Raise `ulimit -n` (LimitNOFILE= in the systemd unit)",
        Some(Errno::NFILE) => return ". Raise `sysctl fs.file-max`",
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program (or another ws2api) has it: `ss -ltnp` shows which",
        io::ErrorKind::AddrNotAvailable => "; it is not an address of this machine",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

//! Runs the whole process: reserves the ports, starts the shards, watches for signals, waits for the end.

pub mod check;
pub mod cpu_features;
pub mod host;
pub mod inherited_sockets;
pub mod rebalance;
pub mod reload;
pub mod run_mark;
pub mod runtime;
pub mod sd_notify;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use shards::listener::{self, Reservation};
use shards::mesh::NodeHandle;
use shards::{Settings, StartError, node};

use self::inherited_sockets::{ActivationError, InheritedSockets};
use self::runtime::Runtime;
use crate::backend::targets;
use crate::config::{BackendUrl, Config, Node};
use crate::env::home::IdHasher;
use crate::observe::admin::{Admin, OpenTaps, Reloaded, Running};
use crate::shard::control_plane::ControlPlane;
use crate::shard::mail::{Control, Mail};
use crate::shard::{self, Drained, Plan};
use crate::token::{Token, Tokens};
use protocol::ocpp::ClientId;

/// Why the server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener's address is taken or not ours.
    #[error("{key} = {address}: {error}{}", hint(.error))]
    Listen {
        /// The key of the address.
        key: &'static str,
        /// The address as it was configured.
        address: SocketAddr,
        /// The kernel's error.
        error: io::Error,
    },
    /// A socket that was passed in.
    #[error(transparent)]
    InheritedSockets(#[from] ActivationError),
    /// The file of a token cannot be used.
    #[error("{key} = {}: {error}", .file.display())]
    Token {
        /// The key of the file.
        key: &'static str,
        /// The file's path.
        file: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// A shard could not be set up, or broke.
    #[error(transparent)]
    Shards(#[from] StartError),
    /// A shard could not serve.
    #[error("{0}")]
    Shard(String),
    /// Signals or threads could not be set up.
    #[error("can't be set up: {0}")]
    System(#[from] io::Error),
}

/// A server that serves.
pub struct Server {
    /// Real addresses, ports chosen.
    pub addresses: Addresses,
    /// The tokens that requests must carry.
    pub tokens: Tokens,
    node: node::Node<Mail>,
    ends: mpsc::Receiver<Drained>,
    control: Arc<ControlPlane>,
    running: Running,
    taps: OpenTaps,
}

/// The way to the shards, for signals.
#[derive(Clone, Debug)]
pub struct Remote {
    running: Running,
    control: Arc<ControlPlane>,
    outside: Arc<NodeHandle<Mail>>,
}

/// The addresses that a server listens on.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The address that clients connect to.
    pub listen: SocketAddr,
    /// The address that the backend pushes to.
    pub ingress: SocketAddr,
    /// The address of metrics and the status page.
    pub admin: SocketAddr,
}

impl Server {
    /// Starts the shards; on return all of them serve. `inherited`: sockets that are open already, used instead of the
    /// configured addresses; `traced`: the client whose frames are logged.
    ///
    /// # Errors
    /// [`ServeError`] says in one line what was refused and what to change.
    pub fn start(
        config: &Config,
        mut inherited: InheritedSockets,
        traced: Option<ClientId>,
    ) -> Result<Self, ServeError> {
        inherited.check(config.cores.len())?;
        let listen = Place::take("listen", config.node.listen, &inherited.listen)?;
        let ingress = Place::take("ingress", config.node.ingress, &inherited.ingress)?;
        let admin = match inherited.admin.pop() {
            Some(socket) => socket.into(),
            None => std::net::TcpListener::bind(config.node.admin).map_err(|error| ServeError::Listen {
                key: "admin",
                address: config.node.admin,
                error,
            })?,
        };
        let addresses = Addresses {
            listen: listen.address(),
            ingress: ingress.address(),
            admin: admin.local_addr()?,
        };
        let tokens = tokens(&config.node)?;
        let plan = Plan {
            started: Instant::now(),
            node: Arc::new(config.node.clone()),
            cores: config.cores.clone().into(),
            listen: listen.listener(),
            ingress: ingress.listener(),
            addresses: config.node.backends.iter().map(targets::look_up).collect(),
            ingress_token: tokens.ingress.clone(),
            hasher: IdHasher::default(),
            traced,
            control: ControlPlane::new(config.cores.iter().map(|core| core.cpu)),
        };
        let control = plan.control.clone();
        let hasher = plan.hasher.clone();
        let began = plan.started;
        let cpus: Vec<usize> = config.cores.iter().map(|core| core.cpu).collect();
        let mesh_queue = config.cores.iter().map(|core| core.mesh_queue).max().unwrap_or(1);
        let (started, starts) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        let runtime = Runtime::choose(config)?;
        for row in runtime.rows() {
            tracing::info!("{row}");
        }
        let settings = Settings {
            cpus: &cpus,
            mesh_capacity: mesh_queue,
            inherited: &inherited.per_shard(cpus.len()),
            executor: runtime.executor,
            tables: runtime.tables,
        };
        let node = node::start(&settings, move |shard| {
            let (life, ended) = (shard::run(shard, plan.clone(), started.clone()), ended.clone());
            async move {
                // Nobody listens for this when the start has failed.
                let _ = ended.send(life.await);
            }
        })?;
        for _ in &cpus {
            starts
                .recv()
                .map_err(|_| ServeError::Shard("a shard ended before it served".into()))?
                .map_err(ServeError::Shard)?;
        }
        // What a shard closes from now on is closed.
        drop((listen, ingress, inherited));
        let running = Running::new(config.clone(), tokens.admin.clone());
        let operators = Admin::new(node.outside.clone(), control.clone(), hasher, running.clone(), began);
        let taps = operators.taps();
        operators.start(admin)?;
        refresh_addresses(&config.node.backends, &node.outside)?;
        Ok(Self {
            addresses,
            tokens,
            node,
            ends,
            control,
            running,
            taps,
        })
    }

    /// The way to the shards.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote {
            running: self.running.clone(),
            control: self.control.clone(),
            outside: self.node.outside.clone(),
        }
    }

    /// From now on `POST /reload` at the admin address does what `reload` does.
    pub fn reload_with(&self, reload: impl Fn() -> Result<Reloaded, String> + Send + Sync + 'static) {
        self.running.reload_with(reload);
    }

    /// Waits for the end, and says how it went.
    ///
    /// # Errors
    /// When a shard broke.
    pub fn join(self) -> Result<Drained, ServeError> {
        self.node.join()?;
        self.taps.finish(LAST_LINES_TIMEOUT);
        Ok(self.ends.try_iter().fold(Drained::default(), Drained::and))
    }
}

/// The key and the file of each token.
fn token_files(node: &Node) -> [(&'static str, Option<&PathBuf>); 2] {
    [
        ("ingress_token_file", node.ingress_token_file.as_ref()),
        ("admin_token_file", node.admin_token_file.as_ref()),
    ]
}

/// Who may ask, if not everybody.
fn tokens(node: &Node) -> Result<Tokens, ServeError> {
    let read = |(key, file): (&'static str, Option<&PathBuf>)| {
        let read = |file: &PathBuf| {
            Token::read(file).map_err(|error| ServeError::Token {
                key,
                file: file.clone(),
                error,
            })
        };
        file.map(read).transpose()
    };
    let [ingress, admin] = token_files(node);
    Ok(Tokens {
        ingress: read(ingress)?,
        admin: read(admin)?,
    })
}

impl Remote {
    /// Begins the end: no new clients; those that there are leave.
    pub fn drain(&self) {
        self.control.drain(&self.outside);
    }

    /// Gives the shards a configuration that was read again.
    pub fn reload(&self, config: Config, tokens: Tokens) {
        self.running.set(config.clone(), tokens.admin);
        self.control.reload(&self.outside, config, tokens.ingress);
    }
}

/// What is known of a listener before its shards have it.
enum Place {
    Reserved(Reservation),
    InheritedSockets(SocketAddr),
}

impl Place {
    fn take(
        key: &'static str,
        address: SocketAddr,
        inherited: &[inherited_sockets::Socket],
    ) -> Result<Self, ServeError> {
        let Some(socket) = inherited.first() else {
            let reserved = listener::reserve(address);
            return reserved
                .map(Self::Reserved)
                .map_err(|error| ServeError::Listen { key, address, error });
        };
        let (count, is) = (inherited.len(), socket.address);
        tracing::info!(
            "{key}: {count} {} passed in, at {is}; the configured {address} is not used",
            if count == 1 { "socket was" } else { "sockets were" }
        );
        Ok(Self::InheritedSockets(is))
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Reserved(reservation) => reservation.address(),
            Self::InheritedSockets(address) => *address,
        }
    }

    fn listener(&self) -> shard::Listening {
        match self {
            Self::Reserved(reservation) => shard::Listening::On(reservation.address()),
            Self::InheritedSockets(_) => shard::Listening::Inherited,
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program (or another ws2api) has it: `ss -ltnp` shows which",
        io::ErrorKind::AddrNotAvailable => "; it is not an address of this machine",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

/// Looks up the backends' names again from time to time, beside the shards: a look-up blocks.
fn refresh_addresses(backends: &[BackendUrl], outside: &Arc<NodeHandle<Mail>>) -> io::Result<()> {
    let named: Vec<(usize, BackendUrl)> = backends
        .iter()
        .cloned()
        .enumerate()
        .filter(|(_, url)| targets::is_name(url))
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    let outside = outside.clone();
    std::thread::Builder::new().name("names".into()).spawn(move || {
        loop {
            std::thread::sleep(LOOK_UP_PAUSE);
            for (index, url) in &named {
                let addresses = targets::look_up(url);
                if addresses.is_empty() {
                    continue;
                }
                for shard in 0..outside.shards_count() {
                    let addresses = Control::Addresses {
                        index: *index,
                        addresses: addresses.clone(),
                    };
                    let _ = outside.try_send(shard, Mail::from(addresses));
                }
            }
        }
    })?;
    Ok(())
}

/// What a tap's reader may take for its last lines, once all clients have gone.
const LAST_LINES_TIMEOUT: Duration = Duration::from_millis(500);
const LOOK_UP_PAUSE: Duration = Duration::from_secs(30);

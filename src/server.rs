//! Runs the whole process: reserves the ports, starts the shards, watches for signals, waits for the end.

pub mod backend_check;
pub mod certificates;
pub mod check;
pub mod cluster;
pub mod cluster_check;
pub mod cpu_features;
pub mod host;
pub mod inherited_sockets;
pub mod listeners;
pub mod rebalance;
pub mod reload;
pub mod run_mark;
pub mod runtime;
pub mod sd_notify;
pub mod secrets;
pub mod stop_word;
pub mod takeover;
mod ticket_keys;

use std::fmt;
use std::hash::BuildHasher as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use shards::mesh::NodeHandle;
use shards::{Settings, StartError, node};

use self::certificates::CertificateError;
use self::cluster::{Cluster, Preparation, PrepareError, node_name};
use self::listeners::{KeptListeners, ListenError, Listeners, Origin};
use self::runtime::Runtime;
use self::secrets::Secrets;
use self::stop_word::StopWord;
use self::takeover::dispatcher::Dispatcher;
use self::takeover::moving_in::WayHome;
use self::takeover::old::{Parts, Upgrades};
use self::takeover::program::Program;
use self::ticket_keys::TicketKeys;
use crate::backend::{TrustError, targets};
use crate::config::{BackendUrl, Config, Node};
use crate::env::home::IdHasher;
use crate::observe::admin::{Admin, OpenTaps, Reloaded, Running};
use crate::shard::control_plane::ControlPlane;
use crate::shard::mail::{Control, Mail};
use crate::shard::{self, Drained, Plan};
use crate::token::{Token, Tokens};
use protocol::ocpp::ClientId;
use protocol::takeover::TicketKeys as KeysBefore;

/// Why the server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
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
    /// There can be no TLS.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Backends over TLS can't be asked.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The node can't be in its cluster.
    #[error("cluster: {0}")]
    Cluster(#[from] PrepareError),
    /// A shard could not be set up, or broke.
    #[error(transparent)]
    Shards(#[from] StartError),
    /// A shard could not serve.
    #[error("{0}")]
    Shard(String),
    /// Signals or threads could not be set up.
    #[error("can't be set up: {error}{hint}", error = .0, hint = listeners::hint(.0))]
    System(#[from] io::Error),
}

/// A server that serves.
pub struct Server {
    /// Real addresses, ports chosen.
    pub addresses: Addresses,
    /// What was read beside the configuration.
    pub secrets: Secrets,
    node: node::Node<Mail>,
    ends: mpsc::Receiver<Drained>,
    control: Arc<ControlPlane>,
    running: Running,
    taps: OpenTaps,
    upgrades: Upgrades,
    listeners: KeptListeners,
    ticket_keys: TicketKeys,
    moving_in: Option<(WayHome, Dispatcher)>,
    cluster: Option<Cluster>,
    admin: Option<(Admin, TcpListener, Arc<StopWord>)>,
}

/// What a server is started with, beside its configuration.
#[derive(Debug)]
pub struct Start {
    /// Where its listeners come from.
    pub origin: Origin,
    /// How many takeovers there were before it; it was started by somebody else for the first.
    pub generation: u32,
    /// Common to this process and those before it; the first one draws it.
    pub line: Option<u32>,
    /// What an upgrade starts, as far as that is known.
    pub program: Option<Program>,
    /// This version, for people.
    pub version: String,
    /// The client whose frames are logged.
    pub traced: Option<ClientId>,
}

/// The way to the shards, for signals.
#[derive(Clone, Debug)]
pub struct Remote {
    /// What another process may take over.
    pub upgrades: Upgrades,
    listeners: KeptListeners,
    running: Running,
    control: Arc<ControlPlane>,
    outside: Arc<NodeHandle<Mail>>,
}

/// The addresses that a server listens on.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The address that clients connect to.
    pub listen: Option<SocketAddr>,
    /// The same, with TLS.
    pub listen_tls: Option<SocketAddr>,
    /// The address that the backend pushes to.
    pub ingress: SocketAddr,
    /// The address of metrics and the status page.
    pub admin: SocketAddr,
}

/// As the first line says them.
impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, address) in [("listen", self.listen), ("listen_tls", self.listen_tls)] {
            if let Some(address) = address {
                write!(f, "{key}={address} ")?;
            }
        }
        write!(f, "ingress={} admin={}", self.ingress, self.admin)
    }
}

impl Server {
    /// Starts the shards; on return all of them would serve, and [`open`](Self::open) lets them.
    ///
    /// # Errors
    /// [`ServeError`] says in one line what was refused and what to change.
    pub fn start(config: &Config, start: Start) -> Result<Self, ServeError> {
        let Start {
            origin,
            generation,
            line,
            program,
            version,
            traced,
        } = start;
        let hasher = IdHasher::default();
        let line = line.unwrap_or_else(|| hasher.hash_one("line") as u32);
        // Before anything is open that it could lack.
        let runtime = Runtime::choose(config)?;
        for row in runtime.rows() {
            tracing::info!("{row}");
        }
        let has_predecessor = matches!(origin, Origin::Predecessor(_));
        let listeners = Listeners::open(config, origin)?;
        let ([listen, listen_tls], (ingress, ingress_sockets)) = (listeners.listen(), listeners.ingress());
        let (admin, admin_listener) = listeners.admin()?;
        let addresses = Addresses {
            listen: listen.map(|(address, _)| address),
            listen_tls: listen_tls.map(|(address, _)| address),
            ingress,
            admin,
        };
        let secrets = Secrets::read(&config.node)?;
        let cluster = Preparation::of(config)?;
        let (to_other_process, said) = mpsc::channel();
        let sender = to_other_process.clone();
        let plan = Plan {
            started: Instant::now(),
            generation,
            line,
            node: Arc::new(config.node.clone()),
            cores: config.cores.clone().into(),
            listen: listen.map(|(_, sockets)| sockets),
            listen_tls: listen_tls.map(|(_, sockets)| sockets),
            ingress: ingress_sockets,
            addresses: config.node.backends.iter().map(targets::look_up).collect(),
            secrets: secrets.of_shards(),
            hasher: hasher.clone(),
            traced,
            control: ControlPlane::new(config.cores.iter().map(|core| core.cpu)),
            to_other_process,
            node_name: node_name(&config.node).into(),
            cluster: cluster.as_ref().map(|cluster| cluster.way.clone()),
        };
        let control = plan.control.clone();
        control.wait_for_opening(has_predecessor);
        let began = plan.started;
        let cpus: Vec<usize> = config.cores.iter().map(|core| core.cpu).collect();
        let mesh_queue = config.cores.iter().map(|core| core.mesh_queue).max().unwrap_or(1);
        let mut inherited = listeners.per_shard(cpus.len());
        if let Some(cluster) = &cluster {
            inherited.iter_mut().for_each(|own| own.push(cluster.bell()));
        }
        let (started, starts) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        let settings = Settings {
            cpus: &cpus,
            mesh_capacity: mesh_queue,
            inherited: &inherited,
            executor: runtime.executor,
            tables: runtime.tables,
        };
        let mut node = node::start(&settings, move |shard| {
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
        let cluster = cluster.map(|cluster| cluster.start(config, node.outside.clone(), hasher.clone()));
        let cluster = cluster.transpose()?;
        if let Some(cluster) = cluster.as_ref().filter(|_| has_predecessor) {
            cluster.wait_for_nats(NATS_TIMEOUT);
        }
        let sockets = node
            .sockets
            .take()
            .ok_or(io::ErrorKind::NotFound)
            .map_err(io::Error::from)?;
        let sockets = Arc::new(Mutex::new(sockets));
        let (outside, hashes) = (node.outside.clone(), hasher.clone());
        let dispatcher = Dispatcher::start(outside, control.clone(), hashes, (sender, said), has_predecessor)?;
        let way = WayHome {
            sockets: sockets.clone(),
            hasher: hasher.clone(),
            shards_count: cpus.len(),
            next: 0,
        };
        let listeners = KeptListeners::new(listeners);
        let admin_stop = Arc::new(StopWord::new()?);
        let ticket_keys = TicketKeys::new(node.outside.clone());
        let upgrades = Upgrades::new(Parts {
            program,
            version,
            generation,
            line,
            outside: node.outside.clone(),
            control: control.clone(),
            listeners: listeners.clone(),
            ticket_keys: ticket_keys.clone(),
            dispatcher: dispatcher.clone(),
            sockets,
            admin_stop: admin_stop.clone(),
        });
        let running = Running::new(config.clone(), secrets.tokens.admin.clone());
        let admin = Admin::new(
            node.outside.clone(),
            control.clone(),
            hasher,
            running.clone(),
            began,
            upgrades.clone(),
        );
        let taps = admin.taps();
        refresh_addresses(&config.node.backends, &node.outside)?;
        secrets.show_certificates();
        Ok(Self {
            addresses,
            secrets,
            node,
            ends,
            control,
            running,
            taps,
            upgrades,
            listeners,
            ticket_keys,
            moving_in: has_predecessor.then_some((way, dispatcher)),
            cluster,
            admin: Some((admin, admin_listener, admin_stop)),
        })
    }

    /// Tickets of the process that is taken over are good here, too.
    pub fn inherit_ticket_keys(&self, told: &KeysBefore) {
        if self.secrets.listen_tls.is_some() {
            self.ticket_keys.inherit(told);
        }
    }

    /// From now on clients, backend and operators are served.
    ///
    /// # Errors
    /// When there can be no thread for operators, or for new keys.
    pub fn open(&mut self) -> Result<(), ServeError> {
        if self.secrets.listen_tls.is_some() {
            self.ticket_keys.begin()?;
        }
        self.control.open(&self.node.outside);
        if let Some((admin, listener, stop)) = self.admin.take() {
            admin.start(listener, stop)?;
        }
        Ok(())
    }

    /// The way in for the clients of the process that is taken over, if there is one, and for what it says. Once.
    pub fn take_moving_in(&mut self) -> Option<(WayHome, Dispatcher)> {
        self.moving_in.take()
    }

    /// What the process wants of the shards.
    #[must_use]
    pub fn control(&self) -> Arc<ControlPlane> {
        self.control.clone()
    }

    /// The way to the shards.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote {
            upgrades: self.upgrades.clone(),
            listeners: self.listeners.clone(),
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
        if let Some(cluster) = self.cluster {
            cluster.finish();
        }
        self.upgrades.finish(LAST_WORDS_TIMEOUT);
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
    /// Begins the end: no new clients; those that there are leave. An upgrade that is under way is undone.
    pub fn drain(&self) {
        self.upgrades.cancel();
        // What the shards close is closed.
        self.listeners.let_go();
        self.control.drain(&self.outside);
    }

    /// Gives the shards a configuration that was read again.
    pub fn reload(&self, config: Config, secrets: &Secrets) {
        self.running.set(config.clone(), secrets.tokens.admin.clone());
        secrets.show_certificates();
        self.control.reload(&self.outside, config, secrets.of_shards());
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

/// What a process that has taken over may take for the last of what this one has for it.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
/// What a tap's reader may take for its last lines, once all clients have gone.
const LAST_LINES_TIMEOUT: Duration = Duration::from_millis(500);
/// What a process that takes over waits for NATS at the most.
const NATS_TIMEOUT: Duration = Duration::from_secs(3);
const LOOK_UP_PAUSE: Duration = Duration::from_secs(30);

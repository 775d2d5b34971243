//! Puts this node into its cluster: the thread that owns the connection to NATS, and the shards' lines to it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{EventfdFlags, eventfd};
use shards::mesh::NodeHandle;

use crate::cluster::credentials::{self, CredentialsFileError};
use crate::cluster::line::{Ear, Line, Way, Word};
use crate::cluster::link::{Link, LinkSettings};
use crate::cluster::status::Status;
use crate::cluster::thread::{self, Parts};
use crate::config::{Config, Node};
use crate::env::home::IdHasher;
use crate::shard::mail::Mail;
use protocol::cluster::{Bounds, Limits, NodeId, Own};

/// A node's cluster before its shards are there.
#[derive(Debug)]
pub struct Preparation {
    ear: Ear,
    /// What the shards' lines are made of.
    pub way: Way,
    bell: OwnedFd,
    settings: LinkSettings,
}

/// The thread.
#[derive(Debug)]
pub struct Cluster {
    line: Line,
    thread: JoinHandle<()>,
}

impl Preparation {
    /// `None`: the node is to be in no cluster.
    ///
    /// # Errors
    /// The certificates can't be used, or there is no descriptor.
    pub fn of(config: &Config) -> Result<Option<Self>, PrepareError> {
        let node = &config.node;
        if node.cluster.is_empty() {
            return Ok(None);
        }
        let settings = link_settings(config)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?;
        let (ear, way) = Ear::new(bell.try_clone()?, Arc::new(Status::default()));
        Ok(Some(Self {
            ear,
            way,
            bell,
            settings,
        }))
    }

    /// What each shard gets behind its listeners.
    #[must_use]
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be none.
    pub fn start(self, config: &Config, outside: Arc<NodeHandle<Mail>>, hasher: IdHasher) -> io::Result<Cluster> {
        let Self {
            ear,
            way,
            bell,
            settings,
        } = self;
        let cores = &config.cores;
        let buffers_max: usize = cores.iter().map(|core| core.buffers_max).sum();
        let requests_max = cores.iter().map(|core| core.cluster_requests_max).max().unwrap_or(1);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let parts = Parts {
            link: Link::new(settings),
            ear,
            own: Own {
                id: NodeId::new(random()),
                name: node_name(&config.node),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            },
            limits: Limits {
                shards: cores.len(),
                asked_max: requests_max,
                len_max: buffers_max / LEN_PART,
                served_max: requests_max.saturating_mul(cores.len()),
            },
            name: config.node.cluster_name.clone(),
            bounds: cores
                .iter()
                .map(|core| Bounds {
                    payload_len_max: core.message_max,
                    json_depth_max: core.json_depth_max,
                })
                .collect(),
            outside,
            hasher,
            status: way.status.clone(),
        };
        Ok(Cluster {
            line: Line::new(way, bell),
            thread: thread::start(parts)?,
        })
    }
}

impl Cluster {
    /// Waits until NATS is there, if it is within that time: clients that come from another process are found from the first moment on.
    pub fn wait_for_nats(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while !self.line.status().is_connected() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }

    /// The shards have ended: says the last words.
    pub fn finish(self) {
        self.line.say(Word::End);
        // One that has panicked has ended the process.
        let _ = self.thread.join();
    }
}

/// Why a node can't be in its cluster.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// What stands in a file can't be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsFileError),
    /// There is no descriptor.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// How the connection is to be.
///
/// # Errors
/// What stands in a file can't be used.
pub fn link_settings(config: &Config) -> Result<LinkSettings, CredentialsFileError> {
    let node = &config.node;
    let message_max = config.cores.iter().map(|core| core.message_max).max().unwrap_or(0);
    let mut settings = LinkSettings::new(node.cluster.clone(), node_name(node));
    settings.credentials_file = node.cluster_credentials_file.clone();
    let needs_tls = node.cluster.iter().any(|url| url.is_tls) || node.cluster_ca.is_some();
    let trust = credentials::trust(node.cluster_ca.as_deref());
    // A server may ask for TLS, whatever its URL says.
    settings.tls = if needs_tls { Some(trust?) } else { trust.ok() };
    settings.payload_len_max = message_max + ENVELOPE_LEN;
    settings.waiting_len_max = settings.waiting_len_max.max(2 * settings.payload_len_max);
    Ok(settings)
}

/// How this node is called.
#[must_use]
pub fn node_name(node: &Node) -> String {
    if !node.node_name.is_empty() {
        return node.node_name.clone();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = host.chars().filter(char::is_ascii_graphic).take(NAME_LEN_MAX).collect();
    if name.is_empty() { "ws2api".to_owned() } else { name }
}

/// Not 0: that is nobody.
fn random() -> u64 {
    use std::hash::BuildHasher as _;
    std::hash::RandomState::new().hash_one("node").max(1)
}

/// What questions and outcomes that are open may hold of what the shards may.
const LEN_PART: usize = 8;
/// What a message holds besides a payload.
const ENVELOPE_LEN: usize = 4096;
/// As in the configuration.
const NAME_LEN_MAX: usize = 64;
const LOOK: Duration = Duration::from_millis(5);

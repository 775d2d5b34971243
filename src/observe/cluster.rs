//! Remembers how the cluster is, as this node sees it, for /metrics, the status page and whoever watches them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use protocol::cluster::Node;

/// What this node sees.
#[derive(Clone, Debug)]
pub struct ClusterSeen {
    /// `cluster_name`
    pub name: String,
    /// Which server of NATS it is connected to; empty: to none.
    pub server: String,
    /// Why it is connected to none; empty where it is not known yet.
    pub why: String,
    /// Since when it is so.
    pub since: Instant,
    /// The nodes, this one last.
    pub nodes: Vec<Node>,
    /// Clients that other nodes find here.
    pub clients: usize,
    /// Questions that have no answer yet.
    pub asked: usize,
    /// Bytes that NATS has not taken yet.
    pub waiting_len: usize,
    /// Whether those are few enough.
    pub has_room: bool,
    /// The longest that NATS takes.
    pub max_payload: usize,
    /// What has happened since the start.
    pub counts: ClusterCounts,
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterCounts {
    /// NATS was there, or was there again.
    pub connected: u64,
    /// It has gone.
    pub gone: u64,
    /// Messages from NATS.
    pub received: u64,
    /// Messages to it.
    pub sent: u64,
    /// Those of them that found no room.
    pub lost: u64,
    /// Messages that are not what nodes say.
    pub bad: u64,
    /// Questions of other nodes about clients here.
    pub served: u64,
    /// Connections of clients that are at another node now.
    pub replaced: u64,
}

impl ClusterSeen {
    /// It has just begun.
    #[must_use]
    pub fn new(name: &str, now: Instant) -> Self {
        Self {
            name: name.to_owned(),
            server: String::new(),
            why: String::new(),
            since: now,
            nodes: Vec::new(),
            clients: 0,
            asked: 0,
            waiting_len: 0,
            has_room: true,
            max_payload: 0,
            counts: ClusterCounts::default(),
        }
    }

    /// Whether NATS is there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        !self.server.is_empty()
    }

    /// NATS is there.
    pub fn handle_connected(&mut self, server: String, now: Instant) {
        self.counts.connected += 1;
        self.since = now;
        self.server = server;
        self.why.clear();
    }

    /// It has gone, or is still not there.
    pub fn handle_lost(&mut self, why: String, now: Instant) {
        if self.is_connected() {
            self.counts.gone += 1;
            self.since = now;
            self.server.clear();
        }
        self.why = why;
    }
}

/// From now on it is so.
pub fn set(seen: ClusterSeen) {
    *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(seen));
}

/// How it is; `None`: this node is in no cluster.
#[must_use]
pub fn current() -> Option<Arc<ClusterSeen>> {
    CURRENT.read().unwrap_or_else(PoisonError::into_inner).clone()
}

static CURRENT: RwLock<Option<Arc<ClusterSeen>>> = RwLock::new(None);

//! Knows which nodes there are: each says so every few seconds.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::subject;

/// One start of one node, among all that ever were: a random number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId(u64);

/// What a node says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Its own number.
    pub id: NodeId,
    /// `node_name`.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// So many clients are connected to it.
    pub clients: u64,
    /// When it started, in milliseconds since 1970.
    pub since_ms: u64,
    /// Whether it is ending.
    pub is_draining: bool,
    /// It is back at NATS, and not all of its clients are subscribed to yet.
    pub is_subscribing: bool,
    /// What its clock shows, in the cluster's time.
    pub now_ms: u64,
}

/// The other nodes, as they were last heard of.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    heard: BTreeMap<NodeId, Heard>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    node: Node,
    /// From then on its clients are subscribed to, for all that is known.
    findable_at: Option<Instant>,
}

impl NodeId {
    /// That of this random number.
    #[must_use]
    pub const fn new(random: u64) -> Self {
        Self(random)
    }

    /// Reads what `Display` writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = subject::hexadecimal(text)?;
        (text.len() == 16).then_some(Self(number))
    }

    /// The random number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl Nodes {
    /// A node has spoken. True when nobody knew it.
    pub(super) fn handle_heard(&mut self, node: Node, now: Instant) -> bool {
        let before = self.heard.get(&node.id);
        if before.is_none() && self.heard.len() >= NODES_MAX {
            return false;
        }
        let is_new = before.is_none();
        let findable_at = match before.and_then(|known| known.findable_at) {
            _ if node.is_subscribing => None,
            Some(at) => Some(at),
            None if is_new && node.clients == 0 => Some(now),
            None => Some(now + KNOWN_AFTER),
        };
        let heard = Heard {
            at: now,
            node,
            findable_at,
        };
        self.heard.insert(heard.node.id, heard);
        is_new
    }

    /// NATS is there again, for this node. The others come back when they do, and are not forgotten before they had time to.
    pub(super) fn handle_connected(&mut self, now: Instant) {
        for known in self.heard.values_mut() {
            (known.at, known.findable_at) = (now, None);
        }
    }

    /// Whether every client of every node that is known can be found: then nobody has whom nobody answers for.
    pub(super) fn are_findable(&self, now: Instant) -> bool {
        let is_findable = |known: &Heard| known.findable_at.is_some_and(|at| at <= now);
        self.heard.values().all(is_findable)
    }

    /// Forgets who has been silent for too long.
    pub(super) fn handle_deadline(&mut self, now: Instant) {
        self.heard
            .retain(|_, known| now.saturating_duration_since(known.at) < SILENT_MAX);
    }

    /// What a node is called; its number, where it has not said that yet.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        let known = self.heard.get(&node);
        known.map_or_else(|| node.to_string(), |known| known.node.name.clone())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.heard.values().map(|known| &known.node)
    }
}

/// Each node says so often that it is there.
pub(super) const PRESENCE_EVERY: Duration = Duration::from_secs(5);
/// After three words that did not come a node is gone.
const SILENT_MAX: Duration = Duration::from_secs(16);
/// What a subscription takes to be known to all servers of NATS, and more.
const KNOWN_AFTER: Duration = Duration::from_secs(1);
const NODES_MAX: usize = 1024;

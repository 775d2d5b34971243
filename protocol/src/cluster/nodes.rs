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
    /// What its clock shows, in the cluster's time.
    pub now_ms: u64,
}

/// The other nodes, as they were last heard of.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    heard: BTreeMap<NodeId, (Instant, Node)>,
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

    pub(super) fn number(self) -> u64 {
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
        if self.heard.len() >= NODES_MAX && !self.heard.contains_key(&node.id) {
            return false;
        }
        self.heard.insert(node.id, (now, node)).is_none()
    }

    /// Forgets who has been silent for too long.
    pub(super) fn handle_deadline(&mut self, now: Instant) {
        self.heard
            .retain(|_, (heard, _)| now.saturating_duration_since(*heard) < SILENT_MAX);
    }

    /// What a node is called; its number, where it has not said that yet.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        let known = self.heard.get(&node);
        known.map_or_else(|| node.to_string(), |(_, node)| node.name.clone())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.heard.values().map(|(_, node)| node)
    }
}

/// Each node says so often that it is there.
pub(super) const PRESENCE_EVERY: Duration = Duration::from_secs(5);
/// After three words that did not come a node is gone.
const SILENT_MAX: Duration = Duration::from_secs(16);
const NODES_MAX: usize = 1024;

//! Is a shard's way to the other nodes of the cluster, and remembers what of it is there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::cluster::line::{Line, Word};
use protocol::mapping::Identity;
use protocol::ocpp::{Action, MessageId, Waiter};
use protocol::trace_context::TraceParent;

/// The way to the other nodes, and what of this shard is there.
#[derive(Debug)]
pub struct OtherNodes {
    line: Line,
    /// Pushes that have gone to another node with their client, by the numbers under which their outcomes come.
    pub(super) moved: RefCell<HashMap<u64, MovedPush>>,
}

/// A push that this node has accepted, and another one has now. The backend is told from here what becomes of it.
#[derive(Debug)]
pub(super) struct MovedPush {
    /// The connection that it was accepted for.
    pub(super) identity: Rc<Identity>,
    pub(super) call: (Action, MessageId),
    pub(super) waiter: Option<Waiter>,
    pub(super) trace: Option<Box<TraceParent>>,
}

impl OtherNodes {
    /// By that line.
    #[must_use]
    pub fn new(line: Line) -> Self {
        Self {
            line,
            moved: RefCell::default(),
        }
    }

    /// Has it said.
    pub fn say(&self, word: Word) {
        self.line.say(word);
    }

    /// Whether NATS is there.
    pub fn is_connected(&self) -> bool {
        self.line.status().is_connected()
    }

    /// Nobody is owed anything any more, and nobody asks here.
    pub fn has_finished(&self) -> bool {
        self.line.status().unfinished() == 0
    }

    /// Pushes that are at another node, and whose outcomes are told from here.
    pub fn moved_count(&self) -> usize {
        self.moved.borrow().len()
    }
}

//! Names the parts that a shard is given when it starts.
//!
//! They are the same on real and on simulated shards; what they are made of is whatever this build has.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::handover::{Arrivals, Handover};
use crate::mesh::Mesh;
use crate::reactor::Reactor;

/// What a shard finds in its hands when it starts.
#[derive(Debug)]
pub struct Shard<M> {
    /// 0 to `count - 1`.
    pub index: usize,
    /// How many shards the node has.
    pub count: usize,
    /// Its clock, timers and sockets.
    pub reactor: Rc<Reactor>,
    /// Messages to other shards.
    pub mesh: Rc<Mesh<M>>,
    /// Sockets to other shards.
    pub handover: Rc<Handover>,
    /// Sockets from other shards; taken by the one task that serves them.
    pub arrivals: Arrivals,
    /// Where messages from other shards go. Set it before the first `.await`.
    pub inbox: Inbox<M>,
    /// What was opened for it before the start, in that order. A simulated shard has nothing.
    pub inherited: Vec<OwnedFd>,
}

/// The place of the function that handles a shard's mail.
pub struct Inbox<M>(pub(crate) Rc<RefCell<Option<Handler<M>>>>);

/// What handles one message after the other.
pub(crate) type Handler<M> = Box<dyn FnMut(M)>;

impl<M> Inbox<M> {
    /// Sets the function that takes this shard's mail. It runs between tasks, and must not block.
    pub fn set(&self, handler: impl FnMut(M) + 'static) {
        *self.0.borrow_mut() = Some(Box::new(handler));
    }
}

impl<M> std::fmt::Debug for Inbox<M> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Inbox")
    }
}

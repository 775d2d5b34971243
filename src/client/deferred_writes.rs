//! Sends the answers of one pass of the reactor together at its end: the side where the clients are is woken once for
//! many, not for each. A frame waits in its connection's WebSocket; this list says who has one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The connections with frames that were deferred to the end of the pass.
pub struct DeferredWrites<C> {
    connections: RefCell<Vec<Rc<C>>>,
    /// Bytes of all their frames.
    len: Cell<usize>,
}

impl<C> Default for DeferredWrites<C> {
    fn default() -> Self {
        Self {
            connections: RefCell::default(),
            len: Cell::new(0),
        }
    }
}

impl<C> DeferredWrites<C> {
    /// Whether a frame of `len` bytes may be deferred; else it has to leave at once.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.len.get() + len <= LEN_MAX
    }

    /// Counts a frame of `len` bytes that was deferred.
    pub(super) fn count(&self, len: usize) {
        self.len.set(self.len.get() + len);
    }

    /// Adds a connection that has its first frame of this pass.
    pub(super) fn add(&self, connection: Rc<C>) {
        self.connections.borrow_mut().push(connection);
    }

    /// Sends all, each connection's with `write`. Called at the end of every pass.
    pub fn send(&self, write: impl Fn(&C)) {
        if self.connections.borrow().is_empty() {
            return;
        }
        let mut connections = self.connections.take();
        self.len.set(0);
        for connection in connections.drain(..) {
            write(&connection);
        }
        let mut next = self.connections.borrow_mut();
        if next.is_empty() && connections.capacity() <= CAPACITY_KEPT {
            *next = connections;
        }
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }
}

const LEN_MAX: usize = 256 * 1024;
const CAPACITY_KEPT: usize = 4096;

//! Counts the opening handshakes under way: one more needs a permit.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

/// How many handshakes are under way, and who waits for there to be fewer.
#[derive(Debug, Default)]
pub struct Handshakes {
    count: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
}

/// A handshake under way; ends when it is dropped.
#[derive(Debug)]
pub struct HandshakePermit(Rc<Handshakes>);

impl Handshakes {
    /// The number of handshakes under way.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// One more is under way.
    pub(super) fn begin(self: &Rc<Self>) -> HandshakePermit {
        self.count.set(self.count.get() + 1);
        HandshakePermit(self.clone())
    }

    /// Wakes this task, and no other, when one has ended.
    pub(super) fn watch_end(&self, waker: &Waker) {
        *self.waiting.borrow_mut() = Some(waker.clone());
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if let Some(waker) = self.0.waiting.borrow_mut().take() {
            waker.wake();
        }
    }
}

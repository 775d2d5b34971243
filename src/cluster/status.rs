//! Says how the cluster's thread is, in words that stay: shards look at them, and ask nobody.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// See the module. The thread writes.
#[derive(Debug, Default)]
pub struct Status {
    is_connected: AtomicBool,
    unfinished: AtomicUsize,
}

impl Status {
    /// Whether NATS is there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Acquire)
    }

    /// Clients that other nodes find here, answers that are owed to them, and outcomes that they have not heard.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Acquire)
    }

    pub(super) fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Release);
    }

    pub(super) fn set_unfinished(&self, count: usize) {
        self.unfinished.store(count, Ordering::Release);
    }
}

//! Counts the bytes that a shard keeps of messages that are not whole, of all clients together.

use std::cell::Cell;

/// The sum, in bytes.
#[derive(Debug, Default)]
pub struct HeldBytes(Cell<usize>);

impl HeldBytes {
    /// What all clients hold.
    pub fn len(&self) -> usize {
        self.0.get()
    }

    /// A client that held `before` holds `now`.
    pub(super) fn change(&self, before: usize, now: usize) {
        if now >= before {
            self.grow(now - before);
        } else {
            self.shrink(before - now);
        }
    }

    fn grow(&self, len: usize) {
        self.0.set(self.0.get() + len);
    }

    fn shrink(&self, len: usize) {
        debug_assert!(len <= self.0.get(), "nobody gives back what was not counted");
        self.0.set(self.0.get().saturating_sub(len));
    }
}

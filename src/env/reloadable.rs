//! Holds a shard's copy of what can be set anew while it runs.

use std::cell::Cell;
use std::ops::Deref;

/// Read like a reference, at its cost. Each new value leaves the one before it in memory for good, since anybody on the
/// shard may hold a reference to it: some hundred bytes for each time that an operator asks for it.
#[derive(Debug)]
pub struct Reloadable<T: 'static>(Cell<&'static T>);

impl<T> Reloadable<T> {
    /// Holds `value` at first.
    pub fn new(value: T) -> Self {
        Self(Cell::new(Box::leak(Box::new(value))))
    }

    /// From now on it is `value`.
    pub fn set(&self, value: T) {
        self.0.set(Box::leak(Box::new(value)));
    }
}

impl<T> Deref for Reloadable<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.get()
    }
}

//! Tells what runs beside a test that the test is over.

use std::sync::atomic::{AtomicBool, Ordering};

/// Work beside a test, in a scope: told to end when [`Until::end`]'s guard is dropped, also by a failed assertion.
#[derive(Default)]
pub struct Until(AtomicBool);

pub struct End<'u>(&'u Until);

impl Until {
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Over with the end of what this returns.
    pub fn end(&self) -> End<'_> {
        End(self)
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

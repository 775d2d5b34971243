//! Holds up what stands before it until a test lets it through.

use std::sync::{Arc, Condvar, Mutex};

use super::DEADLINE;

/// Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    passes: usize,
    open: bool,
}

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets one through, now or later.
    pub fn pass(&self) {
        self.0.0.lock().unwrap().passes += 1;
        self.0.1.notify_all();
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }

    /// Waits to be let through. After [`DEADLINE`] it gives up and returns: the test has failed elsewhere by then.
    pub fn wait(&self) {
        let state = self.0.0.lock().unwrap();
        let shut = |state: &mut State| !state.open && state.passes == 0;
        let (mut state, _) = self.0.1.wait_timeout_while(state, DEADLINE, shut).unwrap();
        state.passes = state.passes.saturating_sub(1);
    }
}

//! Counts the Calls whose connections have ended while the backend was at work on them: they still count as their client's, so
//! that one that reconnects holds no more of the backend than one that stays.

use std::cell::RefCell;
use std::collections::HashMap;

use protocol::ocpp::ClientId;

/// See the module. Bounded by the requests that the backend has.
#[derive(Debug, Default)]
pub(super) struct EarlierCalls {
    /// Who has none is not in it.
    counts: RefCell<HashMap<ClientId, usize>>,
}

impl EarlierCalls {
    /// `count` more.
    pub(super) fn add(&self, client: &ClientId, count: usize) {
        if count > 0 {
            *self.counts.borrow_mut().entry(client.clone()).or_default() += count;
        }
    }

    /// One less. Returns how many are left.
    pub(super) fn remove_one(&self, client: &ClientId) -> usize {
        let mut counts = self.counts.borrow_mut();
        let Some(count) = counts.get_mut(client) else {
            debug_assert!(false, "what is answered was counted");
            return 0;
        };
        *count -= 1;
        let left = *count;
        if left == 0 {
            counts.remove(client);
        }
        left
    }

    /// How many there are.
    pub(super) fn count(&self, client: &ClientId) -> usize {
        self.counts.borrow().get(client).copied().unwrap_or_default()
    }
}

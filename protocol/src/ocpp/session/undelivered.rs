//! Counts what a client has told the backend and the backend does not have yet.

use super::limits::Limits;

/// How much of what the client has told the backend is not delivered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Undelivered {
    count: u32,
    /// Bytes of the bodies. No body is longer than a message, and the count is small.
    len: u32,
}

impl Undelivered {
    pub(super) fn has_room(self, limits: &Limits) -> bool {
        (self.count as usize) < limits.posts_queued && (self.len as usize) < limits.queued_len_max
    }

    pub(super) fn add(&mut self, len: usize) {
        self.count = self.count.saturating_add(1);
        self.len = self.len.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
    }

    pub(super) fn remove(&mut self, len: usize) {
        self.count = self.count.saturating_sub(1);
        self.len = match self.count {
            0 => 0,
            _ => self.len.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX)),
        };
    }
}

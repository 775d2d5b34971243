//! Holds what most sessions do not need most of the time, so that an idle one has no room for it.

use super::answered_ids::AnsweredIds;
use super::limits::Limits;

/// What most clients do not need most of the time: made when there is something in it, dropped when it is empty.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) answered_ids: AnsweredIds,
    pub(super) undelivered: Undelivered,
}

impl Rare {
    pub(super) fn is_empty(&self) -> bool {
        self.undelivered.count == 0 && self.answered_ids.is_empty()
    }
}

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

//! Counts what the backend still has to take of a client, or to answer to a connection of it that is over.

use super::limits::Limits;

/// Eight bytes in each session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credits {
    /// What the client has told the backend and is not delivered.
    pub(super) posts: u16,
    /// Calls of the client's earlier connections at the backend.
    earlier_calls: u16,
    /// Bytes of the posts' bodies. None is longer than a message, and there are few.
    pub(super) posts_len: u32,
}

impl Credits {
    pub(super) fn has_room_for_post(self, limits: &Limits) -> bool {
        usize::from(self.posts) < limits.posts_queued && (self.posts_len as usize) < limits.queued_len_max
    }

    pub(super) fn add_post(&mut self, len: usize) {
        self.posts = self.posts.saturating_add(1);
        self.posts_len = self.posts_len.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
    }

    pub(super) fn remove_post(&mut self, len: usize) {
        self.posts = self.posts.saturating_sub(1);
        self.posts_len = match self.posts {
            0 => 0,
            _ => self.posts_len.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX)),
        };
    }

    pub(super) fn earlier_calls(self) -> usize {
        self.earlier_calls.into()
    }

    pub(super) fn set_earlier_calls(&mut self, count: usize) {
        self.earlier_calls = u16::try_from(count).unwrap_or(u16::MAX);
    }
}

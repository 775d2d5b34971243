//! What a client has told the backend, until the backend has taken it: counted here, kept by the caller.

use std::time::Instant;

use bytes::Bytes;

use super::answered_ids::AnsweredIds;
use super::limits::Limits;
use super::{Fault, Session};
use crate::ocpp::ids::{Action, MessageId};
use crate::ocpp::output::{Output, PostContent};

/// What most clients do not need most of the time: made when there is something in it, dropped when it is empty.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) answered_ids: AnsweredIds,
    undelivered: Undelivered,
}

/// How much of it there is.
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

    fn add(&mut self, len: usize) {
        self.count = self.count.saturating_add(1);
        self.len = self.len.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
    }

    fn remove(&mut self, len: usize) {
        self.count = self.count.saturating_sub(1);
        self.len = match self.count {
            0 => 0,
            _ => self.len.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX)),
        };
    }
}

impl Session {
    /// A post that counts as the client's ([`PostContent::client_len`], which is `len`) has been delivered, or given up. Each is
    /// reported once, in any order, also after the end.
    pub fn handle_post_over(&mut self, now: Instant, len: usize) {
        let read_before = self.wants_read();
        if let Some(rare) = &mut self.rare {
            rare.undelivered.remove(len);
        }
        self.drop_rare();
        if !read_before {
            // It could not be heard until now.
            self.keepalive.heard(now);
        }
    }

    /// OCPP 2.1's SEND.
    pub(super) fn handle_send(&mut self, action: Action, message_id: MessageId, payload: Bytes, out: &mut Vec<Output>) {
        let content = PostContent::Send(payload);
        if !self.breaks(Fault::SendsUncounted) {
            self.count_post(&content);
        }
        out.push(Output::Post {
            action,
            message_id,
            content,
        });
    }

    /// Counts what is posted from now on, if it counts.
    pub(super) fn count_post(&mut self, content: &PostContent) {
        if let Some(len) = content.client_len() {
            self.rare().undelivered.add(len);
        }
    }

    pub(super) fn undelivered(&self) -> Undelivered {
        self.rare.as_ref().map(|rare| rare.undelivered).unwrap_or_default()
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// If it is empty.
    pub(super) fn drop_rare(&mut self) {
        self.rare
            .take_if(|rare| rare.undelivered.count == 0 && rare.answered_ids.is_empty());
    }
}

//! What a client has told the backend, until the backend has taken it: counted here, kept by the caller.

use std::time::Instant;

use bytes::Bytes;

use super::{Fault, Session};
use crate::ocpp::ids::{Action, MessageId};
use crate::ocpp::output::{Output, PostContent};
use crate::ocpp::outputs::Outputs;

impl Session {
    /// A post that counts as the client's ([`PostContent::client_len`], which is `len`) has been delivered, or given up. Each is
    /// reported once, in any order, also after the end.
    pub fn handle_post_over(&mut self, now: Instant, len: usize) {
        let read_before = self.wants_read();
        self.credits.remove_post(len);
        if !read_before {
            // It could not be heard until now.
            self.keepalive.heard(now);
        }
    }

    /// OCPP 2.1's SEND.
    pub(super) fn handle_send(&mut self, action: Action, message_id: MessageId, payload: Bytes, out: &mut Outputs) {
        let content = PostContent::Send(payload);
        if !self.breaks(Fault::SendsUncounted) {
            self.count_post(&content);
        }
        out.push(Output::Post {
            action,
            message_id,
            content,
            trace: None,
        });
    }

    /// Counts what is posted from now on, if it counts.
    pub(super) fn count_post(&mut self, content: &PostContent) {
        if let Some(len) = content.client_len() {
            self.credits.add_post(len);
        }
    }
}

//! Keeps one thing that the backend must learn, with its key, its tries and who is told when it is over.

use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::client::Connection;
use crate::env::buffers::Held;
use protocol::balance::Kind;
use protocol::http::RequestTemplate;
use protocol::mapping::Identity;
use protocol::mapping::outgoing::{self, PostKey};
use protocol::ocpp::{ClientId, Outcome, PostContent};
pub(super) use protocol::record::Notice;

/// One thing that the backend must learn.
pub struct Post {
    pub(super) identity: Rc<Identity>,
    pub(super) notice: Notice,
    pub(super) key: PostKey,
    /// Its number in this outbox; the key's may be another process's.
    pub(super) number: u64,
    pub(super) first_try: Instant,
    pub(super) deadline: Instant,
    pub(super) tries: u32,
    /// Whose own word it is, and of how many bytes: told when it is over.
    pub(super) sender: Option<(Weak<Connection>, usize)>,
    /// It counts among the bytes that the shard holds.
    pub(super) held: Held,
}

/// The outbox's bounds, from the shard's config.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// How long a post is tried again: `result_ttl`.
    pub ttl: Duration,
    /// How many posts of each kind may wait: `results_queued_max`.
    pub waiting_max: usize,
    /// How many bytes of each kind may wait: `results_queued_bytes`.
    pub waiting_len_max: usize,
    /// A single try takes no longer than a Call may.
    pub try_timeout: Duration,
}

impl Post {
    pub(in crate::shard) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(in crate::shard) fn request_kind(&self) -> Kind {
        match &self.notice {
            Notice::Post(_, _, PostContent::Outcome(_), _) => Kind::Outcome,
            Notice::Post(_, _, PostContent::Send(_) | PostContent::ResultError(_), _) => Kind::Send,
            Notice::Disconnect(_) => Kind::Disconnect,
        }
    }

    pub(in crate::shard) fn body_len(&self) -> usize {
        match &self.notice {
            Notice::Post(_, _, content, _) => outgoing::post_body(content).len(),
            Notice::Disconnect(body) => body.len(),
        }
    }

    pub(in crate::shard) fn write(&self, template: &RequestTemplate, out: &mut Vec<u8>) {
        match &self.notice {
            Notice::Post(action, message_id, content, trace) => {
                let (names, content) = ((action, message_id), (content, trace.as_deref()));
                outgoing::write_post(template, &self.identity, names, content, self.key, out);
            }
            Notice::Disconnect(body) => outgoing::write_disconnect(template, &self.identity, body, self.key, out),
        }
    }

    /// What it tells of, for people.
    pub(super) fn kind_name(&self) -> &'static str {
        match &self.notice {
            Notice::Post(_, _, PostContent::Outcome(Outcome::Result(_)), _) => "the CallResult to a push",
            Notice::Post(_, _, PostContent::Outcome(Outcome::Error { .. }), _) => "the CallError to a push",
            Notice::Post(_, _, PostContent::Outcome(_), _) => "that a push has no answer",
            Notice::Post(_, _, PostContent::Send(_), _) => "a SEND",
            Notice::Post(_, _, PostContent::ResultError(_), _) => "a CallResultError",
            Notice::Disconnect(_) => "the end of a connection",
        }
    }

    /// Whether it keeps its place among those of its kind and client.
    pub(super) fn is_in_order(&self) -> bool {
        self.request_kind() != Kind::Outcome
    }

    pub(super) fn client(&self) -> &ClientId {
        &self.identity.client
    }

    /// What it holds, about.
    pub(super) fn len(&self) -> usize {
        self.body_len() + size_of::<Self>()
    }
}

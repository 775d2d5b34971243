//! Lists the Calls of one client that have no answer yet, in the order of arrival: first those at the backend, then
//! those that wait.
//!
//! The first is kept inline, so that a client with one Call at a time costs no allocation; the list of the others is
//! given back when it is empty.

use std::time::Instant;

use crate::ocpp::call_text::CallText;
use crate::ocpp::ids::{Action, MessageId};
use crate::ocpp::json;
use crate::ocpp::output::CallKey;

/// How far a Call has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CallState {
    /// The Call waits for those before it.
    Queued,
    /// The backend has the Call and has not answered.
    Sent,
    /// The backend has said that it answers later. Still takes its place among those in flight.
    Deferred,
    /// The client has its (deferred) answer, the backend's response is still to come.
    Answered,
}

/// One Call: the client's message, and where its parts are in it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) key: CallKey,
    pub(super) state: CallState,
    /// When a deferred one is answered with an error. While queued: when it came.
    pub(super) deadline: Instant,
    pub(super) text: CallText,
}

impl Call {
    pub(super) fn new(key: CallKey, text: CallText, now: Instant) -> Self {
        Self {
            key,
            state: CallState::Queued,
            deadline: now,
            text,
        }
    }

    pub(super) fn message_id(&self) -> MessageId {
        MessageId::parse(&self.text.message_id()).expect("checked on arrival")
    }

    pub(super) fn action(&self) -> Action {
        Action::parse(&self.text.action()).expect("checked on arrival")
    }

    /// Whether the client still waits for the answer to a Call of this id.
    fn is_open_as(&self, id: &str) -> bool {
        if self.state == CallState::Answered {
            return false;
        }
        let raw = self.text.raw_id();
        match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(inner) => inner == id || json::unescape_string(raw).is_ok_and(|own| own == id),
            None => raw == id,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Calls {
    first: Option<Call>,
    rest: Vec<Call>,
}

impl Calls {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Call> {
        self.first.iter().chain(&self.rest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// How many take a place at the backend.
    pub(super) fn in_flight(&self) -> usize {
        if self.rest.is_empty() {
            // So it is for nearly all.
            return self.first.iter().filter(|call| call.state != CallState::Queued).count();
        }
        self.iter().take_while(|call| call.state != CallState::Queued).count()
    }

    pub(super) fn queued(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len() - self.in_flight()
    }

    /// Bytes of the messages that wait.
    pub(super) fn queued_len(&self) -> usize {
        let queued = self.iter().filter(|call| call.state == CallState::Queued);
        queued.map(|call| call.text.message().len()).sum()
    }

    /// Bytes of all messages, those at the backend among them.
    pub(super) fn bytes_len(&self) -> usize {
        self.iter().map(|call| call.text.message().len()).sum()
    }

    /// The Call of that decoded id that the client still waits for.
    pub(super) fn find_open(&self, id: &str) -> Option<usize> {
        self.iter().position(|call| call.is_open_as(id))
    }

    pub(super) fn find_key(&self, key: CallKey) -> Option<usize> {
        self.iter().position(|call| call.key == key)
    }

    /// The first that waits.
    pub(super) fn find_queued(&self) -> Option<usize> {
        self.iter().position(|call| call.state == CallState::Queued)
    }

    /// A deferred one whose time is over.
    pub(super) fn find_expired(&self, now: Instant) -> Option<usize> {
        self.iter()
            .position(|call| call.state == CallState::Deferred && call.deadline <= now)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.iter()
            .filter(|call| call.state == CallState::Deferred)
            .map(|call| call.deadline)
            .min()
    }

    pub(super) fn get(&self, index: usize) -> &Call {
        self.iter().nth(index).expect("an index found under the same borrow")
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut Call {
        match index {
            0 => self.first.as_mut().expect("an index just found"),
            _ => self.rest.get_mut(index - 1).expect("an index just found"),
        }
    }

    pub(super) fn push(&mut self, call: Call) {
        match &mut self.first {
            first @ None => *first = Some(call),
            Some(_) => self.rest.push(call),
        }
    }

    pub(super) fn remove(&mut self, index: usize) -> Call {
        let removed = match index {
            0 => {
                let second = if self.rest.is_empty() {
                    None
                } else {
                    Some(self.rest.remove(0))
                };
                std::mem::replace(&mut self.first, second).expect("an index just found")
            }
            _ => self.rest.remove(index - 1),
        };
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        removed
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

//! The CALLs of one client that have no answer yet, in the order of arrival: first those at the backend, then those
//! that wait.
//!
//! The first is kept inline, so that a client with one CALL at a time costs no allocation; the list of the others is
//! given back when it is empty.

use std::time::Instant;

use bytes::Bytes;

use crate::protocol::ids::{Action, MessageId};
use crate::protocol::json;
use crate::protocol::output::CallKey;

/// How far a CALL has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CallState {
    /// Waits for others.
    Queued,
    /// At the backend.
    Sent,
    /// The backend has said that it answers later. Still takes its place among those in flight.
    Deferred,
    /// The client has its (deferred) answer, the backend's response is still to come.
    Answered,
}

/// One CALL: the client's message, and where its parts are in it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) key: CallKey,
    pub(super) state: CallState,
    /// When a deferred one is answered with an error. While queued: when it came.
    pub(super) deadline: Instant,
    frame: Bytes,
    id_at: u32,
    action_at: u32,
    payload_at: u32,
    payload_len: u32,
    id_len: u16,
    action_len: u16,
}

impl Call {
    /// `raw_id`, `raw_action` and `payload` are slices of `frame`, which has less than 4 GiB.
    pub(super) fn new(
        key: CallKey,
        frame: &Bytes,
        raw_id: &str,
        raw_action: &str,
        payload: &str,
        now: Instant,
    ) -> Self {
        let at = |part: &str| narrow(part.as_ptr() as usize - frame.as_ptr() as usize);
        Self {
            key,
            state: CallState::Queued,
            deadline: now,
            frame: frame.clone(),
            id_at: at(raw_id),
            action_at: at(raw_action),
            payload_at: at(payload),
            payload_len: narrow(payload.len()),
            id_len: raw_id.len().try_into().expect("bounded by RAW_ID_LEN_MAX"),
            action_len: raw_action
                .len()
                .try_into()
                .expect("bounded by ACTION_LEN_MAX, each byte escaped"),
        }
    }

    /// The client's whole message.
    pub(super) fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// It will wait: keeps a copy of the message, so that no larger buffer that it was cut from is kept with it.
    pub(super) fn compact(&mut self) {
        self.frame = Bytes::copy_from_slice(&self.frame);
    }

    /// As the client wrote it, quotes included.
    pub(super) fn raw_id(&self) -> &str {
        self.text(self.id_at, self.id_len)
    }

    pub(super) fn message_id(&self) -> MessageId {
        let id = json::unescape_string(self.raw_id()).expect("checked on arrival");
        MessageId::parse(&id).expect("checked on arrival")
    }

    pub(super) fn action(&self) -> Action {
        let raw = self.text(self.action_at, self.action_len);
        let action = json::unescape_string(raw).expect("checked on arrival");
        Action::parse(&action).expect("checked on arrival")
    }

    pub(super) fn payload(&self) -> Bytes {
        let at = self.payload_at as usize;
        self.frame.slice(at..at + self.payload_len as usize)
    }

    /// Whether the client still waits for the answer to a CALL of this id.
    fn is_open_as(&self, id: &str) -> bool {
        if self.state == CallState::Answered {
            return false;
        }
        let raw = self.raw_id();
        raw[1..raw.len() - 1] == *id || json::unescape_string(raw).is_ok_and(|own| own == id)
    }

    fn text(&self, at: u32, len: u16) -> &str {
        let at = at as usize;
        std::str::from_utf8(&self.frame[at..at + usize::from(len)]).expect("sliced from a str")
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

    /// How many take a place at the backend.
    pub(super) fn in_flight(&self) -> usize {
        self.iter().take_while(|call| call.state != CallState::Queued).count()
    }

    pub(super) fn queued(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len() - self.in_flight()
    }

    /// Bytes of the messages that wait.
    pub(super) fn queued_len(&self) -> usize {
        let queued = self.iter().filter(|call| call.state == CallState::Queued);
        queued.map(|call| call.frame.len()).sum()
    }

    /// The CALL of that decoded id that the client still waits for.
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
            _ => &mut self.rest[index - 1],
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

fn narrow(len: usize) -> u32 {
    len.try_into().expect("the session refuses messages of 4 GiB")
}

const _: () = assert!(crate::protocol::frame::RAW_ID_LEN_MAX <= u16::MAX as usize);

//! A Call as the client wrote it, and where its parts are.

use std::borrow::Cow;

use super::ids;
use super::json;
use super::output::Text;

/// A client's message that is a Call; its copies share it.
#[derive(Clone, Debug)]
pub struct CallText {
    message: Text,
    id_at: u32,
    action_at: u32,
    payload_at: u32,
    payload_len: u32,
    id_len: u16,
    action_len: u16,
}

impl CallText {
    /// `raw_id`, `raw_action` and `payload` are slices of `message`, which has less than 4 GiB; the first two are names,
    /// written as JSON strings.
    pub(super) fn new(message: &Text, raw_id: &str, raw_action: &str, payload: &str) -> Self {
        let at = |part: &str| narrow(part.as_ptr() as usize - message.as_ptr() as usize);
        Self {
            id_at: at(raw_id),
            action_at: at(raw_action),
            payload_at: at(payload),
            payload_len: narrow(payload.len()),
            id_len: raw_id.len().try_into().expect("bounded by RAW_ID_LEN_MAX"),
            action_len: raw_action
                .len()
                .try_into()
                .expect("bounded by ACTION_LEN_MAX, each byte escaped"),
            message: message.clone(),
        }
    }

    /// The whole message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The MessageId as the client wrote it, quotes included.
    pub fn raw_id(&self) -> &str {
        self.part(self.id_at, self.id_len.into())
    }

    /// The MessageId.
    pub fn message_id(&self) -> Cow<'_, str> {
        json::unescape_string(self.raw_id()).expect("checked on arrival")
    }

    /// The Action.
    pub fn action(&self) -> Cow<'_, str> {
        let raw = self.part(self.action_at, self.action_len.into());
        json::unescape_string(raw).expect("checked on arrival")
    }

    /// The payload, the client's own bytes.
    pub fn payload(&self) -> &str {
        self.part(self.payload_at, self.payload_len)
    }

    /// Hands the Action and the MessageId, each percent-encoded as one segment of a path, to `write`.
    pub fn with_segments<R>(&self, write: impl FnOnce(&str, &str) -> R) -> R {
        write(&ids::encoded(&self.action()), &ids::encoded(&self.message_id()))
    }

    /// Keeps a copy of the message, so that no larger buffer that it was cut from is kept with it.
    pub(super) fn compact(&mut self) {
        self.message = self.message.as_str().to_owned().into();
    }

    fn part(&self, at: u32, len: u32) -> &str {
        let at = at as usize;
        &self.message[at..at + len as usize]
    }
}

fn narrow(len: usize) -> u32 {
    len.try_into().expect("the session refuses messages of 4 GiB")
}

const _: () = assert!(super::frame::RAW_ID_LEN_MAX <= u16::MAX as usize);

//! Keeps a Call as the client wrote it, and where its parts are.

use std::borrow::Cow;
use std::rc::Rc;

use super::frame::NO_PAYLOAD;
use super::ids;
use super::json;

/// A client's message that is a Call; its copies share it.
#[derive(Clone, Debug)]
pub struct CallText {
    message: Rc<str>,
    id_at: u32,
    action_at: u32,
    payload_at: u32,
    /// 0 for none: no JSON value is empty.
    payload_len: u32,
    id_len: u16,
    action_len: u16,
}

impl CallText {
    /// `raw_id`, `raw_action` and `payload` are slices of `message`, which has less than 4 GiB. The Action is a name
    /// written as a JSON string, the id too or a number. A payload that is no slice of it is [`NO_PAYLOAD`].
    pub(super) fn new(message: &str, raw_id: &str, raw_action: &str, payload: &str) -> Self {
        let at = |part: &str| narrow(part.as_ptr() as usize - message.as_ptr() as usize);
        let range = message.as_bytes().as_ptr_range();
        let (payload_at, payload_len) = if range.contains(&payload.as_ptr()) {
            (at(payload), narrow(payload.len()))
        } else {
            debug_assert_eq!(payload, NO_PAYLOAD);
            (0, 0)
        };
        Self {
            id_at: at(raw_id),
            action_at: at(raw_action),
            payload_at,
            payload_len,
            id_len: raw_id.len().try_into().expect("bounded by RAW_ID_LEN_MAX"),
            action_len: raw_action
                .len()
                .try_into()
                .expect("bounded by ACTION_LEN_MAX, each byte escaped"),
            message: message.into(),
        }
    }

    /// The whole message, as it came.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The MessageId as the client wrote it, a string with its quotes.
    pub fn raw_id(&self) -> &str {
        self.part(self.id_at, self.id_len.into())
    }

    /// The MessageId without its quotes, escapes resolved.
    pub fn message_id(&self) -> Cow<'_, str> {
        let raw = self.raw_id();
        if raw.starts_with('"') {
            json::unescape_string(raw).expect("checked on arrival")
        } else {
            Cow::Borrowed(raw)
        }
    }

    /// The Action without its quotes, escapes resolved.
    pub fn action(&self) -> Cow<'_, str> {
        let raw = self.part(self.action_at, self.action_len.into());
        json::unescape_string(raw).expect("checked on arrival")
    }

    /// The payload, the client's own bytes.
    pub fn payload(&self) -> &str {
        if self.payload_len == 0 {
            NO_PAYLOAD
        } else {
            self.part(self.payload_at, self.payload_len)
        }
    }

    /// Hands the Action and the MessageId, each percent-encoded as one segment of a path, to `write`.
    pub fn with_segments<R>(&self, write: impl FnOnce(&str, &str) -> R) -> R {
        write(&ids::encoded(&self.action()), &ids::encoded(&self.message_id()))
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

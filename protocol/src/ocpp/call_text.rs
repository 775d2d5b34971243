//! Keeps a Call as the client wrote it, and where its parts are.

use std::borrow::Cow;
use std::rc::Rc;

use super::frame::{self, NO_PAYLOAD};
use super::ids::{self, Action, MessageId};
use super::json;
use crate::http::PathPart;
use crate::record::{Fields, RecordError, Writer};

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
    /// Id and Action are [plain](ids::plain_name).
    has_plain_names: bool,
}

impl CallText {
    /// `raw_id`, `raw_action` and `payload` are slices of `message`, which has less than 4 GiB. The Action is a name
    /// written as a JSON string, the id too or a number; `has_plain_names`: both are [plain](ids::plain_name). A payload that is no
    /// slice of the message is [`NO_PAYLOAD`].
    pub(super) fn new(message: &str, (raw_id, raw_action, has_plain_names): (&str, &str, bool), payload: &str) -> Self {
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
            has_plain_names,
            message: message.into(),
        }
    }

    /// Writes down the message and where its parts are in it.
    pub(super) fn write_record(&self, record: &mut Writer<'_>) {
        record.bytes(1, self.message.as_bytes());
        record.number(2, self.id_at.into());
        record.number(3, self.id_len.into());
        record.number(4, self.action_at.into());
        record.number(5, self.action_len.into());
        record.number(6, self.payload_at.into());
        record.number(7, self.payload_len.into());
    }

    /// Reads what [`write_record`](Self::write_record) wrote; other fields are somebody else's. `None`: these are no parts of a
    /// Call.
    pub(super) fn from_record(mut fields: Fields<'_>) -> Result<Option<Self>, RecordError> {
        let mut text = Self {
            message: Rc::from(""),
            id_at: 0,
            action_at: 0,
            payload_at: 0,
            payload_len: 0,
            id_len: 0,
            action_len: 0,
            has_plain_names: false,
        };
        while let Some(field) = fields.next()? {
            match field.number {
                1 => text.message = field.text()?.into(),
                2 => text.id_at = field.number()?,
                3 => text.id_len = field.number()?,
                4 => text.action_at = field.number()?,
                5 => text.action_len = field.number()?,
                6 => text.payload_at = field.number()?,
                7 => text.payload_len = field.number()?,
                _ => {}
            }
        }
        if !text.has_parts() {
            return Ok(None);
        }
        text.has_plain_names = [text.raw_id(), text.raw_action()]
            .iter()
            .all(|raw| ids::plain_name(raw).is_some());
        Ok(Some(text))
    }

    /// Whether the parts are what they have to be. A name is checked as it is on arrival.
    fn has_parts(&self) -> bool {
        let part = |at: u32, len: u32| self.message.get(at as usize..)?.get(..len as usize);
        let name = |raw: &str| json::unescape_string(raw).map(Cow::into_owned);
        let id = part(self.id_at, self.id_len.into()).is_some_and(|raw| {
            let id = if frame::is_number(raw) {
                Ok(raw.to_owned())
            } else {
                name(raw)
            };
            id.is_ok_and(|id| MessageId::check(&id).is_ok())
        });
        let action = part(self.action_at, self.action_len.into())
            .is_some_and(|raw| name(raw).is_ok_and(|action| Action::check(&action).is_ok()));
        id && action && part(self.payload_at, self.payload_len).is_some()
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
        if self.has_plain_names {
            Cow::Borrowed(without_quotes(raw))
        } else if raw.starts_with('"') {
            json::unescape_string(raw).expect("checked on arrival")
        } else {
            Cow::Borrowed(raw)
        }
    }

    /// The Action without its quotes, escapes resolved.
    pub fn action(&self) -> Cow<'_, str> {
        let raw = self.raw_action();
        if self.has_plain_names {
            Cow::Borrowed(without_quotes(raw))
        } else {
            json::unescape_string(raw).expect("checked on arrival")
        }
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
    pub fn with_segments<R>(&self, write: impl FnOnce(PathPart<'_>, PathPart<'_>) -> R) -> R {
        if self.has_plain_names {
            let [action, id] = [self.raw_action(), self.raw_id()].map(without_quotes);
            return write(PathPart::known(action), PathPart::known(id));
        }
        let (action, id) = (self.action(), self.message_id());
        write(
            PathPart::known(&ids::encoded(&action)),
            PathPart::known(&ids::encoded(&id)),
        )
    }

    fn raw_action(&self) -> &str {
        self.part(self.action_at, self.action_len.into())
    }

    #[allow(clippy::string_slice, reason = "the session has found it there, between quotes")]
    fn part(&self, at: u32, len: u32) -> &str {
        let at = at as usize;
        &self.message[at..at + len as usize]
    }
}

/// A JSON string without an escape.
fn without_quotes(raw: &str) -> &str {
    raw.strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(raw)
}

fn narrow(len: usize) -> u32 {
    len.try_into().expect("the session refuses messages of 4 GiB")
}

const _: () = assert!(super::frame::RAW_ID_LEN_MAX <= u16::MAX as usize);

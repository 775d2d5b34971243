//! Splits one text message into the parts of a frame, and builds one from them (OCPP-J 1.6, 4.2; 2.0.1 part 4, 4.2; 2.1
//! part 4, 4.2 for types 5 and 6).
//!
//! Splitting hands out slices of the message: payloads, ids and error fields are never re-serialised. Building makes
//! one allocation of the exact size.

use std::borrow::Cow;

use super::ids::{self, Action, MESSAGE_ID_LEN_MAX, MessageId};
use super::json;
use super::subprotocol::Subprotocol;

/// One frame of a client. Fields named `raw_*`, payloads and details are the exact JSON of the message.
#[derive(Debug)]
pub enum Frame<'t> {
    /// `[2, id, action, payload]`
    Call {
        /// Decoded and checked: a [`MessageId`].
        message_id: Cow<'t, str>,
        /// As the client wrote it, quotes included: what its answer echoes.
        raw_id: &'t str,
        /// Decoded and checked: an [`Action`].
        action: Cow<'t, str>,
        /// As the client wrote it, quotes included.
        raw_action: &'t str,
        /// An object under an OCPP subprotocol, else any value but `null`; [`NO_PAYLOAD`] for `null` and for none.
        payload: &'t str,
        /// Both names stand for themselves in JSON and in a path.
        has_plain_names: bool,
    },
    /// `[3, id, payload]`
    CallResult {
        /// Decoded; whatever a client sends, it only gets compared.
        message_id: Cow<'t, str>,
        /// Any value but `null`; [`NO_PAYLOAD`] for `null` and for none.
        payload: &'t str,
    },
    /// `[4, id, code, description, details]`
    CallError {
        /// Decoded; whatever a client sends, it only gets compared.
        message_id: Cow<'t, str>,
        /// The code, description and details that the client sent.
        error: RawError<'t>,
    },
    /// `[5, id, code, description, details]`: the client could not use our CallResult. OCPP 2.1 only.
    CallResultError {
        /// Decoded; whatever a client sends, it only gets compared.
        message_id: Cow<'t, str>,
        /// The code, description and details that the client sent.
        error: RawError<'t>,
    },
    /// `[6, id, action, payload]`: never answered. OCPP 2.1 only.
    Send {
        /// The MessageId, decoded and checked.
        message_id: MessageId,
        /// The Action, decoded and checked.
        action: Action,
        /// An object; [`NO_PAYLOAD`] for `null` and for none.
        payload: &'t str,
    },
    /// A valid array whose first element is a number that means nothing under this subprotocol.
    Ignored,
}

/// The last three elements of a CallError, each the client's JSON: two strings and any value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RawError<'t> {
    /// A JSON string, quotes included.
    pub code: &'t str,
    /// A JSON string, quotes included; `""` when the client left it out.
    pub description: &'t str,
    /// `{}` when the client left it out.
    pub details: &'t str,
}

impl RawError<'_> {
    /// `{"code":…,"description":…,"details":…}`, the body of `POST /error/…`, with the client's own bytes.
    pub fn body(&self) -> String {
        [
            "{\"code\":",
            self.code,
            ",\"description\":",
            self.description,
            ",\"details\":",
            self.details,
            "}",
        ]
        .concat()
    }
}

/// Why a text message is not a frame. The client's fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FrameError<'t> {
    /// Not JSON, not an array, or no message type or MessageId in it: answered with the id `"-1"` where that exists.
    Unreadable,
    /// A Call with a readable MessageId and something else wrong: answered with a format violation.
    Call {
        /// As the client wrote it, quotes included; at most [`RAW_ID_LEN_MAX`] bytes.
        raw_id: &'t str,
        /// Why the Call cannot be taken.
        fault: CallFault,
    },
    /// An answer (3 or 4) that cannot be used, but shows the push that it answers.
    Answer {
        /// The MessageId, decoded and not checked.
        message_id: Cow<'t, str>,
    },
    /// A frame of a type that is never answered (3, 4, 5, 6): dropped.
    NeverAnswered,
}

/// What a payload of `null` stands for, and one that was left out (OCPP-J 1.6, 4.2.1; 2.x part 4, 4.2.1).
pub const NO_PAYLOAD: &str = "{}";

/// How a client's messages are read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The subprotocol that was negotiated.
    pub subprotocol: Subprotocol,
    /// The deepest nesting; the frame's own array is the first level.
    pub depth_max: usize,
    /// MessageIds may be numbers (`tolerate = ["number-ids"]`); they are echoed as they came.
    pub number_ids: bool,
}

/// What is wrong with a Call whose MessageId could be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallFault {
    /// The JSON breaks off or is broken behind the id, or is nested too deep.
    Json,
    /// The MessageId is empty, too long, or has characters that no path may have.
    MessageId,
    /// The Action is not a string, or one that no path may have.
    Action,
    /// The payload is not an object, under an OCPP subprotocol.
    Payload,
    /// Not three or four elements.
    Count,
}

impl CallFault {
    /// For the CallError's description.
    pub fn description(self) -> &'static str {
        match self {
            Self::Json => "the JSON is broken behind the MessageId, or nested too deep",
            Self::MessageId => "the MessageId is empty, too long or has a forbidden character",
            Self::Action => "the Action is not a string, empty, too long or has a forbidden character",
            Self::Payload => "the payload is not an object",
            Self::Count => "a Call has three or four elements",
        }
    }
}

/// The longest MessageId that is echoed, in bytes of JSON: [`MESSAGE_ID_LEN_MAX`] bytes, each written `\u00XX`, and
/// quotes.
pub const RAW_ID_LEN_MAX: usize = 6 * MESSAGE_ID_LEN_MAX + 2;

/// Splits one text message, without the byte order mark that some send in front of it (RFC 8259, 8.1).
///
/// # Errors
/// [`FrameError`]; its variants are the rows of the table of bad frames.
pub fn split<'t>(text: &'t str, reading: &Reading) -> Result<Frame<'t>, FrameError<'t>> {
    let elements = json::split_array(json::without_mark(text), reading.depth_max);
    let Some((message_type, rest)) = elements.as_slice().split_first() else {
        return Err(FrameError::Unreadable);
    };
    let whole = elements.end.is_ok();
    let has_send = reading.subprotocol.has_send();
    match *message_type {
        "2" => split_call(rest, whole, reading),
        "3" => split_result(rest, whole, reading),
        "4" => {
            let (message_id, error) = split_error(rest, whole, reading);
            match (message_id, error) {
                (Some(message_id), Some(error)) => Ok(Frame::CallError { message_id, error }),
                (Some(message_id), None) => Err(FrameError::Answer { message_id }),
                (None, _) => Err(FrameError::NeverAnswered),
            }
        }
        "5" if has_send => match split_error(rest, whole, reading) {
            (Some(message_id), Some(error)) => Ok(Frame::CallResultError { message_id, error }),
            _ => Err(FrameError::NeverAnswered),
        },
        "6" if has_send => match split_call(rest, whole, reading) {
            Ok(Frame::Call {
                message_id,
                action,
                payload,
                ..
            }) => Ok(Frame::Send {
                message_id: MessageId::parse(&message_id).map_err(|_| FrameError::NeverAnswered)?,
                action: Action::parse(&action).map_err(|_| FrameError::NeverAnswered)?,
                payload,
            }),
            _ => Err(FrameError::NeverAnswered),
        },
        number if whole && is_number(number) => Ok(Frame::Ignored),
        _ => Err(FrameError::Unreadable),
    }
}

fn split_call<'t>(rest: &[&'t str], whole: bool, reading: &Reading) -> Result<Frame<'t>, FrameError<'t>> {
    let raw_id = *rest.first().ok_or(FrameError::Unreadable)?;
    if raw_id.len() > RAW_ID_LEN_MAX {
        return Err(FrameError::Unreadable);
    }
    let plain_id = ids::plain_name(raw_id);
    let message_id = match plain_id {
        Some(id) => Cow::Borrowed(id),
        None => decode_id(raw_id, reading).ok_or(FrameError::Unreadable)?,
    };
    let wrong = |fault| FrameError::Call { raw_id, fault };
    if !whole {
        return Err(wrong(CallFault::Json));
    }
    let (raw_action, payload) = match *rest {
        [_, raw_action] => (raw_action, NO_PAYLOAD),
        [_, raw_action, payload] => (raw_action, or_none(payload)),
        _ => return Err(wrong(CallFault::Count)),
    };
    let checked = match plain_id {
        Some(id) => MessageId::check_plain(id),
        None => MessageId::check(&message_id),
    };
    if checked.is_err() || !MessageId::text_fits(&message_id, reading.subprotocol) {
        return Err(wrong(CallFault::MessageId));
    }
    let plain_action = ids::plain_name(raw_action);
    let action = match plain_action {
        Some(action) => Action::check_plain(action).map(|()| Cow::Borrowed(action)),
        None => {
            let action = json::unescape_string(raw_action).map_err(|_| wrong(CallFault::Action))?;
            Action::check(&action).map(|()| action)
        }
    };
    let action = action.map_err(|_| wrong(CallFault::Action))?;
    if reading.subprotocol.is_ocpp() && !json::is_object(payload) {
        return Err(wrong(CallFault::Payload));
    }
    Ok(Frame::Call {
        message_id,
        raw_id,
        action,
        raw_action,
        payload,
        has_plain_names: plain_id.is_some() && plain_action.is_some(),
    })
}

/// What is behind the payload is forgiven.
fn split_result<'t>(rest: &[&'t str], whole: bool, reading: &Reading) -> Result<Frame<'t>, FrameError<'t>> {
    let id = rest.first().and_then(|id| decode_id(id, reading));
    let message_id = id.ok_or(FrameError::NeverAnswered)?;
    if !whole {
        return Err(FrameError::Answer { message_id });
    }
    let payload = rest.get(1).map_or(NO_PAYLOAD, |payload| or_none(payload));
    Ok(Frame::CallResult { message_id, payload })
}

/// What is behind the details is forgiven, and so is a description that is no string.
fn split_error<'t>(rest: &[&'t str], whole: bool, reading: &Reading) -> (Option<Cow<'t, str>>, Option<RawError<'t>>) {
    let message_id = rest.first().and_then(|id| decode_id(id, reading));
    let code = rest.get(1).filter(|code| whole && json::is_string(code));
    let error = code.map(|code| RawError {
        code,
        description: rest
            .get(2)
            .filter(|description| json::is_string(description))
            .unwrap_or(&"\"\""),
        details: rest.get(3).unwrap_or(&"{}"),
    });
    (message_id, error)
}

fn decode_id<'t>(raw: &'t str, reading: &Reading) -> Option<Cow<'t, str>> {
    if reading.number_ids && is_number(raw) {
        return Some(Cow::Borrowed(raw));
    }
    json::unescape_string(raw).ok()
}

/// Whether a JSON value is a number.
pub(super) fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

fn or_none(payload: &str) -> &str {
    if payload == "null" { NO_PAYLOAD } else { payload }
}

/// Appends `[2,"<id>","<action>",<payload>]`. The payload is one JSON value, put in as it is.
pub fn write_call(frame: &mut String, message_id: &MessageId, action: &Action, payload: &str) {
    let (id, action) = (message_id.as_str(), action.as_str());
    let len = "[2,,,]".len() + json::string_len(id) + json::string_len(action) + payload.len();
    frame.reserve_exact(len);
    frame.push_str("[2,");
    json::write_string(frame, id);
    frame.push(',');
    json::write_string(frame, action);
    frame.push(',');
    frame.push_str(payload);
    frame.push(']');
}

/// Appends `[3,<id>,<payload>]`. `raw_id` is a JSON string, the payload one JSON value, both put in as they are.
pub fn write_call_result(frame: &mut String, raw_id: &str, payload: &str) {
    write_parts(frame, &["[3,", raw_id, ",", payload, "]"]);
}

/// Appends `[4,<id>,<code>,<description>,<details>]`. All are JSON (three strings and an object), put in as they are.
pub fn write_call_error(frame: &mut String, raw_id: &str, raw_code: &str, raw_description: &str, details: &str) {
    let parts = ["[4,", raw_id, ",", raw_code, ",", raw_description, ",", details, "]"];
    write_parts(frame, &parts);
}

fn write_parts(frame: &mut String, parts: &[&str]) {
    frame.reserve_exact(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        frame.push_str(part);
    }
}

#[cfg(test)]
mod tests;

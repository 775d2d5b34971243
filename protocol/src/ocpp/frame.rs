//! One text message ↔ one frame (OCPP-J 1.6, 4.2; 2.0.1 part 4, 4.2; 2.1 part 4, 4.2 for types 5 and 6).
//!
//! Splitting hands out slices of the message: payloads, ids and error fields are never re-serialised. Building makes
//! one allocation of the exact size.

use std::borrow::Cow;

use super::ids::{Action, MESSAGE_ID_LEN_MAX, MessageId};
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
        /// An object under an OCPP subprotocol, else any value.
        payload: &'t str,
    },
    /// `[3, id, payload]`
    CallResult {
        /// Decoded; whatever a client sends, it only gets compared.
        message_id: Cow<'t, str>,
        /// Any value.
        payload: &'t str,
    },
    /// `[4, id, code, description, details]`
    CallError {
        /// Decoded; whatever a client sends, it only gets compared.
        message_id: Cow<'t, str>,
        /// What is wrong.
        error: RawError<'t>,
    },
    /// `[5, id, code, description, details]`: the client could not use our CallResult. OCPP 2.1 only.
    CallResultError {
        /// Decoded; whatever a client sends, it only gets compared.
        message_id: Cow<'t, str>,
        /// What is wrong.
        error: RawError<'t>,
    },
    /// `[6, id, action, payload]`: never answered. OCPP 2.1 only.
    Send {
        /// Decoded and checked.
        message_id: MessageId,
        /// Decoded and checked.
        action: Action,
        /// An object.
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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameError<'t> {
    /// Not JSON, not an array, or no message type or MessageId in it: answered with the id `"-1"` where that exists.
    Unreadable,
    /// A Call with a readable MessageId and something else wrong: answered with a format violation.
    Call {
        /// As the client wrote it, quotes included; at most [`RAW_ID_LEN_MAX`] bytes.
        raw_id: &'t str,
        /// What is wrong.
        fault: CallFault,
    },
    /// A frame of a type that is never answered (3, 4, 5, 6): dropped.
    NeverAnswered,
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
    /// Not four elements.
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
            Self::Count => "a Call has four elements",
        }
    }
}

/// The longest MessageId that is echoed, in bytes of JSON: [`MESSAGE_ID_LEN_MAX`] bytes, each written `\u00XX`, and quotes.
pub const RAW_ID_LEN_MAX: usize = 6 * MESSAGE_ID_LEN_MAX + 2;

/// Splits one text message. `depth_max` counts the frame's own array as the first level.
///
/// # Errors
/// [`FrameError`]; its variants are the rows of the table of bad frames.
pub fn split(text: &str, subprotocol: Subprotocol, depth_max: usize) -> Result<Frame<'_>, FrameError<'_>> {
    let elements = json::split_array(text, depth_max);
    let Some((message_type, rest)) = elements.as_slice().split_first() else {
        return Err(FrameError::Unreadable);
    };
    let whole = elements.end.is_ok();
    match *message_type {
        "2" => split_call(rest, whole, subprotocol),
        "3" | "4" if !whole => Err(FrameError::NeverAnswered),
        "5" | "6" if !whole && subprotocol.has_send() => Err(FrameError::NeverAnswered),
        "3" => split_result(rest),
        "4" => split_error(rest).map(|(message_id, error)| Frame::CallError { message_id, error }),
        "5" if subprotocol.has_send() => {
            split_error(rest).map(|(message_id, error)| Frame::CallResultError { message_id, error })
        }
        "6" if subprotocol.has_send() => match split_call(rest, whole, subprotocol) {
            Ok(Frame::Call {
                message_id,
                action,
                payload,
                ..
            }) => Ok(Frame::Send {
                message_id: MessageId::parse(&message_id).expect("checked with the Call"),
                action: Action::parse(&action).expect("checked with the Call"),
                payload,
            }),
            _ => Err(FrameError::NeverAnswered),
        },
        number if whole && number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => Ok(Frame::Ignored),
        _ => Err(FrameError::Unreadable),
    }
}

fn split_call<'t>(rest: &[&'t str], whole: bool, subprotocol: Subprotocol) -> Result<Frame<'t>, FrameError<'t>> {
    let raw_id = *rest.first().ok_or(FrameError::Unreadable)?;
    if raw_id.len() > RAW_ID_LEN_MAX {
        return Err(FrameError::Unreadable);
    }
    let message_id = json::unescape_string(raw_id).map_err(|_| FrameError::Unreadable)?;
    let wrong = |fault| FrameError::Call { raw_id, fault };
    if !whole {
        return Err(wrong(CallFault::Json));
    }
    let [_, raw_action, payload] = *rest else {
        return Err(wrong(CallFault::Count));
    };
    if MessageId::check(&message_id).is_err() || !MessageId::text_fits(&message_id, subprotocol) {
        return Err(wrong(CallFault::MessageId));
    }
    let action = json::unescape_string(raw_action).map_err(|_| wrong(CallFault::Action))?;
    Action::check(&action).map_err(|_| wrong(CallFault::Action))?;
    if subprotocol.is_ocpp() && !json::is_object(payload) {
        return Err(wrong(CallFault::Payload));
    }
    Ok(Frame::Call {
        message_id,
        raw_id,
        action,
        raw_action,
        payload,
    })
}

fn split_result<'t>(rest: &[&'t str]) -> Result<Frame<'t>, FrameError<'t>> {
    let [id, payload] = *rest else {
        return Err(FrameError::NeverAnswered);
    };
    let message_id = json::unescape_string(id).map_err(|_| FrameError::NeverAnswered)?;
    Ok(Frame::CallResult { message_id, payload })
}

fn split_error<'t>(rest: &[&'t str]) -> Result<(Cow<'t, str>, RawError<'t>), FrameError<'t>> {
    let (id, error) = match *rest {
        [id, code] => (
            id,
            RawError {
                code,
                description: "\"\"",
                details: "{}",
            },
        ),
        [id, code, description] => (
            id,
            RawError {
                code,
                description,
                details: "{}",
            },
        ),
        [id, code, description, details] => (
            id,
            RawError {
                code,
                description,
                details,
            },
        ),
        _ => return Err(FrameError::NeverAnswered),
    };
    if !json::is_string(error.code) || !json::is_string(error.description) {
        return Err(FrameError::NeverAnswered);
    }
    let message_id = json::unescape_string(id).map_err(|_| FrameError::NeverAnswered)?;
    Ok((message_id, error))
}

/// `[2,"<id>","<action>",<payload>]`. The payload is one JSON value, put in as it is.
pub fn build_call(message_id: &MessageId, action: &Action, payload: &str) -> String {
    let (id, action) = (message_id.as_str(), action.as_str());
    let len = "[2,,,]".len() + json::string_len(id) + json::string_len(action) + payload.len();
    let mut frame = String::with_capacity(len);
    frame.push_str("[2,");
    json::write_string(&mut frame, id);
    frame.push(',');
    json::write_string(&mut frame, action);
    frame.push(',');
    frame.push_str(payload);
    frame.push(']');
    debug_assert_eq!(frame.len(), len);
    frame
}

/// `[3,<id>,<payload>]`. `raw_id` is a JSON string, the payload one JSON value, both put in as they are.
pub fn build_call_result(raw_id: &str, payload: &str) -> String {
    ["[3,", raw_id, ",", payload, "]"].concat()
}

/// `[4,<id>,<code>,<description>,<details>]`. All are JSON (three strings and an object), put in as they are.
pub fn build_call_error(raw_id: &str, raw_code: &str, raw_description: &str, details: &str) -> String {
    ["[4,", raw_id, ",", raw_code, ",", raw_description, ",", details, "]"].concat()
}

#[cfg(test)]
mod tests;

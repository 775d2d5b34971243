//! The backend's answer to a CALL → what the client gets. The table is in the contract, section 4.

use std::borrow::Cow;

use super::json::{self, JsonError};
use super::subprotocol::Subprotocol;

/// The longest errorDescription, in characters (OCPP-J, 4.2.3).
pub const DESCRIPTION_CHARACTERS_MAX: usize = 255;
/// The longest errorCode, in characters (OCPP-J, 4.2.3). A backend's longer one is no code.
pub const CODE_CHARACTERS_MAX: usize = 50;

/// What became of one `POST /call/…`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer<'a> {
    /// The backend answered.
    Response {
        /// The status code.
        status: u16,
        /// Whether it said `X-Deferred: 1`.
        deferred: bool,
        /// The whole content, decoded from any transfer coding.
        content: &'a [u8],
    },
    /// It did not.
    Failed(Failure),
}

/// Why the backend did not answer. The world's fault, never the client's.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Failure {
    /// No connection could be made.
    Refused,
    /// The connection ended before the answer was whole.
    CutOff,
    /// The answer is not HTTP that we accept.
    Malformed,
    /// The answer exceeds `message_max`.
    TooLarge,
    /// No answer within `call_timeout`.
    Deadline,
    /// Too many requests wait for a connection.
    Overloaded,
    /// This process is ending.
    Shutdown,
}

impl Failure {
    /// For the CALLERROR's description.
    pub fn description(self) -> &'static str {
        match self {
            Self::Refused => "the backend refused the connection",
            Self::CutOff => "the backend's answer was cut off",
            Self::Malformed => "the backend's answer is not valid HTTP",
            Self::TooLarge => "the backend's answer is too large",
            Self::Deadline => "the backend did not answer in time",
            Self::Overloaded => "too many requests wait for the backend",
            Self::Shutdown => "the proxy is shutting down",
        }
    }
}

/// What the client gets. All fields are JSON text, ready to be put into a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    /// A CALLRESULT with this payload: one JSON value.
    Result(&'a [u8]),
    /// A CALLERROR.
    Error {
        /// A JSON string, quotes included.
        code: Cow<'a, str>,
        /// A JSON string, quotes included; at most [`DESCRIPTION_CHARACTERS_MAX`] characters.
        description: Cow<'a, str>,
        /// A JSON object.
        details: &'a str,
    },
    /// Nothing yet: the backend answers later at the ingress.
    Deferred,
}

/// Maps the backend's answer. `depth_max` bounds the content's nesting.
pub fn map<'a>(answer: Answer<'a>, subprotocol: Subprotocol, depth_max: usize) -> Reply<'a> {
    match answer {
        Answer::Failed(failure) => Reply::error("InternalError", failure.description()),
        Answer::Response {
            status: 202,
            deferred: true,
            ..
        } => Reply::Deferred,
        Answer::Response { status: 204, .. } => Reply::Result(b"{}"),
        Answer::Response {
            status: 200..300,
            content,
            ..
        } => Reply::from_result(content, depth_max)
            .unwrap_or_else(|_| Reply::error("InternalError", "the backend's answer is not JSON")),
        Answer::Response { status, content, .. } => {
            if status >= 400
                && let Ok(reply) = Reply::from_error(content, depth_max)
            {
                return reply;
            }
            let code = match status {
                400 => subprotocol.format_violation(),
                422 => "PropertyConstraintViolation",
                401 | 403 => "SecurityError",
                404 | 501 => "NotImplemented",
                405 => "NotSupported",
                _ => "InternalError",
            };
            Reply::error(code, &format!("the backend answered {status}"))
        }
    }
}

/// Why a body is not `{"code":…}`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ErrorBodyError {
    /// Not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Not an object that has a `code` of 1 to [`CODE_CHARACTERS_MAX`] characters.
    #[error("no object with a code of 1 to 50 characters")]
    Code,
}

impl<'a> Reply<'a> {
    /// A CALLRESULT with the JSON value in `content`; white space around it is left off. Nothing, `null` and `[]`
    /// (PHP's empty array) become `{}`.
    ///
    /// # Errors
    /// [`JsonError`] when it is not one JSON value.
    pub fn from_result(content: &'a [u8], depth_max: usize) -> Result<Self, JsonError> {
        let value = json::trim(content);
        if matches!(value, b"" | b"null" | b"[]") {
            return Ok(Self::Result(b"{}"));
        }
        json::check_value(value, depth_max)?;
        match value {
            [b'[', inner @ .., b']'] if json::trim(inner).is_empty() => Ok(Self::Result(b"{}")),
            _ => Ok(Self::Result(value)),
        }
    }

    /// A CALLERROR from `{"code":…,"description":…,"details":{…}}`. The code must be there; a description that is no
    /// string counts as empty, a long one is cut; details that are no object count as `{}`. A repeated member: the
    /// last wins.
    ///
    /// # Errors
    /// [`ErrorBodyError`] when it is not JSON, not an object, or has no usable code.
    pub fn from_error(content: &'a [u8], depth_max: usize) -> Result<Self, ErrorBodyError> {
        json::check_value(content, depth_max)?;
        let text = std::str::from_utf8(content).expect("checked with the value");
        let [code, description, details] =
            json::members(text, ["code", "description", "details"]).ok_or(ErrorBodyError::Code)?;
        let code = code.ok_or(ErrorBodyError::Code)?;
        let decoded = json::unescape_string(code).map_err(|_| ErrorBodyError::Code)?;
        if decoded.is_empty() || decoded.chars().nth(CODE_CHARACTERS_MAX).is_some() {
            return Err(ErrorBodyError::Code);
        }
        Ok(Self::Error {
            code: Cow::Borrowed(code),
            description: description.map_or(Cow::Borrowed("\"\""), cut),
            details: details.filter(|details| json::is_object(details)).unwrap_or("{}"),
        })
    }

    /// A CALLERROR of our own, with empty details.
    pub fn error(code: &str, description: &str) -> Self {
        let description = Cow::Owned(json::string(description));
        Self::Error {
            code: Cow::Owned(json::string(code)),
            description,
            details: "{}",
        }
    }
}

/// The description as it is, or cut at a character's boundary; `""` if it is no string.
fn cut(raw: &str) -> Cow<'_, str> {
    if !json::is_string(raw) {
        return Cow::Borrowed("\"\"");
    }
    if raw.len() <= DESCRIPTION_CHARACTERS_MAX + 2 {
        return Cow::Borrowed(raw);
    }
    let text = json::unescape_string_lossy(raw).unwrap_or_default();
    match text.char_indices().nth(DESCRIPTION_CHARACTERS_MAX) {
        None => Cow::Borrowed(raw),
        Some((end, _)) => Cow::Owned(json::string(&text[..end])),
    }
}

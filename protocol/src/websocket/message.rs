//! Defines what a client can say: messages and control frames, each whole (RFC 6455, 5.4 to 5.6).

use std::borrow::Cow;

use tungstenite::protocol::frame::coding::CloseCode;

use super::error::WebSocketError;

/// One message, or one control frame. What is borrowed lies in the bytes that were received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Incoming<'b> {
    /// A text message.
    Text(Cow<'b, str>),
    /// A binary message.
    Binary(Cow<'b, [u8]>),
    /// A message that permessage-deflate has compressed; inflating it makes it one of the two above.
    Deflated {
        /// It will be text.
        is_text: bool,
        /// All of its frames' payloads.
        bytes: Cow<'b, [u8]>,
    },
    /// To be answered with a pong of the same payload, at most 125 bytes.
    Ping(Cow<'b, [u8]>),
    /// An answer to a ping, or a sign of life.
    Pong(Cow<'b, [u8]>),
    /// The peer's close frame. Nothing follows it.
    Close(Option<CloseFrame<'b>>),
}

/// The payload of a close frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CloseFrame<'b> {
    /// One that an endpoint may send (7.4).
    pub code: u16,
    /// At most 123 bytes.
    pub reason: Cow<'b, str>,
}

impl<'b> CloseFrame<'b> {
    /// Reads the payload of a close frame; an empty one says nothing.
    ///
    /// # Errors
    /// [`WebSocketError::Close`], [`WebSocketError::Utf8`].
    pub(super) fn parse(payload: Cow<'b, [u8]>) -> Result<Option<Self>, WebSocketError> {
        let Some((code, _)) = payload.split_first_chunk() else {
            return if payload.is_empty() {
                Ok(None)
            } else {
                Err(WebSocketError::Close)
            };
        };
        let code = u16::from_be_bytes(*code);
        if !is_close_code_allowed(code) {
            return Err(WebSocketError::Close);
        }
        let reason = match payload {
            Cow::Borrowed(payload) => str::from_utf8(payload.get(2..).unwrap_or_default())
                .map(Cow::Borrowed)
                .map_err(|_| WebSocketError::Utf8)?,
            Cow::Owned(payload) => {
                let reason = str::from_utf8(payload.get(2..).unwrap_or_default()).map_err(|_| WebSocketError::Utf8)?;
                Cow::Owned(reason.to_owned())
            }
        };
        Ok(Some(Self { code, reason }))
    }
}

/// Whether an endpoint may send this code in a close frame (RFC 6455, 7.4, and IANA's registry).
#[must_use]
pub fn is_close_code_allowed(code: u16) -> bool {
    CloseCode::from(code).is_allowed()
}

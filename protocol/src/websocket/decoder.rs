//! Reads a client's frames: bytes in, messages and control frames out (RFC 6455, 5).
//!
//! The caller owns the buffer that bytes are received into and calls [`Decoder::decode`] until it is empty. Each call
//! looks at one frame at most, so that the caller can stop whenever it likes.
//!
//! Invariants:
//! - Between two messages a decoder is one empty pointer. What is kept of a frame, a header or a message in part goes into one
//!   allocation, which ends with it.
//! - Every limit is checked on the declared length, before memory is taken, and never more is reserved than was declared.
//! - How the stream is cut into reads never changes what comes out.
//! - After an error nothing more may be decoded.

mod record;

use std::borrow::Cow;
use std::io::Cursor;

use arrayvec::ArrayVec;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::encode::CONTROL_LEN_MAX;
use super::error::WebSocketError;
use super::mask;
use super::message::{CloseFrame, Incoming};

/// What a connection allows its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DecoderLimits {
    /// The longest message in bytes, the sum of its fragments; compressed or not.
    pub message_max: usize,
    /// permessage-deflate was agreed on: RSV1 marks a compressed message.
    pub is_deflate_agreed: bool,
}

/// The state of one client's incoming stream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

/// What has come in part.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Partial {
    /// The beginning of a header, while no frame is open.
    header: ArrayVec<u8, HEADER_LEN_MAX>,
    frame: Option<Frame>,
    /// The payload of an open control frame.
    control: ArrayVec<u8, CONTROL_LEN_MAX>,
    message: Option<Message>,
}

/// A frame whose payload is still to come, wholly or in part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Frame {
    kind: FrameKind,
    mask: [u8; 4],
    /// Payload bytes that were taken, modulo 4.
    phase: u8,
    left: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FrameKind {
    Control(ControlKind),
    /// A message's first frame.
    First {
        is_final: bool,
        is_text: bool,
        is_deflated: bool,
    },
    Continuation {
        is_final: bool,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ControlKind {
    Close,
    Ping,
    Pong,
}

/// A message of which something has come.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Message {
    is_text: bool,
    is_deflated: bool,
    bytes: Vec<u8>,
    /// So many of them are known to be UTF-8.
    valid_len: usize,
}

impl Decoder {
    /// Takes one frame, or what there is of it, from the front of `input`; what is taken is unmasked in place. `None`:
    /// no message ends there.
    ///
    /// # Errors
    /// [`WebSocketError`]; the connection has failed.
    pub fn decode<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        limits: DecoderLimits,
    ) -> Result<Option<Incoming<'b>>, WebSocketError> {
        let open = self.partial.as_mut().and_then(|partial| partial.frame.take());
        let frame = match open {
            Some(frame) => frame,
            None => match self.read_header(input)? {
                Some((header, len)) => self.check(&header, len, limits)?,
                None => return Ok(None),
            },
        };
        self.read_payload(frame, input)
    }

    /// True between two messages: nothing is kept.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Bytes that are kept of a message in part.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            size_of::<Partial>() + partial.message.as_ref().map_or(0, |message| message.bytes.capacity())
        })
    }

    fn read_header(&mut self, input: &mut &mut [u8]) -> Result<Option<(FrameHeader, u64)>, WebSocketError> {
        let begun = self.partial.as_ref().is_some_and(|partial| !partial.header.is_empty());
        if !begun {
            let mut cursor = Cursor::new(&input[..]);
            let parsed = parse_header(&mut cursor)?;
            if parsed.is_some() {
                let len = cursor.position() as usize;
                take_front(input, len);
            } else if !input.is_empty() {
                let header = &mut self.partial.get_or_insert_default().header;
                let rest = take_front(input, input.len());
                header.extend(rest.iter().copied());
            }
            return Ok(parsed);
        }
        let partial = self.partial.get_or_insert_default();
        while !input.is_empty() {
            partial.header.extend(take_front(input, 1).iter().copied());
            let parsed = parse_header(&mut Cursor::new(&partial.header[..]))?;
            if parsed.is_some() {
                partial.header.clear();
                return Ok(parsed);
            }
        }
        Ok(None)
    }

    fn check(&self, header: &FrameHeader, len: u64, limits: DecoderLimits) -> Result<Frame, WebSocketError> {
        let message = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        if header.rsv2 || header.rsv3 {
            return Err(WebSocketError::ReservedBit);
        }
        let kind = match header.opcode {
            OpCode::Control(control) => {
                if header.rsv1 {
                    return Err(WebSocketError::ReservedBit);
                }
                if !header.is_final {
                    return Err(WebSocketError::ControlFragmented);
                }
                if len > CONTROL_LEN_MAX as u64 {
                    return Err(WebSocketError::ControlTooLong { len });
                }
                FrameKind::Control(match control {
                    Control::Close => ControlKind::Close,
                    Control::Ping => ControlKind::Ping,
                    Control::Pong => ControlKind::Pong,
                    Control::Reserved(opcode) => return Err(WebSocketError::Opcode(opcode)),
                })
            }
            OpCode::Data(Data::Continue) => {
                if header.rsv1 {
                    return Err(WebSocketError::ReservedBit);
                }
                if message.is_none() {
                    return Err(WebSocketError::ContinuationUnexpected);
                }
                FrameKind::Continuation {
                    is_final: header.is_final,
                }
            }
            OpCode::Data(data @ (Data::Text | Data::Binary)) => {
                if header.rsv1 && !limits.is_deflate_agreed {
                    return Err(WebSocketError::ReservedBit);
                }
                if message.is_some() {
                    return Err(WebSocketError::ContinuationExpected);
                }
                FrameKind::First {
                    is_final: header.is_final,
                    is_text: data == Data::Text,
                    is_deflated: header.rsv1,
                }
            }
            OpCode::Data(Data::Reserved(opcode)) => return Err(WebSocketError::Opcode(opcode)),
        };
        let mask = header.mask.ok_or(WebSocketError::Unmasked)?;
        if !matches!(kind, FrameKind::Control(_)) {
            let before = message.map_or(0, |message| message.bytes.len() as u64);
            if before.saturating_add(len) > limits.message_max as u64 {
                return Err(WebSocketError::TooLong {
                    limit: limits.message_max,
                });
            }
        }
        Ok(Frame {
            kind,
            mask,
            phase: 0,
            left: len,
        })
    }

    fn read_payload<'b>(
        &mut self,
        mut frame: Frame,
        input: &mut &'b mut [u8],
    ) -> Result<Option<Incoming<'b>>, WebSocketError> {
        let len = usize::try_from(frame.left).map_or(input.len(), |left| left.min(input.len()));
        let payload = take_front(input, len);
        mask::apply(frame.mask, frame.phase.into(), payload);
        frame.left -= len as u64;
        frame.phase = ((usize::from(frame.phase) + len) % 4) as u8;
        let is_whole = frame.left == 0;
        match frame.kind {
            FrameKind::Control(kind) => self.take_control(frame, kind, is_whole, payload),
            FrameKind::First {
                is_final: true,
                is_text,
                is_deflated,
            } if is_whole => {
                // The common case: nothing is kept, and nothing was.
                self.release();
                complete(is_text, is_deflated, Cow::Borrowed(payload)).map(Some)
            }
            FrameKind::First {
                is_final,
                is_text,
                is_deflated,
            } => {
                let message = Message {
                    is_text,
                    is_deflated,
                    bytes: Vec::new(),
                    valid_len: 0,
                };
                let partial = self.partial.get_or_insert_default();
                partial.message = Some(message);
                frame.kind = FrameKind::Continuation { is_final };
                self.take_data(frame, is_final, is_whole, payload)
            }
            FrameKind::Continuation { is_final } => self.take_data(frame, is_final, is_whole, payload),
        }
    }

    fn take_control<'b>(
        &mut self,
        frame: Frame,
        kind: ControlKind,
        is_whole: bool,
        payload: &'b mut [u8],
    ) -> Result<Option<Incoming<'b>>, WebSocketError> {
        let has_begun = self.partial.as_ref().is_some_and(|partial| !partial.control.is_empty());
        if is_whole && !has_begun {
            self.release();
            return complete_control(kind, Cow::Borrowed(payload)).map(Some);
        }
        let partial = self.partial.get_or_insert_default();
        // A control frame's declared length was checked: it has room.
        partial.control.extend(payload.iter().copied());
        if !is_whole {
            partial.frame = Some(frame);
            return Ok(None);
        }
        let payload = partial.control.to_vec();
        partial.control.clear();
        self.release();
        complete_control(kind, Cow::Owned(payload)).map(Some)
    }

    fn take_data<'b>(
        &mut self,
        frame: Frame,
        is_final: bool,
        is_whole: bool,
        payload: &[u8],
    ) -> Result<Option<Incoming<'b>>, WebSocketError> {
        let partial = self.partial.get_or_insert_default();
        let Some(message) = &mut partial.message else {
            return Err(WebSocketError::ContinuationUnexpected);
        };
        message.push(payload, frame.left);
        let is_over = is_final && is_whole;
        message.check_utf8(is_over)?;
        if !is_whole {
            partial.frame = Some(frame);
        }
        if !is_over {
            return Ok(None);
        }
        let message = partial.message.take();
        self.release();
        message
            .map(|message| complete(message.is_text, message.is_deflated, Cow::Owned(message.bytes)))
            .transpose()
    }

    /// Gives the memory back when nothing is kept in it.
    fn release(&mut self) {
        let is_empty = |partial: &Partial| {
            partial.header.is_empty()
                && partial.frame.is_none()
                && partial.control.is_empty()
                && partial.message.is_none()
        };
        if self.partial.as_deref().is_some_and(is_empty) {
            self.partial = None;
        }
    }
}

impl Message {
    /// Appends `payload`; `left` bytes of its frame are still to come.
    fn push(&mut self, payload: &[u8], left: u64) {
        let room = self.bytes.capacity() - self.bytes.len();
        if room < payload.len() {
            // Doubled, as a Vec does it, but never beyond what was declared.
            let declared = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .saturating_add(payload.len());
            self.bytes
                .reserve_exact(declared.min(payload.len().max(self.bytes.len())));
        }
        self.bytes.extend_from_slice(payload);
    }

    /// Fails as soon as it is certain (RFC 6455, 8.1).
    fn check_utf8(&mut self, is_over: bool) -> Result<(), WebSocketError> {
        if !self.is_text || self.is_deflated {
            return Ok(());
        }
        match str::from_utf8(self.bytes.get(self.valid_len..).unwrap_or_default()) {
            Ok(_) => {
                self.valid_len = self.bytes.len();
                Ok(())
            }
            Err(error) if error.error_len().is_none() && !is_over => {
                self.valid_len += error.valid_up_to();
                Ok(())
            }
            Err(_) => Err(WebSocketError::Utf8),
        }
    }
}

fn parse_header(cursor: &mut Cursor<&[u8]>) -> Result<Option<(FrameHeader, u64)>, WebSocketError> {
    let first = cursor.get_ref().first().copied().unwrap_or_default();
    // The library says no to reserved opcodes and to nothing else.
    FrameHeader::parse(cursor).map_err(|_| WebSocketError::Opcode(first & 0x0f))
}

fn take_front<'b>(input: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    let (front, rest) = std::mem::take(input).split_at_mut(len);
    *input = rest;
    front
}

fn complete(is_text: bool, is_deflated: bool, bytes: Cow<'_, [u8]>) -> Result<Incoming<'_>, WebSocketError> {
    Ok(if is_deflated {
        Incoming::Deflated { is_text, bytes }
    } else if is_text {
        Incoming::Text(text(bytes)?)
    } else {
        Incoming::Binary(bytes)
    })
}

/// The text of a message, where its bytes are.
///
/// # Errors
/// [`WebSocketError::Utf8`]
pub fn text(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, WebSocketError> {
    match bytes {
        Cow::Borrowed(bytes) => str::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|_| WebSocketError::Utf8),
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|_| WebSocketError::Utf8),
    }
}

fn complete_control(kind: ControlKind, payload: Cow<'_, [u8]>) -> Result<Incoming<'_>, WebSocketError> {
    Ok(match kind {
        ControlKind::Close => Incoming::Close(CloseFrame::parse(payload)?),
        ControlKind::Ping => Incoming::Ping(payload),
        ControlKind::Pong => Incoming::Pong(payload),
    })
}

/// The longest header of a client's frame, in bytes (RFC 6455, 5.2).
const HEADER_LEN_MAX: usize = 14;

#[cfg(test)]
mod tests;

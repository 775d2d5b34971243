//! Writes a server's frames: whole messages in one frame each, never masked (RFC 6455, 5.1).
//!
//! A message's header comes by itself, so that its payload stays where it is. Control frames are short and come whole.

use std::ops::Deref;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// A frame's header: what is to be written before its payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    bytes: [u8; HEADER_LEN_MAX],
    len: u8,
}

impl Header {
    /// The header of a text message of `len` bytes; `is_deflated` sets RSV1 (RFC 7692, 6).
    #[must_use]
    pub fn text(len: usize, is_deflated: bool) -> Self {
        Self::new(OpCode::Data(Data::Text), len, is_deflated)
    }

    /// The header of a binary message of `len` bytes.
    #[must_use]
    pub fn binary(len: usize, is_deflated: bool) -> Self {
        Self::new(OpCode::Data(Data::Binary), len, is_deflated)
    }

    fn new(opcode: OpCode, len: usize, rsv1: bool) -> Self {
        debug_assert!(
            len <= CONTROL_LEN_MAX || !matches!(opcode, OpCode::Control(_)),
            "control frames are short"
        );
        let header = FrameHeader {
            is_final: true,
            rsv1,
            opcode,
            ..FrameHeader::default()
        };
        let mut bytes = [0; HEADER_LEN_MAX];
        let mut rest = &mut bytes[..];
        header
            .format(len as u64, &mut rest)
            .expect("there is room for the longest header");
        let len = HEADER_LEN_MAX - rest.len();
        Self { bytes, len: len as u8 }
    }
}

impl Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or(&self.bytes)
    }
}

/// A ping without payload.
#[must_use]
pub fn ping() -> Vec<u8> {
    control(Control::Ping, &[&[]])
}

/// The answer to a ping: its `payload`, at most 125 bytes.
#[must_use]
pub fn pong(payload: &[u8]) -> Vec<u8> {
    control(Control::Pong, &[payload])
}

/// A close frame; `reason` has at most 123 bytes. `None`: one without a code.
#[must_use]
pub fn close(close: Option<(u16, &str)>) -> Vec<u8> {
    match close {
        Some((code, reason)) => control(Control::Close, &[&code.to_be_bytes(), reason.as_bytes()]),
        None => control(Control::Close, &[&[]]),
    }
}

fn control(control: Control, payload: &[&[u8]]) -> Vec<u8> {
    let len = payload.iter().map(|part| part.len()).sum();
    let header = Header::new(OpCode::Control(control), len, false);
    let mut frame = Vec::with_capacity(header.len() + len);
    frame.extend_from_slice(&header);
    for part in payload {
        frame.extend_from_slice(part);
    }
    frame
}

/// The longest header of a server's frame, in bytes (RFC 6455, 5.2).
pub const HEADER_LEN_MAX: usize = 10;
/// The longest payload of a control frame, in bytes (RFC 6455, 5.5).
pub const CONTROL_LEN_MAX: usize = 125;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_one_two_or_eight_bytes() {
        for (len, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xff, 0xff]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(*Header::text(len, false), header, "{len}");
        }
    }

    #[test]
    fn control_frames_and_compressed_messages_are_marked() {
        assert_eq!(ping(), [0x89, 0]);
        assert_eq!(pong(b"ab"), [0x8a, 2, b'a', b'b']);
        assert_eq!(close(None), [0x88, 0]);
        assert_eq!(close(Some((1001, "go"))), [0x88, 4, 3, 0xe9, b'g', b'o']);
        assert_eq!(*Header::text(5, true), [0xc1, 5]);
        assert_eq!(*Header::binary(1, false), [0x82, 1]);
    }
}

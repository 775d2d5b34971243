//! Writes a server's frames: whole messages in one frame each, never masked (RFC 6455, 5.1).

use async_tungstenite::tungstenite::protocol::frame::FrameHeader;
use async_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Appends the header of a text message of `len` bytes; `is_deflated` sets RSV1 (RFC 7692, 6).
pub fn write_text_header(out: &mut Vec<u8>, len: usize, is_deflated: bool) {
    write_header(out, OpCode::Data(Data::Text), len, is_deflated);
}

/// Appends a text message.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + HEADER_LEN_MAX);
    write_text_header(out, text.len(), false);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a binary message.
pub fn write_binary(out: &mut Vec<u8>, bytes: &[u8], is_deflated: bool) {
    write_header(out, OpCode::Data(Data::Binary), bytes.len(), is_deflated);
    out.extend_from_slice(bytes);
}

/// Appends a ping without payload.
pub fn write_ping(out: &mut Vec<u8>) {
    write_control(out, Control::Ping, &[]);
}

/// Appends the answer to a ping: its `payload`, at most 125 bytes.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_control(out, Control::Pong, payload);
}

/// Appends a close frame; `reason` has at most 123 bytes. `None`: one without a code.
pub fn write_close(out: &mut Vec<u8>, close: Option<(u16, &str)>) {
    let Some((code, reason)) = close else {
        return write_control(out, Control::Close, &[]);
    };
    write_header(out, OpCode::Control(Control::Close), 2 + reason.len(), false);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

fn write_control(out: &mut Vec<u8>, control: Control, payload: &[u8]) {
    write_header(out, OpCode::Control(control), payload.len(), false);
    out.extend_from_slice(payload);
}

fn write_header(out: &mut Vec<u8>, opcode: OpCode, len: usize, rsv1: bool) {
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
    header.format(len as u64, out).expect("a Vec takes all that is written");
}

/// The longest header of a server's frame, in bytes (RFC 6455, 5.2).
pub const HEADER_LEN_MAX: usize = 10;
/// The longest payload of a control frame, in bytes (RFC 6455, 5.5).
pub const CONTROL_LEN_MAX: usize = 125;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn lengths_take_one_two_or_eight_bytes() {
        for (len, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xff, 0xff]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let text = "x".repeat(len);
            let frame = written(|out| write_text(out, &text));
            assert_eq!(frame[..header.len()], header, "{len}");
            assert_eq!(frame.len(), header.len() + len);
        }
    }

    #[test]
    fn control_frames_and_compressed_messages_are_marked() {
        assert_eq!(written(write_ping), [0x89, 0]);
        assert_eq!(written(|out| write_pong(out, b"ab")), [0x8a, 2, b'a', b'b']);
        assert_eq!(written(|out| write_close(out, None)), [0x88, 0]);
        let close = written(|out| write_close(out, Some((1001, "go"))));
        assert_eq!(close, [0x88, 4, 3, 0xe9, b'g', b'o']);
        assert_eq!(written(|out| write_text_header(out, 5, true)), [0xc1, 5]);
        assert_eq!(written(|out| write_binary(out, b"\0", false)), [0x82, 1, 0]);
    }
}

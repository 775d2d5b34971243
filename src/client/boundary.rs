//! Finds where a client's messages end in the bytes that it sends (RFC 6455, 5.2), without keeping any of them.
//!
//! Pure. It only counts: what breaks the rules is the WebSocket library's to find, and ends the connection anyway.

/// A place in a stream of frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Boundary {
    /// The current frame's header, as far as it has come.
    header: [u8; HEADER_LEN_MAX],
    header_len: u8,
    /// A message whose last frame has not begun.
    in_message: bool,
    /// The current frame's end is one of a message.
    ends_message: bool,
    /// Messages, pings, pongs and closes that have come and were not taken.
    untaken: u32,
    /// Of the current frame's payload.
    missing: u64,
}

impl Boundary {
    /// The next bytes of the stream. Returns the largest frame that begins in them, header included.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) -> u64 {
        let mut largest = 0;
        while !bytes.is_empty() {
            if self.missing > 0 {
                let len = usize::try_from(self.missing).map_or(bytes.len(), |missing| missing.min(bytes.len()));
                self.missing -= len as u64;
                bytes = &bytes[len..];
                self.count_end();
                continue;
            }
            let (header_len, payload_len) = match parse(bytes) {
                Some(lens) if self.header_len == 0 && lens.0 <= bytes.len() => {
                    self.header[0] = bytes[0];
                    bytes = &bytes[lens.0..];
                    lens
                }
                // It comes in pieces.
                _ => {
                    self.header[usize::from(self.header_len)] = bytes[0];
                    self.header_len += 1;
                    bytes = &bytes[1..];
                    match parse(&self.header[..usize::from(self.header_len)]) {
                        Some(lens) if lens.0 == usize::from(self.header_len) => lens,
                        _ => continue,
                    }
                }
            };
            largest = largest.max(payload_len.saturating_add(header_len as u64));
            self.begin_frame(payload_len);
        }
        largest
    }

    /// Whoever reads has got one of the messages, pings, pongs and closes that have come.
    pub(super) fn take(&mut self) {
        self.untaken = self.untaken.saturating_sub(1);
    }

    /// True when all that came were whole messages, and all were taken: nothing is left that could be looked at.
    pub(super) fn is_all_taken(&self) -> bool {
        self.untaken == 0 && self.is_between_messages()
    }

    /// True when a message has ended and none has begun.
    fn is_between_messages(&self) -> bool {
        self.header_len == 0 && self.missing == 0 && !self.in_message
    }

    fn begin_frame(&mut self, payload_len: u64) {
        self.missing = payload_len;
        self.header_len = 0;
        let is_control = self.header[0] & CONTROL != 0;
        let is_last = self.header[0] & FIN != 0;
        if !is_control {
            self.in_message = !is_last;
        }
        self.ends_message = is_control || is_last;
        self.count_end();
    }

    fn count_end(&mut self) {
        if self.missing == 0 && self.ends_message {
            self.untaken = self.untaken.saturating_add(1);
        }
    }
}

/// Lengths of header and payload, once the length can be read.
fn parse(header: &[u8]) -> Option<(usize, u64)> {
    let (_, rest) = header.split_first()?;
    let (lengths, rest) = rest.split_first()?;
    let mask_len = if lengths & MASKED == 0 { 0 } else { MASK_LEN };
    let (len_len, payload_len) = match lengths & !MASKED {
        126 => (2, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (8, u64::from_be_bytes(*rest.first_chunk()?)),
        len => (0, u64::from(len)),
    };
    Some((2 + len_len + mask_len, payload_len))
}

const FIN: u8 = 0x80;
/// Opcodes from 8 on.
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
const MASK_LEN: usize = 4;
const HEADER_LEN_MAX: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload_len: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![first];
        match payload_len {
            0..126 => frame.push(payload_len as u8 | mask),
            126..65536 => {
                frame.push(126 | mask);
                frame.extend((payload_len as u16).to_be_bytes());
            }
            _ => {
                frame.push(127 | mask);
                frame.extend((payload_len as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0xff; if masked { MASK_LEN } else { 0 } + payload_len]);
        frame
    }

    /// (frame, whether a message has ended after it)
    fn stream() -> Vec<(Vec<u8>, bool)> {
        vec![
            (frame(0x81, 0, true), true),
            (frame(0x81, 125, true), true),
            (frame(0x82, 126, true), true),
            (frame(0x81, 65535, true), true),
            (frame(0x81, 65536, true), true),
            (frame(0x01, 3, true), false),
            (frame(0x89, 5, true), false),
            (frame(0x00, 300, true), false),
            (frame(0x8a, 0, true), false),
            (frame(0x80, 1, true), true),
            (frame(0x89, 125, true), true),
            (frame(0x81, 7, false), true),
        ]
    }

    #[test]
    fn messages_end_where_their_last_frame_does_however_the_bytes_come() {
        for step in [1, 2, 3, 7, 13, 14, 100, 4096, usize::MAX] {
            let mut boundary = Boundary::default();
            assert!(boundary.is_between_messages());
            let mut ended = 0;
            for (frame, is_end) in stream() {
                let mut largest = 0;
                let mut pieces = frame.chunks(step.min(frame.len())).peekable();
                while let Some(piece) = pieces.next() {
                    largest = largest.max(boundary.advance(piece));
                    if pieces.peek().is_some() {
                        assert!(!boundary.is_between_messages(), "{step}: within {:?}", &frame[..2]);
                    }
                }
                assert_eq!(largest, frame.len() as u64);
                // Messages, and what comes between their frames.
                ended += u32::from(is_end || frame[0] & CONTROL != 0);
                assert_eq!(boundary.untaken, ended, "{step}: after {:?}", &frame[..2]);
                assert_eq!(
                    boundary.is_between_messages(),
                    is_end,
                    "{step}: after {:?}",
                    &frame[..2]
                );
            }
        }
    }

    #[test]
    fn several_frames_in_one_piece_are_told_apart() {
        let mut boundary = Boundary::default();
        let bytes: Vec<u8> = stream().into_iter().flat_map(|(frame, _)| frame).collect();
        assert_eq!(boundary.advance(&bytes), frame(0x81, 65536, true).len() as u64);
        assert!(boundary.is_between_messages());
        for _ in 0..10 {
            assert!(!boundary.is_all_taken());
            boundary.take();
        }
        assert!(boundary.is_all_taken());
        boundary.advance(&[0x81]);
        assert!(!boundary.is_all_taken(), "the next one has begun");
    }

    #[test]
    fn a_length_that_no_frame_has_is_only_a_number() {
        let mut boundary = Boundary::default();
        assert_eq!(
            boundary.advance(&[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            0
        );
        assert_eq!(boundary.advance(&[0, 0, 0, 0, 1]), u64::MAX);
        assert!(!boundary.is_between_messages());
    }
}

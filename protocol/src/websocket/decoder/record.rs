//! Writes a decoder's state down and reads it back, for a client that changes its process in the middle of a message.
//!
//! Fields follow each other with their lengths, integers in network order. The record is for a process of the same machine, but
//! nothing in it is believed: what cannot be a decoder's state is refused.

use std::io::Cursor;

use arrayvec::ArrayVec;

use super::{ControlKind, Decoder, DecoderLimits, Frame, FrameKind, Message, Partial, parse_header};

impl Decoder {
    /// Appends the state. An idle decoder is no bytes.
    pub fn write_record(&self, out: &mut Vec<u8>) {
        let Some(partial) = &self.partial else { return };
        out.push(partial.header.len() as u8);
        out.extend_from_slice(&partial.header);
        match &partial.frame {
            None => out.push(0),
            Some(frame) => {
                out.push(frame_byte(frame.kind));
                out.extend_from_slice(&frame.mask);
                out.push(frame.phase);
                out.extend_from_slice(&frame.left.to_be_bytes());
            }
        }
        out.push(partial.control.len() as u8);
        out.extend_from_slice(&partial.control);
        if let Some(message) = &partial.message {
            out.push(u8::from(message.is_text) | u8::from(message.is_deflated) << 1);
            out.extend_from_slice(&message.bytes);
        }
    }

    /// Reads what [`write_record`](Self::write_record) wrote. `None`: it is no state of a decoder with these limits.
    #[must_use]
    pub fn from_record(record: &[u8], limits: DecoderLimits) -> Option<Self> {
        if record.is_empty() {
            return Some(Self::default());
        }
        let mut rest = record;
        let header_len = *rest.split_off_first()?;
        let header = ArrayVec::try_from(rest.split_off(..usize::from(header_len))?).ok()?;
        let frame = match *rest.split_off_first()? {
            0 => None,
            byte => Some(Frame {
                kind: frame_kind(byte)?,
                mask: rest.split_off(..4)?.try_into().ok()?,
                phase: *rest.split_off_first().filter(|phase| **phase < 4)?,
                left: u64::from_be_bytes(rest.split_off(..8)?.try_into().ok()?),
            }),
        };
        let control_len = *rest.split_off_first()?;
        let control = ArrayVec::try_from(rest.split_off(..usize::from(control_len))?).ok()?;
        let message = match rest.split_off_first() {
            None => None,
            Some(flags) => {
                let mut message = Message {
                    is_text: flags & 1 != 0,
                    is_deflated: flags & 2 != 0,
                    bytes: rest.to_vec(),
                    valid_len: 0,
                };
                message.check_utf8(false).ok()?;
                Some(message)
            }
        };
        let partial = Partial {
            header,
            frame,
            control,
            message,
        };
        partial.is_consistent(limits).then(|| Self {
            partial: Some(Box::new(partial)),
        })
    }
}

impl Partial {
    /// Whether a decoder can have come to this.
    fn is_consistent(&self, limits: DecoderLimits) -> bool {
        let held = self.message.as_ref().map_or(0, |message| message.bytes.len() as u64);
        let is_deflated = self.message.as_ref().is_some_and(|message| message.is_deflated);
        let frame_fits = match &self.frame {
            None => self.control.is_empty(),
            Some(frame) => {
                let is_open = frame.left > 0 && self.header.is_empty();
                is_open
                    && match frame.kind {
                        FrameKind::Control(_) => {
                            frame.left.saturating_add(self.control.len() as u64) <= self.control.capacity() as u64
                        }
                        FrameKind::First { .. } => false,
                        FrameKind::Continuation { .. } => {
                            self.control.is_empty()
                                && self.message.is_some()
                                && held.saturating_add(frame.left) <= limits.message_max as u64
                        }
                    }
            }
        };
        // A header that is whole would have been taken, and no byte more fits behind it.
        let header_fits = parse_header(&mut Cursor::new(&self.header[..])).is_ok_and(|header| header.is_none());
        let is_something = !self.header.is_empty() || self.frame.is_some() || self.message.is_some();
        frame_fits
            && header_fits
            && is_something
            && held <= limits.message_max as u64
            && (limits.is_deflate_agreed || !is_deflated)
    }
}

fn frame_byte(kind: FrameKind) -> u8 {
    match kind {
        FrameKind::Control(ControlKind::Close) => 1,
        FrameKind::Control(ControlKind::Ping) => 2,
        FrameKind::Control(ControlKind::Pong) => 3,
        FrameKind::Continuation { is_final: false } => 4,
        FrameKind::Continuation { is_final: true } => 5,
        FrameKind::First { .. } => unreachable!("an open frame's message is kept: it is a continuation from then on"),
    }
}

fn frame_kind(byte: u8) -> Option<FrameKind> {
    Some(match byte {
        1 => FrameKind::Control(ControlKind::Close),
        2 => FrameKind::Control(ControlKind::Ping),
        3 => FrameKind::Control(ControlKind::Pong),
        4 => FrameKind::Continuation { is_final: false },
        5 => FrameKind::Continuation { is_final: true },
        _ => return None,
    })
}

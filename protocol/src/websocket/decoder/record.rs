//! Writes a decoder's state down and reads it back, for a client that changes its process in the middle of a message.
//!
//! The record is for a process of the same machine, but nothing in it is believed: what cannot be a decoder's state is refused.

use std::io::Cursor;

use arrayvec::ArrayVec;

use super::{ControlKind, Decoder, DecoderLimits, Frame, FrameKind, Message, Partial, parse_header};
use crate::record::{Field, Fields, RecordError, Writer};

impl Decoder {
    /// Writes the state down. An idle decoder has no fields.
    pub fn write_record(&self, record: &mut Writer<'_>) {
        let Some(partial) = &self.partial else { return };
        if !partial.header.is_empty() {
            record.bytes(HEADER, &partial.header);
        }
        if let Some(frame) = &partial.frame {
            record.number(KIND, kind_number(frame.kind));
            record.bytes(MASK, &frame.mask);
            record.number(PHASE, frame.phase.into());
            record.number(LEFT, frame.left);
        }
        if !partial.control.is_empty() {
            record.bytes(CONTROL, &partial.control);
        }
        if let Some(message) = &partial.message {
            record.flag(IS_TEXT, message.is_text);
            record.flag(IS_DEFLATED, message.is_deflated);
            record.bytes(MESSAGE, &message.bytes);
        }
    }

    /// Reads what [`write_record`](Self::write_record) wrote.
    ///
    /// # Errors
    /// It is no state of a decoder with these limits.
    pub fn from_record(mut fields: Fields<'_>, limits: DecoderLimits) -> Result<Self, RecordError> {
        let mut partial = Partial::default();
        let (mut kind, mut mask, mut phase, mut left) = (None, [0; 4], 0, 0);
        let (mut is_text, mut is_deflated, mut is_empty) = (false, false, true);
        while let Some(field) = fields.next()? {
            match field.number {
                HEADER => partial.header = array(&field)?,
                KIND => kind = Some(frame_kind(&field)?),
                MASK => mask = field.bytes().try_into().map_err(|_| field.wrong())?,
                PHASE => phase = field.number::<u8>()?,
                LEFT => left = field.number()?,
                CONTROL => partial.control = array(&field)?,
                IS_TEXT => is_text = field.flag()?,
                IS_DEFLATED => is_deflated = field.flag()?,
                MESSAGE => {
                    let mut message = Message {
                        is_text,
                        is_deflated,
                        bytes: field.bytes().to_vec(),
                        valid_len: 0,
                    };
                    message.check_utf8(false).map_err(|_| field.wrong())?;
                    partial.message = Some(message);
                }
                _ => continue,
            }
            is_empty = false;
        }
        if is_empty {
            return Ok(Self::default());
        }
        partial.frame = kind.map(|kind| Frame {
            kind,
            mask,
            phase,
            left,
        });
        if !partial.is_consistent(limits) {
            return Err(RecordError::Form);
        }
        Ok(Self {
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
                let is_open = frame.left > 0 && frame.phase < 4 && self.header.is_empty();
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

fn array<const CAPACITY: usize>(field: &Field<'_>) -> Result<ArrayVec<u8, CAPACITY>, RecordError> {
    ArrayVec::try_from(field.bytes()).map_err(|_| field.wrong())
}

fn kind_number(kind: FrameKind) -> u64 {
    match kind {
        FrameKind::Control(ControlKind::Close) => 1,
        FrameKind::Control(ControlKind::Ping) => 2,
        FrameKind::Control(ControlKind::Pong) => 3,
        FrameKind::Continuation { is_final: false } => 4,
        FrameKind::Continuation { is_final: true } => 5,
        FrameKind::First { .. } => unreachable!("an open frame's message is kept: it is a continuation from then on"),
    }
}

fn frame_kind(field: &Field<'_>) -> Result<FrameKind, RecordError> {
    Ok(match field.number::<u64>()? {
        1 => FrameKind::Control(ControlKind::Close),
        2 => FrameKind::Control(ControlKind::Ping),
        3 => FrameKind::Control(ControlKind::Pong),
        4 => FrameKind::Continuation { is_final: false },
        5 => FrameKind::Continuation { is_final: true },
        _ => return Err(field.wrong()),
    })
}

const HEADER: u32 = 1;
const KIND: u32 = 2;
const MASK: u32 = 3;
const PHASE: u32 = 4;
const LEFT: u32 = 5;
const CONTROL: u32 = 6;
const IS_TEXT: u32 = 7;
const IS_DEFLATED: u32 = 8;
const MESSAGE: u32 = 9;

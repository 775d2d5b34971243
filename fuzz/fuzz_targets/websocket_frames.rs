//! Reads any bytes as a client's frames: cut anywhere, and taken over by another process anywhere, the same comes out; and it
//! is what tungstenite's own stream finds.
//!
//! The two may differ in what stands here, and in nothing else:
//! - The oracle looks at a frame once it is whole, and at a message's length and UTF-8 then; ours fails as soon as it is
//!   certain (RFC 6455, 8.1). So the oracle is given the rest of such a frame, and must fail as well.
//! - Of a frame that is too long and breaks another rule, the oracle names the length (1009), ours the rule (1002).
//! - A close frame whose code nobody may send is an error. The oracle makes 1002 of it, "Protocol violation", or looks at the
//!   reason's UTF-8 first.
//! - The oracle knows no extension: a compressed message is a binary one to it, and gets RSV1 cleared.
#![no_main]

use std::io::{self, Read, Write};

use libfuzzer_sys::fuzz_target;
use protocol::record::{Fields, Writer};
use protocol::websocket::{Decoder, DecoderLimits, Incoming, WebSocketError};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

const MESSAGE_MAX: usize = 300;
const STREAM_MAX: usize = 2048;
/// What a decoder keeps beside a message in part.
const PARTIAL_MAX: usize = 300;

#[derive(Debug, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, Vec<u8>)>),
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, stream)) = input.split_first() else {
        return;
    };
    // The state is written down behind each byte: of long streams that takes longer than it shows.
    let stream = &stream[..stream.len().min(STREAM_MAX)];
    let limits = DecoderLimits {
        message_max: MESSAGE_MAX,
        is_deflate_agreed: cut & 1 == 1,
    };
    let whole = decode(stream.chunks(stream.len().max(1)), limits);
    assert_eq!(decode(stream.chunks(1), limits), whole);
    assert_eq!(decode(stream.chunks(usize::from(cut >> 1) + 1), limits), whole);
    let (seen, end) = whole;
    compare(seen, end, stream, limits);
    believe_no_record(stream, limits);
});

/// What comes out of `pieces`. Behind each, the state is written down and read back.
fn decode<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: DecoderLimits,
) -> (Vec<Seen>, Result<(), WebSocketError>) {
    let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        while !input.is_empty() {
            let len = input.len();
            match decoder.decode(&mut input, limits) {
                Ok(incoming) => seen.extend(incoming.map(Seen::from)),
                Err(error) => return (seen, Err(error)),
            }
            assert!(input.len() < len, "nothing was taken");
            if let Some(Seen::Close(_)) = seen.last() {
                return (seen, Ok(()));
            }
        }
        assert!(decoder.held_len() <= MESSAGE_MAX + PARTIAL_MAX);
        let record = record_of(&decoder);
        assert_eq!(record.is_empty(), decoder.is_idle());
        let restored = from_record(&record, limits).expect("its own record");
        assert_eq!(restored, decoder);
        decoder = restored;
    }
    (seen, Ok(()))
}

/// Any bytes as a record: what they are taken for writes a record that means the same, and decodes what comes without a panic.
fn believe_no_record(bytes: &[u8], limits: DecoderLimits) {
    let Some(mut decoder) = from_record(bytes, limits) else {
        return;
    };
    assert_eq!(from_record(&record_of(&decoder), limits), Some(decoder.clone()));
    let mut stream = bytes.to_vec();
    let mut input = &mut stream[..];
    while !input.is_empty() {
        let len = input.len();
        if decoder.decode(&mut input, limits).is_err() {
            return;
        }
        assert!(input.len() < len, "nothing was taken");
        assert!(decoder.held_len() <= MESSAGE_MAX + PARTIAL_MAX);
    }
}

fn record_of(decoder: &Decoder) -> Vec<u8> {
    let mut record = Vec::new();
    decoder.write_record(&mut Writer::fields_only(&mut record));
    record
}

fn from_record(record: &[u8], limits: DecoderLimits) -> Option<Decoder> {
    Decoder::from_record(Fields::only(record), limits).ok()
}

fn compare(seen: Vec<Seen>, end: Result<(), WebSocketError>, stream: &[u8], limits: DecoderLimits) {
    let (stream, has_long_frame) = walk(stream, limits);
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let wire = Wire {
        stream,
        read: 0,
        rest: if end.is_err() { MESSAGE_MAX } else { 0 },
    };
    let mut oracle = WebSocket::from_raw_socket(wire, Role::Server, Some(config));
    let is_closed = matches!(seen.last(), Some(Seen::Close(_)));
    for ours in seen {
        assert_eq!(Ok(Some(ours)), next(&mut oracle));
    }
    let Err(error) = end else {
        assert!(is_closed || next(&mut oracle) == Ok(None));
        return;
    };
    match (error.close_code(), next(&mut oracle)) {
        (ours, Err(theirs)) if ours == theirs => {}
        (1002, Err(1009)) if has_long_frame => {}
        (1002, Err(1007)) if error == WebSocketError::Close => {}
        (1002, Ok(Some(Seen::Close(Some((1002, reason))))))
            if error == WebSocketError::Close && reason == b"Protocol violation" => {}
        (_, theirs) => panic!("{error:?}, and the oracle {theirs:?}"),
    }
}

/// The oracle's next message, nothing where the stream ends, or the close code for the error.
fn next(oracle: &mut WebSocket<Wire>) -> Result<Option<Seen>, u16> {
    match oracle.read() {
        Ok(message) => Ok(Some(message.into())),
        Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => Ok(None),
        Err(Error::Utf8(_)) => Err(1007),
        Err(Error::Capacity(_)) => Err(1009),
        Err(Error::Protocol(_)) => Err(1002),
        Err(error) => panic!("{error}"),
    }
}

/// The stream for the oracle, and whether a frame in it is longer than a message may be.
fn walk(stream: &[u8], limits: DecoderLimits) -> (Vec<u8>, bool) {
    let mut stream = stream.to_vec();
    let (mut place, mut has_long_frame) = (0, false);
    while let Some(&[first, second]) = stream.get(place..).and_then(|rest| rest.first_chunk()) {
        if limits.is_deflate_agreed && matches!(first & 0x7f, 0x41 | 0x42) {
            stream[place] = first & 0x80 | 2;
        }
        let (extended, short) = match second & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            len => (0, len),
        };
        let Some(digits) = stream.get(place + 2..place + 2 + extended) else {
            break;
        };
        let len = digits
            .iter()
            .fold(u64::from(short), |len, digit| len << 8 | u64::from(*digit));
        has_long_frame |= len > MESSAGE_MAX as u64;
        let header_len = 2 + extended + if second & 0x80 == 0 { 0 } else { 4 };
        place = place.saturating_add(header_len).saturating_add(len as usize);
    }
    (stream, has_long_frame)
}

/// The stream, then `rest` zeros, then its end; what is written is dropped.
struct Wire {
    stream: Vec<u8>,
    read: usize,
    rest: usize,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = &self.stream[self.read..];
        if left.is_empty() {
            let len = self.rest.min(buffer.len());
            buffer[..len].fill(0);
            self.rest -= len;
            return Ok(len);
        }
        let len = left.len().min(buffer.len());
        buffer[..len].copy_from_slice(&left[..len]);
        self.read += len;
        Ok(len)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<Incoming<'_>> for Seen {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Text(text) => Self::Text(text.as_bytes().to_vec()),
            Incoming::Binary(bytes) | Incoming::Deflated { bytes, .. } => Self::Binary(bytes.into_owned()),
            Incoming::Ping(bytes) => Self::Ping(bytes.into_owned()),
            Incoming::Pong(bytes) => Self::Pong(bytes.into_owned()),
            Incoming::Close(close) => {
                Self::Close(close.map(|close| (close.code, close.reason.into_owned().into_bytes())))
            }
        }
    }
}

impl From<Message> for Seen {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.as_bytes().to_vec()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Message::Close(close) => {
                Self::Close(close.map(|close| (close.code.into(), close.reason.as_bytes().to_vec())))
            }
            Message::Frame(_) => unreachable!("it is never read"),
        }
    }
}

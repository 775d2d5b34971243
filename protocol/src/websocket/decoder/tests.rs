//! Cuts streams of a client in every way: what comes out is what the frames say, or the error that they deserve.

use super::*;
use crate::random::Random;
use crate::record::{Fields, Writer};

const MESSAGE_MAX: usize = 300;
const MASK: [u8; 4] = [0x12, 0x00, 0xfe, 0x7f];

fn limits() -> DecoderLimits {
    DecoderLimits {
        message_max: MESSAGE_MAX,
        is_deflate_agreed: true,
    }
}

/// A client's frame: the first byte as given, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ ..126 => bytes.push(0x80 | len as u8),
        len @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    mask::apply(MASK, 0, &mut bytes[start..]);
    bytes
}

fn show(incoming: &Incoming<'_>) -> String {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match incoming {
        Incoming::Text(text) => format!("text {text}"),
        Incoming::Binary(bytes) => format!("binary {}", lossy(bytes)),
        Incoming::Deflated { is_text, bytes } => format!("deflated {is_text} {}", lossy(bytes)),
        Incoming::Ping(bytes) => format!("ping {}", lossy(bytes)),
        Incoming::Pong(bytes) => format!("pong {}", lossy(bytes)),
        Incoming::Close(None) => "close".to_owned(),
        Incoming::Close(Some(close)) => format!("close {} {}", close.code, close.reason),
    }
}

/// Decodes `stream` in pieces of `lens` bytes, over and over, with a change of process behind each piece.
fn decode(stream: &[u8], lens: &mut dyn FnMut() -> usize) -> (Vec<String>, Result<Decoder, WebSocketError>) {
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    let mut rest = stream;
    while !rest.is_empty() {
        let len = lens().clamp(1, rest.len());
        let mut piece = rest[..len].to_vec();
        rest = &rest[len..];
        let mut input = &mut piece[..];
        while !input.is_empty() {
            match decoder.decode(&mut input, limits()) {
                Ok(incoming) => out.extend(incoming.iter().map(show)),
                Err(error) => return (out, Err(error)),
            }
        }
        let record = record_of(&decoder);
        let restored = from_record(&record, limits()).expect("its own record");
        assert_eq!(restored, decoder, "{record:?}");
        decoder = restored;
        assert!(decoder.held_len() <= MESSAGE_MAX + size_of::<Partial>());
    }
    (out, Ok(decoder))
}

fn decode_anyhow(stream: &[u8]) -> (Vec<String>, Result<Decoder, WebSocketError>) {
    let whole = decode(stream, &mut || usize::MAX);
    let bytes = decode(stream, &mut || 1);
    assert_eq!(bytes, whole, "byte by byte");
    whole
}

#[test]
fn each_frame_comes_out_as_it_was_meant() {
    let long = "é".repeat(140);
    for (stream, expected) in [
        (frame(0x81, b"hello"), vec!["text hello"]),
        (frame(0x81, b""), vec!["text "]),
        (frame(0x82, b"\xff"), vec!["binary \u{fffd}"]),
        (frame(0xc1, b"zip"), vec!["deflated true zip"]),
        (frame(0xc2, b""), vec!["deflated false "]),
        (frame(0x89, b"p"), vec!["ping p"]),
        (frame(0x8a, b""), vec!["pong "]),
        (frame(0x88, b""), vec!["close"]),
        (frame(0x88, b"\x03\xe8bye"), vec!["close 1000 bye"]),
        (frame(0x81, long.as_bytes()), vec![&*format!("text {long}")]),
        (
            [
                frame(0x01, b"a"),
                frame(0x89, b"1"),
                frame(0x00, b"b"),
                frame(0x80, b"c"),
            ]
            .concat(),
            vec!["ping 1", "text abc"],
        ),
        (
            [frame(0x41, b"a"), frame(0x80, b"b"), frame(0x81, b"c")].concat(),
            vec!["deflated true ab", "text c"],
        ),
        (
            [frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")].concat(),
            vec!["text "],
        ),
        (
            // A character in two fragments.
            [frame(0x01, b"\xc3"), frame(0x8a, b""), frame(0x80, b"\xa9")].concat(),
            vec!["pong ", "text é"],
        ),
    ] {
        let (out, end) = decode_anyhow(&stream);
        assert_eq!(out, expected);
        assert!(end.expect("no error").is_idle(), "{expected:?}: nothing is kept");
    }
}

#[test]
fn what_breaks_the_protocol_has_its_error() {
    let unmasked = vec![0x81, 1, b'a'];
    let declared = |len: u64| [&[0x82, 0xff][..], &len.to_be_bytes(), &MASK].concat();
    let too_long = WebSocketError::TooLong { limit: MESSAGE_MAX };
    for (stream, error) in [
        (frame(0xa1, b""), WebSocketError::ReservedBit),
        (frame(0x91, b""), WebSocketError::ReservedBit),
        (frame(0xc9, b""), WebSocketError::ReservedBit),
        (
            [frame(0x41, b""), frame(0xc0, b"")].concat(),
            WebSocketError::ReservedBit,
        ),
        (frame(0x83, b""), WebSocketError::Opcode(3)),
        (frame(0x8b, b""), WebSocketError::Opcode(11)),
        (frame(0x09, b""), WebSocketError::ControlFragmented),
        (frame(0x89, &[0; 126]), WebSocketError::ControlTooLong { len: 126 }),
        (frame(0x80, b""), WebSocketError::ContinuationUnexpected),
        (
            [frame(0x01, b""), frame(0x81, b"")].concat(),
            WebSocketError::ContinuationExpected,
        ),
        (frame(0x88, b"\x03"), WebSocketError::Close),
        (frame(0x88, b"\x03\xec"), WebSocketError::Close),
        (frame(0x88, b"\x03\xe8\xff"), WebSocketError::Utf8),
        (frame(0x81, b"a\xff"), WebSocketError::Utf8),
        (frame(0x81, b"a\xc3"), WebSocketError::Utf8),
        // Certain before the message is over: a surrogate, and beyond U+10FFFF.
        (frame(0x01, b"a\xed\xa0"), WebSocketError::Utf8),
        (
            [frame(0x01, b"\xf4"), frame(0x00, b"\x90")].concat(),
            WebSocketError::Utf8,
        ),
        (declared(u64::MAX), too_long),
        (declared(301), too_long),
        ([frame(0x02, &[0; 300]), frame(0x00, &[0])].concat(), too_long),
        (unmasked, WebSocketError::Unmasked),
    ] {
        assert_eq!(decode_anyhow(&stream), (Vec::new(), Err(error)), "{stream:?}");
    }
    let (out, _) = decode_anyhow(&frame(0x82, &[b'x'; MESSAGE_MAX]));
    assert_eq!(out.len(), 1, "at the limit");
    let without = DecoderLimits {
        is_deflate_agreed: false,
        ..limits()
    };
    let mut deflated = frame(0xc1, b"zip");
    let refused = Decoder::default().decode(&mut &mut deflated[..], without);
    assert_eq!(refused, Err(WebSocketError::ReservedBit));
}

#[test]
fn however_a_stream_is_cut_the_same_comes_out() {
    let mut random = Random::new(0x5eed);
    for _ in 0..400 {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..=random.below(6) {
            let fragments = random.below(4) + 1;
            let mut message = String::new();
            for fragment in 1..=fragments {
                let piece = "aé\u{20ac}\u{1f50c}".repeat(random.below(8));
                message.push_str(&piece);
                let opcode = u8::from(fragment == 1);
                let is_final = if fragment == fragments { 0x80 } else { 0 };
                stream.extend(frame(opcode | is_final, piece.as_bytes()));
                if random.percent(30) && fragment < fragments {
                    stream.extend(frame(0x89, b"between"));
                    expected.push("ping between".to_owned());
                }
            }
            expected.push(format!("text {message}"));
        }
        let (out, end) = decode(&stream, &mut || random.below(40));
        assert_eq!(out, expected);
        assert!(end.expect("no error").is_idle());
    }
}

#[test]
fn no_more_memory_is_taken_than_was_declared() {
    let mut decoder = Decoder::default();
    for byte in frame(0x82, &[0; 290]) {
        decoder.decode(&mut &mut [byte][..], limits()).expect("a good frame");
        assert!(decoder.held_len() <= 290 + size_of::<Partial>());
    }
}

#[test]
fn a_record_that_is_none_is_refused() {
    let mut decoder = Decoder::default();
    let mut stream = [frame(0x01, b"a\xc3"), frame(0x00, b"\xa9bcd")].concat();
    let len = stream.len() - 3;
    let mut input = &mut stream[..len];
    while !input.is_empty() {
        decoder.decode(&mut input, limits()).expect("a good frame");
    }
    let record = record_of(&decoder);
    assert_eq!(from_record(&record, limits()), Some(decoder));
    for len in 0..record.len() {
        // Without its last fields it may be another record, but never a panic.
        let _ = from_record(&record[..len], limits());
    }
    let small = DecoderLimits {
        message_max: 1,
        ..limits()
    };
    assert_eq!(from_record(&record, small), None);
    let wrong = |write: &dyn Fn(&mut Writer<'_>)| {
        let mut bytes = Vec::new();
        write(&mut Writer::new(&mut bytes));
        bytes
    };
    for (what, wrong) in [
        ("a header of 15 bytes", wrong(&|record| record.bytes(1, &[0; 15]))),
        ("an unknown kind", wrong(&|record| record.number(2, 9))),
        ("a frame with nothing left", wrong(&|record| record.number(2, 1))),
        (
            "a continuation of nothing",
            wrong(&|record| {
                record.number(2, 4);
                record.number(5, 4);
            }),
        ),
        (
            "a mask of 3 bytes",
            wrong(&|record| {
                record.number(2, 1);
                record.bytes(3, &[0; 3]);
            }),
        ),
        (
            "a fifth byte of the mask",
            wrong(&|record| {
                record.number(2, 1);
                record.number(4, 4);
                record.number(5, 4);
            }),
        ),
        (
            "a text that is none",
            wrong(&|record| {
                record.flag(7, true);
                record.bytes(9, &[0xff]);
            }),
        ),
        (
            "a header that is whole, so that no byte fits behind it",
            wrong(&|record| record.bytes(1, &[0x81, 0x80, 0, 0, 0, 0])),
        ),
        (
            "and one of 14 bytes",
            wrong(&|record| record.bytes(1, &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ),
    ] {
        assert_eq!(from_record(&wrong, limits()), None, "{what}");
    }
}

fn record_of(decoder: &Decoder) -> Vec<u8> {
    let mut record = Vec::new();
    decoder.write_record(&mut Writer::new(&mut record));
    record
}

fn from_record(record: &[u8], limits: DecoderLimits) -> Option<Decoder> {
    Decoder::from_record(Fields::of_record(record).ok()?, limits).ok()
}

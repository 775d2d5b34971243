//! Reads any bytes as what a NATS server says: in pieces it is the same as whole, and nothing is held that is not bounded. What is written
//! cannot be read as two lines. Texts of credentials are read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::nats::{Connect, Credentials, Decoder, Fault, Login, Operation, is_subject, publish, subscribe};

fuzz_target!(|input: &[u8]| {
    // The last byte says how it is cut.
    let Some((cut, speech)) = input.split_last() else {
        return;
    };
    let whole = heard([speech]);
    let pieces = |len: usize| heard(speech.chunks(len.max(1)));
    assert_eq!(pieces(1), whole);
    assert_eq!(pieces(usize::from(*cut)), whole);
    let (before, behind) = speech.split_at(usize::from(*cut).min(speech.len()));
    assert_eq!(heard([before, behind]), whole);
    if let Ok(text) = str::from_utf8(input) {
        write(text);
        let _ = Credentials::parse(text);
    }
});

fn heard<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<String>, Option<Fault>) {
    let mut decoder = Decoder::new(PAYLOAD_LEN_MAX);
    let mut heard = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next() {
                Ok(Some(operation)) => {
                    if let Operation::Message(message) = &operation {
                        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
                        let is_word = |word: &[u8]| !word.is_empty() && !word.iter().any(is_space);
                        assert!(is_word(message.subject) && message.reply.is_none_or(is_word));
                        assert!(message.payload.len() <= PAYLOAD_LEN_MAX);
                    }
                    heard.push(format!("{operation:?}"));
                }
                Ok(None) => break,
                Err(fault) => {
                    assert_eq!(decoder.next(), Err(fault));
                    return (heard, Some(fault));
                }
            }
        }
        assert!(decoder.held_len() <= 64 * 1024 + PAYLOAD_LEN_MAX);
    }
    (heard, None)
}

/// A node says these to itself: where it is told them, they have the same meaning.
fn write(text: &str) {
    let mut out = Vec::new();
    let connect = Connect {
        name: text,
        version: text,
        is_tls: false,
        login: Login::User {
            name: text,
            password: text,
        },
    };
    connect.write(&mut out);
    let line = out.strip_suffix(b"\r\n").expect("a line");
    assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n')));
    if is_subject(text) {
        out.clear();
        subscribe(&mut out, text, Some(text), 7);
        assert_eq!(out, format!("SUB {text} {text} 7\r\n").as_bytes());
        assert_eq!(out.iter().filter(|byte| byte.is_ascii_whitespace()).count(), 5);
        out.clear();
        publish(&mut out, text, None, text.as_bytes());
        // What is published arrives as `MSG subject sid len`.
        let told = [
            b"MSG ",
            text.as_bytes(),
            b" 1 ",
            text.len().to_string().as_bytes(),
            b"\r\n",
        ]
        .concat();
        let payload = out.split_off(format!("PUB {text} {}\r\n", text.len()).len());
        let mut decoder = Decoder::new(PAYLOAD_LEN_MAX);
        decoder.feed(&told);
        decoder.feed(&payload);
        match decoder.next() {
            Ok(Some(Operation::Message(message))) => {
                assert_eq!((message.subject, message.payload), (text.as_bytes(), text.as_bytes()));
            }
            Ok(Some(Operation::TooLong { len, .. })) => assert_eq!(len, text.len()),
            other => panic!("{other:?}"),
        }
    }
}

const PAYLOAD_LEN_MAX: usize = 64;

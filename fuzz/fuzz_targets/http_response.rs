//! Reads any bytes as a response: one reading of the head, in pieces and in whole, and of the body after it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::http::{BodyDecoder, Framing, is_header_value_safe, parse_response, whole_body};

const HEAD_LEN_MAX: usize = 1024;
const BODY_LEN_MAX: usize = 256;

fuzz_target!(|data: &[u8]| {
    let whole = parse_response(data, HEAD_LEN_MAX);
    for (len, _) in data
        .iter()
        .enumerate()
        .filter(|(_, byte)| matches!(byte, b'\r' | b'\n'))
        .take(60)
    {
        match (parse_response(&data[..len], HEAD_LEN_MAX), &whole) {
            (Ok(None), _) => {}
            (Ok(Some(early)), Ok(Some(head))) => assert_eq!((early.len, early.status), (head.len, head.status)),
            (Err(early), Err(error)) => assert_eq!(early, *error),
            (early, _) => panic!("{len}: {early:?} became {whole:?}"),
        }
    }
    let head = match whole {
        Ok(Some(head)) => head,
        Ok(None) => return assert!(data.len() < HEAD_LEN_MAX),
        Err(_) => return,
    };

    let (bytes, rest) = data.split_at(head.len);
    assert!(head.len <= HEAD_LEN_MAX && bytes.ends_with(b"\r\n\r\n"));
    assert!(
        bytes
            .split(|byte| *byte == b'\n')
            .rev()
            .skip(1)
            .all(|line| line.ends_with(b"\r"))
    );
    assert!((200..=999).contains(&head.status));
    assert!(head.count("content-length") + head.count("transfer-encoding") <= 1);
    assert!(!matches!(head.status, 204 | 304) || head.framing == Framing::Length(0));
    assert!(!head.keep_alive || head.framing != Framing::UntilClose);
    assert!(!head.keep_alive || !head.has_token("connection", "close"));
    assert!(head.iter().all(|(_, value)| is_header_value_safe(value)));

    let Ok(mut decoder) = BodyDecoder::new(head.framing, BODY_LEN_MAX) else {
        return assert!(matches!(head.framing, Framing::Length(len) if len > BODY_LEN_MAX as u64));
    };
    let mut body = Vec::new();
    let decoded = decoder.decode(rest, &mut body);
    assert!(body.len() <= BODY_LEN_MAX.min(rest.len()));
    match (decoded, whole_body(head.framing, rest)) {
        (Ok(decoded), Some(slice)) => assert_eq!((decoded.done, slice), (true, body.as_slice())),
        (Ok(decoded), None) => {
            assert!(decoded.consumed <= rest.len());
            assert!(decoded.done || decoded.consumed == rest.len());
            assert_eq!(
                decoder.finish().is_ok(),
                decoded.done || head.framing == Framing::UntilClose
            );
        }
        (Err(error), _) => assert_eq!(decoder.finish(), Err(error)),
    }
});

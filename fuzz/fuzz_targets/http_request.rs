//! Reads any bytes as a request head: what is accepted has one reading, in pieces and in whole, and survives being
//! written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::http::{
    Framing, HEADERS_MAX, is_header_value_safe, is_request_decided, parse_request, write_request, write_switching_protocols,
};
use protocol::websocket::{Tolerance, check_upgrade};

const HEAD_LEN_MAX: usize = 1024;

fuzz_target!(|data: &[u8]| {
    let whole = parse_request(data, HEAD_LEN_MAX);
    assert_eq!(is_request_decided(data, HEAD_LEN_MAX), !matches!(whole, Ok(None)));
    for len in pieces(data) {
        match (parse_request(&data[..len], HEAD_LEN_MAX), &whole) {
            (Ok(None), _) => {}
            (Ok(Some(early)), Ok(Some(head))) => assert_eq!((early.len, early.target), (head.len, head.target)),
            (Err(early), Err(error)) => assert_eq!(early, *error),
            (early, _) => panic!("{len}: {early:?} became {whole:?}"),
        }
    }
    let head = match whole {
        Ok(Some(head)) => head,
        Ok(None) => return assert!(data.len() < HEAD_LEN_MAX),
        Err(error) => return assert!(matches!(error.status(), 400 | 431 | 501 | 505)),
    };

    let bytes = &data[..head.len];
    assert!(head.len <= HEAD_LEN_MAX && bytes.ends_with(b"\r\n\r\n"));
    assert_eq!(bytes.windows(4).position(|end| end == b"\r\n\r\n"), Some(head.len - 4));
    assert!(
        bytes
            .split(|byte| *byte == b'\n')
            .rev()
            .skip(1)
            .all(|line| line.ends_with(b"\r"))
    );
    assert_eq!(
        bytes.iter().filter(|byte| **byte == b'\r').count(),
        bytes.iter().filter(|byte| **byte == b'\n').count()
    );
    assert!(
        bytes
            .iter()
            .all(|byte| !byte.is_ascii_control() || matches!(byte, b'\r' | b'\n' | b'\t'))
    );
    assert_eq!(
        head.iter().count(),
        bytes.iter().filter(|byte| **byte == b'\n').count() - 2
    );
    assert!(head.iter().count() <= HEADERS_MAX);

    assert!(head.target.starts_with('/') && head.target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
    assert!(head.count("host") == 1 || (head.count("host") == 0 && !head.http11));
    assert!(head.count("content-length") + head.count("transfer-encoding") <= 1);
    assert_eq!(head.framing == Framing::Chunked, head.count("transfer-encoding") == 1);
    assert_ne!(head.framing, Framing::UntilClose);
    assert!(head.http11 || !head.keep_alive && !head.expect_continue);
    for (name, value) in head.iter() {
        assert!(is_header_value_safe(value));
        assert!(head.headers(name).any(|same| same == value));
        assert!(!matches!(value.first(), Some(b' ' | b'\t')) && !matches!(value.last(), Some(b' ' | b'\t')));
    }
    if let Ok(upgrade) = check_upgrade(&head, Tolerance::default()) {
        assert!(head.method == "GET" && head.framing == Framing::Length(0) && upgrade.key.len() == 24);
        write_switching_protocols(&mut Vec::new(), upgrade.key, None, None);
    }

    let headers: Option<Vec<_>> = head
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("host"))
        .map(|(name, value)| Some((name, str::from_utf8(value).ok()?)))
        .collect();
    let (Some(headers), true) = (headers, head.count("host") == 1) else {
        return;
    };
    let host = str::from_utf8(head.header("host").unwrap()).expect("checked to be ASCII");
    let mut written = Vec::new();
    write_request(&mut written, head.method, &[head.target], host, &headers, None);
    // The written one has 1.1 and may have longer white space.
    match parse_request(&written, 8 * HEAD_LEN_MAX) {
        Ok(Some(again)) => {
            assert_eq!(
                (again.method, again.target, again.framing),
                (head.method, head.target, head.framing)
            );
            assert_eq!(again.len, written.len());
            let read = again.iter().skip(1);
            assert!(read.eq(headers.iter().map(|(name, value)| (*name, value.as_bytes()))));
        }
        other => panic!("{}: {other:?}", written.escape_ascii()),
    }
});

/// Some lengths of the data, most of them around its line ends, where the states change.
fn pieces(data: &[u8]) -> impl Iterator<Item = usize> {
    let ends = data
        .iter()
        .enumerate()
        .filter(|(_, byte)| matches!(byte, b'\r' | b'\n'))
        .map(|(at, _)| at);
    ends.flat_map(|at| [at, at + 1])
        .take(40)
        .chain([1, data.len().saturating_sub(1)])
        .filter(|len| *len <= data.len())
}

//! Reads any bytes as a PROXY protocol header: in pieces it is the same as whole, and what it says of TLS is safe in a header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::mapping::TlsFacts;
use protocol::proxy_protocol::{PROXY_HEADER_LEN_MAX, parse};

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    // What is decided stays so, whatever follows.
    let pieces = (0..input.len().min(PROXY_HEADER_LEN_MAX)).map(|len| parse(&input[..len]));
    if let Some(decided) = pieces.into_iter().find(|parsed| *parsed != Ok(None)) {
        assert_eq!(decided, whole);
    }
    let Ok(Some(header)) = whole else { return };
    assert!(header.len <= input.len() && header.len <= PROXY_HEADER_LEN_MAX);
    let Some(tls) = header.tls else { return };
    for (name, value) in tls.headers() {
        let is_visible = value.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(is_visible && !value.is_empty(), "{name}: {value}");
    }
    let mut bytes = Vec::new();
    tls.write(&mut bytes);
    assert_eq!(TlsFacts::read(&mut &*bytes), Some(*tls));
});

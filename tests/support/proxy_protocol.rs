//! Writes the header that a load balancer puts before a connection (PROXY protocol, version 2).

/// A TCP over IPv4 connection from that address, with `values` behind the addresses.
pub fn header(from: [u8; 4], values: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend(u16::try_from(12 + values.len()).unwrap().to_be_bytes());
    header.extend(from);
    header.extend([127, 0, 0, 1]);
    header.extend([0x30, 0x39, 0x0F, 0xA0]);
    header.extend(values);
    header
}

/// One value behind the addresses, or within that of TLS.
pub fn value(kind: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[kind], &len[..], content].concat()
}

/// What a balancer says of TLS: flags of the client, the result of the verification, and values.
pub fn ssl(client: u8, verify: u32, values: &[Vec<u8>]) -> Vec<u8> {
    value(0x20, &[&[client], &verify.to_be_bytes()[..], &values.concat()].concat())
}

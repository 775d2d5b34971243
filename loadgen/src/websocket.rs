//! Reads and writes WebSocket frames (RFC 6455, 5.2) and the accept key of the opening handshake: as much as the
//! harness needs.

/// A text frame.
pub const TEXT: u8 = 1;
/// A binary frame.
pub const BINARY: u8 = 2;
/// A close frame.
pub const CLOSE: u8 = 8;
/// A ping.
pub const PING: u8 = 9;
/// A pong.
pub const PONG: u8 = 10;

/// Longest payload that this package takes.
pub const PAYLOAD_LEN_MAX: usize = 1 << 20;

/// The start of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// The last (or only) frame of its message.
    pub fin: bool,
    /// Four bits: [`TEXT`] and so on.
    pub opcode: u8,
    /// The key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// Bytes before the payload.
    pub header_len: usize,
    /// Bytes of the payload.
    pub payload_len: usize,
}

/// Why bytes are not a frame. The peer's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameError {
    /// A reserved bit is set; no extension was negotiated.
    ReservedBits,
    /// Longer than [`PAYLOAD_LEN_MAX`].
    TooLong,
    /// A control frame that is fragmented or longer than 125 bytes.
    Control,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None`: more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`]; the connection is beyond repair.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBits);
        }
        let (opcode, fin) = (first & 0x0f, first & 0x80 != 0);
        let (payload_len, length_len) = match second & 0x7f {
            126 => match rest.first_chunk::<2>() {
                Some(len) => (u64::from(u16::from_be_bytes(*len)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(len) => (u64::from_be_bytes(*len), 8),
                None => return Ok(None),
            },
            len => (u64::from(len), 0),
        };
        if payload_len > PAYLOAD_LEN_MAX as u64 {
            return Err(FrameError::TooLong);
        }
        if opcode >= 8 && (!fin || payload_len > 125) {
            return Err(FrameError::Control);
        }
        let mut header_len = 2 + length_len;
        let mask = if second & 0x80 != 0 {
            let Some(mask) = rest[length_len..].first_chunk::<4>() else {
                return Ok(None);
            };
            header_len += 4;
            Some(*mask)
        } else {
            None
        };
        Ok(Some(Self {
            fin,
            opcode,
            mask,
            header_len,
            payload_len: payload_len as usize,
        }))
    }

    /// Bytes of header and payload together.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.header_len + self.payload_len
    }
}

/// Appends a server's frame (not masked).
pub fn write_server_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_start(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

/// Appends a client's frame, masked with `mask`.
pub fn write_client_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    write_start(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// Masks or unmasks in place.
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (chunks, tail) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455, 4.2.2).
#[must_use]
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let mut message = Vec::with_capacity(64);
    message.extend_from_slice(key);
    message.extend_from_slice(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut out = [0; 28];
    base64(&sha1(&message), &mut out);
    out
}

/// A `Sec-WebSocket-Key` made of `nonce`.
#[must_use]
pub fn client_key(nonce: u128) -> [u8; 24] {
    let mut out = [0; 24];
    base64(&nonce.to_be_bytes(), &mut out);
    out
}

fn write_start(out: &mut Vec<u8>, opcode: u8, len: usize, mask_bit: u8) {
    out.push(0x80 | opcode);
    match len {
        0..=125 => out.push(mask_bit | len as u8),
        126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

fn base64(bytes: &[u8], out: &mut [u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert_eq!(
        out.len(),
        bytes.len().div_ceil(3) * 4,
        "base64 writes four characters for three bytes"
    );
    for (three, four) in bytes.chunks(3).zip(out.chunks_mut(4)) {
        let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (index, character) in four.iter_mut().enumerate() {
            *character = if index <= three.len() {
                ALPHABET[(bits >> (18 - 6 * index) & 63) as usize]
            } else {
                b'='
            };
        }
    }
}

/// SHA-1 (FIPS 180-4), here only because the opening handshake asks for it.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() < message.len() + 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());

    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in padded.as_chunks::<64>().0 {
        let mut words = [0_u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        for t in 16..80 {
            words[t] = (words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (t, word) in words.iter().enumerate() {
            let (f, k) = match t {
                0..=19 => ((b & c) | (!b & d), 0x5a82_7999),
                20..=39 => (b ^ c ^ d, 0x6ed9_eba1),
                40..=59 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(f)
                .wrapping_add(e)
                .wrapping_add(k)
                .wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(value);
        }
    }
    let mut out = [0; 20];
    for (bytes, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_key_is_the_one_of_the_rfc() {
        assert_eq!(
            &accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
            b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn sha1_pads_at_every_length_around_a_block() {
        let hex = |bytes: [u8; 20]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(sha1(b"")), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(hex(sha1(b"abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex(sha1(&[b'a'; 55])), "c1c8bbdc22796e28c0e15163d20899b65621d65a");
        assert_eq!(hex(sha1(&[b'a'; 56])), "c2db330f6083854c99d4b5bfb6e8f29f201be699");
        assert_eq!(hex(sha1(&[b'a'; 64])), "0098ba824b5c16427bd7a1122a5a442a25ec644d");
    }

    #[test]
    fn a_client_frame_comes_back_at_every_length_form() {
        let lengths = [0, 1, 7, 8, 125, 126, 127, 65_535, 65_536, PAYLOAD_LEN_MAX];
        for len in lengths {
            let payload: Vec<u8> = (0..len).map(|index| index as u8).collect();
            let mut frame = Vec::new();
            write_client_frame(&mut frame, TEXT, &payload, [1, 2, 3, 250]);
            let header = Header::parse(&frame).unwrap().unwrap();
            assert_eq!((header.fin, header.opcode, header.payload_len), (true, TEXT, len));
            assert_eq!(header.frame_len(), frame.len());
            apply_mask(&mut frame[header.header_len..], header.mask.unwrap());
            assert!(frame[header.header_len..] == payload[..], "payload of {len} bytes");
        }
    }

    #[test]
    fn a_header_cut_anywhere_asks_for_more() {
        for len in [0, 125, 126, 65_536] {
            let mut frame = Vec::new();
            write_client_frame(&mut frame, TEXT, &vec![b'x'; len], [9, 9, 9, 9]);
            let header = Header::parse(&frame).unwrap().unwrap();
            for cut in 0..header.header_len {
                assert_eq!(
                    Header::parse(&frame[..cut]),
                    Ok(None),
                    "{cut} bytes of a frame of {len}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        assert_eq!(Header::parse(&[0xc1, 0]), Err(FrameError::ReservedBits));
        assert_eq!(Header::parse(&[0x09, 0]), Err(FrameError::Control));
        assert_eq!(Header::parse(&[0x89, 126, 0, 126]), Err(FrameError::Control));
        assert_eq!(
            Header::parse(&[0x81, 127, 255, 0, 0, 0, 0, 0, 0, 0]),
            Err(FrameError::TooLong)
        );
        assert_eq!(
            Header::parse(&[0x81, 127, 0, 0, 0, 0, 0, 16, 0, 1]),
            Err(FrameError::TooLong)
        );
    }
}

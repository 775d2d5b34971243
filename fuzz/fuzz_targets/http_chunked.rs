//! Reads any bytes as a chunked body: cut anywhere it is the same body, and it is the one that a decoder written the
//! simple way, over the whole input, finds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::http::{BodyDecoder, BodyError, Decoded, Framing};

const BODY_LEN_MAX: usize = 300;

fuzz_target!(|data: &[u8]| {
    let Some((cut, data)) = data.split_first() else { return };
    let whole = decode(data.chunks(data.len().max(1)));
    assert_eq!(decode(data.chunks(1)), whole);
    assert_eq!(decode(data.chunks(usize::from(*cut) + 1)), whole);

    let (result, body) = whole;
    assert!(body.len() <= BODY_LEN_MAX.min(data.len()) && body.capacity() <= 2 * data.len().max(8));
    match result {
        Ok(Decoded { consumed, done: true }) => {
            assert_eq!(simple(&data[..consumed]).as_deref(), Some(body.as_slice()));
            // Size, line ends and data of each chunk, the last one, and what extensions and trailers may have.
            assert!(consumed <= body.len() * 13 + 14 + 4096 + 4096);
        }
        Ok(Decoded { consumed, done: false }) => assert_eq!(consumed, data.len()),
        Err(BodyError::TooLong { limit }) => assert_eq!(limit, BODY_LEN_MAX),
        Err(_) => {
            assert!((0..=data.len()).all(|len| simple(&data[..len]).is_none_or(|body| body.len() > BODY_LEN_MAX)))
        }
    }
});

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Result<Decoded, BodyError>, Vec<u8>) {
    let mut decoder = BodyDecoder::new(Framing::Chunked, BODY_LEN_MAX).unwrap();
    let (mut body, mut all) = (Vec::new(), 0);
    for piece in pieces {
        match decoder.decode(piece, &mut body) {
            Ok(Decoded { consumed, done }) => {
                all += consumed;
                assert_eq!(decoder.is_done(), done);
                assert_eq!(decoder.finish().is_ok(), done);
                if done {
                    return (Ok(Decoded { consumed: all, done }), body);
                }
            }
            Err(error) => {
                assert_eq!(
                    (decoder.decode(b"0", &mut body), decoder.finish()),
                    (Err(error), Err(error))
                );
                return (Err(error), body);
            }
        }
    }
    (
        Ok(Decoded {
            consumed: all,
            done: false,
        }),
        body,
    )
}

/// The body, if `input` is exactly one chunked body without more than the bounds allow.
fn simple(mut input: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let mut unread = 0;
    loop {
        let line = take_line(&mut input)?;
        let (digits, extension) = line.split_at(line.iter().position(|byte| *byte == b';').unwrap_or(line.len()));
        unread += extension.len();
        if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) || !is_text(extension) {
            return None;
        }
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(input.get(..size)?);
        input = &input[size..];
        input = input.strip_prefix(b"\r\n")?;
    }
    loop {
        let line = take_line(&mut input)?;
        if line.is_empty() {
            return (input.is_empty() && unread <= 4096).then_some(body);
        }
        unread += line.len() + 1;
        let colon = line.iter().position(|byte| *byte == b':')?;
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if colon == 0 || !line[..colon].iter().all(is_token) || !is_text(&line[colon..]) {
            return None;
        }
    }
}

/// The line at the start of `input`, without its end.
fn take_line<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = input.windows(2).position(|end| end == b"\r\n")?;
    let line = &input[..end];
    *input = &input[end + 2..];
    Some(line)
}

fn is_text(text: &[u8]) -> bool {
    text.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

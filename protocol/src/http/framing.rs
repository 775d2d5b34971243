//! Decides how a message's body is delimited. No other file reads `Content-Length` and `Transfer-Encoding`.

use super::head::HeadError;
use super::headers::{Headers, is_token, trim};

/// How a message's body is delimited (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// This many bytes; `Length(0)` is no body.
    Length(u64),
    /// Chunks (RFC 9112, 7.1).
    Chunked,
    /// Until the peer closes. Responses only.
    UntilClose,
}

impl Framing {
    /// Whether no byte of a body follows the head.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Framing::Length(0)
    }
}

/// What the headers say about the body; `None` if they say nothing. Stricter than RFC 9112, 6.3, which allows to repair
/// several lengths: peers that repair differently see different messages.
#[inline]
pub(super) fn declared_framing(headers: &Headers<'_>, http11: bool) -> Result<Option<Framing>, HeadError> {
    let mut lengths = headers.headers("content-length");
    let mut codings = headers.headers("transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(HeadError::LengthAndCoding),
        (Some(value), None) => {
            if lengths.next().is_some() {
                return Err(HeadError::LengthRepeated);
            }
            content_length(value)
                .map(|len| Some(Framing::Length(len)))
                .ok_or(HeadError::LengthValue)
        }
        (None, Some(value)) => {
            if !http11 {
                return Err(HeadError::CodingVersion);
            }
            if codings.next().is_some() {
                return Err(HeadError::CodingRepeated);
            }
            check_coding(value).map(|()| Some(Framing::Chunked))
        }
    }
}

/// `value` as a length: digits and nothing else, few enough to be below 2^64 without an overflow check.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > LENGTH_DIGITS_MAX {
        return None;
    }
    value.iter().try_fold(0, |len, byte| {
        byte.is_ascii_digit().then(|| len * 10 + u64::from(byte - b'0'))
    })
}

/// Accepts `chunked` alone.
fn check_coding(value: &[u8]) -> Result<(), HeadError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut chunked_seen = false;
    for coding in value.split(|byte| *byte == b',').map(trim) {
        if chunked_seen || !is_token(coding) {
            return Err(HeadError::CodingValue);
        }
        chunked_seen = coding.eq_ignore_ascii_case(b"chunked");
    }
    Err(HeadError::CodingUnknown)
}

/// 10^19 - 1 is below 2^64.
const LENGTH_DIGITS_MAX: usize = 19;
const _: () = assert!(10u64.checked_pow(LENGTH_DIGITS_MAX as u32).is_some());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        let accepted = [
            ("0", 0),
            ("5", 5),
            ("005", 5),
            ("1048576", 1_048_576),
            ("9999999999999999999", 9_999_999_999_999_999_999),
        ];
        for (value, len) in accepted {
            assert_eq!(content_length(value.as_bytes()), Some(len), "{value}");
        }
        let refused = [
            "",
            "+5",
            "-5",
            "5,5",
            "5, 5",
            "5 5",
            "0x5",
            "5.0",
            "5e1",
            "A",
            "5;",
            "\"5\"",
            "٥",
            "10000000000000000000",
            "18446744073709551616",
            "00000000000000000005",
        ];
        for value in refused {
            assert_eq!(content_length(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn chunked_alone_is_the_transfer_coding_that_we_read() {
        for value in ["chunked", "Chunked", "CHUNKED"] {
            assert_eq!(check_coding(value.as_bytes()), Ok(()), "{value}");
        }
        for value in ["gzip", "identity", "gzip, chunked", "chunke", "xchunked", "chunked2"] {
            assert_eq!(check_coding(value.as_bytes()), Err(HeadError::CodingUnknown), "{value}");
        }
        for value in [
            "",
            ",",
            "chunked,",
            ",chunked",
            "chunked, chunked",
            "chunked, gzip",
            "chunked;q=1",
            "\"chunked\"",
            "chunked chunked",
            "gzip;x",
            "\u{b}chunked",
        ] {
            assert_eq!(check_coding(value.as_bytes()), Err(HeadError::CodingValue), "{value}");
        }
    }
}

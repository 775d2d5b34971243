//! Finds where the head of a message ends, and names why one is refused.

/// No head may be longer, whatever the caller's bound, in bytes: positions in a head are kept in 16 bits.
pub const HEAD_LEN_MAX: usize = u16::MAX as usize;

/// Why a head is not one that we read. The peer's fault, never ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeadError {
    /// No end within `limit` bytes.
    #[error("head longer than {limit} bytes")]
    TooLong {
        /// The bound, in bytes.
        limit: usize,
    },
    /// More header lines than [`HEADERS_MAX`](super::HEADERS_MAX).
    #[error("more than {limit} headers")]
    HeadersTooMany {
        /// The bound, in lines.
        limit: usize,
    },
    /// A line that ends in a bare LF, or an empty line before the start line (RFC 9112, 2.2).
    #[error("bad line end at byte {at}")]
    LineEnd {
        /// Index of the LF, counted from the start of the head.
        at: usize,
    },
    /// Not a request line or status line (RFC 9112, 3 and 4).
    #[error("malformed start line")]
    StartLine,
    /// Not the origin-form, or a byte that no target has (RFC 9112, 3.2.1).
    #[error("bad byte in the target at {at}")]
    Target {
        /// Index in the target.
        at: usize,
    },
    /// A CONNECT, or a TRACE with content: what follows is no request (RFC 9110, 9.3.6 and 9.3.8).
    #[error("CONNECT, or TRACE with content")]
    Method,
    /// A version other than 1.0 and 1.1.
    #[error("HTTP version {major}.{minor}")]
    Version {
        /// The digit before the dot.
        major: u8,
        /// The digit after it.
        minor: u8,
    },
    /// A header line without a proper name and colon: an obs-fold, white space before the colon (RFC 9112, 5.1, 5.2).
    #[error("malformed header name")]
    HeaderName,
    /// A control character in a header value (RFC 9110, 5.5).
    #[error("control character in a header value")]
    HeaderValue,
    /// HTTP/1.1 without `Host` (RFC 9112, 3.2).
    #[error("no Host")]
    HostMissing,
    /// More than one `Host`.
    #[error("repeated Host")]
    HostRepeated,
    /// A `Host` that is not `uri-host [ ":" port ]`.
    #[error("malformed Host")]
    HostValue,
    /// More than one `Content-Length`, even if they agree.
    #[error("repeated Content-Length")]
    LengthRepeated,
    /// A `Content-Length` that is not 1 to 19 digits.
    #[error("malformed Content-Length")]
    LengthValue,
    /// `Content-Length` and `Transfer-Encoding` (RFC 9112, 6.3).
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// More than one `Transfer-Encoding`.
    #[error("repeated Transfer-Encoding")]
    CodingRepeated,
    /// A `Transfer-Encoding` that is no list of tokens, or where `chunked` is repeated or not the last.
    #[error("malformed Transfer-Encoding")]
    CodingValue,
    /// A transfer coding other than `chunked` (RFC 9112, 6.1).
    #[error("unknown transfer coding")]
    CodingUnknown,
    /// `Transfer-Encoding` in HTTP/1.0 (RFC 9112, 6.1).
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingVersion,
    /// A status that is no answer to our requests: 101, or outside 200 to 999 after the interim ones.
    #[error("unexpected status {status}")]
    Status {
        /// The status, three digits.
        status: u16,
    },
    /// More interim responses than [`INTERIM_MAX`](super::INTERIM_MAX).
    #[error("more than {limit} interim responses")]
    InterimTooMany {
        /// How many are allowed.
        limit: usize,
    },
}

impl HeadError {
    /// The status to answer a request with: 400, 431, 501 or 505. The connection closes after it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            HeadError::TooLong { .. } | HeadError::HeadersTooMany { .. } => 431,
            HeadError::CodingUnknown => 501,
            HeadError::Version { .. } => 505,
            _ => 400,
        }
    }
}

/// The length of the head at the start of `buf`, its blank line included; `None` while there is no blank line yet.
/// One pass over the line ends, nothing else: it is repeated whenever bytes drip in.
pub(super) fn head_len(buf: &[u8], head_len_max: usize) -> Result<Option<usize>, HeadError> {
    let limit = head_len_max.min(HEAD_LEN_MAX);
    let window = buf.get(..limit).unwrap_or(buf);
    let mut line_start = 0;
    for lf in memchr::memchr_iter(b'\n', window) {
        let before = lf.checked_sub(1).and_then(|at| window.get(at));
        if before != Some(&b'\r') || lf == 1 {
            return Err(HeadError::LineEnd { at: lf });
        }
        if lf == line_start + 1 {
            return Ok(Some(lf + 1));
        }
        line_start = lf + 1;
    }
    if buf.len() >= limit {
        return Err(HeadError::TooLong { limit });
    }
    Ok(None)
}

/// What `httparse` found wrong with a head, in our words. `version` is where the start line should have its version.
pub(super) fn refusal(error: httparse::Error, version: &[u8]) -> HeadError {
    use httparse::Error;
    match error {
        Error::HeaderName => HeadError::HeaderName,
        Error::HeaderValue => HeadError::HeaderValue,
        Error::TooManyHeaders => HeadError::HeadersTooMany {
            limit: super::HEADERS_MAX,
        },
        Error::Version => match version {
            [
                b'H',
                b'T',
                b'T',
                b'P',
                b'/',
                major @ b'0'..=b'9',
                b'.',
                minor @ b'0'..=b'9',
            ] => HeadError::Version {
                major: major - b'0',
                minor: minor - b'0',
            },
            _ => HeadError::StartLine,
        },
        Error::NewLine | Error::Status | Error::Token => HeadError::StartLine,
    }
}

/// Whether `byte` may stand in a token: a method, a header name, a transfer coding (RFC 9110, 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    class(byte) & TOKEN != 0
}

/// Whether `byte` may stand in a header value: HTAB, SP, visible ASCII and obs-text (RFC 9110, 5.5).
pub(super) fn is_value_byte(byte: u8) -> bool {
    class(byte) & VALUE != 0
}

/// Whether `byte` may stand in a target: RFC 3986, 3.3 and 3.4, and what browsers leave as it is. The others have
/// several meanings among servers.
pub(super) fn is_target_byte(byte: u8) -> bool {
    class(byte) & TARGET != 0
}

/// Whether `byte` may stand in `uri-host [ ":" port ]` (RFC 9110, 7.2).
pub(super) fn is_host_byte(byte: u8) -> bool {
    class(byte) & HOST != 0
}

#[allow(clippy::indexing_slicing, reason = "each byte has its class")]
fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// Where each byte may stand: every byte of a head that we read or write is looked up.
#[allow(clippy::indexing_slicing, reason = "it is done while this is compiled")]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte <= u8::MAX as usize {
        classes[byte] = classes_of(byte as u8);
        byte += 1;
    }
    classes
};

const fn classes_of(byte: u8) -> u8 {
    let is_mark = matches!(
        byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
    );
    let is_of_a_host = matches!(
        byte,
        b'-' | b'.'
            | b'_'
            | b'~'
            | b'%'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'='
            | b':'
            | b'['
            | b']'
    );
    let is_ambiguous = matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'`');
    let mut classes = 0;
    if byte.is_ascii_alphanumeric() || is_mark {
        classes |= TOKEN;
    }
    if byte == b'\t' || (byte >= b' ' && byte != 0x7F) {
        classes |= VALUE;
    }
    if byte.is_ascii_graphic() && !is_ambiguous {
        classes |= TARGET;
    }
    if byte.is_ascii_alphanumeric() || is_of_a_host {
        classes |= HOST;
    }
    classes
}

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;
const HOST: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_its_first_blank_line() {
        assert_eq!(head_len(b"", 100), Ok(None));
        assert_eq!(head_len(b"A\r\nB\r\n\r", 100), Ok(None));
        assert_eq!(head_len(b"A\r\nB\r\n\r\n", 100), Ok(Some(8)));
        assert_eq!(
            head_len(b"A\r\nB\r\n\r\nC\n\r\n\r\n", 100),
            Ok(Some(8)),
            "what follows is not looked at"
        );
    }

    #[test]
    fn a_head_at_the_limit_is_read_and_one_above_is_not() {
        assert_eq!(head_len(b"A\r\nB\r\n\r\n", 8), Ok(Some(8)));
        assert_eq!(head_len(b"A\r\nB\r\n\r\n", 7), Err(HeadError::TooLong { limit: 7 }));
        assert_eq!(head_len(b"A\r\nB\r\n", 7), Ok(None));
        assert_eq!(
            head_len(b"A\r\nB\r\n\r", 7),
            Err(HeadError::TooLong { limit: 7 }),
            "no end can follow any more"
        );
        let mut longest = vec![b'a'; HEAD_LEN_MAX - 4];
        longest.extend_from_slice(b"\r\n\r\n");
        assert_eq!(head_len(&longest, usize::MAX), Ok(Some(HEAD_LEN_MAX)));
        longest.insert(0, b'a');
        assert_eq!(
            head_len(&longest, usize::MAX),
            Err(HeadError::TooLong { limit: HEAD_LEN_MAX })
        );
    }

    #[test]
    fn a_line_ends_with_cr_lf_and_nothing_else() {
        for (bytes, at) in [
            (&b"\n"[..], 0),
            (b"\r\n", 1),
            (b"A\n", 1),
            (b"A\r\nB\n\r\n", 4),
            (b"A\r\n\n", 3),
        ] {
            assert_eq!(
                head_len(bytes, 100),
                Err(HeadError::LineEnd { at }),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn every_refusal_has_its_status_and_short_words() {
        let errors = [
            (HeadError::TooLong { limit: 8192 }, 431, "head longer than 8192 bytes"),
            (HeadError::HeadersTooMany { limit: 64 }, 431, "more than 64 headers"),
            (HeadError::CodingUnknown, 501, "unknown transfer coding"),
            (HeadError::Version { major: 2, minor: 0 }, 505, "HTTP version 2.0"),
            (HeadError::LengthRepeated, 400, "repeated Content-Length"),
        ];
        for (error, status, words) in errors {
            assert_eq!(error.status(), status);
            assert_eq!(error.to_string(), words);
        }
    }
}

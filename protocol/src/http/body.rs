//! Decodes the body of a request or response as its bytes come.

use super::chunked::ChunkedDecoder;
use super::framing::Framing;

/// Takes a body out of the bytes that follow a head. The caller owns the buffers.
///
/// Invariants:
/// - No more than `body_len_max` bytes are appended, and none is reserved before it came.
/// - Bytes after the end are never consumed.
/// - After an error every call gives the same error.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    /// Body bytes that may still come.
    left: usize,
    limit: usize,
}

/// What one call of [`BodyDecoder::decode`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decoded {
    /// Bytes of the input that belong to this body.
    pub consumed: usize,
    /// Whether the body is complete.
    pub done: bool,
}

/// Why a body is not one that we read. The peer's fault, never ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// More than `limit` bytes, or a length that says so.
    #[error("body longer than {limit} bytes")]
    TooLong {
        /// The bound, in bytes.
        limit: usize,
    },
    /// A malformed chunk: its size, its extension, or the line end after it (RFC 9112, 7.1).
    #[error("malformed chunk")]
    Chunk,
    /// A malformed trailer line (RFC 9112, 7.1.2).
    #[error("malformed trailer")]
    Trailer,
    /// More bytes of chunk extensions and trailers, which nobody reads, than `limit` in one body.
    #[error("chunk extensions and trailers longer than {limit} bytes")]
    Overhead {
        /// The bound, in bytes.
        limit: usize,
    },
    /// The peer closed before the end.
    #[error("body cut off")]
    Truncated,
}

impl BodyError {
    /// The status to answer a request with: 400 or 413. The connection closes after it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            BodyError::TooLong { .. } => 413,
            _ => 400,
        }
    }
}

impl BodyDecoder {
    /// A decoder for one body of at most `body_len_max` bytes.
    ///
    /// # Errors
    /// [`BodyError::TooLong`] when the length that the head claims is over the bound.
    pub fn new(framing: Framing, body_len_max: usize) -> Result<Self, BodyError> {
        let (state, left) = match framing {
            Framing::Length(0) => (State::Done, 0),
            Framing::Length(len) => match usize::try_from(len) {
                Ok(len) if len <= body_len_max => (State::Length, len),
                _ => return Err(BodyError::TooLong { limit: body_len_max }),
            },
            Framing::Chunked => (State::Chunked(ChunkedDecoder::new()), body_len_max),
            Framing::UntilClose => (State::UntilClose, body_len_max),
        };
        Ok(BodyDecoder {
            state,
            left,
            limit: body_len_max,
        })
    }

    /// Appends what `input` has of this body to `body`. Bytes after the end are left alone.
    ///
    /// # Errors
    /// [`BodyError`]; what was appended before is then of no use.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<Decoded, BodyError> {
        let result = match &mut self.state {
            State::Done => Ok(Decoded {
                consumed: 0,
                done: true,
            }),
            State::Failed(error) => Err(*error),
            State::Length => {
                let consumed = input.len().min(self.left);
                body.extend_from_slice(input.get(..consumed).unwrap_or(input));
                self.left -= consumed;
                Ok(Decoded {
                    consumed,
                    done: self.left == 0,
                })
            }
            State::UntilClose => {
                if input.len() > self.left {
                    Err(BodyError::TooLong { limit: self.limit })
                } else {
                    body.extend_from_slice(input);
                    self.left -= input.len();
                    Ok(Decoded {
                        consumed: input.len(),
                        done: false,
                    })
                }
            }
            State::Chunked(chunks) => match chunks.decode(input, &mut self.left, body) {
                Err(BodyError::TooLong { .. }) => Err(BodyError::TooLong { limit: self.limit }),
                result => result,
            },
        };
        match result {
            Ok(Decoded { done: true, .. }) => self.state = State::Done,
            Ok(_) => {}
            Err(error) => self.state = State::Failed(error),
        }
        result
    }

    /// The peer closed. `Ok` for a body that ends so ([`Framing::UntilClose`]) or was complete.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] for any other; an earlier error again.
    pub fn finish(&self) -> Result<(), BodyError> {
        match self.state {
            State::Done | State::UntilClose => Ok(()),
            State::Failed(error) => Err(error),
            State::Length | State::Chunked(_) => Err(BodyError::Truncated),
        }
    }

    /// Whether the body is complete. One that ends with the connection never is before the close.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

/// The body, if the head claimed its length and `after_head` has it whole: the usual case, without a copy. Bytes after
/// the end are not in it. The caller bounds the length by how much it reads.
#[must_use]
pub fn whole_body(framing: Framing, after_head: &[u8]) -> Option<&[u8]> {
    match framing {
        Framing::Length(len) => after_head.get(..usize::try_from(len).ok()?),
        Framing::Chunked | Framing::UntilClose => None,
    }
}

#[derive(Clone, Debug)]
enum State {
    Length,
    UntilClose,
    Chunked(ChunkedDecoder),
    Done,
    Failed(BodyError),
}

const _: () = assert!(size_of::<BodyDecoder>() <= 48, "one per request in flight");

#[cfg(test)]
mod tests {
    use super::*;

    /// All of `input` in one piece, and then whether the close is a proper end.
    fn read(
        framing: Framing,
        limit: usize,
        input: &[u8],
    ) -> (Result<Decoded, BodyError>, Vec<u8>, Result<(), BodyError>) {
        let mut body = Vec::new();
        match BodyDecoder::new(framing, limit) {
            Ok(mut decoder) => {
                let decoded = decoder.decode(input, &mut body);
                (decoded, body, decoder.finish())
            }
            Err(error) => (Err(error), body, Err(error)),
        }
    }

    #[test]
    fn a_body_with_a_length_ends_there() {
        let done = |consumed| Ok(Decoded { consumed, done: true });
        let more = |consumed| Ok(Decoded { consumed, done: false });
        assert_eq!(read(Framing::Length(0), 9, b"GET"), (done(0), b"".to_vec(), Ok(())));
        assert_eq!(
            read(Framing::Length(3), 9, b"abcGET"),
            (done(3), b"abc".to_vec(), Ok(()))
        );
        assert_eq!(
            read(Framing::Length(3), 9, b"ab"),
            (more(2), b"ab".to_vec(), Err(BodyError::Truncated))
        );
        assert_eq!(read(Framing::UntilClose, 9, b"ab"), (more(2), b"ab".to_vec(), Ok(())));
    }

    #[test]
    fn a_body_at_the_limit_is_read_and_one_above_is_not() {
        let too_long = Err(BodyError::TooLong { limit: 3 });
        for (framing, at_limit, above) in [
            (Framing::UntilClose, &b"abc"[..], &b"abcd"[..]),
            (Framing::Chunked, b"3\r\nabc\r\n0\r\n\r\n", b"4\r\nabcd\r\n0\r\n\r\n"),
            (Framing::Chunked, b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"2\r\nab\r\n2\r\n"),
            (Framing::Chunked, b"003\r\nabc\r\n0\r\n\r\n", b"ffffffff\r\n"),
        ] {
            let (decoded, body, finish) = read(framing, 3, at_limit);
            assert_eq!(
                (decoded.map(|decoded| decoded.consumed), body.as_slice()),
                (Ok(at_limit.len()), &b"abc"[..])
            );
            assert_eq!(finish, Ok(()));
            let (decoded, _, finish) = read(framing, 3, above);
            assert_eq!(
                (decoded.map(|_| ()), finish),
                (too_long, too_long),
                "{}",
                above.escape_ascii()
            );
        }
        assert!(BodyDecoder::new(Framing::Length(3), 3).is_ok());
        for len in [4, u64::from(u32::MAX) + 1, u64::MAX] {
            assert_eq!(
                BodyDecoder::new(Framing::Length(len), 3).unwrap_err(),
                BodyError::TooLong { limit: 3 }
            );
        }
        assert_eq!(
            (BodyError::TooLong { limit: 3 }.status(), BodyError::Chunk.status()),
            (413, 400)
        );
    }

    #[test]
    fn nothing_is_reserved_for_a_claimed_length() {
        let mut body = Vec::new();
        for (framing, input) in [
            (Framing::Length(1 << 30), &b"ab"[..]),
            (Framing::Chunked, b"3fffffff\r\nab"),
        ] {
            BodyDecoder::new(framing, 1 << 30)
                .unwrap()
                .decode(input, &mut body)
                .unwrap();
        }
        assert_eq!(body, b"abab");
        assert!(body.capacity() < 64, "{}", body.capacity());
    }

    #[test]
    fn an_error_stays() {
        let mut decoder = BodyDecoder::new(Framing::Chunked, 9).unwrap();
        let mut body = Vec::new();
        for input in [&b"x"[..], b"1\r\na\r\n", b""] {
            assert_eq!(decoder.decode(input, &mut body), Err(BodyError::Chunk));
        }
        assert_eq!((decoder.finish(), decoder.is_done()), (Err(BodyError::Chunk), false));
    }

    #[test]
    fn a_body_that_drips_in_is_the_same_body() {
        let chunked =
            b"5;a=\"b\"\r\nhello\r\n1\r\n \r\n00B\r\nworld, all!\r\n0\r\nT: x\r\nU:\r\n\r\nGET / HTTP/1.1\r\n";
        let cases = [
            (Framing::Chunked, &chunked[..]),
            (Framing::Chunked, b"2\r\nabX\r\n"),
            (Framing::Chunked, b"2\r\nab\r\n0\r\nT x\r\n\r\n"),
            (Framing::Length(5), b"hello, surplus"),
            (Framing::UntilClose, b"hello"),
        ];
        for (framing, input) in cases {
            let whole = read(framing, 17, input);
            for first in 0..=input.len() {
                for second in first..=input.len() {
                    let mut decoder = BodyDecoder::new(framing, 17).unwrap();
                    let (mut body, mut consumed) = (Vec::new(), 0);
                    let mut decoded = Ok(Decoded {
                        consumed: 0,
                        done: false,
                    });
                    for end in [first, second, input.len()] {
                        decoded = decoder.decode(&input[consumed..end.max(consumed)], &mut body);
                        let Ok(piece) = decoded else { break };
                        consumed += piece.consumed;
                        assert_eq!((piece.done, piece.done || consumed == end), (decoder.is_done(), true));
                    }
                    let decoded = decoded.map(|piece| Decoded {
                        consumed,
                        done: piece.done,
                    });
                    assert_eq!(
                        (decoded, body, decoder.finish()),
                        whole,
                        "{first} {second} {}",
                        input.escape_ascii()
                    );
                }
            }
        }
        assert_eq!(read(Framing::Chunked, 17, chunked).1, b"hello world, all!");
    }

    #[test]
    fn a_whole_body_is_not_copied() {
        assert_eq!(whole_body(Framing::Length(3), b"abcGET"), Some(&b"abc"[..]));
        assert_eq!(whole_body(Framing::Length(3), b"ab"), None);
        assert_eq!(whole_body(Framing::Length(0), b""), Some(&b""[..]));
        assert_eq!(whole_body(Framing::Length(u64::MAX), b"abc"), None);
        assert_eq!(whole_body(Framing::Chunked, b"0\r\n\r\n"), None);
        assert_eq!(whole_body(Framing::UntilClose, b"abc"), None);
    }
}

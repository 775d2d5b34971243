//! The body of a request or response, decoded as its bytes come.

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
                body.extend_from_slice(&input[..consumed]);
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

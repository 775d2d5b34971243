//! Decodes the chunked transfer coding (RFC 9112, 7.1), byte by byte around the data and in slices within it.
//!
//! What it costs is bounded: a chunk of at least one byte has at most [`SIZE_DIGITS_MAX`] digits and two line ends
//! around it, and chunk extensions and trailers, which are checked and dropped, share [`OVERHEAD_LEN_MAX`] bytes per
//! body.

use super::body::{BodyError, Decoded};
use super::head::{is_token_byte, is_value_byte};

/// Most digits of a chunk size, leading zeros included.
pub(super) const SIZE_DIGITS_MAX: u8 = 8;

/// Most bytes of chunk extensions and trailers in one body, together.
pub(super) const OVERHEAD_LEN_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub(super) struct ChunkedDecoder {
    state: State,
    overhead_left: u16,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum State {
    Size { size: u32, digits: u8 },
    Extension { size: u32 },
    SizeLf { size: u32 },
    Data { left: u32 },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

impl ChunkedDecoder {
    pub(super) fn new() -> Self {
        ChunkedDecoder {
            state: State::Size { size: 0, digits: 0 },
            overhead_left: OVERHEAD_LEN_MAX as u16,
        }
    }

    /// Appends what `input` has of the body to `body`, at most `body_left` bytes, and counts that down.
    /// [`BodyError::TooLong`] leaves the limit for the caller to fill in.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        body_left: &mut usize,
        body: &mut Vec<u8>,
    ) -> Result<Decoded, BodyError> {
        let mut rest = input;
        while let Some((byte, after)) = rest.split_first() {
            if let State::Data { left } = self.state {
                let (data, after) = rest.split_at(rest.len().min(left as usize));
                body.extend_from_slice(data);
                rest = after;
                // It is at most `left`, so it fits.
                let left = left - data.len() as u32;
                self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                continue;
            }
            let byte = *byte;
            rest = after;
            if let State::EndLf = self.state {
                return if byte == b'\n' {
                    Ok(Decoded {
                        consumed: input.len() - rest.len(),
                        done: true,
                    })
                } else {
                    Err(BodyError::Trailer)
                };
            }
            self.state = self.step(byte, body_left)?;
        }
        Ok(Decoded {
            consumed: input.len(),
            done: false,
        })
    }

    /// The state after `byte` in any state but `Data` and `EndLf`.
    fn step(&mut self, byte: u8, body_left: &mut usize) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < SIZE_DIGITS_MAX => {
                Ok(State::Size {
                    size: size << 4 | u32::from(hex_value(byte)),
                    digits: digits + 1,
                })
            }
            (State::Size { size, digits: 1.. }, b'\r') => Ok(State::SizeLf { size }),
            (State::Size { size, digits: 1.. }, b';') => self.overhead(State::Extension { size }),
            (State::Extension { size }, b'\r') => Ok(State::SizeLf { size }),
            (State::Extension { size }, _) if is_value_byte(byte) => self.overhead(State::Extension { size }),
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::TrailerStart),
            (State::SizeLf { size }, b'\n') => match body_left.checked_sub(size as usize) {
                Some(left) => {
                    *body_left = left;
                    Ok(State::Data { left: size })
                }
                None => Err(BodyError::TooLong { limit: 0 }),
            },
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size { size: 0, digits: 0 }),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => self.overhead(State::TrailerName),
            (State::TrailerName, b':') => self.overhead(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_value_byte(byte) => self.overhead(State::TrailerValue),
            (State::TrailerLf, b'\n') => self.overhead(State::TrailerStart),
            (State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf, _) => {
                Err(BodyError::Trailer)
            }
            _ => Err(BodyError::Chunk),
        }
    }

    /// Goes to `next` at the expense of one byte of overhead.
    fn overhead(&mut self, next: State) -> Result<State, BodyError> {
        match self.overhead_left.checked_sub(1) {
            Some(left) => {
                self.overhead_left = left;
                Ok(next)
            }
            None => Err(BodyError::Overhead {
                limit: OVERHEAD_LEN_MAX,
            }),
        }
    }
}

/// The value of a hexadecimal digit.
fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

const _: () = assert!(SIZE_DIGITS_MAX as u32 * 4 <= u32::BITS);
const _: () = assert!(OVERHEAD_LEN_MAX <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::super::{BodyDecoder, Framing};
    use super::*;

    fn read(input: &[u8]) -> Result<(Decoded, Vec<u8>), BodyError> {
        let mut body = Vec::new();
        let decoded = BodyDecoder::new(Framing::Chunked, 1 << 20)
            .unwrap()
            .decode(input, &mut body)?;
        Ok((decoded, body))
    }

    #[test]
    fn chunks_make_a_body() {
        for (input, body) in [
            ("0\r\n\r\n", ""),
            ("00000000\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            ("00000003\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde"),
            (
                "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
                "01234567890123456789",
            ),
            ("3;x\r\nabc\r\n0;y=\"z\";w\r\n\r\n", "abc"),
            ("3\r\n\r\n0\r\n0\r\n\r\n", "\r\n0"),
            ("1\r\na\r\n0\r\nA: b\r\nC:\r\n\r\n", "a"),
        ] {
            let end = Decoded {
                consumed: input.len(),
                done: true,
            };
            assert_eq!(read(input.as_bytes()), Ok((end, body.as_bytes().to_vec())), "{input:?}");
            let surplus = [input.as_bytes(), b"GET"].concat();
            assert_eq!(read(&surplus).unwrap().0, end, "what follows is left alone");
            assert!(!read(&input.as_bytes()[..input.len() - 1]).unwrap().0.done, "{input:?}");
        }
    }

    #[test]
    fn a_chunk_with_two_readings_is_refused() {
        for input in [
            "\r\n",
            ";\r\n",
            "+3\r\n",
            "-3\r\n",
            "0x3\r\n",
            " 3\r\n",
            "3 \r\n",
            "3\t\r\n",
            "3 ;x\r\n",
            "g\r\n",
            "3.\r\n",
            "3\n",
            "3\r3",
            "3\r\r\n",
            "0\n",
            "0\r\r",
            "000000003\r\n",
            "123456789\r\n",
            "3;x\n",
            "3;x\ny\r\n",
            "3;x\0\r\n",
            "3;x\ry\r\n",
            "3;\x7f\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "3\r\nabc0\r\n",
            "3\r\nabc\r0",
            "3\r\nabc\r\r\n",
            "3\r\nabc\r\n\r\n",
            "3\0\r\n",
        ] {
            assert_eq!(read(input.as_bytes()), Err(BodyError::Chunk), "{input:?}");
        }
        for input in [
            "0\r\n\n",
            "0\r\nA\r\n",
            "0\r\n A: b\r\n",
            "0\r\nA : b\r\n",
            "0\r\n: b\r\n",
            "0\r\nA: b\n",
            "0\r\nA: b\rc",
            "0\r\nA: b\r\n c\r\n",
            "0\r\nA: \0\r\n",
            "0\r\nA: b\r\n\n",
            "0\r\n\rA",
            "0\r\n\r\r",
            "0\r\n\u{e4}: b\r\n",
        ] {
            assert_eq!(read(input.as_bytes()), Err(BodyError::Trailer), "{input:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_share_a_bound() {
        let limit = BodyError::Overhead {
            limit: OVERHEAD_LEN_MAX,
        };
        // Twice one byte of ";", and "T:" and the end of its line.
        let body = |extension: usize, trailer: usize| {
            let (x, y) = ("x".repeat(extension), "y".repeat(trailer));
            format!("1;{x}\r\na\r\n1;{x}\r\nb\r\n0\r\nT:{y}\r\n\r\n")
        };
        let fixed = 2 + 3;
        assert!(read(body(0, OVERHEAD_LEN_MAX - fixed).as_bytes()).is_ok());
        assert_eq!(read(body(0, OVERHEAD_LEN_MAX - fixed + 1).as_bytes()), Err(limit));
        assert!(read(body(1000, OVERHEAD_LEN_MAX - fixed - 2000).as_bytes()).is_ok());
        assert_eq!(read(body(1000, OVERHEAD_LEN_MAX - fixed - 1999).as_bytes()), Err(limit));
        assert_eq!(read("1;\r\na\r\n".repeat(OVERHEAD_LEN_MAX + 1).as_bytes()), Err(limit));
        assert_eq!(limit.status(), 400);
    }
}

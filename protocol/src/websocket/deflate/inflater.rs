//! Inflates messages, for all clients of a shard (RFC 7692, 7.2.2).

use std::borrow::Cow;

use flate2::{Decompress, FlushDecompress, Status};

use super::{BITS_MAX, Deflate, History, TAIL, WINDOW_MAX};
use crate::websocket::WebSocketError;

/// What inflates, and the room for what comes of it.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    /// What a message was inflated to, if it fits.
    plain: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self {
            stream: Decompress::new_with_window_bits(false, BITS_MAX),
            plain: Vec::new(),
        }
    }
}

impl Inflater {
    /// The plain text of a message, at most `len_max` bytes; it enters the client's history. Whatever a message claims to be, it takes
    /// no more memory than its plain text and 64 KiB: a longer text is measured before it is kept, at the price of
    /// inflating it twice.
    ///
    /// # Errors
    /// [`WebSocketError::TooLong`], also of a message in more streams than one has; [`WebSocketError::Deflate`]. The connection has
    /// failed.
    pub fn inflate<'i>(
        &'i mut self,
        client: &mut Deflate,
        message: &[u8],
        len_max: usize,
    ) -> Result<Cow<'i, [u8]>, WebSocketError> {
        let history = client.received.bytes();
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        plain.reserve_exact(PLAIN_KEPT);
        let inflated = self.inflate_into(&mut plain, history, message, len_max);
        self.plain = plain;
        let len = inflated?;
        let plain = if len == self.plain.len() {
            Cow::Borrowed(&self.plain[..])
        } else {
            // One byte more, which shows that nothing waits to be written.
            let mut plain = Vec::with_capacity(len + 1);
            self.inflate_into(&mut plain, history, message, len_max)?;
            Cow::Owned(plain)
        };
        client.received.push(&plain, client.agreement.client_window());
        Ok(plain)
    }

    /// Appends the plain text as far as `plain` has room; where it has not, all but the last window is dropped. The length of
    /// all of it.
    fn inflate_into(
        &mut self,
        plain: &mut Vec<u8>,
        history: &[u8],
        message: &[u8],
        len_max: usize,
    ) -> Result<usize, WebSocketError> {
        let too_long = WebSocketError::TooLong { limit: len_max };
        self.prime(history)?;
        let mut rest = Input {
            parts: [message, &TAIL],
        };
        let (mut streams, mut dropped) = (1, 0);
        loop {
            if plain.len() == plain.capacity() {
                let stale = plain.len().saturating_sub(WINDOW_MAX);
                plain.drain(..stale);
                dropped += stale;
            }
            let (before_in, before_out) = (self.stream.total_in(), plain.len());
            let status = self
                .stream
                .decompress_vec(rest.front(), plain, FlushDecompress::Sync)
                .map_err(|_| WebSocketError::Deflate)?;
            let consumed = (self.stream.total_in() - before_in) as usize;
            rest.advance(consumed);
            let len = dropped + plain.len();
            if len > len_max {
                return Err(too_long);
            }
            match status {
                Status::StreamEnd if rest.is_tail() => return Ok(len),
                // Each costs a priming, however short it is.
                Status::StreamEnd if streams == STREAMS_MAX => return Err(too_long),
                Status::StreamEnd => {
                    // A block that said it was the last one (7.2.3.4): what follows is another stream on the same history.
                    streams += 1;
                    let mut before = History::from_bytes(history, WINDOW_MAX);
                    before.push(plain, WINDOW_MAX);
                    self.prime(before.bytes())?;
                }
                // All was read, and the room left shows that nothing waits to be written.
                Status::Ok | Status::BufError if rest.is_empty() && plain.len() < plain.capacity() => return Ok(len),
                _ if consumed == 0 && plain.len() == before_out && plain.len() < plain.capacity() => {
                    return Err(WebSocketError::Deflate);
                }
                _ => {}
            }
        }
    }

    /// Bytes that are kept for messages of any client.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.plain.capacity()
    }

    fn prime(&mut self, history: &[u8]) -> Result<(), WebSocketError> {
        self.stream.reset(false);
        if !history.is_empty() {
            self.stream
                .set_dictionary(history)
                .map_err(|_| WebSocketError::Deflate)?;
        }
        Ok(())
    }
}

/// A message and the four bytes that its sender left off.
struct Input<'b> {
    parts: [&'b [u8]; 2],
}

impl<'b> Input<'b> {
    fn front(&self) -> &'b [u8] {
        let [message, tail] = self.parts;
        if message.is_empty() { tail } else { message }
    }

    fn advance(&mut self, len: usize) {
        let [message, tail] = &mut self.parts;
        let part = if message.is_empty() { tail } else { message };
        *part = part.get(len..).unwrap_or_default();
    }

    /// Nothing of the message is left.
    fn is_tail(&self) -> bool {
        self.parts[0].is_empty()
    }

    fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.is_empty())
    }
}

/// Blocks of one message that say they are the last one. Senders that do so at all do it once.
pub(super) const STREAMS_MAX: usize = 16;
/// The longest plain text, in bytes, for which no memory is taken.
pub(super) const PLAIN_KEPT: usize = 64 * 1024;
const _: () = assert!(WINDOW_MAX < PLAIN_KEPT, "what is kept leaves room for more");

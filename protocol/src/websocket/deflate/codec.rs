//! Inflates and deflates messages, for all clients of a shard (RFC 7692, 7.2).

use std::borrow::Cow;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Deflate, History};
use crate::websocket::WebSocketError;

/// One inflater, and one deflater for each window that was ever agreed on.
#[derive(Debug)]
pub struct Codec {
    inflater: Decompress,
    deflaters: [Option<Compress>; WINDOWS],
    /// What a message was inflated to, if it fits.
    plain: Vec<u8>,
    /// What a message was deflated to.
    deflated: Vec<u8>,
}

impl Default for Codec {
    fn default() -> Self {
        Self {
            inflater: Decompress::new_with_window_bits(false, BITS_MAX),
            deflaters: Default::default(),
            plain: Vec::new(),
            deflated: Vec::new(),
        }
    }
}

impl Codec {
    /// The plain text of a message, at most `len_max` bytes; it enters the client's history. Whatever a message claims to be, it takes
    /// no more memory than its plain text and [`PLAIN_KEPT`]: a longer text is measured before it is kept, at the price of
    /// inflating it twice.
    ///
    /// # Errors
    /// [`WebSocketError::TooLong`], also of a message in more streams than one has; [`WebSocketError::Deflate`]. The connection has
    /// failed.
    pub fn inflate<'c>(
        &'c mut self,
        client: &mut Deflate,
        message: &[u8],
        len_max: usize,
    ) -> Result<Cow<'c, [u8]>, WebSocketError> {
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
            let (before_in, before_out) = (self.inflater.total_in(), plain.len());
            let status = self
                .inflater
                .decompress_vec(rest.front(), plain, FlushDecompress::Sync)
                .map_err(|_| WebSocketError::Deflate)?;
            let consumed = (self.inflater.total_in() - before_in) as usize;
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

    /// The message compressed, if that makes it shorter; it then enters the client's history. `None`: it is to be sent as it is.
    pub fn deflate(&mut self, client: &mut Deflate, message: &[u8]) -> Option<&[u8]> {
        let bits = client.agreement.server_window_bits;
        let place = usize::from(bits.checked_sub(BITS_MIN)?);
        let deflater = self
            .deflaters
            .get_mut(place)?
            .get_or_insert_with(|| Compress::new_with_window_bits(Compression::new(LEVEL), false, bits));
        deflater.reset();
        let history = client.sent.bytes();
        if !history.is_empty() {
            deflater.set_dictionary(history).ok()?;
        }
        self.deflated.clear();
        self.deflated.reserve_exact(message.len() + TAIL.len() + SYNC_ROOM);
        deflater
            .compress_vec(message, &mut self.deflated, FlushCompress::Sync)
            .ok()?;
        let is_whole = deflater.total_in() == message.len() as u64 && self.deflated.len() < self.deflated.capacity();
        let deflated = self.deflated.strip_suffix(&TAIL).filter(|_| is_whole)?;
        if deflated.len() >= message.len() {
            return None;
        }
        client.sent.push(message, client.agreement.server_window());
        let len = deflated.len();
        self.deflated.get(..len)
    }

    /// Bytes that are kept for messages of any client.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.plain.capacity() + self.deflated.capacity()
    }

    /// Gives back what a large message needed.
    pub fn shrink(&mut self) {
        if self.deflated.capacity() > CAPACITY_KEPT {
            self.deflated = Vec::new();
        }
    }

    fn prime(&mut self, history: &[u8]) -> Result<(), WebSocketError> {
        self.inflater.reset(false);
        if !history.is_empty() {
            self.inflater
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

/// What a sender leaves off, and a receiver puts back (7.2.1, 7.2.2).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// More than a sync flush and the blocks of incompressible bytes add to short messages; longer ones are not sent compressed then.
const SYNC_ROOM: usize = 64;
const BITS_MIN: u8 = 9;
const BITS_MAX: u8 = 15;
const WINDOW_MAX: usize = 1 << BITS_MAX;
const WINDOWS: usize = (BITS_MAX - BITS_MIN) as usize + 1;
/// Quick, and on messages of a kilobyte as good as any other.
const LEVEL: u32 = 3;
/// Blocks of one message that say they are the last one. Senders that do so at all do it once.
const STREAMS_MAX: usize = 16;
/// The longest plain text, in bytes, for which no memory is taken.
const PLAIN_KEPT: usize = 64 * 1024;
const _: () = assert!(WINDOW_MAX < PLAIN_KEPT, "what is kept leaves room for more");
const CAPACITY_KEPT: usize = 64 * 1024;

#[cfg(test)]
mod tests;

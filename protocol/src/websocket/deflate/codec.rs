//! Inflates and deflates messages, for all clients of a shard (RFC 7692, 7.2).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Deflate;

/// One inflater, and one deflater for each window that was ever agreed on.
#[derive(Debug)]
pub struct Codec {
    inflater: Decompress,
    deflaters: [Option<Compress>; WINDOWS],
    /// What a message was deflated to.
    deflated: Vec<u8>,
}

/// Why a message cannot be inflated. The client's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InflateError {
    /// More than the limit: close 1009.
    TooLong,
    /// No deflate stream, or one that refers to what was never sent: close 1007.
    Malformed,
}

impl Default for Codec {
    fn default() -> Self {
        Self {
            inflater: Decompress::new_with_window_bits(false, BITS_MAX),
            deflaters: Default::default(),
            deflated: Vec::new(),
        }
    }
}

impl Codec {
    /// The plain text of a message, at most `len_max` bytes; it enters the client's history. Never more memory is taken than
    /// `len_max` and a little, whatever the message claims to be.
    ///
    /// # Errors
    /// [`InflateError`]; the connection has failed.
    pub fn inflate(&mut self, client: &mut Deflate, message: &[u8], len_max: usize) -> Result<Vec<u8>, InflateError> {
        let mut plain = Vec::new();
        self.prime(client.received.bytes())?;
        let mut rest = Input {
            parts: [message, &TAIL],
        };
        let mut streams = 1;
        loop {
            if plain.len() == plain.capacity() {
                let room = len_max + 1 - plain.len().min(len_max);
                let wanted = (4 * message.len()).clamp(ROOM_MIN, ROOM_MAX).max(plain.len());
                plain.reserve_exact(wanted.min(room));
            }
            let (before_in, before_out) = (self.inflater.total_in(), plain.len());
            let part = rest.front();
            let status = self
                .inflater
                .decompress_vec(part, &mut plain, FlushDecompress::Sync)
                .map_err(|_| InflateError::Malformed)?;
            let consumed = (self.inflater.total_in() - before_in) as usize;
            rest.advance(consumed);
            if plain.len() > len_max {
                return Err(InflateError::TooLong);
            }
            match status {
                Status::StreamEnd if rest.is_tail() => break,
                // Each costs a priming, however short it is.
                Status::StreamEnd if streams == STREAMS_MAX => return Err(InflateError::Malformed),
                Status::StreamEnd => {
                    // A block that said it was the last one (7.2.3.4): what follows is another stream on the same history.
                    streams += 1;
                    let mut history = client.received.clone();
                    history.push(&plain, WINDOW_MAX);
                    self.prime(history.bytes())?;
                }
                // All was read, and the room left shows that nothing waits to be written.
                Status::Ok | Status::BufError if rest.is_empty() && plain.len() < plain.capacity() => break,
                _ if consumed == 0 && plain.len() == before_out && plain.len() < plain.capacity() => {
                    return Err(InflateError::Malformed);
                }
                _ => {}
            }
        }
        client.received.push(&plain, client.agreement.client_window());
        Ok(plain)
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
        self.deflated.reserve(message.len() + TAIL.len() + SYNC_ROOM);
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

    /// Gives back what a large message needed.
    pub fn shrink(&mut self) {
        if self.deflated.capacity() > CAPACITY_KEPT {
            self.deflated = Vec::new();
        }
    }

    fn prime(&mut self, history: &[u8]) -> Result<(), InflateError> {
        self.inflater.reset(false);
        if !history.is_empty() {
            self.inflater
                .set_dictionary(history)
                .map_err(|_| InflateError::Malformed)?;
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
const ROOM_MIN: usize = 512;
const ROOM_MAX: usize = 64 * 1024;
const CAPACITY_KEPT: usize = 64 * 1024;

#[cfg(test)]
mod tests;

//! Deflates messages, for all clients of a shard (RFC 7692, 7.2.1).

use flate2::{Compress, Compression, FlushCompress};

use super::{BITS_MAX, BITS_MIN, Deflate, TAIL};

/// What deflates, one for each window that was ever agreed on, and the room for what comes of it.
#[derive(Debug, Default)]
pub struct Deflater {
    streams: [Option<Compress>; WINDOWS],
    /// What a message was deflated to.
    deflated: Vec<u8>,
}

impl Deflater {
    /// The message compressed, if that makes it shorter; it then enters the client's history. `None`: it is to be sent as it is.
    pub fn deflate(&mut self, client: &mut Deflate, message: &[u8]) -> Option<&[u8]> {
        let bits = client.agreement.server_window_bits;
        let place = usize::from(bits.checked_sub(BITS_MIN)?);
        let stream = self
            .streams
            .get_mut(place)?
            .get_or_insert_with(|| Compress::new_with_window_bits(Compression::new(LEVEL), false, bits));
        stream.reset();
        let history = client.sent.bytes();
        if !history.is_empty() {
            stream.set_dictionary(history).ok()?;
        }
        self.deflated.clear();
        self.deflated.reserve_exact(message.len() + TAIL.len() + SYNC_ROOM);
        stream
            .compress_vec(message, &mut self.deflated, FlushCompress::Sync)
            .ok()?;
        let is_whole = stream.total_in() == message.len() as u64 && self.deflated.len() < self.deflated.capacity();
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
        self.deflated.capacity()
    }

    /// Gives back what a large message needed.
    pub fn shrink(&mut self) {
        if self.deflated.capacity() > CAPACITY_KEPT {
            self.deflated = Vec::new();
        }
    }
}

const WINDOWS: usize = (BITS_MAX - BITS_MIN) as usize + 1;
/// On meter values of a kilobyte as quick as 3 (6.6 µs, most of them for clearing the hash table) and a tenth shorter; 1 takes 2.8 µs
/// and leaves a fifth more. Of a mebibyte of hexadecimal noise it takes 12 ms, which count in the turn of whoever sends it.
const LEVEL: u32 = 6;
/// More than a sync flush and the blocks of incompressible bytes add to short messages; longer ones are not sent compressed then.
const SYNC_ROOM: usize = 64;
const CAPACITY_KEPT: usize = 64 * 1024;

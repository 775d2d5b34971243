//! Compresses messages by permessage-deflate (RFC 7692) with context takeover, without a codec for each client.
//!
//! What the algorithm needs between two messages is the last 2^bits bytes of plain text. So a client has a [`History`]
//! for each direction, and all clients of a shard share one [`Inflater`] and one [`Deflater`], which are primed with the
//! history before each message. Messages that travel uncompressed do not enter the history.

mod deflater;
mod history;
mod inflater;
mod offer;
mod record;

pub use deflater::Deflater;
pub use history::History;
pub use inflater::Inflater;
pub use offer::{Agreement, DeflateConfig, negotiate};

/// One client's share in permessage-deflate: what was agreed on, and both histories.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deflate {
    /// Of the opening handshake.
    pub agreement: Agreement,
    /// The last of what the client has sent compressed.
    pub received: History,
    /// The last of what it was sent compressed.
    pub sent: History,
}

impl Deflate {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(agreement: Agreement) -> Self {
        Self {
            agreement,
            received: History::default(),
            sent: History::default(),
        }
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.received.held_len() + self.sent.held_len()
    }
}

/// The smallest window that zlib knows, and the largest that there is, as powers of two.
const BITS_MIN: u8 = 9;
const BITS_MAX: u8 = 15;
const WINDOW_MAX: usize = 1 << BITS_MAX;
/// What a sender leaves off, and a receiver puts back (RFC 7692, 7.2.1, 7.2.2).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

#[cfg(test)]
mod tests;

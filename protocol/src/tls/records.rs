//! Seals and opens the records of a connection whose handshake is done.
//!
//! Received bytes are opened where they are. Plain text is sealed behind what the caller's buffer has already. A record that has come in
//! part is kept, at most [`RECORD_LEN_MAX`] bytes; nothing else is, so that an idle connection has no heap.
//!
//! Either side may change to the next key (RFC 8446, 4.6.3). The secret that it is made of is kept, too, so this takes nothing of what
//! made the handshake, and works in another process.
//!
//! Invariants:
//! - Behind an alert or close_notify of ours nothing is sealed; behind one of the peer's, or a fault, nothing is opened.
//! - No two records are sealed with the same key and nonce: the number of the next one only grows.

mod open;
mod record;
mod seal;

use std::fmt;

pub use self::open::Opened;
use super::keys::Keys;
use super::suite::Suite;

/// The records of one connection, in both directions.
pub struct Records {
    sending: Keys,
    receiving: Keys,
    suite: Suite,
    side: Side,
    /// So many records in a row have brought no text.
    fruitless: u8,
    /// The peer has asked for our next key.
    owes_key_update: bool,
    is_sending: bool,
    is_receiving: bool,
    partial: Option<Box<Partial>>,
}

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What has come in part.
#[derive(Default)]
struct Partial {
    /// Of a record.
    record: Vec<u8>,
    /// Of a handshake message, in records before that one.
    message: Vec<u8>,
}

impl Records {
    pub(super) fn new(suite: Suite, side: Side, sending: Keys, receiving: Keys) -> Self {
        Self {
            sending,
            receiving,
            suite,
            side,
            fruitless: 0,
            owes_key_update: false,
            is_sending: true,
            is_receiving: true,
            partial: None,
        }
    }

    /// The suite that was agreed on.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// False: what the peer sends has had its end, and nothing is opened any more.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        self.is_receiving
    }

    /// What comes from now on is of no use: nothing is kept of it, and it is not opened.
    pub fn forget(&mut self) {
        self.is_receiving = false;
        self.partial = None;
    }

    /// How many bytes are held of what has come in part.
    #[must_use]
    pub fn held_len(&self) -> usize {
        let partial = self.partial.as_ref();
        partial.map_or(0, |partial| partial.record.capacity() + partial.message.capacity())
    }
}

impl fmt::Debug for Records {
    /// Without secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Records")
            .field("suite", &self.suite)
            .field("side", &self.side)
            .field("sent", &self.sending.sequence)
            .field("received", &self.receiving.sequence)
            .finish_non_exhaustive()
    }
}

/// What TLS 1.2 authenticates beside a text (RFC 5246, 6.2.3.3). In TLS 1.3 it is the header.
fn tls12_aad(sequence: u64, kind: u8, text_len: usize) -> [u8; 13] {
    let [a, b, c, d, e, f, g, h] = sequence.to_be_bytes();
    let [major, minor] = VERSION;
    let [high, low] = (text_len as u16).to_be_bytes();
    [a, b, c, d, e, f, g, h, kind, major, minor, high, low]
}

/// No record is longer on the wire (RFC 8446, 5.2). What is received into has room for one.
pub const RECORD_LEN_MAX: usize = HEADER_LEN + SEALED_LEN_MAX;
const HEADER_LEN: usize = 5;
/// A text of 2^14 bytes, and what seals it.
const SEALED_LEN_MAX: usize = PLAIN_LEN_MAX + 256;
const PLAIN_LEN_MAX: usize = 1 << 14;
const TAG_LEN: usize = 16;
/// What a record of any version says (RFC 8446, 5.1).
const VERSION: [u8; 2] = [3, 3];

// What a record can be (RFC 8446, 5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// No message behind a handshake is longer. Some servers put a client's certificates into its ticket.
const MESSAGE_LEN_MAX: usize = 32 * 1024;
/// A message that says: the next key from here on (RFC 8446, 4.6.3).
const KEY_UPDATE: u8 = 24;

const _: () = assert!(size_of::<Records>() <= 232, "each client keeps one");

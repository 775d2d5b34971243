//! Says what comes with a socket that another shard hands over.

/// What a parcel's bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content<'b> {
    /// A request that the other shard has read.
    Handshake(&'b [u8]),
    /// The record of a client that another process had.
    Client(&'b [u8]),
}

impl<'b> Content<'b> {
    /// The bytes of a parcel.
    #[must_use]
    pub fn pack(self) -> Vec<u8> {
        let (kind, bytes) = match self {
            Self::Handshake(bytes) => (HANDSHAKE, bytes),
            Self::Client(bytes) => (CLIENT, bytes),
        };
        [&[kind], bytes].concat()
    }

    /// Reads what [`pack`](Self::pack) wrote.
    #[must_use]
    pub fn unpack(bytes: &'b [u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&HANDSHAKE, bytes) => Some(Self::Handshake(bytes)),
            (&CLIENT, bytes) => Some(Self::Client(bytes)),
            _ => None,
        }
    }
}

const HANDSHAKE: u8 = 0;
const CLIENT: u8 = 1;

//! Says what comes with a socket that another shard hands over.

/// What a parcel's bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content<'b> {
    /// A request that the other shard has read.
    Handshake(&'b [u8]),
    /// The record of a client that another process had.
    Client(&'b [u8]),
    /// The same, and the number by which whoever has sent it is told what has become of it.
    Moved {
        /// The client's.
        number: u64,
        /// See `Client`.
        record: &'b [u8],
    },
}

impl<'b> Content<'b> {
    /// The bytes of a parcel.
    #[must_use]
    pub fn pack(self) -> Vec<u8> {
        match self {
            Self::Handshake(bytes) => [&[HANDSHAKE], bytes].concat(),
            Self::Client(bytes) => [&[CLIENT], bytes].concat(),
            Self::Moved { number, record } => [&[MOVED], &number.to_be_bytes()[..], record].concat(),
        }
    }

    /// Reads what [`pack`](Self::pack) wrote.
    #[must_use]
    pub fn unpack(bytes: &'b [u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&HANDSHAKE, bytes) => Some(Self::Handshake(bytes)),
            (&CLIENT, bytes) => Some(Self::Client(bytes)),
            (&MOVED, bytes) => {
                let (number, record) = bytes.split_first_chunk::<8>()?;
                let number = u64::from_be_bytes(*number);
                Some(Self::Moved { number, record })
            }
            _ => None,
        }
    }
}

const HANDSHAKE: u8 = 0;
const CLIENT: u8 = 1;
const MOVED: u8 = 2;

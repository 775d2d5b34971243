//! Says what comes with a socket that another shard hands over.
//!
//! A record that is too long for a parcel waits on a shelf of the process, and its place there travels in its stead.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shards::parcel::BYTES_MAX;

/// What a parcel's bytes are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content<'b> {
    /// A request that the other shard has read.
    Handshake(&'b [u8]),
    /// The record of a client that another process had.
    Client(Cow<'b, [u8]>),
    /// The same, of one that no other process can have.
    Unmovable(Cow<'b, [u8]>),
    /// As `Client`, and the number by which whoever has sent it is told what has become of it.
    Moved {
        /// The client's.
        number: u64,
        /// See `Client`.
        record: Cow<'b, [u8]>,
    },
    /// A connection of the backend that another process had, and what the ingress is to know of it.
    Backend(&'b [u8]),
}

impl<'b> Content<'b> {
    /// The bytes of a parcel. They are unpacked once.
    #[must_use]
    pub fn pack(self) -> Vec<u8> {
        match self {
            Self::Handshake(bytes) => [&[HANDSHAKE], bytes].concat(),
            Self::Backend(about) => [&[BACKEND], about].concat(),
            Self::Client(record) => pack_record(CLIENT, &[], record),
            Self::Unmovable(record) => pack_record(UNMOVABLE, &[], record),
            Self::Moved { number, record } => pack_record(MOVED, &number.to_be_bytes(), record),
        }
    }

    /// Reads what [`pack`](Self::pack) wrote.
    #[must_use]
    pub fn unpack(bytes: &'b [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match kind & !SHELVED {
            HANDSHAKE => Some(Self::Handshake(rest)),
            BACKEND => Some(Self::Backend(rest)),
            CLIENT => Some(Self::Client(unpack_record(*kind, rest)?)),
            UNMOVABLE => Some(Self::Unmovable(unpack_record(*kind, rest)?)),
            MOVED => {
                let (number, rest) = rest.split_first_chunk::<8>()?;
                Some(Self::Moved {
                    number: u64::from_be_bytes(*number),
                    record: unpack_record(*kind, rest)?,
                })
            }
            _ => None,
        }
    }
}

fn pack_record(kind: u8, head: &[u8], record: Cow<'_, [u8]>) -> Vec<u8> {
    if 1 + head.len() + record.len() <= BYTES_MAX {
        return [&[kind], head, &record].concat();
    }
    let mut shelf = shelf();
    let place = shelf.last_key_value().map_or(0, |(last, _)| last + 1);
    shelf.insert(place, record.into_owned());
    [&[kind | SHELVED], head, &place.to_be_bytes()[..]].concat()
}

fn unpack_record(kind: u8, rest: &[u8]) -> Option<Cow<'_, [u8]>> {
    if kind & SHELVED == 0 {
        return Some(rest.into());
    }
    let place = u64::from_be_bytes(rest.try_into().ok()?);
    shelf().remove(&place).map(Cow::Owned)
}

fn shelf() -> MutexGuard<'static, BTreeMap<u64, Vec<u8>>> {
    SHELF.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Few clients have so much under way, and none of them often.
static SHELF: Mutex<BTreeMap<u64, Vec<u8>>> = Mutex::new(BTreeMap::new());

const HANDSHAKE: u8 = 0;
const CLIENT: u8 = 1;
const MOVED: u8 = 2;
const UNMOVABLE: u8 = 3;
const BACKEND: u8 = 4;
/// Beside a kind.
const SHELVED: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_content_is_unpacked_as_it_was_packed_however_long_it_is() {
        for content in [Content::Handshake(b"GET"), Content::Backend(b"10.0.0.1:80")] {
            assert_eq!(Content::unpack(&content.clone().pack()), Some(content));
        }
        for len in [0, 1, BYTES_MAX - 9, BYTES_MAX - 8, BYTES_MAX, 10 * BYTES_MAX] {
            let record: Cow<'_, [u8]> = vec![len as u8; len].into();
            let contents = [
                Content::Client(record.clone()),
                Content::Unmovable(record.clone()),
                Content::Moved {
                    number: u64::MAX,
                    record,
                },
            ];
            // Several lie on the shelf at once, and leave it in another order.
            let mut packed = contents.clone().map(Content::pack);
            packed.reverse();
            for (content, bytes) in contents.iter().rev().zip(packed) {
                assert!(bytes.len() <= BYTES_MAX);
                assert_eq!(Content::unpack(&bytes).as_ref(), Some(content));
            }
        }
        assert_eq!(Content::unpack(&[9]), None);
        assert_eq!(Content::unpack(&[]), None);
        assert_eq!(Content::unpack(&[CLIENT | SHELVED, 0, 0, 0, 0, 0, 0, 0, 99]), None);
    }
}

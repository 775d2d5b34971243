//! Who a connection is, as the backend is told with every request.

use std::fmt;
use std::net::IpAddr;

use crate::protocol::ClientId;

/// One connection among all that ever were: the process's start, the shard, and a count.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct ConnectionId {
    text: [u8; TEXT_LEN],
    number: u64,
}

/// What does not change while a client is connected.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Whose connection.
    pub client: ClientId,
    /// Which one.
    pub connection: ConnectionId,
    /// The negotiated subprotocol's name.
    pub subprotocol: Option<Box<str>>,
    /// The client's address, behind those of the proxies that we trust.
    pub forwarded_for: Box<str>,
}

impl ConnectionId {
    /// `boot` tells this process's start from others; `number` counts the shard's connections (36 bits).
    #[must_use]
    pub fn new(boot: u32, shard: usize, number: u64) -> Self {
        let mut text = [0; TEXT_LEN];
        let digits = [(u64::from(boot), 8), (shard as u64, 3), (number, 9)];
        let mut at = 0;
        for (value, len) in digits {
            for place in (0..len).rev() {
                text[at] = b"0123456789abcdef"[(value >> (4 * place)) as usize & 15];
                at += 1;
            }
        }
        Self { text, number }
    }

    /// 20 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).expect("hexadecimal digits are UTF-8")
    }

    /// True when this connection of a shard began after `other` of the same shard.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.number > other.number
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Identity {
    /// Hands the headers that every request about this client carries to `write`.
    pub fn with_headers<R>(&self, extra: &[(&str, &str)], write: impl FnOnce(&[(&str, &str)]) -> R) -> R {
        let client = self.client.encoded();
        let mut headers = [("", ""); HEADERS_MAX];
        let mut count = 0;
        let own = [
            ("X-Client-Id", Some(&*client)),
            ("X-Connection-Id", Some(self.connection.as_str())),
            ("X-Subprotocol", self.subprotocol.as_deref()),
            ("X-Forwarded-For", Some(&*self.forwarded_for)),
        ];
        let own = own
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name, value)));
        for header in own.chain(extra.iter().copied()) {
            headers[count] = header;
            count += 1;
        }
        write(&headers[..count])
    }
}

/// The last address of `forwarded_for`: the client's own, as far as we can know.
#[must_use]
pub fn address_text(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

const TEXT_LEN: usize = 20;
const HEADERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_ids_differ_in_every_part_and_know_their_order() {
        let id = ConnectionId::new(0xdead_beef, 5, 77);
        assert_eq!(id.as_str(), "deadbeef00500000004d");
        assert_ne!(id, ConnectionId::new(0xdead_beef, 6, 77));
        assert!(ConnectionId::new(1, 5, 78).is_newer_than(&id));
        assert!(!id.is_newer_than(&id));
    }

    #[test]
    fn a_mapped_address_is_written_as_ipv4() {
        assert_eq!(address_text("::ffff:10.1.2.3".parse().unwrap()), "10.1.2.3");
        assert_eq!(address_text("2001:db8::1".parse().unwrap()), "2001:db8::1");
    }
}

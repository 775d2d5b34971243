//! Names a connection, as the backend is told with every request about it.

use std::fmt;
use std::net::IpAddr;

use arrayvec::ArrayString;

use crate::http::{HeaderLines, PathPart};
use crate::ocpp::ClientId;

/// One connection among all that ever were: the line of processes that take over from each other, the shard, and a number. Processes
/// that go on with a connection keep its name.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct ConnectionId {
    text: ArrayString<TEXT_LEN>,
    number: u64,
}

/// What does not change while a client is connected.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The client whose connection it is.
    pub client: ClientId,
    /// The connection's own name.
    pub connection: ConnectionId,
    /// What every request about it carries; first the ClientId, of so many bytes.
    lines: HeaderLines,
    encoded_len: u16,
}

impl ConnectionId {
    /// `line` tells this process, and those that have handed their clients on to it, from others; `number` is one of
    /// [`number_of`](Self::number_of).
    #[must_use]
    pub fn new(line: u32, shard: usize, number: u64) -> Self {
        let mut text = ArrayString::new();
        let parts = [(u64::from(line), 8), (shard as u64, 3), (number, 9)];
        for digit in parts.into_iter().flat_map(|(part, len)| hexadecimal(part, len)) {
            text.push(digit);
        }
        Self {
            text,
            number: number | BEGUN_HERE,
        }
    }

    /// The number of a shard's connection, which that of no other process of the line has: the low digits count the process's connections,
    /// those above are its generation (the low 24 bits of it), and where the count needs more it goes on above both. `count` is below 2^39.
    #[must_use]
    pub const fn number_of(generation: u32, count: u64) -> u64 {
        let (low, high) = (count & ((1 << COUNT_BITS) - 1), count >> COUNT_BITS);
        let generation = generation as u64 & ((1 << GENERATION_BITS) - 1);
        high << (COUNT_BITS + GENERATION_BITS) | generation << COUNT_BITS | low
    }

    /// That of a connection which began in another process. `number` counts those that the shard has adopted. `None`: the text is no
    /// such name.
    #[must_use]
    pub fn adopted(text: &str, number: u64) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_name = text.len() >= TEXT_LEN_MIN && text.bytes().all(is_digit);
        Some(Self {
            text: ArrayString::from(text).ok().filter(|_| is_name)?,
            number: number & !BEGUN_HERE,
        })
    }

    /// The id as 20 hexadecimal digits or, after 256 upgrades or 2^28 connections of a shard, more.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its number among the connections of its shard, which no other one there has.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// True when it began in another process.
    #[must_use]
    pub const fn is_adopted(&self) -> bool {
        self.number & BEGUN_HERE == 0
    }

    /// True when this connection of a shard is newer than `other` of the same shard: those that began in another process are older
    /// than all that began here.
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
    /// `subprotocol` is the negotiated one's name; `forwarded_for` the client's address, behind those of the proxies
    /// that we trust. Both may stand in a header.
    #[must_use]
    pub fn new(client: ClientId, connection: ConnectionId, subprotocol: Option<&str>, forwarded_for: &str) -> Self {
        let encoded = client.encoded();
        let id = (CLIENT_ID, &*encoded);
        let connection_id = ("X-Connection-Id", connection.as_str());
        let forwarded = (FORWARDED_FOR, forwarded_for);
        let lines = match subprotocol {
            Some(name) => HeaderLines::new(&[id, connection_id, (SUBPROTOCOL, name), forwarded]),
            None => HeaderLines::new(&[id, connection_id, forwarded]),
        };
        Self {
            encoded_len: encoded.len().try_into().expect("bounded by CLIENT_ID_LEN_MAX"),
            lines,
            connection,
            client,
        }
    }

    /// The headers of every request about this client.
    #[must_use]
    pub fn lines(&self) -> &HeaderLines {
        &self.lines
    }

    /// The ClientId, percent-encoded.
    #[must_use]
    #[allow(clippy::string_slice, reason = "it was written there, and is ASCII")]
    pub fn encoded_client(&self) -> PathPart<'_> {
        let start = CLIENT_ID.len() + ": ".len();
        PathPart::known(&self.lines.as_str()[start..start + usize::from(self.encoded_len)])
    }

    /// The negotiated subprotocol's name.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.lines.value(SUBPROTOCOL)
    }

    /// The client's address, behind those of the proxies that we trust.
    #[must_use]
    pub fn forwarded_for(&self) -> &str {
        self.lines.value(FORWARDED_FOR).unwrap_or_default()
    }
}

/// The digits of `number`, `len_min` of them at least.
pub fn hexadecimal(number: u64, len_min: u32) -> impl Iterator<Item = char> {
    let len = (u64::BITS - number.leading_zeros()).div_ceil(4).max(len_min);
    (0..len)
        .rev()
        .map(move |place| char::from_digit((number >> (4 * place)) as u32 & 15, 16).unwrap_or('0'))
}

/// An address as text; one that is IPv4 in an IPv6 notation as IPv4.
#[must_use]
pub fn address_text(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            // As `Display` has it, which takes 1,700 instructions: every client comes through here.
            let mut text = String::with_capacity("255.255.255.255".len());
            for octet in address.octets() {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(itoa::Buffer::new().format(octet));
            }
            text
        }
        IpAddr::V6(address) => address.to_string(),
    }
}

const CLIENT_ID: &str = "X-Client-Id";
const SUBPROTOCOL: &str = "X-Subprotocol";
const FORWARDED_FOR: &str = "X-Forwarded-For";
/// 20 digits, and more for higher numbers.
const TEXT_LEN: usize = 28;
const TEXT_LEN_MIN: usize = 20;
/// Set in the numbers of connections that are not adopted.
const BEGUN_HERE: u64 = 1 << 63;
const COUNT_BITS: u32 = 28;
const GENERATION_BITS: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_ids_differ_in_every_part_and_know_their_order() {
        let id = ConnectionId::new(0xdead_beef, 5, 77);
        assert_eq!(id.as_str(), "deadbeef00500000004d");
        assert_ne!(id, ConnectionId::new(0xdead_beef, 6, 77));
        assert!(ConnectionId::new(1, 5, 78).is_newer_than(&id));
        for number in [(1 << 36) - 1, 1 << 36, u64::MAX] {
            let late = ConnectionId::new(0xdead_beef, 5, number);
            assert_eq!(late.as_str(), format!("deadbeef005{number:09x}"));
            assert!(late.is_newer_than(&id));
        }
        assert!(!id.is_newer_than(&id));
    }

    #[test]
    fn no_two_processes_of_a_line_give_a_connection_the_same_number() {
        let counts = [0, 1, (1 << 28) - 1, 1 << 28, (1 << 28) + 1, 1 << 36, (1 << 39) - 1];
        let generations = [0, 1, 2, 255, 256, (1 << 24) - 1];
        let mut seen = std::collections::HashSet::new();
        for generation in generations {
            let numbers = counts.map(|count| ConnectionId::number_of(generation, count));
            assert!(numbers.is_sorted(), "the newer has the higher number: {numbers:?}");
            for number in numbers {
                assert!(number < BEGUN_HERE && seen.insert(number), "{generation}: {number}");
            }
        }
        let text = |generation, count| {
            let number = ConnectionId::number_of(generation, count);
            ConnectionId::new(0xdead_beef, 5, number).to_string()
        };
        assert_eq!(text(0, 0x77), "deadbeef005000000077");
        assert_eq!(text(1, 0x77), "deadbeef005010000077");
        assert_eq!(text(255, (1 << 28) - 1), "deadbeef005fffffffff");
        assert_eq!(text(256, 0), "deadbeef0051000000000");
    }

    #[test]
    fn an_adopted_connection_keeps_its_name_and_is_older_than_those_that_began_here() {
        let first = ConnectionId::new(0xdead_beef, 5, 0);
        let adopted = ConnectionId::adopted("00c0ffee00100000004d", 7).expect("a connection's name");
        assert_eq!(adopted.as_str(), "00c0ffee00100000004d");
        assert!(first.is_newer_than(&adopted) && !adopted.is_newer_than(&first));
        assert!(adopted.is_adopted() && !first.is_adopted());
        let later = ConnectionId::adopted(first.as_str(), 8).expect("a connection's name");
        assert!(later.is_newer_than(&adopted) && first.is_newer_than(&later));
        for none in [
            "",
            "00c0ffee00100000004",
            "00c0ffee00100000004D",
            "00c0ffee00100000004\r",
            &"0".repeat(29),
        ] {
            assert_eq!(ConnectionId::adopted(none, 0), None, "{none:?}");
        }
    }

    #[test]
    fn hexadecimal_numbers_have_as_many_zeros_in_front_as_are_wanted() {
        for number in [0, 1, 15, 16, 0xdead_beef, 0x100, u64::MAX] {
            assert_eq!(hexadecimal(number, 1).collect::<String>(), format!("{number:x}"));
            assert_eq!(hexadecimal(number, 9).collect::<String>(), format!("{number:09x}"));
        }
    }

    #[test]
    fn what_the_backend_is_told_is_put_together_once() {
        let client = ClientId::parse("CP 1").unwrap();
        let connection = ConnectionId::new(1, 2, 3);
        let identity = Identity::new(client.clone(), connection, Some("ocpp1.6"), "10.0.0.9, 10.1.2.3");
        assert_eq!(identity.encoded_client(), PathPart::new("CP%201"));
        assert_eq!(identity.subprotocol(), Some("ocpp1.6"));
        assert_eq!(identity.forwarded_for(), "10.0.0.9, 10.1.2.3");
        assert_eq!(Identity::new(client, connection, None, "10.1.2.3").subprotocol(), None);
    }

    #[test]
    fn a_mapped_address_is_written_as_ipv4() {
        assert_eq!(address_text("::ffff:10.1.2.3".parse().unwrap()), "10.1.2.3");
        assert_eq!(address_text("2001:db8::1".parse().unwrap()), "2001:db8::1");
    }
}

//! Reads and writes what the two processes say: one packet each, a kind and numbered fields.
//!
//! A field is its number, the length of its value in four bytes, and the value; numbers are big-endian. Fields and kinds
//! that are not known are passed over, so that a later version may say more.

use std::net::SocketAddr;

use super::packets::MESSAGE_LEN_MAX;
use super::secret::Secret;
use super::{PROTOCOL, PROTOCOL_OLDEST};
use crate::ocpp::Waiter;
use crate::record;

/// What one process says to the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// The first word of either.
    Hello(Hello),
    /// A listening socket, which comes with it.
    Listener(Listener),
    /// The new one can't, and says why. It ends.
    Failed(String),
    /// The new one would serve.
    Ready,
    /// It is to.
    Go,
    /// It does.
    Serving,
    /// A client of the old one, whose socket comes with it.
    Client {
        /// By which the answer names it.
        number: u64,
        /// As [`crate::record`] has it.
        record: Vec<u8>,
    },
    /// The new one has that client, or can't have it: then the old one takes it back.
    Taken {
        /// The client's.
        number: u64,
        /// Whether it has it.
        is_taken: bool,
    },
    /// About a client that the process which asks does not have.
    Question {
        /// The shard that wants to know.
        shard: u16,
        /// What that shard knows it by.
        token: u64,
        /// From then on it is not carried out: by the clock that both have, in nanoseconds.
        answer_by: u64,
        /// As [`crate::question::Question`] has it.
        question: Vec<u8>,
    },
    /// What is told to that.
    Told {
        /// The shard that wanted to know.
        shard: u16,
        /// What that shard knows it by.
        token: u64,
        /// As [`crate::question::Told`] has it. Nothing: the question came too late, and was not carried out.
        told: Vec<u8>,
    },
    /// What became of a push, for a request at the other process's ingress.
    Outcome {
        /// The request that waits.
        waiter: Waiter,
        /// As [`crate::record::PostRecord`] has it: if nobody waits any more, it is posted.
        post: Vec<u8>,
    },
    /// What the backend has not taken, and is about nobody who is connected to the process that says so.
    Post {
        /// The shard that had it.
        shard: u16,
        /// What that shard knows it by.
        number: u64,
        /// As [`crate::record::PostRecord`] has it.
        post: Vec<u8>,
    },
    /// The other process has that.
    PostTaken {
        /// The shard that had it.
        shard: u16,
        /// What that shard knows it by.
        number: u64,
    },
    /// A connection of the backend between two requests, whose socket comes with it. It is the new one's without a word.
    Backend {
        /// What is to be known of it.
        about: Vec<u8>,
    },
    /// Its shards have ended: they say nothing more.
    Bye,
    /// With what the tickets of TLS are sealed.
    TicketKeys(TicketKeys),
}

/// Who speaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// The newest rules that it knows.
    pub protocol: u16,
    /// The oldest.
    pub oldest: u16,
    /// Its version, for people.
    pub version: String,
    /// So many listeners follow. The new one has none.
    pub listeners: u32,
    /// How many takeovers there were before, since a process was started by somebody else.
    pub generation: u32,
    /// With what the ids of all connections of that process, and of those that have taken over since, begin. The old one has it.
    pub line: Option<u32>,
    /// The form of the clients' records.
    pub records: u8,
}

/// What a listening socket is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// Who connects to it.
    pub name: ListenerName,
    /// The address as it was configured, with port 0 if any port would do.
    pub configured: SocketAddr,
    /// The service manager has it, too: it goes on listening whatever becomes of both processes.
    pub is_kept: bool,
}

/// With what the old one seals the tickets of TLS: the new one goes on with it, and opens those that there are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TicketKeys {
    /// For how long the current one has sealed, in milliseconds.
    pub age_ms: u64,
    /// What seals.
    pub current: Secret,
    /// What still opens.
    pub before: Option<Secret>,
}

/// Who connects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListenerName {
    /// Clients.
    Listen,
    /// Clients, with TLS.
    ListenTls,
    /// The backend.
    Ingress,
    /// Operators.
    Admin,
}

/// A packet that is none of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MessageError {
    /// It ends within a field.
    #[error("a message that was cut off")]
    CutOff,
    /// It is longer than anything that is said.
    #[error("a message of more than {MESSAGE_LEN_MAX} bytes")]
    TooLong,
    /// A field that has to be there is not, or is not what it should be.
    #[error("a message without a field {field} that can be read")]
    Field {
        /// Its number.
        field: u8,
    },
}

impl Hello {
    /// This version's, with so many listeners.
    #[must_use]
    pub fn own(version: impl Into<String>, listeners: u32, generation: u32) -> Self {
        Self {
            protocol: PROTOCOL,
            oldest: PROTOCOL_OLDEST,
            version: version.into(),
            listeners,
            generation,
            line: None,
            records: record::VERSION,
        }
    }

    /// Whether both know rules that the other one knows.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.protocol.min(other.protocol) >= self.oldest.max(other.oldest)
    }
}

impl ListenerName {
    /// As the configuration has it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::ListenTls => "listen_tls",
            Self::Ingress => "ingress",
            Self::Admin => "admin",
        }
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let all = [Self::Listen, Self::ListenTls, Self::Ingress, Self::Admin];
        all.into_iter().find(|name| name.key().as_bytes() == value)
    }
}

impl Message {
    /// As bytes: one packet, or [several](super::packets).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut packet = Packet::new(self.kind(), self.room());
        match self {
            Self::Hello(hello) => {
                packet.field(1, &hello.protocol.to_be_bytes());
                packet.field(2, &hello.oldest.to_be_bytes());
                packet.field(3, cut(&hello.version).as_bytes());
                packet.field(4, &hello.listeners.to_be_bytes());
                packet.field(5, &hello.generation.to_be_bytes());
                packet.field(6, &[hello.records]);
                if let Some(line) = hello.line {
                    packet.field(7, &line.to_be_bytes());
                }
            }
            Self::Listener(listener) => {
                packet.field(1, listener.name.key().as_bytes());
                packet.field(2, listener.configured.to_string().as_bytes());
                packet.field(3, &[listener.is_kept.into()]);
            }
            Self::Failed(words) => packet.field(1, cut(words).as_bytes()),
            Self::Ready | Self::Go | Self::Serving | Self::Bye => {}
            Self::Client { number, record } => {
                packet.field(1, &number.to_be_bytes());
                packet.field(2, record);
            }
            Self::Taken { number, is_taken } => {
                packet.field(1, &number.to_be_bytes());
                packet.field(2, &[(*is_taken).into()]);
            }
            Self::Question {
                shard,
                token,
                answer_by,
                question,
            } => {
                packet.field(1, &shard.to_be_bytes());
                packet.field(2, &token.to_be_bytes());
                packet.field(3, &answer_by.to_be_bytes());
                packet.field(4, question);
            }
            Self::Told { shard, token, told } => {
                packet.field(1, &shard.to_be_bytes());
                packet.field(2, &token.to_be_bytes());
                packet.field(4, told);
            }
            Self::Outcome { waiter, post } => {
                packet.field(1, &waiter.shard.to_be_bytes());
                packet.field(2, &waiter.token.to_be_bytes());
                packet.field(3, &waiter.process.to_be_bytes());
                packet.field(4, post);
            }
            Self::Post { shard, number, post } => {
                packet.field(1, &shard.to_be_bytes());
                packet.field(2, &number.to_be_bytes());
                packet.field(4, post);
            }
            Self::PostTaken { shard, number } => {
                packet.field(1, &shard.to_be_bytes());
                packet.field(2, &number.to_be_bytes());
            }
            Self::Backend { about } => packet.field(1, about),
            Self::TicketKeys(keys) => {
                packet.field(1, &keys.age_ms.to_be_bytes());
                packet.field(2, keys.current.bytes());
                if let Some(before) = &keys.before {
                    packet.field(3, before.bytes());
                }
            }
        }
        packet.0
    }

    /// `None`: of a kind that this version does not know.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn parse(packet: &[u8]) -> Result<Option<Self>, MessageError> {
        let (kind, rest) = packet.split_first().ok_or(MessageError::CutOff)?;
        let fields = Fields(rest);
        fields.check()?;
        Ok(Some(match *kind {
            1 => Self::Hello(Hello {
                protocol: u16::from_be_bytes(fields.array(1)?),
                oldest: u16::from_be_bytes(fields.array(2)?),
                version: fields.text(3)?,
                listeners: u32::from_be_bytes(fields.array(4)?),
                generation: u32::from_be_bytes(fields.array(5)?),
                records: u8::from_be_bytes(fields.array(6)?),
                line: match fields.array(7) {
                    Ok(line) => Some(u32::from_be_bytes(line)),
                    Err(_) => None,
                },
            }),
            2 => Self::Listener(Listener {
                name: ListenerName::parse(fields.get(1)?).ok_or(MessageError::Field { field: 1 })?,
                configured: fields.text(2)?.parse().map_err(|_| MessageError::Field { field: 2 })?,
                is_kept: fields.get(3)? == [1],
            }),
            3 => Self::Failed(fields.text(1)?),
            4 => Self::Ready,
            5 => Self::Go,
            6 => Self::Serving,
            7 => Self::Client {
                number: u64::from_be_bytes(fields.array(1)?),
                record: fields.get(2)?.to_vec(),
            },
            8 => Self::Taken {
                number: u64::from_be_bytes(fields.array(1)?),
                is_taken: fields.get(2)? == [1],
            },
            9 => Self::Question {
                shard: u16::from_be_bytes(fields.array(1)?),
                token: u64::from_be_bytes(fields.array(2)?),
                answer_by: u64::from_be_bytes(fields.array(3)?),
                question: fields.get(4)?.to_vec(),
            },
            10 => Self::Told {
                shard: u16::from_be_bytes(fields.array(1)?),
                token: u64::from_be_bytes(fields.array(2)?),
                told: fields.get(4)?.to_vec(),
            },
            11 => Self::Outcome {
                waiter: Waiter {
                    shard: u16::from_be_bytes(fields.array(1)?),
                    token: u64::from_be_bytes(fields.array(2)?),
                    process: u32::from_be_bytes(fields.array(3)?),
                    ..Waiter::default()
                },
                post: fields.get(4)?.to_vec(),
            },
            12 => Self::Post {
                shard: u16::from_be_bytes(fields.array(1)?),
                number: u64::from_be_bytes(fields.array(2)?),
                post: fields.get(4)?.to_vec(),
            },
            13 => Self::PostTaken {
                shard: u16::from_be_bytes(fields.array(1)?),
                number: u64::from_be_bytes(fields.array(2)?),
            },
            14 => Self::Backend {
                about: fields.get(1)?.to_vec(),
            },
            15 => Self::Bye,
            16 => Self::TicketKeys(TicketKeys {
                age_ms: u64::from_be_bytes(fields.array(1)?),
                current: Secret::new(fields.get(2)?),
                before: fields.get(3).ok().map(Secret::new),
            }),
            _ => return Ok(None),
        }))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 1,
            Self::Listener(_) => 2,
            Self::Failed(_) => 3,
            Self::Ready => 4,
            Self::Go => 5,
            Self::Serving => 6,
            Self::Client { .. } => 7,
            Self::Taken { .. } => 8,
            Self::Question { .. } => 9,
            Self::Told { .. } => 10,
            Self::Outcome { .. } => 11,
            Self::Post { .. } => 12,
            Self::PostTaken { .. } => 13,
            Self::Backend { .. } => 14,
            Self::Bye => 15,
            Self::TicketKeys(_) => 16,
        }
    }

    /// What it is, for people: what is in it may be nobody's business.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Listener(_) => "Listener",
            Self::Failed(_) => "Failed",
            Self::Ready => "Ready",
            Self::Go => "Go",
            Self::Serving => "Serving",
            Self::Client { .. } => "Client",
            Self::Taken { .. } => "Taken",
            Self::Question { .. } => "Question",
            Self::Told { .. } => "Told",
            Self::Outcome { .. } => "Outcome",
            Self::Post { .. } => "Post",
            Self::PostTaken { .. } => "PostTaken",
            Self::Backend { .. } => "Backend",
            Self::Bye => "Bye",
            Self::TicketKeys(_) => "TicketKeys",
        }
    }

    /// As many bytes as it takes at the most, where it has secrets: what moves as it grows leaves copies behind.
    fn room(&self) -> usize {
        match self {
            Self::Client { record, .. } => record.len() + FIELDS_LEN,
            Self::TicketKeys(TicketKeys { current, before, .. }) => {
                let before = before.as_ref().map_or(0, |before| before.bytes().len());
                current.bytes().len() + before + FIELDS_LEN
            }
            _ => 1,
        }
    }
}

/// So much of a text as there is room for.
fn cut(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(TEXT_LEN_MAX)).0
}

struct Packet(Vec<u8>);

impl Packet {
    fn new(kind: u8, room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room);
        bytes.push(kind);
        Self(bytes)
    }

    fn field(&mut self, number: u8, value: &[u8]) {
        let len = u32::try_from(value.len()).expect("a field is short");
        self.0.push(number);
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(value);
    }
}

#[derive(Clone, Copy)]
struct Fields<'p>(&'p [u8]);

/// Its number, its value, and those that follow.
type Field<'p> = (u8, &'p [u8], Fields<'p>);

impl<'p> Fields<'p> {
    /// The first field and what follows.
    fn split(self) -> Result<Option<Field<'p>>, MessageError> {
        let Some((number, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        let (len, rest) = rest.split_first_chunk::<4>().ok_or(MessageError::CutOff)?;
        let (value, rest) = rest
            .split_at_checked(u32::from_be_bytes(*len) as usize)
            .ok_or(MessageError::CutOff)?;
        Ok(Some((*number, value, Self(rest))))
    }

    fn check(self) -> Result<(), MessageError> {
        let mut rest = self;
        while let Some((_, _, after)) = rest.split()? {
            rest = after;
        }
        Ok(())
    }

    fn get(self, field: u8) -> Result<&'p [u8], MessageError> {
        let mut rest = self;
        while let Some((number, value, after)) = rest.split()? {
            if number == field {
                return Ok(value);
            }
            rest = after;
        }
        Err(MessageError::Field { field })
    }

    /// The bytes of a number.
    fn array<const LEN: usize>(self, field: u8) -> Result<[u8; LEN], MessageError> {
        self.get(field)?.try_into().map_err(|_| MessageError::Field { field })
    }

    fn text(self, field: u8) -> Result<String, MessageError> {
        let value = self.get(field)?.to_vec();
        String::from_utf8(value).map_err(|_| MessageError::Field { field })
    }
}

/// The kind, the heads of three fields, and a number.
const FIELDS_LEN: usize = 1 + 3 * 5 + 8;
/// Of a text in it.
const TEXT_LEN_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn messages() -> Vec<Message> {
        vec![
            Message::Hello(Hello::own("ws2api 1.2.3", 130, 7)),
            Message::Hello(Hello {
                line: Some(0xdead_beef),
                ..Hello::own("ws2api 1.2.3", 130, 7)
            }),
            Message::Listener(Listener {
                name: ListenerName::Ingress,
                configured: "[::]:0".parse().unwrap(),
                is_kept: true,
            }),
            Message::Failed("ws2api.toml:3: no such key".into()),
            Message::Ready,
            Message::Go,
            Message::Serving,
            Message::Client {
                number: 1 << 40,
                record: vec![7; 300],
            },
            Message::Taken {
                number: 3,
                is_taken: false,
            },
            Message::Question {
                shard: 513,
                token: 1 << 50,
                answer_by: 1 << 60,
                question: vec![8; 200],
            },
            Message::Told {
                shard: 513,
                token: 1 << 50,
                told: Vec::new(),
            },
            Message::Outcome {
                waiter: Waiter {
                    process: 7,
                    shard: 513,
                    token: 1 << 50,
                    ..Waiter::default()
                },
                post: vec![9; 200],
            },
            Message::Post {
                shard: 513,
                number: 1 << 50,
                post: vec![9; 200],
            },
            Message::PostTaken {
                shard: 513,
                number: 1 << 50,
            },
            Message::Backend {
                about: b"+192.0.2.1:80".to_vec(),
            },
            Message::Bye,
            Message::TicketKeys(TicketKeys {
                age_ms: 1 << 33,
                current: Secret::new(b"current"),
                before: Some(Secret::new(b"before")),
            }),
            Message::TicketKeys(TicketKeys {
                age_ms: 0,
                current: Secret::new(b"current"),
                before: None,
            }),
        ]
    }

    #[test]
    fn what_is_written_is_read_with_fields_and_kinds_of_later_versions_passed_over() {
        for message in messages() {
            let mut packet = message.to_bytes();
            assert_eq!(Message::parse(&packet), Ok(Some(message.clone())));
            packet.extend_from_slice(&[200, 0, 0, 0, 3, b'n', b'e', b'w']);
            assert_eq!(Message::parse(&packet), Ok(Some(message)));
        }
        assert_eq!(Message::parse(&[99, 1, 0, 0, 0, 0]), Ok(None));
    }

    #[test]
    fn secrets_are_written_where_they_stay_and_shown_to_nobody() {
        let mut with_secrets = 0;
        for message in messages() {
            if matches!(message, Message::Client { .. } | Message::TicketKeys(_)) {
                with_secrets += 1;
                assert!(message.to_bytes().len() <= message.room(), "it would move");
            }
            if let Message::TicketKeys(_) = &message {
                let shown = format!("{message:?}");
                let bytes = format!("{:?}", b"current");
                assert!(
                    !shown.contains(bytes.trim_matches(['[', ']'])) && shown.contains("Secret"),
                    "{shown}"
                );
            }
        }
        assert_eq!(with_secrets, 3);
    }

    #[test]
    fn no_text_is_cut_within_a_character() {
        let words = "ä".repeat(100_000);
        let packet = Message::Failed(words.clone()).to_bytes();
        let Ok(Some(Message::Failed(read))) = Message::parse(&packet) else {
            panic!("it is read");
        };
        assert!(words.starts_with(&read) && read.len() == TEXT_LEN_MAX, "{}", read.len());
    }

    #[test]
    fn whatever_comes_is_read_or_refused() {
        let mut random = Random::new(3);
        let mut refused = 0;
        for message in messages().iter().cycle().take(8_000) {
            let mut packet = message.to_bytes();
            random.damage(&mut packet);
            refused += usize::from(Message::parse(&packet).is_err());
        }
        assert!(refused > 400, "{refused}");
        assert_eq!(Message::parse(&[]), Err(MessageError::CutOff));
    }

    #[test]
    fn versions_agree_where_both_know_the_same_rules() {
        let hello = |oldest, protocol| Hello {
            protocol,
            oldest,
            ..Hello::own("", 0, 0)
        };
        for (own, other, agrees) in [
            ((1, 1), (1, 1), true),
            ((1, 1), (1, 9), true),
            ((2, 3), (1, 2), true),
            ((2, 3), (1, 1), false),
            ((1, 1), (2, 2), false),
        ] {
            let (own, other) = (hello(own.0, own.1), hello(other.0, other.1));
            assert_eq!(own.agrees_with(&other), agrees);
            assert_eq!(other.agrees_with(&own), agrees);
        }
    }
}

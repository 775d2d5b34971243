//! Reads and writes what nodes say: a [`record`](crate::record) each.

use super::claim::Claim;
use super::nodes::{Node, NodeId};
use crate::mapping::ConnectionId;
use crate::record::{Field, Fields, RecordError, Writer};

/// What one node says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message<'m> {
    /// To the node that has a client: a question about it.
    Ask {
        /// Who asks.
        from: NodeId,
        /// The number by which that node knows the question; no other one of it has it.
        number: u64,
        /// In the cluster's time: from then on it is not carried out.
        until_ms: u64,
        /// The question.
        question: &'m [u8],
    },
    /// To the node that has asked.
    Told(Verdict<'m>),
    /// To all nodes that have a client: it is connected here.
    Took(Claim),
    /// To the node where somebody waits for a push: what became of it.
    Outcome {
        /// Who says so.
        from: NodeId,
        /// By which that node knows it.
        number: u64,
        /// The outcome.
        outcome: &'m [u8],
    },
    /// To the node that has told an outcome: it has been heard.
    Heard,
    /// To all nodes: this one is there.
    Here(Node),
}

/// What is said to a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict<'m> {
    /// The answer.
    Answer(&'m [u8]),
    /// That client is not here; not any more, perhaps.
    NotHere,
    /// It came too late, or there was no room for it: nothing was done.
    NotCarriedOut,
}

impl<'m> Message<'m> {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut record = Writer::new(&mut bytes);
        match self {
            Self::Ask {
                from,
                number,
                until_ms,
                question,
            } => {
                record.number(KIND, ASK);
                record.number(FROM, from.number());
                record.number(NUMBER, *number);
                record.number(TIME, *until_ms);
                record.bytes(CONTENT, question);
            }
            Self::Told(verdict) => {
                record.number(KIND, TOLD);
                match verdict {
                    Verdict::Answer(answer) => record.bytes(CONTENT, answer),
                    Verdict::NotHere => record.number(DETAIL, NOT_HERE),
                    Verdict::NotCarriedOut => record.number(DETAIL, NOT_CARRIED_OUT),
                }
            }
            Self::Took(claim) => {
                record.number(KIND, TOOK);
                record.number(FROM, claim.node.number());
                record.number(TIME, claim.at_ms);
                record.bytes(CONTENT, claim.connection.as_str().as_bytes());
            }
            Self::Outcome { from, number, outcome } => {
                record.number(KIND, OUTCOME);
                record.number(FROM, from.number());
                record.number(NUMBER, *number);
                record.bytes(CONTENT, outcome);
            }
            Self::Heard => record.number(KIND, HEARD),
            Self::Here(node) => {
                record.number(KIND, HERE);
                record.number(FROM, node.id.number());
                record.number(TIME, node.now_ms);
                record.bytes(CONTENT, node.name.as_bytes());
                record.flag(DETAIL, node.is_draining);
                record.bytes(VERSION, node.version.as_bytes());
                record.number(CLIENTS, node.clients);
                record.number(SINCE, node.since_ms);
                record.flag(SUBSCRIBING, node.is_subscribing);
            }
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// It is no such message, or of a version that is not known here.
    pub fn read(bytes: &'m [u8]) -> Result<Self, RecordError> {
        let mut fields = Fields::of_record(bytes)?;
        let (mut kind, mut from, mut number, mut time) = (0_u64, 0, 0, 0);
        let (mut content, mut detail) = (None, 0_u64);
        let (mut version, mut clients, mut since_ms, mut subscribing) = (None, 0, 0, 0);
        while let Some(field) = fields.next()? {
            match field.number {
                KIND => kind = field.number()?,
                FROM => from = field.number()?,
                NUMBER => number = field.number()?,
                TIME => time = field.number()?,
                CONTENT => content = Some(field),
                DETAIL => detail = field.number()?,
                VERSION => version = Some(words(&field)?),
                CLIENTS => clients = field.number()?,
                SINCE => since_ms = field.number()?,
                SUBSCRIBING => subscribing = field.number()?,
                _ => {}
            }
        }
        let from = NodeId::new(from);
        let content = content.ok_or(RecordError::Field(CONTENT));
        Ok(match kind {
            ASK => Self::Ask {
                from,
                number,
                until_ms: time,
                question: content?.bytes(),
            },
            TOLD => Self::Told(match detail {
                0 => Verdict::Answer(content?.bytes()),
                NOT_HERE => Verdict::NotHere,
                NOT_CARRIED_OUT => Verdict::NotCarriedOut,
                _ => return Err(RecordError::Field(DETAIL)),
            }),
            TOOK => Self::Took(Claim {
                at_ms: time,
                connection: connection(&content?)?,
                node: from,
            }),
            OUTCOME => Self::Outcome {
                from,
                number,
                outcome: content?.bytes(),
            },
            HEARD => Self::Heard,
            HERE => Self::Here(Node {
                id: from,
                name: words(&content?)?,
                version: version.ok_or(RecordError::Field(VERSION))?,
                clients,
                since_ms,
                is_draining: flag(DETAIL, detail)?,
                is_subscribing: flag(SUBSCRIBING, subscribing)?,
                now_ms: time,
            }),
            _ => return Err(RecordError::Field(KIND)),
        })
    }
}

fn flag(field: u32, number: u64) -> Result<bool, RecordError> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(RecordError::Field(field)),
    }
}

/// A text that people read: short, and nothing in it moves a cursor.
fn words(field: &Field<'_>) -> Result<String, RecordError> {
    let text = field.text()?;
    if text.is_empty() || text.len() > WORDS_LEN_MAX || text.chars().any(char::is_control) {
        return Err(field.wrong());
    }
    Ok(text.to_owned())
}

/// Its order among a shard's own connections is of no use to another node.
fn connection(field: &Field<'_>) -> Result<ConnectionId, RecordError> {
    ConnectionId::adopted(field.text()?, 0).ok_or_else(|| field.wrong())
}

const WORDS_LEN_MAX: usize = 255;

const KIND: u32 = 1;
const FROM: u32 = 2;
const NUMBER: u32 = 3;
const TIME: u32 = 4;
const CONTENT: u32 = 5;
const DETAIL: u32 = 6;
const VERSION: u32 = 7;
const CLIENTS: u32 = 8;
const SINCE: u32 = 9;
const SUBSCRIBING: u32 = 10;

// What `KIND` says.
const ASK: u64 = 1;
const TOLD: u64 = 2;
const TOOK: u64 = 3;
const OUTCOME: u64 = 4;
const HEARD: u64 = 5;
const HERE: u64 = 6;

// What `DETAIL` says of a verdict without an answer.
const NOT_HERE: u64 = 1;
const NOT_CARRIED_OUT: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn all() -> Vec<Message<'static>> {
        let node = NodeId::new(u64::MAX);
        vec![
            Message::Ask {
                from: node,
                number: 7,
                until_ms: 1 << 40,
                question: b"q",
            },
            Message::Told(Verdict::Answer(b"")),
            Message::Told(Verdict::NotHere),
            Message::Told(Verdict::NotCarriedOut),
            Message::Took(Claim {
                at_ms: 5,
                connection: ConnectionId::adopted("deadbeef00100000004d", 0).unwrap(),
                node,
            }),
            Message::Outcome {
                from: NodeId::new(0),
                number: 0,
                outcome: b"{}",
            },
            Message::Heard,
            Message::Here(Node {
                id: node,
                name: "n1".into(),
                version: "0.1.0".into(),
                clients: 100_000,
                since_ms: 1,
                is_draining: true,
                is_subscribing: true,
                now_ms: 2,
            }),
        ]
    }

    #[test]
    fn what_is_said_is_understood_and_later_fields_are_passed_over() {
        for message in all() {
            let mut bytes = message.to_bytes();
            assert_eq!(Message::read(&bytes).as_ref(), Ok(&message));
            bytes.extend_from_slice(&[60, 3, b'n', b'e', b'w']);
            assert_eq!(Message::read(&bytes).as_ref(), Ok(&message));
            bytes[0] = crate::record::VERSION_TLS + 1;
            assert_eq!(Message::read(&bytes), Err(RecordError::Version(bytes[0])));
        }
    }

    #[test]
    fn names_and_kinds_that_nobody_writes_are_refused() {
        let here = |name: &str, detail| {
            let mut bytes = Vec::new();
            let mut record = Writer::new(&mut bytes);
            record.number(KIND, HERE);
            record.bytes(CONTENT, name.as_bytes());
            record.number(DETAIL, detail);
            record.bytes(VERSION, b"1");
            Message::read(&bytes).map(|_| ())
        };
        assert_eq!(here("n", 1), Ok(()));
        for (name, detail, field) in [("", 0, CONTENT), ("a\nb", 0, CONTENT), ("n", 2, DETAIL)] {
            assert_eq!(here(name, detail), Err(RecordError::Field(field)), "{name:?}");
        }
        assert_eq!(here(&"n".repeat(256), 0), Err(RecordError::Field(CONTENT)));
        for (kind, content) in [(0, &b"x"[..]), (9, b"x"), (TOOK, b"no connection")] {
            let mut bytes = Vec::new();
            let mut record = Writer::new(&mut bytes);
            record.number(KIND, kind);
            record.bytes(CONTENT, content);
            assert!(Message::read(&bytes).is_err(), "{kind}");
        }
    }

    #[test]
    fn whatever_comes_is_read_or_refused() {
        let mut random = Random::new(11);
        let all: Vec<_> = all().iter().map(Message::to_bytes).collect();
        let mut refused = 0;
        for bytes in all.iter().cycle().take(20_000) {
            let mut bytes = bytes.clone();
            random.damage(&mut bytes);
            refused += usize::from(Message::read(&bytes).is_err());
        }
        assert!(refused > 5_000, "{refused}");
        assert_eq!(Message::read(&[]), Err(RecordError::Form));
    }
}

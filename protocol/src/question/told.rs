//! Writes down what is told of a client, and reads it back.

use super::page::Page;
use super::push::{read_push, write_push};
use crate::mapping::{ConnectionId, Identity};
use crate::ocpp::{Accepted, DeferredRefusal, Push, PushRefusal};
use crate::record::{Fields, IdentityFields, PostRecord, RecordError, Writer, write_identity};

/// What is told to a [`Question`](super::Question).
#[derive(Clone, Debug)]
pub enum Told {
    /// No such client.
    NotConnected,
    /// It moves from one process to another just now: it may be asked about again soon.
    OnItsWay,
    /// To `Push`: the client's session has taken the push.
    Pushed {
        /// Whether the push was sent or waits.
        accepted: Accepted,
        /// The client's connection that it goes over.
        connection: ConnectionId,
    },
    /// To `Push`: the session refuses the push.
    PushRefused(PushRefusal),
    /// To `EndWait`: the push was sent, or is over. To `ForgetWait`: its outcome never comes.
    WaitEnded,
    /// To `EndWait`: the push of this connection was not sent and never will be.
    WaitWithdrawn(Box<Identity>),
    /// To `Answer`: whether the deferred answer was taken.
    Answered(Result<(), AnswerRefusal>),
    /// To `Describe`: how the client is, as a JSON object.
    Described(String),
    /// To `Close`: the connection is being closed.
    Closed,
    /// To `Replace`: what is left of the client is the other process's.
    Replaced(Box<Replaced>),
    /// To a [`PageQuestion`](super::PageQuestion).
    Listed(Box<Page>),
}

/// Why a deferred answer was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AnswerRefusal {
    /// No such Call, or answered already.
    Deferred(DeferredRefusal),
    /// The body is not what it should be.
    Body,
}

/// What is left of a client whose newer connection is another process's.
#[derive(Clone, Debug, Default)]
pub struct Replaced {
    /// The connection that was closed for it, if there was one.
    pub identity: Option<Identity>,
    /// Its pushes that were not sent.
    pub pushes: Vec<Push>,
    /// What the backend has not taken of the client, in order.
    pub posts: Vec<PostRecord>,
}

impl Told {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut record = Writer::new(&mut bytes);
        match self {
            Self::NotConnected => record.number(KIND, NOT_CONNECTED),
            Self::OnItsWay => record.number(KIND, ON_ITS_WAY),
            Self::Pushed { accepted, connection } => {
                record.number(KIND, PUSHED);
                record.flag(DETAIL, *accepted == Accepted::Queued);
                record.bytes(CONTENT, connection.as_str().as_bytes());
            }
            Self::PushRefused(refusal) => {
                record.number(KIND, PUSH_REFUSED);
                record.number(DETAIL, number_in(&PUSH_REFUSALS, refusal));
            }
            Self::WaitEnded => record.number(KIND, WAIT_ENDED),
            Self::WaitWithdrawn(identity) => {
                record.number(KIND, WAIT_WITHDRAWN);
                record.fields(IDENTITY, |record| write_identity(identity, record));
            }
            Self::Answered(result) => {
                record.number(KIND, ANSWERED);
                record.number(DETAIL, number_in(&ANSWERS, result));
            }
            Self::Described(text) => {
                record.number(KIND, DESCRIBED);
                record.bytes(CONTENT, text.as_bytes());
            }
            Self::Closed => record.number(KIND, CLOSED),
            Self::Replaced(replaced) => {
                record.number(KIND, REPLACED);
                if let Some(identity) = &replaced.identity {
                    record.fields(IDENTITY, |record| write_identity(identity, record));
                }
                for push in &replaced.pushes {
                    record.fields(PUSHES, |record| write_push(push, record));
                }
                for post in &replaced.posts {
                    record.bytes(POSTS, &post.record());
                }
            }
            Self::Listed(page) => {
                record.number(KIND, LISTED);
                record.fields(PAGE, |record| page.write(record));
            }
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// It is nothing of the kind.
    pub fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields::of_record(bytes)?;
        let (mut kind, mut detail, mut content) = (0_u64, 0_u64, "");
        let (mut replaced, mut page) = (Replaced::default(), None);
        while let Some(field) = fields.next()? {
            match field.number {
                KIND => kind = field.number()?,
                DETAIL => detail = field.number()?,
                CONTENT => content = field.text()?,
                IDENTITY => {
                    let mut identity = IdentityFields::default();
                    let mut parts = field.fields();
                    while let Some(part) = parts.next()? {
                        identity.read(&part)?;
                    }
                    // The order of connections means nothing here.
                    replaced.identity = identity.finish(0)?;
                }
                PAGE => page = Some(Page::read(&field)?),
                PUSHES => replaced.pushes.push(read_push(&field)?),
                POSTS => replaced.posts.push(PostRecord::read(field.bytes())?),
                _ => {}
            }
        }
        let detail = usize::try_from(detail).unwrap_or(usize::MAX);
        let wrong = RecordError::Field(DETAIL);
        Ok(match kind {
            NOT_CONNECTED => Self::NotConnected,
            ON_ITS_WAY => Self::OnItsWay,
            PUSHED => Self::Pushed {
                accepted: [Accepted::Sent, Accepted::Queued].get(detail).copied().ok_or(wrong)?,
                connection: ConnectionId::adopted(content, 0).ok_or(RecordError::Field(CONTENT))?,
            },
            PUSH_REFUSED => Self::PushRefused(PUSH_REFUSALS.get(detail).copied().ok_or(wrong)?),
            WAIT_ENDED => Self::WaitEnded,
            WAIT_WITHDRAWN => Self::WaitWithdrawn(replaced.identity.ok_or(RecordError::Field(IDENTITY))?.into()),
            ANSWERED => Self::Answered(ANSWERS.get(detail).copied().ok_or(wrong)?),
            DESCRIBED => Self::Described(content.to_owned()),
            CLOSED => Self::Closed,
            REPLACED => Self::Replaced(replaced.into()),
            LISTED => Self::Listed(page.ok_or(RecordError::Field(PAGE))?.into()),
            _ => return Err(RecordError::Field(KIND)),
        })
    }
}

/// Where it stands in the list; all that there are do.
fn number_in<T: PartialEq>(all: &[T], one: &T) -> u64 {
    all.iter().position(|other| other == one).unwrap_or(all.len()) as u64
}

const PUSH_REFUSALS: [PushRefusal; 4] = [
    PushRefusal::Pending,
    PushRefusal::Full,
    PushRefusal::MessageId,
    PushRefusal::Ending,
];
const ANSWERS: [Result<(), AnswerRefusal>; 4] = [
    Ok(()),
    Err(AnswerRefusal::Deferred(DeferredRefusal::NoneOpen)),
    Err(AnswerRefusal::Deferred(DeferredRefusal::Answered)),
    Err(AnswerRefusal::Body),
];

const KIND: u32 = 1;
const DETAIL: u32 = 2;
const CONTENT: u32 = 3;
const IDENTITY: u32 = 4;
const PAGE: u32 = 5;
const PUSHES: u32 = crate::record::LIST;
const POSTS: u32 = crate::record::LIST + 1;

// What `KIND` says.
const NOT_CONNECTED: u64 = 1;
const ON_ITS_WAY: u64 = 2;
const PUSHED: u64 = 3;
const PUSH_REFUSED: u64 = 4;
const WAIT_ENDED: u64 = 5;
const WAIT_WITHDRAWN: u64 = 6;
const ANSWERED: u64 = 7;
const DESCRIBED: u64 = 8;
const CLOSED: u64 = 9;
const REPLACED: u64 = 10;
const LISTED: u64 = 11;

//! Writes down what the backend has not taken yet.

use std::time::Duration;

use bytes::Bytes;

use super::identity::{IdentityFields, write_identity};
use super::{Field, Fields, RecordError, Writer};
use crate::mapping::Identity;
use crate::mapping::outgoing::PostKey;
use crate::ocpp::{Action, FailReason, MessageId, Outcome, PostContent};
use crate::trace_context::TraceParent;

/// One thing that the backend must learn, between two processes.
#[derive(Clone, Debug)]
pub struct PostRecord {
    /// Whose connection it is about.
    pub identity: Identity,
    /// What it learns.
    pub notice: Notice,
    /// The same for every try, in whichever process.
    pub key: PostKey,
    /// How long ago it was tried first.
    pub age: Duration,
    /// When it is tried again.
    pub due_in: Duration,
    /// How often it was tried.
    pub tries: u32,
    /// It is the word of the client that it travels with, and counts as such.
    pub is_clients_own: bool,
}

/// What the backend learns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// What a client has said, or what became of a push, and that push's trace.
    Post(Action, MessageId, PostContent, Option<Box<TraceParent>>),
    /// A connection has ended: the JSON body.
    Disconnect(Vec<u8>),
}

impl PostRecord {
    /// A record of its own: of one that belongs to no client that is connected.
    #[must_use]
    pub fn record(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(None, &mut Writer::new(&mut bytes));
        bytes
    }

    /// Reads what [`record`](Self::record) wrote.
    ///
    /// # Errors
    /// It is no such record.
    pub fn read(record: &[u8]) -> Result<Self, RecordError> {
        Self::from_fields(Fields::of_record(record)?, None)
    }

    /// `owner` is known to whoever reads it.
    pub(super) fn write(&self, owner: Option<&Identity>, record: &mut Writer<'_>) {
        if owner.is_none_or(|owner| owner.connection.as_str() != self.identity.connection.as_str()) {
            write_identity(&self.identity, record);
        }
        let (kind, names, body) = match &self.notice {
            Notice::Disconnect(body) => (DISCONNECT, None, &body[..]),
            Notice::Post(action, message_id, content, _) => {
                let (kind, body) = match content {
                    PostContent::Outcome(Outcome::Result(body)) => (RESULT, &body[..]),
                    PostContent::Outcome(Outcome::Error { body }) => (ERROR, &body[..]),
                    PostContent::Outcome(Outcome::Failed { .. }) => (FAILED, &[][..]),
                    PostContent::Send(body) => (SEND, &body[..]),
                    PostContent::ResultError(body) => (RESULT_ERROR, &body[..]),
                };
                (kind, Some((action, message_id)), body)
            }
        };
        record.number(KIND, kind);
        if let Some((action, message_id)) = names {
            record.bytes(ACTION, action.as_str().as_bytes());
            record.bytes(MESSAGE_ID, message_id.as_str().as_bytes());
        }
        if !body.is_empty() {
            record.bytes(BODY, body);
        }
        if let Notice::Post(_, _, PostContent::Outcome(Outcome::Failed { reason, sent }), _) = &self.notice {
            record.number(REASON, reason_number(*reason));
            record.flag(SENT, *sent);
        }
        record.number(KEY_SHARD, self.key.shard as u64);
        record.number(KEY_NUMBER, self.key.number);
        record.duration(AGE, self.age);
        record.duration(DUE_IN, self.due_in);
        record.number(TRIES, self.tries.into());
        record.flag(IS_OWN, self.is_clients_own);
        if let Notice::Post(_, _, _, Some(trace)) = &self.notice {
            record.bytes(TRACE, trace.as_str().as_bytes());
        }
    }

    pub(super) fn from_fields(mut fields: Fields<'_>, owner: Option<&Identity>) -> Result<Self, RecordError> {
        let mut identity = IdentityFields::default();
        let (mut kind, mut action, mut message_id, mut body) = (0, None, None, &[][..]);
        let (mut reason, mut sent) = (None, false);
        let mut key = PostKey { shard: 0, number: 0 };
        let (mut age, mut due_in, mut tries) = (Duration::ZERO, Duration::ZERO, 0);
        let (mut is_clients_own, mut trace) = (false, None);
        while let Some(field) = fields.next()? {
            if identity.read(&field)? {
                continue;
            }
            match field.number {
                KIND => kind = field.number::<u64>()?,
                ACTION => action = Some(Action::parse(field.text()?).map_err(|_| field.wrong())?),
                MESSAGE_ID => message_id = Some(MessageId::parse(field.text()?).map_err(|_| field.wrong())?),
                BODY => body = field.bytes(),
                REASON => reason = Some(reason_of(&field)?),
                SENT => sent = field.flag()?,
                KEY_SHARD => key.shard = field.number()?,
                KEY_NUMBER => key.number = field.number()?,
                AGE => age = field.duration()?,
                DUE_IN => due_in = field.duration()?,
                TRIES => tries = field.number()?,
                IS_OWN => is_clients_own = field.flag()?,
                TRACE => trace = Some(TraceParent::parse(field.bytes()).ok_or_else(|| field.wrong())?.into()),
                _ => {}
            }
        }
        // The order of connections means nothing to a post.
        let identity = identity.finish(0)?.or_else(|| owner.cloned());
        let body = || Bytes::copy_from_slice(body);
        let content = match kind {
            DISCONNECT => None,
            RESULT => Some(PostContent::Outcome(Outcome::Result(body()))),
            ERROR => Some(PostContent::Outcome(Outcome::Error { body: body() })),
            FAILED => Some(PostContent::Outcome(Outcome::Failed {
                reason: reason.ok_or(RecordError::Field(REASON))?,
                sent,
            })),
            SEND => Some(PostContent::Send(body())),
            RESULT_ERROR => Some(PostContent::ResultError(body())),
            _ => return Err(RecordError::Field(KIND)),
        };
        let notice = match content {
            None => Notice::Disconnect(body().into()),
            Some(content) => Notice::Post(
                action.ok_or(RecordError::Field(ACTION))?,
                message_id.ok_or(RecordError::Field(MESSAGE_ID))?,
                content,
                trace,
            ),
        };
        Ok(Self {
            identity: identity.ok_or(RecordError::Form)?,
            notice,
            key,
            age,
            due_in,
            tries,
            is_clients_own,
        })
    }
}

fn reason_number(reason: FailReason) -> u64 {
    match reason {
        FailReason::Timeout => 1,
        FailReason::Disconnected => 2,
        FailReason::Replaced => 3,
        FailReason::Shutdown => 4,
        FailReason::BadAnswer => 5,
    }
}

fn reason_of(field: &Field<'_>) -> Result<FailReason, RecordError> {
    Ok(match field.number::<u64>()? {
        1 => FailReason::Timeout,
        2 => FailReason::Disconnected,
        3 => FailReason::Replaced,
        4 => FailReason::Shutdown,
        5 => FailReason::BadAnswer,
        _ => return Err(field.wrong()),
    })
}

// Behind those of the identity, which a client's own posts do without.
const KIND: u32 = 5;
const ACTION: u32 = 6;
const MESSAGE_ID: u32 = 7;
const BODY: u32 = 8;
const REASON: u32 = 9;
const SENT: u32 = 10;
const KEY_SHARD: u32 = 11;
const KEY_NUMBER: u32 = 12;
const AGE: u32 = 13;
const DUE_IN: u32 = 14;
const TRIES: u32 = 15;
const IS_OWN: u32 = 16;
const TRACE: u32 = 17;

// What `KIND` says.
const RESULT: u64 = 1;
const ERROR: u64 = 2;
const FAILED: u64 = 3;
const SEND: u64 = 4;
const RESULT_ERROR: u64 = 5;
const DISCONNECT: u64 = 6;

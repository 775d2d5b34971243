//! Writes down what the ingress asks about a client and what it is told, for another process, where the client may be; and reads it
//! back. A page of all clients is asked for in the same way.
//!
//! The form is that of a [`record`](crate::record). Nothing in it is believed: names, texts and lengths are checked as they are on
//! arrival. (A payload is one JSON value because the process that writes it has looked.)

mod outcome;
mod page;
mod push;
mod told;

use bytes::Bytes;

pub use self::outcome::PushOutcome;
pub use self::page::{Draft, Names, Page, PageQuestion};
use self::push::{read_push, read_waiter, write_push, write_waiter};
pub use self::told::{AnswerRefusal, Replaced, Told};
use crate::mapping::ConnectionId;
use crate::ocpp::{Action, ClientId, MessageId, Push, Waiter};
use crate::record::{Field, Fields, RecordError, Writer};

/// What is asked about one client.
#[derive(Clone, Debug)]
pub struct Question {
    /// The client that is meant.
    pub client: ClientId,
    /// What is to be done or told.
    pub about: About,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum About {
    /// `POST /call/…`: it gets this push.
    Push(Push),
    /// `POST /result/…` or `/error/…`: the backend answers a Call that it had deferred.
    Answer {
        /// The Call's action.
        action: Action,
        /// The Call's id, chosen by the client.
        message_id: MessageId,
        /// `/error`: the body has code, description and details.
        is_error: bool,
        /// The body of the request.
        body: Bytes,
    },
    /// The request that waits for this push waits no longer.
    EndWait {
        /// The push's id, chosen by the backend.
        message_id: MessageId,
        /// The request that waited.
        waiter: Waiter,
    },
    /// The request that waited for this push has been told that its time is over: the outcome is nobody's.
    ForgetWait {
        /// The push's id, chosen by the backend.
        message_id: MessageId,
        /// The request that waited.
        waiter: Waiter,
    },
    /// `GET /clients/<ClientId>`
    Describe,
    /// `DELETE /clients/<ClientId>`
    Close {
        /// The close code (RFC 6455, 7.4).
        code: u16,
        /// Close reason, at most 123 bytes.
        reason: String,
    },
    /// It is connected to the process that asks: this newer connection takes the place of the one here.
    Replace {
        /// The newer one.
        by: ConnectionId,
    },
}

impl Question {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut record = Writer::new(&mut bytes);
        record.bytes(CLIENT, self.client.as_str().as_bytes());
        match &self.about {
            About::Push(push) => {
                record.number(KIND, PUSH);
                record.fields(CONTENT, |record| write_push(push, record));
            }
            About::Answer {
                action,
                message_id,
                is_error,
                body,
            } => {
                record.number(KIND, ANSWER);
                record.bytes(MESSAGE_ID, message_id.as_str().as_bytes());
                record.bytes(ACTION, action.as_str().as_bytes());
                record.flag(IS_ERROR, *is_error);
                record.bytes(BODY, body);
            }
            About::EndWait { message_id, waiter } => {
                record.number(KIND, END_WAIT);
                record.bytes(MESSAGE_ID, message_id.as_str().as_bytes());
                record.fields(WAITER, |record| write_waiter(*waiter, record));
            }
            About::ForgetWait { message_id, waiter } => {
                record.number(KIND, FORGET_WAIT);
                record.bytes(MESSAGE_ID, message_id.as_str().as_bytes());
                record.fields(WAITER, |record| write_waiter(*waiter, record));
            }
            About::Describe => record.number(KIND, DESCRIBE),
            About::Close { code, reason } => {
                record.number(KIND, CLOSE);
                record.bytes(BODY, reason.as_bytes());
                record.number(CODE, (*code).into());
            }
            About::Replace { by } => {
                record.number(KIND, REPLACE);
                record.bytes(BODY, by.as_str().as_bytes());
            }
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// It is no such question.
    pub fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields::of_record(bytes)?;
        let (mut client, mut kind, mut content) = (None, 0_u64, None);
        let (mut message_id, mut action, mut waiter) = (None, None, None);
        let (mut is_error, mut body, mut code) = (false, &[][..], 0);
        while let Some(field) = fields.next()? {
            match field.number {
                CLIENT => client = Some(ClientId::parse(field.text()?).map_err(|_| field.wrong())?),
                KIND => kind = field.number()?,
                CONTENT => content = Some(field),
                MESSAGE_ID => message_id = Some(read_message_id(&field)?),
                ACTION => action = Some(read_action(&field)?),
                IS_ERROR => is_error = field.flag()?,
                BODY => body = field.bytes(),
                WAITER => waiter = Some(read_waiter(&field)?),
                CODE => code = field.number()?,
                _ => {}
            }
        }
        let text = || str::from_utf8(body).map_err(|_| RecordError::Field(BODY));
        let message_id = message_id.ok_or(RecordError::Field(MESSAGE_ID));
        let waiter = waiter.ok_or(RecordError::Field(WAITER));
        let about = match kind {
            PUSH => About::Push(read_push(&content.ok_or(RecordError::Field(CONTENT))?)?),
            ANSWER => About::Answer {
                action: action.ok_or(RecordError::Field(ACTION))?,
                message_id: message_id?,
                is_error,
                body: Bytes::copy_from_slice(body),
            },
            END_WAIT => About::EndWait {
                message_id: message_id?,
                waiter: waiter?,
            },
            FORGET_WAIT => About::ForgetWait {
                message_id: message_id?,
                waiter: waiter?,
            },
            DESCRIBE => About::Describe,
            CLOSE => About::Close {
                code,
                reason: text()?.to_owned(),
            },
            REPLACE => About::Replace {
                by: ConnectionId::adopted(text()?, 0).ok_or(RecordError::Field(BODY))?,
            },
            _ => return Err(RecordError::Field(KIND)),
        };
        Ok(Self {
            client: client.ok_or(RecordError::Field(CLIENT))?,
            about,
        })
    }
}

fn read_message_id(field: &Field<'_>) -> Result<MessageId, RecordError> {
    MessageId::parse(field.text()?).map_err(|_| field.wrong())
}

fn read_action(field: &Field<'_>) -> Result<Action, RecordError> {
    Action::parse(field.text()?).map_err(|_| field.wrong())
}

const CLIENT: u32 = 1;
const KIND: u32 = 2;
const CONTENT: u32 = 3;
const MESSAGE_ID: u32 = 4;
const ACTION: u32 = 5;
const IS_ERROR: u32 = 6;
const BODY: u32 = 7;
const WAITER: u32 = 8;
const CODE: u32 = 9;

// What `KIND` says.
const PUSH: u64 = 1;
const ANSWER: u64 = 2;
const END_WAIT: u64 = 3;
const FORGET_WAIT: u64 = 4;
const DESCRIBE: u64 = 5;
const CLOSE: u64 = 6;
const REPLACE: u64 = 7;
/// Of a [`PageQuestion`].
const LIST: u64 = 8;

#[cfg(test)]
mod tests;

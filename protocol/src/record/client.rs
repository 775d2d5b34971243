//! Puts a client's record together, and takes it apart.

use std::time::Duration;

use super::identity::{IdentityFields, write_identity};
use super::post::PostRecord;
use super::{Fields, LIST, RecordError, VERSION, VERSION_TLS, Writer};
use crate::mapping::Identity;
use crate::tls::Records;
use crate::websocket::deflate::Deflate;
use crate::websocket::{Decoder, DecoderLimits};

/// A client between two processes, but for its socket.
#[derive(Debug)]
pub struct ClientRecord<'r> {
    /// What the backend knows it by.
    pub identity: Identity,
    /// When the handshake was done, in milliseconds since 1970.
    pub since_ms: u64,
    /// How long ago that is, by a clock that nobody sets.
    pub age: Duration,
    /// The conversation: for [`Session::from_record`](crate::ocpp::Session::from_record).
    pub session: Fields<'r>,
    /// Of a client that speaks TLS.
    pub tls: Option<Records>,
    /// Of a client that compresses.
    pub deflate: Option<Deflate>,
    /// What has come of a frame or a message in part.
    pub decoder: Decoder,
    /// What was received behind that and has had no turn.
    pub unread: &'r [u8],
    /// What the backend has not taken yet, in its order.
    pub posts: Vec<PostRecord>,
}

/// What of a client stands beside its conversation.
#[derive(Clone, Copy, Debug)]
pub struct ClientParts<'a> {
    /// See [`ClientRecord::identity`].
    pub identity: &'a Identity,
    /// See [`ClientRecord::since_ms`].
    pub since_ms: u64,
    /// See [`ClientRecord::age`].
    pub age: Duration,
    /// See [`ClientRecord::tls`].
    pub tls: Option<&'a Records>,
    /// See [`ClientRecord::deflate`].
    pub deflate: Option<&'a Deflate>,
    /// See [`ClientRecord::decoder`].
    pub decoder: &'a Decoder,
    /// See [`ClientRecord::unread`].
    pub unread: &'a [u8],
    /// See [`ClientRecord::posts`].
    pub posts: &'a [PostRecord],
}

impl ClientRecord<'_> {
    /// What a record is written of that is the same as this one, but for the conversation.
    #[must_use]
    pub fn parts(&self) -> ClientParts<'_> {
        ClientParts {
            identity: &self.identity,
            since_ms: self.since_ms,
            age: self.age,
            tls: self.tls.as_ref(),
            deflate: self.deflate.as_ref(),
            decoder: &self.decoder,
            unread: self.unread,
            posts: &self.posts,
        }
    }
}

impl ClientParts<'_> {
    /// The record. `session` writes the conversation.
    #[must_use]
    pub fn record(&self, session: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(USUAL_LEN);
        // Who does not know of TLS would go on in plain text.
        let version = if self.tls.is_some() { VERSION_TLS } else { VERSION };
        let mut record = Writer::of_version(version, &mut bytes);
        write_identity(self.identity, &mut record);
        record.number(SINCE_MS, self.since_ms);
        record.duration(AGE, self.age);
        record.fields(SESSION, session);
        if let Some(deflate) = self.deflate {
            record.fields(DEFLATE, |record| deflate.write_record(record));
        }
        if !self.decoder.is_idle() {
            record.fields(DECODER, |record| self.decoder.write_record(record));
        }
        if !self.unread.is_empty() {
            record.bytes(UNREAD, self.unread);
        }
        if let Some(tls) = self.tls {
            record.fields(TLS, |record| tls.write_record(record));
        }
        for post in self.posts {
            record.fields(POSTS, |record| post.write(Some(self.identity), record));
        }
        bytes
    }
}

impl<'r> ClientRecord<'r> {
    /// Reads what [`ClientParts::record`] wrote. `number` puts its connection in order behind those that were adopted here before.
    ///
    /// # Errors
    /// It is no such record.
    pub fn read(record: &'r [u8], number: u64) -> Result<Self, RecordError> {
        let mut fields = Fields::of_record(record)?;
        let mut identity = IdentityFields::default();
        let (mut since_ms, mut age) = (0, Duration::ZERO);
        let (mut session, mut tls, mut deflate, mut posts) = (None, None, None, Vec::new());
        let (mut decoder, mut unread) = (Decoder::default(), &[][..]);
        while let Some(field) = fields.next()? {
            if identity.read(&field)? {
                continue;
            }
            match field.number {
                SINCE_MS => since_ms = field.number()?,
                AGE => age = field.duration()?,
                SESSION => session = Some(field.fields()),
                DEFLATE => deflate = Some(Deflate::from_record(field.fields())?),
                DECODER => {
                    let limits = DecoderLimits {
                        message_max: MESSAGE_MAX,
                        is_deflate_agreed: deflate.is_some(),
                    };
                    decoder = Decoder::from_record(field.fields(), limits)?;
                }
                UNREAD => unread = field.bytes(),
                TLS => tls = Some(Records::from_record(field.fields())?),
                POSTS => posts.push(field.fields()),
                _ => {}
            }
        }
        let identity = identity.finish(number)?.ok_or(RecordError::Form)?;
        let posts = posts
            .into_iter()
            .map(|post| PostRecord::from_fields(post, Some(&identity)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            identity,
            since_ms,
            age,
            session: session.ok_or(RecordError::Field(SESSION))?,
            tls,
            deflate,
            decoder,
            unread,
            posts,
        })
    }
}

// Behind those of the identity.
const SINCE_MS: u32 = 5;
const AGE: u32 = 6;
const SESSION: u32 = 7;
const DEFLATE: u32 = 8;
const DECODER: u32 = 9;
const UNREAD: u32 = 10;
const TLS: u32 = 11;
const POSTS: u32 = LIST;
/// The highest `message_max` that there is: it was another one where the message began, perhaps.
const MESSAGE_MAX: usize = 64 << 20;
/// Without histories and without anything under way.
const USUAL_LEN: usize = 256;

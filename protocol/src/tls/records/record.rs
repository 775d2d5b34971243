//! Writes down what is left of a handshake, for another process that goes on with the connection.
//!
//! It has the keys in it: who reads it reads the connection. It goes from one process of ours to another one, and nowhere else.

use super::{Keys, MESSAGE_LEN_MAX, Partial, RECORD_LEN_MAX, Records, Side};
use crate::record::{Field, Fields, RecordError, Writer};
use crate::tls::suite::{Suite, Version};

impl Records {
    /// Writes all of it down.
    pub fn write_record(&self, record: &mut Writer<'_>) {
        record.number(SUITE, self.suite.number().into());
        record.flag(IS_CLIENT, self.side == Side::Client);
        for (number, keys) in [(SENDING, &self.sending), (RECEIVING, &self.receiving)] {
            record.fields(number, |record| keys.write_record(self.suite, record));
        }
        record.number(FRUITLESS, self.fruitless.into());
        record.flag(OWES_KEY_UPDATE, self.owes_key_update);
        record.flag(SENDS_NOTHING, !self.is_sending);
        record.flag(RECEIVES_NOTHING, !self.is_receiving);
        if let Some(partial) = &self.partial {
            record.bytes(PARTIAL_RECORD, &partial.record);
            record.bytes(PARTIAL_MESSAGE, &partial.message);
        }
    }

    /// Reads what [`write_record`](Self::write_record) wrote.
    ///
    /// # Errors
    /// It is no such record.
    pub fn from_record(mut fields: Fields<'_>) -> Result<Self, RecordError> {
        let (mut suite, mut side) = (None, Side::Server);
        let (mut sending, mut receiving) = (None, None);
        let (mut fruitless, mut owes_key_update) = (0, false);
        let (mut is_sending, mut is_receiving) = (true, true);
        let mut partial = Partial::default();
        while let Some(field) = fields.next()? {
            match field.number {
                SUITE => suite = Some(Suite::from_number(field.number()?).ok_or_else(|| field.wrong())?),
                IS_CLIENT if field.flag()? => side = Side::Client,
                SENDING => sending = Some(read_keys(suite, &field)?),
                RECEIVING => receiving = Some(read_keys(suite, &field)?),
                FRUITLESS => fruitless = field.number()?,
                OWES_KEY_UPDATE => owes_key_update = field.flag()?,
                SENDS_NOTHING => is_sending = !field.flag()?,
                RECEIVES_NOTHING => is_receiving = !field.flag()?,
                PARTIAL_RECORD => partial.record = read_part(&field, RECORD_LEN_MAX)?,
                PARTIAL_MESSAGE => partial.message = read_part(&field, MESSAGE_LEN_MAX)?,
                _ => {}
            }
        }
        let suite = suite.ok_or(RecordError::Field(SUITE))?;
        let has_partial = !partial.record.is_empty() || !partial.message.is_empty();
        let is_tls13 = suite.version() == Version::Tls13;
        if !is_tls13 && (owes_key_update || !partial.message.is_empty()) || !is_receiving && has_partial {
            return Err(RecordError::Form);
        }
        Ok(Self {
            sending: sending.ok_or(RecordError::Field(SENDING))?,
            receiving: receiving.ok_or(RecordError::Field(RECEIVING))?,
            suite,
            side,
            fruitless,
            owes_key_update,
            is_sending,
            is_receiving,
            partial: has_partial.then(|| Box::new(partial)),
        })
    }
}

fn read_keys(suite: Option<Suite>, field: &Field<'_>) -> Result<Keys, RecordError> {
    let suite = suite.ok_or(RecordError::Field(SUITE))?;
    Keys::from_record(suite, field.fields())
}

fn read_part(field: &Field<'_>, len_max: usize) -> Result<Vec<u8>, RecordError> {
    Some(field.bytes())
        .filter(|part| part.len() <= len_max)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| field.wrong())
}

const SUITE: u32 = 1;
const IS_CLIENT: u32 = 2;
const SENDING: u32 = 3;
const RECEIVING: u32 = 4;
const FRUITLESS: u32 = 5;
const OWES_KEY_UPDATE: u32 = 6;
const SENDS_NOTHING: u32 = 7;
const RECEIVES_NOTHING: u32 = 8;
const PARTIAL_RECORD: u32 = 9;
const PARTIAL_MESSAGE: u32 = 10;

//! Writes down what a client's compressed messages refer to, for another process.

use super::{Agreement, BITS_MAX, BITS_MIN, Deflate, History};
use crate::record::{Field, Fields, RecordError, Writer};

impl Deflate {
    /// Writes down what was agreed on, and both histories.
    pub fn write_record(&self, record: &mut Writer<'_>) {
        let agreement = &self.agreement;
        record.number(SERVER_BITS, agreement.server_window_bits.into());
        record.flag(SERVER_FORGETS, agreement.server_no_context_takeover);
        record.number(CLIENT_BITS, agreement.client_window_bits.unwrap_or_default().into());
        record.flag(NAMES_CLIENT_WINDOW, agreement.names_client_window);
        for (number, history) in [(RECEIVED, &self.received), (SENT, &self.sent)] {
            if !history.bytes().is_empty() {
                record.bytes(number, history.bytes());
            }
        }
    }

    /// Reads what [`write_record`](Self::write_record) wrote. The windows stay as they were agreed on, whatever the configuration
    /// says now.
    ///
    /// # Errors
    /// It is no such record.
    pub fn from_record(mut fields: Fields<'_>) -> Result<Self, RecordError> {
        let mut agreement = Agreement {
            server_window_bits: 0,
            server_no_context_takeover: false,
            client_window_bits: None,
            names_client_window: false,
        };
        let (mut received, mut sent) = (&[][..], &[][..]);
        while let Some(field) = fields.next()? {
            match field.number {
                SERVER_BITS => agreement.server_window_bits = bits(&field)?,
                SERVER_FORGETS => agreement.server_no_context_takeover = field.flag()?,
                CLIENT_BITS => agreement.client_window_bits = Some(bits(&field)?),
                NAMES_CLIENT_WINDOW => agreement.names_client_window = field.flag()?,
                RECEIVED => received = field.bytes(),
                SENT => sent = field.bytes(),
                _ => {}
            }
        }
        if agreement.server_window_bits == 0 {
            return Err(RecordError::Field(SERVER_BITS));
        }
        Ok(Self {
            received: History::from_bytes(received, agreement.client_window()),
            sent: History::from_bytes(sent, agreement.server_window()),
            agreement,
        })
    }
}

fn bits(field: &Field<'_>) -> Result<u8, RecordError> {
    let bits: u8 = field.number()?;
    (BITS_MIN..=BITS_MAX)
        .contains(&bits)
        .then_some(bits)
        .ok_or_else(|| field.wrong())
}

const SERVER_BITS: u32 = 1;
const SERVER_FORGETS: u32 = 2;
const CLIENT_BITS: u32 = 3;
const NAMES_CLIENT_WINDOW: u32 = 4;
const RECEIVED: u32 = 5;
const SENT: u32 = 6;

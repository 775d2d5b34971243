//! Writes down who a client is, and reads it back.

use super::{Field, Fields, RecordError, Writer};
use crate::http::is_header_value_safe;
use crate::mapping::{ConnectionId, Identity};
use crate::ocpp::ClientId;

/// The first fields of a client's record and of a post's: so whose it is can be told without the rest.
const CLIENT: u32 = 1;
const CONNECTION: u32 = 2;
const SUBPROTOCOL: u32 = 3;
const FORWARDED_FOR: u32 = 4;

/// Whose a record is.
///
/// # Errors
/// It is no record of anybody.
pub fn client_of(record: &[u8]) -> Result<ClientId, RecordError> {
    let mut fields = Fields::of_record(record)?;
    let first = fields.next()?.filter(|field| field.number == CLIENT);
    client_id(&first.ok_or(RecordError::Field(CLIENT))?)
}

/// Writes the fields.
pub(crate) fn write_identity(identity: &Identity, record: &mut Writer<'_>) {
    record.bytes(CLIENT, identity.client.as_str().as_bytes());
    record.bytes(CONNECTION, identity.connection.as_str().as_bytes());
    if let Some(subprotocol) = identity.subprotocol() {
        record.bytes(SUBPROTOCOL, subprotocol.as_bytes());
    }
    record.bytes(FORWARDED_FOR, identity.forwarded_for().as_bytes());
}

/// Collects the fields.
#[derive(Debug, Default)]
pub(crate) struct IdentityFields<'r> {
    client: Option<ClientId>,
    connection: Option<&'r str>,
    subprotocol: Option<&'r str>,
    forwarded_for: &'r str,
}

impl<'r> IdentityFields<'r> {
    /// True when it is one of them.
    pub(crate) fn read(&mut self, field: &Field<'r>) -> Result<bool, RecordError> {
        match field.number {
            CLIENT => self.client = Some(client_id(field)?),
            CONNECTION => self.connection = Some(field.text()?),
            SUBPROTOCOL => self.subprotocol = Some(header(field)?),
            FORWARDED_FOR => self.forwarded_for = header(field)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `None`: none of them was there. `number` puts its connection in order behind those that were adopted before.
    pub(crate) fn finish(self, number: u64) -> Result<Option<Identity>, RecordError> {
        let (client, connection) = match (self.client, self.connection) {
            (Some(client), Some(connection)) => (client, connection),
            (None, None) => return Ok(None),
            (None, _) => return Err(RecordError::Field(CLIENT)),
            (_, None) => return Err(RecordError::Field(CONNECTION)),
        };
        let connection = ConnectionId::adopted(connection, number).ok_or(RecordError::Field(CONNECTION))?;
        Ok(Some(Identity::new(
            client,
            connection,
            self.subprotocol,
            self.forwarded_for,
        )))
    }
}

fn client_id(field: &Field<'_>) -> Result<ClientId, RecordError> {
    ClientId::parse(field.text()?).map_err(|_| field.wrong())
}

fn header<'r>(field: &Field<'r>) -> Result<&'r str, RecordError> {
    let text = field.text()?;
    if !is_header_value_safe(text.as_bytes()) {
        return Err(field.wrong());
    }
    Ok(text)
}

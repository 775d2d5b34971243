//! Opens what was received.

use super::{
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, HEADER_LEN, KEY_UPDATE, MESSAGE_LEN_MAX, PLAIN_LEN_MAX,
    Records, SEALED_LEN_MAX, Side, TAG_LEN, VERSION, tls12_aad,
};
use crate::tls::fault::{End, Fault};
use crate::tls::suite::Version;

/// What [`Records::open`] has found.
#[derive(Debug, Default)]
pub struct Opened {
    /// So many bytes of plain text are at the front of the buffer.
    pub plain_len: usize,
    /// Behind that text nothing more comes.
    pub end: Option<End>,
    /// A server's tickets, for [`Tickets::handle`](crate::tls::Tickets::handle).
    pub tickets: Vec<Vec<u8>>,
}

impl Records {
    /// Copies what has come of a record in part to the front of `buffer`, which has room for a whole one. More is read behind it.
    ///
    /// It is kept until [`open`](Self::open) is given it: when there is nothing to read, nothing is lost.
    pub fn begin(&self, buffer: &mut [u8]) -> usize {
        let record = self.partial.as_ref().map_or(&[][..], |partial| &partial.record);
        let Some(front) = buffer.get_mut(..record.len()) else {
            debug_assert!(false, "a buffer has room for a record");
            return 0;
        };
        front.copy_from_slice(record);
        record.len()
    }

    /// Opens all whole records of `received`, which begins with what [`begin`](Self::begin) put there. Their text is at its front then,
    /// without gaps. Behind an end nothing is opened.
    pub fn open(&mut self, received: &mut [u8]) -> Opened {
        let mut opened = Opened::default();
        let mut used = 0;
        while self.is_receiving {
            match self.open_next(received, &mut used, &mut opened) {
                Ok(true) => {}
                Ok(false) => break,
                Err(end) => {
                    self.is_receiving = false;
                    opened.end = Some(end);
                }
            }
        }
        self.keep(received.get(used..).filter(|_| self.is_receiving).unwrap_or_default());
        opened
    }

    /// False: there is no whole record.
    fn open_next(&mut self, received: &mut [u8], used: &mut usize, opened: &mut Opened) -> Result<bool, End> {
        let front = received.get(*used..).unwrap_or_default();
        let Some((header, body)) = front.split_first_chunk() else {
            return Ok(false);
        };
        let (header, len) = (*header, check(*header)?);
        if body.len() < len {
            return Ok(false);
        }
        let body_at = *used + HEADER_LEN;
        *used = body_at + len;
        // The text comes to where the texts before it end.
        let room = received.get_mut(opened.plain_len..*used).unwrap_or_default();
        let (kind, text) = self.decrypt(header, room, body_at - opened.plain_len)?;
        self.fruitless = match (kind, text.len()) {
            (APPLICATION_DATA, 1..) => 0,
            _ => self.fruitless.saturating_add(1),
        };
        if self.fruitless > FRUITLESS_MAX {
            return Err(End::Fault(Fault::Fruitless));
        }
        let is_message_open = self.partial.as_ref().is_some_and(|partial| !partial.message.is_empty());
        if is_message_open && kind != HANDSHAKE {
            return Err(End::Fault(Fault::Unexpected));
        }
        match kind {
            APPLICATION_DATA => opened.plain_len += text.len(),
            ALERT => self.handle_alert(text)?,
            HANDSHAKE => self.handle_messages(text, opened)?,
            _ => return Err(End::Fault(Fault::Unexpected)),
        }
        Ok(true)
    }

    /// Decrypts the record that ends with `room`, whose body begins at `body_at`, to the front of `room`. Returns what it is.
    fn decrypt<'b>(
        &mut self,
        header: [u8; HEADER_LEN],
        room: &'b mut [u8],
        body_at: usize,
    ) -> Result<(u8, &'b [u8]), Fault> {
        let [kind, ..] = header;
        if self.suite.version() == Version::Tls13 && kind != APPLICATION_DATA {
            return Err(Fault::Unexpected);
        }
        let body = room.get(body_at..).unwrap_or_default();
        let explicit_len = self.suite.explicit_nonce_len();
        let text_len = body.len().checked_sub(explicit_len + TAG_LEN).ok_or(Fault::BadMac)?;
        let keys = &self.receiving;
        let text = match self.suite.version() {
            Version::Tls13 => keys.open(self.suite, keys.nonce(), &header, room, body_at),
            Version::Tls12 => {
                let nonce = match body.first_chunk() {
                    Some(explicit) if explicit_len == explicit.len() => keys.nonce_with(*explicit),
                    _ => keys.nonce(),
                };
                let aad = tls12_aad(keys.sequence, kind, text_len);
                keys.open(self.suite, nonce, &aad, room, body_at + explicit_len)
            }
        };
        let text = text.map_err(|_| Fault::BadMac)?;
        // Before that, somebody has sent for some hundred thousand years.
        self.receiving.sequence = keys.sequence.checked_add(1).ok_or(Fault::Unexpected)?;
        if self.suite.version() == Version::Tls12 {
            return if text_len > PLAIN_LEN_MAX {
                Err(Fault::Overflow)
            } else {
                Ok((kind, text))
            };
        }
        if text_len > PLAIN_LEN_MAX + 1 {
            return Err(Fault::Overflow);
        }
        // Zeros are padding, and before them is what it is (RFC 8446, 5.4).
        let end = text.iter().rposition(|byte| *byte != 0).ok_or(Fault::Unexpected)?;
        match text.split_at_checked(end) {
            Some((text, [kind, ..])) => Ok((*kind, text)),
            _ => Err(Fault::Unexpected),
        }
    }

    fn handle_alert(&mut self, text: &[u8]) -> Result<(), End> {
        let [level, description] = *text else {
            return Err(End::Fault(Fault::Malformed));
        };
        match (self.suite.version(), level, description) {
            (_, _, CLOSE_NOTIFY) => Err(End::CloseNotify),
            (Version::Tls13, _, USER_CANCELED) | (Version::Tls12, WARNING, _) => Ok(()),
            (Version::Tls13, ..) | (Version::Tls12, FATAL, _) => Err(End::Alert(description)),
            _ => Err(End::Fault(Fault::Illegal)),
        }
    }

    fn handle_messages(&mut self, text: &[u8], opened: &mut Opened) -> Result<(), Fault> {
        if self.suite.version() == Version::Tls12 {
            return Err(match (self.side, text) {
                (Side::Server, [CLIENT_HELLO, ..]) | (Side::Client, [HELLO_REQUEST, ..]) => Fault::Renegotiation,
                _ => Fault::Unexpected,
            });
        }
        if text.is_empty() {
            return Err(Fault::Unexpected);
        }
        let partial = self.partial.as_mut();
        let mut bytes = partial.map_or_else(Vec::new, |partial| std::mem::take(&mut partial.message));
        bytes.extend_from_slice(text);
        let mut rest = &bytes[..];
        while let Some(([kind, len @ ..], behind)) = rest.split_first_chunk::<4>() {
            let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            let len_max = match (*kind, self.side) {
                (KEY_UPDATE, _) => KEY_UPDATE_LEN,
                (NEW_SESSION_TICKET, Side::Client) => MESSAGE_LEN_MAX,
                _ => return Err(Fault::Unexpected),
            };
            if len > len_max {
                return Err(Fault::Malformed);
            }
            let Some((message, behind)) = behind.split_at_checked(len) else {
                break;
            };
            rest = behind;
            match *kind {
                KEY_UPDATE => self.handle_key_update(message, rest)?,
                _ => opened.tickets.push(message.to_vec()),
            }
        }
        if !rest.is_empty() {
            self.partial.get_or_insert_default().message = rest.to_vec();
        }
        Ok(())
    }

    /// From the next record on the peer has its next key. `behind` is what that would be behind it in the same record.
    fn handle_key_update(&mut self, message: &[u8], behind: &[u8]) -> Result<(), Fault> {
        self.owes_key_update |= match message {
            [0] => false,
            [1] => true,
            [_] => return Err(Fault::Illegal),
            _ => return Err(Fault::Malformed),
        };
        if !behind.is_empty() {
            return Err(Fault::Unexpected);
        }
        self.receiving = self.receiving.updated(self.suite).map_err(|_| Fault::Unexpected)?;
        Ok(())
    }

    fn keep(&mut self, record: &[u8]) {
        let has_message = self.partial.as_ref().is_some_and(|partial| !partial.message.is_empty());
        if self.is_receiving && (has_message || !record.is_empty()) {
            self.partial.get_or_insert_default().record = record.to_vec();
        } else {
            self.partial = None;
        }
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The length of the body behind this header, which need not have come yet.
fn check([kind, major, minor, high, low]: [u8; HEADER_LEN]) -> Result<usize, Fault> {
    if !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind) {
        return Err(Fault::Unexpected);
    }
    if [major, minor] != VERSION {
        return Err(Fault::Version);
    }
    match u16::from_be_bytes([high, low]).into() {
        0 => Err(Fault::Malformed),
        len if len > SEALED_LEN_MAX => Err(Fault::Overflow),
        len => Ok(len),
    }
}

// Alerts (RFC 8446, 6; RFC 5246, 7.2).
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

// Handshake messages behind a handshake (RFC 8446, 4; RFC 5246, 7.4).
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE_LEN: usize = 1;
/// As many as rustls lets through. Each costs as much as one that brings something.
const FRUITLESS_MAX: u8 = 32;

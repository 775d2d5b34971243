//! Seals what is sent.

use super::{
    ALERT, APPLICATION_DATA, HANDSHAKE, HEADER_LEN, KEY_UPDATE, PLAIN_LEN_MAX, Records, TAG_LEN, VERSION, tls12_aad,
};
use crate::tls::fault::{Fault, NO_RENEGOTIATION, SealError};
use crate::tls::suite::Version;

impl Records {
    /// Appends a text, which is given in parts, as one record, or as several where it is longer than one can be.
    ///
    /// If the peer has asked for our next key, or this one has done enough, that comes first.
    ///
    /// # Errors
    /// Nothing more can be sealed.
    pub fn seal(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) -> Result<(), SealError> {
        if !self.is_sending {
            return Err(SealError::Closed);
        }
        let mut left = parts.iter().map(|part| part.len()).sum();
        out.reserve(self.sealed_len(left));
        let mut parts = parts.iter().copied();
        let mut part: &[u8] = &[];
        while left > 0 {
            self.renew(out)?;
            let start = self.begin_record(out);
            let mut room = PLAIN_LEN_MAX.min(left);
            left -= room;
            while room > 0 {
                while part.is_empty() {
                    part = parts.next().ok_or(SealError::Closed)?;
                }
                let text = part.split_off(..part.len().min(room)).unwrap_or_default();
                out.extend_from_slice(text);
                room -= text.len();
            }
            self.finish_record(APPLICATION_DATA, start, out)?;
        }
        Ok(())
    }

    /// What [`seal`](Self::seal) appends for a text of this length, in bytes, but for a change of the key.
    #[must_use]
    pub fn sealed_len(&self, text_len: usize) -> usize {
        let kind_len = usize::from(self.suite.version() == Version::Tls13);
        text_len + text_len.div_ceil(PLAIN_LEN_MAX) * (self.prefix_len() + kind_len + TAG_LEN)
    }

    /// Appends the word that nothing more comes from us.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.last_alert([WARNING, CLOSE_NOTIFY], out);
    }

    /// Appends the alert that tells the peer its fault.
    pub fn alert(&mut self, fault: Fault, out: &mut Vec<u8>) {
        let level = if fault.alert() == NO_RENEGOTIATION {
            WARNING
        } else {
            FATAL
        };
        self.last_alert([level, fault.alert()], out);
    }

    fn last_alert(&mut self, alert: [u8; 2], out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.is_sending) {
            return;
        }
        let start = self.begin_record(out);
        out.extend_from_slice(&alert);
        if self.finish_record(ALERT, start, out).is_err() {
            out.truncate(start);
        }
    }

    /// Changes to the next key if it is time to (RFC 8446, 4.6.3 and 5.5).
    fn renew(&mut self, out: &mut Vec<u8>) -> Result<(), SealError> {
        // The message that says so is sealed with this one.
        let is_used_up = self.sending.sequence >= self.suite.records_max() - 1;
        if !is_used_up && !self.owes_key_update {
            return Ok(());
        }
        if self.suite.version() == Version::Tls12 {
            return Err(SealError::Exhausted);
        }
        let start = self.begin_record(out);
        out.extend_from_slice(&[KEY_UPDATE, 0, 0, 1, UPDATE_NOT_REQUESTED]);
        self.finish_record(HANDSHAKE, start, out)?;
        self.sending = self.sending.updated(self.suite).map_err(|_| SealError::Exhausted)?;
        self.owes_key_update = false;
        Ok(())
    }

    /// Leaves room for what stands before a record's text. Returns where it is.
    fn begin_record(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.resize(start + self.prefix_len(), 0);
        start
    }

    /// Seals the text that was appended since a record has begun at `start`.
    fn finish_record(&mut self, kind: u8, start: usize, out: &mut Vec<u8>) -> Result<(), SealError> {
        let keys = &mut self.sending;
        let text_len = out.len() - start - self.suite.explicit_nonce_len() - HEADER_LEN;
        let [major, minor] = VERSION;
        let (kind, aad_of) = match self.suite.version() {
            Version::Tls12 => (kind, Some(tls12_aad(keys.sequence, kind, text_len))),
            Version::Tls13 => {
                out.push(kind);
                (APPLICATION_DATA, None)
            }
        };
        let [high, low] = ((out.len() - start - HEADER_LEN + TAG_LEN) as u16).to_be_bytes();
        let header = [kind, major, minor, high, low];
        let (front, rest) = out
            .get_mut(start..)
            .and_then(|record| record.split_first_chunk_mut())
            .ok_or(SealError::Exhausted)?;
        *front = header;
        let (nonce, text) = rest
            .split_at_mut_checked(self.suite.explicit_nonce_len())
            .ok_or(SealError::Exhausted)?;
        if let Ok(nonce) = <&mut [u8; 8]>::try_from(nonce) {
            *nonce = keys.explicit_nonce();
        }
        let aad = aad_of.as_ref().map_or(&header[..], |aad| &aad[..]);
        let tag = keys.seal(self.suite, aad, text).map_err(|_| SealError::Exhausted)?;
        out.extend_from_slice(tag.as_ref());
        keys.sequence = keys.sequence.checked_add(1).ok_or(SealError::Exhausted)?;
        Ok(())
    }

    /// What no one seals, for tests.
    #[cfg(test)]
    pub(in crate::tls) fn any_record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.padded_record(kind, content, 0)
    }

    /// The same, in TLS 1.3 with so many bytes of padding.
    #[cfg(test)]
    pub(in crate::tls) fn padded_record(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let start = self.begin_record(&mut out);
        out.extend_from_slice(content);
        if padding > 0 {
            out.push(kind);
            out.resize(out.len() + padding - 1, 0);
        }
        let kind = if padding > 0 { 0 } else { kind };
        self.finish_record(kind, start, &mut out).unwrap();
        out
    }

    fn prefix_len(&self) -> usize {
        HEADER_LEN + self.suite.explicit_nonce_len()
    }
}

const UPDATE_NOT_REQUESTED: u8 = 0;
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;

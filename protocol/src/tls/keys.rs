//! Seals and opens the records of one direction.
//!
//! What is kept is the key, not what the cipher makes of it: to expand it takes about as long as to seal a small record, and
//! an expanded key is larger than everything else that a connection keeps.

use ring::aead::{Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::{KeyType, Prk};
use zeroize::Zeroize;

use super::suite::{Suite, Version};
use crate::record::{Fields, RecordError, Writer};

/// What one direction's records are sealed or opened with. Wiped when it is dropped.
pub(super) struct Keys {
    key: [u8; KEY_LEN_MAX],
    iv: [u8; NONCE_LEN],
    /// In TLS 1.3, what the next key is made of.
    secret: [u8; SECRET_LEN_MAX],
    /// The number of the next record.
    pub(super) sequence: u64,
}

impl Keys {
    /// Those of a connection of TLS 1.2.
    pub(super) fn of_tls12(suite: Suite, key: &[u8], iv: &[u8], sequence: u64) -> Option<Self> {
        let mut keys = Self {
            key: [0; KEY_LEN_MAX],
            iv: iv.try_into().ok()?,
            secret: [0; SECRET_LEN_MAX],
            sequence,
        };
        let place = keys.key.get_mut(..suite.aead().key_len())?;
        if place.len() != key.len() {
            return None;
        }
        place.copy_from_slice(key);
        Some(keys)
    }

    /// Those of a traffic secret of TLS 1.3, which has the length of the suite's hash.
    pub(super) fn of_secret(suite: Suite, secret: &[u8], sequence: u64) -> Result<Self, Unspecified> {
        let mut keys = Self {
            key: [0; KEY_LEN_MAX],
            iv: [0; NONCE_LEN],
            secret: [0; SECRET_LEN_MAX],
            sequence,
        };
        let place = keys.secret.get_mut(..suite.hkdf().len()).ok_or(Unspecified)?;
        if place.len() != secret.len() {
            return Err(Unspecified);
        }
        place.copy_from_slice(secret);
        let prk = Prk::new_less_safe(suite.hkdf(), secret);
        let key = keys.key.get_mut(..suite.aead().key_len()).ok_or(Unspecified)?;
        expand(&prk, b"key", key)?;
        expand(&prk, b"iv", &mut keys.iv)?;
        Ok(keys)
    }

    /// The next ones (RFC 8446, 7.2).
    pub(super) fn updated(&self, suite: Suite) -> Result<Self, Unspecified> {
        let len = suite.hkdf().len();
        let prk = Prk::new_less_safe(suite.hkdf(), self.secret.get(..len).ok_or(Unspecified)?);
        let mut next = [0; SECRET_LEN_MAX];
        let secret = next.get_mut(..len).ok_or(Unspecified)?;
        let keys = expand(&prk, b"traffic upd", secret).and_then(|()| Self::of_secret(suite, secret, 0));
        next.zeroize();
        keys
    }

    /// Whether they seal alike, until the next key.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.key == other.key && self.iv == other.iv
    }

    /// Writes them down: in TLS 1.3 the secret, of which the others are made.
    pub(super) fn write_record(&self, suite: Suite, record: &mut Writer<'_>) {
        match suite.version() {
            Version::Tls12 => {
                record.bytes(KEY, self.key.get(..suite.aead().key_len()).unwrap_or_default());
                record.bytes(IV, &self.iv);
            }
            Version::Tls13 => record.bytes(SECRET, self.secret.get(..suite.hkdf().len()).unwrap_or_default()),
        }
        record.number(SEQUENCE, self.sequence);
    }

    /// Reads what [`write_record`](Self::write_record) wrote.
    pub(super) fn from_record(suite: Suite, mut fields: Fields<'_>) -> Result<Self, RecordError> {
        let (mut key, mut iv, mut secret, mut sequence) = (None, None, None, 0);
        while let Some(field) = fields.next()? {
            match field.number {
                KEY => key = Some(field.bytes()),
                IV => iv = Some(field.bytes()),
                SECRET => secret = Some(field.bytes()),
                SEQUENCE => sequence = field.number()?,
                _ => {}
            }
        }
        let keys = match suite.version() {
            Version::Tls12 => key
                .zip(iv)
                .and_then(|(key, iv)| Self::of_tls12(suite, key, iv, sequence)),
            Version::Tls13 => secret.and_then(|secret| Self::of_secret(suite, secret, sequence).ok()),
        };
        keys.ok_or(RecordError::Form)
    }

    /// Encrypts `text` where it is.
    pub(super) fn seal(&self, suite: Suite, aad: &[u8], text: &mut [u8]) -> Result<Tag, Unspecified> {
        self.cipher(suite)?
            .seal_in_place_separate_tag(self.nonce(), Aad::from(aad), text)
    }

    /// Decrypts the bytes from `sealed_at` to the end to the front. Returns what they are.
    pub(super) fn open<'b>(
        &self,
        suite: Suite,
        nonce: Nonce,
        aad: &[u8],
        bytes: &'b mut [u8],
        sealed_at: usize,
    ) -> Result<&'b mut [u8], Unspecified> {
        self.cipher(suite)?
            .open_within(nonce, Aad::from(aad), bytes, sealed_at..)
    }

    /// That of the next record (RFC 8446, 5.3; RFC 7905, 2). AES-GCM in TLS 1.2 leaves it to the sender: this one.
    pub(super) fn nonce(&self) -> Nonce {
        Nonce::assume_unique_for_key(self.nonce_bytes())
    }

    /// The part of it that AES-GCM sends along in TLS 1.2.
    pub(super) fn explicit_nonce(&self) -> [u8; 8] {
        let [_, _, _, _, explicit @ ..] = self.nonce_bytes();
        explicit
    }

    /// That of a record which has brought this part of it.
    pub(super) fn nonce_with(&self, explicit: [u8; 8]) -> Nonce {
        let mut nonce = self.iv;
        for (byte, explicit) in nonce.iter_mut().skip(NONCE_LEN - explicit.len()).zip(explicit) {
            *byte = explicit;
        }
        Nonce::assume_unique_for_key(nonce)
    }

    fn nonce_bytes(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        let sequence = self.sequence.to_be_bytes();
        for (byte, digit) in nonce.iter_mut().skip(NONCE_LEN - sequence.len()).zip(sequence) {
            *byte ^= digit;
        }
        nonce
    }

    fn cipher(&self, suite: Suite) -> Result<LessSafeKey, Unspecified> {
        let aead = suite.aead();
        let key = self.key.get(..aead.key_len()).ok_or(Unspecified)?;
        Ok(LessSafeKey::new(UnboundKey::new(aead, key)?))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.key.zeroize();
        self.iv.zeroize();
        self.secret.zeroize();
    }
}

/// HKDF-Expand-Label without a context (RFC 8446, 7.1).
fn expand(prk: &Prk, label: &[u8], out: &mut [u8]) -> Result<(), Unspecified> {
    const PREFIX: &[u8] = b"tls13 ";
    let len = u16::try_from(out.len()).map_err(|_| Unspecified)?;
    let label_len = u8::try_from(PREFIX.len() + label.len()).map_err(|_| Unspecified)?;
    let info = [&len.to_be_bytes()[..], &[label_len], PREFIX, label, &[0]];
    prk.expand(&info, Len(out.len()))?.fill(out)
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

const KEY_LEN_MAX: usize = 32;
const NONCE_LEN: usize = 12;
const SECRET_LEN_MAX: usize = 48;

const KEY: u32 = 1;
const IV: u32 = 2;
const SECRET: u32 = 3;
const SEQUENCE: u32 = 4;

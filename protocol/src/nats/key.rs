//! Signs with a user's key (NKey): Ed25519, its seed and its public half written in base32 with what they are and a checksum.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

/// A user's key.
pub struct Key {
    pair: Ed25519KeyPair,
    public: String,
}

/// Why a text is no seed of a user's key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// Not base32, or of another length.
    #[error("the seed is not 58 characters of base32")]
    Form,
    /// A character is wrong.
    #[error("the seed's checksum does not fit: a character of it is wrong")]
    Checksum,
    /// A public key, or the seed of an account, an operator or a server.
    #[error("it is not the seed of a user, which begins with SU")]
    Kind,
}

impl Key {
    /// Reads `SU…`.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it.
    pub fn from_seed(text: &str) -> Result<Self, KeyError> {
        let decoded = BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| KeyError::Form)?;
        let decoded = Zeroizing::new(decoded);
        let (content, checksum) = decoded.split_last_chunk::<2>().ok_or(KeyError::Form)?;
        if crc16(content) != u16::from_le_bytes(*checksum) {
            return Err(KeyError::Checksum);
        }
        let ([first, second], seed) = content.split_first_chunk::<2>().ok_or(KeyError::Form)?;
        // Five bits that say that it is a seed, and five of what: no more than these are there.
        if first & 0xf8 != SEED || (first & 7) << 5 | second >> 3 != USER {
            return Err(KeyError::Kind);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Form)?;
        let mut public = vec![USER];
        public.extend_from_slice(pair.public_key().as_ref());
        public.extend_from_slice(&crc16(&public).to_le_bytes());
        Ok(Self {
            pair,
            public: BASE32_NOPAD.encode(&public),
        })
    }

    /// The public half: `U…`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// A signature of what a server wants to have signed, in base64url.
    #[must_use]
    pub fn sign(&self, nonce: &str) -> String {
        BASE64URL_NOPAD.encode(self.pair.sign(nonce.as_bytes()).as_ref())
    }
}

/// The public half alone.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.public).finish()
    }
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
    }
    crc
}

const SEED: u8 = 18 << 3;
const USER: u8 = 20 << 3;

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// As the specification has it, of any 32 bytes.
    fn seed_of(kind: u8, seed: [u8; 32]) -> String {
        let mut bytes = vec![SEED | kind >> 5, (kind & 31) << 3];
        bytes.extend_from_slice(&seed);
        bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
        BASE32_NOPAD.encode(&bytes)
    }

    #[test]
    fn checksums_are_those_of_xmodem() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn what_is_signed_is_verified_by_the_public_half() {
        let text = seed_of(USER, [7; 32]);
        assert!(text.starts_with("SU") && text.len() == 58, "{text}");
        let key = Key::from_seed(&text).unwrap();
        assert!(key.public().starts_with('U') && key.public().len() == 56);
        let public = BASE32_NOPAD.decode(key.public().as_bytes()).unwrap();
        let signature = BASE64URL_NOPAD.decode(key.sign("nonce").as_bytes()).unwrap();
        let verifier = UnparsedPublicKey::new(&ED25519, &public[1..33]);
        assert!(verifier.verify(b"nonce", &signature).is_ok());
        assert!(verifier.verify(b"other", &signature).is_err());
        assert!(!format!("{key:?}").contains(&text));
    }

    #[test]
    fn other_seeds_are_refused_with_the_reason() {
        let good = seed_of(USER, [7; 32]);
        let account = seed_of(0, [7; 32]);
        assert!(account.starts_with("SA"));
        assert_eq!(Key::from_seed(&account).err(), Some(KeyError::Kind));
        assert_eq!(
            Key::from_seed(Key::from_seed(&good).unwrap().public()).err(),
            Some(KeyError::Kind)
        );
        for (at, _) in good.char_indices().skip(2) {
            let mut wrong = good.clone();
            let other = if &good[at..=at] == "A" { "B" } else { "A" };
            wrong.replace_range(at..=at, other);
            assert!(Key::from_seed(&wrong).is_err(), "{at}");
        }
        assert_eq!(Key::from_seed(&good[..57]).err(), Some(KeyError::Form));
        assert_eq!(Key::from_seed("").err(), Some(KeyError::Form));
        assert_eq!(Key::from_seed(&good.to_lowercase()).err(), Some(KeyError::Form));
        // The checksum fits, the length does not.
        let mut short = vec![SEED | USER >> 5, (USER & 31) << 3, 1];
        short.extend_from_slice(&crc16(&short).to_le_bytes());
        assert_eq!(Key::from_seed(&BASE32_NOPAD.encode(&short)).err(), Some(KeyError::Form));
    }
}

//! Seals what a client resumes its session with (RFC 8446, 4.6.1; RFC 5077).
//!
//! The process makes a key from time to time, and gives it to every shard: what one has sealed every other one opens, and none waits
//! for another. Of a key that is no longer there nothing is left from which it could be made again, and what was recorded
//! under it stays closed.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;

/// What tickets are sealed with, for as long as it is the newest.
#[derive(Clone)]
pub struct TicketKey {
    name: [u8; NAME_LEN],
    secret: [u8; SECRET_LEN],
}

/// A shard's keys. The lock is no other shard's: it is there because rustls asks for one, and nobody waits at it.
#[derive(Default)]
pub struct Tickets(Mutex<Keys>);

#[derive(Default)]
struct Keys {
    current: Option<Opener>,
    before: Option<Opener>,
}

struct Opener {
    name: [u8; NAME_LEN],
    key: LessSafeKey,
}

impl TicketKey {
    /// One that nobody knows. `None`: the system has no random numbers.
    #[must_use]
    pub fn random() -> Option<Self> {
        let mut key = Self {
            name: [0; NAME_LEN],
            secret: [0; SECRET_LEN],
        };
        let random = SystemRandom::new();
        random.fill(&mut key.name).ok()?;
        random.fill(&mut key.secret).ok()?;
        Some(key)
    }
}

impl Tickets {
    /// From now on `key` seals; the one before it opens for as long again, or, with `is_all`, no other one does.
    pub fn turn(&self, key: &TicketKey, is_all: bool) {
        let secret = UnboundKey::new(&AES_256_GCM, &key.secret).expect("a key of this length");
        let next = Opener {
            name: key.name,
            key: LessSafeKey::new(secret),
        };
        let mut keys = self.keys();
        keys.before = keys.current.replace(next).filter(|_| !is_all);
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.keys().current.is_some()
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(ROTATION.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let keys = self.keys();
        let Opener { name, key } = keys.current.as_ref()?;
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, Aad::from(name), &mut sealed)
            .ok()?;
        Some([&name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys();
        let mut known = keys.current.iter().chain(&keys.before);
        let Opener { key, .. } = known.find(|known| known.name == *name)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = key.open_in_place(nonce, Aad::from(name), &mut sealed).ok()?.len();
        sealed.truncate(len);
        Some(sealed)
    }
}

/// Nothing of the keys.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

/// Nothing of it.
impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey")
    }
}

/// How long a key seals, and how long a ticket is good for at the least.
pub const ROTATION: Duration = Duration::from_secs(6 * 3600);
const NAME_LEN: usize = 16;
const SECRET_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TicketKey {
        TicketKey::random().unwrap()
    }

    #[test]
    fn what_one_shard_has_sealed_another_one_opens_until_its_key_has_had_two_turns() {
        let [one, other] = [0, 1].map(|_| Tickets::default());
        assert!(!one.enabled() && one.encrypt(b"session").is_none());
        let first = key();
        one.turn(&first, false);
        other.turn(&first, false);
        let ticket = one.encrypt(b"session").unwrap();
        assert_ne!(ticket, one.encrypt(b"session").unwrap());
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        other.turn(&key(), false);
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(
            one.decrypt(&other.encrypt(b"later").unwrap()),
            None,
            "its key has not come yet"
        );
        other.turn(&key(), false);
        assert_eq!(other.decrypt(&ticket), None);
    }

    #[test]
    fn a_key_that_is_to_be_the_only_one_is_that_at_once() {
        let tickets = Tickets::default();
        tickets.turn(&key(), false);
        let ticket = tickets.encrypt(b"session").unwrap();
        tickets.turn(&key(), true);
        assert_eq!(tickets.decrypt(&ticket), None);
    }

    #[test]
    fn what_was_changed_or_cut_off_is_not_opened() {
        let tickets = Tickets::default();
        tickets.turn(&key(), false);
        let ticket = tickets.encrypt(b"session").unwrap();
        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "{place}");
            assert_eq!(tickets.decrypt(&ticket[..place]), None, "{place}");
        }
    }
}

//! Seals what a client resumes its session with (RFC 8446, 4.6.1; RFC 5077).
//!
//! The process makes a key from time to time, and gives it to every shard: what one has sealed every other one opens, and none waits
//! for another. Of a key that is no longer there nothing is left from which it could be made again, and what was recorded
//! under it stays closed.
//!
//! A ticket says that a client was verified. It is sealed together with by whom ([`Trust`]), and is of no use where others are believed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// What tickets are sealed with, for as long as it is the newest.
#[derive(Clone)]
pub struct TicketKey {
    name: [u8; NAME_LEN],
    secret: Zeroizing<[u8; SECRET_LEN]>,
}

/// By what clients are verified: a digest of it.
pub type Trust = [u8; 32];

/// A shard's keys. The lock is no other shard's: it is there because rustls asks for one, and nobody waits at it.
#[derive(Default)]
pub struct Tickets(Mutex<Keys>);

/// Seals and opens the tickets of clients that are verified by this.
pub(super) struct Ticketer {
    pub(super) tickets: Arc<Tickets>,
    pub(super) trust: Trust,
}

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
            secret: Zeroizing::new([0; SECRET_LEN]),
        };
        let random = SystemRandom::new();
        random.fill(&mut key.name).ok()?;
        random.fill(&mut *key.secret).ok()?;
        Some(key)
    }

    /// For the process that takes over.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(NAME_LEN + SECRET_LEN));
        bytes.extend_from_slice(&self.name);
        bytes.extend_from_slice(&*self.secret);
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) gave; `None`: it is another version's.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (name, secret) = bytes.split_first_chunk()?;
        let secret: &[u8; SECRET_LEN] = secret.try_into().ok()?;
        Some(Self {
            name: *name,
            secret: Zeroizing::new(*secret),
        })
    }
}

impl Tickets {
    /// From now on `key` seals; the one before it opens for as long again.
    pub fn turn(&self, key: &TicketKey) {
        let secret = UnboundKey::new(&AES_256_GCM, &*key.secret).expect("a key of this length");
        let next = Opener {
            name: key.name,
            key: LessSafeKey::new(secret),
        };
        let mut keys = self.keys();
        keys.before = keys.current.replace(next);
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticketer {
    /// What is sealed along with the text.
    fn aad(&self, name: &[u8; NAME_LEN]) -> Aad<[u8; AAD_LEN]> {
        let mut aad = [0; AAD_LEN];
        let (front, back) = aad.split_at_mut(NAME_LEN);
        front.copy_from_slice(name);
        back.copy_from_slice(&self.trust);
        Aad::from(aad)
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        self.tickets.keys().current.is_some()
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(ROTATION.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let keys = self.tickets.keys();
        let Opener { name, key } = keys.current.as_ref()?;
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, self.aad(name), &mut sealed).ok()?;
        Some([&name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.tickets.keys();
        let mut known = keys.current.iter().chain(&keys.before);
        let Opener { key, .. } = known.find(|known| known.name == *name)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = key.open_in_place(nonce, self.aad(name), &mut sealed).ok()?.len();
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

/// Nothing of the keys.
impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticketer")
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
const AAD_LEN: usize = NAME_LEN + size_of::<Trust>();

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TicketKey {
        TicketKey::random().unwrap()
    }

    /// A shard without a key.
    fn shard() -> Ticketer {
        Ticketer {
            tickets: Arc::default(),
            trust: [1; 32],
        }
    }

    #[test]
    fn what_one_shard_has_sealed_another_one_opens_until_its_key_has_had_two_turns() {
        let [one, other] = [0, 1].map(|_| shard());
        assert!(!one.enabled() && one.encrypt(b"session").is_none());
        let first = key();
        one.tickets.turn(&first);
        other.tickets.turn(&first);
        let ticket = one.encrypt(b"session").unwrap();
        assert_ne!(ticket, one.encrypt(b"session").unwrap());
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        other.tickets.turn(&key());
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(
            one.decrypt(&other.encrypt(b"later").unwrap()),
            None,
            "its key has not come yet"
        );
        other.tickets.turn(&key());
        assert_eq!(other.decrypt(&ticket), None);
    }

    #[test]
    fn a_ticket_is_of_no_use_where_others_are_believed_and_good_again_where_they_are_not() {
        let own = shard();
        own.tickets.turn(&key());
        let ticket = own.encrypt(b"session").unwrap();
        let of = |trust| Ticketer {
            tickets: own.tickets.clone(),
            trust,
        };
        assert_eq!(of([2; 32]).decrypt(&ticket), None);
        assert_eq!(of([1; 32]).decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    }

    #[test]
    fn a_key_goes_to_another_process_and_nothing_of_it_is_shown() {
        let (here, there, key) = (shard(), shard(), key());
        here.tickets.turn(&key);
        there
            .tickets
            .turn(&TicketKey::from_bytes(&key.to_bytes()).expect("a key"));
        let ticket = here.encrypt(b"session").unwrap();
        assert_eq!(there.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        for len in [0, NAME_LEN, NAME_LEN + SECRET_LEN - 1, NAME_LEN + SECRET_LEN + 1] {
            assert!(TicketKey::from_bytes(&vec![0; len]).is_none(), "{len}");
        }
        assert_eq!(format!("{key:?}{here:?}{:?}", here.tickets), "TicketKeyTicketerTickets");
    }

    #[test]
    fn what_was_changed_or_cut_off_is_not_opened() {
        let own = shard();
        own.tickets.turn(&key());
        let ticket = own.encrypt(b"session").unwrap();
        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(own.decrypt(&changed), None, "{place}");
            assert_eq!(own.decrypt(&ticket[..place]), None, "{place}");
        }
    }
}

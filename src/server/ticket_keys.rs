//! Keeps the keys for TLS tickets: gives the shards new ones from time to time, beside them, and a process that takes over those that
//! there are.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shards::mesh::NodeHandle;

use crate::client::tickets::{ROTATION, TicketKey};
use crate::shard::mail::{Control, Mail};
use protocol::takeover::{self, Secret};

/// Those of this process. Clones are the same.
#[derive(Clone, Debug)]
pub struct TicketKeys {
    outside: Arc<NodeHandle<Mail>>,
    kept: Arc<Mutex<Kept>>,
}

/// Two at the most.
#[derive(Debug, Default)]
struct Kept {
    /// What seals, and since when.
    current: Option<(TicketKey, Instant)>,
    /// What still opens.
    before: Option<TicketKey>,
}

impl TicketKeys {
    /// There are none yet.
    #[must_use]
    pub fn new(outside: Arc<NodeHandle<Mail>>) -> Self {
        let kept = Arc::default();
        Self { outside, kept }
    }

    /// Begins with those of the process before: their time goes on.
    pub fn inherit(&self, told: &takeover::TicketKeys) {
        self.kept().inherit(told, Instant::now());
    }

    /// What the process that takes over begins with. `None`: there are none.
    #[must_use]
    pub fn to_pass_on(&self) -> Option<takeover::TicketKeys> {
        self.kept().to_pass_on(Instant::now())
    }

    /// The shards get what there is, or a first key, and others for as long as the process lives.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn begin(&self) -> io::Result<()> {
        let mut kept = self.kept();
        if kept.current.is_none() {
            kept.turn(Instant::now());
        }
        for key in kept.before.iter().chain(kept.current.iter().map(|(key, _)| key)) {
            self.send(key);
        }
        drop(kept);
        let this = self.clone();
        std::thread::Builder::new().name("tickets".into()).spawn(move || {
            loop {
                let wait = this.kept().until_turn(Instant::now());
                std::thread::sleep(wait);
                this.turn();
            }
        })?;
        Ok(())
    }

    fn turn(&self) {
        let mut kept = self.kept();
        kept.turn(Instant::now());
        if let Some((key, _)) = &kept.current {
            self.send(key);
        }
    }

    /// To every shard. One that does not get it goes on with those that it has: who resumes there has a full handshake.
    fn send(&self, key: &TicketKey) {
        for shard in 0..self.outside.shards_count() {
            for _ in 0..TRIES {
                let turn = Control::TicketKey(key.clone());
                if self.outside.try_send(shard, Mail::from(turn)).is_ok() {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// A new key seals. Without random numbers the one that there is goes on.
    fn turn(&mut self, now: Instant) {
        let next = TicketKey::random().or_else(|| self.current.as_ref().map(|(key, _)| key.clone()));
        let before = std::mem::replace(&mut self.current, next.map(|key| (key, now)));
        self.before = before.map(|(key, _)| key);
    }

    /// So long the current one still seals.
    fn until_turn(&self, now: Instant) -> Duration {
        let age = self.current.as_ref().map(|(_, since)| now.duration_since(*since));
        ROTATION.saturating_sub(age.unwrap_or_default())
    }

    fn to_pass_on(&self, now: Instant) -> Option<takeover::TicketKeys> {
        let (current, since) = self.current.as_ref()?;
        let age = now.duration_since(*since).as_millis();
        Some(takeover::TicketKeys {
            age_ms: u64::try_from(age).unwrap_or(u64::MAX),
            current: Secret::new(&current.to_bytes()),
            before: self.before.as_ref().map(|key| Secret::new(&key.to_bytes())),
        })
    }

    /// Keys of another form are none.
    fn inherit(&mut self, told: &takeover::TicketKeys, now: Instant) {
        let Some(current) = TicketKey::from_bytes(told.current.bytes()) else {
            return;
        };
        // The machine may have begun later than that.
        let age = Duration::from_millis(told.age_ms).min(ROTATION);
        self.current = Some((current, now.checked_sub(age).unwrap_or(now)));
        self.before = told
            .before
            .as_ref()
            .and_then(|before| TicketKey::from_bytes(before.bytes()));
    }
}

/// For a shard whose ring is full.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: &TicketKey) -> Vec<u8> {
        key.to_bytes().to_vec()
    }

    #[test]
    fn a_new_process_has_the_keys_of_the_one_before_for_as_long_as_that_would_and_turns_on() {
        let began = Instant::now();
        let mut old = Kept::default();
        assert!(old.to_pass_on(began).is_none());
        old.turn(began);
        let first = bytes(&old.current.as_ref().unwrap().0);
        assert_eq!(old.until_turn(began), ROTATION);
        let hour = Duration::from_secs(3600);
        for before in [None, Some(first.clone())] {
            if before.is_some() {
                old.turn(began);
            }
            let current = bytes(&old.current.as_ref().unwrap().0);
            let mut new = Kept::default();
            new.inherit(&old.to_pass_on(began + hour).unwrap(), began + hour);
            assert_eq!(bytes(&new.current.as_ref().unwrap().0), current);
            assert_eq!(new.before.as_ref().map(bytes), before);
            assert_eq!(new.until_turn(began + hour), ROTATION - hour);
            // Both go on, each with keys of its own.
            for kept in [&mut new, &mut old] {
                kept.turn(began + ROTATION);
                assert_eq!(kept.before.as_ref().map(bytes).as_ref(), Some(&current));
                assert_eq!(kept.until_turn(began + ROTATION), ROTATION);
            }
            assert_ne!(
                bytes(&new.current.as_ref().unwrap().0),
                bytes(&old.current.as_ref().unwrap().0)
            );
            old = Kept::default();
            old.inherit(
                &takeover::TicketKeys {
                    age_ms: 0,
                    current: Secret::new(&first),
                    before: None,
                },
                began,
            );
        }
    }

    #[test]
    fn keys_that_are_none_change_nothing_and_old_ones_turn_at_once() {
        let now = Instant::now();
        let mut kept = Kept::default();
        kept.turn(now);
        let own = bytes(&kept.current.as_ref().unwrap().0);
        let mut told = kept.to_pass_on(now).unwrap();
        told.current = Secret::new(b"short");
        kept.inherit(&told, now);
        assert_eq!(bytes(&kept.current.as_ref().unwrap().0), own);
        told.current = Secret::new(&own);
        told.before = Some(Secret::new(b"short"));
        told.age_ms = u64::MAX;
        kept.inherit(&told, now);
        assert!(kept.before.is_none());
        assert!(kept.until_turn(now) < ROTATION);
    }
}

//! Holds a client to `calls_per_second_max`: it may say what it has saved in the last second at once, and then it is not
//! read until it may go on (the generic cell rate algorithm; ITU-T I.371, Annex A).

use std::time::{Duration, Instant};

/// How far a client is ahead of its pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// What it has said so far is paid for by then.
    pub(super) paid_until: Instant,
    pub(super) is_held: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            paid_until: now,
            is_held: false,
        }
    }

    /// It has said something, which costs `interval`.
    pub(super) fn take(&mut self, now: Instant, interval: Duration) {
        self.paid_until = self.paid_until.max(now) + interval;
        self.is_held = self.resume_at(interval) > now;
    }

    /// Whether it is not to be read.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// When it may be read again, if it may not now.
    pub(super) fn deadline(&self, interval: Duration) -> Option<Instant> {
        self.is_held.then(|| self.resume_at(interval))
    }

    /// True when it may be read again from now on.
    pub(super) fn release(&mut self, now: Instant, interval: Duration) -> bool {
        let is_due = self.is_held && self.resume_at(interval) <= now;
        self.is_held &= !is_due;
        is_due
    }

    /// From then on one more is no further ahead than a second.
    fn resume_at(&self, interval: Duration) -> Instant {
        let next = self.paid_until + interval;
        next.checked_sub(SAVED).unwrap_or(next)
    }
}

const SAVED: Duration = Duration::from_secs(1);

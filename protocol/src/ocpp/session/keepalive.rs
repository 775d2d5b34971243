//! Decides when a client that says nothing is pinged, and when it counts as dead.

use std::time::{Duration, Instant};

use super::limits::Limits;

/// See the module.
#[derive(Debug)]
pub(super) struct Keepalive {
    pub(super) heard_at: Instant,
    /// In milliseconds; the highest means never.
    pub(super) ping_after_ms: u32,
    pub(super) pinged: bool,
}

/// What a silent client gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Silent {
    Ping,
    Drop,
}

impl Keepalive {
    /// `spread`, a random number, puts the ping between 3/4 and all of `ping_after`: clients that came together are not pinged
    /// together.
    pub(super) fn new(spread: u32, limits: &Limits, now: Instant) -> Self {
        let whole = u64::try_from(limits.ping_after.as_millis()).unwrap_or(u64::MAX);
        let earlier = (u128::from(whole / 4) * u128::from(spread)) >> u32::BITS;
        let ping_after_ms = whole - u64::try_from(earlier).unwrap_or(whole / 4);
        Self {
            heard_at: now,
            ping_after_ms: ping_after_ms.try_into().unwrap_or(u32::MAX),
            pinged: false,
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.pinged = false;
    }

    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard_at)
    }

    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let allowed = if self.pinged {
            limits.dead_after
        } else {
            self.ping_after().min(limits.dead_after)
        };
        self.heard_at.checked_add(allowed)
    }

    /// What is due. A ping that comes late (the whole machine was stopped) still gives the client its time to answer.
    pub(super) fn handle_deadline(&mut self, now: Instant, limits: &Limits) -> Option<Silent> {
        if self.deadline(limits).is_none_or(|deadline| now < deadline) {
            return None;
        }
        let ping_after = self.ping_after();
        if self.pinged || limits.dead_after <= ping_after {
            return Some(Silent::Drop);
        }
        self.pinged = true;
        self.heard_at = now.checked_sub(ping_after).unwrap_or(self.heard_at);
        Some(Silent::Ping)
    }

    fn ping_after(&self) -> Duration {
        match self.ping_after_ms {
            u32::MAX => Duration::MAX,
            millis => Duration::from_millis(millis.into()),
        }
    }
}

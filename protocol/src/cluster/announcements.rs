//! Says when which clients are announced: when they connect, a second later, and all of them every few minutes.
//!
//! A word may be lost, and what a node subscribes to is known to other servers of NATS only a moment later: two nodes that get the
//! same client at once may both miss what the other one says. So it is said again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::clients::Clients;

/// See the module. Clients are named by their slots; a slot that another client has by then is announced, too: no harm is done.
#[derive(Debug)]
pub(super) struct Announcements {
    again: VecDeque<(Instant, usize)>,
    /// Where subscriptions and announcements are made anew.
    anew: Option<usize>,
    round: usize,
    round_due: Instant,
}

impl Announcements {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            again: VecDeque::new(),
            anew: None,
            round: 0,
            round_due: now + ROUND_STEP,
        }
    }

    /// This one has been announced, and is to be once more.
    pub(super) fn again(&mut self, slot: usize, now: Instant) {
        self.again.push_back((now + AGAIN_AFTER, slot));
    }

    /// NATS is there: everybody is to be subscribed to and announced.
    pub(super) fn begin_anew(&mut self) {
        self.anew = Some(0);
    }

    /// NATS has gone.
    pub(super) fn stop(&mut self) {
        self.again.clear();
        self.anew = None;
    }

    pub(super) fn is_anew(&self) -> bool {
        self.anew.is_some()
    }

    /// The next slots of those that are made anew.
    pub(super) fn slice(&mut self, clients: &Clients) -> std::ops::Range<usize> {
        let from = self.anew.unwrap_or_default();
        let until = clients.slots_end().min(from.saturating_add(SLICE));
        self.anew = (until < clients.slots_end()).then_some(until);
        from..until
    }

    /// One whose time has come to be announced again.
    pub(super) fn take_again(&mut self, now: Instant) -> Option<usize> {
        let (due, slot) = *self.again.front()?;
        (due <= now).then(|| {
            self.again.pop_front();
            slot
        })
    }

    /// The slots whose turn it is in the round of all, each second some. Empty: not yet.
    pub(super) fn round(&mut self, clients: &Clients, now: Instant) -> std::ops::Range<usize> {
        if now < self.round_due {
            return 0..0;
        }
        self.round_due = now + ROUND_STEP;
        let end = clients.slots_end();
        let from = if self.round < end { self.round } else { 0 };
        let until = end.min(from + end.div_ceil(ROUND_STEPS));
        self.round = until;
        from..until
    }

    pub(super) fn next_deadline(&self) -> Instant {
        let again = self.again.front().map(|(due, _)| *due);
        again.map_or(self.round_due, |again| again.min(self.round_due))
    }
}

/// What a subscription takes to be known everywhere, and more.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A round takes five minutes.
const ROUND_STEP: Duration = Duration::from_secs(1);
const ROUND_STEPS: usize = 300;
/// Slots that are looked at in one go.
pub(super) const SLICE: usize = 512;

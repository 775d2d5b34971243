//! Lends a backend's places to the shards: one shard is the keeper of each backend.
//!
//! Claims and the time enter, grants come out. A grant is a shard's whole share from then on. What one shard has too many is
//! given to another when it has said that it no longer uses it; a shard that does not answer for [`LEASE`] has lost its
//! places. While requests wait anywhere, all shards report, and the limit adapts to what they report.
//!
//! Invariants, but for shards that were silent for [`LEASE`]:
//! - What all shards may use together is never more than the limit was when it was lent; it comes down as requests end.
//! - While a request waits, no place is kept.
//! - No shard with requests that wait is passed over for ever: what it has had too little counts for it.

mod division;
mod lent;

use std::time::Instant;

use self::lent::Lent;
use super::limit::{Limit, Load};
use super::messages::{CALM, CALM_NEW, Claim, Grant, LEASE, RESEND, TICK, initial_share};
use super::phase::Seen;
use super::share::Demand;

/// The places of one backend.
#[derive(Debug)]
pub struct Keeper {
    limit: Limit,
    shards: Vec<Lent>,
    /// Requests wait, or did a short while ago: all shards report.
    is_watched: bool,
    waited: Option<Instant>,
    /// When the limit was last looked at.
    looked: Option<Instant>,
    divided: Option<Instant>,
    /// More are under way than may be, since then.
    over_since: Option<Instant>,
    seen: Seen,
    is_changed: bool,
}

/// How a keeper's places are used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// The limit in force.
    pub limit: usize,
    /// Lent.
    pub lent: usize,
    /// Requests at the backend, as far as is known.
    pub in_use: usize,
    /// Requests that wait for a place, as far as is known.
    pub waiting: usize,
}

impl Keeper {
    /// Lends as many places to `count` shards as the limit has.
    #[must_use]
    pub fn new(now: Instant, limit: Limit, count: usize) -> Self {
        let lend = |index| {
            let places = initial_share(limit.get(), index, count);
            Lent {
                grant: Grant {
                    number: 0,
                    places,
                    is_watched: false,
                },
                is_unsent: false,
                sent: now,
                unanswered: None,
                held: places,
                demand: Demand::default(),
                answered: 0,
                credit: 0.0,
                is_lost: false,
            }
        };
        Self {
            shards: (0..count).map(lend).collect(),
            limit,
            is_watched: false,
            waited: None,
            looked: None,
            divided: None,
            over_since: None,
            seen: Seen::default(),
            is_changed: false,
        }
    }

    /// What shard `from` says of itself.
    pub fn handle_claim(&mut self, now: Instant, from: usize, claim: Claim) {
        let lent = &mut self.shards[from];
        lent.is_lost = false;
        // It lives; but it may not have heard all.
        lent.unanswered = (claim.number != lent.grant.number).then_some(now);
        lent.demand = Demand {
            in_use: claim.in_use,
            waiting: claim.waiting,
        };
        lent.held = lent.grant.places.max(claim.in_use);
        if claim.number != lent.grant.number {
            lent.held = lent.held.max(claim.places);
        }
        if lent.demand.waiting_count() > 0 {
            self.waited = Some(now);
        }
        lent.answered = lent.answered.saturating_add(claim.seen.answered);
        self.seen.add(claim.seen);
        self.is_changed = true;
    }

    /// Divides the places anew if there is a reason. What is to be sent, and to whom, goes to `out`.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<(usize, Grant)>) {
        self.look(now);
        let is_tick = self.divided.is_none_or(|at| now.saturating_duration_since(at) >= TICK);
        if self.is_changed || (self.is_watched && is_tick) {
            self.is_changed = false;
            self.forget_silent(now);
            self.watch(now);
            self.divide(now, is_tick);
        }
        self.send(now, out);
    }

    /// When [`poll`](Self::poll) is to be called without a claim.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.is_watched && self.seen.refused == 0 {
            return None;
        }
        self.looked.map(|at| at + TICK)
    }

    /// The limit, and what is known about it.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// How the places are used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let sum = |part: fn(&Lent) -> usize| self.shards.iter().map(part).sum();
        Usage {
            limit: self.limit.get(),
            lent: sum(|lent| lent.grant.places),
            in_use: sum(|lent| lent.demand.in_use),
            waiting: sum(|lent| lent.demand.waiting_count()),
        }
    }

    /// Lets the limit learn from what was reported.
    fn look(&mut self, now: Instant) {
        let is_due = self.looked.is_none_or(|at| now.saturating_duration_since(at) >= TICK);
        if !is_due || (!self.is_watched && self.seen.refused == 0) {
            return;
        }
        self.looked = Some(now);
        let Usage {
            limit, in_use, waiting, ..
        } = self.usage();
        let held: usize = self.shards.iter().map(|lent| lent.held).sum();
        let load = if waiting == 0 {
            Load::Slack
        } else if held > limit || in_use + (limit / 8).max(1) < limit {
            Load::Settling
        } else {
            Load::Full
        };
        self.limit
            .handle_seen(now, &std::mem::take(&mut self.seen), load, in_use);
        self.is_changed |= self.limit.get() != limit;
    }

    fn forget_silent(&mut self, now: Instant) {
        for lent in &mut self.shards {
            if lent
                .unanswered
                .is_some_and(|at| now.saturating_duration_since(at) >= LEASE)
                && !lent.is_lost
            {
                lent.is_lost = true;
                lent.demand = Demand::default();
                lent.held = 0;
                lent.lend(now, 0);
            }
        }
    }

    fn watch(&mut self, now: Instant) {
        let calm = if self.limit.is_new() { CALM_NEW } else { CALM };
        let is_watched = self.waited.is_some_and(|at| now.saturating_duration_since(at) < calm);
        if is_watched != self.is_watched {
            self.is_watched = is_watched;
            for lent in &mut self.shards {
                lent.grant.is_watched = is_watched;
                lent.change(now);
            }
        }
    }

    fn send(&mut self, now: Instant, out: &mut Vec<(usize, Grant)>) {
        for (shard, lent) in self.shards.iter_mut().enumerate() {
            let pause = if lent.is_lost { LEASE } else { RESEND };
            // One that waits without a place hears that it is not forgotten.
            let is_waiting = lent.grant.places == 0 && lent.demand.waiting_count() > 0;
            let is_awaited = lent.unanswered.is_some() || is_waiting;
            let is_late = is_awaited && now.saturating_duration_since(lent.sent) >= pause;
            if lent.is_unsent || is_late {
                lent.is_unsent = false;
                lent.sent = now;
                out.push((shard, lent.grant));
            }
        }
    }
}

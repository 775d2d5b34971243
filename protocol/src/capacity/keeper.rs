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

use std::time::{Duration, Instant};

use super::limit::{Limit, Load};
use super::messages::{CALM, CALM_NEW, Claim, Grant, LEASE, RESEND, TICK, initial_share};
use super::phase::Seen;
use super::share::{Demand, divide};

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

/// One shard and its places.
#[derive(Debug)]
struct Lent {
    /// Our last word.
    grant: Grant,
    /// It is not on its way yet.
    is_unsent: bool,
    sent: Instant,
    /// Our last word to which it has not answered, and when that was.
    unanswered: Option<Instant>,
    /// It may be using so many.
    held: usize,
    demand: Demand,
    /// Answers since they were last charged.
    answered: u32,
    /// Answers that it has had too few.
    credit: f64,
    is_lost: bool,
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

    fn divide(&mut self, now: Instant, is_tick: bool) {
        let demands: Vec<Demand> = self.shards.iter().map(|lent| lent.demand).collect();
        let shares = divide(self.limit.get(), &demands);
        let lent: usize = self.shards.iter().map(|lent| lent.grant.places).sum();
        let mut excess = lent.saturating_sub(self.limit.get());
        if is_tick {
            self.leave_used(now, &shares);
            // Those that should end do not: others do without meanwhile.
            excess = excess.max(usize::from(self.is_over_for_long(now)));
        }
        self.take_excess(now, excess, &shares);
        self.give_free(now, &shares);
        if is_tick {
            self.divided = Some(now);
            self.charge(&demands, &shares);
            self.take_turns(now, &shares);
        }
    }

    /// Where there is not enough for all, each shard is to have its share of the answers.
    fn charge(&mut self, demands: &[Demand], shares: &[f64]) {
        let all: u32 = self.shards.iter().map(|lent| lent.answered).sum();
        let is_contended = demands.iter().map(Demand::total).sum::<usize>() > self.limit.get();
        for (lent, share) in self.shards.iter_mut().zip(shares) {
            let due = share / self.limit.get() as f64 * f64::from(all);
            let more = due - f64::from(std::mem::take(&mut lent.answered));
            let is_in_turn = is_contended && lent.demand.total() > 0;
            lent.credit = if is_in_turn {
                (lent.credit + more).clamp(-CREDIT_MAX, CREDIT_MAX)
            } else {
                0.0
            };
        }
    }

    /// A request that goes on for long uses a place of its shard's share, and is not to be waited for.
    fn leave_used(&mut self, now: Instant, shares: &[f64]) {
        for (lent, share) in self.shards.iter_mut().zip(shares) {
            let used = lent.demand.in_use.min(*share as usize);
            if used > lent.grant.places && !lent.is_lost {
                lent.lend(now, used);
            }
        }
    }

    fn is_over_for_long(&mut self, now: Instant) -> bool {
        let held: usize = self.shards.iter().map(|lent| lent.held).sum();
        if held <= self.limit.get() {
            self.over_since = None;
            return false;
        }
        now.saturating_duration_since(*self.over_since.get_or_insert(now)) >= OVER_FOR
    }

    /// The limit is lower than what is lent.
    fn take_excess(&mut self, now: Instant, excess: usize, shares: &[f64]) {
        for _ in 0..excess {
            let over = |shard: &usize| self.shards[*shard].grant.places as f64 - shares[*shard];
            let with_places = (0..self.shards.len()).filter(|shard| self.shards[*shard].grant.places > 0);
            let Some(most) = with_places.max_by(|a, b| over(a).total_cmp(&over(b))) else {
                return;
            };
            let places = self.shards[most].grant.places - 1;
            self.shards[most].lend(now, places);
        }
    }

    /// What nobody holds goes to those that want it; where there is one shard, to that.
    fn give_free(&mut self, now: Instant, shares: &[f64]) {
        let held: usize = self.shards.iter().map(|lent| lent.held).sum();
        for _ in held..self.limit.get() {
            let is_only = self.shards.len() == 1;
            let wanting = (0..self.shards.len()).filter(|shard| is_only || self.shards[*shard].wants());
            let need = |shard: &usize| self.shards[*shard].need(shares[*shard]);
            let next = wanting.max_by(|a, b| need(a).total_cmp(&need(b)));
            // What nobody wants now is with those that may want it next.
            let few = |shard: &usize| {
                let lent = &self.shards[*shard];
                shares[*shard] - lent.grant.places as f64 >= 1.0 && !lent.is_lost
            };
            let Some(next) = next.or_else(|| (0..self.shards.len()).find(few)) else {
                return;
            };
            let places = self.shards[next].grant.places + 1;
            self.shards[next].lend(now, places);
        }
    }

    /// Takes places back for those that have had too few.
    fn take_turns(&mut self, now: Instant, shares: &[f64]) {
        let owed = |(lent, share): (&Lent, &f64)| {
            let wanted = share.min(lent.demand.total() as f64) - lent.grant.places as f64;
            if lent.wants() {
                (wanted - 1e-6).ceil().max(0.0) as usize
            } else {
                0
            }
        };
        let owed: usize = self.shards.iter().zip(shares).map(owed).sum();
        for _ in 0..owed {
            let need = |shard: &usize| self.shards[*shard].need(shares[*shard]);
            let all = 0..self.shards.len();
            let wanting = all.clone().filter(|shard| self.shards[*shard].wants());
            let Some(most) = wanting.max_by(|a, b| need(a).total_cmp(&need(b))) else {
                return;
            };
            // What others have to give back is on its way.
            let others = all
                .clone()
                .filter(|shard| *shard != most)
                .map(|shard| &self.shards[shard]);
            let coming: usize = others.map(|lent| lent.held - lent.grant.places).sum();
            if coming >= owed {
                return;
            }
            let with_places = all.filter(|shard| *shard != most && self.shards[*shard].grant.places > 0);
            let is_unused = |shard: usize| self.shards[shard].demand.total() < self.shards[shard].grant.places;
            let order = |a: &usize, b: &usize| (!is_unused(*a)).cmp(&!is_unused(*b)).then(need(a).total_cmp(&need(b)));
            let Some(least) = with_places.min_by(order) else {
                return;
            };
            let is_unused = is_unused(least);
            if !is_unused && need(&most) - need(&least) < 1.0 {
                return;
            }
            let places = self.shards[least].grant.places - 1;
            self.shards[least].lend(now, places);
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

impl Lent {
    /// Requests wait that it has no places for.
    fn wants(&self) -> bool {
        !self.is_lost && self.demand.waiting_count() > 0 && self.demand.total() > self.grant.places
    }

    /// How much it has a place to get; with more of them, less.
    fn need(&self, share: f64) -> f64 {
        share - self.grant.places as f64 + self.credit
    }

    fn lend(&mut self, now: Instant, places: usize) {
        self.grant.places = places;
        self.held = self.held.max(places);
        self.change(now);
    }

    fn change(&mut self, now: Instant) {
        if !self.is_unsent {
            self.is_unsent = true;
            self.grant.number = self.grant.number.wrapping_add(1);
        }
        self.unanswered.get_or_insert(now);
    }
}

const CREDIT_MAX: f64 = 100.0;
const OVER_FOR: Duration = Duration::from_millis(100);

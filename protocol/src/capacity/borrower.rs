//! Keeps a shard's side of a backend's places: how many requests it may have there, and what it tells the shard that lends them.
//!
//! With places of its own a shard asks nobody. Without, it claims; while requests wait anywhere, it also says from time to time
//! how many it has and how long answers took. What is said is how things are, not what has changed: a lost message is made
//! good by the next.

use std::time::{Duration, Instant};

use super::messages::{Claim, Grant, LEASE, TICK, initial_share};
use super::phase::Seen;
use super::share::Demand;
use crate::balance::KINDS;

/// A shard's places at one backend.
#[derive(Debug)]
pub struct Borrower {
    grant: Grant,
    /// Its lender has been silent for too long: one request may be sent all the same.
    is_alone: bool,
    seen: Seen,
    is_quiet: bool,
    /// Of so many latencies one is kept.
    stride: u32,
    skipped: u32,
    told: Told,
}

/// What the lender knows.
#[derive(Debug)]
struct Told {
    at: Option<Instant>,
    /// The number of the grant that was obeyed then.
    number: Option<u32>,
    demand: Demand,
    /// Since when a request waits and none may be sent, without a word of the lender.
    unheard_since: Option<Instant>,
}

impl Borrower {
    /// Shard `index` of `count`, where `limit` requests may be at the backend in the beginning.
    #[must_use]
    pub fn new(limit: usize, index: usize, count: usize) -> Self {
        Self {
            grant: Grant {
                number: 0,
                places: initial_share(limit, index, count),
                is_watched: false,
            },
            is_alone: false,
            seen: Seen::default(),
            is_quiet: true,
            stride: 1,
            skipped: 0,
            told: Told {
                at: None,
                number: Some(0),
                demand: Demand::default(),
                unheard_since: None,
            },
        }
    }

    /// So many requests may be at the backend.
    #[must_use]
    #[inline]
    pub fn places(&self) -> usize {
        self.grant.places.max(usize::from(self.is_alone))
    }

    /// A request was answered after `latency`. `is_refused`: with the word that it is too much.
    #[inline]
    pub fn handle_answered(&mut self, latency: Duration, is_refused: bool) {
        if self.grant.is_watched {
            self.keep(latency);
        }
        self.seen.answered = self.seen.answered.saturating_add(1);
        if is_refused {
            if !self.grant.is_watched {
                // What was answered long ago says nothing about now.
                self.seen.answered = self.seen.answered.min(ANSWERS_REMEMBERED);
            }
            self.seen.refused += 1;
            self.is_quiet = false;
        }
    }

    fn keep(&mut self, latency: Duration) {
        self.skipped += 1;
        if self.skipped < self.stride {
            return;
        }
        self.skipped = 0;
        self.seen
            .latencies
            .push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        if self.seen.latencies.len() >= LATENCIES_MAX {
            let mut index = 0;
            self.seen.latencies.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            self.stride *= 2;
        }
    }

    /// The lender's word. An old one is passed over.
    pub fn handle_grant(&mut self, grant: Grant) {
        self.told.unheard_since = None;
        self.is_alone = false;
        if grant.number.wrapping_sub(self.grant.number) > u32::MAX / 2 {
            return;
        }
        if grant.is_watched && !self.grant.is_watched {
            self.seen = Seen {
                refused: self.seen.refused,
                answered: self.seen.answered.min(self.seen.refused),
                latencies: Vec::new(),
            };
        }
        self.grant = grant;
        // It is answered even if it is a repetition.
        self.told.number = None;
        self.is_quiet = false;
    }

    /// True while there is nothing to tell, whatever is answered, unless a request has to wait. Cheap: asked after everything that
    /// happens.
    #[must_use]
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// True when there may be something to tell.
    #[must_use]
    #[inline]
    pub fn may_claim(&self, in_use: usize, is_waiting: bool) -> bool {
        !self.is_quiet || (is_waiting && in_use >= self.places())
    }

    fn look_whether_quiet(&mut self) {
        self.is_quiet = !self.grant.is_watched
            && self.told.number == Some(self.grant.number)
            && self.seen.refused == 0
            && self.told.demand.in_use <= self.grant.places;
    }

    /// What is to be told now, if anything.
    pub fn poll_claim(&mut self, now: Instant, in_use: usize, waiting: [u32; KINDS]) -> Option<Claim> {
        let demand = Demand { in_use, waiting };
        let waits = demand.waiting_count() > 0 && in_use >= self.places();
        if !waits {
            self.told.unheard_since = None;
        } else if now.saturating_duration_since(*self.told.unheard_since.get_or_insert(now)) >= LEASE && in_use == 0 {
            self.is_alone = true;
        }
        let is_due = self.told.at.is_none_or(|at| now.saturating_duration_since(at) >= TICK);
        let has_news = demand != self.told.demand || self.seen.answered > 0;
        let releases = in_use < self.told.demand.in_use && self.told.demand.in_use > self.grant.places;
        let wants = waits && self.told.demand.waiting_count() == 0;
        let is_to_be_told = self.told.number != Some(self.grant.number)
            || releases
            || wants
            || (is_due && (waits || (has_news && (self.grant.is_watched || self.seen.refused > 0))));
        is_to_be_told.then(|| self.claim(now, demand))
    }

    fn claim(&mut self, now: Instant, demand: Demand) -> Claim {
        self.told.at = Some(now);
        self.told.number = Some(self.grant.number);
        self.told.demand = demand;
        if self.seen.latencies.len() < LATENCIES_MAX / 4 {
            self.stride = (self.stride / 2).max(1);
        }
        let seen = std::mem::take(&mut self.seen);
        self.look_whether_quiet();
        Claim {
            number: self.grant.number,
            places: self.grant.places,
            in_use: demand.in_use,
            waiting: demand.waiting,
            seen,
        }
    }

    /// When [`poll_claim`](Self::poll_claim) is to be called without anything having happened.
    #[must_use]
    pub fn next_deadline(&self, in_use: usize, is_waiting: bool) -> Option<Instant> {
        let is_pressed = is_waiting && in_use >= self.places();
        let has_news = self.grant.is_watched && (self.seen.answered > 0 || in_use != self.told.demand.in_use);
        let speaks = is_pressed || has_news || self.seen.refused > 0;
        self.told.at.filter(|_| speaks).map(|at| at + TICK)
    }
}

const LATENCIES_MAX: usize = 64;
/// Before answers say "too much" so many of those that did not are counted against them.
const ANSWERS_REMEMBERED: u32 = 50;

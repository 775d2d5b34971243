//! Keeps what a keeper knows of one shard.

use std::time::Instant;

use super::{Demand, Grant};

/// One shard and its places.
#[derive(Debug)]
pub(super) struct Lent {
    /// Our last word.
    pub(super) grant: Grant,
    /// It is not on its way yet.
    pub(super) is_unsent: bool,
    pub(super) sent: Instant,
    /// Our last word to which it has not answered, and when that was.
    pub(super) unanswered: Option<Instant>,
    /// It may be using so many.
    pub(super) held: usize,
    pub(super) demand: Demand,
    /// Answers since they were last charged.
    pub(super) answered: u32,
    /// Answers that it has had too few.
    pub(super) credit: f64,
    pub(super) is_lost: bool,
}

impl Lent {
    /// Requests wait that it has no places for.
    pub(super) fn wants(&self) -> bool {
        !self.is_lost && self.demand.waiting_count() > 0 && self.demand.total() > self.grant.places
    }

    /// How much it has a place to get; with more of them, less.
    pub(super) fn need(&self, share: f64) -> f64 {
        share - self.grant.places as f64 + self.credit
    }

    pub(super) fn lend(&mut self, now: Instant, places: usize) {
        self.grant.places = places;
        self.held = self.held.max(places);
        self.change(now);
    }

    pub(super) fn change(&mut self, now: Instant) {
        if !self.is_unsent {
            self.is_unsent = true;
            self.grant.number = self.grant.number.wrapping_add(1);
        }
        self.unanswered.get_or_insert(now);
    }
}

//! Divides the places among the shards, and moves those that are with the wrong ones.

use std::time::{Duration, Instant};

use super::lent::Lent;
use super::{Demand, Keeper};
use crate::capacity::share::divide;

impl Keeper {
    pub(super) fn divide(&mut self, now: Instant, is_tick: bool) {
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
}

const CREDIT_MAX: f64 = 100.0;
const OVER_FOR: Duration = Duration::from_millis(100);

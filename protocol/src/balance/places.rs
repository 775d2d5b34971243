//! Keeps to the places that this shard has at each backend, and asks their keepers for more while requests wait.

use std::time::{Duration, Instant};

use super::{Balance, LinkId, Output};
use crate::capacity::{Borrower, Grant};

impl<R> Balance<R> {
    /// From now on this backend gets as many requests at once as the borrower has places. Without one it gets as many as there
    /// are connections.
    pub fn limit(&mut self, upstream: usize, borrower: Borrower) {
        self.upstreams[upstream].borrower = Some(borrower);
    }

    /// The keeper of this backend's places has spoken.
    pub fn handle_grant(&mut self, now: Instant, upstream: usize, grant: Grant, out: &mut Vec<Output<R>>) {
        let Some(borrower) = &mut self.upstreams[upstream].borrower else {
            return;
        };
        borrower.handle_grant(grant);
        self.use_places(now, out);
        self.poll_claims(now, out);
    }

    /// An answer took so long. `is_refused`: it says that it is too much.
    #[inline]
    pub fn handle_latency(&mut self, link: LinkId, latency: Duration, is_refused: bool) {
        let upstream = self.links.upstream(link);
        if let Some(borrower) = &mut self.upstreams[upstream].borrower {
            borrower.handle_answered(latency, is_refused);
        }
    }

    /// Places of this shard at a backend, and how many of them are used; `None`: as many as there are connections.
    #[must_use]
    pub fn places(&self, upstream: usize) -> Option<(usize, usize)> {
        let upstream = &self.upstreams[upstream];
        let borrower = upstream.borrower.as_ref()?;
        Some((borrower.places(), upstream.in_use()))
    }

    /// Places have come, or are free again: requests that wait get connections that are idle, and others are opened.
    pub(super) fn use_places(&mut self, now: Instant, out: &mut Vec<Output<R>>) {
        while !self.waiting.is_empty() {
            let Some(link) = self.take_idle(now) else { break };
            // One each: it may turn out to have ended.
            let first = self.waiting.pop().expect("some wait");
            self.begin(link, first, out);
        }
        self.connect_more(now, out);
    }

    /// Says what is to be said to the keepers.
    #[inline]
    pub(super) fn poll_claims(&mut self, now: Instant, out: &mut Vec<Output<R>>) {
        if self.has_nothing_to_claim() {
            return;
        }
        let is_waiting = !self.waiting.is_empty();
        for index in 0..self.upstreams.len() {
            let upstream = &self.upstreams[index];
            let may_claim = |borrower: &Borrower| borrower.may_claim(upstream.in_use(), is_waiting);
            if upstream.borrower.as_ref().is_some_and(may_claim) && !upstream.is_gone {
                self.claim(now, index, out);
            }
        }
    }

    #[inline]
    fn has_nothing_to_claim(&self) -> bool {
        let is_quiet = |upstream: &super::Upstream| upstream.borrower.as_ref().is_none_or(Borrower::is_quiet);
        self.waiting.is_empty() && self.upstreams.iter().all(is_quiet)
    }

    fn claim(&mut self, now: Instant, index: usize, out: &mut Vec<Output<R>>) {
        let waiting = self.waiting.lens();
        let upstream = &mut self.upstreams[index];
        let in_use = upstream.in_use();
        let claim = upstream
            .borrower
            .as_mut()
            .and_then(|borrower| borrower.poll_claim(now, in_use, waiting));
        if let Some(claim) = claim {
            out.push(Output::Claim { upstream: index, claim });
        }
    }

    /// When there may be something to say though nothing has happened.
    #[inline]
    pub(super) fn next_claim(&self) -> Option<Instant> {
        if self.has_nothing_to_claim() {
            return None;
        }
        let is_waiting = !self.waiting.is_empty();
        let next = |upstream: &super::Upstream| {
            let borrower = upstream.borrower.as_ref().filter(|_| !upstream.is_gone)?;
            borrower.next_deadline(upstream.in_use(), is_waiting)
        };
        self.upstreams.iter().filter_map(next).min()
    }
}

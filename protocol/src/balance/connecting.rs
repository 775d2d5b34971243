//! Decides when a connection is opened, and to whom: for requests that wait, ahead of any need, and to see who is back.

use std::time::Instant;

use super::upstream::Upstream;
use super::{Balance, Output};

impl<R> Balance<R> {
    /// Sees to it, ahead of any need, that the least busy backend has a connection to take its share with, and probes
    /// one that has been left alone for long enough. No request waits for these.
    #[inline]
    pub(super) fn level(&mut self, now: Instant, out: &mut Vec<Output<R>>) {
        if self.upstreams.len() == 1 || self.count() >= self.limits.connections_max {
            return;
        }
        // With nobody else to ask, the requests themselves are the probe.
        if !self.is_any_good() {
            return;
        }
        let ready = self.upstreams().filter(|upstream| !upstream.idle.is_empty());
        let busy = ready.map(Upstream::busy_count).min();
        let wanted = |upstream: &Upstream| {
            let is_less_busy = busy.is_some_and(|busy| upstream.busy_count() < busy);
            !upstream.is_gone
                && upstream.connects == 0
                && upstream.idle.is_empty()
                && upstream.is_open(now)
                && (upstream.is_suspect() || is_less_busy)
        };
        if let Some(index) = self.upstreams.iter().position(wanted) {
            self.connect(now, index, false, out);
        }
    }

    /// Opens connections for the requests that wait.
    pub(super) fn connect_more(&mut self, now: Instant, out: &mut Vec<Output<R>>) {
        while self.awaited < self.waiting.len() && self.connecting_count() < CONNECTS_AT_ONCE {
            let is_full = self.count() >= self.limits.connections_max;
            // One that is down is tried by one connect at a time, beside a probe.
            if is_full || (self.down.is_some() && self.awaited > 0) {
                return;
            }
            let least = |(_, upstream): &(usize, &Upstream)| {
                // One that has not let anybody in yet shows first whether it does.
                let is_unproven = upstream.connects > 0 && upstream.connects == upstream.count;
                let is_failing = upstream.is_failing(now);
                (upstream.is_suspect(), is_failing, is_unproven, upstream.count)
            };
            let is_any_good = self.is_any_good();
            let is_of_use = |upstream: &Upstream| {
                !upstream.is_gone && upstream.may_use_connect() && !(is_any_good && upstream.is_suspect())
            };
            let upstreams = self.upstreams.iter().enumerate();
            let upstreams = upstreams.filter(|(_, upstream)| is_of_use(upstream));
            let Some((index, _)) = upstreams.min_by_key(least) else {
                // No place is free.
                return;
            };
            self.connect(now, index, true, out);
        }
    }

    /// Tries to connect to those who are down and for whom no request does. One at a time for each.
    pub(super) fn probe(&mut self, now: Instant, out: &mut Vec<Output<R>>) {
        while self.may_probe() {
            let is_due = |upstream: &Upstream| upstream.probe_at().is_some_and(|at| at <= now);
            let Some(index) = self.upstreams.iter().position(is_due) else {
                return;
            };
            self.connect(now, index, false, out);
        }
    }

    /// A probe takes no connection that a request to another backend may want.
    pub(super) fn may_probe(&self) -> bool {
        self.upstreams.len() == 1 || self.count() + 1 < self.limits.connections_max
    }

    fn connect(&mut self, now: Instant, index: usize, is_awaited: bool, out: &mut Vec<Output<R>>) {
        let upstream = &mut self.upstreams[index];
        upstream.count += 1;
        upstream.connects += 1;
        self.awaited += usize::from(is_awaited);
        out.push(Output::Connect {
            upstream: index,
            is_awaited,
            pause: upstream.pause(now),
        });
    }

    /// True when the connections are used up, and this backend has more than its share of them while another one that
    /// works has too few: the one that grew alone gives back what the other one left.
    pub(super) fn must_make_room(&self, now: Instant, index: usize) -> bool {
        if self.upstreams.len() == 1 || self.is_making_room || self.count() < self.limits.connections_max {
            return false;
        }
        let open = self.upstreams().filter(|upstream| upstream.is_open(now));
        let least = open.map(|upstream| upstream.count).min();
        least.is_some_and(|least| least + 1 < self.upstreams[index].count)
    }
}

/// Connects under way at once. A burst of requests must not become a burst of connects that overflows the backend's
/// backlog: each that is done takes the next request, and so do the connections that there are.
pub(super) const CONNECTS_AT_ONCE: usize = 16;

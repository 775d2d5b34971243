//! Keeps what choosing among the backends needs of one: its connections, and whether it can be relied on.
//!
//! One that fails (refuses a connection, or ends one without an answer) is left alone for a while, longer each time, as
//! long as there is another. Then it is open for one request at a time, until it has answered one.

use std::time::{Duration, Instant};

use super::LinkId;
use super::health::{Health, OutageReason, Watch};
use crate::capacity::Borrower;

/// One backend and its connections.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    /// The most recently used last.
    pub(super) idle: Vec<LinkId>,
    /// Open ones, idle or not, and connects under way.
    pub(super) count: usize,
    /// Connects under way.
    pub(super) connects: usize,
    watch: Watch,
    /// The connection on which it owes an answer that nobody waits for: the first sign that it is back.
    witness: Option<LinkId>,
    /// The places that this shard has there. Without it they are as many as connections.
    pub(super) borrower: Option<Borrower>,
    /// It is no backend any more, and what connections it has are to end.
    pub(super) is_gone: bool,
    /// Since it last answered.
    failures: u32,
    /// After a failure it is left alone until then, if there is another.
    failing_until: Option<Instant>,
    /// The last failure was that it could not be connected to.
    is_unreachable: bool,
}

impl Upstream {
    /// Has failed, and has not answered since.
    #[inline]
    pub(super) fn is_suspect(&self) -> bool {
        self.failures > 0
    }

    /// Is being left alone.
    #[inline]
    pub(super) fn is_failing(&self, now: Instant) -> bool {
        self.failing_until.is_some_and(|until| now < until)
    }

    /// How it is, for whoever watches it.
    pub(super) fn health(&self, now: Instant) -> Health {
        self.watch.health(now, &self.idle)
    }

    /// When it is to be probed, because it is down and has no connection on which a request could show whether it still is.
    #[inline]
    pub(super) fn probe_at(&self) -> Option<Instant> {
        let is_unused = self.failures > 0 && self.count == 0 && !self.is_gone;
        self.watch.probe_at().filter(|_| is_unused)
    }

    /// How long to wait before it is connected to, because it could not be the last time: longer each time.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let until = self.failing_until.filter(|until| self.is_unreachable && now < *until)?;
        let doublings = self.failures.saturating_sub(1).min(RETRY_DOUBLINGS);
        Some((until - now).min(RETRY_PAUSE * 2_u32.pow(doublings)))
    }

    /// May be asked: it works, or it has been left alone for long enough to be given one request.
    #[inline]
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.failures == 0 || (!self.is_failing(now) && self.busy_count() == 0)
    }

    /// Connections with requests.
    #[inline]
    pub(super) fn in_use(&self) -> usize {
        self.busy_count() - self.connects
    }

    /// One request more may be sent.
    #[inline]
    pub(super) fn has_place(&self) -> bool {
        self.borrower
            .as_ref()
            .is_none_or(|borrower| self.in_use() < borrower.places())
    }

    /// More connections have requests than may have.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.borrower
            .as_ref()
            .is_some_and(|borrower| self.in_use() > borrower.places())
    }

    /// There is a place for a request on a connection more, beside those that are being opened.
    #[inline]
    pub(super) fn may_use_connect(&self) -> bool {
        self.borrower
            .as_ref()
            .is_none_or(|borrower| self.busy_count() < borrower.places())
    }

    /// Requests that it works on, and connects under way.
    #[inline]
    pub(super) fn busy_count(&self) -> usize {
        self.count - self.idle.len() - usize::from(self.witness.is_some())
    }

    /// A request on `link` has had its time. One such connection is kept for the answer that it owes.
    pub(super) fn keep_witness(&mut self, link: LinkId, has_room: bool) {
        if self.witness.is_none() && has_room && self.watch.is_silent() {
            self.witness = Some(link);
        }
    }

    /// Whether the connection is kept for the answer that it owes.
    pub(super) fn is_witness(&self, link: LinkId) -> bool {
        self.witness == Some(link) && self.watch.is_silent()
    }

    /// A connect has failed, because of the backend or for want of room.
    pub(super) fn handle_connect_failed(&mut self, now: Instant, reason: OutageReason) {
        self.fail(now, true);
        // Where it serves connections that are open, it is not down.
        if self.count == self.connects {
            self.note_down(now, reason, now);
        }
    }

    /// It has ended a connection without an answer to the request on it.
    pub(super) fn handle_broken(&mut self, now: Instant) {
        self.fail(now, false);
        if self.failures >= BREAKS_MANY {
            self.note_down(now, OutageReason::BreaksOff, now);
        }
    }

    /// It has refused us on a connection that it had taken.
    pub(super) fn handle_refused(&mut self, now: Instant) {
        self.fail(now, false);
        // Where it serves other connections, it is not down. This one is still among them.
        if self.count == self.connects + 1 {
            self.note_down(now, OutageReason::Tls, now);
        }
    }

    fn note_down(&mut self, now: Instant, reason: OutageReason, evidence: Instant) {
        let probe_at = self.failing_until.unwrap_or(now);
        self.watch.handle_failed(now, reason, evidence, probe_at);
    }

    /// It refused a connection, ended one without an answer, or lets a request wait for longer than it may.
    pub(super) fn fail(&mut self, now: Instant, is_unreachable: bool) {
        if self.is_failing(now) && self.is_unreachable == is_unreachable {
            // What was under way together fails together: that is one failure.
            return;
        }
        let pause = FAILING_PAUSE * 2_u32.pow(self.failures.min(FAILING_DOUBLINGS));
        self.failures += 1;
        self.failing_until = Some(now + pause);
        self.is_unreachable = is_unreachable;
    }

    /// It has taken a connection: it can be tried at once. Whether it works is seen when it answers.
    pub(super) fn handle_connected(&mut self, now: Instant, link: LinkId) {
        self.watch.handle_connected(now, link);
        if self.is_unreachable {
            self.is_unreachable = false;
            self.failing_until = None;
        }
    }

    /// A request that was sent at `sent` has no answer in time. That is evidence if nothing else was answered meanwhile: one that
    /// answers others is only slow with this one.
    pub(super) fn handle_timed_out(&mut self, now: Instant, sent: Instant) {
        if self.watch.answered().is_none_or(|answered| answered < sent) {
            self.fail(now, false);
            self.note_down(now, OutageReason::Silent, sent);
        }
    }

    fn end_witness(&mut self, link: LinkId) {
        if self.witness == Some(link) {
            self.witness = None;
        }
    }

    /// A connection has ended, whoever ended it.
    pub(super) fn handle_ended(&mut self, now: Instant, link: LinkId) {
        self.count -= 1;
        self.watch.handle_ended(now, link, &self.idle);
        self.end_witness(link);
        self.idle.retain(|idle| *idle != link);
    }

    /// A request was answered: the backend works.
    #[inline]
    pub(super) fn handle_answered(&mut self, now: Instant, link: LinkId) {
        self.end_witness(link);
        self.watch.handle_answered(now);
        if self.failures > 0 {
            self.failures = 0;
            self.failing_until = None;
            self.is_unreachable = false;
        }
    }
}

/// Between a refused connect and the next one that a request waits for; twice as long each time.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Up to 800 ms.
const RETRY_DOUBLINGS: u32 = 3;
/// A backend that failed is left alone for this long while there is another; for twice as long each time.
const FAILING_PAUSE: Duration = Duration::from_secs(1);
/// Up to 8 s.
const FAILING_DOUBLINGS: u32 = 3;
/// So many times in a row, some seconds apart: one worker that crashed is no backend that is down.
const BREAKS_MANY: u32 = 3;

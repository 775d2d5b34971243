//! Keeps whether one backend serves, for whoever watches it: what was heard of it last, since when, and why.
//!
//! It is down when the last that was heard of it is bad: it could not be connected to, it let a request wait for all of its time and
//! answered nothing else meanwhile, or it ended several connections in a row without an answer. It is up again when it answers. One that
//! nobody asks is probed with a connection, which proves it to be back if it lives for a while. One that took connections and
//! answered nothing is proved by an answer alone: it still owes one on a connection that is kept for that.

use std::time::{Duration, Instant};

use super::LinkId;

/// Why a backend is down.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum OutageReason {
    /// It can't be connected to.
    Unreachable,
    /// It can, but is not who it should be, or speaks no TLS.
    Tls,
    /// We have no room for a connection to it.
    NoRoom,
    /// A request had no answer in its time, and no other request had one meanwhile.
    Silent,
    /// It ends connections without an answer, one after the other.
    BreaksOff,
}

/// What stands against a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outage {
    /// What was heard last.
    pub reason: OutageReason,
    /// When it began.
    pub since: Instant,
    /// An answer that anybody has got later refutes it.
    pub evidence: Instant,
}

/// How one backend is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// `None`: it is up, or nobody has asked it yet.
    pub outage: Option<Outage>,
    /// When it last answered a request.
    pub answered: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watch {
    health: Health,
    /// A connection that was opened since, and when.
    proof: Option<(LinkId, Instant)>,
    probe_at: Option<Instant>,
}

impl Watch {
    /// How it is. `idle`: its connections that have nothing to do.
    pub(super) fn health(&self, now: Instant, idle: &[LinkId]) -> Health {
        let outage = self.health.outage.filter(|_| !self.is_proved(now, idle));
        Health { outage, ..self.health }
    }

    /// Whether it takes requests and answers none.
    pub(super) fn is_silent(&self) -> bool {
        self.health
            .outage
            .is_some_and(|outage| outage.reason == OutageReason::Silent)
    }

    /// When it last answered.
    pub(super) fn answered(&self) -> Option<Instant> {
        self.health.answered
    }

    /// When it is to be probed if it has no connection by then.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        self.probe_at.filter(|_| self.proof.is_none())
    }

    /// It has failed. It is left alone until `probe_at`.
    pub(super) fn handle_failed(&mut self, now: Instant, reason: OutageReason, evidence: Instant, probe_at: Instant) {
        let since = self.health.outage.map_or(now, |outage| outage.since);
        self.health.outage = Some(Outage {
            reason,
            since,
            evidence,
        });
        self.proof = None;
        self.probe_at = Some(probe_at);
    }

    /// It has taken a connection.
    pub(super) fn handle_connected(&mut self, now: Instant, link: LinkId) {
        let Some(outage) = self.health.outage else { return };
        self.probe_at = Some(now + PROBE_PAUSE);
        // The kernel takes connections for a process that hangs; that it takes none for one that has gone is what such a probe is for.
        if outage.reason != OutageReason::Silent && self.proof.is_none() {
            self.proof = Some((link, now));
        }
    }

    /// A connection has ended.
    pub(super) fn handle_ended(&mut self, now: Instant, link: LinkId, idle: &[LinkId]) {
        if self.proof.is_none_or(|(proof, _)| proof != link) {
            return;
        }
        if self.is_proved(now, idle) {
            self.health.outage = None;
            self.probe_at = None;
        }
        self.proof = None;
    }

    /// It has answered a request.
    #[inline]
    pub(super) fn handle_answered(&mut self, now: Instant) {
        self.health.answered = Some(now);
        if self.health.outage.is_some() {
            self.health.outage = None;
            self.proof = None;
            self.probe_at = None;
        }
    }

    /// The connection that was opened has lived for long enough, and nothing was asked that it could have answered.
    fn is_proved(&self, now: Instant, idle: &[LinkId]) -> bool {
        self.proof
            .is_some_and(|(link, at)| now.saturating_duration_since(at) >= PROVED_AFTER && idle.contains(&link))
    }
}

/// A forwarder that has nobody behind it takes connections, and ends them at once.
const PROVED_AFTER: Duration = Duration::from_secs(1);
/// From one probe to the next, where connecting works and proves nothing.
const PROBE_PAUSE: Duration = Duration::from_secs(8);

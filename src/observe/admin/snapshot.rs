//! Holds what all shards said at one time.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::process::Process;
use crate::observe::certificates::{self, CertificateSeen};
use crate::observe::cluster::{self, ClusterSeen};
use crate::observe::report::Report;
use crate::server::takeover::old::Upgrades;
use crate::shard::control_plane::{ControlPlane, Silent};

/// What the shards said when they were asked.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// In the order of the shards.
    pub(super) reports: Vec<Report>,
    /// Those that did not answer.
    pub(super) silent: Vec<Silent>,
    /// Clients that a rebalance is still to send away.
    pub(super) rebalance_left: usize,
    /// Whether this process takes over, or is taken over.
    pub(super) takeover: Takeover,
}

/// One process in the place of another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Takeover {
    /// A new process has been started, and does not serve yet.
    pub(super) is_upgrading: bool,
    /// So many upgrades were undone.
    pub(super) failed: u64,
    /// The process before this one still has clients.
    pub(super) has_predecessor: bool,
    /// A new process serves.
    pub(super) is_taken_over: bool,
    /// This process was started by one that ran, and took its place.
    pub(super) is_successor: bool,
}

impl Takeover {
    pub(super) fn read(upgrades: &Upgrades, control: &ControlPlane) -> Self {
        let progress = upgrades.progress();
        Self {
            is_upgrading: progress.is_under_way,
            failed: progress.failed,
            has_predecessor: control.has_predecessor(),
            is_taken_over: control.is_taken_over(),
            is_successor: progress.is_successor,
        }
    }

    /// What is under way, for people.
    pub(super) fn words(self) -> Option<&'static str> {
        if self.is_taken_over {
            Some("another process serves; this one ends when it has no clients more")
        } else if self.is_upgrading {
            Some("a new process has been started, and does not serve yet")
        } else if self.has_predecessor {
            Some("this process has taken over; the one before it still has clients")
        } else {
            None
        }
    }
}

/// All shards at one time.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) at: Instant,
    /// One for each shard that has ever answered: of a silent one, the last.
    pub(super) reports: Vec<Report>,
    pub(super) silent: Vec<Silent>,
    pub(super) rebalance_left: usize,
    pub(super) takeover: Takeover,
    pub(super) process: Process,
    /// By the calendar.
    pub(super) date: SystemTime,
    /// What clients with TLS get.
    pub(super) certificates: Arc<[CertificateSeen]>,
    /// The cluster, if this node is in one.
    pub(super) cluster: Option<Arc<ClusterSeen>>,
}

impl Snapshot {
    /// What was seen at `at`; of those that were silent, what they said before.
    pub(super) fn new(at: Instant, seen: Seen, before: Option<&Self>) -> Self {
        let Seen {
            mut reports,
            silent,
            rebalance_left,
            takeover,
        } = seen;
        let before = before.map_or(&[][..], |before| &before.reports);
        let is_missing = |old: &&Report| silent.iter().any(|silent| silent.shard == old.shard);
        reports.extend(before.iter().filter(is_missing).cloned());
        reports.sort_by_key(|report| report.shard);
        Self {
            at,
            process: Process::read(&reports),
            reports,
            silent,
            rebalance_left,
            takeover,
            date: SystemTime::now(),
            certificates: certificates::current(),
            cluster: cluster::current(),
        }
    }

    /// The moment before the first one: nothing had been counted.
    pub(super) fn at_start(&self) -> Self {
        Self {
            reports: Vec::new(),
            ..self.clone()
        }
    }
}

/// Three shards, at one time.
#[cfg(test)]
pub(super) fn moment(change: impl Fn(&mut Report)) -> Snapshot {
    let reports = (0..3).map(|shard| {
        let mut report = Report {
            shard,
            counters: crate::observe::counters::Counters::default().read(),
            shed: vec![0; crate::observe::counters::SHED.len()],
            ..Report::default()
        };
        report.gauges.clients_max = 100.0;
        report.gauges.handshakes_max = 100.0;
        report.gauges.backend_connections_max = 8.0;
        change(&mut report);
        report
    });
    Snapshot {
        at: Instant::now(),
        reports: reports.collect(),
        silent: Vec::new(),
        rebalance_left: 0,
        takeover: Takeover::default(),
        process: Process {
            open_files_max: Some(1000),
            shards_open_files: vec![(0, Some(10)), (1, Some(899)), (2, Some(10))],
            ..Default::default()
        },
        date: SystemTime::now(),
        certificates: Arc::default(),
        cluster: None,
    }
}

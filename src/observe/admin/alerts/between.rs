//! Compares two moments: what was counted between them, and on which shards.

use super::alert::shards;
use crate::observe::admin::snapshot::Snapshot;
use crate::observe::report::Report;

/// Two moments, and what was counted between them.
pub(super) struct Between<'s> {
    pub(super) before: &'s Snapshot,
    pub(super) now: &'s Snapshot,
}

/// What was counted between two moments.
pub(super) struct Counted {
    pub(super) count: u64,
    /// Where, in words.
    pub(super) shards: String,
}

impl Between<'_> {
    /// Between looks there is a second or more; before the first one at most that.
    pub(super) fn seconds(&self) -> f64 {
        self.now
            .at
            .saturating_duration_since(self.before.at)
            .as_secs_f64()
            .max(1.0)
    }

    /// How much `value` has grown on this shard.
    pub(super) fn on(&self, report: &Report, value: impl Fn(&Report) -> u64) -> u64 {
        let before = self.before.reports.iter().find(|before| before.shard == report.shard);
        value(report).saturating_sub(before.map_or(0, value))
    }

    /// How much `value` has grown on all, and on which. `None`: on none.
    pub(super) fn counted(&self, value: impl Fn(&Report) -> u64) -> Option<Counted> {
        let reports = &self.now.reports;
        let shards = shards(reports, |report| self.on(report, &value) > 0)?;
        let count = reports.iter().map(|report| self.on(report, &value)).sum();
        Some(Counted { count, shards })
    }
}

//! Says which bounds are near or reached.

use super::alert::{Alert, Severity, alert, shards};
use crate::observe::admin::snapshot::Snapshot;
use crate::observe::report::{Gauges, Report};

/// The bounds that are near or reached, and a loop that is slow.
pub(super) fn limits(now: &Snapshot, found: &mut Vec<Alert>) {
    type Pair = (&'static str, fn(&Gauges) -> (f64, f64), &'static str);
    let pairs: [Pair; 3] = [
        ("clients_max", |gauges| (gauges.clients, gauges.clients_max), "clients"),
        (
            "handshakes_max",
            |gauges| (gauges.handshakes, gauges.handshakes_max),
            "opening handshakes",
        ),
        (
            "buffers_max",
            |gauges| (gauges.buffers_bytes, gauges.buffers_max_bytes),
            "large messages",
        ),
    ];
    for (key, pair, what) in pairs {
        let part = |report: &Report| {
            let (value, max) = pair(&report.gauges);
            value / max
        };
        if let Some(full) = shards(&now.reports, |report| part(report) >= 1.0) {
            let message = format!("{key} is reached on {full}: further {what} are refused or wait.");
            found.push(alert(key, Severity::Error, message));
        } else if let Some(near) = shards(&now.reports, |report| part(report) >= NEAR) {
            let message = format!("More than {}% of {key} are taken on {near}.", NEAR * 100.0);
            found.push(alert(key, Severity::Warning, message));
        }
    }
    if let Some(max) = now.process.open_files_max {
        let is_near = |report: &Report| {
            let open = now.process.open_files_of(report.shard);
            open.is_some_and(|open| open as f64 >= NEAR * max as f64)
        };
        if let Some(near) = shards(&now.reports, is_near) {
            let message = format!(
                "More than {}% of the {max} descriptors that a shard may open are open on {near}; then accepting pauses. \
                 Raise LimitNOFILE.",
                NEAR * 100.0
            );
            found.push(alert("open_files", Severity::Warning, message));
        }
    }
    let longest = |report: &&Report| report.gauges.loop_longest_pass_seconds;
    let slowest = now.reports.iter().max_by(|a, b| longest(a).total_cmp(&longest(b)));
    if let Some(report) = slowest.filter(|report| longest(report) >= PASS_LONG) {
        let message = format!(
            "Shard {} was busy for {:.0} ms at a stretch; whatever waited there waited that long.",
            report.shard,
            longest(&report) * 1000.0
        );
        found.push(alert("loop", Severity::Warning, message));
    }
}

/// Of a bound: worth a word.
const NEAR: f64 = 0.9;
const PASS_LONG: f64 = 0.1;

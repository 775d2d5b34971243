//! Says what single clients suffer from or do, by the name of the last one. The log has a line for each already.

use super::alert::{Alert, Severity, alert};
use super::between::Between;
use crate::observe::incidents::{IncidentKind, KINDS};
use crate::observe::report::Report;

/// True of a bound that single clients reach: no fault of the node.
pub(super) fn is_clients(bound: &str) -> bool {
    KINDS.iter().any(|kind| kind.label() == bound)
}

/// What has happened to clients since the moment before.
pub(super) fn clients(between: &Between<'_>, found: &mut Vec<Alert>) {
    for (index, kind) in KINDS.iter().enumerate() {
        let value = |report: &Report| report.incidents.get(index).map_or(0, |own| own.count);
        let (Some(severity), Some(counted)) = (severity(*kind), between.counted(value)) else {
            continue;
        };
        let mut reports = between.now.reports.iter();
        let last = reports.rfind(|report| between.on(report, value) > 0);
        let Some((client, address)) = last.and_then(|report| report.incidents[index].last.as_ref()) else {
            continue;
        };
        let times = match counted.count {
            1 => String::new(),
            count => format!(", the last of {count} in {:.0} s", between.seconds()),
        };
        let message = format!("{client} ({address}) on {}{times}: {}.", counted.shards, kind.text());
        found.push(Alert {
            is_logged: false,
            ..alert(&format!("client {}", kind.label()), severity, message)
        });
    }
}

/// How bad it is for the node. `None`: a single frame, or Call, is worth a line in the log and no more.
fn severity(kind: IncidentKind) -> Option<Severity> {
    match kind {
        IncidentKind::FrameBad | IncidentKind::TracedCallFailed => None,
        _ if kind.is_loss() => Some(Severity::Error),
        _ => Some(Severity::Warning),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::admin::snapshot::Snapshot;
    use crate::observe::admin::snapshot::moment;
    use crate::observe::incidents::IncidentReport;

    fn node(kind: IncidentKind, count: u64) -> Snapshot {
        moment(|report| {
            report.incidents = vec![IncidentReport::default(); KINDS.len()];
            if report.shard == 1 {
                report.incidents[kind as usize] = IncidentReport {
                    count,
                    last: Some(("CP7".into(), "10.0.0.1".into())),
                };
            }
        })
    }

    #[test]
    fn one_clients_fault_is_a_warning_with_its_name_and_a_lost_outcome_an_error() {
        for (kind, expected) in [
            (IncidentKind::FramesBad, Some(Severity::Warning)),
            (IncidentKind::PostExpired, Some(Severity::Error)),
            (IncidentKind::FrameBad, None),
        ] {
            let mut before = node(kind, 5);
            before.at -= Duration::from_secs(1);
            let mut found = Vec::new();
            for (count, expected) in [(5, None), (8, expected)] {
                let now = node(kind, count);
                let between = Between {
                    before: &before,
                    now: &now,
                };
                clients(&between, &mut found);
                assert_eq!(found.first().map(|alert| alert.severity), expected, "{kind:?}");
            }
            for alert in found {
                let words = "CP7 (10.0.0.1) on shard 1, the last of 3 in 1 s: ";
                assert!(alert.message.starts_with(words), "{}", alert.message);
                assert!(!alert.is_logged, "it was");
            }
        }
    }
}

//! Says which backend is down and why, or how many of its answers are bad. One of these for each backend: the worse.

use super::alert::{Alert, Severity, alert, shards};
use crate::observe::admin::snapshot::Snapshot;
use crate::observe::backends::RESULTS;
use crate::observe::report::Report;
use protocol::balance::OutageReason;

/// What is wrong with each backend.
pub(super) fn backends(before: Option<&Snapshot>, now: &Snapshot, found: &mut Vec<Alert>) {
    let count = now
        .reports
        .iter()
        .map(|report| report.backends.len())
        .max()
        .unwrap_or(0);
    for index in 0..count {
        let alert = down(&now.reports, index).or_else(|| failing(before?, now, index));
        found.extend(alert);
    }
}

fn down(reports: &[Report], index: usize) -> Option<Alert> {
    let outage = |report: &Report| report.backends.get(index).and_then(|backend| backend.outage());
    let shards = shards(reports, |report| outage(report).is_some())?;
    let reason = reports.iter().find_map(outage)?;
    let what = match reason {
        OutageReason::Unreachable => "it can't be connected to",
        OutageReason::Tls => {
            "it is not who it should be, does not take our certificate, or speaks no TLS as it should: the log says what is wrong"
        }
        OutageReason::NoRoom => "there is no descriptor, or no memory, for a connection to it",
        OutageReason::Silent => "it takes requests and answers none",
        OutageReason::BreaksOff => "it ends connections without an answer",
    };
    let name = &reports.iter().find_map(|report| report.backends.get(index))?.name;
    let is_last = reports.iter().any(|report| report.gauges.backend_up == 0.0);
    let meaning = match (is_last, reason) {
        (false, _) => "Requests go to the others.",
        (true, OutageReason::Silent) => "Clients stay connected; their Calls get InternalError, new clients 504.",
        (true, _) => "Clients stay connected; their Calls get InternalError, new clients 502.",
    };
    let severity = if is_last { Severity::Error } else { Severity::Warning };
    let message = format!("Backend {name} is down: {what}, says {shards}. {meaning}");
    Some(Alert {
        stage: DOWN,
        ..alert(&format!("backend {name}"), severity, message)
    })
}

fn failing(before: &Snapshot, now: &Snapshot, index: usize) -> Option<Alert> {
    let mut counts = vec![0; RESULTS.len()];
    let mut shards_failing = Vec::new();
    for report in &now.reports {
        let own = report.backends.get(index)?;
        let before = before.reports.iter().find(|before| before.shard == report.shard);
        let before = before.and_then(|before| before.backends.get(index));
        let since = own.since(before);
        if since.ended().1 > 0 {
            shards_failing.push(report.shard);
        }
        counts
            .iter_mut()
            .zip(&since.results)
            .for_each(|(sum, count)| *sum += count);
    }
    let ended: u64 = counts.iter().sum();
    let bad = RESULTS
        .iter()
        .zip(&counts)
        .filter(|(result, count)| result.is_bad() && **count > 0);
    let bad_count: u64 = bad.clone().map(|(_, count)| count).sum();
    if bad_count == 0 || bad_count * FEW < ended {
        return None;
    }
    let reasons: Vec<String> = bad
        .map(|(result, count)| format!("{count} × {}", result.words()))
        .collect();
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
    let name = &now.reports.first()?.backends.get(index)?.name;
    let message = format!(
        "Backend {name} gave no good answer to {bad_count} of {ended} requests in {seconds:.0} s, on {}: {}.",
        shards(&now.reports, |report| shards_failing.contains(&report.shard))?,
        reasons.join(", ")
    );
    let is_much = bad_count >= MANY && bad_count * MUCH >= ended;
    let severity = if is_much { Severity::Error } else { Severity::Warning };
    Some(alert(&format!("backend {name}"), severity, message))
}

/// One in so many is worth a word.
const FEW: u64 = 100;
/// One in so many, and so many in all, is an error: a single request that the backend can't stand is not.
const MUCH: u64 = 20;
const MANY: u64 = 3;
/// Worse than bad answers.
const DOWN: u8 = 1;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use protocol::balance::{Health, Outage};

    use super::*;
    use crate::observe::admin::snapshot::moment;
    use crate::observe::backends::{AddressReport, BackendReport, BackendResult, Places, settle};

    /// Two backends. `change` gets the shard, the backend, its health and its results.
    fn node(change: impl Fn(usize, usize, &mut Health, &mut [u64])) -> Snapshot {
        let backend = |shard, index| {
            let (mut health, mut results) = (Health::default(), vec![0; RESULTS.len()]);
            change(shard, index, &mut health, &mut results);
            BackendReport {
                name: format!("http://{index}:80").into(),
                addresses: vec![AddressReport {
                    address: "10.0.0.1:80".into(),
                    health,
                    places: Places::default(),
                }],
                results,
            }
        };
        let mut now = moment(|report| report.backends = (0..2).map(|index| backend(report.shard, index)).collect());
        settle(&mut now.reports);
        now
    }

    fn told(before: &Snapshot, now: &Snapshot) -> Vec<(Severity, String)> {
        let mut found = Vec::new();
        backends(Some(before), now, &mut found);
        found.into_iter().map(|alert| (alert.severity, alert.message)).collect()
    }

    fn outage(reason: OutageReason) -> Option<Outage> {
        let since = Instant::now();
        Some(Outage {
            reason,
            since,
            evidence: since,
        })
    }

    #[test]
    fn one_backend_of_two_is_a_warning_and_both_are_an_error() {
        let quiet = node(|_, _, _, _| {});
        assert_eq!(told(&quiet, &quiet), []);
        let one = node(|shard, index, health, _| {
            if (shard, index) == (1, 0) {
                health.outage = outage(OutageReason::Silent);
            }
        });
        let message =
            "Backend http://0:80 is down: it takes requests and answers none, says shard 1. Requests go to the others.";
        assert_eq!(told(&quiet, &one), [(Severity::Warning, message.to_owned())]);
        let both = node(|_, _, health, _| health.outage = outage(OutageReason::Unreachable));
        let told = told(&quiet, &both);
        assert!(
            told.iter().all(|(severity, message)| *severity == Severity::Error
                && message.contains("can't be connected to, says all shards")
                && message.contains("502")),
            "{told:?}"
        );
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn of_the_requests_that_ended_those_that_ended_badly_are_told_by_reason() {
        let mut before = node(|_, _, _, results| results[BackendResult::ServerError as usize] = 100);
        before.at -= Duration::from_secs(1);
        let now = |good: u64, bad: u64| {
            let now = node(|shard, index, _, results| {
                results[BackendResult::ServerError as usize] = 100;
                if (shard, index) == (2, 1) {
                    results[BackendResult::Ok as usize] = good;
                    results[BackendResult::ConnectUnavailable as usize] = 2;
                    results[BackendResult::ServerError as usize] += bad;
                    results[BackendResult::Deadline as usize] = 1;
                }
            });
            Snapshot {
                at: before.at + Duration::from_secs(1),
                ..now
            }
        };
        let message =
            "Backend http://1:80 gave no good answer to 4 of 8 requests in 1 s, on shard 2: 3 × 5xx, 1 × not in time.";
        assert_eq!(told(&before, &now(2, 3)), [(Severity::Error, message.to_owned())]);
        let severities = |good, bad| told(&before, &now(good, bad)).first().map(|told| told.0);
        assert_eq!(severities(96, 0), Some(Severity::Warning), "1 of 99");
        assert_eq!(severities(98, 0), None, "1 of 101");
        assert_eq!(severities(0, 1), Some(Severity::Warning), "a single client's");
    }
}

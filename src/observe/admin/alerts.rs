//! Says what is wrong right now, for the status page and for the log.

mod alert;
mod backend;
mod between;
mod certificates;
mod clients;
mod cluster;
mod limits;
mod refused;

pub(super) use alert::{Alert, Severity};

use super::snapshot::Snapshot;
use crate::observe::report::Report;
use crate::shard::control_plane::Silent;
use alert::{alert, names, shards};
use between::Between;

/// What is wrong between two moments, errors first.
pub(super) fn alerts(before: Option<&Snapshot>, now: &Snapshot) -> Vec<Alert> {
    let mut found = Vec::new();
    silent(&now.silent, &mut found);
    backend::backends(before, now, &mut found);
    waiting(&now.reports, &mut found);
    limits::limits(now, &mut found);
    certificates::certificates(&now.certificates, now.date, &mut found);
    cluster::cluster(now.cluster.as_deref(), now.at, &mut found);
    // What has come before the first look counts from nothing.
    let start = before.is_none().then(|| now.at_start());
    if let Some(before) = before.or(start.as_ref()) {
        let between = Between { before, now };
        refused::refused(&between, &mut found);
        clients::clients(&between, &mut found);
    }
    draining(&now.reports, &mut found);
    if now.rebalance_left > 0 {
        let message = format!(
            "A rebalance is still to send {} clients away (POST /rebalance?close=0 stops it).",
            now.rebalance_left
        );
        found.push(alert("rebalance", Severity::Warning, message));
    }
    takeover(now, &mut found);
    found.sort_by_key(|alert| alert.severity);
    found
}

fn takeover(now: &Snapshot, found: &mut Vec<Alert>) {
    if let Some(words) = now.takeover.words() {
        let message = format!("An upgrade is under way: {words}.");
        found.push(alert("upgrade", Severity::Warning, message));
    }
}

fn silent(silent: &[Silent], found: &mut Vec<Alert>) {
    for silent in silent {
        let message = format!(
            "{}: its clients are not served. `cat /proc/{}/task/{}/stack` and /debug/pprof/profile show what it does; with \
             WatchdogSec the service manager ends the process.",
            capitalized(&silent.to_string()),
            std::process::id(),
            silent.thread,
        );
        found.push(alert(&format!("shard {}", silent.shard), Severity::Error, message));
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn waiting(reports: &[Report], found: &mut Vec<Alert>) {
    let backends = names(reports);
    let waiting: f64 = reports.iter().map(|report| report.gauges.backend_waiting).sum();
    let is_full = |report: &Report| {
        let gauges = &report.gauges;
        let addresses = report.backends.iter().flat_map(|backend| &backend.addresses);
        let mut up = addresses.filter(|address| address.health.outage.is_none());
        let has_no_connection = gauges.backend_connections >= gauges.backend_connections_max;
        gauges.backend_waiting > 0.0 && (has_no_connection || up.all(|address| address.places.are_used_up()))
    };
    // That a backend is down says more.
    let is_up = reports.iter().all(|report| report.gauges.backend_up > 0.0);
    if let Some(full) = shards(reports, is_full).filter(|_| is_up) {
        let message = format!(
            "{backends} has as many requests from {full} as it may; {waiting} more wait. It is slow, or could do more than \
             backend_concurrency or backend_connections_max let it."
        );
        found.push(alert("backend_connections", Severity::Warning, message));
    }
    let posts: f64 = reports.iter().map(|report| report.gauges.posts_waiting).sum();
    if posts >= POSTS_MANY
        && let Some(shards) = shards(reports, |report| report.gauges.posts_waiting > 0.0)
    {
        let message = format!(
            "{posts} outcomes (/result, /error) wait on {shards} to be taken by {backends}; they are given up after result_ttl."
        );
        found.push(alert("posts", Severity::Warning, message));
    }
}

fn draining(reports: &[Report], found: &mut Vec<Alert>) {
    if reports.iter().any(|report| report.draining) {
        let clients: f64 = reports.iter().map(|report| report.gauges.clients).sum();
        let message = format!("Draining: the server ends, {clients} clients are still to leave.");
        found.push(alert("draining", Severity::Warning, message));
    }
}

const POSTS_MANY: f64 = 100.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::admin::snapshot::moment;

    fn messages(before: &Snapshot, now: &Snapshot) -> Vec<String> {
        alerts(Some(before), now)
            .into_iter()
            .map(|alert| alert.message)
            .collect()
    }

    #[test]
    fn nothing_is_wrong_with_a_quiet_node_or_just_below_a_bound() {
        let quiet = moment(|report| report.gauges.clients = 89.0);
        assert_eq!(messages(&quiet, &quiet), [""; 0]);
    }

    #[test]
    fn each_bound_is_named_when_it_is_near_and_when_it_is_reached() {
        let quiet = moment(|_| {});
        let near = moment(|report| report.gauges.clients = if report.shard == 1 { 90.0 } else { 0.0 });
        assert_eq!(
            messages(&quiet, &near),
            ["More than 90% of clients_max are taken on shard 1."]
        );
        let full = moment(|report| report.gauges.clients = 100.0);
        assert_eq!(
            messages(&quiet, &full),
            ["clients_max is reached on all shards: further clients are refused or wait."]
        );
        let mut files = moment(|_| {});
        files.process.shards_open_files = vec![(0, Some(900)), (1, Some(900)), (2, None)];
        assert!(messages(&quiet, &files)[0].contains("on shards 0, 1; then accepting pauses"));
    }

    #[test]
    fn what_was_refused_since_the_moment_before_is_an_error_and_comes_first() {
        let mut before = moment(|_| {});
        before.at -= Duration::from_secs(1);
        let now = moment(|report| {
            report.shed[0] = 2;
            report.draining = true;
        });
        let found = alerts(Some(&before), &now);
        let kinds: Vec<&str> = found.iter().map(|alert| alert.kind.as_str()).collect();
        assert_eq!(kinds, ["shed clients_max", "draining"]);
        assert_eq!(
            found[0].message,
            "clients_max was exceeded 6 times in 1 s on all shards; the excess was refused."
        );
        let first = alerts(None, &now);
        assert_eq!(first[0].message, found[0].message, "also before the first look");
    }
}

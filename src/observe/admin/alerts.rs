//! Says what is wrong right now, for the status page and for the log.

mod backend;

use super::snapshot::Snapshot;
use crate::observe::counters::SHED;
use crate::observe::report::{Gauges, Report};
use crate::shard::control_plane::Silent;

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Alert {
    /// Tells it from others as long as it lasts, whatever its numbers are.
    pub(super) kind: String,
    pub(super) severity: Severity,
    /// Higher when it has got worse, within its kind and severity.
    pub(super) stage: u8,
    /// A sentence or two: what is wrong, where, what it means, what to do.
    pub(super) message: String,
}

/// How bad an alert is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Severity {
    /// Work is lost.
    Error,
    /// It soon will be, or somebody wants it so.
    Warning,
}

impl Severity {
    /// Its name in /status.json.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// What is wrong between two moments, errors first.
pub(super) fn alerts(before: Option<&Snapshot>, now: &Snapshot) -> Vec<Alert> {
    let mut found = Vec::new();
    silent(&now.silent, &mut found);
    backend::backends(before, now, &mut found);
    connections(&now.reports, &mut found);
    limits(now, &mut found);
    shed(before, now, &mut found);
    draining(&now.reports, &mut found);
    found.sort_by_key(|alert| alert.severity);
    found
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

fn connections(reports: &[Report], found: &mut Vec<Alert>) {
    let waiting: f64 = reports.iter().map(|report| report.gauges.backend_waiting).sum();
    let is_full = |report: &Report| {
        let gauges = &report.gauges;
        gauges.backend_waiting > 0.0 && gauges.backend_connections >= gauges.backend_connections_max
    };
    if let Some(full) = shards(reports, is_full) {
        let message = format!(
            "All connections to the backend are in use on {full}; {waiting} requests wait. The backend is slow, or has \
             more workers than backend_connections_max lets us use."
        );
        found.push(alert("backend_connections", Severity::Warning, message));
    }
    let posts: f64 = reports.iter().map(|report| report.gauges.posts_waiting).sum();
    if posts >= POSTS_MANY {
        let message = format!("{posts} outcomes (/result, /error) wait to be delivered to the backend.");
        found.push(alert("posts", Severity::Warning, message));
    }
}

fn limits(now: &Snapshot, found: &mut Vec<Alert>) {
    type Pair = (&'static str, fn(&Gauges) -> (f64, f64), &'static str);
    let pairs: [Pair; 2] = [
        ("clients_max", |gauges| (gauges.clients, gauges.clients_max), "clients"),
        (
            "handshakes_max",
            |gauges| (gauges.handshakes, gauges.handshakes_max),
            "opening handshakes",
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
            let open = now.process.shards_open_files.get(report.shard).copied().flatten();
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

/// What has been refused since the moment before.
fn shed(before: Option<&Snapshot>, now: &Snapshot, found: &mut Vec<Alert>) {
    let Some(before) = before else { return };
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
    for (index, (bound, _)) in SHED.iter().enumerate() {
        let sum = |snapshot: &Snapshot| -> u64 {
            snapshot
                .reports
                .iter()
                .filter_map(|report| report.shed.get(index))
                .sum()
        };
        let count = sum(now).saturating_sub(sum(before));
        if count > 0 {
            let message = format!("{bound} was exceeded {count} times in {seconds:.0} s; the excess was refused.");
            found.push(alert(&format!("shed {bound}"), Severity::Error, message));
        }
    }
    let sum = |snapshot: &Snapshot, family, member| -> u64 {
        let reports = snapshot.reports.iter();
        reports.map(|report| report.count(family, member)).sum()
    };
    let of = |family, member| sum(now, family, member).saturating_sub(sum(before, family, member));
    if of("accept_pauses", Some("descriptors")) > 0 {
        let message = "Accepting pauses for want of descriptors or memory; new connections wait in the backlog.";
        found.push(alert("accept", Severity::Error, message.to_owned()));
    }
    for (listener, key, missing, unexpected) in [
        ("listen", "proxy_protocol", "listen_missing", "listen_unexpected"),
        (
            "ingress",
            "ingress_proxy_protocol",
            "ingress_missing",
            "ingress_unexpected",
        ),
    ] {
        if of("proxy_headers_bad", Some(missing)) > 0 {
            let message = format!(
                "What connects to {listener} begins without a PROXY protocol header, which {key} = true waits for: \
                 let the load balancer send it (send-proxy-v2), or take {key} away. These connections are closed."
            );
            found.push(alert(&format!("{key} missing"), Severity::Error, message));
        }
        if of("proxy_headers_bad", Some(unexpected)) > 0 {
            let message = format!(
                "What connects to {listener} begins with a PROXY protocol header, and none is expected: set {key} = true \
                 where only the load balancer can connect, or take send-proxy away there. These connections get 400."
            );
            found.push(alert(&format!("{key} unexpected"), Severity::Error, message));
        }
    }
    let unconnected = of("backend_failures", Some("no_connection"));
    if unconnected > 0 {
        let message = format!(
            "{unconnected} requests found no free connection to the backend in their time in {seconds:.0} s: it is slow, or \
             has more workers than backend_connections_max lets us use."
        );
        found.push(alert("backend_no_connection", Severity::Error, message));
    }
}

fn draining(reports: &[Report], found: &mut Vec<Alert>) {
    if reports.iter().any(|report| report.draining) {
        let clients: f64 = reports.iter().map(|report| report.gauges.clients).sum();
        let message = format!("Draining: the server ends, {clients} clients are still to leave.");
        found.push(alert("draining", Severity::Warning, message));
    }
}

fn alert(kind: &str, severity: Severity, message: String) -> Alert {
    Alert {
        kind: kind.to_owned(),
        severity,
        stage: 0,
        message,
    }
}

/// `shard 3`, `shards 0, 2` or `all shards`: those for which it is so; `None`: none.
fn shards(reports: &[Report], is_so: impl Fn(&Report) -> bool) -> Option<String> {
    let so: Vec<String> = reports
        .iter()
        .filter(|report| is_so(report))
        .map(|report| report.shard.to_string())
        .collect();
    match so.len() {
        0 => None,
        1 => Some(format!("shard {}", so[0])),
        count if count == reports.len() => Some("all shards".to_owned()),
        count if count > SHARDS_NAMED => Some(format!(
            "shards {} and {} more",
            so[..SHARDS_NAMED].join(", "),
            count - SHARDS_NAMED
        )),
        _ => Some(format!("shards {}", so.join(", "))),
    }
}

/// Of a bound: worth a word.
const NEAR: f64 = 0.9;
const PASS_LONG: f64 = 0.1;
const POSTS_MANY: f64 = 100.0;
const SHARDS_NAMED: usize = 8;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    pub(super) fn moment(change: impl Fn(&mut Report)) -> Snapshot {
        let reports = (0..3).map(|shard| {
            let mut report = Report {
                shard,
                counters: crate::observe::counters::Counters::default().read(),
                shed: vec![0; SHED.len()],
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
            process: super::super::process::Process {
                open_files_max: Some(1000),
                shards_open_files: vec![Some(10), Some(899), Some(10)],
                ..Default::default()
            },
        }
    }

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
        files.process.shards_open_files = vec![Some(900), Some(900), None];
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
            "clients_max was exceeded 6 times in 1 s; the excess was refused."
        );
        assert!(alerts(None, &now).iter().all(|alert| !alert.kind.starts_with("shed")));
    }
}

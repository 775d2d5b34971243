//! Says what has been refused since the moment before, because of a bound or of what it is.

use super::alert::{Alert, Severity, alert, names};
use super::between::{Between, Counted};
use super::clients;
use crate::observe::counters::SHED;
use crate::observe::report::Report;

/// What has been refused.
pub(super) fn refused(between: &Between<'_>, found: &mut Vec<Alert>) {
    let seconds = between.seconds();
    let bounds = SHED.iter().enumerate();
    for (index, (bound, _)) in bounds.filter(|(_, (bound, _))| !clients::is_clients(bound)) {
        let value = |report: &Report| report.shed.get(index).copied().unwrap_or(0);
        if let Some(Counted { count, shards }) = between.counted(value) {
            let message =
                format!("{bound} was exceeded {count} times in {seconds:.0} s on {shards}; the excess was refused.");
            found.push(alert(&format!("shed {bound}"), Severity::Error, message));
        }
    }
    let of = |family, member| between.counted(move |report| report.count(family, &[member]));
    if let Some(Counted { shards, .. }) = of("accept_pauses", "descriptors") {
        let message = format!(
            "Accepting pauses for want of descriptors or memory on {shards}; new connections wait in the backlog."
        );
        found.push(alert("accept", Severity::Error, message));
    }
    if let Some(Counted { count, shards }) = of("upgrades_refused", "lost") {
        let message = format!(
            "{count} connections were closed without an answer in {seconds:.0} s for want of descriptors on {shards}, which is their \
             clients' home. Raise LimitNOFILE."
        );
        found.push(alert("connections_lost", Severity::Error, message));
    }
    for (listener, key, missing, unexpected) in [
        ("listen", "proxy_protocol", "listen_missing", "listen_unexpected"),
        (
            "listen_tls",
            "proxy_protocol",
            "listen_tls_missing",
            "listen_tls_unexpected",
        ),
        (
            "ingress",
            "ingress_proxy_protocol",
            "ingress_missing",
            "ingress_unexpected",
        ),
    ] {
        if of("proxy_headers_bad", missing).is_some() {
            let message = format!(
                "What connects to {listener} begins without a PROXY protocol header, which {key} = true waits for: \
                 let the load balancer send it (send-proxy-v2), or take {key} away. These connections are closed."
            );
            found.push(alert(&format!("{listener} {key} missing"), Severity::Error, message));
        }
        if of("proxy_headers_bad", unexpected).is_some() {
            let message = format!(
                "What connects to {listener} begins with a PROXY protocol header, and none is expected: set {key} = true \
                 where only the load balancer can connect, or take send-proxy away there. These connections are refused."
            );
            found.push(alert(&format!("{listener} {key} unexpected"), Severity::Error, message));
        }
    }
    let is_up = between.now.reports.iter().all(|report| report.gauges.backend_up > 0.0);
    if is_up && let Some(Counted { count, shards }) = of("backend_failures", "no_connection") {
        let message = format!(
            "{count} requests found no free connection to {} in their time in {seconds:.0} s on {shards}: it is slow, or \
             has more workers than backend_connections_max lets us use.",
            names(&between.now.reports)
        );
        found.push(alert("backend_no_connection", Severity::Error, message));
    }
}

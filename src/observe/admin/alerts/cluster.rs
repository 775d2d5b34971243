//! Says when the other nodes of the cluster can't be reached.

use std::time::{Duration, Instant};

use super::alert::{Alert, Severity, alert};
use crate::observe::cluster::ClusterSeen;

/// What keeps this node from the others.
pub(super) fn cluster(seen: Option<&ClusterSeen>, now: Instant, found: &mut Vec<Alert>) {
    let Some(seen) = seen else { return };
    if !seen.is_connected() {
        // It has just begun.
        if seen.why.is_empty() && now.saturating_duration_since(seen.since) < PATIENCE {
            return;
        }
        let why = if seen.why.is_empty() { "" } else { ": " };
        let message = format!(
            "NATS is away{why}{}. Clients of other nodes are not found: pushes to them get 503 here. Clients of this node are served, but other \
             nodes do not find them.",
            seen.why
        );
        found.push(alert("cluster_away", Severity::Error, message));
    } else if !seen.has_room {
        let message = format!(
            "NATS ({}) is slow: {} KiB wait for it. New questions to other nodes get 503 until it has taken them.",
            seen.server,
            seen.waiting_len >> 10
        );
        found.push(alert("cluster_slow", Severity::Warning, message));
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_when_nats_is_away_or_slow_and_why() {
        let start = Instant::now();
        let told = |seen: &ClusterSeen, now| {
            let mut found = Vec::new();
            cluster(Some(seen), now, &mut found);
            found
                .first()
                .map(|alert| (alert.kind.clone(), alert.severity, alert.message.clone()))
        };
        let mut seen = ClusterSeen::new("ws2api", start);
        assert_eq!(told(&seen, start), None, "it has just begun");
        let late = told(&seen, start + PATIENCE).expect("an alert");
        assert!(
            late.0 == "cluster_away" && late.2.starts_with("NATS is away. "),
            "{late:?}"
        );
        seen.handle_lost("connection refused".to_owned(), start);
        let refused = told(&seen, start).expect("an alert");
        assert!(refused.1 == Severity::Error && refused.2.starts_with("NATS is away: connection refused. "));
        seen.handle_connected("nats://n:4222".to_owned(), start);
        assert_eq!(told(&seen, start), None);
        (seen.has_room, seen.waiting_len) = (false, 3 << 20);
        let slow = told(&seen, start).expect("an alert");
        assert!(slow.0 == "cluster_slow" && slow.2.contains("3072 KiB"), "{slow:?}");
        let mut found = Vec::new();
        cluster(None, start, &mut found);
        assert!(found.is_empty());
    }
}

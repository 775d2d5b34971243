//! Decides whose PROXY protocol header is believed, and says once in a while whose is not.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Env;
use crate::config::Network;

/// Where a connection came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listener {
    /// `listen`, where clients connect.
    Listen,
    /// `listen_tls`, where they do with TLS.
    ListenTls,
    /// `ingress`, where the backend does.
    Ingress,
}

/// Whether the header that `peer` has sent at `listener` counts. One that does not is counted, and told once in five minutes.
pub fn is_believed(env: &Env, listener: Listener, peer: SocketAddr) -> bool {
    let from = &env.node.proxy_protocol_from;
    if from.is_empty() || Network::any_contains(from, peer.ip()) {
        return true;
    }
    let (name, count) = match listener {
        Listener::Listen => ("listen", &env.counters.proxy_untrusted),
        Listener::ListenTls => ("listen_tls", &env.counters.tls_proxy_untrusted),
        Listener::Ingress => ("ingress", &env.counters.ingress_proxy_untrusted),
    };
    count.add();
    if listener != Listener::Ingress {
        let reason = "its PROXY protocol header is not believed (proxy_protocol_from)";
        env.note_refused(None, peer, None, reason);
    }
    if is_to_be_told(env, listener) {
        tracing::error!(
            "{peer} sends a PROXY protocol header to {name}, and is not in proxy_protocol_from: its connection is closed. \
             Add the address if it is a load balancer's; else keep it away from this port. More are counted and not told \
             for five minutes"
        );
    }
    false
}

/// True once in five minutes, on whichever shard.
fn is_to_be_told(env: &Env, listener: Listener) -> bool {
    let now_ms = u64::try_from(env.uptime().as_millis()).unwrap_or(u64::MAX).max(1);
    let told_at = &TOLD_AT_MS[listener as usize];
    let before = told_at.load(Ordering::Relaxed);
    let is_due = before == 0 || now_ms.saturating_sub(before) >= TOLD_EVERY_MS;
    is_due
        && told_at
            .compare_exchange(before, now_ms, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
}

/// When it was told last, of each listener; shared by the shards as the log is.
static TOLD_AT_MS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
const TOLD_EVERY_MS: u64 = 5 * 60 * 1000;

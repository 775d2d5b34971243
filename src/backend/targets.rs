//! Knows where the backends are: it looks up the host names of their URLs beside the shards, never on one.

use std::net::{SocketAddr, ToSocketAddrs};

use super::connect::Target;
use crate::config::BackendUrl;
use protocol::http::RequestTemplate;

/// Looks up a backend's host name. Empty when it has no address now: the backend then counts as down.
#[must_use]
pub fn look_up(url: &BackendUrl) -> Vec<SocketAddr> {
    match url {
        BackendUrl::Tcp { host, port, .. } => (host.as_str(), *port)
            .to_socket_addrs()
            .map(Iterator::collect)
            .unwrap_or_default(),
        BackendUrl::Unix { .. } => Vec::new(),
    }
}

/// The backend as a pool knows it.
#[must_use]
pub fn target(url: &BackendUrl, addresses: &[SocketAddr]) -> (Target, RequestTemplate) {
    let template = RequestTemplate::new(&url.authority(), url.prefix());
    match url {
        BackendUrl::Tcp { .. } => (Target::Tcp(addresses.to_vec()), template),
        BackendUrl::Unix { path, .. } => (Target::Unix(path.clone()), template),
    }
}

/// True when the host is a name, which may get other addresses while we run.
#[must_use]
pub fn is_name(url: &BackendUrl) -> bool {
    matches!(url, BackendUrl::Tcp { host, .. } if host.parse::<std::net::IpAddr>().is_err())
}

//! Knows where the backends are: it looks up the host names of their URLs beside the shards, never on one.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use rustls::pki_types::ServerName;

use super::connect::Target;
use crate::config::BackendUrl;
use protocol::http::RequestTemplate;

/// A backend as a pool knows it.
pub struct Backend {
    /// Its URL, for whoever reads of it.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// Whose certificate it has to show; `None`: it speaks no TLS.
    pub server_name: Option<ServerName<'static>>,
    /// The constant parts of its requests.
    pub template: RequestTemplate,
}

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

/// The backend of that URL, whose name has these addresses. Each request names this node.
#[must_use]
pub fn backend(url: &BackendUrl, addresses: &[SocketAddr], node_name: &str) -> Backend {
    Backend {
        name: url.to_string(),
        target: match url {
            BackendUrl::Tcp { .. } => Target::Tcp(addresses.to_vec()),
            BackendUrl::Unix { path, .. } => Target::Unix(path.clone()),
        },
        server_name: server_name(url),
        template: RequestTemplate::new(&url.authority(), url.prefix(), &[("X-Node", node_name)]),
    }
}

/// True when the host is a name, which may get other addresses while we run.
#[must_use]
pub fn is_name(url: &BackendUrl) -> bool {
    matches!(url, BackendUrl::Tcp { host, .. } if host.parse::<IpAddr>().is_err())
}

/// The name that the backend's certificate has to be for, which is also what SNI says; `None` where there is no TLS, or the host
/// is none that a certificate could name.
#[must_use]
pub fn server_name(url: &BackendUrl) -> Option<ServerName<'static>> {
    match url {
        BackendUrl::Tcp { is_tls: true, host, .. } => ServerName::try_from(host.clone()).ok(),
        _ => None,
    }
}

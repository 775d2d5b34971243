//! What a connection to NATS is made with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::config::NatsUrl;

/// What a [`Link`](super::Link) is made with.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Servers, one at least. One at a time is connected to.
    pub urls: Vec<NatsUrl>,
    /// What operators of NATS see of this node.
    pub name: String,
    /// Read anew for each connection: what stands in it expires.
    pub credentials_file: Option<PathBuf>,
    /// By what servers over TLS are verified ([`trust`](crate::cluster::credentials::trust)).
    pub tls: Option<Arc<ClientConfig>>,
    /// Longer payloads than this are passed over when they arrive.
    pub payload_len_max: usize,
    /// Bytes that NATS has not taken yet; above it nothing is published.
    pub waiting_len_max: usize,
    /// From looking up the name to being let in.
    pub connect_timeout: Duration,
    /// Between two questions whether the server is there, and as long it may take to answer one.
    pub ping_every: Duration,
}

impl LinkSettings {
    /// Those that fit most, with these servers.
    #[must_use]
    pub fn new(urls: Vec<NatsUrl>, name: String) -> Self {
        Self {
            urls,
            name,
            credentials_file: None,
            tls: None,
            payload_len_max: 1 << 20,
            waiting_len_max: 8 << 20,
            connect_timeout: Duration::from_secs(5),
            ping_every: Duration::from_secs(10),
        }
    }
}

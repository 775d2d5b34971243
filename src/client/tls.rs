//! Holds what a shard needs for the TLS handshakes of `listen_tls`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;

use super::tickets::{TicketKey, Ticketer, Tickets, Trust};

/// What TLS handshakes are begun with, the same on all shards.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Without tickets: these are each shard's own.
    pub config: Arc<ServerConfig>,
    /// By what clients are verified.
    pub trust: Trust,
}

/// A shard's TLS: the process's certificates, and tickets of its own.
#[derive(Debug, Default)]
pub struct ServerTls {
    tickets: Arc<Tickets>,
    config: RefCell<Option<Rc<ServerConfig>>>,
}

impl ServerTls {
    /// From now on handshakes are begun with this; `None`: there are none.
    pub fn set(&self, terms: Option<&Terms>) {
        let own = terms.map(|Terms { config, trust }| {
            let mut own = ServerConfig::clone(config);
            own.ticketer = Arc::new(Ticketer {
                tickets: self.tickets.clone(),
                trust: *trust,
            });
            Rc::new(own)
        });
        self.config.replace(own);
    }

    /// From now on tickets are sealed with `key`; see [`Tickets::turn`].
    pub fn turn(&self, key: &TicketKey) {
        self.tickets.turn(key);
    }

    /// What a handshake that begins now is begun with.
    pub(super) fn config(&self) -> Option<Rc<ServerConfig>> {
        self.config.borrow().clone()
    }
}

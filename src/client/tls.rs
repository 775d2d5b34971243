//! Holds what a shard needs for the TLS handshakes of `listen_tls`.

use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;

use super::tickets::{TicketKey, Tickets};

/// A shard's TLS: the process's certificates, and tickets of its own.
#[derive(Debug, Default)]
pub struct ServerTls {
    tickets: Arc<Tickets>,
    config: std::cell::RefCell<Option<Rc<ServerConfig>>>,
}

impl ServerTls {
    /// From now on handshakes are begun with `config`; `None`: there are none.
    pub fn set(&self, config: Option<&ServerConfig>) {
        let own = config.map(|config| {
            let mut own = config.clone();
            own.ticketer = self.tickets.clone();
            Rc::new(own)
        });
        self.config.replace(own);
    }

    /// From now on tickets are sealed with `key`; see [`Tickets::turn`].
    pub fn turn(&self, key: &TicketKey, is_all: bool) {
        self.tickets.turn(key, is_all);
    }

    /// What a handshake that begins now is begun with.
    pub(super) fn config(&self) -> Option<Rc<ServerConfig>> {
        self.config.borrow().clone()
    }
}

//! Keeps the last requests of a shard that did not become clients, so that one that does not get in can be found.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::SystemTime;

use protocol::ocpp::ClientId;

/// A request that did not become a client.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Whose, as far as it could be told.
    pub client: Option<ClientId>,
    /// The client's, by the PROXY protocol where that is believed.
    pub address: SocketAddr,
    /// What was answered; `None`: the connection was closed without a word.
    pub status: Option<u16>,
    /// Why.
    pub reason: &'static str,
    /// When.
    pub at: SystemTime,
}

/// The last ones.
#[derive(Debug, Default)]
pub struct Refusals(RefCell<VecDeque<Refused>>);

impl Refusals {
    /// One more, now.
    pub fn record(&self, client: Option<&ClientId>, address: SocketAddr, status: Option<u16>, reason: &'static str) {
        let mut kept = self.0.borrow_mut();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Refused {
            client: client.cloned(),
            address,
            status,
            reason,
            at: SystemTime::now(),
        });
    }

    /// A copy, the oldest first.
    pub fn list(&self) -> Vec<Refused> {
        self.0.borrow().iter().cloned().collect()
    }
}

const KEPT: usize = 50;

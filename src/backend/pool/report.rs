//! Says how the pool's backends are, for whoever watches.

use super::Pool;
use crate::backend::exchange::Exchange;
use crate::observe::backends::{AddressReport, BackendReport, Places};

impl<E: Exchange> Pool<E> {
    /// Requests that wait for a connection.
    pub fn waiting_count(&self) -> usize {
        self.balance.borrow().waiting_count()
    }

    /// Connections open or being opened, and how many of them are idle.
    pub fn connections_count(&self) -> (usize, usize) {
        self.balance.borrow().connections_count()
    }

    /// How each backend is, and what became of its requests.
    pub fn report(&self) -> Vec<BackendReport> {
        let (balance, upstreams, now) = (self.balance.borrow(), self.upstreams.borrow(), self.reactor.now());
        let addresses = |backend| {
            let own = upstreams.iter().enumerate();
            let own = own.filter(move |(_, upstream)| upstream.backend == backend && !upstream.is_gone);
            own.map(|(name, upstream)| AddressReport {
                address: upstream.place.to_string(),
                health: balance.health(now, name),
                places: {
                    let (count, in_use) = balance.places(name).unwrap_or_default();
                    let lent = self.lending.lent(upstream.places);
                    Places { count, in_use, lent }
                },
            })
        };
        let backends = self.backends.iter().enumerate();
        let reports = backends.map(|(index, backend)| BackendReport {
            name: backend.name.clone(),
            addresses: addresses(index).collect(),
            results: backend.tally.read(),
        });
        reports.collect()
    }
}

//! Gives requests up, and closes what is not needed any more: a client has gone, or the shard is at its end.

use super::Pool;
use crate::backend::exchange::Exchange;
use protocol::http::Failure;

impl<E: Exchange> Pool<E> {
    /// Gives up those that wait and for which `is_given_up` says so.
    pub fn withdraw(&self, is_given_up: impl Fn(&E) -> bool) {
        let withdrawn = self.balance.borrow_mut().withdraw(is_given_up);
        for exchange in withdrawn {
            exchange.finish(Err(Failure::Shutdown));
        }
    }

    /// Gives up every request for which `is_given_up` says so, waiting or at the backend.
    pub fn give_up(&self, is_given_up: impl Fn(&E) -> bool) {
        let mut given_up = self.balance.borrow_mut().withdraw(&is_given_up);
        let links = self.links.borrow();
        given_up.extend(links.iter().flatten().flat_map(|link| link.give_up(&is_given_up)));
        drop(links);
        for exchange in given_up {
            exchange.finish(Err(Failure::Shutdown));
        }
    }

    /// Ends the connections that have no request: the shard is at its end, and nothing is to be asked any more.
    pub fn close_idle(&self) {
        let links = self.links.borrow();
        for link in links.iter().flatten().filter(|link| link.is_idle()) {
            link.close();
        }
    }
}

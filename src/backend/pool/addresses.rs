//! Keeps the pool's addresses as names are looked up again, and hands on what other shards say of their places.

use std::net::SocketAddr;
use std::rc::Rc;

use super::{Pool, Upstream};
use crate::backend::connect::Place;
use crate::backend::exchange::Exchange;
use crate::backend::lending::{Letter, PlacesKey, Word};
use protocol::capacity::Grant;

impl<E: Exchange> Pool<E> {
    /// Replaces the addresses of backend `index` (its name was looked up again): connections to one that is gone end
    /// when they have nothing to do.
    pub fn set_addresses(self: &Rc<Self>, index: usize, addresses: &[SocketAddr]) {
        let upstreams = self.upstreams.borrow();
        let here = |upstream: &&Upstream| upstream.backend == index && !upstream.is_gone;
        let known: Vec<Place> = upstreams
            .iter()
            .filter(here)
            .map(|upstream| upstream.place.clone())
            .collect();
        let template = upstreams.iter().find(here).map(|upstream| upstream.template.clone());
        drop(upstreams);
        let (Some(template), false) = (template, addresses.is_empty()) else {
            return;
        };
        let places: Vec<Place> = addresses.iter().map(|address| Place::Tcp(*address)).collect();
        for place in places.iter().filter(|place| !known.contains(place)) {
            let mut balance = self.balance.borrow_mut();
            let name = balance.handle_upstream();
            balance.limit(name, self.lending.borrower());
            drop(balance);
            let upstream = Upstream {
                backend: index,
                places: self.lending.key(index, place),
                place: place.clone(),
                template: template.clone(),
                is_gone: false,
            };
            let mut upstreams = self.upstreams.borrow_mut();
            match upstreams.get_mut(name) {
                Some(free) => *free = upstream,
                None => upstreams.push(upstream),
            }
        }
        for place in known.iter().filter(|place| !places.contains(place)) {
            let is_it =
                |upstream: &Upstream| upstream.backend == index && !upstream.is_gone && upstream.place == *place;
            let name = self.upstreams.borrow().iter().position(is_it).expect("it is known");
            self.upstreams.borrow_mut()[name].is_gone = true;
            self.handle(|balance, now, out| balance.handle_upstream_gone(now, name, out));
        }
        let upstreams = self.upstreams.borrow();
        self.lending.retain(|key| {
            let mut there = upstreams.iter().filter(|upstream| !upstream.is_gone);
            there.any(|upstream| upstream.places == key)
        });
    }

    /// Another shard has something to say about a backend's places.
    pub fn handle_letter(self: &Rc<Self>, letter: Letter) {
        let Letter { from, places, word } = letter;
        let grant = match word {
            Word::Grant(grant) => Some(grant),
            Word::Claim(claim) => self
                .lending
                .handle_claim(self.reactor.now(), places, from.into(), claim),
        };
        match grant {
            Some(grant) => self.handle_grant(places, grant),
            None => self.watcher.watch(self.lending.next_deadline()),
        }
    }

    pub(super) fn handle_grant(self: &Rc<Self>, places: PlacesKey, grant: Grant) {
        if let Some(name) = self.upstream_with(places) {
            self.handle(|balance, now, out| balance.handle_grant(now, name, grant, out));
        }
    }

    /// The name of the backend with these places, if this shard knows it yet and still.
    fn upstream_with(&self, places: PlacesKey) -> Option<usize> {
        let upstreams = self.upstreams.borrow();
        let is_it = |upstream: &Upstream| upstream.places == places && !upstream.is_gone;
        upstreams.iter().position(is_it)
    }
}

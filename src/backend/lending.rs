//! Carries claims and grants between shards: each backend's places are lent by one of them, its keeper.
//!
//! What is lost on the way because a ring is full is said again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::time::Instant;

use super::connect::Place;
use crate::env::home::IdHasher;
use crate::observe::backends::Lent;
use protocol::capacity::{Borrower, Claim, Concurrency, Grant, Keeper, Limit, Usage};

/// What one shard says to another about the places of a backend.
#[derive(Debug)]
pub struct Letter {
    /// The shard that says it.
    pub from: u16,
    /// Which backend's.
    pub places: PlacesKey,
    /// What it says.
    pub word: Word,
}

/// What is said about places.
#[derive(Debug)]
pub enum Word {
    /// To their keeper.
    Claim(Claim),
    /// By their keeper.
    Grant(Grant),
}

/// One backend address, by the same name on every shard. It names the keeper, too.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PlacesKey(u64);

/// Where a shard stands among those that share backends, and how many requests these may get.
pub struct Neighbours {
    /// The shard: 0 to `count - 1`.
    pub index: usize,
    /// Shards of this node.
    pub count: usize,
    /// The same on each of them.
    pub hasher: IdHasher,
    /// `backend_concurrency`
    pub concurrency: Concurrency,
    /// All shards together can have no more connections.
    pub connections_max: usize,
    /// Sends a letter to another shard, if there is room.
    pub send: Box<dyn Fn(usize, Letter)>,
}

/// A shard's part in lending places.
pub(super) struct Lending {
    neighbours: Neighbours,
    /// Of the backends whose keeper this shard is.
    keepers: RefCell<BTreeMap<PlacesKey, Keeper>>,
    next: Cell<Option<Instant>>,
}

impl Lending {
    pub(super) fn new(neighbours: Neighbours) -> Self {
        Self {
            neighbours,
            keepers: RefCell::default(),
            next: Cell::default(),
        }
    }

    /// The name of the places at an address of the configuration's backend `backend`.
    pub(super) fn key(&self, backend: usize, place: &Place) -> PlacesKey {
        PlacesKey(self.neighbours.hasher.hash_one(("places", backend, place.to_string())))
    }

    /// This shard's part of an address's places, before anything was said.
    pub(super) fn borrower(&self) -> Borrower {
        Borrower::new(self.limit().get(), self.neighbours.index, self.neighbours.count)
    }

    /// Those that are known no longer need no keeper.
    pub(super) fn retain(&self, is_known: impl Fn(PlacesKey) -> bool) {
        self.keepers.borrow_mut().retain(|key, _| is_known(*key));
    }

    /// What this shard has to say. A grant for itself comes back.
    pub(super) fn claim(&self, now: Instant, key: PlacesKey, claim: Claim) -> Option<Grant> {
        let keeper = self.keeper_of(key);
        if keeper == self.neighbours.index {
            return self.handle_claim(now, key, self.neighbours.index, claim);
        }
        self.send(keeper, key, Word::Claim(claim));
        None
    }

    /// What another shard says, or this one. A grant for this one comes back.
    pub(super) fn handle_claim(&self, now: Instant, key: PlacesKey, from: usize, claim: Claim) -> Option<Grant> {
        if from >= self.neighbours.count {
            return None;
        }
        let mut keepers = self.keepers.borrow_mut();
        let new = || Keeper::new(now, self.limit(), self.neighbours.count);
        let keeper = keepers.entry(key).or_insert_with(new);
        keeper.handle_claim(now, from, claim);
        let own = self.poll_keeper(now, key, keeper);
        drop(keepers);
        self.watch();
        own
    }

    /// Lets keepers speak whose time it is. Grants for this shard come back.
    pub(super) fn poll(&self, now: Instant) -> Vec<(PlacesKey, Grant)> {
        if self.next.get().is_none_or(|next| now < next) {
            return Vec::new();
        }
        let mut keepers = self.keepers.borrow_mut();
        let own = keepers.iter_mut().filter_map(|(key, keeper)| {
            let grant = self.poll_keeper(now, *key, keeper)?;
            Some((*key, grant))
        });
        let own = own.collect();
        drop(keepers);
        self.watch();
        own
    }

    /// When [`poll`](Self::poll) is to be called.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next.get()
    }

    /// How an address's places are lent, if this shard is their keeper.
    pub(super) fn lent(&self, key: PlacesKey) -> Option<Lent> {
        if self.keeper_of(key) != self.neighbours.index {
            return None;
        }
        let keepers = self.keepers.borrow();
        let lent = keepers.get(&key).map(|keeper| Lent {
            usage: keeper.usage(),
            floor: keeper.limit().floor(),
        });
        // Nobody has ever claimed any.
        let limit = self.limit().get();
        let usage = Usage {
            limit,
            lent: limit,
            ..Usage::default()
        };
        Some(lent.unwrap_or(Lent { usage, floor: None }))
    }

    fn keeper_of(&self, key: PlacesKey) -> usize {
        (key.0 % self.neighbours.count as u64) as usize
    }

    fn limit(&self) -> Limit {
        let Neighbours {
            count,
            concurrency,
            connections_max,
            ..
        } = self.neighbours;
        Limit::new(concurrency, count, connections_max)
    }

    fn poll_keeper(&self, now: Instant, key: PlacesKey, keeper: &mut Keeper) -> Option<Grant> {
        let mut own = None;
        let mut grants = Vec::new();
        keeper.poll(now, &mut grants);
        for (to, grant) in grants {
            if to == self.neighbours.index {
                own = Some(grant);
            } else {
                self.send(to, key, Word::Grant(grant));
            }
        }
        own
    }

    fn watch(&self) {
        let keepers = self.keepers.borrow();
        self.next.set(keepers.values().filter_map(Keeper::next_deadline).min());
    }

    fn send(&self, to: usize, places: PlacesKey, word: Word) {
        let from = u16::try_from(self.neighbours.index).expect("there are at most 256 shards");
        (self.neighbours.send)(to, Letter { from, places, word });
    }
}

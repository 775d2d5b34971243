//! What of one kind is not delivered: what waits for another try, and what waits for one of the same client before it.
//!
//! Invariants: a client that has something in order has one of it under way, at the backend or waiting for another try, and
//! the others behind it. No more than `waiting_max` wait, and no more bytes than `waiting_len_max` unless one alone is longer.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use super::post::{OutboxLimits, Post};
use protocol::ocpp::ClientId;

/// See the module.
#[derive(Default)]
pub(super) struct Share {
    /// By when they are tried again, and their numbers.
    due: BTreeMap<(Instant, u64), Box<Post>>,
    /// The same by their clients.
    due_of: BTreeMap<(ClientId, u64), Instant>,
    /// Who has something in order under way, and what is behind it.
    behind: HashMap<ClientId, VecDeque<Box<Post>>>,
    behind_count: usize,
    /// Bytes of those that wait.
    len: usize,
    /// At the backend, or on the way there.
    pub(super) in_flight: usize,
}

impl Share {
    /// What is not delivered.
    pub(super) fn count(&self) -> usize {
        self.waiting_count() + self.in_flight
    }

    /// All that wait.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Post> {
        let behind = self.behind.values().flatten();
        self.due.values().chain(behind).map(|post| &**post)
    }

    /// When the next one is to be tried.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((due, _), _)| *due)
    }

    /// One that comes now. It is given back if it may be tried at once: none of its client is before it.
    pub(super) fn enter(&mut self, post: Box<Post>) -> Option<Box<Post>> {
        if !post.is_in_order() {
            return Some(post);
        }
        match self.behind.entry(post.client().clone()) {
            Entry::Vacant(none) => {
                none.insert(VecDeque::new());
                Some(post)
            }
            Entry::Occupied(mut before) => {
                self.len += post.len();
                self.behind_count += 1;
                before.get_mut().push_back(post);
                None
            }
        }
    }

    /// One that is tried at `due`.
    pub(super) fn wait(&mut self, due: Instant, post: Box<Post>) {
        self.len += post.len();
        self.due_of.insert((post.client().clone(), post.number), due);
        self.due.insert((due, post.number), post);
    }

    /// One that another process has handed over, to be tried at `due` unless one of its client is before it.
    pub(super) fn restore(&mut self, due: Instant, post: Box<Post>) {
        if let Some(post) = self.enter(post) {
            self.wait(due, post);
        }
    }

    /// The next that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Box<Post>> {
        let first = self.due.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let post = first.remove();
        self.forget_due(&post);
        Some(post)
    }

    fn forget_due(&mut self, post: &Post) {
        self.len -= post.len();
        self.due_of.remove(&(post.client().clone(), post.number));
    }

    /// Those of `client` that wait for another try, by when they are due, and their numbers.
    fn due_of(&self, client: &ClientId) -> Vec<(Instant, u64)> {
        let all = (client.clone(), 0)..=(client.clone(), u64::MAX);
        self.due_of
            .range(all)
            .map(|((_, number), due)| (*due, *number))
            .collect()
    }

    /// Whether `client` has something in order at the backend. Nothing behind that may go anywhere else meanwhile.
    pub(super) fn is_in_order_at_backend(&self, client: &ClientId) -> bool {
        self.behind.contains_key(client) && self.due_of(client).is_empty()
    }

    /// How many of `client`'s wait for another try, or behind one, and are the word of `sender`.
    pub(super) fn count_of(&self, client: &ClientId, is_own: impl Fn(&Post) -> bool) -> usize {
        let due = self.due_of(client);
        let due = due.iter().filter_map(|place| self.due.get(place));
        let behind = self.behind.get(client).into_iter().flatten();
        due.chain(behind).filter(|post| is_own(post)).count()
    }

    /// Takes all of `client`'s that wait, in their order, and when each is due: none of it is at the backend, or what is there is in
    /// no order.
    pub(super) fn take_of(&mut self, client: &ClientId) -> Vec<(Instant, Box<Post>)> {
        let mut taken = Vec::new();
        for place in self.due_of(client) {
            if let Some(post) = self.due.remove(&place) {
                self.forget_due(&post);
                taken.push((place.0, post));
            }
        }
        let Some((due, _)) = taken.last() else {
            // What it may have in order is at the backend, and the others stay behind that.
            return taken;
        };
        let due = *due;
        for post in self.behind.remove(client).into_iter().flatten() {
            self.len -= post.len();
            self.behind_count -= 1;
            taken.push((due, post));
        }
        taken
    }

    /// Has what comes of `client` wait, as if something of it were under way. False: something is.
    pub(super) fn hold(&mut self, client: &ClientId) -> bool {
        let is_free = !self.behind.contains_key(client);
        if is_free {
            self.behind.insert(client.clone(), VecDeque::new());
        }
        is_free
    }

    /// What was held waits no more, and is behind `first`. Gives back what is under way from now on.
    pub(super) fn release(&mut self, client: &ClientId, first: VecDeque<Box<Post>>) -> Option<Box<Post>> {
        let behind = self.behind.get_mut(client)?;
        for post in first.into_iter().rev() {
            self.len += post.len();
            self.behind_count += 1;
            behind.push_front(post);
        }
        self.next_of(client)
    }

    /// Takes what was held.
    pub(super) fn take_held(&mut self, client: &ClientId) -> VecDeque<Box<Post>> {
        let held = self.behind.remove(client).unwrap_or_default();
        self.behind_count -= held.len();
        self.len -= held.iter().map(|post| post.len()).sum::<usize>();
        held
    }

    /// Who has something that waits for another try.
    pub(super) fn clients(&self) -> Vec<ClientId> {
        let mut clients: Vec<_> = self.due_of.keys().map(|(client, _)| client.clone()).collect();
        clients.dedup();
        clients
    }

    /// One of `client` is over that was under way: what was behind it is next.
    pub(super) fn next_of(&mut self, client: &ClientId) -> Option<Box<Post>> {
        let behind = self.behind.get_mut(client)?;
        let Some(next) = behind.pop_front() else {
            self.behind.remove(client);
            return None;
        };
        self.behind_count -= 1;
        self.len -= next.len();
        Some(next)
    }

    /// One for which there is no room: of `client`, who brought the last one, or else the one that was to be tried next.
    pub(super) fn evict(&mut self, client: &ClientId, limits: &OutboxLimits) -> Option<Evicted> {
        let count = self.waiting_count();
        if count <= limits.waiting_max && (self.len <= limits.waiting_len_max || count == 1) {
            return None;
        }
        let own = self.behind.get_mut(client).and_then(VecDeque::pop_front);
        if let Some(post) = own {
            self.behind_count -= 1;
            self.len -= post.len();
            return Some(Evicted::Behind(post));
        }
        let (_, post) = self.due.pop_first()?;
        self.forget_due(&post);
        Some(Evicted::Due(post))
    }

    fn waiting_count(&self) -> usize {
        self.due.len() + self.behind_count
    }
}

/// What has no room.
pub(super) enum Evicted {
    /// It was behind another one.
    Behind(Box<Post>),
    /// It was the first of its client, or in no order.
    Due(Box<Post>),
}

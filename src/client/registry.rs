//! Finds a shard's clients by name, and lists them in a stable order.

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;
use slab::Slab;

use protocol::mapping::Identity;
use protocol::ocpp::ClientId;

/// ClientId → connection. At most one connection per ClientId.
pub struct Registry<C> {
    connections: Slab<Rc<C>>,
    slots: HashMap<ClientId, u32, RandomState>,
}

/// What a registry holds.
pub trait Registered {
    /// The identity that holds the name under which it is found.
    fn identity(&self) -> &Identity;
}

impl<C> Default for Registry<C> {
    fn default() -> Self {
        Self {
            connections: Slab::new(),
            slots: HashMap::default(),
        }
    }
}

impl<C: Registered> Registry<C> {
    /// How many clients are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// True when no client is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// The client's connection.
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "a slot that is known is taken")]
    pub fn get(&self, client: &ClientId) -> Option<&Rc<C>> {
        self.slots.get(client).map(|slot| &self.connections[*slot as usize])
    }

    /// Registers a connection; gives back the one whose place it takes.
    #[allow(clippy::indexing_slicing, reason = "a slot that is known is taken")]
    pub fn insert(&mut self, connection: Rc<C>) -> Option<Rc<C>> {
        let client = &connection.identity().client;
        if let Some(slot) = self.slots.get(client) {
            return Some(std::mem::replace(&mut self.connections[*slot as usize], connection));
        }
        let client = client.clone();
        let slot = u32::try_from(self.connections.insert(connection)).expect("fewer than 2^32 clients");
        self.slots.insert(client, slot);
        None
    }

    /// Removes `connection`, and only it: a late end of an old connection never touches the new one.
    #[allow(clippy::indexing_slicing, reason = "a slot that is known is taken")]
    pub fn remove(&mut self, connection: &C) {
        let identity = connection.identity();
        let Some(slot) = self.slots.get(&identity.client).copied() else {
            return;
        };
        if self.connections[slot as usize].identity().connection == identity.connection {
            self.connections.remove(slot as usize);
            self.slots.remove(&identity.client);
        }
    }

    /// Up to `limit` connections from `slot` on, and the slot to go on from; fewer where many slots are empty. A client that
    /// stays connected is listed exactly once while the pages are turned.
    #[must_use]
    pub fn page(&self, slot: usize, limit: usize) -> (Vec<Rc<C>>, Option<usize>) {
        self.walk(slot, limit, SLOTS_PER_PAGE, |_| true)
    }

    /// The same of those that are meant. Each is looked at.
    #[must_use]
    pub fn page_of(
        &self,
        slot: usize,
        limit: usize,
        is_meant: impl Fn(&ClientId) -> bool,
    ) -> (Vec<Rc<C>>, Option<usize>) {
        self.walk(slot, limit, SLOTS_PER_SEARCH, |connection| {
            is_meant(&connection.identity().client)
        })
    }

    fn walk(
        &self,
        slot: usize,
        limit: usize,
        slots_max: usize,
        is_meant: impl Fn(&C) -> bool,
    ) -> (Vec<Rc<C>>, Option<usize>) {
        let mut page = Vec::new();
        // The slab is walked from the slot on; `get` past its end is cheap.
        let end = self.slots_end();
        let until = end.min(slot.saturating_add(slots_max));
        for slot in slot..until {
            if page.len() == limit {
                return (page, Some(slot));
            }
            if let Some(connection) = self.connections.get(slot).filter(|connection| is_meant(connection)) {
                page.push(connection.clone());
            }
        }
        (page, (until < end).then_some(until))
    }

    /// Every connection, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<C>> {
        self.connections.iter().map(|(_, connection)| connection)
    }

    fn slots_end(&self) -> usize {
        self.connections.capacity()
    }
}

/// Slots that are looked at in one go: where most clients have left, most are empty.
const SLOTS_PER_PAGE: usize = 4096;
/// Connections that are looked at in one go for their names.
const SLOTS_PER_SEARCH: usize = 512;

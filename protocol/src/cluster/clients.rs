//! Lists the clients of this node, in slots that stay.

use std::collections::HashMap;
use std::time::Instant;

use slab::Slab;

use super::claim::Claim;
use crate::mapping::ConnectionId;
use crate::ocpp::ClientId;

/// A client that is connected here.
#[derive(Debug)]
pub(super) struct Here {
    pub(super) client: ClientId,
    pub(super) claim: Claim,
    /// Its home.
    pub(super) shard: u16,
    /// The connection to NATS over which its subscription was made.
    pub(super) subscribed_over: Option<u64>,
    /// When somebody with an older connection was last told of this one.
    pub(super) told: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Clients {
    slots: Slab<Here>,
    by_id: HashMap<ClientId, usize>,
}

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Slots that there are, the empty ones among them.
    pub(super) fn slots_end(&self) -> usize {
        self.slots.capacity()
    }

    pub(super) fn slot_of(&self, client: &ClientId) -> Option<usize> {
        self.by_id.get(client).copied()
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Here> {
        self.slots.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Here> {
        self.slots.get_mut(slot)
    }

    /// The client is here, with this claim. What was known of its subscription stays.
    pub(super) fn insert(&mut self, client: ClientId, claim: Claim, shard: u16) -> usize {
        if let Some(slot) = self.slot_of(&client)
            && let Some(here) = self.slots.get_mut(slot)
        {
            (here.claim, here.shard) = (claim, shard);
            return slot;
        }
        let slot = self.slots.insert(Here {
            client: client.clone(),
            claim,
            shard,
            subscribed_over: None,
            told: None,
        });
        self.by_id.insert(client, slot);
        slot
    }

    /// This connection of the client has gone; another one is none of it.
    pub(super) fn remove(&mut self, client: &ClientId, connection: &ConnectionId) -> Option<(usize, Here)> {
        let slot = self.slot_of(client)?;
        let here = self.slots.get(slot)?;
        if here.claim.connection.as_str() != connection.as_str() {
            return None;
        }
        self.by_id.remove(client);
        self.slots.try_remove(slot).map(|here| (slot, here))
    }
}

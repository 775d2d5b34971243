//! Remembers the Actions of Calls under way, for the lines of their answers. It is a cache: of a fixed size, and what it
//! has forgotten is missing in a line and nothing else.

use std::hash::BuildHasher;

use super::Direction;
use crate::ocpp::Action;

/// Actions by the connection, the direction and the MessageId of their Calls.
#[derive(Debug)]
pub struct Calls<S> {
    hasher: S,
    /// Sets of [`WAYS`] places each.
    places: Box<[Place]>,
    count: u64,
}

#[derive(Clone, Debug, Default)]
struct Place {
    hash: u64,
    /// When it was remembered, as a count.
    at: u64,
    action: Option<Action>,
}

impl<S: BuildHasher> Calls<S> {
    /// Takes at most `len_max` bytes. Nobody else should know the hasher's key.
    #[must_use]
    pub fn new(len_max: usize, hasher: S) -> Self {
        let sets = (len_max / (WAYS * size_of::<Place>())).max(1);
        Self {
            hasher,
            places: vec![Place::default(); sets * WAYS].into(),
            count: 0,
        }
    }

    /// A Call goes in `direction`, over the connection of that number.
    #[allow(
        clippy::indexing_slicing,
        reason = "a set has its places, whatever is looked for in it"
    )]
    pub fn remember(&mut self, connection: u64, direction: Direction, message_id: &str, action: &str) {
        let Ok(action) = Action::parse(action) else { return };
        let hash = self.hash(connection, direction, message_id);
        self.count += 1;
        let at = self.count;
        let set = self.set(hash);
        // Its own, if it comes again; else one that is free, or the oldest.
        let own = set
            .iter()
            .position(|place| place.action.is_some() && place.hash == hash);
        let oldest = || (0..WAYS).min_by_key(|index| set[*index].action.as_ref().map(|_| set[*index].at));
        let index = own.or_else(oldest).unwrap_or(0);
        set[index] = Place {
            hash,
            at,
            action: Some(action),
        };
    }

    /// The answer to a Call that went in `direction`: it is forgotten with this.
    pub fn take(&mut self, connection: u64, direction: Direction, message_id: &str) -> Option<Action> {
        let hash = self.hash(connection, direction, message_id);
        let own = self
            .set(hash)
            .iter_mut()
            .find(|place| place.action.is_some() && place.hash == hash)?;
        own.action.take()
    }

    fn hash(&self, connection: u64, direction: Direction, message_id: &str) -> u64 {
        self.hasher
            .hash_one((connection, direction == Direction::In, message_id))
    }

    #[allow(clippy::indexing_slicing, reason = "the hash chooses one of the sets that there are")]
    fn set(&mut self, hash: u64) -> &mut [Place] {
        let sets = self.places.len() / WAYS;
        let first = (hash % sets as u64) as usize * WAYS;
        &mut self.places[first..first + WAYS]
    }
}

const WAYS: usize = 4;

//! Holds the questions of other nodes that a shard of this one is answering.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::nodes::NodeId;

/// See the module. By the number under which the shard was asked.
#[derive(Debug)]
pub(super) struct Served {
    open: BTreeMap<u64, (NodeId, u64, Instant)>,
    count_max: usize,
}

impl Served {
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            open: BTreeMap::new(),
            count_max,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.open.len() < self.count_max
    }

    /// A shard is asked what that node has asked under that number.
    pub(super) fn insert(&mut self, own_number: u64, node: NodeId, number: u64, now: Instant) {
        self.open.insert(own_number, (node, number, now + SHARD_TIMEOUT));
    }

    /// It has answered. `None`: too late.
    pub(super) fn remove(&mut self, own_number: u64) -> Option<(NodeId, u64)> {
        let (node, number, _) = self.open.remove(&own_number)?;
        Some((node, number))
    }

    /// Forgets whom nobody waits for any more.
    pub(super) fn handle_deadline(&mut self, now: Instant) {
        while let Some(oldest) = self.open.first_entry()
            && oldest.get().2 <= now
        {
            oldest.remove();
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.first_key_value().map(|(_, (_, _, until))| *until)
    }
}

/// Longer than whoever has asked waits.
const SHARD_TIMEOUT: Duration = Duration::from_secs(30);
const _: () = assert!(SHARD_TIMEOUT.as_secs() > super::asked::ANSWER_TIMEOUT.as_secs());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_shard_answers_is_forgotten() {
        let now = Instant::now();
        let mut served = Served::new(2);
        let node = NodeId::new(1);
        served.insert(1, node, 10, now);
        served.insert(2, node, 11, now + Duration::from_secs(1));
        assert!(!served.has_room());
        assert_eq!(served.next_deadline(), Some(now + SHARD_TIMEOUT));
        served.handle_deadline(now + SHARD_TIMEOUT);
        assert_eq!((served.remove(1), served.remove(2)), (None, Some((node, 11))));
        assert!(served.has_room() && served.next_deadline().is_none());
    }
}

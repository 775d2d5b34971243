//! Keeps mail for shards whose rings are full, in order.

use std::collections::VecDeque;

use shards::mesh::{Full, NodeHandle};

use crate::shard::mail::Mail;

/// Mail that waits, by shard. What must arrive is bounded by what the shards have asked for.
#[derive(Debug)]
pub(super) struct Unsent(Vec<VecDeque<Mail>>);

impl Unsent {
    pub(super) fn new(shards_count: usize) -> Self {
        Self((0..shards_count).map(|_| VecDeque::new()).collect())
    }

    /// Sends it, now or once there is room. Behind what waits already.
    pub(super) fn send(&mut self, outside: &NodeHandle<Mail>, shard: usize, mail: Mail) {
        let Some(waiting) = self.0.get_mut(shard) else {
            return;
        };
        if !waiting.is_empty() {
            waiting.push_back(mail);
        } else if let Err(Full(mail)) = outside.try_send(shard, mail) {
            waiting.push_back(mail);
        }
    }

    /// Sends what has room.
    pub(super) fn send_what_fits(&mut self, outside: &NodeHandle<Mail>) {
        for (shard, waiting) in self.0.iter_mut().enumerate() {
            while let Some(mail) = waiting.pop_front() {
                if let Err(Full(mail)) = outside.try_send(shard, mail) {
                    waiting.push_front(mail);
                    break;
                }
            }
        }
    }

    /// How much waits for that shard.
    pub(super) fn len_of(&self, shard: usize) -> usize {
        self.0.get(shard).map_or(0, VecDeque::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(VecDeque::is_empty)
    }
}

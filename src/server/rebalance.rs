//! Sends clients away bit by bit, without ending, so that they come again and the balancer can send them to another node.
//!
//! A thread of its own hands each shard its part: so many clients per second over all shards, from each in proportion to what it has. A
//! shard chooses among those that were connected when it began; who has come back is left alone. A second one takes the place of
//! the first.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};

use shards::mesh::NodeHandle;

use crate::shard::control_plane::ControlPlane;
use crate::shard::mail::{Control, Mail, SendAway};

/// The one rebalance that is under way, if any. Clones are the same.
#[derive(Clone, Debug)]
pub struct Rebalance {
    outside: Arc<NodeHandle<Mail>>,
    control: Arc<ControlPlane>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Tells it from those before.
    number: u64,
    plan: Plan,
    left: usize,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// So many clients are sent away.
    pub close: usize,
    /// So many of them in a second.
    pub per_second: usize,
}

impl Rebalance {
    /// For these shards; nothing is under way.
    #[must_use]
    pub fn new(outside: Arc<NodeHandle<Mail>>, control: Arc<ControlPlane>) -> Self {
        Self {
            outside,
            control,
            state: Arc::default(),
        }
    }

    /// Begins, in the place of what is under way, of which it returns how many were left. `clients`: how many each shard has; it sends away no
    /// more than that.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn begin(&self, plan: Plan, clients: &[usize]) -> io::Result<usize> {
        let mut state = self.state();
        let stopped = std::mem::take(&mut state.left);
        state.number += 1;
        state.plan = plan;
        if plan.close == 0 {
            return Ok(stopped);
        }
        state.left = plan.close;
        let (this, number, shards) = (self.clone(), state.number, Shards::new(clients));
        drop(state);
        let spawned = std::thread::Builder::new()
            .name("rebalance".into())
            .spawn(move || this.run(number, shards));
        if let Err(error) = spawned {
            self.state().left = 0;
            return Err(error);
        }
        Ok(stopped)
    }

    /// The last plan, and how many are still to be sent away.
    #[must_use]
    pub fn progress(&self) -> (Plan, usize) {
        let state = self.state();
        (state.plan, state.left)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, number: u64, mut shards: Shards) {
        let (begun, began) = (Instant::now(), SystemTime::now());
        let (reply, replies) = mpsc::channel();
        let plan = self.state().plan;
        let mut done = 0;
        loop {
            for (shard, found) in replies.try_iter() {
                done += shards.answered(shard, found);
            }
            let mut state = self.state();
            if state.number != number {
                return;
            }
            state.left = plan.close - done;
            // The drain sends away whoever is left.
            if done == plan.close || shards.are_empty() || self.control.is_ending() {
                state.left = 0;
                return;
            }
            drop(state);
            let due = begun.elapsed().as_secs_f64() * plan.per_second as f64;
            let asked = done + shards.asked();
            let count = (due.ceil() as usize).min(plan.close).saturating_sub(asked);
            for (shard, count) in shards.share_out(count) {
                let mail = Mail::from(Control::SendAway(SendAway {
                    number,
                    count,
                    began,
                    reply: reply.clone(),
                }));
                if self.outside.try_send(shard, mail).is_err() {
                    // It has no time for this now.
                    shards.answered(shard, count);
                    shards.give_back(shard, count);
                }
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// What each shard has left, and what it was asked for and has not answered yet.
#[derive(Debug)]
struct Shards(Vec<Part>);

#[derive(Debug)]
struct Part {
    left: usize,
    asked: usize,
}

impl Shards {
    fn new(clients: &[usize]) -> Self {
        Self(clients.iter().map(|left| Part { left: *left, asked: 0 }).collect())
    }

    /// Whom to ask for how many: whoever has most left, of those that have answered.
    fn share_out(&mut self, count: usize) -> Vec<(usize, usize)> {
        let mut wanted = vec![0; self.0.len()];
        for _ in 0..count {
            let parts = self.0.iter_mut().enumerate();
            let free = parts.filter(|(_, part)| part.asked == 0 && part.left > 0);
            let Some((shard, part)) = free.max_by_key(|(_, part)| part.left) else {
                break;
            };
            part.left -= 1;
            wanted[shard] += 1;
        }
        let asked: Vec<_> = wanted.into_iter().enumerate().filter(|(_, count)| *count > 0).collect();
        for (shard, count) in &asked {
            self.0[*shard].asked = *count;
        }
        asked
    }

    /// A shard has found so many. Fewer than it was asked for: it has no more.
    fn answered(&mut self, shard: usize, found: usize) -> usize {
        let part = &mut self.0[shard];
        if found < part.asked {
            part.left = 0;
        }
        part.asked = 0;
        found
    }

    fn give_back(&mut self, shard: usize, count: usize) {
        self.0[shard].left += count;
    }

    fn asked(&self) -> usize {
        self.0.iter().map(|part| part.asked).sum()
    }

    fn are_empty(&self) -> bool {
        self.0.iter().all(|part| part.left == 0 && part.asked == 0)
    }
}

const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_gives_in_proportion_to_what_it_has() {
        let mut shards = Shards::new(&[10, 30, 20]);
        assert_eq!(shards.share_out(10), [(1, 10)], "until it has as many as the next");
        assert_eq!(shards.share_out(3), [(2, 3)], "it has not answered yet");
        assert_eq!(shards.asked(), 13);
        assert_eq!((shards.answered(1, 10), shards.answered(2, 3)), (10, 3));
        let asked = shards.share_out(100);
        assert_eq!(asked, [(0, 10), (1, 20), (2, 17)]);
        // Some have gone by themselves.
        for (shard, found) in [(0, 10), (1, 5), (2, 17)] {
            shards.answered(shard, found);
        }
        assert!(shards.are_empty());
    }
}

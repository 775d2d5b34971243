//! Holds outcomes of pushes that somebody waits for on another node, until that node has heard them.
//!
//! An outcome that nobody can have heard is given back, to be posted. One of which that is not certain never is: whoever waited may
//! have been told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::nodes::NodeId;

/// An outcome that has not been heard.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) to: NodeId,
    pub(super) outcome: Vec<u8>,
    /// That node tells the backend, whatever happens.
    pub(super) is_theirs: bool,
    first: Instant,
    due: Instant,
    /// It was published, and neither heard nor refused.
    is_on_way: bool,
    may_have_been_heard: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outcomes {
    /// By the number under which it was told last: the later ones are due later.
    held: BTreeMap<u64, Held>,
    len: usize,
    len_max: usize,
}

/// What becomes of an outcome that is due.
#[derive(Debug)]
pub(super) enum Due {
    /// It is told once more.
    Again(Held),
    /// Nobody has heard it, and nobody will.
    Post(Vec<u8>),
    /// Whoever waited has been told, or tells the backend without it.
    Over,
}

impl Outcomes {
    /// So many bytes of outcomes at most.
    pub(super) fn new(len_max: usize) -> Self {
        Self {
            held: BTreeMap::new(),
            len: 0,
            len_max,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    /// Holds one.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn insert(
        &mut self,
        number: u64,
        (to, is_theirs): (NodeId, bool),
        outcome: Vec<u8>,
        now: Instant,
    ) -> Result<(), Vec<u8>> {
        if self.len > 0 && self.len + outcome.len() > self.len_max {
            return Err(outcome);
        }
        let held = Held {
            to,
            outcome,
            is_theirs,
            first: now,
            due: now + AGAIN_AFTER,
            is_on_way: false,
            may_have_been_heard: false,
        };
        self.put(number, held);
        Ok(())
    }

    /// Holds one on, under another number.
    pub(super) fn insert_again(&mut self, number: u64, held: Held, now: Instant) {
        let due = now + AGAIN_AFTER;
        self.put(number, Held { due, ..held });
    }

    /// What is told, and to whom. It is on its way from now on.
    pub(super) fn send(&mut self, number: u64) -> Option<(NodeId, &[u8])> {
        let held = self.held.get_mut(&number)?;
        held.is_on_way = true;
        Some((held.to, &held.outcome))
    }

    /// It has been heard.
    pub(super) fn handle_heard(&mut self, number: u64) {
        self.remove(number);
    }

    /// Nobody was there to hear what was told under that number. The outcome, if it is to be posted.
    pub(super) fn handle_nobody(&mut self, number: u64, now: Instant) -> Option<Vec<u8>> {
        let held = self.held.get_mut(&number)?;
        held.is_on_way = false;
        let is_gone = now.saturating_duration_since(held.first) >= GONE_AFTER;
        if !is_gone || held.is_theirs || held.may_have_been_heard {
            return None;
        }
        self.remove(number).map(|held| held.outcome)
    }

    /// NATS has gone: what was on its way may have arrived.
    pub(super) fn handle_lost(&mut self) {
        for held in self.held.values_mut() {
            held.may_have_been_heard |= std::mem::take(&mut held.is_on_way);
        }
    }

    /// NATS is back: all are due.
    pub(super) fn make_due(&mut self, now: Instant) {
        for held in self.held.values_mut() {
            held.due = held.due.min(now);
        }
    }

    /// The first that is due, which is held no longer.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let (number, first) = self.held.first_key_value()?;
        let number = (first.due <= now).then_some(*number)?;
        let mut held = self.remove(number)?;
        held.may_have_been_heard |= std::mem::take(&mut held.is_on_way);
        if now.saturating_duration_since(held.first) < HELD_MAX {
            return Some(Due::Again(held));
        }
        Some(if held.is_theirs || held.may_have_been_heard {
            Due::Over
        } else {
            Due::Post(held.outcome)
        })
    }

    /// The next that nobody can have heard, and that is nobody else's to tell: it is held no longer.
    pub(super) fn take_untold(&mut self) -> Option<Vec<u8>> {
        let is_untold = |held: &Held| !held.is_theirs && !held.is_on_way && !held.may_have_been_heard;
        let (number, _) = self.held.iter().find(|(_, held)| is_untold(held))?;
        let number = *number;
        self.remove(number).map(|held| held.outcome)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.held.first_key_value().map(|(_, held)| held.due)
    }

    fn put(&mut self, number: u64, held: Held) {
        self.len += held.outcome.len();
        self.held.insert(number, held);
    }

    fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.held.remove(&number)?;
        self.len = self.len.saturating_sub(held.outcome.len());
        Some(held)
    }
}

/// An outcome that was not heard is told again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// A node that is not there for so long does not come back.
pub(super) const GONE_AFTER: Duration = Duration::from_secs(10);
/// The longest that one is held.
pub(super) const HELD_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    const THEM: NodeId = NodeId::new(1);

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// Tells one under rising numbers, every two seconds from `start` on, to nobody; then says what comes of it.
    fn refused(outcomes: &mut Outcomes, start: Instant) -> Option<(u64, Vec<u8>)> {
        let mut number = 0;
        outcomes.send(0).expect("held");
        for passed in (0..60).step_by(2) {
            if let Some(outcome) = outcomes.handle_nobody(number, seconds(start, passed)) {
                return Some((passed, outcome));
            }
            let Some(Due::Again(held)) = outcomes.take_due(seconds(start, passed + 2)) else {
                return None;
            };
            number += 1;
            outcomes.insert_again(number, held, seconds(start, passed + 2));
            outcomes.send(number).expect("held");
        }
        None
    }

    #[test]
    fn what_nobody_can_have_heard_is_posted_once_that_node_stays_away() {
        let start = Instant::now();
        let mut outcomes = Outcomes::new(100);
        outcomes.insert(0, (THEM, false), b"one".to_vec(), start).expect("room");
        assert_eq!(refused(&mut outcomes, start), Some((10, b"one".to_vec())));
        assert_eq!((outcomes.len, outcomes.held.len()), (0, 0));
        outcomes.insert(0, (THEM, true), b"one".to_vec(), start).expect("room");
        assert_eq!(refused(&mut outcomes, start), None, "theirs");
    }

    #[test]
    fn what_somebody_may_have_heard_is_told_again_and_never_posted() {
        let start = Instant::now();
        for lost in [false, true] {
            let mut outcomes = Outcomes::new(100);
            outcomes.insert(0, (THEM, false), b"one".to_vec(), start).expect("room");
            outcomes.send(0).expect("held");
            if lost {
                outcomes.handle_lost();
                outcomes.make_due(start);
            }
            let due = if lost { start } else { seconds(start, 2) };
            let Some(Due::Again(held)) = outcomes.take_due(due) else {
                panic!("due");
            };
            outcomes.insert_again(1, held, due);
            outcomes.send(1).expect("held");
            assert_eq!(outcomes.handle_nobody(0, seconds(start, 20)), None, "of another time");
            assert_eq!(outcomes.handle_nobody(1, seconds(start, 20)), None);
            assert!(matches!(outcomes.take_due(start + HELD_MAX), Some(Due::Over)));
        }
    }

    #[test]
    fn what_was_never_told_is_posted_in_the_end_and_what_was_heard_is_forgotten() {
        let start = Instant::now();
        let mut outcomes = Outcomes::new(5);
        outcomes.insert(0, (THEM, false), b"one".to_vec(), start).expect("room");
        assert_eq!(
            outcomes.insert(1, (THEM, false), b"two".to_vec(), start),
            Err(b"two".to_vec())
        );
        assert!(matches!(outcomes.take_due(start + HELD_MAX), Some(Due::Post(outcome)) if outcome == b"one"));
        outcomes
            .insert(2, (THEM, false), b"longer".to_vec(), start)
            .expect("one alone");
        outcomes.handle_heard(2);
        outcomes.handle_heard(2);
        assert!(outcomes.take_due(start + HELD_MAX).is_none() && outcomes.next_deadline().is_none());
        for number in 3..6 {
            outcomes
                .insert(number, (THEM, number == 3), vec![number as u8], start)
                .expect("room");
        }
        outcomes.send(4);
        assert_eq!((outcomes.take_untold(), outcomes.take_untold()), (Some(vec![5]), None));
        outcomes.handle_lost();
        assert_eq!(outcomes.take_untold(), None, "it may have been heard");
    }
}

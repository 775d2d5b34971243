//! Recognises questions that come twice.

use std::collections::{HashSet, VecDeque};

use super::nodes::NodeId;

/// The last questions, by who asked and by that node's number.
#[derive(Debug, Default)]
pub(super) struct Seen {
    known: HashSet<(NodeId, u64)>,
    order: VecDeque<(NodeId, u64)>,
}

impl Seen {
    /// True when it has not been here among the last [`SEEN_MAX`].
    pub(super) fn is_new(&mut self, from: NodeId, number: u64) -> bool {
        if !self.known.insert((from, number)) {
            return false;
        }
        if self.order.len() == SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back((from, number));
        true
    }
}

const SEEN_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_questions_are_remembered_and_no_more() {
        let mut seen = Seen::default();
        let nodes = [1, 2].map(NodeId::new);
        for number in 0..SEEN_MAX as u64 / 2 {
            for node in nodes {
                assert!(seen.is_new(node, number));
                assert!(!seen.is_new(node, number));
            }
        }
        assert!(!seen.is_new(nodes[0], 0));
        assert!(seen.is_new(nodes[0], u64::MAX));
        assert!(seen.is_new(nodes[0], 0), "the oldest is forgotten");
        assert_eq!((seen.known.len(), seen.order.len()), (SEEN_MAX, SEEN_MAX));
    }
}

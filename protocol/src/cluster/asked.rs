//! Holds the questions of this node that have no answer yet, bounded in number and in bytes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::ocpp::ClientId;

/// Who has asked, on this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asker {
    /// The shard.
    pub shard: u16,
    /// By which it knows the question.
    pub token: u64,
}

/// A question without an answer.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) asker: Asker,
    pub(super) client: ClientId,
    /// It may have to be asked again: the client has gone to yet another node.
    pub(super) question: Vec<u8>,
    pub(super) is_repeat: bool,
    /// When it was asked every node could be found, for all that was known: if nobody answers for the client, nobody has it.
    pub(super) is_sure: bool,
    until: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Asked {
    /// By number: the later ones end later.
    open: BTreeMap<u64, Open>,
    /// Those that nobody answered for and that are asked once more, in order.
    again: VecDeque<(Instant, u64)>,
    per_shard: Vec<usize>,
    len: usize,
    per_shard_max: usize,
    len_max: usize,
}

impl Asked {
    /// Each of so many shards may have `per_shard_max` questions open, all together `len_max` bytes of them.
    pub(super) fn new(shards: usize, per_shard_max: usize, len_max: usize) -> Self {
        Self {
            open: BTreeMap::new(),
            again: VecDeque::new(),
            per_shard: vec![0; shards],
            len: 0,
            per_shard_max,
            len_max,
        }
    }

    /// Whether this one may be asked. One of any length may where there is no other.
    pub(super) fn has_room(&self, asker: Asker, len: usize) -> bool {
        let count = self.per_shard.get(usize::from(asker.shard)).copied();
        count.is_some_and(|count| count < self.per_shard_max) && (self.len == 0 || self.len + len <= self.len_max)
    }

    /// It was asked for the first time, after which nobody's silence is believed yet.
    pub(super) fn insert(&mut self, number: u64, asker: Asker, (client, question): (ClientId, Vec<u8>), now: Instant) {
        let open = Open {
            asker,
            client,
            question,
            is_repeat: false,
            is_sure: false,
            until: now + ANSWER_TIMEOUT,
        };
        self.put(number, open);
    }

    /// It was asked once more, by another number.
    pub(super) fn repeat(&mut self, number: u64, open: Open, is_sure: bool, now: Instant) {
        let open = Open {
            is_repeat: true,
            is_sure,
            until: now + ANSWER_TIMEOUT,
            ..open
        };
        self.put(number, open);
    }

    /// Whether it is open, and has been asked once alone.
    pub(super) fn is_first(&self, number: u64) -> bool {
        self.open.get(&number).is_some_and(|open| !open.is_repeat)
    }

    /// It is to be asked once more in a moment.
    pub(super) fn put_off(&mut self, number: u64, now: Instant) {
        self.again.push_back((now + AGAIN_AFTER, number));
    }

    /// One whose moment has come, and that has no answer by now.
    pub(super) fn take_again(&mut self, now: Instant) -> Option<Open> {
        while let Some((_, number)) = self.again.pop_front_if(|(due, _)| *due <= now) {
            if let Some(open) = self.remove(number) {
                return Some(open);
            }
        }
        None
    }

    /// It is over.
    pub(super) fn remove(&mut self, number: u64) -> Option<Open> {
        let open = self.open.remove(&number)?;
        self.len = self.len.saturating_sub(open.question.len());
        if let Some(count) = self.per_shard.get_mut(usize::from(open.asker.shard)) {
            *count = count.saturating_sub(1);
        }
        Some(open)
    }

    /// The first whose time is over.
    pub(super) fn remove_expired(&mut self, now: Instant) -> Option<Open> {
        let (number, open) = self.open.first_key_value()?;
        (open.until <= now)
            .then_some(*number)
            .and_then(|number| self.remove(number))
    }

    /// Any of them.
    pub(super) fn remove_first(&mut self) -> Option<Open> {
        let number = *self.open.first_key_value()?.0;
        self.remove(number)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let until = self.open.first_key_value().map(|(_, open)| open.until);
        let again = self.again.front().map(|(due, _)| *due);
        until.into_iter().chain(again).min()
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    fn put(&mut self, number: u64, open: Open) {
        self.len += open.question.len();
        if let Some(count) = self.per_shard.get_mut(usize::from(open.asker.shard)) {
            *count += 1;
        }
        self.open.insert(number, open);
    }
}

/// Far longer than NATS and a shard that lives take.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What is carried out is carried out before: its answer is there in time.
pub(super) const CARRY_OUT_WITHIN: Duration = Duration::from_secs(8);
const _: () = assert!(CARRY_OUT_WITHIN.as_secs() < ANSWER_TIMEOUT.as_secs());
/// What a subscription takes from a node to NATS, and on to another of its servers, when nothing is wrong.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_bounded_by_shard_and_in_bytes_and_end_in_their_order() {
        let now = Instant::now();
        let asker = |shard, token| Asker { shard, token };
        let question = |len| (ClientId::parse("x").unwrap(), vec![0; len]);
        let mut asked = Asked::new(2, 2, 100);
        assert!(asked.has_room(asker(0, 0), 101), "one alone may be longer");
        asked.insert(1, asker(0, 0), question(60), now);
        assert!(asked.has_room(asker(0, 1), 40) && !asked.has_room(asker(0, 1), 41));
        asked.insert(2, asker(0, 1), question(10), now + Duration::from_secs(1));
        assert!(!asked.has_room(asker(0, 2), 1) && asked.has_room(asker(1, 2), 1));
        assert!(!asked.has_room(asker(2, 2), 1), "no such shard");
        let first = asked.remove(1).expect("open");
        assert!(asked.remove(1).is_none());
        asked.repeat(3, first, true, now + Duration::from_secs(2));
        assert_eq!((asked.count(), asked.len), (2, 70));
        let end = now + ANSWER_TIMEOUT;
        assert_eq!(asked.next_deadline(), Some(end + Duration::from_secs(1)));
        assert!(asked.remove_expired(end).is_none());
        assert_eq!(
            asked.remove_expired(end + Duration::from_secs(1)).unwrap().asker,
            asker(0, 1)
        );
        assert!(asked.remove_first().expect("open").is_repeat);
        assert_eq!((asked.count(), asked.len, &asked.per_shard[..]), (0, 0, &[0, 0][..]));
    }
}

//! Bounds the questions about one ClientId: two at a time are at the backend or on the way there, and few wait.
//!
//! The newest connection of a ClientId wins, so that of those that wait the newest of each address counts; the one before it is
//! told. Addresses take turns: whoever floods a name from one address does not keep its owner out.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use protocol::ocpp::ClientId;

/// The questions about all ClientIds.
#[derive(Debug, Default)]
pub(super) struct Questions {
    of: RefCell<HashMap<ClientId, OfClient>>,
}

/// Who has neither is not in it.
#[derive(Debug, Default)]
struct OfClient {
    asked: usize,
    /// In the order of their turns.
    waiting: VecDeque<Rc<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    address: String,
    turn: Cell<Option<Turn>>,
    waker: RefCell<Option<Waker>>,
}

/// What has become of one that waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// It may ask.
    Come,
    /// A newer one waits in its place.
    Superseded,
}

/// One question, until it is dropped.
#[derive(Debug)]
pub(super) struct Question {
    questions: Rc<Questions>,
    client: ClientId,
    /// `None`: its turn had come at once.
    waiting: Option<Rc<Waiting>>,
}

impl Questions {
    /// One more about `client`, which comes from `address`.
    pub(super) fn begin(self: &Rc<Self>, client: &ClientId, address: &str) -> Question {
        let mut all = self.of.borrow_mut();
        let of_client = all.entry(client.clone()).or_default();
        let waiting = if of_client.asked < ASKED_MAX {
            of_client.asked += 1;
            None
        } else {
            Some(of_client.wait(address))
        };
        Question {
            questions: self.clone(),
            client: client.clone(),
            waiting,
        }
    }
}

impl OfClient {
    fn wait(&mut self, address: &str) -> Rc<Waiting> {
        let newest = Rc::new(Waiting {
            address: address.to_owned(),
            turn: Cell::new(None),
            waker: RefCell::new(None),
        });
        let same = self.waiting.iter_mut().find(|waiting| waiting.address == address);
        if let Some(before) = same {
            std::mem::replace(before, newest.clone()).set(Turn::Superseded);
            return newest;
        }
        if self.waiting.len() == WAITING_MAX
            && let Some(oldest) = self.waiting.pop_front()
        {
            oldest.set(Turn::Superseded);
        }
        self.waiting.push_back(newest.clone());
        newest
    }
}

impl Waiting {
    fn set(&self, turn: Turn) {
        self.turn.set(Some(turn));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Question {
    /// Ready when it may be asked, or need not be.
    pub(super) fn poll_turn(&self, context: &mut Context<'_>) -> Poll<Turn> {
        let Some(waiting) = &self.waiting else {
            return Poll::Ready(Turn::Come);
        };
        if let Some(turn) = waiting.turn.get() {
            return Poll::Ready(turn);
        }
        *waiting.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut all = self.questions.of.borrow_mut();
        let Some(of_client) = all.get_mut(&self.client) else {
            return;
        };
        let turn = match &self.waiting {
            None => Some(Turn::Come),
            Some(waiting) => waiting.turn.get(),
        };
        match (turn, &self.waiting) {
            (Some(Turn::Come), _) => {
                of_client.asked -= 1;
                if let Some(next) = of_client.waiting.pop_front() {
                    of_client.asked += 1;
                    next.set(Turn::Come);
                }
            }
            (None, Some(own)) => of_client.waiting.retain(|waiting| !Rc::ptr_eq(waiting, own)),
            _ => {}
        }
        if of_client.asked == 0 && of_client.waiting.is_empty() {
            all.remove(&self.client);
        }
    }
}

/// One of them may be of a connection that is not there any more.
const ASKED_MAX: usize = 2;
/// Addresses from which a ClientId is waited for.
const WAITING_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(question: &Question) -> Option<Turn> {
        match question.poll_turn(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    fn client(id: &str) -> ClientId {
        ClientId::from_percent_encoded(id).unwrap()
    }

    #[test]
    fn two_of_one_client_are_asked_and_the_newest_waits() {
        let questions = Rc::new(Questions::default());
        let begin = || questions.begin(&client("CP1"), "a");
        let mut asked: Vec<_> = (0..2).map(|_| begin()).collect();
        let older = begin();
        let newer = begin();
        let other = questions.begin(&client("CP2"), "a");
        assert!(
            asked
                .iter()
                .chain([&other])
                .all(|question| turn(question) == Some(Turn::Come))
        );
        assert_eq!((turn(&older), turn(&newer)), (Some(Turn::Superseded), None));
        drop(older);
        assert_eq!(turn(&newer), None);
        asked.pop();
        assert_eq!(turn(&newer), Some(Turn::Come));
        let last = begin();
        assert_eq!(turn(&last), None);
        // Who goes while it waits leaves no gap.
        drop(last);
        drop((asked, newer, other));
        assert!(questions.of.borrow().is_empty());
    }

    #[test]
    fn addresses_have_a_turn_each_in_their_order() {
        let questions = Rc::new(Questions::default());
        let begin = |address: &str| questions.begin(&client("CP1"), address);
        let mut asked = vec![begin("a"), begin("a")];
        let flood = begin("a");
        let owner = begin("b");
        let newest = begin("a");
        assert_eq!((turn(&flood), turn(&owner)), (Some(Turn::Superseded), None));
        asked.pop();
        // In the place of the one before it.
        assert_eq!((turn(&newest), turn(&owner)), (Some(Turn::Come), None));
        asked.pop();
        assert_eq!(turn(&owner), Some(Turn::Come));
    }

    #[test]
    fn more_addresses_than_may_wait_cost_the_one_that_waits_longest() {
        let questions = Rc::new(Questions::default());
        let _asked = [0, 1].map(|_| questions.begin(&client("CP1"), "a"));
        let waiting: Vec<_> = (0..=WAITING_MAX)
            .map(|number| questions.begin(&client("CP1"), &format!("{number}")))
            .collect();
        assert_eq!(turn(&waiting[0]), Some(Turn::Superseded));
        assert!(waiting[1..].iter().all(|question| turn(question).is_none()));
    }
}

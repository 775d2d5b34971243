//! Gives out places in the order in which they are asked for, and can take the oldest one back.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The places that are taken.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By their numbers: the oldest first.
    taken: RefCell<BTreeMap<u64, Taken>>,
    next: Cell<u64>,
}

#[derive(Debug)]
struct Taken {
    since: Instant,
    /// Who has it, once it has asked whether it has it still.
    waker: Option<Waker>,
}

/// One place, until it is dropped or taken back.
#[derive(Debug)]
pub(super) struct Place {
    places: Rc<Places>,
    number: u64,
}

impl Places {
    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.taken.borrow().len()
    }

    /// Since when the oldest is taken.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.taken.borrow().first_key_value().map(|(_, taken)| taken.since)
    }

    /// One more.
    pub(super) fn take(self: &Rc<Self>, now: Instant) -> Place {
        let number = self.next.replace(self.next.get() + 1);
        let taken = Taken {
            since: now,
            waker: None,
        };
        self.taken.borrow_mut().insert(number, taken);
        Place {
            places: self.clone(),
            number,
        }
    }

    /// The oldest is free again; whoever had it is woken.
    pub(super) fn take_back_oldest(&self) {
        let oldest = self.taken.borrow_mut().pop_first();
        if let Some(waker) = oldest.and_then(|(_, taken)| taken.waker) {
            waker.wake();
        }
    }
}

impl Place {
    /// Ready once it was taken back.
    pub(super) fn poll_lost(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut taken = self.places.taken.borrow_mut();
        let Some(own) = taken.get_mut(&self.number) else {
            return Poll::Ready(());
        };
        match &mut own.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Whether it was taken back.
    pub(super) fn is_lost(&self) -> bool {
        !self.places.taken.borrow().contains_key(&self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.borrow_mut().remove(&self.number);
    }
}

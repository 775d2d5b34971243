//! Bounds the connections at the ingress so that there is a place for one more as long as one of them has no request that is
//! being answered: the one of whom there is least to expect makes room.
//!
//! First those that were never let in (silent, in the middle of their first head, or refused), then those that have no
//! request at the moment; of the same kind the one that has waited longest. So whoever has no token takes at most one
//! place from who has.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Places {
    open: RefCell<Slab<Rc<State>>>,
    /// Grows with each beginning of a wait.
    clock: Cell<u64>,
}

/// One connection's place, until this is dropped or taken away.
#[derive(Debug)]
pub(super) struct Place {
    places: Rc<Places>,
    key: usize,
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_let_in: Cell<bool>,
    /// When it began to wait for its peer; `None` while a request of it is being answered.
    waits_since: Cell<Option<u64>>,
    must_go: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Places {
    /// How many connections are open.
    pub(super) fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Takes a place from who can do without, if all `max` are taken. False: nobody can.
    pub(super) fn make_room(&self, max: usize) -> Option<bool> {
        let mut open = self.open.borrow_mut();
        if open.len() < max {
            return Some(false);
        }
        let waiting = open.iter().filter_map(|(key, state)| {
            let since = state.waits_since.get()?;
            Some(((state.is_let_in.get(), since), key))
        });
        let (_, key) = waiting.min()?;
        let state = open.remove(key);
        drop(open);
        state.must_go.set(true);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        Some(true)
    }

    /// A place for a connection that has not asked for anything yet.
    pub(super) fn enter(self: &Rc<Self>) -> Place {
        let state = Rc::new(State::default());
        let place = Place {
            key: self.open.borrow_mut().insert(state.clone()),
            places: self.clone(),
            state,
        };
        place.begin_wait();
        place
    }
}

impl Place {
    /// It waits for its peer from now on, or its peer has just made progress.
    pub(super) fn begin_wait(&self) {
        let now = self.places.clock.get();
        self.places.clock.set(now + 1);
        self.state.waits_since.set(Some(now));
    }

    /// Its request is being answered: it does not have to make room.
    pub(super) fn end_wait(&self) {
        self.state.waits_since.set(None);
    }

    /// Whether its last head was one that is let in.
    pub(super) fn set_let_in(&self, is_let_in: bool) {
        self.state.is_let_in.set(is_let_in);
    }

    /// Whether it was ever let in.
    pub(super) fn is_let_in(&self) -> bool {
        self.state.is_let_in.get()
    }

    /// Ready once it has to make room.
    pub(super) fn poll_must_go(&self, context: &Context<'_>) -> Poll<()> {
        if self.state.must_go.get() {
            return Poll::Ready(());
        }
        let mut waker = self.state.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.state.must_go.get() {
            self.places.open.borrow_mut().remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of them have had to go.
    fn gone(places: &[&Place]) -> Vec<bool> {
        places.iter().map(|place| place.state.must_go.get()).collect()
    }

    #[test]
    fn whoever_was_never_let_in_goes_first_and_whoever_is_answered_never() {
        let places = Rc::new(Places::default());
        assert_eq!(places.make_room(1), Some(false));
        let [answered, idle, silent, silent_too] = [(); 4].map(|()| places.enter());
        answered.set_let_in(true);
        answered.end_wait();
        idle.set_let_in(true);
        let all = [&answered, &idle, &silent, &silent_too];
        for expected in [
            [false, false, true, false],
            [false, false, true, true],
            [false, true, true, true],
        ] {
            let before = places.count();
            assert_eq!(places.make_room(before), Some(true));
            assert_eq!((gone(&all), places.count()), (expected.to_vec(), before - 1));
        }
        assert_eq!(places.make_room(1), None);
        answered.begin_wait();
        assert_eq!(places.make_room(1), Some(true));
        drop((answered, idle, silent, silent_too));
        assert_eq!(places.count(), 0);
    }

    #[test]
    fn of_two_the_one_that_has_waited_longer_goes() {
        let places = Rc::new(Places::default());
        let (first, second) = (places.enter(), places.enter());
        first.begin_wait();
        assert_eq!(places.make_room(2), Some(true));
        assert_eq!(gone(&[&first, &second]), [false, true]);
        // The place that was freed is another one's now.
        drop(second);
        assert_eq!(places.count(), 1);
        let third = places.enter();
        drop(first);
        assert_eq!(places.count(), 1);
        drop(third);
    }
}

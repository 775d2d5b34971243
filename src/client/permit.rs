//! Bounds the opening handshakes under way: one more needs a permit, and one that has been silent for long makes room for it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use shards::Timer;

use super::places::{Place, Places};

/// The handshakes under way, and who waits for there to be fewer.
#[derive(Debug, Default)]
pub struct Handshakes {
    /// Those whose request has not come whole.
    unfinished: Rc<Places>,
    /// The others.
    asking: Cell<usize>,
    waiting: RefCell<[Option<Waker>; 2]>,
    /// Who is woken first: each in its turn.
    turn: Cell<bool>,
}

/// A handshake under way; ends when it is dropped.
#[derive(Debug)]
pub(super) struct HandshakePermit {
    handshakes: Rc<Handshakes>,
    /// As long as its request has not come whole.
    unfinished: Option<Place>,
}

/// Where handshakes come in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Door {
    /// This shard has accepted them.
    Accepted,
    /// Another shard has read their requests.
    HandedOver,
}

impl Handshakes {
    /// The number of handshakes under way.
    pub fn count(&self) -> usize {
        self.unfinished.count() + self.asking.get()
    }

    /// Ready when there is room for one more of `max`, or when the oldest one that is unfinished can make room. Until then the
    /// task at `door` is woken when that may have changed; `timer` is its own.
    #[allow(clippy::indexing_slicing, reason = "each door has its place")]
    pub(super) fn poll_room(
        &self,
        door: Door,
        max: usize,
        timer: &mut Timer,
        now: Instant,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if self.count() < max {
            return Poll::Ready(());
        }
        let evictable = self.unfinished.oldest().map(|since| since + UNFINISHED_FOR);
        if evictable.is_some_and(|at| at <= now) {
            return Poll::Ready(());
        }
        timer.set(evictable);
        if timer.poll_expired(context).is_ready() {
            return Poll::Ready(());
        }
        self.waiting.borrow_mut()[door as usize] = Some(context.waker().clone());
        Poll::Pending
    }

    /// One begins whose request is to be read.
    pub(super) fn begin(self: &Rc<Self>, max: usize, now: Instant) -> HandshakePermit {
        self.make_room(max);
        HandshakePermit {
            unfinished: Some(self.unfinished.take(now)),
            handshakes: self.clone(),
        }
    }

    /// One goes on here whose request was read.
    pub(super) fn resume(self: &Rc<Self>, max: usize) -> HandshakePermit {
        self.make_room(max);
        self.asking.set(self.asking.get() + 1);
        HandshakePermit {
            unfinished: None,
            handshakes: self.clone(),
        }
    }

    fn make_room(&self, max: usize) {
        if self.count() >= max {
            self.unfinished.take_back_oldest();
        }
    }

    fn wake(&self) {
        let mut waiting = self.waiting.take();
        if self.turn.replace(!self.turn.get()) {
            waiting.reverse();
        }
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

impl HandshakePermit {
    /// Ready once the place was needed for another one: that was silent for too long.
    pub(super) fn poll_lost(&self, context: &mut Context<'_>) -> Poll<()> {
        match &self.unfinished {
            Some(place) => place.poll_lost(context),
            None => Poll::Pending,
        }
    }

    /// Whether it has lost its place.
    pub(super) fn is_lost(&self) -> bool {
        self.unfinished.as_ref().is_some_and(Place::is_lost)
    }

    /// The request has come: from now on it makes room for nobody.
    pub(super) fn handle_request(&mut self) {
        debug_assert!(!self.is_lost(), "who has lost its place goes");
        if self.unfinished.take().is_some() {
            let asking = &self.handshakes.asking;
            asking.set(asking.get() + 1);
        }
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        if self.unfinished.take().is_none() {
            let asking = &self.handshakes.asking;
            asking.set(asking.get() - 1);
        }
        self.handshakes.wake();
    }
}

/// So long nobody is shown out for another one. A request follows its connection in about the time of one round trip.
const UNFINISHED_FOR: Duration = Duration::from_secs(1);

// The simulation has no reactor without a network.
#[cfg(all(test, not(simulation)))]
mod tests {
    use shards::Reactor;

    use super::*;

    #[test]
    fn the_oldest_that_is_unfinished_makes_room_after_its_time_and_no_other_does() {
        let reactor = Reactor::new().unwrap();
        let start = reactor.now();
        let handshakes = Rc::new(Handshakes::default());
        let mut timer = Timer::new(&reactor);
        let mut has_room = |now| {
            let mut context = Context::from_waker(Waker::noop());
            let room = handshakes.poll_room(Door::Accepted, 3, &mut timer, now, &mut context);
            room.is_ready()
        };
        let mut asked = handshakes.begin(3, start);
        asked.handle_request();
        let [older, younger] = [0, 100].map(|ms| handshakes.begin(3, start + Duration::from_millis(ms)));
        assert!(!has_room(start + UNFINISHED_FOR - Duration::from_millis(1)));
        assert!(has_room(start + UNFINISHED_FOR));
        let newcomer = handshakes.begin(3, start + UNFINISHED_FOR);
        assert_eq!(
            [&asked, &older, &younger].map(HandshakePermit::is_lost),
            [false, true, false]
        );
        assert_eq!(handshakes.count(), 3);
        // That it goes frees nothing twice.
        drop(older);
        assert_eq!(handshakes.count(), 3);
        assert!(!has_room(start + UNFINISHED_FOR));
        drop(asked);
        assert!(has_room(start + UNFINISHED_FOR));
        drop((younger, newcomer));
        assert_eq!(handshakes.count(), 0);
    }

    #[test]
    fn what_another_shard_has_read_takes_a_place_and_makes_no_room() {
        let reactor = Reactor::new().unwrap();
        let start = reactor.now();
        let handshakes = Rc::new(Handshakes::default());
        let mut timer = Timer::new(&reactor);
        let _first = handshakes.resume(1);
        let mut context = Context::from_waker(Waker::noop());
        let late = start + Duration::from_secs(100);
        let room = handshakes.poll_room(Door::HandedOver, 1, &mut timer, late, &mut context);
        assert!(room.is_pending());
    }
}

//! Stands in for the reactor: its clock jumps; its timing wheel is the real one.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::network::Network;
use crate::pass::{Load, PassEnd, PassLengths};
use crate::timers::Timers;

/// A simulated shard's clock, timers and sockets.
#[derive(Debug)]
pub struct Reactor {
    pub(super) network: Rc<Network>,
    pub(crate) timers: Timers,
    epoch: Instant,
    now: Cell<Instant>,
    pub(super) sockets: Cell<usize>,
    pass_end: RefCell<Option<Weak<dyn PassEnd>>>,
}

impl Reactor {
    pub(super) fn new(network: &Rc<Network>, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            network: network.clone(),
            timers: Timers::new(now),
            epoch: now,
            now: Cell::new(now),
            sockets: Cell::new(0),
            pass_end: RefCell::new(None),
        })
    }

    /// Sets what is done at the end of every pass, for as long as it lives.
    pub fn at_pass_end(&self, work: Weak<dyn PassEnd>) {
        *self.pass_end.borrow_mut() = Some(work);
    }

    /// Always: whatever may be deferred is.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        true
    }

    pub(super) fn end_pass(&self) -> bool {
        let work = self.pass_end.borrow().as_ref().and_then(Weak::upgrade);
        work.is_some_and(|work| work.end_pass())
    }

    /// The time of this pass.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// None: rounds take no time.
    #[must_use]
    pub fn load(&self) -> Load {
        Load::default()
    }

    /// None: rounds take no time.
    #[must_use]
    pub fn take_longest_pass(&self) -> Duration {
        Duration::ZERO
    }

    /// None: rounds take no time.
    #[must_use]
    pub fn pass_lengths(&self) -> PassLengths {
        PassLengths::default()
    }

    /// How many sockets are registered.
    #[must_use]
    pub fn sockets_count(&self) -> usize {
        self.sockets.get()
    }

    /// How many timers are set.
    #[must_use]
    pub fn timers_count(&self) -> usize {
        self.timers.len()
    }

    /// When the wheel has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        Some(self.epoch + self.timers.next()?)
    }

    pub(super) fn advance(&self, now: Instant) {
        self.now.set(now);
        self.timers.fire(self.timers.elapsed(now));
    }
}

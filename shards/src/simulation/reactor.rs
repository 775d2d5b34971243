//! Stands in for the reactor: its clock jumps; its timing wheel is the real one.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::network::Network;
use super::random::Random;
use super::watch::Events;
use crate::pass::{CROWD, Load, PassEnd, PassLengths};
use crate::readiness::{READABLE, WRITABLE};
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
    pub(super) events: Events,
    is_crowded: Cell<bool>,
    /// How often a pass was said to be sparse, and crowded.
    crowds: Cell<[u64; 2]>,
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
            events: Events::default(),
            is_crowded: Cell::new(false),
            crowds: Cell::new([0; 2]),
        })
    }

    /// Sets what is done at the end of every pass, for as long as it lives.
    pub fn at_pass_end(&self, work: Weak<dyn PassEnd>) {
        *self.pass_end.borrow_mut() = Some(work);
    }

    /// As in the real one, or what the dice say.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        let is_crowded = self.is_crowded.get();
        let mut crowds = self.crowds.get();
        crowds[usize::from(is_crowded)] += 1;
        self.crowds.set(crowds);
        is_crowded
    }

    pub(super) fn crowds(&self) -> [u64; 2] {
        self.crowds.get()
    }

    /// Tells what has happened on sockets; returns how much that is. Some of it stays for the next time, as if it were more than
    /// fits, and some is told that is not so.
    pub(super) fn tell_events(&self, random: &mut Random) -> usize {
        let is_even = self.network.is_even();
        let waiting = self.events.borrow().len();
        let mut told = 0;
        for _ in 0..waiting {
            let event = self.events.borrow_mut().pop_front();
            let Some(watch) = event else { break };
            if !is_even && random.percent(LATE_PERCENT) {
                self.events.borrow_mut().push_back(watch);
                continue;
            }
            let spurious = match is_even {
                false if random.percent(SPURIOUS_PERCENT) => READABLE | WRITABLE,
                _ => 0,
            };
            told += usize::from(watch.tell(spurious));
        }
        self.is_crowded.set(match random.below(4) {
            0 if !is_even => true,
            1 if !is_even => false,
            _ => told >= CROWD,
        });
        waiting
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

    /// The time, which is another one where the shard hung in this pass.
    #[must_use]
    pub fn exact_now(&self) -> Instant {
        self.network.now()
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

/// So many events are told later than others of their pass.
const LATE_PERCENT: usize = 10;
/// With so many something is told that does not hold.
const SPURIOUS_PERCENT: usize = 10;

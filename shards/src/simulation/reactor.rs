//! The simulated reactor: a clock that jumps, the real timing wheel, and the network.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::network::Network;
use crate::wheel::{Key, Wheel};

/// As the real one's.
pub const TICK: Duration = Duration::from_millis(4);

/// As the real one's: bounds of the rounds' lengths in µs.
pub const PASS_BOUNDS_US: [u64; 16] = [
    16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131_072, 262_144, 524_288,
];

/// A simulated shard's clock, timers and sockets.
#[derive(Debug)]
pub struct Reactor {
    pub(super) network: Rc<Network>,
    wheel: RefCell<Wheel<Waker>>,
    epoch: Instant,
    now: Cell<Instant>,
    pub(super) sockets: Cell<usize>,
    pass_end: RefCell<Option<Weak<dyn PassEnd>>>,
}

/// As the real one's.
pub trait PassEnd: 'static {
    /// Does what was put off. True when there was anything: it may have woken tasks, or put off something again.
    fn end_pass(&self) -> bool;
}

/// There is no load: rounds take no time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Rounds of the loop.
    pub passes: u64,
    /// Rounds that waited.
    pub sleeps: u64,
    /// Events.
    pub events: u64,
    /// Time spent.
    pub busy: Duration,
    /// The longest round.
    pub longest_pass: Duration,
}

/// There are none.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassLengths([u64; PASS_BOUNDS_US.len() + 1]);

impl PassLengths {
    /// How many rounds were how long.
    #[must_use]
    pub fn counts(&self) -> [u64; PASS_BOUNDS_US.len() + 1] {
        self.0
    }
}

impl Reactor {
    pub(super) fn new(network: &Rc<Network>, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            network: network.clone(),
            wheel: RefCell::new(Wheel::new(0)),
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

    /// Always: whatever may be put off is.
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

    /// See [`Load`].
    #[must_use]
    pub fn load(&self) -> Load {
        Load::default()
    }

    /// See [`Load`].
    #[must_use]
    pub fn take_longest_pass(&self) -> Duration {
        Duration::ZERO
    }

    /// See [`PassLengths`].
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
        self.wheel.borrow().len()
    }

    /// When the wheel has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let tick = self.wheel.borrow().next_tick()?;
        Some(self.epoch + Duration::from_nanos(tick.saturating_mul(TICK.as_nanos() as u64)))
    }

    pub(super) fn advance(&self, now: Instant) {
        self.now.set(now);
        let tick = (now.saturating_duration_since(self.epoch).as_nanos() / TICK.as_nanos()) as u64;
        self.wheel.borrow_mut().advance(tick, Waker::wake);
    }

    pub(crate) fn tick_at(&self, deadline: Instant) -> u64 {
        let elapsed = deadline.saturating_duration_since(self.epoch);
        elapsed.as_nanos().div_ceil(TICK.as_nanos()) as u64
    }

    pub(crate) fn move_timer(&self, key: Key, tick: u64) -> Option<Key> {
        let mut wheel = self.wheel.borrow_mut();
        let waker = wheel.remove(key)?;
        Some(wheel.insert(tick, waker))
    }

    /// The tick up to which all timers have fired.
    pub(crate) fn timers_fired(&self) -> u64 {
        self.wheel.borrow().now()
    }

    pub(crate) fn insert_timer(&self, tick: u64, waker: Waker) -> Key {
        self.wheel.borrow_mut().insert(tick, waker)
    }

    pub(crate) fn remove_timer(&self, key: Key) {
        self.wheel.borrow_mut().remove(key);
    }

    pub(crate) fn keep_timer(&self, key: Key, waker: &Waker) -> bool {
        match self.wheel.borrow_mut().get_mut(key) {
            Some(kept) => {
                kept.clone_from(waker);
                true
            }
            None => false,
        }
    }
}

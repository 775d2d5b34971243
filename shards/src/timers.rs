//! Keeps the wakers of a shard's timers in a timing wheel, and turns points in time into its ticks.

use std::cell::RefCell;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::wheel::{Key, Wheel};

/// The wheel's resolution. Deadlines are seconds; 4 ms is exact enough and keeps the cascades few.
pub const TICK: Duration = Duration::from_millis(4);
const TICKS_PER_SECOND: u64 = 250;
const _: () = assert!(TICK.as_nanos() as u64 * TICKS_PER_SECOND == 1_000_000_000);

/// All timers of one shard. Ticks count from `epoch`.
#[derive(Debug)]
pub(crate) struct Timers {
    wheel: RefCell<Wheel<Waker>>,
    epoch: Instant,
}

impl Timers {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            wheel: RefCell::new(Wheel::new(0)),
            epoch,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.wheel.borrow().len()
    }

    /// The time from the epoch to `now`.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    /// The first tick that is not before `deadline`.
    pub(crate) fn tick_at(&self, deadline: Instant) -> u64 {
        let after = self.elapsed(deadline);
        let ticks = after.as_secs().saturating_mul(TICKS_PER_SECOND);
        ticks.saturating_add(after.subsec_nanos().div_ceil(TICK.subsec_nanos()).into())
    }

    /// When the wheel has something to do next, as the time since the epoch.
    pub(crate) fn next(&self) -> Option<Duration> {
        let tick = self.wheel.borrow().next_tick()?;
        Some(Duration::from_nanos(tick.saturating_mul(TICK.as_nanos() as u64)))
    }

    /// Wakes whatever is due when so much time has passed since the epoch.
    pub(crate) fn fire(&self, elapsed: Duration) {
        let tick = elapsed.as_secs() * TICKS_PER_SECOND + u64::from(elapsed.subsec_nanos() / TICK.subsec_nanos());
        self.wheel.borrow_mut().advance(tick, Waker::wake);
    }

    /// The tick up to which all timers have fired.
    pub(crate) fn fired(&self) -> u64 {
        self.wheel.borrow().now()
    }

    pub(crate) fn insert(&self, tick: u64, waker: Waker) -> Key {
        self.wheel.borrow_mut().insert(tick, waker)
    }

    pub(crate) fn remove(&self, key: Key) {
        self.wheel.borrow_mut().remove(key);
    }

    /// Moves a timer that is still set to `tick` and returns its new key; `None` when it has fired.
    pub(crate) fn move_to(&self, key: Key, tick: u64) -> Option<Key> {
        let mut wheel = self.wheel.borrow_mut();
        let waker = wheel.remove(key)?;
        Some(wheel.insert(tick, waker))
    }

    /// Keeps a timer that is still set, for the task of `waker`; false when it has fired.
    pub(crate) fn keep(&self, key: Key, waker: &Waker) -> bool {
        match self.wheel.borrow_mut().get_mut(key) {
            Some(kept) => {
                kept.clone_from(waker);
                true
            }
            None => false,
        }
    }
}

//! Describes the rounds of a shard's loop: what is deferred to their end, how many there were, and how long they took.

use std::time::Duration;

/// What is deferred until everybody who was ready in a pass has run. Sends, above all: one by one, with work between
/// them, each finds its receiver asleep again.
pub trait PassEnd: 'static {
    /// Does what was deferred. True when there was anything: it may have woken tasks, or deferred something again.
    fn end_pass(&self) -> bool;
}

/// With fewer events in a pass there is little to gather.
pub(crate) const CROWD: usize = 4;

/// How busy the shard is. Sums since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Rounds of the loop.
    pub passes: u64,
    /// Rounds that waited for an event or a deadline.
    pub sleeps: u64,
    /// Events that epoll reported.
    pub events: u64,
    /// Time spent outside of `epoll_wait`.
    pub busy: Duration,
    /// The longest single round outside of `epoll_wait` since
    /// [`Reactor::take_longest_pass`](crate::Reactor::take_longest_pass).
    pub longest_pass: Duration,
}

/// How many rounds were how long: the latency that the loop adds to whatever waits in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassLengths([u64; PASS_BOUNDS_US.len() + 1]);

impl PassLengths {
    /// Rounds up to each of [`PASS_BOUNDS_US`] and above the one before it; last, those above all.
    #[must_use]
    pub fn counts(&self) -> [u64; PASS_BOUNDS_US.len() + 1] {
        self.0
    }

    /// A simulated pass takes no time.
    #[cfg(not(simulation))]
    pub(crate) fn count(&mut self, pass: Duration) {
        let units = u64::try_from(pass.as_nanos()).unwrap_or(u64::MAX) / PASS_UNIT_NS;
        let index = (u64::BITS - units.leading_zeros()) as usize;
        self.0[index.min(PASS_BOUNDS_US.len())] += 1;
    }
}

/// Bounds in µs, each twice the one before; the first is 16.
pub const PASS_BOUNDS_US: [u64; 16] = {
    let mut bounds = [0; 16];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = (PASS_UNIT_NS << index) / 1000;
        index += 1;
    }
    bounds
};
const PASS_UNIT_NS: u64 = 16_000;

//! Takes connections, bounded: what is too much waits in the kernel's backlog.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use shards::handover::Arrivals;
use shards::listener::Listener;
use shards::{Socket, spawn, yield_now};

use super::handshake;
use crate::shard::Shard;

/// How many handshakes are under way, and who waits for there to be fewer.
#[derive(Debug, Default)]
pub struct Handshakes {
    count: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
}

/// A handshake under way; ends when it is dropped.
pub struct HandshakePermit(Rc<Shard>);

/// At most so many upgrades per second, in bursts of up to as many.
#[derive(Debug)]
pub struct UpgradeRate {
    per_second: Cell<f64>,
    tokens: Cell<f64>,
    filled: Cell<Instant>,
}

/// Accepts clients until the shard drains.
pub async fn accept(shard: Rc<Shard>, mut listener: Listener) {
    let drain = shard.drain.watch();
    let mut since_yield = 0;
    loop {
        let mut paused = false;
        let next = poll_fn(|context| {
            if drain.poll_triggered(context).is_ready() {
                return Poll::Ready(None);
            }
            if shard.handshakes.count.get() >= shard.core.handshakes_max {
                if !std::mem::replace(&mut paused, true) {
                    shard.counters.accept_pauses_full.add();
                }
                *shard.handshakes.waiting.borrow_mut() = Some(context.waker().clone());
                return Poll::Pending;
            }
            let accepted = listener.poll_accept(context).map(Some);
            // Also while none can be accepted: that is when it matters.
            shard.counters.accept_pauses.set(listener.pauses_count());
            accepted
        });
        let Some((fd, peer)) = next.await else { return };
        shard.counters.connections_accepted.add();
        if let Ok(socket) = Socket::adopt(&shard.reactor, fd) {
            let turn = HandshakePermit::new(&shard);
            spawn(handshake::begin(turn, socket, peer));
        }
        since_yield += 1;
        if since_yield == ACCEPTS_PER_TURN {
            since_yield = 0;
            yield_now().await;
        }
    }
}

/// Takes the sockets that other shards hand over, for as long as the shard lives.
pub async fn receive(shard: Rc<Shard>, mut arrivals: Arrivals) {
    loop {
        let parcel = arrivals.next().await;
        shard.counters.handovers_received.add();
        let Ok(socket) = Socket::adopt(&shard.reactor, parcel.socket) else {
            continue;
        };
        spawn(handshake::resume(HandshakePermit::new(&shard), socket, parcel.bytes));
    }
}

impl HandshakePermit {
    fn new(shard: &Rc<Shard>) -> Self {
        shard.handshakes.count.set(shard.handshakes.count.get() + 1);
        Self(shard.clone())
    }

    /// The shard that the handshake runs on.
    pub fn shard(&self) -> &Rc<Shard> {
        &self.0
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let handshakes = &self.0.handshakes;
        handshakes.count.set(handshakes.count.get() - 1);
        if let Some(waker) = handshakes.waiting.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Handshakes {
    /// Handshakes under way.
    pub fn count(&self) -> usize {
        self.count.get()
    }
}

impl UpgradeRate {
    /// `per_second` tokens, all there at the start.
    pub fn new(per_second: usize, now: Instant) -> Self {
        let per_second = per_second as f64;
        Self {
            per_second: Cell::new(per_second),
            tokens: Cell::new(per_second),
            filled: Cell::new(now),
        }
    }

    /// From `now` on it is another rate.
    pub fn set(&self, per_second: usize, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled.replace(now));
        let tokens = self.tokens.get() + elapsed.as_secs_f64() * self.per_second.get();
        self.per_second.set(per_second as f64);
        self.tokens.set(tokens.min(per_second as f64));
    }

    /// Takes one upgrade's token; false when there is none.
    pub fn try_take(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled.replace(now));
        let per_second = self.per_second.get();
        let tokens = (self.tokens.get() + elapsed.as_secs_f64() * per_second).min(per_second.max(1.0));
        let admitted = tokens >= 1.0;
        self.tokens.set(if admitted { tokens - 1.0 } else { tokens });
        admitted
    }
}

const ACCEPTS_PER_TURN: u32 = 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_admits_a_burst_and_then_as_many_as_time_brings() {
        let start = Instant::now();
        let rate = UpgradeRate::new(10, start);
        assert_eq!((0..20).filter(|_| rate.try_take(start)).count(), 10);
        let later = start + Duration::from_millis(350);
        assert_eq!((0..20).filter(|_| rate.try_take(later)).count(), 3);
        assert_eq!(
            (0..20)
                .filter(|_| rate.try_take(later + Duration::from_secs(60)))
                .count(),
            10
        );
    }
}

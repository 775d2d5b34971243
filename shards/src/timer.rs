//! A task's deadline, kept in its shard's wheel.

use std::future::poll_fn;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, RawWakerVTable, Waker};
use std::time::{Duration, Instant};

use crate::reactor::Reactor;
use crate::wheel::Key;

/// One deadline that can be moved cheaply: moving it later costs a store, because the wheel's entry is only looked
/// at when it comes due. Dropping it cancels it.
#[derive(Debug)]
pub struct Timer {
    reactor: Rc<Reactor>,
    deadline: Option<Instant>,
    /// The deadline's.
    tick: u64,
    entry: Option<(Key, u64)>,
    /// Whom the entry wakes: two wakers that are the same here wake the same task.
    woken: (*const (), *const RawWakerVTable),
}

impl Timer {
    /// A timer without a deadline.
    #[must_use]
    pub fn new(reactor: &Rc<Reactor>) -> Self {
        Self {
            reactor: reactor.clone(),
            deadline: None,
            tick: 0,
            entry: None,
            woken: (ptr::null(), ptr::null()),
        }
    }

    /// Moves the deadline; `None` removes it. Once the task has called [`poll_expired`](Self::poll_expired) this may
    /// be done from elsewhere on the shard: the task is woken in time.
    pub fn set(&mut self, deadline: Option<Instant>) {
        if self.deadline == deadline {
            return;
        }
        self.deadline = deadline;
        let Some(deadline) = deadline else { return };
        let tick = self.reactor.tick_at(deadline);
        self.tick = tick;
        if let Some((key, scheduled)) = self.entry
            && tick < scheduled
        {
            self.entry = self.reactor.move_timer(key, tick).map(|key| (key, tick));
        }
    }

    /// The deadline, if there is one.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Ready once the deadline has passed (then it is taken out). The waker is kept until then.
    pub fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            // The waker stays in the wheel, so that a deadline set from elsewhere finds the task.
            self.schedule(self.reactor.tick_at(self.reactor.now() + PARKED), context.waker());
            return Poll::Pending;
        };
        if self.reactor.now() >= deadline {
            self.deadline = None;
            return Poll::Ready(());
        }
        self.schedule(self.tick, context.waker());
        Poll::Pending
    }

    fn schedule(&mut self, tick: u64, waker: &Waker) {
        let woken = (waker.data(), ptr::from_ref(waker.vtable()));
        let is_woken = std::mem::replace(&mut self.woken, woken) == woken;
        if let Some((key, scheduled)) = self.entry {
            // An entry that is due earlier stays: when it fires, the task asks again. That it has not fired yet is known
            // without a look at it, which would be one more line of memory for every message.
            let is_set = is_woken && scheduled > self.reactor.timers_fired();
            if scheduled <= tick && (is_set || self.reactor.keep_timer(key, waker)) {
                return;
            }
            self.reactor.remove_timer(key);
        }
        self.entry = Some((self.reactor.insert_timer(tick, waker.clone()), tick));
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some((key, _)) = self.entry {
            self.reactor.remove_timer(key);
        }
    }
}

/// How far ahead a timer without a deadline keeps its task's waker. It then only asks again.
const PARKED: Duration = Duration::from_secs(3600);

/// Waits for `duration` (rounded up to the wheel's tick).
pub async fn sleep(reactor: &Rc<Reactor>, duration: Duration) {
    let mut timer = Timer::new(reactor);
    timer.set(Some(reactor.now() + duration));
    poll_fn(|context| timer.poll_expired(context)).await;
}

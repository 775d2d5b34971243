//! Lets a task wait for a deadline, which its shard's wheel keeps.

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
    entry: Option<Scheduled>,
    /// Whom the entry wakes: two wakers that are the same here wake the same task.
    woken: (*const (), *const RawWakerVTable),
}

/// A place in the wheel.
#[derive(Clone, Copy, Debug)]
struct Scheduled {
    key: Key,
    tick: u64,
    /// What the tick was made of: deadlines are compared without making ticks of them.
    at: Instant,
}

impl Timer {
    /// A timer without a deadline.
    #[must_use]
    pub fn new(reactor: &Rc<Reactor>) -> Self {
        Self {
            reactor: reactor.clone(),
            deadline: None,
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
        if let (Some(at), Some(entry)) = (deadline, self.entry)
            && at < entry.at
        {
            let tick = self.reactor.timers.tick_at(at);
            let key = self.reactor.timers.move_to(entry.key, tick);
            self.entry = key.map(|key| Scheduled { key, tick, at });
        }
    }

    /// Ready once the deadline has passed (then it is taken out). The waker is kept until then.
    pub fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            // The waker stays in the wheel, so that a deadline set from elsewhere finds the task.
            self.schedule(self.reactor.now() + PARKED, context.waker());
            return Poll::Pending;
        };
        if self.reactor.now() >= deadline {
            self.deadline = None;
            return Poll::Ready(());
        }
        self.schedule(deadline, context.waker());
        Poll::Pending
    }

    fn schedule(&mut self, at: Instant, waker: &Waker) {
        let woken = (waker.data(), ptr::from_ref(waker.vtable()));
        let is_woken = std::mem::replace(&mut self.woken, woken) == woken;
        if let Some(entry) = self.entry {
            // An entry that is due earlier stays: when it fires, the task asks again. That it has not fired yet is
            // known without a look at it, which would be one more line of memory for every message.
            let is_set = is_woken && entry.tick > self.reactor.timers.fired();
            if entry.at <= at && (is_set || self.reactor.timers.keep(entry.key, waker)) {
                return;
            }
            self.reactor.timers.remove(entry.key);
        }
        let tick = self.reactor.timers.tick_at(at);
        let key = self.reactor.timers.insert(tick, waker.clone());
        self.entry = Some(Scheduled { key, tick, at });
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            self.reactor.timers.remove(entry.key);
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

//! A task's deadline, kept in its shard's wheel.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::reactor::Reactor;
use crate::wheel::Key;

/// One deadline that can be moved cheaply: moving it later costs a store, because the wheel's entry is only looked
/// at when it comes due. Dropping it cancels it.
#[derive(Debug)]
pub struct Timer {
    reactor: Rc<Reactor>,
    deadline: Option<Instant>,
    entry: Option<(Key, u64)>,
}

impl Timer {
    /// A timer without a deadline.
    #[must_use]
    pub fn new(reactor: &Rc<Reactor>) -> Self {
        Self {
            reactor: reactor.clone(),
            deadline: None,
            entry: None,
        }
    }

    /// Moves the deadline; `None` removes it. Takes effect at the next [`poll_expired`](Self::poll_expired), which
    /// the task is to call after it.
    pub fn set(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Ready once the deadline has passed (then it is taken out). The waker is kept until then.
    pub fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        if self.reactor.now() >= deadline {
            self.deadline = None;
            return Poll::Ready(());
        }
        let tick = self.reactor.tick_at(deadline);
        self.schedule(tick, context.waker());
        Poll::Pending
    }

    fn schedule(&mut self, tick: u64, waker: &Waker) {
        if let Some((key, scheduled)) = self.entry {
            // An entry that is due earlier stays: when it fires, the task asks again.
            if scheduled <= tick && self.reactor.keep_timer(key, waker) {
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

/// Waits for `duration` (rounded up to the wheel's tick).
pub async fn sleep(reactor: &Rc<Reactor>, duration: Duration) {
    let mut timer = Timer::new(reactor);
    timer.set(Some(reactor.now() + duration));
    poll_fn(|context| timer.poll_expired(context)).await;
}

//! Watches the time for the balance, and for this shard's part in lending places.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use shards::Timer;

use super::Pool;
use crate::backend::exchange::Exchange;
use protocol::balance::Balance;

/// The next deadline, and the task that waits for it.
#[derive(Default)]
pub(super) struct Watcher {
    waker: Cell<Option<Waker>>,
    watched: Cell<Option<Instant>>,
}

impl<E: Exchange> Pool<E> {
    /// Lets the balance and the keepers of this shard act when it is time.
    pub(super) async fn watch(self: Rc<Self>) {
        let mut timer = Timer::new(&self.reactor);
        loop {
            poll_fn(|context| {
                self.watcher.waker.set(Some(context.waker().clone()));
                timer.set(self.watcher.watched.get());
                timer.poll_expired(context)
            })
            .await;
            self.watcher.watched.set(None);
            self.handle(Balance::handle_deadline);
            for (places, grant) in self.lending.poll(self.reactor.now()) {
                self.handle_grant(places, grant);
            }
            self.watcher.watch(self.lending.next_deadline());
        }
    }
}

impl Watcher {
    /// Wakes the task earlier, if this comes before what it waits for.
    pub(super) fn watch(&self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if self.watched.get().is_none_or(|watched| deadline < watched) {
            self.watched.set(Some(deadline));
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}

//! Shares out a shard's passes among the connections of the ingress: so much is done for all of them together in one
//! pass, whoever asks for more waits for the next one, first come, first served.
//!
//! So whoever pipelines requests, or sends a body in the smallest chunks, leaves the shard to its clients after each
//! slice, and so do a thousand of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// What is left of this pass, and who waits for the next one.
#[derive(Debug)]
pub(super) struct Turns {
    left: Cell<u32>,
    waiting: RefCell<VecDeque<(u32, Waker)>>,
    /// How many have ever begun to wait, and how many of them have had their turn since.
    begun: Cell<u64>,
    served: Cell<u64>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            left: Cell::new(PASS),
            waiting: RefCell::default(),
            begun: Cell::new(0),
            served: Cell::new(0),
        }
    }
}

impl Turns {
    /// Waits until so much more may be done; see [`PASS`] for the unit. Who asks for more than a pass has gets it alone.
    pub(super) async fn take(&self, cost: u32) {
        if self.left.get() > 0 && self.waiting.borrow().is_empty() {
            self.left.set(self.left.get().saturating_sub(cost));
            return;
        }
        let number = self.begun.replace(self.begun.get() + 1);
        let mut is_queued = false;
        poll_fn(|context| {
            if self.served.get() > number {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut is_queued, true) {
                self.waiting.borrow_mut().push_back((cost, context.waker().clone()));
            }
            Poll::Pending
        })
        .await;
    }

    /// The pass is over, another one begins. True when somebody goes on in it.
    pub(super) fn end_pass(&self) -> bool {
        self.left.set(PASS);
        if self.waiting.borrow().is_empty() {
            return false;
        }
        while self.left.get() > 0 {
            let Some((cost, waker)) = self.waiting.borrow_mut().pop_front() else {
                break;
            };
            self.left.set(self.left.get().saturating_sub(cost));
            self.served.set(self.served.get() + 1);
            waker.wake();
        }
        true
    }
}

/// What is done in one pass, in the cost of a small request: some microseconds each.
const PASS: u32 = 128;

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn each_pass_has_its_share_and_who_waits_comes_first() {
        let turns = Turns::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |future: &mut std::pin::Pin<&mut _>| {
            let future: &mut std::pin::Pin<&mut dyn Future<Output = ()>> = future;
            future.as_mut().poll(&mut context).is_ready()
        };
        for _ in 0..PASS - 1 {
            let mut one = pin!(turns.take(1)) as std::pin::Pin<&mut dyn Future<Output = ()>>;
            assert!(poll(&mut one));
        }
        // What is left is enough to begin a larger one.
        let mut large = pin!(turns.take(2 * PASS)) as std::pin::Pin<&mut dyn Future<Output = ()>>;
        assert!(poll(&mut large));
        let mut first = pin!(turns.take(PASS)) as std::pin::Pin<&mut dyn Future<Output = ()>>;
        let mut second = pin!(turns.take(1)) as std::pin::Pin<&mut dyn Future<Output = ()>>;
        assert!(!poll(&mut first) && !poll(&mut second));
        assert!(turns.end_pass());
        assert!(poll(&mut first) && !poll(&mut second));
        // One that comes now is behind the one that waits.
        let mut third = pin!(turns.take(1)) as std::pin::Pin<&mut dyn Future<Output = ()>>;
        assert!(!poll(&mut third));
        assert!(turns.end_pass());
        assert!(poll(&mut second) && poll(&mut third));
        assert!(!turns.end_pass(), "nobody waits");
    }
}

//! Tasks of a shard. Every one is started here, so that the reactor can tell whether anybody ran.
#![allow(clippy::disallowed_methods)]

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

thread_local! {
    static POLLS: Cell<u64> = const { Cell::new(0) };
}

/// Starts a task on the calling shard. It runs until it ends; its owner learns of the end through what they share.
///
/// It does not run within this call: the executor would poll it right here, in the midst of its maker's borrows.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(async move {
        yield_now().await;
        let mut future = pin!(future);
        std::future::poll_fn(move |context| {
            POLLS.set(POLLS.get().wrapping_add(1));
            future.as_mut().poll(context)
        })
        .await;
    })
    .detach();
}

/// Lets every other runnable task of the shard go first.
pub fn yield_now() -> impl Future<Output = ()> {
    Yield(false)
}

/// How often tasks were polled on this shard; differs when anybody ran in between.
pub(crate) fn polls() -> u64 {
    POLLS.get()
}

struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

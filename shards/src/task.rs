//! Runs the tasks of a shard. Every one is started here, so that the reactor can tell whether anybody ran.
//!
//! A thread that has `Tasks` keeps a queue of its own, which the reactor's loop runs; any other thread's tasks are
//! glommio's. A task is one allocation, which holds its future once.
#![allow(clippy::disallowed_methods)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_task::Runnable;
use slab::Slab;

use crate::turn;

thread_local! {
    static POLLS: Cell<u64> = const { Cell::new(0) };
    static QUEUE: RefCell<Option<Queue>> = const { RefCell::new(None) };
}

/// The tasks of a shard that runs them itself.
struct Queue {
    /// In the order in which they were woken.
    ready: VecDeque<Runnable>,
    /// Of every task that has not ended, so that all of them can be ended.
    tasks: Slab<Waker>,
}

/// Starts a task on the calling shard. It runs until it ends; its owner learns of the end through what they share.
///
/// It does not run within this call, in the midst of its maker's borrows.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    let key = QUEUE.with_borrow_mut(|queue| queue.as_mut().map(|queue| queue.tasks.insert(Waker::noop().clone())));
    let Some(key) = key else {
        glommio::spawn_local(Counted { is_new: true, future }).detach();
        return;
    };
    let member = Member { key, future };
    let (runnable, task) = async_task::spawn_local(member, schedule);
    task.detach();
    with_queue(|queue| queue.tasks[key] = runnable.waker());
    runnable.schedule();
}

/// Lets every other runnable task of the shard go first.
pub fn yield_now() -> impl Future<Output = ()> {
    Yield(false)
}

/// How often tasks were polled on this shard; differs when anybody ran in between. Counted where glommio runs them.
pub(crate) fn polls() -> u64 {
    POLLS.get()
}

/// As long as it lives, the calling thread runs its tasks itself. All that have not ended end with it.
pub(crate) struct Tasks(());

impl Tasks {
    pub(crate) fn enter() -> Self {
        QUEUE.replace(Some(Queue {
            ready: VecDeque::new(),
            tasks: Slab::new(),
        }));
        Self(())
    }
}

/// Runs every task that is ready now, in turn; false when there is none. Those that they wake, and they themselves, come next
/// time.
pub(crate) fn run_ready() -> bool {
    let count = with_queue(|queue| queue.ready.len());
    for _ in 0..count {
        let runnable = with_queue(|queue| queue.ready.pop_front());
        runnable.expect("only this function takes from it").run();
    }
    count > 0
}

/// Whether a task is ready.
pub(crate) fn any_ready() -> bool {
    with_queue(|queue| !queue.ready.is_empty())
}

impl Drop for Tasks {
    fn drop(&mut self) {
        turn::forget_all();
        // What a task drops may wake or start others.
        loop {
            let wakers: Vec<Waker> = with_queue(|queue| queue.tasks.iter().map(|(_, waker)| waker.clone()).collect());
            wakers.iter().for_each(Waker::wake_by_ref);
            let ready = with_queue(|queue| std::mem::take(&mut queue.ready));
            if ready.is_empty() {
                break;
            }
            drop(ready);
        }
        QUEUE.take();
    }
}

fn schedule(runnable: Runnable) {
    with_queue(|queue| queue.ready.push_back(runnable));
}

fn with_queue<T>(call: impl FnOnce(&mut Queue) -> T) -> T {
    QUEUE.with_borrow_mut(|queue| {
        call(
            queue
                .as_mut()
                .expect("a task is woken on its own shard, while it lives"),
        )
    })
}

pin_project_lite::pin_project! {
    /// A task of the queue: takes itself out of the list of all when it ends.
    struct Member<F> {
        key: usize,
        #[pin]
        future: F,
    }

    impl<F> PinnedDrop for Member<F> {
        fn drop(this: Pin<&mut Self>) {
            let waker = with_queue(|queue| queue.tasks.remove(this.key));
            drop(waker);
        }
    }
}

impl<F: Future<Output = ()>> Future for Member<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let future = self.project().future;
        turn::take(context, |context| future.poll(context))
    }
}

pin_project_lite::pin_project! {
    /// A task of glommio's: counts how often it runs, and lets the call that made it return before it begins.
    struct Counted<F> {
        is_new: bool,
        #[pin]
        future: F,
    }
}

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // glommio polls it within the call that makes it.
        if std::mem::take(this.is_new) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        POLLS.set(POLLS.get().wrapping_add(1));
        turn::take(context, |context| this.future.poll(context))
    }
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

//! Runs the tasks of simulated shards: all on this thread, in an order that the dice choose now and then.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;

use super::random::Random;

thread_local! {
    static TASKS: RefCell<Slab<Task>> = const { RefCell::new(Slab::new()) };
    static RUNNABLE: RefCell<VecDeque<usize>> = const { RefCell::new(VecDeque::new()) };
}

struct Task {
    /// `None` while it runs.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    wakes: Arc<Wakes>,
}

struct Wakes {
    key: usize,
    runnable: AtomicBool,
}

/// As the real one: starts a task; it does not run within this call.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    TASKS.with_borrow_mut(|tasks| {
        let entry = tasks.vacant_entry();
        let wakes = Arc::new(Wakes {
            key: entry.key(),
            runnable: AtomicBool::new(false),
        });
        wakes.wake_by_ref();
        entry.insert(Task {
            future: Some(Box::pin(future)),
            wakes,
        });
    });
}

/// Lets every other runnable task go first.
pub fn yield_now() -> impl Future<Output = ()> {
    let mut yielded = false;
    std::future::poll_fn(move |context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Runs one runnable task, mostly the one that waits longest; false when there is none.
pub(super) fn run_one(random: &mut Random) -> bool {
    let key = RUNNABLE.with_borrow_mut(|runnable| {
        if runnable.len() > 1 && random.percent(10) {
            let early = random.below(runnable.len());
            runnable.rotate_left(early);
        }
        runnable.pop_front()
    });
    let Some(key) = key else { return false };
    let taken = TASKS.with_borrow_mut(|tasks| {
        let task = tasks.get_mut(key)?;
        Some((task.future.take()?, task.wakes.clone()))
    });
    // One that has ended may still be woken.
    let Some((mut future, wakes)) = taken else { return true };
    wakes.runnable.store(false, Ordering::Relaxed);
    let waker = Waker::from(wakes);
    match future.as_mut().poll(&mut Context::from_waker(&waker)) {
        Poll::Pending => TASKS.with_borrow_mut(|tasks| tasks[key].future = Some(future)),
        Poll::Ready(()) => drop(TASKS.with_borrow_mut(|tasks| tasks.remove(key))),
    }
    true
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.runnable.swap(true, Ordering::Relaxed) {
            RUNNABLE.with_borrow_mut(|runnable| runnable.push_back(self.key));
        }
    }
}

/// Ends all tasks.
pub(super) fn clear() {
    // What a task drops may wake or start others.
    loop {
        let tasks = TASKS.take();
        RUNNABLE.take();
        if tasks.is_empty() {
            return;
        }
        drop(tasks);
    }
}

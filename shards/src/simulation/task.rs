//! Runs the tasks of simulated shards: all on this thread, each shard's in passes, in an order that the dice choose now and then.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;

use super::random::Random;
use crate::turn;

thread_local! {
    /// Bytes that sockets have taken or given, and calls, since the task that runs began its turn.
    static TURN: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    static TURNS: Cell<u64> = const { Cell::new(0) };
    static TASKS: RefCell<Slab<Task>> = const { RefCell::new(Slab::new()) };
    /// By shard.
    static RUNNABLE: RefCell<Vec<VecDeque<usize>>> = const { RefCell::new(Vec::new()) };
    /// Whose code runs now.
    static SHARD: Cell<usize> = const { Cell::new(0) };
    /// Bytes that the sockets of a shard have taken or given in this pass of it.
    static PASS: Cell<usize> = const { Cell::new(0) };
}

struct Task {
    /// `None` while it runs.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    wakes: Arc<Wakes>,
}

struct Wakes {
    shard: usize,
    key: usize,
    runnable: AtomicBool,
}

/// As the real one: starts a task; it does not run within this call.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    TASKS.with_borrow_mut(|tasks| {
        let entry = tasks.vacant_entry();
        let wakes = Arc::new(Wakes {
            shard: SHARD.get(),
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

/// From now on it is this shard's code that runs, in a pass that begins.
pub(super) fn enter(shard: usize) {
    SHARD.set(shard);
    PASS.set(0);
    TURN.set((0, 0));
}

/// Bytes that the sockets of the shard that runs have taken or given since its pass began.
pub(super) fn pass_len() -> usize {
    PASS.get()
}

/// As the real one: runs every task of the shard that is ready now, once; how many that were. Those that they wake come next time.
pub(super) fn run_ready(random: &mut Random) -> usize {
    let shard = SHARD.get();
    let count = RUNNABLE.with_borrow(|runnable| runnable.get(shard).map_or(0, VecDeque::len));
    for left in (1..=count).rev() {
        let key = RUNNABLE.with_borrow_mut(|runnable| {
            let early = if random.percent(10) { random.below(left) } else { 0 };
            runnable[shard].remove(early)
        });
        run(key.expect("only this function takes from it"));
    }
    count
}

fn run(key: usize) {
    let taken = TASKS.with_borrow_mut(|tasks| {
        let task = tasks.get_mut(key).filter(|task| task.wakes.shard == SHARD.get())?;
        Some((task.future.take()?, task.wakes.clone()))
    });
    // One that has ended may still be woken.
    let Some((mut future, wakes)) = taken else { return };
    wakes.runnable.store(false, Ordering::Relaxed);
    let waker = Waker::from(wakes);
    TURN.set((0, 0));
    TURNS.set(TURNS.get() + 1);
    let polled = turn::take(&mut Context::from_waker(&waker), |context| {
        future.as_mut().poll(context)
    });
    // What is done at the end of a pass is nobody's turn.
    TURN.set((0, 0));
    match polled {
        Poll::Pending => TASKS.with_borrow_mut(|tasks| tasks[key].future = Some(future)),
        Poll::Ready(()) => drop(TASKS.with_borrow_mut(|tasks| tasks.remove(key))),
    }
}

/// How many turns tasks have had.
pub(super) fn turns() -> u64 {
    TURNS.get()
}

/// A socket has taken or given `len` bytes.
///
/// # Panics
/// A task does not let others have their turn.
pub(super) fn count_call(len: usize) {
    let (bytes, calls) = TURN.get();
    let (bytes, calls) = (bytes + len, calls + 1);
    TURN.set((bytes, calls));
    PASS.set(PASS.get() + len);
    assert!(
        bytes <= TURN_LEN_MAX && calls <= TURN_CALLS_MAX,
        "{bytes} bytes by {calls} calls in one turn"
    );
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.runnable.swap(true, Ordering::Relaxed) {
            RUNNABLE.with_borrow_mut(|runnable| {
                if runnable.len() <= self.shard {
                    runnable.resize_with(self.shard + 1, VecDeque::new);
                }
                runnable[self.shard].push_back(self.key);
            });
        }
    }
}

/// Ends all tasks.
pub(super) fn clear() {
    turn::forget_all();
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

/// What a task may do in a turn, in bytes and in calls of its sockets: what it takes, the last of it in one call; and, in a sparse
/// pass, one call more with what leaves at once because of it.
const TURN_LEN_MAX: usize = 3 * turn::TURN_LEN;
const TURN_CALLS_MAX: usize = 128;

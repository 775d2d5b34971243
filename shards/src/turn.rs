//! Bounds what a task does before others have their turn.
//!
//! Each poll of a task is a turn. The bytes that its sockets take and give are counted there, in the socket, whoever wrote
//! the task; what costs more than its bytes is counted with [`spend`]. Who has used up a turn is put off: its sockets are not
//! ready, whatever wakes it, until it is resumed, and each pass of the shard resumes one such task. So a pass is not longer
//! for many who always have more than for one. What is done outside of tasks, at the end of a pass, is nobody's turn and not
//! bounded here.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};

thread_local! {
    /// `None` outside of tasks.
    static SPENT: Cell<Option<usize>> = const { Cell::new(None) };
    /// How many tasks are put off: mostly none, which is to be seen without a look at the list.
    static PUT_OFF_COUNT: Cell<usize> = const { Cell::new(0) };
    static PUT_OFF: RefCell<PutOff> = const {
        RefCell::new(PutOff {
            wakers: BTreeMap::new(),
            order: VecDeque::new(),
        })
    };
}

/// Tasks that have used up a turn and have had no other since.
#[derive(Default)]
struct PutOff {
    /// By the address of the task.
    wakers: BTreeMap<usize, Waker>,
    /// In the order in which they are resumed; also tasks that have ended.
    order: VecDeque<usize>,
}

impl PutOff {
    fn remove(&mut self, task: usize) -> Option<Waker> {
        let waker = self.wakers.remove(&task);
        PUT_OFF_COUNT.set(self.wakers.len());
        waker
    }
}

/// Counts work that costs as much as receiving `len` bytes.
pub fn spend(len: usize) {
    SPENT.set(SPENT.get().map(|spent| spent.saturating_add(len)));
}

/// True when so much was done in this turn that what it answers had better be gathered.
#[must_use]
pub fn is_long() -> bool {
    SPENT.get().is_some_and(|spent| spent > LONG_LEN)
}

/// True when the task of this waker may receive and send more. Else it is woken when it may.
#[must_use]
pub fn may_go_on(waker: &Waker) -> bool {
    is_within(TURN_LEN, waker)
}

/// True when the task of this waker may do more of what it has received: a little longer than it may receive, so that a turn's
/// bytes need not be kept for the next one. Else it is woken when it may.
#[must_use]
pub fn may_finish(waker: &Waker) -> bool {
    is_within(TURN_LEN + OVERTIME_LEN, waker)
}

#[inline]
fn is_within(len: usize, waker: &Waker) -> bool {
    let Some(spent) = SPENT.get() else { return true };
    let is_over = spent >= len;
    !is_over && PUT_OFF_COUNT.get() == 0 || may_be_within(is_over, waker)
}

/// As [`is_within`], where somebody's turn is over.
#[cold]
fn may_be_within(is_over: bool, waker: &Waker) -> bool {
    PUT_OFF.with_borrow_mut(|put_off| {
        let task = waker.data().addr();
        let is_put_off = put_off.wakers.contains_key(&task);
        if is_over && !is_put_off {
            put_off.wakers.insert(task, waker.clone());
            put_off.order.push_back(task);
            PUT_OFF_COUNT.set(put_off.wakers.len());
        }
        !is_over && !is_put_off
    })
}

/// Polls the task of `context`: its turn.
pub(crate) fn take(context: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<()>) -> Poll<()> {
    SPENT.set(Some(0));
    let result = poll(context);
    SPENT.set(None);
    if result.is_ready() && PUT_OFF_COUNT.get() > 0 {
        let ended = context.waker().data().addr();
        drop(PUT_OFF.with_borrow_mut(|put_off| put_off.remove(ended)));
    }
    result
}

/// Ready when the task may go on.
#[inline]
pub(crate) fn poll_left(context: &Context<'_>) -> Poll<()> {
    if may_go_on(context.waker()) {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}

/// Lets the task that was put off first have its next turn; false when there is none.
pub(crate) fn resume_one() -> bool {
    if PUT_OFF_COUNT.get() == 0 {
        return false;
    }
    let next = PUT_OFF.with_borrow_mut(|put_off| {
        while let Some(task) = put_off.order.pop_front() {
            if let Some(waker) = put_off.remove(task) {
                return Some(waker);
            }
        }
        None
    });
    next.map(Waker::wake).is_some()
}

/// Forgets all that were put off: their shard has ended.
pub(crate) fn forget_all() {
    PUT_OFF_COUNT.set(0);
    drop(PUT_OFF.take());
}

/// What a task may receive and send in one turn, in bytes; no single call takes or gives more.
pub const TURN_LEN: usize = 64 * 1024;
/// What may be done beyond that of what was received.
const OVERTIME_LEN: usize = TURN_LEN / 4;
/// From here on a turn is long.
const LONG_LEN: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Task {
        wakes: AtomicUsize,
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Task {
        /// Has a turn in which it spends `len`, and tells whether it may then go on.
        fn spends(self: &Arc<Self>, len: usize) -> bool {
            let waker = Waker::from(self.clone());
            let mut may_go_on = false;
            let _ = take(&mut Context::from_waker(&waker), |context| {
                spend(len);
                may_go_on = poll_left(context).is_ready();
                Poll::Pending
            });
            may_go_on
        }

        fn wakes(&self) -> usize {
            self.wakes.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_turn_is_over_when_its_bytes_are_spent_and_the_next_comes_when_it_is_resumed() {
        let task = Arc::new(Task::default());
        for round in 1..3 {
            assert!(task.spends(TURN_LEN - 1));
            assert!(!task.spends(TURN_LEN), "it is over");
            assert!(!task.spends(0), "whatever else wakes it");
            assert_eq!(task.wakes(), round - 1);
            assert!(resume_one());
            assert_eq!(task.wakes(), round);
            assert!(!resume_one());
        }
        spend(2 * TURN_LEN);
        assert!(may_go_on(Waker::noop()), "outside of tasks there are no turns");
    }

    #[test]
    fn what_was_received_may_be_finished_a_little_later_than_more_may_be_received() {
        let waker = Waker::from(Arc::new(Task::default()));
        let _ = take(&mut Context::from_waker(&waker), |context| {
            spend(TURN_LEN);
            assert!(may_finish(context.waker()) && !may_go_on(context.waker()));
            Poll::Ready(())
        });
        let _ = take(&mut Context::from_waker(&waker), |context| {
            spend(TURN_LEN + OVERTIME_LEN);
            assert!(!may_finish(context.waker()));
            Poll::Ready(())
        });
        assert!(!resume_one());
    }

    #[test]
    fn those_that_are_put_off_are_resumed_one_by_one_in_their_order() {
        let tasks: Vec<_> = (0..3).map(|_| Arc::new(Task::default())).collect();
        for task in &tasks {
            assert!(!task.spends(TURN_LEN));
        }
        for resumed in 1..=3 {
            assert!(resume_one());
            let woken: Vec<_> = tasks.iter().map(|task| task.wakes()).collect();
            let expected: Vec<_> = (0..3).map(|index| usize::from(index < resumed)).collect();
            assert_eq!(woken, expected);
        }
    }

    #[test]
    fn of_a_task_that_ends_nothing_is_kept() {
        let task = Arc::new(Task::default());
        assert!(!task.spends(TURN_LEN));
        let waker = Waker::from(task.clone());
        assert_eq!(Arc::strong_count(&task), 3);
        let _ = take(&mut Context::from_waker(&waker), |_| Poll::Ready(()));
        assert_eq!(Arc::strong_count(&task), 2);
        assert!(!resume_one());
        assert_eq!(task.wakes(), 0);
    }
}

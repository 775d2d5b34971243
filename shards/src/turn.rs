//! Bounds what a task does before others have their turn.
//!
//! Each poll of a task is a turn. The bytes that its sockets take and give are counted there, in the socket, whoever wrote
//! the task; what costs more than its bytes is counted with [`spend`]. When the turn is over its sockets are not ready, and
//! the task is woken for its next turn. What is done outside of tasks, at the end of a pass, is nobody's turn and not bounded here.

use std::cell::Cell;
use std::task::{Context, Poll};

thread_local! {
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Counts work that costs as much as receiving `len` bytes.
pub fn spend(len: usize) {
    LEFT.set(LEFT.get().saturating_sub(len));
}

/// True when others are to have their turn.
#[must_use]
pub fn is_over() -> bool {
    LEFT.get() == 0
}

/// Polls a task: its turn.
pub(crate) fn take<R>(poll: impl FnOnce() -> R) -> R {
    LEFT.set(TURN_LEN);
    let result = poll();
    LEFT.set(usize::MAX);
    result
}

/// Ready as long as the turn is not over; else the task is woken for its next one.
pub(crate) fn poll_left(context: &Context<'_>) -> Poll<()> {
    if is_over() {
        context.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(())
}

/// What a task may receive and send in one turn, in bytes; no single call takes or gives more.
pub const TURN_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_turn_is_over_when_its_bytes_are_spent_and_the_next_one_has_its_own() {
        let context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            take(|| {
                spend(TURN_LEN - 1);
                assert!(poll_left(&context).is_ready());
                spend(2);
                assert!(is_over() && poll_left(&context).is_pending());
            });
        }
        spend(2 * TURN_LEN);
        assert!(!is_over(), "outside of tasks there are no turns");
    }
}

//! Keeps the backend's verdict on a new connection for the handshake that waits for it.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use protocol::mapping::Admission;

/// The place where a handshake waits for the backend's word.
#[derive(Debug, Default)]
pub struct Verdict {
    answer: RefCell<Option<Admission>>,
    waker: RefCell<Option<Waker>>,
    is_abandoned: Cell<bool>,
}

impl Verdict {
    /// Waits for the backend's word; it always comes, at the latest at the request's deadline.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<Admission> {
        if let Some(answer) = self.answer.borrow_mut().take() {
            return Poll::Ready(answer);
        }
        *self.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// The client has gone: a question that the backend has not got yet is of no use.
    pub fn abandon(&self) {
        self.is_abandoned.set(true);
    }

    /// Whether the client has gone.
    pub fn is_abandoned(&self) -> bool {
        self.is_abandoned.get()
    }

    /// The backend's word has come.
    pub fn set(&self, admission: Admission) {
        *self.answer.borrow_mut() = Some(admission);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

//! Keeps the backend's verdict on a new connection for the handshake that waits for it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use protocol::mapping::Admission;

/// The place where a handshake waits for the backend's word.
#[derive(Debug, Default)]
pub struct Verdict {
    answer: RefCell<Option<Admission>>,
    waker: RefCell<Option<Waker>>,
}

impl Verdict {
    /// Waits for the backend's word; it always comes, at the latest at the request's deadline.
    pub async fn wait(&self) -> Admission {
        poll_fn(|context| {
            if let Some(answer) = self.answer.borrow_mut().take() {
                return Poll::Ready(answer);
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The backend's word has come.
    pub fn set(&self, admission: Admission) {
        *self.answer.borrow_mut() = Some(admission);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

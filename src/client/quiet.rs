//! Lists the clients that another process may take, each once, as they become quiet.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// See the module. No longer than there are clients.
pub(super) struct Quiet<C> {
    list: RefCell<VecDeque<Rc<C>>>,
    /// Who takes them.
    waker: RefCell<Option<Waker>>,
    /// Those that are let in from now on are to move, too.
    is_wanted: Cell<bool>,
}

impl<C> Default for Quiet<C> {
    fn default() -> Self {
        Self {
            list: RefCell::default(),
            waker: RefCell::default(),
            is_wanted: Cell::new(false),
        }
    }
}

impl<C> Quiet<C> {
    /// Whether clients are to move at all.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.get()
    }

    /// They are, or are not any more: then nobody is listed.
    pub(super) fn set_wanted(&self, is_wanted: bool) {
        self.is_wanted.set(is_wanted);
        if !is_wanted {
            self.list.take();
        }
    }

    /// One that is quiet and not listed.
    pub(super) fn extend(&self, connection: Option<Rc<C>>) {
        self.list.borrow_mut().extend(connection);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next one; it may have become busy again.
    pub(super) fn poll_next(&self, context: &Context<'_>) -> Poll<Rc<C>> {
        match self.list.borrow_mut().pop_front() {
            Some(connection) => Poll::Ready(connection),
            None => {
                self.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

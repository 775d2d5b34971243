//! Tells tasks that wait for something else that the shard drains.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use slab::Slab;

/// Is triggered, and then wakes every task that watches it.
#[derive(Debug, Default)]
pub struct DrainSignal {
    triggered: Cell<Option<Instant>>,
    watchers: RefCell<Slab<Option<Waker>>>,
}

/// One task's watch on the signal, until it is dropped.
#[derive(Debug)]
pub struct DrainWatch {
    signal: Rc<DrainSignal>,
    key: usize,
}

impl DrainSignal {
    /// Triggers the signal: wakes every task that watches it.
    pub fn trigger(&self, now: Instant) {
        self.set(Some(now));
    }

    /// It is as if it had not been triggered, and those that watch it look again.
    pub fn revoke(&self) {
        self.set(None);
    }

    fn set(&self, triggered: Option<Instant>) {
        self.triggered.set(triggered);
        for (_, waker) in self.watchers.borrow_mut().iter_mut() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether the signal was triggered.
    pub fn is_triggered(&self) -> bool {
        self.triggered.get().is_some()
    }

    /// Since when.
    pub fn since(&self) -> Option<Instant> {
        self.triggered.get()
    }

    /// A watch for one task.
    pub fn watch(self: &Rc<Self>) -> DrainWatch {
        DrainWatch {
            signal: self.clone(),
            key: self.watchers.borrow_mut().insert(None),
        }
    }
}

impl DrainWatch {
    /// Ready once the signal was triggered. The task is woken whenever that changes.
    pub fn poll_triggered(&self, context: &mut Context<'_>) -> Poll<()> {
        self.signal.watchers.borrow_mut()[self.key] = Some(context.waker().clone());
        match self.signal.is_triggered() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for DrainWatch {
    fn drop(&mut self) {
        self.signal.watchers.borrow_mut().remove(self.key);
    }
}

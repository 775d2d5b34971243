//! Remembers what an edge-triggered socket can do, and who is woken for it.
//!
//! An event comes once. A bit that it sets stays until a call says that there is nothing more, and is a guess until then: the
//! event may be late, or of what was read before. One task at a time waits, for whatever it is. The sockets of the kernel and
//! those of the simulation have the same.

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;

pub(crate) const READABLE: u8 = 1;
pub(crate) const WRITABLE: u8 = 2;
/// The peer has closed its side, or the connection is broken. Sticky: a FIN whose edge came with the data is not reported again.
pub(crate) const CLOSED: u8 = 4;
/// The connection is broken. Sticky.
pub(crate) const BROKEN: u8 = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Readiness {
    ready: Cell<u8>,
    /// What the task waits for: READABLE, WRITABLE.
    awaited: Cell<u8>,
    /// The task. Kept from one wait to the next: it is mostly the same.
    waker: RefCell<Waker>,
}

impl Readiness {
    /// New sockets start ready: the first call finds out, and mostly there is something.
    pub(crate) fn new() -> Self {
        Self {
            ready: Cell::new(READABLE | WRITABLE),
            awaited: Cell::new(0),
            waker: RefCell::new(Waker::noop().clone()),
        }
    }

    /// True when the peer has closed its side or the connection is broken; data may still be waiting.
    pub(crate) fn peer_closed(&self) -> bool {
        self.ready.get() & CLOSED != 0
    }

    /// True when nothing can be sent or received any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.ready.get() & BROKEN != 0
    }

    /// The task is woken when there may be something to read, or the end has come.
    pub(crate) fn await_readable(&self, context: &Context<'_>) {
        self.remember(READABLE, context.waker());
    }

    /// Runs `call` (a receiving system call for at most `capacity` bytes) if the socket may be readable.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        capacity: usize,
        call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match self.try_read(capacity, call) {
            Some(result) => Poll::Ready(result),
            None => {
                self.remember(READABLE, context.waker());
                Poll::Pending
            }
        }
    }

    /// Ready when the socket may be readable.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.ready.get() & READABLE != 0 {
            return Poll::Ready(());
        }
        self.remember(READABLE, context.waker());
        Poll::Pending
    }

    /// Like [`poll_read`](Self::poll_read) for a sending call.
    pub(crate) fn poll_write(
        &self,
        context: &mut Context<'_>,
        call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match self.try_write(call) {
            Some(result) => Poll::Ready(result),
            None => {
                self.remember(WRITABLE, context.waker());
                Poll::Pending
            }
        }
    }

    /// Ready when the CLOSED bit is set.
    pub(crate) fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.peer_closed() {
            return Poll::Ready(());
        }
        self.remember(READABLE, context.waker());
        Poll::Pending
    }

    /// `None`: not ready now.
    pub(crate) fn try_read(
        &self,
        capacity: usize,
        call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let result = self.try_call(READABLE, call)?;
        if let Ok(len) = result
            && len < capacity
            && len > 0
            && !self.peer_closed()
        {
            // A short read took everything; the next byte brings an edge. Saves the call that would say so.
            self.ready.set(self.ready.get() & !READABLE);
        }
        Some(result)
    }

    pub(crate) fn try_write(&self, call: impl FnMut() -> rustix::io::Result<usize>) -> Option<io::Result<usize>> {
        self.try_call(WRITABLE, call)
    }

    fn try_call(
        &self,
        direction: u8,
        mut call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        while self.ready.get() & direction != 0 {
            match call() {
                Ok(len) => return Some(Ok(len)),
                Err(Errno::AGAIN) => self.ready.set(self.ready.get() & !direction),
                Err(Errno::INTR) => {}
                Err(error) => return Some(Err(error.into())),
            }
        }
        None
    }

    /// An event has told this much.
    pub(crate) fn handle_event(&self, seen: u8) {
        let mut fresh = seen;
        if seen & (CLOSED | BROKEN) != 0 {
            fresh |= CLOSED | READABLE;
        }
        if seen & BROKEN != 0 {
            fresh |= WRITABLE;
        }
        self.ready.set(self.ready.get() | fresh);
        let awaited = self.awaited.get();
        if awaited & fresh != 0 {
            self.awaited.set(awaited & !fresh);
            self.waker.borrow().wake_by_ref();
        }
    }

    fn remember(&self, direction: u8, waker: &Waker) {
        self.awaited.set(self.awaited.get() | direction);
        self.waker.borrow_mut().clone_from(waker);
    }
}

/// What only the kernel's sockets need.
#[cfg(not(simulation))]
impl Readiness {
    /// Ready when the socket was reported writable (for a connect in progress).
    pub(crate) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.ready.get() & (WRITABLE | CLOSED) != 0 {
            return Poll::Ready(());
        }
        self.remember(WRITABLE, context.waker());
        Poll::Pending
    }

    pub(crate) fn set_readable(&self) {
        self.ready.set(self.ready.get() | READABLE);
    }

    pub(crate) fn clear_writable(&self) {
        self.ready.set(self.ready.get() & !WRITABLE);
    }
}

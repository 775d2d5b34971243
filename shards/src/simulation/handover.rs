//! Moves sockets between simulated shards.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::reactor::Reactor;
use crate::parcel::{BYTES_MAX, Lost, Parcel, Passed, WAITING_MAX};

/// What is on its way to one shard.
#[derive(Debug, Default)]
pub(super) struct Way {
    parcels: RefCell<VecDeque<Parcel>>,
    receiver: RefCell<Option<Waker>>,
}

/// A shard's way to hand sockets to the others.
#[derive(Debug)]
pub struct Handover(pub(super) Rc<Vec<Way>>);

/// Where a shard's parcels arrive.
#[derive(Debug)]
pub struct Arrivals {
    ways: Rc<Vec<Way>>,
    index: usize,
    reactor: Rc<Reactor>,
}

impl Handover {
    /// Sends `parcel` to shard `to`.
    ///
    /// # Errors
    /// The parcel comes back when [`WAITING_MAX`] wait for that shard already.
    pub fn try_send(&self, to: usize, parcel: Parcel) -> Result<(), Parcel> {
        assert!(
            parcel.bytes.len() <= BYTES_MAX,
            "the user bounds what goes with a socket"
        );
        let way = &self.0[to];
        if way.parcels.borrow().len() == WAITING_MAX {
            return Err(parcel);
        }
        way.parcels.borrow_mut().push_back(parcel);
        if let Some(waker) = way.receiver.take() {
            waker.wake();
        }
        Ok(())
    }

    /// There is nobody.
    ///
    /// # Errors
    /// Always.
    pub fn try_send_outside(&self, parcel: Parcel) -> Result<(), Parcel> {
        Err(parcel)
    }
}

/// The ordinary threads, which a simulation does not have.
#[derive(Debug)]
pub struct Outside(std::convert::Infallible);

impl Outside {
    /// Never called.
    pub fn try_receive(&mut self) -> Option<Result<Passed, Lost>> {
        match self.0 {}
    }

    /// Never called.
    ///
    /// # Errors
    /// Never.
    pub fn try_send(&self, _: usize, _: Passed) -> Result<(), (Passed, std::io::Error)> {
        match self.0 {}
    }
}

impl std::os::fd::AsFd for Outside {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self.0 {}
    }
}

impl Arrivals {
    pub(super) fn new(ways: &Rc<Vec<Way>>, index: usize, reactor: &Rc<Reactor>) -> Self {
        reactor.sockets.set(reactor.sockets.get() + 1);
        Self {
            ways: ways.clone(),
            index,
            reactor: reactor.clone(),
        }
    }

    /// The next parcel.
    ///
    /// # Errors
    /// Never: none is lost.
    pub async fn next(&mut self) -> Result<Parcel, Lost> {
        let way = &self.ways[self.index];
        poll_fn(|context| match way.parcels.borrow_mut().pop_front() {
            Some(parcel) => Poll::Ready(Ok(parcel)),
            None => {
                way.receiver.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.reactor.sockets.set(self.reactor.sockets.get() - 1);
    }
}

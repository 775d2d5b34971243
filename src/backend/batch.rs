//! The requests of one pass of the reactor leave together at its end: a backend is woken once for many, not for each. With
//! `backend_pipeline_max` above 1, several share a connection.

use std::rc::Rc;

use super::link::Link;
use super::pool::{Exchange, Pool};

/// What is gathered.
pub(super) struct Batch<E: Exchange> {
    /// Each connection, and where its requests end in `bytes`.
    links: Vec<(Rc<Link<E>>, usize)>,
    /// Requests for the last of them.
    count: usize,
    bytes: Vec<u8>,
}

impl<E: Exchange> Default for Batch<E> {
    fn default() -> Self {
        Self {
            links: Vec::new(),
            count: 0,
            bytes: Vec::new(),
        }
    }
}

impl<E: Exchange> Pool<E> {
    /// Adds a request to those of the connection that got the last one.
    ///
    /// # Errors
    /// It comes back when there is none, or that one has enough.
    pub(super) fn join_batch(&self, exchange: E) -> Result<(), E> {
        let mut batch = self.batch.borrow_mut();
        let Batch { links, count, bytes } = &mut *batch;
        let start = links.iter().nth_back(1).map_or(0, |(_, end)| *end);
        match links.last_mut() {
            Some((link, end)) if *count < self.limits().pipeline_max && bytes.len() - start < SHARED_LEN_MAX => {
                link.push(exchange, bytes);
                *end = bytes.len();
                *count += 1;
                Ok(())
            }
            _ => Err(exchange),
        }
    }

    /// Adds a request for a connection that has nothing to do, and sends it if nothing is to be gathered.
    pub(super) fn begin_batch(self: &Rc<Self>, link: Rc<Link<E>>, exchange: E) {
        let len = self.gather(link, exchange);
        if len >= BATCH_LEN_MAX || !self.is_gathering() {
            self.send_batch();
        }
    }

    /// Adds a request for a connection that has nothing to do. Returns how many bytes wait.
    pub(super) fn gather(&self, link: Rc<Link<E>>, exchange: E) -> usize {
        let mut batch = self.batch.borrow_mut();
        link.push(exchange, &mut batch.bytes);
        let len = batch.bytes.len();
        batch.links.push((link, len));
        batch.count = 1;
        len
    }

    /// True when nothing is gathered.
    pub fn is_batch_empty(&self) -> bool {
        self.batch.borrow().links.is_empty()
    }

    /// Sends what was gathered. Called at the end of every pass.
    pub fn send_batch(self: &Rc<Self>) {
        while !self.is_batch_empty() {
            let mut batch = self.batch.take();
            let mut start = 0;
            for (link, end) in batch.links.drain(..) {
                let sent = link.send(self, &batch.bytes[start..end]);
                start = end;
                if let Err(back) = sent {
                    // It was closed under our hands and nothing was written.
                    self.retry(back);
                }
            }
            batch.bytes.clear();
            let mut next = self.batch.borrow_mut();
            if next.links.is_empty() && batch.bytes.capacity() <= CAPACITY_KEPT {
                *next = batch;
            }
        }
    }
}

/// A connection with so many bytes gets no further request.
const SHARED_LEN_MAX: usize = 64 * 1024;
/// With so many bytes the pass waits no longer.
const BATCH_LEN_MAX: usize = 128 * 1024;
const CAPACITY_KEPT: usize = 2 * BATCH_LEN_MAX;

// On real sockets.
#[cfg(all(test, not(simulation)))]
mod tests;

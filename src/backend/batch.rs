//! Sends the requests of one pass of the reactor together at its end: a backend is woken once for many, not for each.
//! With `backend_pipeline_max` above 1, several share a connection.

use std::collections::VecDeque;
use std::rc::Rc;

use super::exchange::Exchange;
use super::link::Link;
use protocol::balance::{Job, LinkId};

/// The requests that were submitted in this pass and are not yet written.
pub(super) struct Batch<E: Exchange> {
    /// Each connection, and where its requests end in `bytes`.
    links: Vec<(Rc<Link<E>>, usize)>,
    bytes: Vec<u8>,
}

impl<E: Exchange> Default for Batch<E> {
    fn default() -> Self {
        Self {
            links: Vec::new(),
            bytes: Vec::new(),
        }
    }
}

impl<E: Exchange> Batch<E> {
    /// True when nothing is gathered.
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// True when so much is gathered that it should leave before the pass ends.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_LEN_MAX
    }

    /// Adds a request for a connection that has nothing to do, or that got the last one.
    pub(super) fn add(&mut self, link: &Rc<Link<E>>, job: Job<E>) {
        link.push(job, &mut self.bytes);
        match self.links.last_mut() {
            Some((last, end)) if Rc::ptr_eq(last, link) => *end = self.bytes.len(),
            _ => self.links.push((link.clone(), self.bytes.len())),
        }
    }

    /// Sends all. Those that could not be sent, not a byte of them, come back with their connection.
    pub(super) fn send(&mut self, mut hand_back: impl FnMut(LinkId, VecDeque<Job<E>>)) {
        let (mut start, mut rest) = (0, &self.bytes[..]);
        for (link, end) in self.links.drain(..) {
            let (own, after) = rest.split_at(end - start);
            (start, rest) = (end, after);
            let sent = link.send(own);
            if let Err(unsent) = sent {
                // It was closed under our hands.
                hand_back(link.id(), unsent);
            }
        }
        self.bytes.clear();
    }

    /// True when what it has grown to is worth keeping for the next pass.
    pub(super) fn is_of_use(&self) -> bool {
        self.bytes.capacity() <= CAPACITY_KEPT
    }

    /// The connection that the last request is for.
    #[cfg(test)]
    pub(super) fn last_link(&self) -> Option<&Rc<Link<E>>> {
        self.links.last().map(|(link, _)| link)
    }
}

/// With so many bytes the pass waits no longer.
const BATCH_LEN_MAX: usize = 128 * 1024;
const CAPACITY_KEPT: usize = 2 * BATCH_LEN_MAX;

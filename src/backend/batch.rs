//! The requests of one pass of the reactor that share a connection and leave together at its end (`backend_pipeline_max`).

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::link::Link;
use super::pool::{Exchange, Pool};
use crate::protocol::Failure;

/// What is gathered for one connection.
pub(super) struct Batch<E: Exchange> {
    link: Option<Rc<Link<E>>>,
    count: usize,
    bytes: Vec<u8>,
    /// Who sends it off.
    sender: Option<Waker>,
}

impl<E: Exchange> Default for Batch<E> {
    fn default() -> Self {
        Self {
            link: None,
            count: 0,
            bytes: Vec::new(),
            sender: None,
        }
    }
}

impl<E: Exchange> Pool<E> {
    /// Adds a request to those that leave at the end of this pass.
    ///
    /// # Errors
    /// It comes back when there are none, or enough.
    pub(super) fn join_batch(&self, exchange: E) -> Result<(), E> {
        let mut batch = self.batch.borrow_mut();
        let Batch { link, count, bytes, .. } = &mut *batch;
        match link {
            Some(link) if *count < self.limits().pipeline_max && bytes.len() < BATCH_LEN_MAX => {
                link.push(exchange, bytes);
                *count += 1;
                Ok(())
            }
            _ => Err(exchange),
        }
    }

    pub(super) fn begin_batch(self: &Rc<Self>, link: Rc<Link<E>>, exchange: E) {
        self.send_batch();
        let mut batch = self.batch.borrow_mut();
        link.push(exchange, &mut batch.bytes);
        batch.count = 1;
        batch.link = Some(link);
        if let Some(sender) = batch.sender.take() {
            sender.wake();
        }
    }

    fn send_batch(self: &Rc<Self>) {
        let sent = {
            let mut batch = self.batch.borrow_mut();
            match batch.link.take() {
                Some(link) => link.send(self, &mut batch.bytes),
                None => return,
            }
        };
        for exchange in sent.err().into_iter().flatten() {
            // The connection was closed under our hands and nothing was written: another one.
            self.counters().backend_retries.add();
            if let Err(exchange) = self.submit(exchange) {
                exchange.finish(Err(Failure::Overloaded));
            }
        }
    }

    /// Sends what was gathered once everybody who was ready in this pass has run: woken by the first request, it is last in
    /// the queue.
    pub(super) async fn send_batches(self: Rc<Self>) {
        loop {
            poll_fn(|context| {
                let mut batch = self.batch.borrow_mut();
                if batch.link.is_some() {
                    return Poll::Ready(());
                }
                batch.sender = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
            self.send_batch();
        }
    }
}

/// A batch with so many bytes is not added to.
const BATCH_LEN_MAX: usize = 64 * 1024;

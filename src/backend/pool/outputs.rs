//! Does what the balance decides.

use std::rc::Rc;
use std::time::Instant;

use shards::spawn;

use super::Pool;
use crate::backend::exchange::Exchange;
use crate::backend::link::Link;
use protocol::balance::{Balance, Job, LinkId, Output, Refusal, Retry};
use protocol::http::Failure;

impl<E: Exchange> Pool<E> {
    /// Tells the balance what has happened, and does what it decides. Requests leave now, unless more are to be
    /// expected.
    pub(super) fn handle<T>(
        self: &Rc<Self>,
        event: impl FnOnce(&mut Balance<E>, Instant, &mut Vec<Output<E>>) -> T,
    ) -> T {
        let mut outputs = self.outputs.take();
        let result = event(&mut self.balance.borrow_mut(), self.reactor.now(), &mut outputs);
        self.act_on(outputs);
        let is_gathering = self.shared.limits.pipeline_max > 1 || self.reactor.is_crowded();
        if !is_gathering || self.batch.borrow().is_full() {
            self.send_batch();
        }
        result
    }

    pub(super) fn act_on(self: &Rc<Self>, mut outputs: Vec<Output<E>>) {
        let mut more = Vec::new();
        loop {
            for output in outputs.drain(..) {
                match output {
                    Output::Use { link, job } => self.write(link, job, &mut more),
                    rare => self.act_on_rare(rare, &mut more),
                }
            }
            if more.is_empty() {
                break;
            }
            std::mem::swap(&mut outputs, &mut more);
        }
        if outputs.capacity() <= OUTPUTS_KEPT {
            self.outputs.set(outputs);
        }
        let next = self.balance.borrow().next_deadline();
        self.watcher.watch(next);
        self.watcher.watch(self.lending.next_deadline());
    }

    /// What most requests do without.
    #[cold]
    fn act_on_rare(self: &Rc<Self>, output: Output<E>, more: &mut Vec<Output<E>>) {
        match output {
            Output::Use { link, job } => self.write(link, job, more),
            Output::Connect {
                upstream,
                is_awaited,
                pause,
            } => spawn(self.clone().connect(upstream, is_awaited, pause)),
            Output::Close(link) => self.link(link).close(),
            Output::Refuse(exchange, Refusal::Refused) => exchange.finish(Err(Failure::Refused)),
            Output::Refuse(exchange, Refusal::Deadline) => {
                self.shared.counters.backend_no_connection.add();
                exchange.finish(Err(Failure::Deadline));
            }
            Output::Retry(Retry::Refused) => self.shared.counters.backend_retries_refused.add(),
            Output::Retry(Retry::NoWorkers) => self.shared.counters.backend_retries_no_workers.add(),
            Output::Claim { upstream, claim } => {
                let (places, now) = (self.upstreams.borrow()[upstream].places, self.reactor.now());
                if let Some(grant) = self.lending.claim(now, places, claim) {
                    let mut balance = self.balance.borrow_mut();
                    balance.handle_grant(now, upstream, grant, more);
                }
            }
        }
    }

    fn write(self: &Rc<Self>, id: LinkId, job: Job<E>, more: &mut Vec<Output<E>>) {
        let link = self.link(id);
        let now = self.reactor.now();
        if link.is_usable(now) {
            self.batch.borrow_mut().add(&link, job);
        } else {
            // It ended while it was idle: the request never knew it.
            link.close();
            self.balance
                .borrow_mut()
                .handle_unsent(now, id, std::iter::once(job), more);
        }
    }

    fn link(&self, id: LinkId) -> Rc<Link<E>> {
        let links = self.links.borrow();
        links[id.index()].clone().expect("the balance knows which are open")
    }
}

const OUTPUTS_KEPT: usize = 64;

//! Tells the balance what the connections have met.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use super::Pool;
use crate::backend::exchange::Exchange;
use crate::backend::link::{Answered, Owner};
use protocol::balance::{Job, LinkId};

impl<E: Exchange> Owner<E> for Rc<Pool<E>> {
    fn handle_answered(&self, link: LinkId, answered: Answered, is_idle: bool) {
        self.handle(|balance, now, out| {
            balance.handle_answered(now, link);
            balance.handle_latency(link, answered.latency, answered.is_refused);
            if is_idle {
                balance.handle_idle(now, link, out);
            }
        });
    }

    fn handle_turned_away(&self, job: Job<E>) -> Result<(), Job<E>> {
        self.handle(|balance, now, out| balance.handle_turned_away(now, job, out))
    }

    fn handle_timed_out(&self, link: LinkId, sent: Instant) {
        self.handle(|balance, now, _| balance.handle_timed_out(now, link, sent));
    }

    fn is_witness(&self, link: LinkId) -> bool {
        self.balance.borrow().is_witness(link)
    }

    fn handle_broken(&self, link: LinkId) {
        self.balance.borrow_mut().handle_broken(self.reactor.now(), link);
    }

    fn handle_refused(&self, link: LinkId) {
        self.balance.borrow_mut().handle_refused(self.reactor.now(), link);
    }

    /// Whoever has sent the others sends these, too; at the latest the pass does at its end.
    fn handle_unsent(&self, link: LinkId, jobs: VecDeque<Job<E>>) {
        self.shared.counters.backend_retries.add_many(jobs.len() as u64);
        let mut outputs = self.outputs.take();
        let now = self.reactor.now();
        self.balance
            .borrow_mut()
            .handle_unsent(now, link, jobs.into_iter(), &mut outputs);
        self.act_on(outputs);
    }

    fn handle_ended(&self, link: LinkId) {
        self.links.borrow_mut()[link.index()] = None;
        self.handle(|balance, now, out| balance.handle_ended(now, link, out));
    }
}

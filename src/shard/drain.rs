//! The end of a shard: what is under way is finished, clients leave one after the other.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Shard;
use super::requests::Request;

impl Shard {
    /// SIGTERM: everything under way is finished, or told that it will not be, within `drain_timeout`.
    pub(super) async fn leave(self: &Rc<Self>) {
        let start = self.env.reactor.now();
        let end = start + self.env.node.drain_timeout;
        // Clients that still owe an answer then have had their time. What is at the backend has a little more; what is
        // stuck there is given up, and the news of it has the rest.
        let last_answers = start + self.env.node.drain_timeout.mul_f64(0.8);
        let give_up = start + self.env.node.drain_timeout.mul_f64(0.9);
        let clients = self.clients.all();
        for client in &clients {
            client.handle_shutdown();
        }
        let spread = self.env.node.drain_spread.min(self.env.node.drain_spread_max());
        for (index, client) in clients.iter().enumerate() {
            let due = start + spread.mul_f64(index as f64 / clients.len() as f64);
            if due > self.env.reactor.now() {
                shards::timer::sleep(&self.env.reactor, due.saturating_duration_since(self.env.reactor.now())).await;
            }
            client.leave();
        }
        drop(clients);
        self.wait_until(last_answers, || self.is_quiet()).await;
        for client in self.clients.all() {
            client.leave_once_answered();
        }
        self.wait_until(give_up, || self.is_quiet()).await;
        self.pool
            .give_up(|request| matches!(request, Request::Call(_) | Request::Connect(_)));
        for client in self.clients.all() {
            client.leave_now();
        }
        self.wait_until(end, || {
            self.is_quiet() && self.outbox.is_empty() && self.mailer.is_empty()
        })
        .await;
        // The last frames and answers are with the kernel; their sockets close in order.
        let last_words = self.env.reactor.now() + LAST_WORDS;
        self.wait_until(last_words.min(end), || self.env.reactor.sockets_count() <= OWN_SOCKETS)
            .await;
    }

    fn is_quiet(&self) -> bool {
        self.clients.is_empty() && self.ingress.waits_count() == 0
    }

    async fn wait_until(&self, deadline: Instant, done: impl Fn() -> bool) {
        while !done() && self.env.reactor.now() < deadline {
            shards::timer::sleep(&self.env.reactor, DRAIN_LOOK).await;
        }
    }
}

const DRAIN_LOOK: Duration = Duration::from_millis(20);
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The socket on which handed-over ones arrive.
const OWN_SOCKETS: usize = 1;

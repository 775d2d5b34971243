//! Ends a shard: what is under way is finished, clients leave one after the other.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Shard;
use super::control_plane::Phase;
use super::requests::Request;

/// How the drain of a shard, or of all of them, went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Drained {
    /// Clients that left with nothing under way.
    pub left: usize,
    /// Clients whose time was up while something was.
    pub cut_off: usize,
    /// Outcomes and the like that the backend has not taken.
    pub posts_dropped: usize,
    /// From the signal on; of several shards the longest.
    pub took: Duration,
}

impl Drained {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            left: self.left + other.left,
            cut_off: self.cut_off + other.cut_off,
            posts_dropped: self.posts_dropped + other.posts_dropped,
            took: self.took.max(other.took),
        }
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "drained in {:.1} s: {} clients left, {} were cut off with something under way, {} posts were dropped",
            self.took.as_secs_f64(),
            self.left,
            self.cut_off,
            self.posts_dropped
        )
    }
}

impl Shard {
    /// SIGTERM: everything under way is finished, or told that it will not be, within `drain_timeout`.
    pub(super) async fn leave(self: &Rc<Self>) -> Drained {
        let start = self.env.reactor.now();
        let end = start + self.env.node.drain_timeout;
        // Clients that still owe an answer then have had their time. What is at the backend has a little more; what is
        // stuck there is given up, and the news of it has the rest.
        let last_answers = start + self.env.node.drain_timeout.mul_f64(0.8);
        let give_up = start + self.env.node.drain_timeout.mul_f64(0.9);
        let clients = self.clients.all();
        let clients_count = clients.len();
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
        let late = self.clients.all();
        for client in &late {
            client.leave_once_answered();
        }
        // Those whose Calls are at the backend stay.
        let owed_answers = late.len().saturating_sub(self.clients.len());
        drop(late);
        self.wait_until(give_up, || self.is_quiet()).await;
        let cut_off = owed_answers + self.clients.len();
        self.pool
            .give_up(|request| matches!(request, Request::Call(_) | Request::Connect(_)));
        for client in self.clients.all() {
            client.leave_now();
        }
        // Others may need this shard's ingress, and its answers about its clients, for longer than it does.
        self.wait_until(end, || {
            let is_drained = self.is_quiet() && self.outbox.is_empty() && self.mailer.is_empty();
            self.control
                .set_phase(if is_drained { Phase::Drained } else { Phase::Draining });
            self.control.plane().is_drained()
        })
        .await;
        self.env.end.trigger();
        let posts_dropped = self.outbox.len();
        // The last frames and answers are with the kernel; their sockets close in order.
        let last_words = self.env.reactor.now() + LAST_WORDS;
        self.wait_until(last_words.min(end), || {
            // One that delivers a last /disconnect now is idle at a later look.
            self.pool.close_idle();
            self.env.reactor.sockets_count() <= OWN_SOCKETS
        })
        .await;
        Drained {
            // Handshakes that were under way may have become clients meanwhile.
            left: clients_count.saturating_sub(cut_off),
            cut_off,
            posts_dropped,
            took: self.env.reactor.now().saturating_duration_since(start),
        }
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

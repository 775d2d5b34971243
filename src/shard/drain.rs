//! Ends a shard: what is under way is finished, clients leave one after the other.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Shard;
use super::control_plane::Phase;
use super::outbox::Undelivered;
use super::requests::Request;
use crate::client::Connection;
use crate::cluster::line::Word;

/// How the drain of a shard, or of all of them, went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Drained {
    /// Clients that left with nothing under way.
    pub left: usize,
    /// Clients whose time was up while something was.
    pub cut_off: usize,
    /// What the backend has not taken.
    pub undelivered: Undelivered,
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
            undelivered: self.undelivered.and(other.undelivered),
            took: self.took.max(other.took),
        }
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Undelivered {
            outcomes,
            sends,
            disconnects,
        } = self.undelivered;
        write!(
            f,
            "drained in {:.1} s: {} clients left, {} were cut off with something under way; not delivered: {outcomes} outcomes of pushes, \
             {sends} SENDs, {disconnects} /disconnect",
            self.took.as_secs_f64(),
            self.left,
            self.cut_off,
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
        if let Some(nodes) = &self.other_nodes {
            nodes.say(Word::Drain);
        }
        // Whom the backend does not know of yet it need not let in.
        self.pool.withdraw(|request| matches!(request, Request::Connect(_)));
        let clients = self.clients.all();
        let clients_count = clients.len();
        self.each(&clients, Connection::handle_shutdown).await;
        self.see_off(clients, start).await;
        self.wait_until(last_answers, || self.is_quiet()).await;
        let late = self.clients.all();
        self.each(&late, Connection::leave_once_answered).await;
        // Those whose Calls are at the backend stay.
        let owed_answers = late.len().saturating_sub(self.clients.len());
        drop(late);
        self.wait_until(give_up, || self.is_quiet()).await;
        let cut_off = owed_answers + self.clients.len();
        self.pool
            .give_up(|request| matches!(request, Request::Call(_) | Request::Connect(_)));
        self.each(&self.clients.all(), Connection::leave_now).await;
        self.give_moved_up();
        if let Some(nodes) = &self.other_nodes {
            nodes.say(Word::GiveUp);
        }
        self.deliver(end).await;
        self.env.end.trigger(self.env.reactor.now());
        let undelivered = self.outbox.undelivered();
        // The last frames and answers are with the kernel; their sockets close in order.
        let last_words = self.env.reactor.now() + LAST_WORDS;
        self.wait_until(last_words.min(end), || {
            // One that delivers a last /disconnect now is idle at a later look.
            self.pool.close_idle();
            self.env.reactor.sockets_count() <= OWN_SOCKETS
        })
        .await;
        if undelivered != Undelivered::default() {
            self.pool.give_up(|request| matches!(request, Request::Post(..)));
            self.outbox.name_undelivered();
        }
        Drained {
            // Handshakes that were under way may have become clients meanwhile.
            left: clients_count.saturating_sub(cut_off),
            cut_off,
            undelivered,
            took: self.env.reactor.now().saturating_duration_since(start),
        }
    }

    /// Has clients leave, one after the other.
    async fn see_off(&self, clients: Vec<Rc<Connection>>, start: Instant) {
        let spread = self.env.node.drain_spread.min(self.env.node.drain_spread_max());
        let count = clients.len();
        for (index, client) in clients.into_iter().enumerate() {
            let due = start + spread.mul_f64(index as f64 / count as f64);
            let pause = due.saturating_duration_since(self.env.reactor.now());
            if !pause.is_zero() {
                shards::timer::sleep(&self.env.reactor, pause).await;
            } else if index % CLIENTS_PER_TURN == CLIENTS_PER_TURN - 1 {
                shards::yield_now().await;
            }
            client.leave_in_turn();
        }
    }

    /// Does it to all of them, a few in each turn: others go on meanwhile.
    async fn each(&self, clients: &[Rc<Connection>], act: fn(&Connection)) {
        for some in clients.chunks(CLIENTS_PER_TURN) {
            some.iter().for_each(|client| act(client));
            shards::yield_now().await;
        }
    }

    /// Waits until the backend knows what it must, on this shard and all others: they may need this one's ingress, and its answers
    /// about its clients, for longer than it does. An outcome was promised to the backend, and has all the time that there is; that
    /// clients are gone it will see, and is told for as long as it listens.
    async fn deliver(&self, end: Instant) {
        let quiet_since = Cell::new(None);
        self.wait_until(end, || {
            let now = self.env.reactor.now();
            let mut is_drained = self.is_quiet() && self.mailer.is_empty() && self.owes_no_node();
            quiet_since.set(quiet_since.get().filter(|_| is_drained).or(is_drained.then_some(now)));
            let left = self.outbox.undelivered();
            if left != Undelivered::default() {
                let heard = self.outbox.last_taken().max(quiet_since.get());
                let is_deaf = heard.is_some_and(|heard| heard + DEAF_AFTER <= now);
                is_drained &= left.outcomes == 0 && left.sends == 0 && is_deaf;
            }
            self.control
                .set_phase(if is_drained { Phase::Drained } else { Phase::Draining });
            self.control.plane().is_drained()
        })
        .await;
    }

    fn is_quiet(&self) -> bool {
        let moved = self.other_nodes.as_ref().map_or(0, |nodes| nodes.moved_count());
        self.clients.is_empty() && self.ingress.waits_count() == 0 && moved == 0
    }

    /// Other nodes have been told what they wait for, and ask for nobody here any more.
    fn owes_no_node(&self) -> bool {
        self.other_nodes.as_ref().is_none_or(|nodes| nodes.has_finished())
    }

    async fn wait_until(&self, deadline: Instant, done: impl Fn() -> bool) {
        while !done() && self.env.reactor.now() < deadline {
            shards::timer::sleep(&self.env.reactor, DRAIN_LOOK).await;
        }
    }
}

const DRAIN_LOOK: Duration = Duration::from_millis(20);
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A backend that has taken nothing for so long is not waited for to learn that clients are gone.
const DEAF_AFTER: Duration = Duration::from_secs(5);
const CLIENTS_PER_TURN: usize = 32;
/// The socket on which handed-over ones arrive.
const OWN_SOCKETS: usize = 1;

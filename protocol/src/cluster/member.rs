//! Decides for one node of the cluster.
//!
//! What happens enters through `handle_*`; what is to be done comes out as [`Output`]s, in order. The caller owns the connection to
//! NATS and asks for [`next_deadline`](Member::next_deadline). It is asked in slices: after [`handle_deadline`](Member::handle_deadline) the
//! next deadline may be over already, and others have their turn before it is called again.

use std::time::{Duration, Instant};

use super::announcements::Announcements;
use super::asked::{Asked, Asker, CARRY_OUT_WITHIN, Open};
use super::claim::Claim;
use super::clients::Clients;
use super::clock::Clock;
use super::message::{Message, Verdict};
use super::nodes::{Node, NodeId, Nodes, PRESENCE_EVERY};
use super::outcomes::{Due, Outcomes};
use super::seen::Seen;
use super::served::Served;
use super::subject::Subject;
use crate::mapping::ConnectionId;
use crate::ocpp::ClientId;

/// One node.
#[derive(Debug)]
pub struct Member {
    own: Own,
    clock: Clock,
    /// The connection to NATS, counted from the start; `None`: there is none.
    link: Option<u64>,
    links_count: u64,
    /// Whether NATS takes what is sent.
    has_room: bool,
    is_draining: bool,
    presence_due: Instant,
    next_number: u64,
    clients: Clients,
    announcements: Announcements,
    asked: Asked,
    served: Served,
    outcomes: Outcomes,
    seen: Seen,
    nodes: Nodes,
    #[cfg(test)]
    pub(super) fault: Option<Fault>,
}

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Own {
    /// A random number, of this start alone.
    pub id: NodeId,
    /// `node_name`.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// When it started, in milliseconds since 1970.
    pub since_ms: u64,
}

/// How much there may be at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Shards of this node.
    pub shards: usize,
    /// Questions of each shard that have no answer yet.
    pub asked_max: usize,
    /// Bytes of all of them together; and of outcomes that have not been heard.
    pub len_max: usize,
    /// Questions of other nodes that shards are answering.
    pub served_max: usize,
}

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By a clock that nobody sets.
    pub instant: Instant,
    /// By the one that people read: milliseconds since 1970.
    pub unix_ms: u64,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Nobody has that client: 404.
    #[error("this client is not connected here")]
    Nobody,
    /// NATS is away for this node or for another one, and it is not known whether that has the client: 503.
    #[error("the other nodes cannot be reached")]
    Away,
    /// It is longer than NATS takes: 413.
    #[error("the client is at another node, and NATS takes nothing as long as that (max_payload)")]
    TooLong,
    /// There are too many questions already: 503.
    #[error("too many questions wait for other nodes")]
    Full,
    /// The node that has the client has not carried it out: 503.
    #[error("the client's node is overloaded")]
    NotCarriedOut,
    /// It was asked, and nothing was heard: it may have been carried out, or not.
    #[error("the client's node has not answered: whether it has done this is not known")]
    Unanswered,
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Subscribe to [`Subject::Nodes`] and to all that is told to this node.
    SubscribeOwn,
    /// Subscribe to [`Subject::Client`] in a queue, so that one node alone is asked, and to [`Subject::Took`] without one.
    Subscribe {
        /// By which the subscriptions are known until they end.
        slot: usize,
        /// The client.
        client: ClientId,
    },
    /// End both of them.
    Unsubscribe {
        /// As they were made.
        slot: usize,
    },
    /// Publish this.
    Publish {
        /// Where.
        to: Subject,
        /// Where NATS says that nobody was there: then [`Member::handle_nobody`] is to be called with this number.
        reply: Option<u64>,
        /// What.
        bytes: Vec<u8>,
    },
    /// Ask the home shard of this client. [`Member::handle_answer`] is to follow, with the number.
    Question {
        /// The shard.
        shard: u16,
        /// Names the question.
        number: u64,
        /// Who asks: outcomes of a push go to that node.
        from: NodeId,
        /// The client that it is about.
        client: ClientId,
        /// What is asked.
        question: Vec<u8>,
    },
    /// Tell whoever has asked.
    Answer {
        /// Who that is.
        asker: Asker,
        /// What there is to be told.
        answer: Result<Vec<u8>, Failure>,
    },
    /// An outcome has come for a request that waits on this node. If nobody waits any more it is dropped: this may be a repetition.
    Outcome(Vec<u8>),
    /// Nobody has heard this outcome of a client of this node: it is to be posted.
    PostOutcome(Vec<u8>),
    /// Close this connection of a client: a newer one is at another node. Push what it has not sent there.
    Replaced {
        /// The client's home.
        shard: u16,
        /// The client.
        client: ClientId,
        /// The connection that goes.
        connection: ConnectionId,
        /// The one that stays.
        by: ConnectionId,
        /// The name of the node that has it, as far as it is known.
        node: String,
    },
}

/// A rule broken on purpose, in tests only: the simulation has to notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// A client that is at a newer node is not closed here.
    OlderStays,
    /// Of two connections that are equally new none stays.
    TieEndsBoth,
    /// A client is announced when it connects and never again.
    AnnouncedOnce,
    /// When NATS is back, nobody is subscribed to.
    NotMadeAnew,
    /// A question that comes twice is carried out twice.
    RepetitionCarriedOut,
    /// A question is carried out though nobody waits for the answer any more.
    LateCarriedOut,
    /// While NATS is away, clients of other nodes are said not to be there.
    AwayIsNobody,
    /// When NATS goes, questions stay open for ever.
    LossForgotten,
    /// An outcome that may have been heard is posted.
    UnsurePosted,
    /// An outcome is told once and never again.
    OutcomeToldOnce,
    /// Any number of questions may be open.
    BoundForgotten,
    /// A client that has just gone to yet another node is not asked for there.
    NotAskedAgain,
    /// When NATS is back, clients of nodes that are not yet are said not to be there.
    NobodyBelieved,
}

impl Member {
    /// A node without clients, and without NATS.
    #[must_use]
    pub fn new(own: Own, limits: Limits, now: Instant) -> Self {
        Self {
            own,
            clock: Clock::default(),
            link: None,
            links_count: 0,
            has_room: true,
            is_draining: false,
            presence_due: now,
            next_number: 0,
            clients: Clients::default(),
            announcements: Announcements::new(now),
            asked: Asked::new(limits.shards, limits.asked_max, limits.len_max),
            served: Served::new(limits.served_max),
            outcomes: Outcomes::new(limits.len_max),
            seen: Seen::default(),
            nodes: Nodes::default(),
            #[cfg(test)]
            fault: None,
        }
    }

    /// Whether NATS is there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Clients of this node that other nodes can find.
    #[must_use]
    pub fn clients_count(&self) -> usize {
        self.clients.len()
    }

    /// Questions that have no answer yet.
    #[must_use]
    pub fn asked_count(&self) -> usize {
        self.asked.count()
    }

    /// What others still wait for: answers of shards here, and outcomes that they have not heard.
    #[must_use]
    pub fn owed_count(&self) -> usize {
        self.served.count() + self.outcomes.count()
    }

    /// The other nodes, and behind them this one.
    #[must_use]
    pub fn nodes(&self, now: Now) -> Vec<Node> {
        self.nodes.iter().cloned().chain([self.here(now)]).collect()
    }

    /// NATS is there. Nothing that was subscribed to before is any more.
    pub fn handle_connected(&mut self, now: Now, out: &mut Vec<Output>) {
        debug_assert!(self.link.is_none(), "one connection ends before the next one begins");
        self.links_count += 1;
        self.link = Some(self.links_count);
        self.has_room = true;
        self.nodes.handle_connected(now.instant);
        out.push(Output::SubscribeOwn);
        self.outcomes.make_due(now.instant);
        self.announcements.begin_anew();
        self.say_here(now, out);
    }

    /// NATS has gone. What was asked may have been carried out, or not.
    pub fn handle_lost(&mut self, out: &mut Vec<Output>) {
        self.link = None;
        self.announcements.stop();
        self.outcomes.handle_lost();
        while let Some(open) = self.asked.remove_first() {
            if !self.breaks(Fault::LossForgotten) {
                out.push(Output::Answer {
                    asker: open.asker,
                    answer: Err(Failure::Unanswered),
                });
            }
        }
    }

    /// NATS takes what is sent, or too much waits for it already.
    pub fn set_room(&mut self, has_room: bool) {
        self.has_room = has_room;
    }

    /// The node is ending. Its clients go one by one.
    pub fn handle_drain(&mut self, now: Now, out: &mut Vec<Output>) {
        self.is_draining = true;
        self.say_here(now, out);
    }

    /// The node has ended, but for what is to be posted: outcomes that nobody can have heard are, NATS being away.
    pub fn handle_end(&mut self, out: &mut Vec<Output>) {
        if self.link.is_none() {
            out.extend(std::iter::from_fn(|| self.outcomes.take_untold()).map(Output::PostOutcome));
        }
    }

    /// A client is connected, with its home on that shard.
    pub fn handle_client(
        &mut self,
        client: ClientId,
        connection: ConnectionId,
        shard: u16,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let claim = Claim {
            at_ms: self.clock.stamp(now.unix_ms),
            connection,
            node: self.own.id,
        };
        let slot = self.clients.insert(client, claim, shard);
        self.subscribe_and_announce(slot, now.instant, out);
    }

    /// A client goes on here that was connected elsewhere, to another process of this node: at `since_ms`, by the node's clock.
    ///
    /// Its claim is as old as it was there: a connection that has begun at another node since then is newer.
    pub fn handle_moved_in(
        &mut self,
        client: ClientId,
        (connection, since_ms): (ConnectionId, u64),
        shard: u16,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let claim = Claim {
            at_ms: self.clock.now(since_ms.min(now.unix_ms)),
            connection,
            node: self.own.id,
        };
        let slot = self.clients.insert(client, claim, shard);
        self.subscribe_and_announce(slot, now.instant, out);
    }

    /// A client has gone, or will in a moment: what still comes for it is answered here.
    pub fn handle_gone(&mut self, client: &ClientId, connection: &ConnectionId, out: &mut Vec<Output>) {
        if let Some((slot, here)) = self.clients.remove(client, connection)
            && self.link.is_some()
            && here.subscribed_over == self.link
        {
            out.push(Output::Unsubscribe { slot });
        }
    }

    /// A shard asks about a client that is not here. Exactly one [`Output::Answer`] follows.
    pub fn handle_ask(&mut self, asker: Asker, client: ClientId, question: Vec<u8>, now: Now, out: &mut Vec<Output>) {
        let failure = if self.link.is_none() {
            if self.breaks(Fault::AwayIsNobody) {
                Failure::Nobody
            } else {
                Failure::Away
            }
        } else if !self.has_room || !self.asked.has_room(asker, question.len()) && !self.breaks(Fault::BoundForgotten) {
            Failure::Full
        } else {
            let number = self.number();
            self.ask(number, &client, &question, now, out);
            self.asked.insert(number, asker, (client, question), now.instant);
            return;
        };
        out.push(Output::Answer {
            asker,
            answer: Err(failure),
        });
    }

    /// A shard has answered an [`Output::Question`]. `None`: it was not carried out.
    pub fn handle_answer(&mut self, number: u64, answer: Option<&[u8]>, out: &mut Vec<Output>) {
        if let Some((node, number)) = self.served.remove(number) {
            let verdict = answer.map_or(Verdict::NotCarriedOut, Verdict::Answer);
            self.tell(node, number, verdict, out);
        }
    }

    /// A push of a client of this node has its outcome, and somebody waits for it on that node. `is_theirs`: that node tells the
    /// backend what becomes of the push, whatever happens here.
    pub fn handle_outcome(
        &mut self,
        (node, is_theirs): (NodeId, bool),
        outcome: Vec<u8>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let number = self.number();
        match self.outcomes.insert(number, (node, is_theirs), outcome, now.instant) {
            Ok(()) => self.tell_outcome(number, out),
            Err(outcome) if !is_theirs => out.push(Output::PostOutcome(outcome)),
            Err(_) => {}
        }
    }

    /// Something was published to `subject`, to which this node subscribes. True: it has been understood.
    pub fn handle_message(&mut self, subject: Subject, bytes: &[u8], now: Now, out: &mut Vec<Output>) -> bool {
        let Ok(message) = Message::read(bytes) else {
            return false;
        };
        match (subject, message) {
            (
                Subject::Client(client),
                Message::Ask {
                    from,
                    number,
                    until_ms,
                    question,
                },
            ) => self.serve(client, (from, number, until_ms), question, now, out),
            (Subject::Took(client), Message::Took(claim)) => self.handle_took(&client, &claim, now, out),
            (Subject::Node(_, number), Message::Told(verdict)) => self.handle_told(number, verdict, now, out),
            (Subject::Node(..), Message::Outcome { from, number, outcome }) => {
                out.push(Output::Outcome(outcome.to_vec()));
                if self.link.is_some() {
                    out.push(Output::Publish {
                        to: Subject::Node(from, number),
                        reply: None,
                        bytes: Message::Heard.to_bytes(),
                    });
                }
            }
            (Subject::Node(_, number), Message::Heard) => self.outcomes.handle_heard(number),
            (Subject::Nodes, Message::Here(node)) if node.id != self.own.id => {
                self.clock.handle_heard(node.now_ms, now.unix_ms);
                if self.nodes.handle_heard(node, now.instant) {
                    self.presence_due = now.instant;
                }
            }
            (Subject::Nodes, Message::Here(_)) => {}
            _ => return false,
        }
        true
    }

    /// Nobody subscribes to where something with that number was published.
    pub fn handle_nobody(&mut self, number: u64, now: Now, out: &mut Vec<Output>) {
        if self.asked.is_first(number) && !self.breaks(Fault::NotAskedAgain) {
            // It may just have come: that it is subscribed to is on its way.
            self.asked.put_off(number, now.instant);
        } else if let Some(open) = self.asked.remove(number) {
            out.push(Output::Answer {
                asker: open.asker,
                answer: Err(self.nobody(&open, now)),
            });
        } else if let Some(outcome) = self.outcomes.handle_nobody(number, now.instant) {
            out.push(Output::PostOutcome(outcome));
        }
    }

    /// When [`handle_deadline`](Self::handle_deadline) is to be called. In the past: something goes on.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Instant {
        let mut next = self.presence_due;
        if self.link.is_some() && self.has_room {
            if self.announcements.is_anew() {
                return now;
            }
            next = next.min(self.announcements.next_deadline());
        }
        let others = [
            self.asked.next_deadline(),
            self.served.next_deadline(),
            self.outcomes.next_deadline(),
        ];
        others.into_iter().flatten().fold(next, Instant::min)
    }

    /// Does what is due, a slice of it.
    pub fn handle_deadline(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(open) = self.asked.remove_expired(now.instant) {
            out.push(Output::Answer {
                asker: open.asker,
                answer: Err(Failure::Unanswered),
            });
        }
        self.served.handle_deadline(now.instant);
        while let Some(open) = self.asked.take_again(now.instant) {
            self.ask_again(open, now, out);
        }
        if self.link.is_some() {
            self.nodes.handle_deadline(now.instant);
        }
        self.handle_outcomes_due(now, out);
        if now.instant >= self.presence_due {
            self.say_here(now, out);
        }
        if self.link.is_some() && self.has_room {
            let was_anew = self.announcements.is_anew();
            self.announce_due(now.instant, out);
            if was_anew && !self.announcements.is_anew() {
                self.say_here(now, out);
            }
        }
    }

    fn handle_outcomes_due(&mut self, now: Now, out: &mut Vec<Output>) {
        for _ in 0..OUTCOMES_SLICE {
            match self.outcomes.take_due(now.instant) {
                None => return,
                Some(Due::Over) => {}
                Some(Due::Again(_)) if self.breaks(Fault::OutcomeToldOnce) => {}
                Some(Due::Again(held)) if self.breaks(Fault::UnsurePosted) && !held.is_theirs => {
                    out.push(Output::PostOutcome(held.outcome));
                }
                Some(Due::Post(outcome)) => out.push(Output::PostOutcome(outcome)),
                Some(Due::Again(held)) => {
                    let number = self.number();
                    self.outcomes.insert_again(number, held, now.instant);
                    self.tell_outcome(number, out);
                }
            }
        }
    }

    fn announce_due(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.announcements.is_anew() {
            for slot in self.announcements.slice(&self.clients) {
                if !self.breaks(Fault::NotMadeAnew) {
                    self.subscribe_and_announce(slot, now, out);
                }
            }
            return;
        }
        while let Some(slot) = self.announcements.take_again(now) {
            if !self.breaks(Fault::AnnouncedOnce) {
                self.announce(slot, out);
            }
        }
        for slot in self.announcements.round(&self.clients, now) {
            if !self.breaks(Fault::AnnouncedOnce) {
                self.announce(slot, out);
            }
        }
    }

    /// A question about a client that was here when it was asked.
    fn serve(
        &mut self,
        client: ClientId,
        (from, number, until_ms): (NodeId, u64, u64),
        question: &[u8],
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if !self.seen.is_new(from, number) && !self.breaks(Fault::RepetitionCarriedOut) {
            return;
        }
        let is_late = self.clock.now(now.unix_ms) >= until_ms && !self.breaks(Fault::LateCarriedOut);
        let here = self.clients.slot_of(&client).and_then(|slot| self.clients.get(slot));
        let refusal = match here {
            None => Verdict::NotHere,
            Some(_) if is_late || !self.served.has_room() => Verdict::NotCarriedOut,
            Some(here) => {
                let (shard, own_number) = (here.shard, self.next_number);
                self.next_number += 1;
                self.served.insert(own_number, from, number, now.instant);
                out.push(Output::Question {
                    shard,
                    number: own_number,
                    from,
                    client,
                    question: question.to_vec(),
                });
                return;
            }
        };
        self.tell(from, number, refusal, out);
    }

    fn handle_told(&mut self, number: u64, verdict: Verdict<'_>, now: Now, out: &mut Vec<Output>) {
        let Some(open) = self.asked.remove(number) else {
            return;
        };
        let answer = match verdict {
            // It has just gone from there, to yet another node perhaps, which has subscribed before.
            Verdict::NotHere if !open.is_repeat && self.link.is_some() && !self.breaks(Fault::NotAskedAgain) => {
                self.ask_again(open, now, out);
                return;
            }
            Verdict::Answer(answer) => Ok(answer.to_vec()),
            Verdict::NotHere => Err(self.nobody(&open, now)),
            Verdict::NotCarriedOut => Err(Failure::NotCarriedOut),
        };
        out.push(Output::Answer {
            asker: open.asker,
            answer,
        });
    }

    /// Nobody answers for a client. A node that was there before NATS went may have it, and not be back yet.
    fn nobody(&self, open: &Open, now: Now) -> Failure {
        let is_sure = open.is_sure && self.nodes.are_findable(now.instant);
        if is_sure || self.breaks(Fault::NobodyBelieved) || self.breaks(Fault::NotAskedAgain) {
            Failure::Nobody
        } else {
            Failure::Away
        }
    }

    fn handle_took(&mut self, client: &ClientId, claim: &Claim, now: Now, out: &mut Vec<Output>) {
        self.clock.handle_heard(claim.at_ms, now.unix_ms);
        let Some(slot) = self.clients.slot_of(client) else {
            return;
        };
        let Some(here) = self.clients.get(slot) else {
            return;
        };
        if claim.is_same_connection(&here.claim) {
            return;
        }
        let (own, shard) = (here.claim, here.shard);
        let beats = if self.breaks(Fault::TieEndsBoth) {
            claim.at_ms >= own.at_ms
        } else {
            claim.beats(&own) && !self.breaks(Fault::OlderStays)
        };
        if !beats {
            // Whoever said that has an older one, and has missed what was said of this one. Now and then: words must not become more.
            let is_due = |told: Option<Instant>| told.is_none_or(|told| now.instant >= told + TELL_PAUSE);
            if let Some(here) = self.clients.get_mut(slot).filter(|here| is_due(here.told)) {
                here.told = Some(now.instant);
                self.announce(slot, out);
            }
            return;
        }
        self.handle_gone(client, &own.connection, out);
        out.push(Output::Replaced {
            shard,
            client: client.clone(),
            connection: own.connection,
            by: claim.connection,
            node: self.nodes.name_of(claim.node),
        });
    }

    fn subscribe_and_announce(&mut self, slot: usize, now: Instant, out: &mut Vec<Output>) {
        let link = self.link;
        let Some(here) = self.clients.get_mut(slot).filter(|_| link.is_some()) else {
            return;
        };
        if here.subscribed_over != link {
            here.subscribed_over = link;
            out.push(Output::Subscribe {
                slot,
                client: here.client.clone(),
            });
        }
        self.announce(slot, out);
        self.announcements.again(slot, now);
    }

    fn announce(&self, slot: usize, out: &mut Vec<Output>) {
        let Some(here) = self.clients.get(slot).filter(|_| self.link.is_some()) else {
            return;
        };
        out.push(Output::Publish {
            to: Subject::Took(here.client.clone()),
            reply: None,
            bytes: Message::Took(here.claim).to_bytes(),
        });
    }

    fn ask(&self, number: u64, client: &ClientId, question: &[u8], now: Now, out: &mut Vec<Output>) {
        let message = Message::Ask {
            from: self.own.id,
            number,
            until_ms: self.clock.now(now.unix_ms).saturating_add(CARRY_OUT_MS),
            question,
        };
        out.push(Output::Publish {
            to: Subject::Client(client.clone()),
            reply: Some(number),
            bytes: message.to_bytes(),
        });
    }

    fn ask_again(&mut self, open: Open, now: Now, out: &mut Vec<Output>) {
        let number = self.number();
        self.ask(number, &open.client, &open.question, now, out);
        let is_sure = self.nodes.are_findable(now.instant);
        self.asked.repeat(number, open, is_sure, now.instant);
    }

    fn tell(&self, node: NodeId, number: u64, verdict: Verdict<'_>, out: &mut Vec<Output>) {
        if self.link.is_some() {
            out.push(Output::Publish {
                to: Subject::Node(node, number),
                reply: None,
                bytes: Message::Told(verdict).to_bytes(),
            });
        }
    }

    fn tell_outcome(&mut self, number: u64, out: &mut Vec<Output>) {
        if self.link.is_none() {
            return;
        }
        let from = self.own.id;
        if let Some((to, outcome)) = self.outcomes.send(number) {
            out.push(Output::Publish {
                to: Subject::Node(to, number),
                reply: Some(number),
                bytes: Message::Outcome { from, number, outcome }.to_bytes(),
            });
        }
    }

    fn say_here(&mut self, now: Now, out: &mut Vec<Output>) {
        self.presence_due = now.instant + PRESENCE_EVERY;
        if self.link.is_some() {
            out.push(Output::Publish {
                to: Subject::Nodes,
                reply: None,
                bytes: Message::Here(self.here(now)).to_bytes(),
            });
        }
    }

    fn here(&self, now: Now) -> Node {
        Node {
            id: self.own.id,
            name: self.own.name.clone(),
            version: self.own.version.clone(),
            clients: self.clients.len() as u64,
            since_ms: self.own.since_ms,
            is_draining: self.is_draining,
            is_subscribing: self.announcements.is_anew() && self.clients.len() > 0,
            now_ms: self.clock.now(now.unix_ms),
        }
    }

    /// One that nothing of this node had before.
    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    fn breaks(&self, fault: Fault) -> bool {
        #[cfg(test)]
        return self.fault == Some(fault);
        #[cfg(not(test))]
        {
            let _ = fault;
            false
        }
    }
}

/// Between two words to those who have an older connection of the same client.
const TELL_PAUSE: Duration = Duration::from_millis(500);
/// Outcomes that are told again in one go.
const OUTCOMES_SLICE: usize = 256;
const CARRY_OUT_MS: u64 = CARRY_OUT_WITHIN.as_millis() as u64;
const _: () = assert!(CARRY_OUT_WITHIN.as_nanos() > Duration::from_secs(1).as_nanos());

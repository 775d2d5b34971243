//! What a shard says to the other nodes of the cluster, and what it does of what they say.

use std::rc::Rc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use shards::spawn;

use super::Shard;
use super::mail::{ClientReply, FromCluster};
use super::other_nodes::MovedPush;
use crate::client::{Backend as _, Connection};
use crate::cluster::line::Word;
use crate::ingress::Home as _;
use protocol::cluster::{Asker, Failure, NodeId};
use protocol::mapping::{ConnectionId, Identity};
use protocol::ocpp::{Action, ClientId, FailReason, MessageId, Outcome, Push, Waiter};
use protocol::question::{About, PushOutcome, Question, Told};
use protocol::trace_context::TraceParent;

impl Shard {
    /// What the cluster's thread says.
    pub(super) fn handle_cluster(&self, word: FromCluster) {
        match word {
            FromCluster::Answer { token, answer } => {
                let reply = match answer {
                    Ok(told) => ClientReply::Told(*told),
                    Err(failure) => ClientReply::NotTold(failure),
                };
                self.ingress.handle_reply(token, Some(reply));
            }
            FromCluster::Nodes { token, nodes } => self.ingress.handle_reply(token, Some(ClientReply::Nodes(nodes))),
            FromCluster::Question {
                number,
                answer_by,
                question,
            } => self.answer_node(number, answer_by, *question),
            FromCluster::Outcome(outcome) => {
                if let Some(outcome) = self.settle_moved(*outcome) {
                    self.ingress.handle_outcome_of_node(outcome);
                }
            }
            FromCluster::PostOutcome(outcome) => self.post_outcome(*outcome),
            FromCluster::Replaced {
                client,
                connection,
                by,
                node,
            } => self.replaced_by_node(&client, &connection, by, &node),
        }
    }

    /// A client is connected here from now on.
    pub(super) fn tell_here(&self, connection: &Connection) {
        let Some(nodes) = &self.other_nodes else { return };
        let identity = connection.identity();
        let since = connection.since().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        nodes.say(Word::Here {
            shard: self.env.index as u16,
            client: identity.client.clone(),
            connection: identity.connection,
            moved_since_ms: identity.connection.is_adopted().then_some(since_ms),
        });
    }

    /// That connection is over.
    pub(super) fn tell_gone(&self, identity: &Identity) {
        if let Some(nodes) = &self.other_nodes {
            nodes.say(Word::Gone {
                client: identity.client.clone(),
                connection: identity.connection,
            });
        }
    }

    /// The other process of a takeover has the client. What other nodes ask here for a while is passed on.
    pub(super) fn tell_moved(&self, client: ClientId, connection: ConnectionId) {
        if let Some(nodes) = &self.other_nodes {
            nodes.say(Word::Moved { client, connection });
        }
    }

    /// The outcome of a push goes to the node whose request waits for it.
    pub(super) fn tell_node(&self, outcome: PushOutcome) {
        match &self.other_nodes {
            Some(nodes) => nodes.say(Word::Outcome {
                node: NodeId::new(outcome.waiter.node),
                outcome: Box::new(outcome),
            }),
            // It is in no cluster any more.
            None => self.post_outcome(outcome),
        }
    }

    /// An outcome for somebody who waits on this shard: a request, or a push that has moved.
    pub(super) fn handle_outcome(&self, outcome: PushOutcome) {
        if let Some(outcome) = self.settle_moved(outcome) {
            self.ingress.handle_outcome(outcome);
        }
    }

    /// What becomes of the pushes that are at other nodes is not waited for any more.
    pub(super) fn give_moved_up(&self) {
        let Some(nodes) = &self.other_nodes else { return };
        for push in nodes.moved.take().into_values() {
            self.fail_moved(push, true);
        }
    }

    fn answer_node(&self, number: u64, answer_by: Instant, question: Question) {
        let Some(nodes) = &self.other_nodes else { return };
        let told = if self.env.reactor.exact_now() >= answer_by {
            self.env.counters.mesh_stale.add();
            None
        } else if self.is_in_takeover()
            && let Some(shard) = self.me.upgrade()
        {
            // It may be in the other process, or on its way.
            spawn(async move {
                let told = shard.ingress.ask_here(question).await;
                let told = told.map(|found| found.unwrap_or(Told::NotConnected));
                if let Some(nodes) = &shard.other_nodes {
                    let told = told.ok().map(Box::new);
                    nodes.say(Word::Answer { number, told });
                }
            });
            return;
        } else {
            Some(self.look_up(question).unwrap_or(Told::NotConnected))
        };
        let told = told.map(Box::new);
        nodes.say(Word::Answer { number, told });
    }

    /// The client is connected to another node: what was not sent goes there.
    fn replaced_by_node(&self, client: &ClientId, connection: &ConnectionId, by: ConnectionId, node: &str) {
        let found = self.clients.find(client);
        let is_it = |found: &Rc<Connection>| found.identity().connection.as_str() == connection.as_str();
        let Some(found) = found.filter(is_it) else { return };
        let identity = found.identity().clone();
        let pushes = found.handle_replaced(by, Some(node));
        for push in pushes {
            if let Some(shard) = self.me.upgrade() {
                spawn(shard.move_push(identity.clone(), push));
            }
        }
    }

    /// Pushes it where its client is now, and waits for what becomes of it.
    async fn move_push(self: Rc<Self>, identity: Rc<Identity>, push: Push) {
        let Some(nodes) = &self.other_nodes else { return };
        let token = self.ingress.next_token();
        let client = identity.client.clone();
        let moved = MovedPush {
            identity,
            call: (push.action.clone(), push.message_id.clone()),
            waiter: push.waiter,
            trace: push.trace.clone(),
        };
        nodes.moved.borrow_mut().insert(token, moved);
        let waiter = Waiter {
            is_moved: true,
            process: self.env.generation,
            shard: self.env.index as u16,
            token,
            ..Waiter::default()
        };
        let push = Push {
            waiter: Some(waiter),
            ..push
        };
        let answer = self.ingress.ask_about(client, About::Push(push)).await;
        if !matches!(answer, Ok(Told::Pushed { .. })) {
            // Only where nobody knows may it have been sent.
            let may_be_sent = answer.is_err_and(|error| error.may_be_done());
            if let Some(push) = self.take_moved(token) {
                self.fail_moved(push, may_be_sent);
            }
            return;
        }
        let until = self.env.reactor.now() + MOVED_MAX;
        while nodes.moved.borrow().contains_key(&token) && self.env.reactor.now() < until {
            shards::timer::sleep(&self.env.reactor, MOVED_LOOK).await;
        }
        if let Some(push) = self.take_moved(token) {
            self.fail_moved(push, true);
        }
    }

    fn take_moved(&self, token: u64) -> Option<MovedPush> {
        self.other_nodes.as_ref()?.moved.borrow_mut().remove(&token)
    }

    /// If it is that of a push that has moved, whoever waited before is told, or the backend. Else it is given back.
    fn settle_moved(&self, outcome: PushOutcome) -> Option<PushOutcome> {
        let Some(push) = self.take_moved(outcome.waiter.token) else {
            return Some(outcome);
        };
        let PushOutcome {
            identity,
            outcome,
            call,
            trace,
            ..
        } = outcome;
        self.tell_moved_outcome(push.waiter, &identity, call, outcome, trace);
        None
    }

    fn fail_moved(&self, push: MovedPush, sent: bool) {
        let reason = FailReason::Replaced;
        let outcome = Outcome::Failed { reason, sent };
        self.env.counters.count_outcome(&outcome);
        self.tell_moved_outcome(push.waiter, &push.identity, push.call, outcome, push.trace);
    }

    fn tell_moved_outcome(
        &self,
        waiter: Option<Waiter>,
        identity: &Identity,
        call: (Action, MessageId),
        outcome: Outcome,
        trace: Option<Box<TraceParent>>,
    ) {
        match waiter {
            Some(waiter) => self.answer_push(identity, waiter, call, outcome, trace),
            None => self.post_outcome(PushOutcome {
                waiter: Waiter::default(),
                identity: identity.clone(),
                call,
                outcome,
                trace,
            }),
        }
    }

    /// Has other nodes asked.
    ///
    /// # Errors
    /// NATS is away.
    pub(super) fn ask_nodes(&self, token: u64, question: Box<Question>) -> Result<(), Failure> {
        let nodes = self.other_nodes.as_ref().ok_or(Failure::Nobody)?;
        if !nodes.is_connected() {
            return Err(Failure::Away);
        }
        let asker = self.asker(token);
        nodes.say(Word::Ask { asker, question });
        Ok(())
    }

    /// Asks which nodes there are.
    pub(super) fn ask_nodes_who_they_are(&self, token: u64) {
        if let Some(nodes) = &self.other_nodes {
            nodes.say(Word::Nodes(self.asker(token)));
        }
    }

    fn asker(&self, token: u64) -> Asker {
        let shard = self.env.index as u16;
        Asker { shard, token }
    }
}

/// Longer than outcomes are held where they come from.
const MOVED_MAX: Duration = Duration::from_secs(620);
const MOVED_LOOK: Duration = Duration::from_secs(1);

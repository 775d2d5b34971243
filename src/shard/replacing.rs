//! Has a client's newer connection take the place of one that another process has: there may be one while both live.
//!
//! The process that accepts asks. Until it has its answer nothing that has an order leaves of the client here: what the other process
//! has not delivered goes before.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use crate::client::Backend as _;
use protocol::mapping::{ConnectionId, Identity};
use protocol::ocpp::{ClientId, FailReason, Outcome, PostContent, Push};
use protocol::question::{About, Question, Replaced, Told};

impl Shard {
    /// This connection has just begun here: an older one of its client ends, wherever it is.
    pub(super) async fn replace_elsewhere(self: Rc<Self>, identity: Rc<Identity>) {
        let client = &identity.client;
        let is_held = self.outbox.hold(client);
        let question = Question {
            client: client.clone(),
            about: About::Replace {
                by: identity.connection,
            },
        };
        let until = self.env.reactor.now() + PATIENCE;
        let replaced = loop {
            match self.ingress.ask_elsewhere(question.to_bytes()).await {
                Ok(Told::Replaced(replaced)) => break *replaced,
                Err(_) if !self.control.plane().has_other_process() => break Replaced::default(),
                _ if self.env.reactor.now() >= until => break Replaced::default(),
                // It is on its way, or there are many of these questions.
                _ => shards::timer::sleep(&self.env.reactor, PAUSE).await,
            }
        };
        self.outbox.release(client, is_held, replaced.posts);
        let pushes = replaced.pushes;
        match (self.clients.find(client), replaced.identity) {
            (Some(connection), _) => connection.adopt(pushes),
            (None, old) => self.fail_pushes(&old.unwrap_or_else(|| Identity::clone(&identity)), pushes),
        }
    }

    /// The client is connected to the other process now: what there is of it here goes there.
    pub(super) fn replace(&self, client: &ClientId, by: ConnectionId) -> Told {
        // Whatever this brings about goes along.
        let is_held = self.outbox.hold(client);
        let mut replaced = Replaced::default();
        if let Some(connection) = self.clients.find(client) {
            replaced.identity = Some(Identity::clone(connection.identity()));
            replaced.pushes = connection.handle_replaced(by, None);
            self.tell_moved(client.clone(), connection.identity().connection);
        }
        replaced.posts = self.outbox.take_held(client, is_held);
        Told::Replaced(Box::new(replaced))
    }

    /// The other process could not be told that: everything is this one's still.
    pub(super) fn take_back_replaced(&self, replaced: Replaced) {
        for post in replaced.posts {
            self.outbox.restore(post, None);
        }
        if let Some(identity) = &replaced.identity {
            self.fail_pushes(identity, replaced.pushes);
        }
    }

    /// These have no connection any more that they could go over.
    fn fail_pushes(&self, identity: &Identity, pushes: Vec<Push>) {
        for push in pushes {
            let outcome = Outcome::Failed {
                reason: FailReason::Replaced,
                sent: false,
            };
            self.env.counters.count_outcome(&outcome);
            let call = (push.action, push.message_id);
            match push.waiter {
                Some(waiter) => self.answer_push(identity, waiter, call, outcome, push.trace),
                None => {
                    let content = (PostContent::Outcome(outcome), push.trace);
                    self.outbox.post(Rc::new(identity.clone()), call, content, None);
                }
            }
        }
    }
}

const PAUSE: Duration = Duration::from_millis(10);
/// A process that lives answers within.
const PATIENCE: Duration = Duration::from_secs(30);

//! Does what clients ask of the backend: through the pool, the outbox, or the ingress request that waits for a push.

use std::rc::Rc;
use std::time::Instant;

use super::Shard;
use super::mail::{Mail, PushOutcome};
use super::requests::{Call, Connect, Request};
use crate::client::{Backend, Connection, Overloaded, Verdict};
use protocol::http::HeaderLines;
use protocol::mapping::Identity;
use protocol::ocpp::{Action, CallKey, CallText, MessageId, Outcome, PostContent, Waiter};

impl Backend for Shard {
    fn connect(
        &self,
        identity: Rc<Identity>,
        lines: HeaderLines,
        deadline: Instant,
        verdict: Rc<Verdict>,
    ) -> Result<(), Overloaded> {
        let connect = Connect {
            identity,
            lines,
            deadline,
            verdict,
        };
        self.submit(Request::Connect(Box::new(connect)))
    }

    fn withdraw_connects(&self) {
        self.has_withdrawals.set(true);
    }

    fn call(
        &self,
        connection: Rc<Connection>,
        key: CallKey,
        text: CallText,
        deadline: Instant,
        arrived: Instant,
    ) -> Result<(), Overloaded> {
        self.submit(Request::Call(Call {
            connection,
            key,
            text,
            deadline,
            arrived,
        }))
    }

    fn disconnect(&self, identity: Rc<Identity>, body: Vec<u8>) {
        self.outbox.disconnect(identity, body);
    }

    fn post(&self, connection: &Connection, names: (Action, MessageId), content: PostContent) {
        let sender = Some(connection.weak());
        self.outbox.post(connection.identity().clone(), names, content, sender);
    }

    fn answer_push(&self, identity: &Identity, waiter: Waiter, call: (Action, MessageId), outcome: Outcome) {
        let outcome = PushOutcome {
            token: waiter.token,
            identity: identity.clone(),
            call,
            outcome,
        };
        if usize::from(waiter.shard) == self.env.index {
            self.ingress.handle_outcome(outcome);
        } else {
            self.mailer.send(waiter.shard.into(), Mail::Outcome(Box::new(outcome)));
        }
    }
}

impl Shard {
    fn submit(&self, request: Request) -> Result<(), Overloaded> {
        self.pool.submit(request).map_err(|_| Overloaded)
    }
}

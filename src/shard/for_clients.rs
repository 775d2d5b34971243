//! Does what clients ask of the backend: through the pool, the outbox, or the ingress request that waits for a push.

use std::rc::Rc;
use std::time::Instant;

use shards::spawn;

use super::Shard;
use super::mail::{Mail, PushOutcome};
use super::requests::{Call, Connect, Request};
use crate::client::{Backend, Connection, Overloaded, Verdict};
use protocol::http::HeaderLines;
use protocol::mapping::Identity;
use protocol::ocpp::{Action, CallKey, CallText, MessageId, Outcome, PostContent, Waiter};
use protocol::record::PostRecord;
use protocol::trace_context::TraceParent;

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
            trace: self.begin_trace(),
        }))
    }

    fn begun(&self, identity: &Rc<Identity>) {
        let plane = self.control.plane();
        if plane.has_predecessor()
            && plane.has_other_process()
            && let Some(shard) = self.me.upgrade()
        {
            spawn(shard.replace_elsewhere(identity.clone()));
        }
    }

    fn here(&self, connection: &Connection) {
        self.tell_here(connection);
    }

    fn gone(&self, identity: &Identity) {
        self.tell_gone(identity);
    }

    fn disconnect(&self, identity: Rc<Identity>, body: Vec<u8>) {
        self.outbox.disconnect(identity, body);
    }

    fn post(
        &self,
        connection: &Connection,
        names: (Action, MessageId),
        content: PostContent,
        trace: Option<Box<TraceParent>>,
    ) {
        let sender = Some(connection.weak());
        let identity = connection.identity().clone();
        self.outbox.post(identity, names, (content, trace), sender);
    }

    fn restore_post(&self, connection: &Connection, post: PostRecord) {
        self.outbox.restore(post, Some(connection.weak()));
    }

    fn answer_push(
        &self,
        identity: &Identity,
        waiter: Waiter,
        call: (Action, MessageId),
        outcome: Outcome,
        trace: Option<Box<TraceParent>>,
    ) {
        let outcome = PushOutcome {
            waiter,
            identity: identity.clone(),
            call,
            outcome,
            trace,
        };
        if waiter.node != 0 {
            self.tell_node(outcome);
        } else if waiter.process != self.env.generation {
            self.other_process.tell_outcome(&outcome);
        } else if usize::from(waiter.shard) == self.env.index {
            self.handle_outcome(outcome);
        } else {
            self.mailer.send(waiter.shard.into(), Mail::Outcome(Box::new(outcome)));
        }
    }
}

impl Shard {
    /// A trace for a Call that is about to be sent, if it is one of those that get one (`trace_sampled`).
    fn begin_trace(&self) -> Option<Box<TraceParent>> {
        let ratio = self.env.core.trace_sampled;
        if ratio.is_none() || !ratio.takes(self.env.next_random()) {
            return None;
        }
        let number = self.traces_begun.replace(self.traces_begun.get() + 1);
        let [high, low, span] = ["trace, high", "trace, low", "span"].map(|kind| self.env.keyed(kind, number));
        let trace_id = u128::from(high) << 64 | u128::from(low);
        Some(Box::new(TraceParent::begin(trace_id, span)))
    }

    fn submit(&self, request: Request) -> Result<(), Overloaded> {
        self.pool.submit(request).map_err(|_| Overloaded)
    }
}

//! Answers the ingress, of whichever shard, about this shard's clients.

use std::rc::Rc;

use super::Shard;
use super::mail::{AnswerRefusal, ClientReply, ClientRequest, PushOutcome};
use crate::ingress::Home;
use crate::observe::incidents::{Details, IncidentKind};
use protocol::mapping::routes::PAGE_MAX;
use protocol::mapping::{Identity, Reply};
use protocol::ocpp::{PostContent, PushRefusal, WaitOver};

impl Home for Shard {
    fn answer(&self, request: ClientRequest) -> ClientReply {
        match request {
            ClientRequest::Push { client, push } => {
                if self.env.is_draining() {
                    // Also for a client that has left already: it is asked for again, and is elsewhere by then.
                    self.env.counters.count_refused_push(Some(PushRefusal::Ending));
                    return ClientReply::PushRefused(PushRefusal::Ending);
                }
                let Some(connection) = self.clients.find(&client) else {
                    let reply = self.without_client();
                    let is_elsewhere = matches!(reply, ClientReply::Elsewhere);
                    let refusal = is_elsewhere.then_some(PushRefusal::Ending);
                    self.env.counters.count_refused_push(refusal);
                    return reply;
                };
                let (action, message_id, trace) = (push.action.clone(), push.message_id.clone(), push.trace.clone());
                match connection.handle_push(push) {
                    Ok(accepted) => {
                        self.env.counters.pushes_accepted.add();
                        ClientReply::Pushed {
                            accepted,
                            connection: connection.identity().connection,
                        }
                    }
                    Err(refusal) => {
                        self.env.counters.count_refused_push(Some(refusal));
                        if refusal == PushRefusal::Full {
                            let details = Details {
                                action: Some(action.as_str()),
                                message_id: Some(message_id.as_str()),
                                trace_id: trace.as_ref().map(|trace| trace.trace_id()),
                                ..Details::default()
                            };
                            let (incidents, now) = (&self.env.counters.incidents, self.env.reactor.now());
                            incidents.note(now, IncidentKind::PushesFull, connection.identity(), &details);
                        }
                        ClientReply::PushRefused(refusal)
                    }
                }
            }
            ClientRequest::Answer {
                client,
                action,
                message_id,
                is_error,
                body,
            } => {
                let Some(connection) = self.clients.find(&client) else {
                    return self.without_client();
                };
                let depth_max = self.env.core.json_depth_max;
                let reply = if is_error {
                    Reply::from_error(&body, depth_max).map_err(|_| AnswerRefusal::Body)
                } else {
                    Reply::from_result(&body, depth_max).map_err(|_| AnswerRefusal::Body)
                };
                ClientReply::Answered(reply.and_then(|reply| {
                    connection
                        .handle_deferred(&action, &message_id, &reply)
                        .map_err(AnswerRefusal::Deferred)
                }))
            }
            ClientRequest::EndWait {
                client,
                message_id,
                waiter,
            } => match self.clients.find(&client) {
                Some(connection) if connection.handle_wait_over(&message_id, waiter) == WaitOver::Withdrawn => {
                    self.env.counters.pushes_withdrawn.add();
                    ClientReply::WaitWithdrawn(Box::new(Identity::clone(connection.identity())))
                }
                _ => ClientReply::WaitEnded,
            },
            ClientRequest::Describe { client } => match self.clients.find(&client) {
                Some(connection) => ClientReply::Described(self.clients.describe(&connection)),
                None => self.without_client(),
            },
            ClientRequest::Close { client, code, reason } => match self.clients.find(&client) {
                Some(connection) => {
                    connection.close(code, &reason);
                    ClientReply::Closed
                }
                None => self.without_client(),
            },
            ClientRequest::List { slot, limit } => {
                let (page, next) = self.clients.page(slot, limit.min(PAGE_MAX));
                ClientReply::Listed {
                    clients: page
                        .iter()
                        .map(|connection| self.clients.describe(connection))
                        .collect(),
                    next,
                }
            }
        }
    }

    fn post_outcome(&self, outcome: PushOutcome) {
        let PushOutcome {
            identity,
            call: (action, message_id),
            outcome,
            trace,
            token: _,
        } = outcome;
        let content = PostContent::Outcome(outcome);
        self.outbox
            .post(Rc::new(identity), (action, message_id), (content, trace), None);
    }
}

impl Shard {
    fn without_client(&self) -> ClientReply {
        let plane = self.control.plane();
        if plane.has_predecessor() || plane.is_taken_over() {
            ClientReply::Elsewhere
        } else {
            ClientReply::NotConnected
        }
    }
}

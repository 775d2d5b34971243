//! Answers the ingress, of whichever shard, about this shard's clients.

use std::rc::Rc;
use std::time::Instant;

use shards::parcel::Parcel;
use shards::socket::Descriptor;
use shards::spawn;

use super::Shard;
use super::mail::{ClientReply, ClientRequest, PushOutcome};
use crate::client::Connection;
use crate::client::parcel::Content;
use crate::ingress::Home;
use crate::observe::incidents::{Details, IncidentKind};
use protocol::cluster::Failure;
use protocol::mapping::routes::PAGE_MAX;
use protocol::mapping::{Identity, Reply};
use protocol::ocpp::{ClientId, PostContent, Push, PushRefusal, WaitOver};
use protocol::question::{About, AnswerRefusal, PageQuestion, Question, Told};

impl Home for Shard {
    fn answer(&self, request: ClientRequest) -> ClientReply {
        match request {
            ClientRequest::About(question) => match self.look_up(question) {
                Ok(told) => ClientReply::Told(told),
                Err(question) if self.is_in_takeover() => ClientReply::Elsewhere {
                    is_on_way: self.on_way.has(&question.client),
                    question: Box::new(question),
                },
                Err(question) if self.is_in_cluster() => ClientReply::Nowhere(Box::new(question)),
                Err(question) if matches!(question.about, About::Push(_)) => {
                    // While it drains, also for a client that has left already: it is asked for again, and is elsewhere by then.
                    let refusal = self.env.is_draining().then_some(PushRefusal::Ending);
                    self.env.counters.count_refused_push(refusal);
                    ClientReply::Told(refusal.map_or(Told::NotConnected, Told::PushRefused))
                }
                Err(_) => ClientReply::Told(Told::NotConnected),
            },
            ClientRequest::Count => ClientReply::Counted(self.clients.len()),
            ClientRequest::List { slot, limit, names } => {
                let limit = limit.min(PAGE_MAX);
                let is_meant = |client: &ClientId| names.as_ref().is_none_or(|names| names.has(client));
                let (page, next) = match names.is_some() {
                    true => self.clients.page_of(slot, limit, is_meant),
                    false => self.clients.page(slot, limit),
                };
                let clients = page.iter().map(|connection| self.clients.describe(connection));
                ClientReply::Listed {
                    clients: clients.collect(),
                    moving: self.on_way.those(|client| names.is_some() && is_meant(client)),
                    next,
                }
            }
        }
    }

    fn ask_other_process(&self, token: u64, answer_by: Instant, question: Vec<u8>) -> bool {
        let has_other = self.control.plane().has_other_process();
        if has_other {
            self.other_process.ask(token, answer_by, question);
        }
        has_other
    }

    fn has_other_process(&self) -> bool {
        self.control.plane().has_other_process()
    }

    fn is_in_takeover(&self) -> bool {
        Self::is_in_takeover(self)
    }

    fn can_hand_over(&self) -> bool {
        self.control.plane().has_other_process() && self.control.plane().is_taken_over()
    }

    fn hand_over(&self, socket: Descriptor, about: Vec<u8>) {
        let bytes = Content::Backend(&about).pack();
        // So many are on their way that this one is closed: as if it had ended between two requests.
        drop(self.handover.try_send_outside(Parcel { socket, bytes }));
    }

    fn is_in_cluster(&self) -> bool {
        self.other_nodes.is_some()
    }

    fn ask_cluster(&self, token: u64, question: Box<Question>) -> Result<(), Failure> {
        self.ask_nodes(token, question)
    }

    fn ask_which_nodes(&self, token: u64) {
        self.ask_nodes_who_they_are(token);
    }

    fn node_name(&self) -> String {
        self.node_name.to_string()
    }

    fn post_outcome(&self, outcome: PushOutcome) {
        let PushOutcome {
            identity,
            call: (action, message_id),
            outcome,
            trace,
            waiter: _,
        } = outcome;
        let content = PostContent::Outcome(outcome);
        self.outbox
            .post(Rc::new(identity), (action, message_id), (content, trace), None);
    }
}

impl Shard {
    /// True while clients may be in another process, or are on their way from or to one.
    pub(super) fn is_in_takeover(&self) -> bool {
        let plane = self.control.plane();
        plane.has_other_process() || plane.has_predecessor() || plane.is_taken_over()
    }

    /// Puts a page of this process's clients together for a shard of the other process.
    pub(super) fn tell_page(&self, (shard, token): (u16, u64), answer_by: Instant, question: PageQuestion) {
        let (env, ingress) = (self.env.clone(), self.ingress.clone());
        let other_process = self.other_process.clone();
        spawn(async move {
            let page = match env.reactor.exact_now() < answer_by {
                true => ingress.page_for_other_process(&question).await,
                false => None,
            };
            let told = page.map(|page| Told::Listed(page.into()));
            other_process.tell(shard, token, told.as_ref());
        });
    }

    /// Answers the other process of a takeover.
    pub(super) fn answer_other_process(&self, question: Question) -> Told {
        if self.on_way.has(&question.client) {
            return Told::OnItsWay;
        }
        match &question.about {
            About::Replace { by } => self.replace(&question.client, *by),
            About::ForgetWait { message_id, waiter } => {
                let Some(connection) = self.clients.find(&question.client) else {
                    return Told::NotConnected;
                };
                match connection.handle_wait_over(message_id, *waiter) {
                    WaitOver::Sent => {
                        self.other_process.forget(*waiter);
                        Told::WaitEnded
                    }
                    WaitOver::Withdrawn => Told::WaitEnded,
                    // It may be a push of another connection, in the process that asks.
                    WaitOver::Ended => Told::NotConnected,
                }
            }
            _ => self.look_up(question).unwrap_or(Told::NotConnected),
        }
    }

    /// The client's connection answers, if it is here.
    #[expect(clippy::result_large_err, reason = "in a box it would cost each push an allocation")]
    pub(super) fn look_up(&self, question: Question) -> Result<Told, Question> {
        let Some(connection) = self.clients.find(&question.client) else {
            return Err(question);
        };
        Ok(match question.about {
            About::Push(push) => self.push(&connection, push),
            About::Answer {
                action,
                message_id,
                is_error,
                body,
            } => {
                let depth_max = self.env.core.json_depth_max;
                let reply = if is_error {
                    Reply::from_error(&body, depth_max).map_err(|_| AnswerRefusal::Body)
                } else {
                    Reply::from_result(&body, depth_max).map_err(|_| AnswerRefusal::Body)
                };
                Told::Answered(reply.and_then(|reply| {
                    connection
                        .handle_deferred(&action, &message_id, &reply)
                        .map_err(AnswerRefusal::Deferred)
                }))
            }
            About::EndWait { message_id, waiter } => {
                if connection.handle_wait_over(&message_id, waiter) == WaitOver::Withdrawn {
                    self.env.counters.pushes_withdrawn.add();
                    Told::WaitWithdrawn(Box::new(Identity::clone(connection.identity())))
                } else {
                    Told::WaitEnded
                }
            }
            About::Describe => Told::Described(self.clients.describe(&connection).json()),
            About::Close { code, reason } => {
                connection.close(code, &reason);
                Told::Closed
            }
            // Of the other process alone.
            About::ForgetWait { .. } | About::Replace { .. } => Told::NotConnected,
        })
    }

    fn push(&self, connection: &Connection, push: Push) -> Told {
        if self.env.is_draining() {
            self.env.counters.count_refused_push(Some(PushRefusal::Ending));
            return Told::PushRefused(PushRefusal::Ending);
        }
        let (action, message_id, trace) = (push.action.clone(), push.message_id.clone(), push.trace.clone());
        match connection.handle_push(push) {
            Ok(accepted) => {
                self.env.counters.pushes_accepted.add();
                Told::Pushed {
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
                Told::PushRefused(refusal)
            }
        }
    }
}

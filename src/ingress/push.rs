//! Does what a request at the ingress asks for, and makes its answer.

use std::time::Duration;

use bytes::Bytes;
use shards::Socket;

use super::Ingress;
use super::answer::Answer;
use super::list::list;
use super::nodes;
use super::outcome_waits::{PushWait, Settle, Waited};
use super::queries::NotAsked;
use crate::shard::mail::PushOutcome;
use protocol::cluster::Failure;
use protocol::mapping::bodies;
use protocol::mapping::routes::Route;
use protocol::ocpp::{ClientId, DeferredRefusal, FailReason, Outcome, Push};
use protocol::ocpp::{JsonError, PushRefusal, Text, Waiter, json};
use protocol::question::{About, AnswerRefusal, Told};
use protocol::trace_context::TraceParent;

/// Does what the request asks for; of a push `wait` and `trace` are what its head says. `None`: the backend hung up while it waited.
pub(super) async fn answer(
    ingress: &Ingress,
    route: Route,
    body: Vec<u8>,
    (wait, trace): (Option<Duration>, Option<Box<TraceParent>>),
    socket: &Socket,
) -> Option<Answer> {
    match route {
        Route::Push {
            action,
            client,
            message_id,
        } => {
            let payload = match payload(body, ingress.env.core.json_depth_max) {
                Ok(payload) => payload,
                Err(error) => {
                    ingress.env.counters.ingress_bad.add();
                    return Some(Answer::error(400, &format!("the body is not a JSON value: {error}")));
                }
            };
            let push = Push {
                action,
                message_id,
                payload,
                waiter: None,
                trace,
            };
            match wait {
                None => Some(push_and_go(ingress, client, push).await),
                Some(wait) => push_and_wait(ingress, client, push, wait, socket).await,
            }
        }
        Route::Answer {
            client,
            action,
            message_id,
            is_error,
        } => {
            let about = About::Answer {
                action,
                message_id,
                is_error,
                body: Bytes::from(body),
            };
            Some(answer_deferred(ingress.ask_about(client, about).await))
        }
        Route::Describe(client) => Some(match ingress.ask_about(client, About::Describe).await {
            Ok(Told::Described(description)) => Answer::json(200, description.into_bytes()),
            reply => without_client(reply.err()),
        }),
        Route::Close { client, code, reason } => {
            Some(match ingress.ask_about(client, About::Close { code, reason }).await {
                Ok(Told::Closed) => Answer::json(204, Vec::new()),
                reply => without_client(reply.err()),
            })
        }
        Route::List { after, limit } => Some(list(ingress, after, limit).await),
        Route::Nodes => Some(nodes::nodes(ingress).await),
    }
}

async fn push_and_go(ingress: &Ingress, client: ClientId, push: Push) -> Answer {
    let message_id = push.message_id.clone();
    match ingress.ask_about(client, About::Push(push)).await {
        Ok(Told::Pushed { accepted, connection }) => {
            let body = bodies::accepted(accepted, &message_id, &connection);
            Answer::json(202, body.into_bytes())
        }
        reply => answer_refusal(reply),
    }
}

async fn push_and_wait(
    ingress: &Ingress,
    client: ClientId,
    push: Push,
    wait: Duration,
    socket: &Socket,
) -> Option<Answer> {
    let token = ingress.queries.next_token();
    let until = ingress.env.reactor.now() + wait;
    ingress.outcome_waits.begin(token);
    let waiter = Waiter {
        process: ingress.env.generation,
        shard: ingress.env.index as u16,
        token,
        ..Waiter::default()
    };
    let (action, message_id, trace) = (push.action.clone(), push.message_id.clone(), push.trace.clone());
    let push = Push {
        waiter: Some(waiter),
        ..push
    };
    match ingress.ask_about(client.clone(), About::Push(push)).await {
        Ok(Told::Pushed { .. }) => {}
        reply => {
            ingress.outcome_waits.cancel(token);
            return Some(answer_refusal(reply));
        }
    }
    match ingress.outcome_waits.wait(token, socket, until).await {
        Waited::Outcome(outcome) => Some(answer_outcome(outcome)),
        Waited::Gone => None,
        Waited::TimedOut => {
            let about = About::EndWait {
                message_id: message_id.clone(),
                waiter,
            };
            let over = ingress.ask_about(client.clone(), about).await;
            if let Some(outcome) = ingress.outcome_waits.take(token) {
                return Some(answer_outcome(outcome));
            }
            if let Ok(Told::WaitWithdrawn(identity)) = over {
                ingress.outcome_waits.cancel(token);
                let outcome = PushOutcome {
                    waiter,
                    identity: *identity,
                    call: (action, message_id),
                    outcome: Outcome::Failed {
                        reason: FailReason::Timeout,
                        sent: false,
                    },
                    trace,
                };
                return Some(answer_outcome(outcome.into()));
            }
            let body = bodies::failed(FailReason::Timeout, true).as_bytes().to_vec();
            Some(Answer {
                settle: Settle::Wait(Box::new(PushWait {
                    client,
                    message_id,
                    waiter,
                })),
                ..Answer::json(504, body)
            })
        }
    }
}

/// The outcome as the answer to the request that waited for it.
fn answer_outcome(outcome: Box<PushOutcome>) -> Answer {
    let status = match &outcome.outcome {
        Outcome::Result(_) => 200,
        Outcome::Error { .. } => 422,
        Outcome::Failed {
            reason: FailReason::Timeout,
            ..
        } => 504,
        Outcome::Failed { .. } => 502,
    };
    let answer = Answer::json(status, bodies::outcome(&outcome.outcome).to_vec());
    Answer {
        settle: Settle::Outcome(outcome),
        ..answer
    }
}

fn answer_refusal(reply: Result<Told, NotAsked>) -> Answer {
    match reply {
        Ok(Told::PushRefused(refusal)) => {
            let answer = |status| Answer::error(status, &refusal.to_string());
            match refusal {
                PushRefusal::Pending => answer(409),
                PushRefusal::Full => answer(429).with_retry_after(RETRY_AFTER),
                PushRefusal::MessageId => answer(400),
                PushRefusal::Ending => answer(503).with_retry_after(RETRY_AFTER),
            }
        }
        reply => without_client(reply.err()),
    }
}

fn answer_deferred(reply: Result<Told, NotAsked>) -> Answer {
    match reply {
        Ok(Told::Answered(Ok(()))) => Answer::json(204, Vec::new()),
        Ok(Told::Answered(Err(refusal))) => match refusal {
            AnswerRefusal::Deferred(refusal @ DeferredRefusal::NoneOpen) => Answer::error(404, &refusal.to_string()),
            AnswerRefusal::Deferred(refusal @ DeferredRefusal::Answered) => Answer::error(409, &refusal.to_string()),
            AnswerRefusal::Body => Answer::error(400, "the body is not what the client can be answered with"),
        },
        reply => without_client(reply.err()),
    }
}

/// The body as one JSON value, without white space around it; inside it nothing is touched.
fn payload(body: Vec<u8>, depth_max: usize) -> Result<Text, JsonError> {
    let body = String::from_utf8(body).map_err(|error| JsonError::NotUtf8 {
        at: error.utf8_error().valid_up_to(),
    })?;
    let value = json::trim(json::without_mark(&body));
    json::check_text(value, depth_max)?;
    Ok(if value.len() == body.len() {
        body.into()
    } else {
        value.to_owned().into()
    })
}

/// Nobody of that name is there, or nobody could be asked.
fn without_client(not_asked: Option<NotAsked>) -> Answer {
    match not_asked {
        None => Answer::error(404, "this client is not connected here"),
        Some(NotAsked::Overloaded) => overloaded(),
        Some(NotAsked::Elsewhere) => {
            let words = "a new process takes over, and the other one, which may have this client, can't be asked";
            Answer::error(503, words).with_retry_after(RETRY_AFTER)
        }
        Some(NotAsked::Cluster(failure)) => {
            let answer = |status| Answer::error(status, &failure.to_string());
            match failure {
                Failure::Nobody => answer(404),
                Failure::TooLong => answer(413),
                Failure::Away | Failure::Full | Failure::NotCarriedOut => answer(503).with_retry_after(RETRY_AFTER),
                Failure::Unanswered => answer(504),
            }
        }
    }
}

pub(super) fn overloaded() -> Answer {
    Answer::error(503, "the client's shard is overloaded").with_retry_after(RETRY_AFTER)
}

pub(super) const RETRY_AFTER: &str = "1";

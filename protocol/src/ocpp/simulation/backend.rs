//! Plays the backend, which answers at once, late or never, and pushes.

use super::ledger::{Call, CallStage, PushStage, Pushed, Stage, ensure};
use super::world::{Checked, Request, World};
use crate::http::Failure;
use crate::mapping::{Answer, Reply};
use crate::ocpp::{Accepted, Action, DeferredRefusal, Event, MessageId, Push, PushRefusal, WaitOver, Waiter};
use crate::trace_context::TraceParent;

impl World {
    pub(super) fn backend_answers(&mut self) -> Checked {
        if self.requests.is_empty() {
            return Ok(());
        }
        let request = self.random.below(self.requests.len());
        let answer = self.random.below(ANSWERS.len());
        self.backend_answers_request(request, answer)
    }

    /// Delivered, refused or given up: it is all the same to the client.
    pub(super) fn backend_takes_post(&mut self) -> Checked {
        if self.posts.is_empty() {
            return Ok(());
        }
        let index = self.random.below(self.posts.len());
        let (connection, len) = self.posts.remove(index);
        // A session that has ended and has no request out is not there any more.
        let Some(who) = self.clients.iter().position(|client| client.number == connection) else {
            return Ok(());
        };
        self.happen("post delivered");
        let ledger = &mut self.clients[who].ledger;
        let read_before = ledger.wants_read();
        ledger.deliver(self.now, len)?;
        if !read_before && ledger.wants_read() {
            self.happen("read again");
        }
        self.act(who, |session, now, _| session.handle_post_over(now, len))
    }

    pub(super) fn backend_answers_request(&mut self, request: usize, answer: usize) -> Checked {
        let Request { connection, key, .. } = self.requests.remove(request);
        let (answer, rest) = ANSWERS[answer];
        let Some(who) = self.clients.iter().position(|client| client.number == connection) else {
            self.happen("answer for a client that has gone");
            let index = self
                .ended
                .iter()
                .position(|ended| ended.number == connection)
                .expect("kept while a request is out");
            let ended = &mut self.ended[index];
            ended.session.handle_answer(self.now, key, answer, &mut self.out);
            ended.ledger.expected.counts.push(Event::BackendAnswerDropped);
            ended.ledger.settle(&ended.session, &mut self.out)?;
            let who = ended.who;
            if self.requests.iter().all(|request| request.connection != connection) {
                self.ended.remove(index);
            }
            return self.tell_earlier_calls(who);
        };
        let ledger = &mut self.clients[who].ledger;
        if ledger.stage >= Stage::Closing {
            ledger.expected.counts.push(Event::BackendAnswerDropped);
        } else {
            let at = |call: &Call| matches!(call.stage, CallStage::AtBackend(k, _) | CallStage::AnsweredEarly(k) if k == key);
            let index = ledger.calls.iter().position(at).expect("the Call of an open request");
            match (ledger.calls[index].stage, rest) {
                (CallStage::AtBackend(key, deadline), "") => {
                    ledger.calls[index].stage = CallStage::Deferred(key, deadline);
                    self.happen("deferral");
                }
                (CallStage::AtBackend(..), _) => {
                    if matches!(answer, Answer::Response { status: 200, .. }) && rest.starts_with('4') {
                        ledger.expected.counts.push(Event::BackendAnswerNotJson);
                    }
                    ledger.expect_answer(self.now, index, rest, false);
                    self.happen("answer");
                }
                (_, rest) => {
                    if !rest.is_empty() {
                        ledger.expected.counts.push(Event::BackendAnswerDropped);
                    }
                    let read_before = ledger.wants_read();
                    ledger.remove_call(self.now, index, read_before);
                }
            }
        }
        self.act(who, |session, now, out| session.handle_answer(now, key, answer, out))
    }

    /// At the ingress: for deferred Calls, for others that are open, for those that are over.
    pub(super) fn backend_answers_late(&mut self, who: usize) -> Checked {
        let ledger = &mut self.clients[who].ledger;
        let mut ids: Vec<_> = ledger.calls.iter().map(|call| call.id.clone()).collect();
        ids.extend(ledger.answered_deferred.iter().cloned());
        ids.push("c0".to_owned());
        let id = ids.swap_remove(self.random.below(ids.len()));
        let find = |call: &Call| call.id == id && !matches!(call.stage, CallStage::AnsweredEarly(_));
        let open = match ledger.stage >= Stage::Closing {
            true => None,
            false => ledger
                .calls
                .iter()
                .position(find)
                .filter(|index| ledger.calls[*index].stage != CallStage::Waiting),
        };
        // The id of an open Call, but another Action.
        let mistaken = open.is_some() && self.random.percent(10);
        let action = match open {
            Some(index) if !mistaken => ledger.calls[index].action.clone(),
            _ => "Other".to_owned(),
        };
        if mistaken {
            self.happen("deferred answer with another Action");
        }
        let ledger = &mut self.clients[who].ledger;
        let expected = match open.filter(|_| !mistaken) {
            Some(index) => {
                let early = matches!(ledger.calls[index].stage, CallStage::AtBackend(..));
                ledger.expect_answer(self.now, index, "3,{\"late\":1}]", early);
                ledger.remember_deferred(id.clone());
                self.happen(if early {
                    "early deferred answer"
                } else {
                    "deferred answer"
                });
                Ok(())
            }
            None if ledger.answered_deferred.contains(&id) => Err(DeferredRefusal::Answered),
            None => Err(DeferredRefusal::NoneOpen),
        };
        let id = MessageId::parse(&id).expect("an id");
        let action = Action::parse(&action).expect("an Action");
        let mut result = Ok(());
        self.act(who, |session, now, out| {
            result = session.handle_deferred(now, &action, &id, &Reply::Result("{\"late\":1}"), out);
        })?;
        ensure!(result == expected, "{result:?} instead of {expected:?}");
        Ok(())
    }

    pub(super) fn backend_pushes(&mut self, who: usize) -> Checked {
        self.count += 1;
        let ledger = &mut self.clients[who].ledger;
        let id = match ledger.pushes.len() {
            len if len > 0 && self.random.percent(10) => {
                ledger.pushes[self.random.below(len)].push.message_id.to_string()
            }
            _ => format!("p{}", self.count),
        };
        let waiter = self.random.percent(30).then_some(Waiter {
            process: 0,
            shard: 1,
            token: self.count as u64,
            ..Waiter::default()
        });
        let trace = self
            .random
            .percent(50)
            .then(|| Box::new(TraceParent::begin(self.count as u128, 1)));
        let push = Push {
            action: Action::parse(self.random.pick(&["Reset", "Über"])).expect("an Action"),
            message_id: MessageId::parse(&id).expect("an id"),
            payload: format!("{{\"n\": {}}}", self.count).into(),
            waiter,
            trace,
        };
        let expected = if ledger.stage != Stage::Open {
            Err(PushRefusal::Ending)
        } else if ledger
            .pushes
            .iter()
            .any(|pushed| pushed.push.message_id == push.message_id)
        {
            Err(PushRefusal::Pending)
        } else if ledger.pushes_in_flight() < ledger.limits.pushes_in_flight && ledger.hold.is_none() {
            Ok(Accepted::Sent)
        } else if ledger.has_room_for(push.payload.len()) {
            Ok(Accepted::Queued)
        } else {
            Err(PushRefusal::Full)
        };
        if expected.is_ok() {
            ledger.pushes.push(Pushed {
                push: push.clone(),
                stage: PushStage::Waiting,
            });
            self.accepted += 1;
        }
        self.happen(match expected {
            Ok(Accepted::Sent) => "push sent",
            Ok(Accepted::Queued) => "push queued",
            Err(_) => "push refused",
        });
        let mut result = Err(PushRefusal::Full);
        self.act(who, |session, now, out| result = session.handle_push(now, push, out))?;
        ensure!(result == expected, "{id}: {result:?} instead of {expected:?}");
        Ok(())
    }

    pub(super) fn wait_is_over(&mut self, who: usize) -> Checked {
        let ledger = &mut self.clients[who].ledger;
        let waits = |pushed: &Pushed| pushed.push.waiter.is_some();
        // The last one: the first was mostly sent.
        let Some(index) = ledger.pushes.iter().rposition(waits) else {
            return Ok(());
        };
        let Push { message_id, waiter, .. } = ledger.pushes[index].push.clone();
        let waiter = waiter.expect("it was looked for");
        let expected = if ledger.pushes[index].stage == PushStage::Waiting {
            ledger.pushes.remove(index);
            self.accepted -= 1;
            self.happen("push withdrawn");
            WaitOver::Withdrawn
        } else {
            WaitOver::Sent
        };
        let mut over = WaitOver::Ended;
        self.act(who, |session, _, _| {
            let other = session.handle_wait_over(&message_id, Waiter { token: 0, ..waiter });
            debug_assert_eq!(other, WaitOver::Ended);
            over = session.handle_wait_over(&message_id, waiter);
        })?;
        ensure!(over == expected, "{message_id}: {over:?} instead of {expected:?}");
        Ok(())
    }
}

const fn response(status: u16, content: &'static str) -> Answer<'static> {
    Answer::Response {
        status,
        deferred: status == 202,
        content: content.as_bytes(),
    }
}

/// The backend's answers and what the client gets, `…` for anything; nothing for a deferral. The first is the deadline's,
/// the second always an answer.
const ANSWERS: &[(Answer<'static>, &str)] = &[
    (Answer::Failed(Failure::Deadline), "4,\"InternalError\",…"),
    (response(200, "{\"ok\": 1}"), "3,{\"ok\": 1}]"),
    (
        response(200, "{\"n\":1e999,\"n\":\"\\ud800\"}\n"),
        "3,{\"n\":1e999,\"n\":\"\\ud800\"}]",
    ),
    (response(204, ""), "3,{}]"),
    (response(200, "<html>"), "4,\"InternalError\",…"),
    (response(403, ""), "4,\"SecurityError\",…"),
    (response(500, "{\"code\":\"Y\"}"), "4,\"Y\",\"\",{}]"),
    (Answer::Failed(Failure::CutOff), "4,\"InternalError\",…"),
    (response(202, ""), ""),
    (response(202, ""), ""),
];

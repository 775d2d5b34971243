//! Takes a client's Calls on their way to the backend, and the answers on their way back.

use std::time::Instant;

use super::call_list::{Call, CallState};
use super::{Fault, Phase, Session, refusal};
use crate::mapping::answer::{self, Answer, Reply};
use crate::ocpp::frame::{self, RawError};
use crate::ocpp::ids::{Action, MessageId};
use crate::ocpp::output::{CallKey, DeferredRefusal, Event, Output, PostContent};
use crate::ocpp::outputs::Outputs;

impl Session {
    /// What became of an [`Output::Call`]. Each gets exactly one; if it is a deferral, the Call stays open until
    /// [`Session::handle_deferred`] or its deadline.
    pub fn handle_answer(&mut self, now: Instant, key: CallKey, answer: Answer<'_>, out: &mut Outputs) {
        assert!(key.0 < self.key_next, "an answer to a Call of another session");
        let found = if self.phase >= Phase::Closing {
            None
        } else {
            self.calls.find_key(key)
        };
        let Some(index) = found else {
            out.push(Output::Count(Event::BackendAnswerDropped));
            return;
        };
        let reply = answer::map(answer, self.subprotocol, self.limits.json_depth_max);
        let call = self.calls.get_mut(index);
        match (call.state, &reply) {
            (CallState::Sent, Reply::Deferred) => call.state = CallState::Deferred,
            (CallState::Sent, _) => {
                let is_success = matches!(answer, Answer::Response { status: 200..300, .. });
                if is_success && matches!(reply, Reply::Error { .. }) {
                    out.push(Output::Count(Event::BackendAnswerNotJson));
                }
                self.answer_call(now, index, &reply, out);
            }
            (CallState::Answered, _) => {
                if reply != Reply::Deferred {
                    out.push(Output::Count(Event::BackendAnswerDropped));
                }
                self.remove_call(now, index);
                self.go_on_with_calls(now, out);
            }
            (CallState::Queued | CallState::Deferred, _) => {
                debug_assert!(false, "a second answer to one Call");
            }
        }
    }

    /// The late answer to a Call that the backend has deferred, or is about to: its worker may be faster than its 202.
    /// It is for the Call of that MessageId if that has this Action: a client may use an id again.
    ///
    /// # Errors
    /// [`DeferredRefusal`]; the client is not told anything then.
    pub fn handle_deferred(
        &mut self,
        now: Instant,
        action: &Action,
        message_id: &MessageId,
        reply: &Reply<'_>,
        out: &mut Outputs,
    ) -> Result<(), DeferredRefusal> {
        assert!(*reply != Reply::Deferred, "an answer, not another deferral");
        let open = if self.phase >= Phase::Closing {
            None
        } else {
            self.calls.find_open(message_id.as_str())
        };
        let open = open.filter(|index| self.calls.get(*index).action() == *action);
        match open.map(|index| (index, self.calls.get(index).state)) {
            Some((index, CallState::Deferred)) => {
                self.answered_ids
                    .get_or_insert_default()
                    .remember_deferred(message_id.clone());
                self.answer_call(now, index, reply, out);
                Ok(())
            }
            Some((index, CallState::Sent)) => {
                self.answered_ids
                    .get_or_insert_default()
                    .remember_deferred(message_id.clone());
                self.send_answer(index, reply, out);
                self.calls.get_mut(index).state = CallState::Answered;
                Ok(())
            }
            _ => match &self.answered_ids {
                Some(answered_ids) if answered_ids.has_deferred(message_id) => Err(DeferredRefusal::Answered),
                _ => Err(DeferredRefusal::NoneOpen),
            },
        }
    }

    /// A Call whose id is open is coalesced or refused; another is sent or queued.
    pub(super) fn handle_call(&mut self, now: Instant, call: Call, message_id: &str, out: &mut Outputs) {
        if let Some(index) = self.calls.find_open(message_id) {
            if self.calls.get(index).text.message() != call.text.message() {
                out.push(Output::Count(Event::CallRepeatedId));
                let code = self.subprotocol.repeated_id();
                let words = "another Call with this MessageId is open";
                return self.send(refusal(call.text.raw_id(), code, words), None, out);
            }
            if !self.breaks(Fault::RepeatNotCoalesced) {
                return out.push(Output::Count(Event::CallCoalesced));
            }
        }
        if self.phase == Phase::Leaving && !self.breaks(Fault::TakenWhileLeaving) {
            out.push(Output::Count(Event::CallDropped));
            return;
        }
        if !self.has_room_for_call() {
            out.push(Output::Count(Event::CallShed));
            let frame = refusal(call.text.raw_id(), "InternalError", "too many Calls wait");
            return self.send(frame, None, out);
        }
        let is_first = self.calls.is_empty();
        self.calls.push(call);
        if is_first {
            self.send_calls(now, out);
        } else {
            self.go_on_with_calls(now, out);
        }
    }

    /// Each can be reported once, and only the latest CallResults.
    pub(super) fn handle_result_error(&mut self, message_id: &str, error: &RawError<'_>, out: &mut Outputs) {
        match self
            .answered_ids
            .as_mut()
            .and_then(|answered_ids| answered_ids.take_result(message_id))
        {
            Some((message_id, action)) => {
                let content = PostContent::ResultError(error.body().into());
                self.count_post(&content);
                out.push(Output::Post {
                    action,
                    message_id,
                    content,
                    trace: None,
                });
            }
            None => out.push(Output::Count(Event::AnswerUnmatched)),
        }
    }

    /// So many Calls of the client's earlier connections are still at the backend: they count among those in flight.
    pub fn handle_earlier_calls(&mut self, now: Instant, count: usize, out: &mut Outputs) {
        if self.phase >= Phase::Closing {
            return;
        }
        let read_before = self.wants_read();
        self.credits.set_earlier_calls(count);
        if !read_before {
            // It could not be heard until now.
            self.keepalive.heard(now);
        }
        self.go_on_with_calls(now, out);
    }

    /// Of this client, over whichever connection they came.
    pub(super) fn calls_in_flight(&self) -> usize {
        let earlier = self.credits.earlier_calls();
        match self.breaks(Fault::EarlierCallsUncounted) {
            true => self.calls.in_flight(),
            false => self.calls.in_flight() + earlier,
        }
    }

    pub(super) fn call_key(&mut self) -> CallKey {
        self.key_next += 1;
        CallKey(self.key_next - 1)
    }

    /// Sends what waits to the backend, unless it is to wait for another process.
    pub(super) fn go_on_with_calls(&mut self, now: Instant, out: &mut Outputs) {
        if !self.holds_calls || self.breaks(Fault::HoldForgotten) {
            self.send_calls(now, out);
        }
    }

    /// Sends what waits to the backend, as far as there is room.
    pub(super) fn send_calls(&mut self, now: Instant, out: &mut Outputs) {
        let limit = self.limits.calls_in_flight + usize::from(self.breaks(Fault::OneCallTooMany));
        while self.calls_in_flight() < limit {
            let Some(index) = self.calls.find_queued() else {
                return;
            };
            if self.breaks(Fault::QueueOvertaken) && self.calls.queued() > 1 {
                let overtaken = self.calls.remove(index);
                self.calls.push(overtaken);
            }
            let deadline = now.checked_add(self.limits.call_timeout).unwrap_or(now);
            let call = self.calls.get_mut(index);
            call.state = CallState::Sent;
            let arrived = std::mem::replace(&mut call.deadline, deadline);
            out.push(Output::Call {
                key: call.key,
                text: call.text.clone(),
                deadline,
                arrived,
            });
        }
    }

    /// The client's answer goes out, the Call is over, the next may start.
    pub(super) fn answer_call(&mut self, now: Instant, index: usize, reply: &Reply<'_>, out: &mut Outputs) {
        self.send_answer(index, reply, out);
        self.remove_call(now, index);
        self.go_on_with_calls(now, out);
    }

    fn send_answer(&mut self, index: usize, reply: &Reply<'_>, out: &mut Outputs) {
        let call = self.calls.get(index);
        let mut frame = out.frame();
        match reply {
            Reply::Result(payload) => frame::write_call_result(&mut frame, call.text.raw_id(), payload),
            Reply::Error {
                code,
                description,
                details,
            } => frame::write_call_error(&mut frame, call.text.raw_id(), code, description, details),
            Reply::Deferred => unreachable!("a deferral is no answer"),
        }
        self.send(frame, None, out);
        if self.subprotocol.has_send() && matches!(reply, Reply::Result(_)) {
            let call = self.calls.get(index);
            let (message_id, action) = (call.message_id(), call.action());
            self.answered_ids
                .get_or_insert_default()
                .remember_result(message_id, action);
        }
    }

    fn remove_call(&mut self, now: Instant, index: usize) {
        let read_before = self.wants_read();
        self.calls.remove(index);
        if !read_before {
            // It could not be heard until now.
            self.keepalive.heard(now);
        }
    }
}

//! One client's conversation, as a state machine without I/O.
//!
//! Everything that happens enters through `handle_*`, with the time; what is to be done is appended to `out`, in order;
//! the next time that something happens by itself is [`Session::next_deadline`]. The caller owns the socket.
//!
//! Invariants:
//! - One answer for each CALL of a client that stays, in the order of arrival as long as `calls_in_flight` is 1.
//! - One outcome for each push that was accepted, never two.
//! - A client's answers never wait behind its CALLs.
//! - Calls and pushes, in flight and queued, never exceed their limits.
//! - After [`Output::Close`] or [`Output::Drop`] only [`Session::handle_end`] has outputs, and no deadline is left.
//! - No heap while nothing is in flight, but what OCPP 2.1's CALLRESULTERROR and deferred answers have to remember.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::answer::{self, Answer, Failure, Reply};
use super::calls::{Call, CallState, Calls};
use super::frame::{self, CallFault, Frame, FrameError, RawError};
use super::ids::{Action, MessageId};
use super::json;
use super::output::{Accepted, CallKey, DeferredRefusal, Event, FailReason, Outcome, Output, Pending, PostKind};
use super::output::{Push, PushKey, PushRefusal, Waiter};
use super::pushes::Pushes;
use super::subprotocol::Subprotocol;

/// The bounds of every session of a shard.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A client's CALLs at the backend at once; at least 1. With more than 1, answers go out as they come.
    pub calls_in_flight: usize,
    /// CALLs that wait behind them; then the socket is not read. At least 1, or a push could wait behind a CALL.
    pub calls_queued: usize,
    /// From [`Output::Call`] to the answer, deferred or not.
    pub call_timeout: Duration,
    /// Pushes without an answer at once; at least 1.
    pub pushes_in_flight: usize,
    /// Pushes that wait behind them; then they are refused.
    pub pushes_queued: usize,
    /// From the moment that a push's frame was written to its answer.
    pub push_timeout: Duration,
    /// So many bad frames in a row close the connection; at least 1.
    pub bad_frames_max: u32,
    /// Levels of arrays and objects in one text message or body.
    pub json_depth_max: usize,
    /// Silence after which a client is pinged; each session takes a part of it between 3/4 and all.
    pub ping_after: Duration,
    /// Silence after which it is dropped.
    pub dead_after: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    limits: Rc<Limits>,
    calls: Calls,
    pushes: Pushes,
    /// What answers may still refer to after the CALL is over.
    past: Option<Box<Past>>,
    heard_at: Instant,
    key_next: u64,
    spread: u32,
    bad_frames: u32,
    subprotocol: Subprotocol,
    phase: Phase,
    pinged: bool,
    #[cfg(test)]
    pub(super) fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Phase {
    Open,
    /// As open, but no push is sent or accepted any more.
    Draining,
    /// Close or Drop has come out.
    Closing,
    /// The connection is over and everything has its outcome.
    Ended,
}

#[derive(Debug, Default)]
struct Past {
    /// The CALL that got the last CALLRESULT: what OCPP 2.1's CALLRESULTERROR refers to.
    result: Option<(MessageId, Action)>,
    /// Deferred CALLs that have been answered, the latest last; at most [`PAST_DEFERRED_MAX`].
    deferred: VecDeque<MessageId>,
}

/// A rule broken on purpose: the simulation has to notice.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// A push that has timed out can still be answered.
    TimedOutPushStays,
    /// An identical CALL is sent to the backend once more.
    RepeatNotCoalesced,
    /// Of the CALLs that wait, the second overtakes the first.
    QueueOvertaken,
    /// The end of the connection forgets the pushes that were sent.
    SentPushForgotten,
    /// A push's time does not begin when it is written.
    PushTimeForgotten,
    /// One CALL too many goes to the backend at once.
    OneCallTooMany,
}

impl Session {
    /// A connection that has just been upgraded. `spread` is a random number: it spreads the pings of clients that came together.
    pub fn new(subprotocol: Subprotocol, limits: Rc<Limits>, spread: u32, now: Instant) -> Self {
        debug_assert!(limits.calls_in_flight > 0);
        debug_assert!(limits.pushes_in_flight > 0);
        Self {
            limits,
            calls: Calls::default(),
            pushes: Pushes::default(),
            past: None,
            heard_at: now,
            key_next: 0,
            spread,
            bad_frames: 0,
            subprotocol,
            phase: Phase::Open,
            pinged: false,
            #[cfg(test)]
            fault: None,
        }
    }

    /// What was negotiated.
    pub fn subprotocol(&self) -> Subprotocol {
        self.subprotocol
    }

    /// A whole text message. Payloads in `out` share its memory.
    ///
    /// While [`Session::wants_read`] is false, the caller does not read, so that none comes; a CALL that comes all the
    /// same is refused.
    pub fn handle_text(&mut self, now: Instant, text: &Bytes, out: &mut Vec<Output>) {
        if self.phase >= Phase::Closing {
            return;
        }
        self.handle_heard(now);
        if text.is_empty() {
            out.push(Output::Count(Event::FrameEmpty));
            return;
        }
        if u32::try_from(text.len()).is_err() {
            return self.close(1009, "message too large", out);
        }
        let Ok(message) = std::str::from_utf8(text) else {
            return self.close(1007, "not UTF-8", out);
        };
        match frame::split(message, self.subprotocol, self.limits.json_depth_max) {
            Ok(Frame::Ignored) => out.push(Output::Count(Event::FrameIgnored)),
            Ok(frame) => {
                self.bad_frames = 0;
                self.handle_frame(now, text, frame, out);
            }
            Err(error) => self.handle_bad_frame(error, out),
        }
    }

    /// A binary message: OCPP-J has none.
    pub fn handle_binary(&mut self, out: &mut Vec<Output>) {
        if self.phase < Phase::Closing {
            out.push(Output::Count(Event::FrameBinary));
            self.close(1003, "text messages only", out);
        }
    }

    /// Anything from the client: a message, a ping, a pong.
    pub fn handle_heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.pinged = false;
    }

    /// What became of an [`Output::Call`]. Each gets exactly one; if it is a deferral, the CALL stays open until
    /// [`Session::handle_deferred`] or its deadline.
    pub fn handle_answer(&mut self, now: Instant, key: CallKey, answer: Answer<'_>, out: &mut Vec<Output>) {
        assert!(key.0 < self.key_next, "an answer to a CALL of another session");
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
            (CallState::Sent, _) => self.answer_call(now, index, &reply, out),
            (CallState::Answered, _) => {
                if reply != Reply::Deferred {
                    out.push(Output::Count(Event::BackendAnswerDropped));
                }
                self.remove_call(now, index);
                self.send_calls(now, out);
            }
            (CallState::Queued | CallState::Deferred, _) => {
                debug_assert!(false, "a second answer to one CALL");
            }
        }
    }

    /// The late answer to a CALL that the backend has deferred, or is about to: its worker may be faster than its 202.
    ///
    /// # Errors
    /// [`DeferredRefusal`]; the client is not told anything then.
    pub fn handle_deferred(
        &mut self,
        now: Instant,
        message_id: &MessageId,
        reply: &Reply<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), DeferredRefusal> {
        assert!(*reply != Reply::Deferred, "an answer, not another deferral");
        let open = if self.phase >= Phase::Closing {
            None
        } else {
            self.calls.find_open(message_id.as_str())
        };
        match open.map(|index| (index, self.calls.get(index).state)) {
            Some((index, CallState::Deferred)) => {
                self.remember_deferred(message_id.clone());
                self.answer_call(now, index, reply, out);
                Ok(())
            }
            Some((index, CallState::Sent)) => {
                self.remember_deferred(message_id.clone());
                self.send_answer(index, reply, out);
                self.calls.get_mut(index).state = CallState::Answered;
                Ok(())
            }
            _ => match &self.past {
                Some(past) if past.deferred.contains(message_id) => Err(DeferredRefusal::Answered),
                _ => Err(DeferredRefusal::NoneOpen),
            },
        }
    }

    /// A CALL from the backend. Accepted, it has exactly one outcome; refused, none.
    ///
    /// # Errors
    /// [`PushRefusal`].
    pub fn handle_push(&mut self, now: Instant, push: Push, out: &mut Vec<Output>) -> Result<Accepted, PushRefusal> {
        let _ = now;
        if self.phase != Phase::Open {
            return Err(PushRefusal::Ending);
        }
        if !push.message_id.fits(self.subprotocol) {
            return Err(PushRefusal::MessageId);
        }
        if self.pushes.contains(push.message_id.as_str()) {
            return Err(PushRefusal::Pending);
        }
        if self.pushes.in_flight() < self.limits.pushes_in_flight {
            debug_assert_eq!(self.pushes.queued(), 0, "pushes wait although there is room");
            self.pushes.push(push);
            self.send_pushes(out);
            return Ok(Accepted::Sent);
        }
        if self.pushes.queued() >= self.limits.pushes_queued {
            return Err(PushRefusal::Full);
        }
        self.pushes.push(push);
        Ok(Accepted::Queued)
    }

    /// A push's frame has left: its time counts from here. One that was answered meanwhile is not touched.
    pub fn handle_push_written(&mut self, now: Instant, key: PushKey, out: &mut Vec<Output>) {
        let _ = out;
        #[cfg(test)]
        if self.fault == Some(Fault::PushTimeForgotten) {
            return;
        }
        if self.phase < Phase::Closing {
            self.pushes.written(key, now.checked_add(self.limits.push_timeout));
        }
    }

    /// The ingress request that waited for this push has gone: the outcome will be posted.
    pub fn handle_waiter_gone(&mut self, message_id: &MessageId, waiter: Waiter) {
        if let Some(push) = self.pushes.get_mut(message_id.as_str())
            && push.waiter == Some(waiter)
        {
            push.waiter = None;
        }
    }

    /// [`Session::next_deadline`] has passed (or has not: then nothing happens).
    pub fn handle_deadline(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.phase >= Phase::Closing {
            return;
        }
        while let Some(index) = self.pushes.find_expired(now) {
            out.push(Output::Count(Event::PushTimeout));
            self.end_push(
                index,
                Outcome::Failed {
                    reason: FailReason::Timeout,
                    sent: true,
                },
                out,
            );
        }
        while let Some(index) = self.calls.find_expired(now) {
            out.push(Output::Count(Event::CallDeferredTimeout));
            self.remember_deferred(self.calls.get(index).message_id());
            let reply = answer::map(
                Answer::Failed(Failure::Deadline),
                self.subprotocol,
                self.limits.json_depth_max,
            );
            self.answer_call(now, index, &reply, out);
        }
        self.handle_silence(now, out);
    }

    /// When [`Session::handle_deadline`] has to be called next; asked anew after every other call.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.phase >= Phase::Closing {
            return None;
        }
        let due = [
            self.pushes.next_deadline(),
            self.calls.next_deadline(),
            self.silence_deadline(),
        ];
        due.into_iter().flatten().min()
    }

    /// Whether the socket is to be read. It is not while `calls_queued` wait; silence means nothing meanwhile.
    pub fn wants_read(&self) -> bool {
        self.calls.queued() < self.limits.calls_queued || self.calls.in_flight() < self.limits.calls_in_flight
    }

    /// The process drains: pushes that wait end as `Shutdown`, new ones are refused. CALLs go on.
    pub fn handle_shutdown(&mut self, now: Instant, out: &mut Vec<Output>) {
        let _ = now;
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            for push in self.pushes.take_queued() {
                post(
                    push,
                    Outcome::Failed {
                        reason: FailReason::Shutdown,
                        sent: false,
                    },
                    out,
                );
            }
        }
    }

    /// The connection is over; the session only counts answers from here on.
    ///
    /// Every push gets its outcome. But with [`FailReason::Replaced`] those that were not sent are returned, for
    /// [`Session::adopt`] of the new connection's session; else the list is empty.
    pub fn handle_end(&mut self, now: Instant, reason: FailReason, out: &mut Vec<Output>) -> Vec<Push> {
        let _ = now;
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        self.phase = Phase::Ended;
        for _ in 0..self.calls.queued() {
            out.push(Output::Count(Event::CallDropped));
        }
        self.calls.clear();
        self.past = None;
        let mut queued = self.pushes.take_queued();
        let sent = self.pushes.take_sent();
        #[cfg(test)]
        let sent = sent.filter(|_| self.fault != Some(Fault::SentPushForgotten));
        for push in sent {
            post(push, Outcome::Failed { reason, sent: true }, out);
        }
        if reason != FailReason::Replaced {
            for push in queued.drain(..) {
                post(push, Outcome::Failed { reason, sent: false }, out);
            }
        }
        queued
    }

    /// Takes over the pushes that the replaced connection has not sent; they go before this session's own.
    ///
    /// One that has no place here, or whose MessageId is pending here, ends as `Replaced`, not sent.
    pub fn adopt(&mut self, now: Instant, pushes: Vec<Push>, out: &mut Vec<Output>) {
        let _ = now;
        let reason = match self.phase {
            Phase::Open => FailReason::Replaced,
            Phase::Draining => FailReason::Shutdown,
            Phase::Closing | Phase::Ended => FailReason::Disconnected,
        };
        let room = (self.limits.pushes_in_flight + self.limits.pushes_queued)
            .saturating_sub(self.pushes.in_flight() + self.pushes.queued());
        let mut adopted = 0;
        for push in pushes {
            let welcome = self.phase == Phase::Open
                && adopted < room
                && push.message_id.fits(self.subprotocol)
                && !self.pushes.contains(push.message_id.as_str());
            if welcome {
                self.pushes.insert_queued(adopted, push);
                adopted += 1;
            } else {
                post(push, Outcome::Failed { reason, sent: false }, out);
            }
        }
        self.send_pushes(out);
    }

    /// What is under way.
    pub fn pending(&self) -> Pending {
        Pending {
            calls_in_flight: self.calls.in_flight(),
            calls_deferred: self
                .calls
                .iter()
                .filter(|call| call.state == CallState::Deferred)
                .count(),
            calls_queued: self.calls.queued(),
            pushes_in_flight: self.pushes.in_flight(),
            pushes_queued: self.pushes.queued(),
        }
    }

    fn handle_frame(&mut self, now: Instant, text: &Bytes, frame: Frame<'_>, out: &mut Vec<Output>) {
        let share = |slice: &str| text.slice_ref(slice.as_bytes());
        match frame {
            Frame::Call {
                message_id,
                raw_id,
                raw_action,
                payload,
                ..
            } => {
                if let Some(index) = self.calls.find_open(message_id.as_str())
                    && self.refuse_repeated(index, text, raw_id, out)
                {
                    return;
                }
                if self.wants_read() {
                    let call = Call::new(self.call_key(), text, raw_id, raw_action, payload, now);
                    self.calls.push(call);
                    self.send_calls(now, out);
                } else {
                    out.push(Output::Count(Event::CallShed));
                    out.push(refusal(raw_id, "InternalError", "too many CALLs wait"));
                }
            }
            Frame::CallResult { message_id, payload } => match self.pushes.find_sent(&message_id) {
                Some(index) => self.end_push(index, Outcome::Result(share(payload)), out),
                None => out.push(Output::Count(Event::AnswerUnmatched)),
            },
            Frame::CallError { message_id, error } => match self.pushes.find_sent(&message_id) {
                Some(index) => self.end_push(index, Outcome::from_error(&error), out),
                None => out.push(Output::Count(Event::AnswerUnmatched)),
            },
            Frame::CallResultError { message_id, error } => self.handle_result_error(&message_id, &error, out),
            Frame::Send {
                message_id,
                action,
                payload,
            } => {
                let body = share(payload);
                out.push(Output::Post {
                    kind: PostKind::Send,
                    action,
                    message_id,
                    body,
                    made_here: false,
                });
            }
            Frame::Ignored => unreachable!("counted by the caller"),
        }
    }

    /// A CALL whose id is open: coalesced or refused. False: let it through (test only).
    fn refuse_repeated(&mut self, index: usize, text: &Bytes, raw_id: &str, out: &mut Vec<Output>) -> bool {
        if self.calls.get(index).frame() != text {
            out.push(Output::Count(Event::CallRepeatedId));
            out.push(refusal(
                raw_id,
                self.subprotocol.repeated_id(),
                "another CALL with this MessageId is open",
            ));
            return true;
        }
        #[cfg(test)]
        if self.fault == Some(Fault::RepeatNotCoalesced) {
            return false;
        }
        out.push(Output::Count(Event::CallCoalesced));
        true
    }

    /// Each can be reported once, and only the latest CALLRESULT.
    fn handle_result_error(&mut self, message_id: &str, error: &RawError<'_>, out: &mut Vec<Output>) {
        let past = self.past.as_mut().map(|past| &mut past.result);
        match past.and_then(|result| result.take_if(|(id, _)| id.as_str() == message_id)) {
            Some((message_id, action)) => {
                let body = error.body().into();
                out.push(Output::Post {
                    kind: PostKind::ResultError,
                    action,
                    message_id,
                    body,
                    made_here: false,
                });
            }
            None => out.push(Output::Count(Event::AnswerUnmatched)),
        }
    }

    fn handle_bad_frame(&mut self, error: FrameError<'_>, out: &mut Vec<Output>) {
        match error {
            FrameError::Unreadable => {
                out.push(Output::Count(Event::FrameUnreadable));
                if let Some(code) = self.subprotocol.unreadable() {
                    out.push(refusal("\"-1\"", code, "no frame, or no readable MessageId in it"));
                }
            }
            FrameError::Call { raw_id, fault } => {
                out.push(Output::Count(Event::CallMalformed));
                out.push(refusal(
                    raw_id,
                    self.subprotocol.format_violation(),
                    CallFault::description(fault),
                ));
            }
            FrameError::NeverAnswered => out.push(Output::Count(Event::AnswerMalformed)),
        }
        self.bad_frames += 1;
        if self.bad_frames >= self.limits.bad_frames_max {
            out.push(Output::Count(Event::FramesBad));
            self.close(1008, "too many bad frames", out);
        }
    }

    /// After a pause of the whole machine the ping comes late; the client then still gets its time to answer.
    fn handle_silence(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.silence_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let ping_after = self.ping_after();
        if self.pinged || self.limits.dead_after <= ping_after {
            self.phase = Phase::Closing;
            out.push(Output::Drop);
            return;
        }
        self.pinged = true;
        self.heard_at = now.checked_sub(ping_after).unwrap_or(self.heard_at);
        out.push(Output::Ping);
    }

    fn silence_deadline(&self) -> Option<Instant> {
        if !self.wants_read() {
            return None;
        }
        let dead_after = self.limits.dead_after;
        let silence = if self.pinged {
            dead_after
        } else {
            self.ping_after().min(dead_after)
        };
        self.heard_at.checked_add(silence)
    }

    fn ping_after(&self) -> Duration {
        let quarter = u64::try_from(self.limits.ping_after.as_nanos() / 4).unwrap_or(u64::MAX);
        let earlier = (u128::from(quarter) * u128::from(self.spread)) >> u32::BITS;
        self.limits.ping_after - Duration::from_nanos(u64::try_from(earlier).unwrap_or(quarter))
    }

    fn call_key(&mut self) -> CallKey {
        self.key_next += 1;
        CallKey(self.key_next - 1)
    }

    fn calls_in_flight_max(&self) -> usize {
        #[cfg(test)]
        if self.fault == Some(Fault::OneCallTooMany) {
            return self.limits.calls_in_flight + 1;
        }
        self.limits.calls_in_flight
    }

    /// Sends what waits to the backend, as far as there is room.
    fn send_calls(&mut self, now: Instant, out: &mut Vec<Output>) {
        while self.calls.in_flight() < self.calls_in_flight_max() {
            let Some(index) = self.calls.find_queued() else {
                return;
            };
            #[cfg(test)]
            if self.fault == Some(Fault::QueueOvertaken) && self.calls.queued() > 1 {
                let overtaken = self.calls.remove(index);
                self.calls.push(overtaken);
            }
            let deadline = now.checked_add(self.limits.call_timeout).unwrap_or(now);
            let call = self.calls.get_mut(index);
            call.state = CallState::Sent;
            call.deadline = deadline;
            let (action, message_id) = (call.action(), call.message_id());
            out.push(Output::Call {
                key: call.key,
                action,
                message_id,
                payload: call.payload(),
                deadline,
            });
        }
    }

    /// The client's answer goes out, the CALL is over, the next may start.
    fn answer_call(&mut self, now: Instant, index: usize, reply: &Reply<'_>, out: &mut Vec<Output>) {
        self.send_answer(index, reply, out);
        self.remove_call(now, index);
        self.send_calls(now, out);
    }

    fn send_answer(&mut self, index: usize, reply: &Reply<'_>, out: &mut Vec<Output>) {
        let call = self.calls.get(index);
        let frame = match reply {
            Reply::Result(payload) => frame::build_call_result(call.raw_id(), payload),
            Reply::Error {
                code,
                description,
                details,
            } => frame::build_call_error(call.raw_id(), code, description, details),
            Reply::Deferred => unreachable!("a deferral is no answer"),
        };
        out.push(Output::Send {
            frame: frame.into(),
            push: None,
        });
        if self.subprotocol.has_send() && matches!(reply, Reply::Result(_)) {
            let result = (call.message_id(), call.action());
            self.past.get_or_insert_default().result = Some(result);
        }
    }

    fn remove_call(&mut self, now: Instant, index: usize) {
        let read_before = self.wants_read();
        self.calls.remove(index);
        if !read_before {
            // It could not be heard until now.
            self.handle_heard(now);
        }
    }

    fn remember_deferred(&mut self, message_id: MessageId) {
        let past = self.past.get_or_insert_default();
        if past.deferred.len() == PAST_DEFERRED_MAX {
            past.deferred.pop_front();
        }
        past.deferred.push_back(message_id);
    }

    /// Sends the frames of pushes that wait, as far as there is room.
    fn send_pushes(&mut self, out: &mut Vec<Output>) {
        while self.pushes.in_flight() < self.limits.pushes_in_flight {
            let key = PushKey(self.key_next);
            let Some(push) = self.pushes.send_next(key) else {
                return;
            };
            self.key_next += 1;
            let frame = frame::build_call(&push.message_id, &push.action, &push.payload);
            out.push(Output::Send {
                frame: frame.into(),
                push: Some(key),
            });
        }
    }

    fn end_push(&mut self, index: usize, outcome: Outcome, out: &mut Vec<Output>) {
        let push = self.pushes.remove(index);
        #[cfg(test)]
        if self.fault == Some(Fault::TimedOutPushStays) && matches!(outcome, Outcome::Failed { .. }) {
            self.pushes.insert_queued(0, push.clone());
            self.pushes.send_next(PushKey(self.key_next));
            self.key_next += 1;
        }
        post(push, outcome, out);
        self.send_pushes(out);
    }

    fn close(&mut self, code: u16, reason: &'static str, out: &mut Vec<Output>) {
        debug_assert!(self.phase < Phase::Closing, "closed once");
        self.phase = Phase::Closing;
        out.push(Output::Close { code, reason });
    }
}

/// Tells whoever waits for the push, or else the backend.
fn post(push: Push, outcome: Outcome, out: &mut Vec<Output>) {
    let Push {
        action,
        message_id,
        waiter,
        ..
    } = push;
    out.push(match waiter {
        Some(waiter) => Output::Outcome {
            action,
            message_id,
            waiter,
            outcome,
        },
        None => outcome.into_post(action, message_id),
    });
}

/// A CALLERROR of our own.
fn refusal(raw_id: &str, code: &str, description: &str) -> Output {
    let (code, description) = (json::string(code), json::string(description));
    Output::Send {
        frame: frame::build_call_error(raw_id, &code, &description, "{}").into(),
        push: None,
    }
}

/// How many answered deferred CALLs are remembered, to tell "answered" from "never heard of".
const PAST_DEFERRED_MAX: usize = 4;

#[cfg(all(not(test), target_pointer_width = "64"))]
const _: () = assert!(size_of::<Session>() <= 200, "held once per idle client");

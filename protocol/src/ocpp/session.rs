//! Conducts one client's conversation, as a state machine without I/O.
//!
//! Everything that happens enters through `handle_*`, with the time; what is to be done is appended to `out`, in order;
//! the next time that something happens by itself is [`Session::next_deadline`]. The caller owns the socket.
//!
//! Invariants:
//! - One answer for each Call of a client that stays, in the order of arrival as long as `calls_in_flight` is 1.
//! - One outcome for each push that was accepted, never two.
//! - A client's answers never wait behind its Calls.
//! - Calls and pushes, in flight and queued, never exceed their limits; Calls of the client's earlier connections count, too.
//! - What the client has told the backend and the backend has not taken yet is counted; at its bound the client is not read.
//! - After [`Output::Close`] or [`Output::Drop`] nothing comes out but counts, until [`Session::handle_end`] gives the
//!   outcomes; no deadline is left.
//! - No heap while nothing is in flight or undelivered, but what OCPP 2.1's CallResultError, deferred answers and
//!   `calls_per_second_max` have to remember.

mod answered_ids;
mod call_list;
mod credits;
mod keepalive;
mod limits;
mod on_call;
mod on_post;
mod on_push;
mod pace;
mod push_list;
mod record;
#[cfg(test)]
mod tests;
mod traffic;

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::answered_ids::AnsweredIds;
use self::call_list::{Call, CallState, Calls};
use self::credits::Credits;
use self::keepalive::{Keepalive, Silent};
pub use self::limits::Limits;
use self::on_push::post;
use self::pace::Pace;
use self::push_list::Pushes;
pub use self::traffic::Traffic;
use super::call_text::CallText;
use super::frame::{self, Frame, FrameError, NO_PAYLOAD, Reading};
use super::json;
use super::output::{Event, FailReason, Outcome, Output, Pending, Push, PushKey};
use super::outputs::Outputs;
use super::subprotocol::Subprotocol;
use crate::http::Failure;
use crate::mapping::answer::Reply;

/// See the module.
#[derive(Debug)]
pub struct Session {
    limits: Rc<Limits>,
    calls: Calls,
    pushes: Pushes,
    answered_ids: Option<Box<AnsweredIds>>,
    credits: Credits,
    keepalive: Keepalive,
    /// Where `calls_per_second_max` is set, from the first Call on.
    pace: Option<Box<Pace>>,
    traffic: Traffic,
    key_next: u64,
    bad_frames: u32,
    subprotocol: Subprotocol,
    phase: Phase,
    /// The client has sent a message.
    has_spoken: bool,
    /// Calls that wait do so for another process.
    holds_calls: bool,
    #[cfg(test)]
    pub(super) fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Phase {
    Open,
    /// As open, but no push is sent or accepted any more.
    Draining,
    /// As draining, and no Call is taken any more.
    Leaving,
    /// Close or Drop has come out.
    Closing,
    /// The connection is over and everything has its outcome.
    Ended,
}

/// A rule broken on purpose, in tests only: the simulation has to notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// A push that has timed out can still be answered.
    TimedOutPushStays,
    /// An identical Call is sent to the backend once more.
    RepeatNotCoalesced,
    /// Of the Calls that wait, the second overtakes the first.
    QueueOvertaken,
    /// The end of the connection forgets the pushes that were sent.
    SentPushForgotten,
    /// A push's time does not begin when it is written.
    PushTimeForgotten,
    /// One Call too many goes to the backend at once.
    OneCallTooMany,
    /// What the client sends unasked is not counted.
    SendsUncounted,
    /// Calls of the connections before do not count.
    EarlierCallsUncounted,
    /// What a client says costs it half of its time.
    PaceDoubled,
    /// Calls of who is to leave are taken.
    TakenWhileLeaving,
    /// Of who is to move, the next Call goes to the backend.
    HoldForgotten,
}

impl Session {
    /// A connection that has just been upgraded. `spread` is a random number: it spreads the pings of clients that came
    /// together.
    pub fn new(subprotocol: Subprotocol, limits: Rc<Limits>, spread: u32, now: Instant) -> Self {
        debug_assert!(limits.calls_in_flight > 0);
        debug_assert!(limits.pushes_in_flight > 0);
        Self {
            keepalive: Keepalive::new(spread, &limits, now),
            limits,
            calls: Calls::default(),
            pushes: Pushes::default(),
            answered_ids: None,
            credits: Credits::default(),
            pace: None,
            traffic: Traffic::default(),
            key_next: 0,
            bad_frames: 0,
            subprotocol,
            phase: Phase::Open,
            has_spoken: false,
            holds_calls: false,
            #[cfg(test)]
            fault: None,
        }
    }

    /// The subprotocol that was negotiated.
    pub fn subprotocol(&self) -> Subprotocol {
        self.subprotocol
    }

    /// A whole text message. What is kept of it is copied.
    ///
    /// While [`Session::wants_read`] is false, the caller does not read, so that none comes; a Call that comes all the
    /// same is refused.
    pub fn handle_text(&mut self, now: Instant, text: &str, out: &mut Outputs) {
        if self.phase >= Phase::Closing {
            return;
        }
        self.handle_heard(now);
        self.traffic.count_in(text.len());
        self.has_spoken = true;
        if self.pushes.release(None) {
            self.send_pushes(out);
        }
        if let Some(event) = idle_text(text) {
            out.push(Output::Count(event));
            return;
        }
        if u32::try_from(text.len()).is_err() {
            return self.close(1009, "message too large", out);
        }
        let reading = Reading {
            subprotocol: self.subprotocol,
            depth_max: self.limits.json_depth_max,
            number_ids: self.limits.number_ids,
        };
        match frame::split(text, &reading) {
            Ok(Frame::Ignored) => out.push(Output::Count(Event::FrameIgnored)),
            Ok(frame) => {
                self.bad_frames = 0;
                self.handle_frame(now, text, frame, out);
            }
            Err(error) => self.handle_bad_frame(now, error, out),
        }
    }

    /// A binary message: OCPP-J has none.
    pub fn handle_binary(&mut self, out: &mut Outputs) {
        if self.phase < Phase::Closing {
            self.traffic.count_in(0);
            out.push(Output::Count(Event::FrameBinary));
            self.close(1003, "text messages only", out);
        }
    }

    /// Anything from the client: a message, a ping, a pong.
    pub fn handle_heard(&mut self, now: Instant) {
        self.keepalive.heard(now);
    }

    /// [`Session::next_deadline`] has passed (or has not: then nothing happens).
    pub fn handle_deadline(&mut self, now: Instant, out: &mut Outputs) {
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
            let message_id = self.calls.get(index).message_id();
            self.answered_ids.get_or_insert_default().remember_deferred(message_id);
            let reply = Reply::error("InternalError", Failure::Deadline.description());
            self.answer_call(now, index, &reply, out);
        }
        if self.pushes.release(Some(now)) {
            self.send_pushes(out);
        }
        if let (Some(pace), Some(interval)) = (&mut self.pace, self.limits.call_interval())
            && pace.release(now, interval)
        {
            // It could not be heard until now.
            self.keepalive.heard(now);
        }
        if !self.wants_read() {
            return;
        }
        match self.keepalive.handle_deadline(now, &self.limits) {
            None => {}
            Some(Silent::Ping) => out.push(Output::Ping),
            Some(Silent::Drop) => {
                self.phase = Phase::Closing;
                out.push(Output::Drop);
            }
        }
    }

    /// Bytes of the messages that it keeps: Calls that are not answered, and pushes that wait.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.calls.bytes_len() + self.pushes.queued_len()
    }

    /// When [`Session::handle_deadline`] has to be called next; asked anew after every other call.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.phase >= Phase::Closing {
            return None;
        }
        let keepalive = if self.wants_read() {
            self.keepalive.deadline(&self.limits)
        } else {
            None
        };
        let pace = self.pace.as_ref().zip(self.limits.call_interval());
        let pace = pace.and_then(|(pace, interval)| pace.deadline(interval));
        earliest(
            earliest(self.pushes.next_deadline(), self.calls.next_deadline()),
            earliest(keepalive, pace),
        )
    }

    /// Whether the socket is to be read. It is not while `calls_queued` wait or `posts_queued` are not delivered, or as many
    /// bytes of either as may, or the client is ahead of `calls_per_second_max`; silence means nothing meanwhile.
    pub fn wants_read(&self) -> bool {
        let is_held = self.pace.as_ref().is_some_and(|pace| pace.is_held());
        !is_held && self.credits.has_room_for_post(&self.limits) && self.has_room_for_call()
    }

    /// What the client has told the backend and the backend has not taken yet.
    pub fn posts_count(&self) -> usize {
        self.credits.posts.into()
    }

    /// What has gone to and fro so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// How long nothing was heard of the client.
    pub fn silent_for(&self, now: Instant) -> Duration {
        self.keepalive.silent_for(now)
    }

    /// A Call or a SEND has come.
    fn count_call(&mut self, now: Instant) {
        self.traffic.count_call();
        if let Some(interval) = self.limits.call_interval() {
            let interval = if self.breaks(Fault::PaceDoubled) {
                interval / 2
            } else {
                interval
            };
            let pace = self.pace.get_or_insert_with(|| Box::new(Pace::new(now)));
            pace.take(now, interval);
        }
    }

    /// Writes a frame to the client.
    fn send(&mut self, frame: String, push: Option<PushKey>, out: &mut Outputs) {
        self.traffic.count_out(frame.len());
        out.push(Output::Send { frame, push });
    }

    fn has_room_for_call(&self) -> bool {
        (self.calls_in_flight() < self.limits.calls_in_flight && !self.holds_calls)
            || (self.calls.queued() < self.limits.calls_queued && self.calls.queued_len() < self.limits.queued_len_max)
    }

    /// The process drains: pushes that wait end as `Shutdown`, new ones are refused. Calls go on.
    pub fn handle_shutdown(&mut self, now: Instant, out: &mut Outputs) {
        self.handle_move(now, false, out);
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

    /// It is the client's turn to leave: as [`Session::handle_shutdown`], and of its Calls those that are not at the backend yet
    /// are dropped, as are those that still come. They have no answer, so that the client sends them again where it goes. What is
    /// under way goes on.
    pub fn handle_leave(&mut self, now: Instant, out: &mut Outputs) {
        self.handle_shutdown(now, out);
        if self.phase != Phase::Draining {
            return;
        }
        self.phase = Phase::Leaving;
        let read_before = self.wants_read();
        while let Some(index) = self.calls.find_queued() {
            self.calls.remove(index);
            out.push(Output::Count(Event::CallDropped));
        }
        if !read_before {
            // It could not be heard until now.
            self.keepalive.heard(now);
        }
    }

    /// The connection is over; the session only counts answers from here on.
    ///
    /// Every push gets its outcome. But with [`FailReason::Replaced`] those that were not sent are returned, for
    /// [`Session::adopt`] of the new connection's session; else the list is empty.
    pub fn handle_end(&mut self, _now: Instant, reason: FailReason, out: &mut Outputs) -> Vec<Push> {
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        self.phase = Phase::Ended;
        for _ in 0..self.calls.queued() {
            out.push(Output::Count(Event::CallDropped));
        }
        self.calls.clear();
        self.answered_ids = None;
        let mut queued = self.pushes.take_queued();
        let sent = self.pushes.take_sent();
        for push in sent.filter(|_| !self.breaks(Fault::SentPushForgotten)) {
            post(push, Outcome::Failed { reason, sent: true }, out);
        }
        if reason != FailReason::Replaced {
            for push in queued.drain(..) {
                post(push, Outcome::Failed { reason, sent: false }, out);
            }
        }
        queued
    }

    /// How many answers to its Calls are still to come through [`Session::handle_answer`].
    pub fn requests_count(&self) -> usize {
        let is_out = |call: &&Call| matches!(call.state, CallState::Sent | CallState::Answered);
        self.calls.iter().filter(is_out).count()
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

    fn handle_frame(&mut self, now: Instant, text: &str, frame: Frame<'_>, out: &mut Outputs) {
        let copy = |slice: &str| match slice {
            NO_PAYLOAD => Bytes::from_static(NO_PAYLOAD.as_bytes()),
            slice => Bytes::copy_from_slice(slice.as_bytes()),
        };
        match frame {
            Frame::Call {
                message_id,
                raw_id,
                raw_action,
                payload,
                has_plain_names,
                ..
            } => {
                self.count_call(now);
                let text = CallText::new(text, (raw_id, raw_action, has_plain_names), payload);
                let call = Call::new(self.call_key(), text, now);
                self.handle_call(now, call, &message_id, out);
            }
            Frame::CallResult { message_id, payload } => match self.pushes.find_sent(&message_id) {
                Some(index) => {
                    self.measure_push(now, index, out);
                    self.end_push(index, Outcome::Result(copy(payload)), out);
                }
                None => out.push(Output::Count(Event::AnswerUnmatched)),
            },
            Frame::CallError { message_id, error } => match self.pushes.find_sent(&message_id) {
                Some(index) => {
                    self.measure_push(now, index, out);
                    self.end_push(index, Outcome::from_error(&error), out);
                }
                None => out.push(Output::Count(Event::AnswerUnmatched)),
            },
            Frame::CallResultError { message_id, error } => self.handle_result_error(&message_id, &error, out),
            Frame::Send {
                message_id,
                action,
                payload,
            } => {
                self.count_call(now);
                self.handle_send(action, message_id, copy(payload), out);
            }
            Frame::Ignored => unreachable!("counted by the caller"),
        }
    }

    fn handle_bad_frame(&mut self, now: Instant, error: FrameError<'_>, out: &mut Outputs) {
        match error {
            FrameError::Unreadable => {
                out.push(Output::Count(Event::FrameUnreadable));
                if let Some(code) = self.subprotocol.unreadable() {
                    let words = "no frame, or no readable MessageId in it";
                    self.send(refusal("\"-1\"", code, words), None, out);
                }
            }
            FrameError::Call { raw_id, fault } => {
                out.push(Output::Count(Event::CallMalformed));
                let code = self.subprotocol.format_violation();
                self.send(refusal(raw_id, code, fault.description()), None, out);
            }
            FrameError::Answer { message_id } => {
                out.push(Output::Count(Event::AnswerMalformed));
                if let Some(index) = self.pushes.find_sent(&message_id) {
                    self.measure_push(now, index, out);
                    let outcome = Outcome::Failed {
                        reason: FailReason::BadAnswer,
                        sent: true,
                    };
                    self.end_push(index, outcome, out);
                }
            }
            FrameError::NeverAnswered => out.push(Output::Count(Event::AnswerMalformed)),
        }
        self.traffic.count_bad_frame();
        self.bad_frames += 1;
        if self.bad_frames >= self.limits.bad_frames_max {
            out.push(Output::Count(Event::FramesBad));
            self.close(1008, "too many bad frames", out);
        }
    }

    fn breaks(&self, fault: Fault) -> bool {
        #[cfg(test)]
        return self.fault == Some(fault);
        #[cfg(not(test))]
        {
            let _ = fault;
            false
        }
    }

    fn close(&mut self, code: u16, reason: &'static str, out: &mut Outputs) {
        debug_assert!(self.phase < Phase::Closing, "closed once");
        self.phase = Phase::Closing;
        out.push(Output::Close { code, reason });
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A text that some clients send to be heard, and that says nothing.
fn idle_text(text: &str) -> Option<Event> {
    // Frames begin with their bracket, nearly always: one look tells.
    if text.starts_with('[') {
        return None;
    }
    match json::trim(json::without_mark(text)) {
        "" => Some(Event::FrameEmpty),
        "ping" | "pong" => Some(Event::FramePingText),
        _ => None,
    }
}

/// A CallError of our own.
fn refusal(raw_id: &str, code: &str, description: &str) -> String {
    let (code, description) = (json::string(code), json::string(description));
    let mut frame = String::new();
    frame::write_call_error(&mut frame, raw_id, &code, &description, "{}");
    frame
}

#[cfg(all(not(test), target_pointer_width = "64"))]
const _: () = assert!(size_of::<Session>() <= 248, "held once per idle client");

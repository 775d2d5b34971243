//! Takes the backend's pushes on their way to the client, and their outcomes on their way back.

use std::time::Instant;

use super::{Fault, Phase, Session};
use crate::ocpp::frame;
use crate::ocpp::ids::MessageId;
use crate::ocpp::output::{
    Accepted, FailReason, Outcome, Output, PostContent, Push, PushKey, PushRefusal, WaitOver, Waiter,
};
use crate::ocpp::outputs::Outputs;

impl Session {
    /// A Call from the backend. Accepted, it has exactly one outcome; refused, none.
    ///
    /// # Errors
    /// [`PushRefusal`].
    pub fn handle_push(&mut self, _now: Instant, push: Push, out: &mut Outputs) -> Result<Accepted, PushRefusal> {
        if self.phase != Phase::Open {
            return Err(PushRefusal::Ending);
        }
        if !push.message_id.fits(self.subprotocol) {
            return Err(PushRefusal::MessageId);
        }
        if self.pushes.contains(push.message_id.as_str()) {
            return Err(PushRefusal::Pending);
        }
        if self.pushes.in_flight() < self.limits.pushes_in_flight && !self.pushes.is_held() {
            debug_assert_eq!(self.pushes.queued(), 0, "pushes wait although there is room");
            self.pushes.push(push);
            self.send_pushes(out);
            return Ok(Accepted::Sent);
        }
        let queued_len = self.pushes.queued_len();
        let too_long = queued_len > 0 && queued_len + push.payload.len() > self.limits.queued_len_max;
        if self.pushes.queued() >= self.limits.pushes_queued || too_long {
            return Err(PushRefusal::Full);
        }
        self.pushes.push(push);
        Ok(Accepted::Queued)
    }

    /// A push's frame has left: its time counts from here. One that was answered meanwhile is not touched.
    pub fn handle_push_written(&mut self, now: Instant, key: PushKey, _out: &mut Outputs) {
        if self.phase < Phase::Closing && !self.breaks(Fault::PushTimeForgotten) {
            self.pushes.written(key, now.checked_add(self.limits.push_timeout));
        }
    }

    /// The ingress request has waited for this push as long as it wanted. One that was not sent is withdrawn and has no
    /// outcome; one that was sent goes on, and its outcome goes where it would have gone.
    pub fn handle_wait_over(&mut self, message_id: &MessageId, waiter: Waiter) -> WaitOver {
        let Some((index, sent)) = self.pushes.find_waiter(message_id.as_str(), waiter) else {
            return WaitOver::Ended;
        };
        if sent {
            return WaitOver::Sent;
        }
        self.pushes.remove(index);
        WaitOver::Withdrawn
    }

    /// Takes over the pushes that the replaced connection has not sent; they go before this session's own.
    ///
    /// One that has no place here, or whose MessageId is pending here, ends as `Replaced`, not sent.
    pub fn adopt(&mut self, now: Instant, pushes: Vec<Push>, out: &mut Outputs) {
        let reason = match self.phase {
            Phase::Open => FailReason::Replaced,
            Phase::Draining | Phase::Leaving => FailReason::Shutdown,
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
        if !self.has_spoken
            && !self.limits.push_hold.is_zero()
            && let Some(deadline) = now.checked_add(self.limits.push_hold)
        {
            // Some clients lose what comes with the 101.
            self.pushes.hold(adopted, deadline);
        }
        self.send_pushes(out);
    }

    /// Sends the frames of pushes that wait, as far as there is room.
    pub(super) fn send_pushes(&mut self, out: &mut Outputs) {
        while self.pushes.in_flight() < self.limits.pushes_in_flight {
            let key = PushKey(self.key_next);
            let Some((push, payload)) = self.pushes.send_next(key) else {
                return;
            };
            self.key_next += 1;
            let mut frame = out.frame();
            frame::write_call(&mut frame, &push.message_id, &push.action, &payload);
            self.traffic.count_push();
            self.send(frame, Some(key), out);
        }
    }

    /// Says how long the client took to answer, if the frame had left.
    pub(super) fn measure_push(&self, now: Instant, index: usize, out: &mut Outputs) {
        let deadline = self.pushes.deadline(index);
        if let Some(written) = deadline.and_then(|deadline| deadline.checked_sub(self.limits.push_timeout)) {
            let after = now.saturating_duration_since(written);
            out.push(Output::PushAnswered { after });
        }
    }

    pub(super) fn end_push(&mut self, index: usize, outcome: Outcome, out: &mut Outputs) {
        let push = self.pushes.remove(index);
        if self.breaks(Fault::TimedOutPushStays) && matches!(outcome, Outcome::Failed { .. }) {
            self.pushes.insert_queued(0, push.clone());
            self.pushes.send_next(PushKey(self.key_next));
            self.key_next += 1;
        }
        post(push, outcome, out);
        if let Some(Output::Post { content, .. }) = out.last() {
            self.count_post(content);
        }
        self.send_pushes(out);
    }
}

/// Tells whoever waits for the push, or else the backend.
pub(super) fn post(push: Push, outcome: Outcome, out: &mut Outputs) {
    let Push {
        action,
        message_id,
        waiter,
        trace,
        payload: _,
    } = push;
    out.push(match waiter {
        Some(waiter) => Output::Outcome {
            action,
            message_id,
            waiter,
            outcome,
            trace,
        },
        None => Output::Post {
            action,
            message_id,
            content: PostContent::Outcome(outcome),
            trace,
        },
    });
}

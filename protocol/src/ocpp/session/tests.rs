//! Shows one promise in each test; what needs many of them at once is in the simulation.

mod calls;
mod life;
mod pushes;

use std::time::Duration;

use super::*;
use crate::mapping::answer::Answer;
use crate::mapping::bodies;
use crate::ocpp::ids::{Action, MessageId};
use crate::ocpp::output::{
    Accepted, CallKey, DeferredRefusal, PostContent, PushKey, PushRefusal, Text, WaitOver, Waiter,
};

/// A session, its clock, and what comes out of it in words.
struct Conversation {
    session: Session,
    start: Instant,
    now: Instant,
    out: Outputs,
}

fn limits() -> Limits {
    Limits {
        calls_in_flight: 1,
        calls_queued: 2,
        calls_per_second_max: 0,
        call_timeout: Duration::from_secs(25),
        pushes_in_flight: 1,
        pushes_queued: 2,
        posts_queued: 3,
        queued_len_max: 1000,
        push_timeout: Duration::from_secs(30),
        push_hold: Duration::ZERO,
        bad_frames_max: 20,
        number_ids: false,
        json_depth_max: 8,
        ping_after: Duration::from_secs(60),
        dead_after: Duration::from_secs(120),
    }
}

impl Conversation {
    fn new(subprotocol: Subprotocol) -> Self {
        Self::with(subprotocol, limits())
    }

    fn with(subprotocol: Subprotocol, limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(subprotocol, Rc::new(limits), 0, now),
            start: now,
            now,
            out: Outputs::default(),
        }
    }

    fn says(&mut self, text: &str) -> Vec<String> {
        self.session.handle_text(self.now, text, &mut self.out);
        self.shown()
    }

    fn answered(&mut self, key: u64, status: u16, content: &str) -> Vec<String> {
        let answer = Answer::Response {
            status,
            deferred: false,
            content: content.as_bytes(),
        };
        self.session
            .handle_answer(self.now, CallKey(key), answer, &mut self.out);
        self.shown()
    }

    fn deferred(&mut self, key: u64) -> Vec<String> {
        let answer = Answer::Response {
            status: 202,
            deferred: true,
            content: b"",
        };
        self.session
            .handle_answer(self.now, CallKey(key), answer, &mut self.out);
        self.shown()
    }

    /// All deferred Calls here have the Action `A`.
    fn late(&mut self, id: &str, payload: &str) -> Result<Vec<String>, DeferredRefusal> {
        self.late_to("A", id, payload)
    }

    fn late_to(&mut self, action: &str, id: &str, payload: &str) -> Result<Vec<String>, DeferredRefusal> {
        let id = MessageId::parse(id).expect("an id");
        let action = Action::parse(action).expect("an Action");
        let reply = Reply::Result(payload);
        self.session
            .handle_deferred(self.now, &action, &id, &reply, &mut self.out)?;
        Ok(self.shown())
    }

    fn pushed(&mut self, id: &str) -> Result<Accepted, PushRefusal> {
        self.session.handle_push(self.now, push(id, None), &mut self.out)
    }

    fn written(&mut self, key: u64) -> Vec<String> {
        self.session.handle_push_written(self.now, PushKey(key), &mut self.out);
        self.shown()
    }

    fn after(&mut self, seconds: u64) -> Vec<String> {
        self.now = self.start + Duration::from_secs(seconds);
        self.session.handle_deadline(self.now, &mut self.out);
        self.shown()
    }

    fn ends(&mut self, reason: FailReason) -> (Vec<Push>, Vec<String>) {
        let pushes = self.session.handle_end(self.now, reason, &mut self.out);
        (pushes, self.shown())
    }

    /// Seconds from the start.
    fn deadline(&self) -> Option<u64> {
        self.session
            .next_deadline()
            .map(|deadline| (deadline - self.start).as_secs())
    }

    fn shown(&mut self) -> Vec<String> {
        self.out.drain(..).map(|output| show(&output)).collect()
    }
}

fn push(id: &str, waiter: Option<Waiter>) -> Push {
    Push {
        action: Action::parse("Reset").expect("an Action"),
        message_id: MessageId::parse(id).expect("an id"),
        payload: Text::from_static("{\"a\": 1e999}"),
        waiter,
        trace: None,
    }
}

fn show(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    match output {
        Output::Send { frame, push: None } => frame.clone(),
        Output::Send { frame, push: Some(key) } => format!("push {} {frame}", key.0),
        Output::Call { key, text, .. } => {
            format!(
                "call {} {} {} {}",
                key.0,
                text.action(),
                text.message_id(),
                text.payload()
            )
        }
        Output::Post {
            action,
            message_id,
            content,
            ..
        } => {
            let (segment, body, origin) = match content {
                PostContent::Outcome(outcome @ Outcome::Result(_)) => ("result", bodies::outcome(outcome), ""),
                PostContent::Outcome(outcome @ Outcome::Error { .. }) => ("error", bodies::outcome(outcome), ""),
                PostContent::Outcome(outcome) => ("error", bodies::outcome(outcome), " from here"),
                PostContent::Send(payload) => ("send", &payload[..], ""),
                PostContent::ResultError(body) => ("resulterror", &body[..], ""),
            };
            format!("/{segment}/{action}/{message_id} {}{origin}", text(body))
        }
        Output::Outcome {
            message_id,
            waiter,
            outcome,
            ..
        } => format!("tell {} {message_id} {outcome:?}", waiter.token),
        Output::Ping => "ping".to_owned(),
        Output::Close { code, reason } => format!("close {code} {reason}"),
        Output::Drop => "drop".to_owned(),
        Output::PushAnswered { after } => format!("answered after {} ms", after.as_millis()),
        Output::Count(event) => format!("count {event:?}"),
    }
}

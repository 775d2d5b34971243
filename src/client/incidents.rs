//! Names the clients whose frames are bad, that were closed for something, or that replace each other again and again.

use std::rc::Rc;

use super::clients::Clients;
use super::conversation::Conversation;
use super::end::{CLOSE_AWAY, CLOSE_TRY_AGAIN, End};
use crate::observe::counters::Ended;
use crate::observe::incidents::{Details, IncidentKind};
use protocol::mapping::{Answer, Identity};
use protocol::ocpp::{CallText, Event};
use protocol::trace_context::TraceParent;

impl<C: Conversation> Clients<C> {
    /// Counts what a session reports, and names the client where its operator can do something.
    pub(super) fn note_event(&self, identity: &Rc<Identity>, event: Event) {
        self.env.counters.count_event(event);
        let (kind, detail) = match event {
            Event::FrameUnreadable => (IncidentKind::FrameBad, "not JSON, no array, or without a MessageId"),
            Event::CallMalformed => (IncidentKind::FrameBad, "a Call with something wrong in it"),
            Event::AnswerMalformed => (IncidentKind::FrameBad, "an answer with something wrong in it"),
            Event::FrameBinary => (IncidentKind::FrameBad, "a binary message"),
            Event::CallShed => (IncidentKind::CallsFull, ""),
            _ => return,
        };
        self.note(identity, kind, detail);
    }

    /// Counts an end, and names the client where its operator can do something.
    pub(super) fn note_end(&self, identity: &Rc<Identity>, end: &End<'_>) {
        let ended = match end.ended {
            Ended::Closed(CLOSE_AWAY) if !self.env.is_draining() => Ended::Rebalanced,
            ended => ended,
        };
        self.env.counters.count_end(ended);
        match ended {
            Ended::NotReading => self.note(identity, IncidentKind::NotReading, ""),
            Ended::Closed(CLOSE_TRY_AGAIN) => self.note(identity, IncidentKind::NoRoom, ""),
            Ended::Closed(1008) => self.note(identity, IncidentKind::FramesBad, ""),
            Ended::Closed(1009) => self.note(identity, IncidentKind::TooLarge, ""),
            Ended::Closed(1002 | 1003 | 1007) => {
                let detail = format!("closed with {}: {}", end.code, end.reason);
                self.note(identity, IncidentKind::ProtocolError, &detail);
            }
            Ended::Replaced => {
                if let Some(detail) = self.twins.note(identity, self.env.reactor.now()) {
                    self.note(identity, IncidentKind::Twins, &detail);
                }
            }
            _ => {}
        }
    }

    /// Names a Call with a trace that was not answered as it should be.
    pub(super) fn note_traced(
        &self,
        identity: &Rc<Identity>,
        trace: &TraceParent,
        call: &CallText,
        answer: &Answer<'_>,
    ) {
        let detail = match answer {
            Answer::Failed(failure) => failure.description(),
            Answer::Response { status: 500.., .. } => "the backend answered with 5xx",
            Answer::Response { status: 300..400, .. } => "the backend answered with 3xx",
            // With 4xx the backend says no, and the client is told so.
            Answer::Response { .. } => return,
        };
        let (action, message_id) = (call.action(), call.message_id());
        let details = Details {
            detail,
            action: Some(&action),
            message_id: Some(&message_id),
            trace_id: Some(trace.trace_id()),
        };
        let incidents = &self.env.counters.incidents;
        incidents.note(
            self.env.reactor.now(),
            IncidentKind::TracedCallFailed,
            identity,
            &details,
        );
    }

    fn note(&self, identity: &Rc<Identity>, kind: IncidentKind, detail: &str) {
        let details = Details {
            detail,
            ..Details::default()
        };
        let incidents = &self.env.counters.incidents;
        incidents.note(self.env.reactor.now(), kind, identity, &details);
    }
}

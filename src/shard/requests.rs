//! Makes the requests that ws2api sends to the backend, and sends each answer where it belongs.

use std::rc::Rc;
use std::time::Instant;

use super::outbox::{Outbox, Post};
use crate::backend::{Exchange, Response};
use crate::client::{Connection, Verdict};
use protocol::balance::Kind;
use protocol::http::Failure;
use protocol::http::{HeaderLines, RequestTemplate};
use protocol::mapping::{Admission, Answer, Identity, outgoing};
use protocol::ocpp::{CallKey, CallText};
use protocol::trace_context::TraceParent;

/// A request and its purpose.
pub enum Request {
    /// `POST /connect`: may this client come in?
    Connect(Box<Connect>),
    /// `POST /call/…`: a client's Call.
    Call(Call),
    /// `POST /result/…` and its like, and `POST /disconnect`: at least once.
    Post(Rc<Outbox>, Box<Post>),
}

/// A Call on its way to the backend.
pub struct Call {
    /// Who asked, and who gets the answer.
    pub connection: Rc<Connection>,
    /// Which of its Calls.
    pub key: CallKey,
    /// What the path and the body are made of.
    pub text: CallText,
    /// When the client must have its answer.
    pub deadline: Instant,
    /// When the client's frame came.
    pub arrived: Instant,
    /// The trace that begins with it, if it is one of those that get one.
    pub trace: Option<Box<TraceParent>>,
}

/// The question that precedes every connection.
pub struct Connect {
    /// The client that wants to come in.
    pub identity: Rc<Identity>,
    /// The identity's, and what of the client's request goes along: `forward_headers`, `trusted_headers`, the offered
    /// subprotocols.
    pub lines: HeaderLines,
    /// When the client must have its answer.
    pub deadline: Instant,
    /// Where the handshake waits.
    pub verdict: Rc<Verdict>,
}

impl Exchange for Request {
    fn kind(&self) -> Kind {
        match self {
            Self::Connect(_) => Kind::Connect,
            Self::Call(_) => Kind::Call,
            Self::Post(_, post) => post.request_kind(),
        }
    }

    fn deadline(&self) -> Instant {
        match self {
            Self::Connect(connect) => connect.deadline,
            Self::Call(call) => call.deadline,
            Self::Post(_, post) => post.deadline(),
        }
    }

    fn content_len(&self) -> usize {
        match self {
            Self::Connect(connect) => connect.identity.client.as_str().len(),
            Self::Call(call) => call.text.payload().len(),
            Self::Post(_, post) => post.body_len(),
        }
    }

    fn write(&self, template: &RequestTemplate, out: &mut Vec<u8>) {
        match self {
            Self::Connect(connect) => outgoing::write_connect(template, &connect.identity, &connect.lines, out),
            Self::Call(call) => {
                let (identity, trace) = (call.connection.identity(), call.trace.as_deref());
                outgoing::write_call(template, identity, &call.text, trace, out);
            }
            Self::Post(_, post) => post.write(template, out),
        }
    }

    fn finish(self, response: Result<Response<'_>, Failure>) {
        match self {
            Self::Connect(connect) => connect.verdict.set(match response {
                Ok(response) => Admission::from_response(response.head, response.content),
                Err(failure) => Admission::from_failure(failure),
            }),
            Self::Call(call) => {
                let answer = match response {
                    Ok(response) => Answer::Response {
                        status: response.head.status,
                        // It means nothing elsewhere.
                        deferred: response.head.status == 202 && response.head.header("x-deferred") == Some(b"1"),
                        content: response.content,
                    },
                    Err(failure) => Answer::Failed(failure),
                };
                if let Some(trace) = &call.trace {
                    call.connection.note_traced(trace, &call.text, &answer);
                }
                call.connection.handle_answer(call.key, call.arrived, answer);
            }
            Self::Post(outbox, post) => outbox.handle_response(post, response),
        }
    }
}

//! Defines what enters and leaves a [`Session`](super::session::Session) besides bytes and times.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::call_text::CallText;
use super::frame::RawError;
use super::ids::{Action, MessageId};
use crate::trace_context::TraceParent;

/// Text that its parts and copies share.
pub use tungstenite::Utf8Bytes as Text;

/// What the caller has to do, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Write this text message to the client.
    Send {
        /// The text of the message.
        frame: String,
        /// A push: report `handle_push_written` when the frame has left, its time counts from there.
        push: Option<PushKey>,
    },
    /// `POST /call/<action>/<client>/<message_id>` with the payload of `text`. Exactly one `handle_answer` must follow,
    /// at the latest when the deadline has passed, and also if the client has gone meanwhile.
    Call {
        /// Names the Call in `handle_answer`.
        key: CallKey,
        /// The Call as the client wrote it.
        text: CallText,
        /// `call_timeout` from now.
        deadline: Instant,
        /// When the client's frame came.
        arrived: Instant,
    },
    /// The backend must learn this, at least once: `POST /<segment>/<action>/<client>/<message_id>`. If it has a
    /// [`PostContent::client_len`], exactly one `handle_post_over` must follow. The SENDs of one client keep their order.
    Post {
        /// For the path: the pushed Call's (`/result`, `/error`), the answered Call's (`/resulterror`), its own
        /// (`/send`).
        action: Action,
        /// For the path: the id of the same message.
        message_id: MessageId,
        /// The body, and the path's first segment.
        content: PostContent,
        /// Of an outcome: the push's.
        trace: Option<Box<TraceParent>>,
    },
    /// To the ingress request that waits for this push, in the place of a [`Output::Post`]. If that request has gone,
    /// it is posted after all.
    Outcome {
        /// The push's action.
        action: Action,
        /// The push's id.
        message_id: MessageId,
        /// The ingress request that waits.
        waiter: Waiter,
        /// What became of it.
        outcome: Outcome,
        /// The push's.
        trace: Option<Box<TraceParent>>,
    },
    /// Send a ping.
    Ping,
    /// Close the WebSocket. Only `handle_end` has outputs (outcomes and counts) afterwards.
    Close {
        /// The close code (RFC 6455, 7.4.1).
        code: u16,
        /// At most 123 bytes of UTF-8.
        reason: &'static str,
    },
    /// The peer is dead: end the connection without a close frame. Otherwise like [`Output::Close`].
    Drop,
    /// The client has answered a push, so long after its frame was written. Measure it, nothing else.
    PushAnswered {
        /// The time between the frame's last byte and the answer.
        after: Duration,
    },
    /// Count this. Nothing else.
    Count(Event),
}

/// Names one Call of a client until its answer. Never used again within a session.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallKey(pub u64);

/// Names one push from its frame on. Never used again within a session.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PushKey(pub u64);

/// The ingress request that waits for a push (`Prefer: wait`): the node, the process and the shard that hold it, and a number that
/// means something there.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Waiter {
    /// The node of the cluster; 0: this one.
    pub node: u64,
    /// The push has come from that node with its client: whatever happens here, the backend is told there.
    pub is_moved: bool,
    /// The generation of the process: it may be the one that has handed its clients over, or got them.
    pub process: u32,
    /// Index of the shard.
    pub shard: u16,
    /// What that shard knows it by.
    pub token: u64,
}

/// A Call from the backend to a client.
#[derive(Clone, Debug)]
pub struct Push {
    /// What it asks for.
    pub action: Action,
    /// The backend's id for it.
    pub message_id: MessageId,
    /// One JSON value, put into the frame as it is. The caller has checked it and its size.
    pub payload: Text,
    /// Who waits for its outcome; nobody: it is posted.
    pub waiter: Option<Waiter>,
    /// The trace that it belongs to, if the backend says one: its outcome does, too.
    pub trace: Option<Box<TraceParent>>,
}

/// What the backend is told by a post of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PostContent {
    /// What became of a push: `/result` or `/error`.
    Outcome(Outcome),
    /// The payload of OCPP 2.1's SEND: `/send`.
    Send(Bytes),
    /// OCPP 2.1's CallResultError as `{"code":…,"description":…,"details":…}`: `/resulterror`.
    ResultError(Bytes),
}

/// What became of a push: exactly one per push that was accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The payload of the client's CallResult.
    Result(Bytes),
    /// The client's CallError as `{"code":…,"description":…,"details":…}`.
    Error {
        /// The JSON object.
        body: Bytes,
    },
    /// The client has not answered and will not be heard.
    Failed {
        /// The reason, as the backend is told.
        reason: FailReason,
        /// Whether the frame was handed to the socket: a repeat may run twice.
        sent: bool,
    },
}

impl PostContent {
    /// Bytes of the body, where it is the client's own word: that counts as the client's until it is delivered. `None` for what
    /// is made here.
    #[must_use]
    pub fn client_len(&self) -> Option<usize> {
        match self {
            Self::Outcome(Outcome::Result(body) | Outcome::Error { body })
            | Self::Send(body)
            | Self::ResultError(body) => Some(body.len()),
            Self::Outcome(Outcome::Failed { .. }) => None,
        }
    }
}

impl Outcome {
    pub(super) fn from_error(error: &RawError<'_>) -> Self {
        Self::Error {
            body: error.body().into(),
        }
    }
}

/// Why a push has no answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FailReason {
    /// `push_timeout` since the frame was written.
    Timeout,
    /// The connection ended.
    Disconnected,
    /// A newer connection of the same ClientId took its place.
    Replaced,
    /// This process is ending.
    Shutdown,
    /// The client has answered with something that cannot be used.
    BadAnswer,
}

/// Where an accepted push is now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accepted {
    /// Its frame is among the outputs.
    Sent,
    /// It waits for others.
    Queued,
}

/// Why a push is not accepted. It then has no outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PushRefusal {
    /// That MessageId is pending for this client: 409.
    #[error("that MessageId is pending")]
    Pending,
    /// `pushes_queued` wait already: 429.
    #[error("the client's queue is full")]
    Full,
    /// Longer than the client's subprotocol allows: 400.
    #[error("the MessageId is too long for the client's subprotocol")]
    MessageId,
    /// The process or the connection is ending: 503.
    #[error("the connection is ending")]
    Ending,
}

/// What there was of a push when the request that waited for it would wait no longer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WaitOver {
    /// It had not been sent and never will be; it has no other outcome.
    Withdrawn,
    /// Its frame had been sent.
    Sent,
    /// Its outcome is known.
    Ended,
}

/// Why a deferred answer is not delivered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DeferredRefusal {
    /// No such Call is open: 404.
    #[error("no such Call is open")]
    NoneOpen,
    /// It has been answered, perhaps by its deadline: 409.
    #[error("that Call has been answered")]
    Answered,
}

/// An event that the caller counts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// Not JSON, not an array, or without a readable MessageId.
    FrameUnreadable,
    /// A Call with a readable MessageId and something else wrong.
    CallMalformed,
    /// A broken frame of a type that is never answered (3 to 6): dropped.
    AnswerMalformed,
    /// A CallResult, CallError or CallResultError that answers nothing, or comes late: dropped.
    AnswerUnmatched,
    /// Another message type: ignored.
    FrameIgnored,
    /// An empty text message, or white space alone: ignored.
    FrameEmpty,
    /// The text `ping` or `pong`: ignored.
    FramePingText,
    /// A binary message: closed 1003.
    FrameBinary,
    /// [`Event::FrameUnreadable`], [`Event::CallMalformed`] and [`Event::AnswerMalformed`] too often in a row: closed
    /// 1008.
    FramesBad,
    /// The same Call once more while it is open: it gets one answer.
    CallCoalesced,
    /// Another Call with an open MessageId: refused.
    CallRepeatedId,
    /// A Call beyond `calls_queued`, read although `wants_read` was false: refused.
    CallShed,
    /// A Call that waited when its client went: never sent.
    CallDropped,
    /// An answer of the backend that nobody wants any more: the client has gone, or was answered.
    BackendAnswerDropped,
    /// An answer to a Call that says 2xx and is no JSON: the client gets a CallError.
    BackendAnswerNotJson,
    /// A deferred Call whose deadline passed.
    CallDeferredTimeout,
    /// A push whose `push_timeout` passed.
    PushTimeout,
}

/// What is under way, for `GET /clients/<ClientId>`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pending {
    /// Calls at the backend, the deferred ones among them.
    pub calls_in_flight: usize,
    /// Calls that the backend has deferred.
    pub calls_deferred: usize,
    /// Calls that wait for the backend.
    pub calls_queued: usize,
    /// Pushes whose frame was handed to the socket.
    pub pushes_in_flight: usize,
    /// Pushes whose frame is not sent yet.
    pub pushes_queued: usize,
}

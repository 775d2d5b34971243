//! Defines the messages between shards, and from the ordinary threads to a shard: data and nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use bytes::Bytes;

use crate::client::Description;
use crate::config::Config;
use crate::ingress::Token;
use crate::observe::report::Report;
use protocol::mapping::{ConnectionId, Identity};
use protocol::ocpp::Waiter;
use protocol::ocpp::{Accepted, Action, ClientId, DeferredRefusal, MessageId, Outcome, Push, PushRefusal};

/// A message in the mesh. The large ones are boxed: a ring's slots are as large as the largest message.
#[derive(Debug)]
pub enum Mail {
    /// An ingress request about a client whose home is the receiver.
    Ask {
        /// The shard that wants the reply.
        from: u16,
        /// What it knows the request by.
        token: u64,
        /// The request.
        request: Box<ClientRequest>,
    },
    /// The reply to an `Ask`.
    Reply {
        /// Of the `Ask`.
        token: u64,
        /// The reply.
        reply: Box<ClientReply>,
    },
    /// A push's outcome, for the ingress request that waits for it on the receiver.
    Outcome(Box<PushOutcome>),
    /// From the ordinary threads.
    Control(Control),
}

/// What the process wants of a shard.
#[derive(Debug)]
pub enum Control {
    /// Copy your counters.
    Report(mpsc::Sender<Box<Report>>),
    /// Say how this client is.
    Describe {
        /// Whom.
        client: ClientId,
        /// `None`: it is not connected.
        reply: mpsc::Sender<Option<Description>>,
    },
    /// The configuration was read again.
    Reload(Arc<Reload>),
    /// Show every frame of this client in the log; `None`: of nobody.
    Trace(Option<ClientId>),
    /// End: no new clients, and those that there are leave.
    Drain,
    /// Backend `index` has these addresses now.
    Addresses {
        /// In the config's order.
        index: usize,
        /// All that its name has.
        addresses: Vec<SocketAddr>,
    },
}

/// What the ingress wants of a client's home shard.
#[derive(Debug)]
pub enum ClientRequest {
    /// `POST /call/…`
    Push {
        /// To whom.
        client: ClientId,
        /// What.
        push: Push,
    },
    /// `POST /result/…` or `/error/…`: the backend answers a Call that it had deferred.
    Answer {
        /// Whose Call.
        client: ClientId,
        /// What it asked for.
        action: Action,
        /// Which.
        message_id: MessageId,
        /// `/error`: the body has code, description and details.
        is_error: bool,
        /// The body.
        body: Bytes,
    },
    /// The request that waits for this push waits no longer.
    EndWait {
        /// Whose push.
        client: ClientId,
        /// Which.
        message_id: MessageId,
        /// Who waited.
        waiter: Waiter,
    },
    /// `GET /clients/<ClientId>`
    Describe {
        /// Whom.
        client: ClientId,
    },
    /// `DELETE /clients/<ClientId>`
    Close {
        /// Whom.
        client: ClientId,
        /// Close code.
        code: u16,
        /// Close reason, at most 123 bytes.
        reason: String,
    },
    /// `GET /clients`: from this slot on.
    List {
        /// First slot of the registry.
        slot: usize,
        /// At most so many.
        limit: usize,
    },
}

/// The home shard's reply.
#[derive(Debug)]
pub enum ClientReply {
    /// No such client here.
    NotConnected,
    /// To `Push`.
    Pushed {
        /// Sent or queued.
        accepted: Accepted,
        /// Over which connection.
        connection: ConnectionId,
    },
    /// To `Push`.
    PushRefused(PushRefusal),
    /// To `EndWait`: the push was sent, or is over.
    WaitEnded,
    /// To `EndWait`: the push of this connection was not sent and never will be.
    WaitWithdrawn(Box<Identity>),
    /// To `Answer`.
    Answered(Result<(), AnswerRefusal>),
    /// To `Describe`.
    Described(Description),
    /// To `Close`.
    Closed,
    /// To `List`.
    Listed {
        /// The clients.
        clients: Vec<Description>,
        /// Where the next page of this shard begins.
        next: Option<usize>,
    },
}

/// Why a deferred answer was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AnswerRefusal {
    /// No such Call, or answered already.
    Deferred(DeferredRefusal),
    /// The body is not what it should be.
    Body,
}

/// What every shard is told when the configuration was read again.
#[derive(Debug)]
pub struct Reload {
    /// All of it.
    pub config: Config,
    /// Who may push.
    pub ingress_token: Option<Token>,
}

/// A push's outcome on its way to the request that waits.
#[derive(Debug)]
pub struct PushOutcome {
    /// What the waiting shard knows the request by.
    pub token: u64,
    /// Whose push: if the request has gone, the outcome is posted after all.
    pub identity: Identity,
    /// The push's Action and MessageId.
    pub call: (Action, MessageId),
    /// What became of it.
    pub outcome: Outcome,
}

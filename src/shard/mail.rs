//! Defines the messages between shards, and from the ordinary threads to a shard: data and nothing else.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use crate::backend::lending::Letter;
use crate::client::{Description, TopBy, TopSlice};
use crate::observe::report::Report;
use crate::observe::watch::Tap;
use protocol::mapping::{ConnectionId, Identity};
use protocol::ocpp::Waiter;
use protocol::ocpp::{Accepted, Action, ClientId, DeferredRefusal, MessageId, Outcome, Push, PushRefusal};
use protocol::trace_context::TraceParent;

/// A message in the mesh. All are boxed: each ring has `mesh_queue` slots of the size of the largest, and there is a ring for every
/// ordered pair of shards.
#[derive(Debug)]
pub enum Mail {
    /// An ingress request about a client whose home is the receiver.
    Query(Box<Query>),
    /// The reply to a `Query`.
    Reply(Box<Reply>),
    /// A push's outcome, for the ingress request that waits for it on the receiver.
    Outcome(Box<PushOutcome>),
    /// A word about the places of a backend.
    Places(Box<Letter>),
    /// From the ordinary threads.
    Control(Box<Control>),
}

const _: () = assert!(size_of::<Mail>() <= 16, "docs/scaling.md counts with it");

/// A question of the ingress to a client's home shard.
#[derive(Debug)]
pub struct Query {
    /// The shard that wants the reply.
    pub from: u16,
    /// The number by which that shard knows the request.
    pub token: u64,
    /// From then on it is not carried out: soon nobody waits for the reply.
    pub answer_by: Instant,
    /// What the ingress asks for.
    pub request: ClientRequest,
}

/// The answer to a [`Query`].
#[derive(Debug)]
pub struct Reply {
    /// The token of the `Query`.
    pub token: u64,
    /// What the home shard answers. `None`: the question was too old, and has not been carried out.
    pub reply: Option<ClientReply>,
}

impl From<Control> for Mail {
    fn from(control: Control) -> Self {
        Self::Control(Box::new(control))
    }
}

/// What the process wants of a shard and can do without, if its ring is full. (What it cannot do without is in the control plane.)
#[derive(Debug)]
pub enum Control {
    /// Copy your counters and gauges for this receiver.
    Report(mpsc::Sender<Box<Report>>),
    /// Say how this client is.
    Describe {
        /// The client that is meant.
        client: ClientId,
        /// `None`: it is not connected.
        reply: mpsc::Sender<Option<Description>>,
    },
    /// So many clients that were sent to another process are there, or here again.
    Settled(usize),
    /// Send some clients away: they come back to a node that the balancer chooses.
    SendAway(SendAway),
    /// Say who is the most of this, of a slice of the clients.
    Top {
        /// What they are compared by.
        by: TopBy,
        /// Where the slice begins.
        slot: usize,
        /// With the shard's index.
        reply: mpsc::Sender<(usize, TopSlice)>,
    },
    /// Show every frame of this client in the log; `None`: of nobody.
    Trace(Option<ClientId>),
    /// Write to this tap what it wants.
    Tap {
        /// The shard's end of it.
        tap: Box<Tap>,
        /// Gets the shard's index, once it does.
        reply: mpsc::Sender<usize>,
    },
    /// Nobody reads the tap of this number any more.
    EndTap(u64),
    /// Hand clients over, and go on with them.
    #[cfg(simulation)]
    HandOver(HandOver),
    /// Backend `index` has these addresses now.
    Addresses {
        /// In the config's order.
        index: usize,
        /// All that its name has.
        addresses: Vec<SocketAddr>,
    },
}

/// What a simulation wants of a shard in the place of another process.
#[cfg(simulation)]
#[derive(Clone, Debug)]
pub struct HandOver {
    /// Who is meant; `None`: all that there are.
    pub client: Option<ClientId>,
    /// The generation of the process that goes on with them.
    pub to: u32,
    /// So long they are in no process.
    pub takes: std::time::Duration,
    /// Hears of each that has gone.
    pub moved: mpsc::Sender<Moved>,
}

/// A client has gone.
#[cfg(simulation)]
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// What was under way.
    pub pending: protocol::ocpp::Pending,
    /// What the backend had not taken of its words.
    pub posts: usize,
}

/// Some clients are to go, without the process's end.
#[derive(Debug)]
pub struct SendAway {
    /// Tells it from others: within one, a shard goes on where it stopped.
    pub number: u64,
    /// So many.
    pub count: usize,
    /// Of those that were connected then.
    pub began: SystemTime,
    /// Which shard has found how many: fewer, if it has no more.
    pub reply: mpsc::Sender<(usize, usize)>,
}

/// What the ingress wants of a client's home shard.
#[derive(Debug)]
pub enum ClientRequest {
    /// `POST /call/…`
    Push {
        /// The client that gets the push.
        client: ClientId,
        /// The action, id and payload of the push.
        push: Push,
    },
    /// `POST /result/…` or `/error/…`: the backend answers a Call that it had deferred.
    Answer {
        /// The client that sent the Call.
        client: ClientId,
        /// The Call's action.
        action: Action,
        /// The Call's id, chosen by the client.
        message_id: MessageId,
        /// `/error`: the body has code, description and details.
        is_error: bool,
        /// The body of the request.
        body: Bytes,
    },
    /// The request that waits for this push waits no longer.
    EndWait {
        /// The client that the push is for.
        client: ClientId,
        /// The push's id, chosen by the backend.
        message_id: MessageId,
        /// The request that waited.
        waiter: Waiter,
    },
    /// `GET /clients/<ClientId>`
    Describe {
        /// The client that is meant.
        client: ClientId,
    },
    /// `DELETE /clients/<ClientId>`
    Close {
        /// The client that is meant.
        client: ClientId,
        /// The close code (RFC 6455, 7.4).
        code: u16,
        /// Close reason, at most 123 bytes.
        reason: String,
    },
    /// `GET /clients`: from this slot on.
    List {
        /// First slot of the registry.
        slot: usize,
        /// Clients on the page at most.
        limit: usize,
    },
}

/// The home shard's reply.
#[derive(Debug)]
pub enum ClientReply {
    /// No such client here.
    NotConnected,
    /// No such client here, but the process that this one takes over from may have it.
    Elsewhere,
    /// To `Push`: the client's session has taken the push.
    Pushed {
        /// Whether the push was sent or waits.
        accepted: Accepted,
        /// The client's connection that it goes over.
        connection: ConnectionId,
    },
    /// To `Push`: the session refuses the push.
    PushRefused(PushRefusal),
    /// To `EndWait`: the push was sent, or is over.
    WaitEnded,
    /// To `EndWait`: the push of this connection was not sent and never will be.
    WaitWithdrawn(Box<Identity>),
    /// To `Answer`: whether the deferred answer was taken.
    Answered(Result<(), AnswerRefusal>),
    /// To `Describe`: how the client is.
    Described(Description),
    /// To `Close`: the connection is being closed.
    Closed,
    /// To `List`: one page of this shard's clients.
    Listed {
        /// The clients of the page, in the order of their slots.
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
    /// The push's trace.
    pub trace: Option<Box<TraceParent>>,
}

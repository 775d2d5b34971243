//! Defines the messages between shards, and from the ordinary threads to a shard: data and nothing else.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Instant, SystemTime};

use crate::backend::lending::Letter;
use crate::client::tickets::TicketKey;
use crate::client::{Description, TopBy, TopSlice};
use crate::observe::report::Report;
use crate::observe::watch::Tap;
use protocol::cluster::{Failure, Node};
use protocol::mapping::ConnectionId;
use protocol::ocpp::ClientId;
pub use protocol::question::PushOutcome;
use protocol::question::{Names, PageQuestion, Question, Told};
use protocol::takeover::Message;

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
    /// From the thread that knows other nodes.
    Cluster(Box<FromCluster>),
}

const _: () = assert!(size_of::<Mail>() <= 16, "docs/scaling.md counts with it");

/// A question of the ingress to a client's home shard.
#[derive(Debug)]
pub struct Query {
    /// Who wants the reply.
    pub from: Asker,
    /// The number by which that shard knows the request.
    pub token: u64,
    /// From then on it is not carried out: soon nobody waits for the reply.
    pub answer_by: Instant,
    /// What the ingress asks for.
    pub request: ClientRequest,
}

/// A shard that asks.
#[derive(Clone, Copy, Debug)]
pub enum Asker {
    /// Of this process.
    Shard(u16),
    /// Of the other process of a takeover.
    OtherProcess(u16),
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
    /// These clients that were sent to another process are there, or here again.
    Settled(Vec<u32>),
    /// The socket of a client that was on its way is lost: it has its end here, by its record.
    Lost(Vec<u8>),
    /// The other process could not be told this.
    Unsaid(Box<Message>),
    /// What the other process had not delivered.
    Adopt {
        /// The shard there that had it.
        shard: u16,
        /// What that shard knows it by.
        number: u64,
        /// The post's record.
        post: Vec<u8>,
    },
    /// The other process has the post of that number.
    PostTaken(u64),
    /// A shard of the other process wants a page of this process's clients.
    Page {
        /// That shard.
        shard: u16,
        /// What it knows the question by.
        token: u64,
        /// From then on nothing is to be told.
        answer_by: Instant,
        /// Which clients.
        question: PageQuestion,
    },
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
    /// Seal TLS tickets with this key from now on.
    TicketKey(TicketKey),
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

/// What the cluster's thread says to a shard. All of it was looked at.
#[derive(Debug)]
pub enum FromCluster {
    /// To what the shard has asked.
    Answer {
        /// By which it knows the question.
        token: u64,
        /// What another node has told; or why there is nothing.
        answer: Result<Box<Told>, Failure>,
    },
    /// Which nodes there are.
    Nodes {
        /// By which the shard knows the question.
        token: u64,
        /// The others, and behind them this one.
        nodes: Vec<Node>,
    },
    /// Another node asks about a client of the shard.
    Question {
        /// The answer is given under it.
        number: u64,
        /// From then on it is not carried out.
        answer_by: Instant,
        /// What is asked.
        question: Box<Question>,
    },
    /// The outcome of a push, for a request that waits on the shard. It may come again.
    Outcome(Box<PushOutcome>),
    /// The node where somebody waited for this is gone.
    PostOutcome(Box<PushOutcome>),
    /// A client is connected to another node.
    Replaced {
        /// The client.
        client: ClientId,
        /// Its connection here.
        connection: ConnectionId,
        /// The one there.
        by: ConnectionId,
        /// That node's name.
        node: String,
    },
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

/// What the ingress wants of another shard.
#[derive(Debug)]
pub enum ClientRequest {
    /// About a client whose home it is.
    About(Question),
    /// How many there are.
    Count,
    /// `GET /clients`: from this slot on.
    List {
        /// First slot of the registry.
        slot: usize,
        /// Clients on the page at most.
        limit: usize,
        /// Those of these names, and who moves. `None`: all.
        names: Option<Names>,
    },
}

/// The other shard's reply.
#[derive(Debug)]
pub enum ClientReply {
    /// To `About`.
    Told(Told),
    /// To `About`: no such client here, but the other process of a takeover may have it. The question comes back.
    Elsewhere {
        /// As it was asked.
        question: Box<Question>,
        /// It is between both: to be asked again here.
        is_on_way: bool,
    },
    /// To `About`: no such client on this node. Another one may have it; the question comes back.
    Nowhere(Box<Question>),
    /// To what other nodes were asked: why there is no answer.
    NotTold(Failure),
    /// Which nodes there are.
    Nodes(Vec<Node>),
    /// To `Count`.
    Counted(usize),
    /// To `List`: one page of this shard's clients.
    Listed {
        /// The clients of the page, in the order of their slots.
        clients: Vec<Description>,
        /// Of the names that were asked for, those that are on their way to another process.
        moving: Vec<ClientId>,
        /// Where the next page of this shard begins.
        next: Option<usize>,
    },
}

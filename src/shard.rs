//! What one shard owns, and its life: start, serve, and the end (shard/drain.rs). The only file that knows all the others.

mod drain;
pub mod drain_signal;
pub mod mail;
pub mod outbox;
pub mod reloadable;
pub mod requests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use shards::handover::Handover;
use shards::listener::Listener;
use shards::mesh::{Full, Mesh};
use shards::reactor::PassEnd;
use shards::{Reactor, Socket, spawn};

use crate::backend::{Pool, PoolLimits, targets};
use crate::client::accept::{self, Handshakes, UpgradeRate};
use crate::client::{Connection, DeferredWrites, Registry};
use crate::config::Network;
use crate::config::{Core, Node};
use crate::ingress::{self, OutcomeWaits, Queries, Token};
use crate::observe::counters::Counters;
use crate::shard::drain_signal::DrainSignal;
use crate::shard::mail::{AnswerRefusal, ClientReply, ClientRequest, Control, Description, Mail, PushOutcome};
use crate::shard::outbox::{Outbox, OutboxLimits};
use crate::shard::reloadable::Reloadable;
use crate::shard::requests::Request;
use protocol::mapping::{ConnectionId, Identity, Reply, forwarded};
use protocol::ocpp::{Action, ClientId, Limits, MessageId, Outcome, Output, WaitOver, Waiter};

/// Hashes ClientIds to their homes: SipHash with a key drawn at the start.
#[cfg(not(feature = "simulation"))]
pub type IdHasher = std::hash::RandomState;
/// In a simulation every run is the same.
#[cfg(feature = "simulation")]
pub type IdHasher = foldhash::quality::FixedState;

/// What every shard is told at the start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The whole node's config.
    pub node: Arc<Node>,
    /// Each shard's.
    pub cores: Arc<[Core]>,
    /// Where clients come.
    pub listen: Listening,
    /// Where the backend comes.
    pub ingress: Listening,
    /// Per backend, what its name had.
    pub addresses: Arc<[Vec<SocketAddr>]>,
    /// Who may push.
    pub ingress_token: Option<Token>,
    /// Keyed at the start: nobody can choose ids that crowd one shard (docs/contract.md, `shard-3`).
    pub hasher: IdHasher,
    /// The client whose frames are shown in the log.
    pub traced: Option<ClientId>,
}

/// Where a shard gets a listening socket from.
#[derive(Clone, Copy, Debug)]
pub enum Listening {
    /// It makes its own; the address is real, its port chosen.
    On(SocketAddr),
    /// It was born with one, in the order of the plan.
    Inherited,
}

/// One shard: one thread, and everything it owns.
pub struct Shard {
    /// 0 to `count - 1`.
    pub index: usize,
    /// Shards of this node.
    pub count: usize,
    /// The whole node's config.
    pub node: Reloadable<Node>,
    /// This shard's.
    pub core: Reloadable<Core>,
    /// Clock, timers, sockets.
    pub reactor: Rc<Reactor>,
    /// Sockets to other shards.
    pub handover: Rc<Handover>,
    /// Messages to other shards.
    pub mesh: Rc<Mesh<Mail>>,
    /// What is counted.
    pub counters: Rc<Counters>,
    /// Requests to the backend.
    pub pool: Rc<Pool<Request>>,
    /// What the backend must learn.
    pub outbox: Rc<Outbox>,
    /// Frames for clients that leave at the end of the pass.
    pub deferred_writes: DeferredWrites,
    /// The clients.
    pub registry: RefCell<Registry>,
    /// For every session.
    pub session_limits: RefCell<Rc<Limits>>,
    /// Handshakes under way.
    pub handshakes: Handshakes,
    /// Of these, those that have asked the backend.
    pub handshakes_asking: Cell<usize>,
    /// `upgrades_per_second_max`
    pub upgrade_rate: UpgradeRate,
    /// Who may push.
    pub ingress_token: Reloadable<Option<Token>>,
    /// The client whose frames are shown in the log.
    pub traced: RefCell<Option<ClientId>>,
    /// Connections at the ingress.
    pub ingress_connections: Cell<usize>,
    /// Questions to other shards.
    pub queries: Queries,
    /// Requests that wait for a push's outcome.
    pub outcome_waits: OutcomeWaits,
    /// Whether the shard drains.
    pub drain: Rc<DrainSignal>,
    hasher: IdHasher,
    boot: u32,
    connections_begun: Cell<u64>,
    random: Cell<u64>,
    /// Lent to whoever handles a session, so that its capacity is used again.
    outputs: Cell<Vec<Output>>,
    /// Where bytes are received that nobody keeps as they are: no task needs room of its own for them.
    scratch: RefCell<Box<[u8]>>,
    /// Replies and outcomes that found a ring full: they are never lost. Bounded by the requests that they answer.
    unsent: RefCell<VecDeque<(usize, Mail)>>,
}

/// A shard's whole life. Says on `started` whether it serves.
pub async fn run(core_parts: shards::Shard<Mail>, plan: Plan, started: mpsc::Sender<Result<(), String>>) {
    let shards::Shard { arrivals, inbox, .. } = core_parts;
    let reactor = core_parts.reactor;
    let core = plan.cores[core_parts.index].clone();
    let listeners = bind(&reactor, &plan, &core, core_parts.inherited);
    let shard = Shard::new(
        core_parts.index,
        core_parts.count,
        reactor,
        core_parts.handover,
        core_parts.mesh,
        core,
        &plan,
    );
    let weak = Rc::downgrade(&shard);
    shard.reactor.at_pass_end(weak);
    let mailed = shard.clone();
    inbox.set(move |mail| mailed.handle_mail(mail));
    let (clients, backend) = match listeners {
        Ok(listeners) => listeners,
        Err(error) => {
            // Nobody listens for this when another shard has failed before.
            let _ = started.send(Err(error));
            return;
        }
    };
    spawn(accept::receive(shard.clone(), arrivals));
    spawn(accept::accept(shard.clone(), clients));
    spawn(ingress::serve(shard.clone(), backend));
    let _ = started.send(Ok(()));
    drop(started);
    let drain = shard.drain.watch();
    std::future::poll_fn(|context| drain.poll_triggered(context)).await;
    shard.leave().await;
}

fn bind(
    reactor: &Rc<Reactor>,
    plan: &Plan,
    core: &Core,
    inherited: Vec<OwnedFd>,
) -> Result<(Listener, Listener), String> {
    let backlog = u32::try_from(core.listen_backlog).unwrap_or(u32::MAX);
    let mut inherited = inherited.into_iter();
    let mut bind = |listening| match listening {
        Listening::On(address) => {
            Listener::bind(reactor, address, backlog).map_err(|error| format!("can't listen on {address}: {error}"))
        }
        Listening::Inherited => {
            let socket = inherited.next().expect("a socket for each that is inherited");
            Listener::adopt(reactor, socket, backlog).map_err(|error| format!("a socket that was passed in: {error}"))
        }
    };
    Ok((bind(plan.listen)?, bind(plan.ingress)?))
}

impl PassEnd for Shard {
    fn end_pass(&self) -> bool {
        if self.pool.is_batch_empty() && self.deferred_writes.is_empty() {
            return false;
        }
        // The backend first: it works while the clients get theirs.
        self.pool.send_batch();
        self.deferred_writes.send();
        true
    }
}

impl Shard {
    fn new(
        index: usize,
        count: usize,
        reactor: Rc<Reactor>,
        handover: Rc<Handover>,
        mesh: Rc<Mesh<Mail>>,
        core: Core,
        plan: &Plan,
    ) -> Rc<Self> {
        let counters = Rc::new(Counters::default());
        let limits = PoolLimits {
            connections_max: core.backend_connections_max,
            pipeline_max: core.backend_pipeline_max,
            waiters_max: core.backend_waiters_max,
            idle_timeout: core.backend_idle_timeout,
            connect_timeout: core.connect_timeout,
            head_max: core.head_max,
            content_max: core.message_max,
        };
        let backends = plan.node.backends.iter().zip(plan.addresses.iter());
        let targets = backends
            .map(|(url, addresses)| targets::target(url, addresses))
            .collect();
        let pool = Pool::new(&reactor, limits, counters.clone(), targets);
        let limits = OutboxLimits {
            ttl: core.result_ttl,
            waiting_max: core.results_queued_max,
            try_timeout: core.call_timeout,
        };
        let outbox = Outbox::new(index, &reactor, counters.clone(), &pool, limits);
        let seed = plan.hasher.hash_one((index, "random"));
        Rc::new(Self {
            index,
            count,
            node: Reloadable::new(Node::clone(&plan.node)),
            upgrade_rate: UpgradeRate::new(core.upgrades_per_second_max, reactor.now()),
            session_limits: RefCell::new(session_limits(&core).into()),
            core: Reloadable::new(core),
            reactor,
            handover,
            mesh,
            counters,
            pool,
            outbox,
            deferred_writes: DeferredWrites::default(),
            registry: RefCell::new(Registry::default()),
            handshakes: Handshakes::default(),
            handshakes_asking: Cell::new(0),
            ingress_token: Reloadable::new(plan.ingress_token.clone()),
            traced: RefCell::new(plan.traced.clone()),
            ingress_connections: Cell::new(0),
            queries: Queries::default(),
            outcome_waits: OutcomeWaits::default(),
            drain: Rc::default(),
            boot: plan.hasher.hash_one("boot") as u32,
            hasher: plan.hasher.clone(),
            connections_begun: Cell::new(0),
            random: Cell::new(seed | 1),
            outputs: Cell::default(),
            scratch: RefCell::new(vec![0; SCRATCH_LEN].into()),
            unsent: RefCell::default(),
        })
    }

    /// The shard that owns `client`.
    pub fn home_of(&self, client: &ClientId) -> usize {
        home_of(&self.hasher, client, self.count)
    }

    /// True from the first word of the end.
    pub fn is_draining(&self) -> bool {
        self.drain.is_triggered()
    }

    /// A name for a connection that begins now.
    pub fn next_connection_id(&self) -> ConnectionId {
        let number = self.connections_begun.replace(self.connections_begun.get() + 1);
        ConnectionId::new(self.boot, self.index, number)
    }

    /// For spreading what would otherwise come in waves; of no other use.
    pub fn next_random(&self) -> u32 {
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        (state >> 16) as u32
    }

    /// Reads what is there, at most some KiB, and lends it to `take`. Returns its length; 0 is the end.
    ///
    /// # Errors
    /// What `recv(2)` gives.
    pub fn poll_recv(
        &self,
        context: &mut Context<'_>,
        socket: &Socket,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut scratch = self.scratch.borrow_mut();
        let received = socket.poll_recv(context, &mut scratch);
        if let Poll::Ready(Ok(len)) = received {
            take(&scratch[..len]);
        }
        received
    }

    /// An empty list for a session's outputs. Give it back with [`return_outputs`](Self::return_outputs).
    pub fn take_outputs(&self) -> Vec<Output> {
        self.outputs.take()
    }

    /// See [`take_outputs`](Self::take_outputs).
    pub fn return_outputs(&self, outputs: Vec<Output>) {
        debug_assert!(outputs.is_empty(), "what a session decided was done");
        if outputs.capacity() <= OUTPUTS_KEPT {
            self.outputs.set(outputs);
        }
    }

    /// Hands a push's outcome to the ingress request that waits for it, on whichever shard.
    pub fn deliver_outcome(
        self: &Rc<Self>,
        waiter: Waiter,
        identity: &Identity,
        call: (Action, MessageId),
        outcome: Outcome,
    ) {
        let outcome = PushOutcome {
            token: waiter.token,
            identity: identity.clone(),
            call,
            outcome,
        };
        if usize::from(waiter.shard) == self.index {
            self.take_outcome(outcome);
        } else {
            self.mail(waiter.shard.into(), Mail::Outcome(Box::new(outcome)));
        }
    }

    /// An ingress request about a client of this shard.
    pub fn handle_request(&self, request: ClientRequest) -> ClientReply {
        match request {
            ClientRequest::Push { client, push } => {
                let Some(connection) = self.connection(&client) else {
                    self.counters.count_refused_push(None);
                    return ClientReply::NotConnected;
                };
                match connection.handle_push(push) {
                    Ok(accepted) => {
                        self.counters.pushes_accepted.add();
                        ClientReply::Pushed {
                            accepted,
                            connection: connection.identity().connection,
                        }
                    }
                    Err(refusal) => {
                        self.counters.count_refused_push(Some(refusal));
                        ClientReply::PushRefused(refusal)
                    }
                }
            }
            ClientRequest::Answer {
                client,
                action,
                message_id,
                is_error,
                body,
            } => {
                let Some(connection) = self.connection(&client) else {
                    return ClientReply::NotConnected;
                };
                let depth_max = self.core.json_depth_max;
                let reply = if is_error {
                    Reply::from_error(&body, depth_max).map_err(|_| AnswerRefusal::Body)
                } else {
                    Reply::from_result(&body, depth_max).map_err(|_| AnswerRefusal::Body)
                };
                ClientReply::Answered(reply.and_then(|reply| {
                    connection
                        .handle_deferred(&action, &message_id, &reply)
                        .map_err(AnswerRefusal::Deferred)
                }))
            }
            ClientRequest::EndWait {
                client,
                message_id,
                waiter,
            } => match self.connection(&client) {
                Some(connection) if connection.handle_wait_over(&message_id, waiter) == WaitOver::Withdrawn => {
                    ClientReply::WaitWithdrawn(Box::new(Identity::clone(connection.identity())))
                }
                _ => ClientReply::WaitEnded,
            },
            ClientRequest::Describe { client } => match self.connection(&client) {
                Some(connection) => ClientReply::Described(self.describe(&connection)),
                None => ClientReply::NotConnected,
            },
            ClientRequest::Close { client, code, reason } => match self.connection(&client) {
                Some(connection) => {
                    connection.close(code, &reason);
                    ClientReply::Closed
                }
                None => ClientReply::NotConnected,
            },
            ClientRequest::List { slot, limit } => {
                let (page, next) = self.registry.borrow().page(slot, limit.min(ingress::PAGE_MAX));
                ClientReply::Listed {
                    clients: page.iter().map(|connection| self.describe(connection)).collect(),
                    next,
                }
            }
        }
    }

    /// The client's connection. The registry is free again: what is done to the connection may change it.
    fn connection(&self, client: &ClientId) -> Option<Rc<Connection>> {
        self.registry.borrow().get(client).cloned()
    }

    fn describe(&self, connection: &Connection) -> Description {
        let since = connection.since().duration_since(UNIX_EPOCH).unwrap_or_default();
        let identity = connection.identity();
        Description {
            identity: Identity::clone(identity),
            address: forwarded::client_address(identity.forwarded_for(), |address| {
                Network::any_contains(&self.node.trusted_proxies, address)
            })
            .to_owned(),
            since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            pending: connection.pending(),
        }
    }

    fn handle_mail(self: &Rc<Self>, mail: Mail) {
        match mail {
            Mail::Ask { from, token, request } => {
                let reply = Box::new(self.handle_request(*request));
                self.mail(from.into(), Mail::Reply { token, reply });
            }
            Mail::Reply { token, reply } => self.queries.handle_reply(token, *reply),
            Mail::Outcome(outcome) => self.take_outcome(*outcome),
            Mail::Control(Control::Report(reply)) => drop(reply.send(Box::new(self.report()))),
            Mail::Control(Control::Describe { client, reply }) => {
                let description = self.connection(&client).map(|connection| self.describe(&connection));
                drop(reply.send(description));
            }
            Mail::Control(Control::Reload(reload)) => self.reload(&reload),
            Mail::Control(Control::Trace(client)) => self.trace(client),
            Mail::Control(Control::Drain) => self.drain.trigger(),
            Mail::Control(Control::Addresses { index, addresses }) => self.pool.set_addresses(index, addresses),
        }
    }

    /// Sends what must arrive. If the ring is full it waits here, in order.
    fn mail(self: &Rc<Self>, to: usize, mail: Mail) {
        let mut unsent = self.unsent.borrow_mut();
        if unsent.is_empty() {
            match self.mesh.try_send(to, mail) {
                Ok(()) => return,
                Err(Full(mail)) => unsent.push_back((to, mail)),
            }
            self.counters.mesh_delayed.add();
            spawn(self.clone().send_unsent());
        } else {
            unsent.push_back((to, mail));
        }
    }

    async fn send_unsent(self: Rc<Self>) {
        loop {
            shards::timer::sleep(&self.reactor, UNSENT_PAUSE).await;
            let mut unsent = self.unsent.borrow_mut();
            for _ in 0..unsent.len() {
                let Some((to, mail)) = unsent.pop_front() else { break };
                if let Err(Full(mail)) = self.mesh.try_send(to, mail) {
                    unsent.push_back((to, mail));
                }
            }
            if unsent.is_empty() {
                return;
            }
        }
    }
}

/// What every session of a shard keeps to.
pub fn session_limits(core: &Core) -> Limits {
    Limits {
        calls_in_flight: core.calls_in_flight,
        calls_queued: core.calls_queued,
        call_timeout: core.call_timeout,
        pushes_in_flight: core.pushes_in_flight,
        pushes_queued: core.pushes_queued,
        queued_len_max: core.message_max,
        push_timeout: core.push_timeout,
        bad_frames_max: u32::try_from(core.bad_frames_max).unwrap_or(u32::MAX),
        json_depth_max: core.json_depth_max,
        ping_after: core.ping_after,
        dead_after: core.dead_after,
    }
}

/// Which of `count` shards owns `client`; the same on every thread.
pub fn home_of(hasher: &IdHasher, client: &ClientId, count: usize) -> usize {
    (hasher.hash_one(client.as_str()) % count as u64) as usize
}

const OUTPUTS_KEPT: usize = 64;
const SCRATCH_LEN: usize = 16 * 1024;
const UNSENT_PAUSE: Duration = Duration::from_millis(1);

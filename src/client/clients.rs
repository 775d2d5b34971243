//! Holds a shard's clients and what they share, and says what they ask of the backend.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Instant, UNIX_EPOCH};

use super::compression::Compression;
use super::connection::Connection;
use super::conversation::Conversation;
use super::deferred_writes::DeferredWrites;
use super::description::Description;
use super::earlier_calls::EarlierCalls;
use super::permit::Handshakes;
use super::places::Places;
use super::questions::Questions;
use super::quiet::Quiet;
use super::registry::Registry;
use super::tls::ServerTls;
use super::twins::Twins;
use super::upgrade_rate::UpgradeRate;
use super::verdict::Verdict;
use crate::config::Tolerated;
use crate::env::Env;
use protocol::http::HeaderLines;
use protocol::mapping::{ConnectionId, Identity, forwarded};
use protocol::ocpp::{
    Action, CallKey, CallText, ClientId, Limits, MessageId, Outcome, Outputs, PostContent, Session, Waiter,
};
use protocol::record::PostRecord;
use protocol::tls::RECORD_LEN_MAX;
use protocol::trace_context::TraceParent;

/// A shard's clients.
pub struct Clients<C: Conversation = Session> {
    pub(super) env: Rc<Env>,
    pub(super) handshakes: Rc<Handshakes>,
    /// Those that were refused and have not closed yet.
    pub(super) lingering: Rc<Places>,
    pub(super) questions: Rc<Questions>,
    pub(super) deferred_writes: DeferredWrites<Connection<C>>,
    pub(super) compression: Compression,
    /// For those who come with TLS.
    pub tls: ServerTls,
    pub(super) tls_rate: UpgradeRate,
    pub(super) quiet: Quiet<Connection<C>>,
    backend: Weak<dyn Backend<C>>,
    registry: RefCell<Registry<Connection<C>>>,
    earlier_calls: EarlierCalls,
    pub(super) twins: Twins,
    /// Handshakes that ask the backend, or are about to.
    asking_count: Cell<usize>,
    upgrade_rate: UpgradeRate,
    /// The limits that a session takes when it begins.
    session_limits: RefCell<Rc<Limits>>,
    connections_begun: Cell<u64>,
    connections_adopted: Cell<u64>,
    /// Lent to whoever handles a session, so that its capacity is used again.
    outputs: Cell<Outputs>,
    /// Lent to whoever reads: what comes is received here, whoever sends it.
    receive_buffer: Cell<Box<[u8]>>,
    /// Where a frame's header and the beginning of its payload are put together.
    pub(super) send_buffer: RefCell<Vec<u8>>,
}

/// The backend, as clients see it.
pub trait Backend<C: Conversation = Session> {
    /// `POST /connect`. The answer comes through `verdict`, at the latest at `deadline`.
    ///
    /// # Errors
    /// Too many requests wait already.
    fn connect(
        &self,
        identity: Rc<Identity>,
        lines: HeaderLines,
        deadline: Instant,
        verdict: Rc<Verdict>,
    ) -> Result<(), Overloaded>;

    /// Some verdicts are abandoned: what was not asked yet need not be. Each has its (bad) answer all the same.
    fn withdraw_connects(&self);

    /// `POST /call/…`. The answer comes through [`Connection::handle_answer`], with `key` and `arrived`.
    ///
    /// # Errors
    /// Too many requests wait already.
    fn call(
        &self,
        connection: Rc<Connection<C>>,
        key: CallKey,
        text: CallText,
        deadline: Instant,
        arrived: Instant,
    ) -> Result<(), Overloaded>;

    /// A connection has begun here. An older one of its client may be another process's: that one ends.
    fn begun(&self, identity: &Rc<Identity>);

    /// A client is in the registry with this connection: whoever asks for it finds it.
    fn here(&self, connection: &Connection<C>);

    /// That connection is over, and no other one of this process takes its place now.
    fn gone(&self, identity: &Identity);

    /// `POST /disconnect`, at least once.
    fn disconnect(&self, identity: Rc<Identity>, body: Vec<u8>);

    /// `POST /result/…` and its like, at least once, with a push's trace. [`Connection::handle_post_over`] follows for what is the
    /// client's own word.
    fn post(
        &self,
        connection: &Connection<C>,
        names: (Action, MessageId),
        content: PostContent,
        trace: Option<Box<TraceParent>>,
    );

    /// What the backend has not taken yet of a client that another process has handed over: as [`post`](Self::post).
    fn restore_post(&self, connection: &Connection<C>, post: PostRecord);

    /// The outcome of a push whose request waits for it, on whichever shard.
    fn answer_push(
        &self,
        identity: &Identity,
        waiter: Waiter,
        call: (Action, MessageId),
        outcome: Outcome,
        trace: Option<Box<TraceParent>>,
    );
}

/// Too many requests wait for the backend.
#[derive(Clone, Copy, Debug)]
pub struct Overloaded;

/// Why a shard takes no client more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BoundReached {
    Draining,
    ClientsMax,
    UpgradesPerSecondMax,
}

impl<C: Conversation> Clients<C> {
    /// None yet. They ask `backend`, which must outlive them. The log shows the frames of `traced`.
    pub fn new(env: &Rc<Env>, backend: Weak<dyn Backend<C>>, traced: Option<ClientId>) -> Rc<Self> {
        let core = &env.core;
        env.watch.trace(traced);
        Rc::new(Self {
            env: env.clone(),
            handshakes: Rc::default(),
            lingering: Rc::default(),
            questions: Rc::default(),
            deferred_writes: DeferredWrites::default(),
            compression: Compression::default(),
            tls: ServerTls::default(),
            tls_rate: UpgradeRate::new(core.tls_handshakes_per_second_max, env.reactor.now()),
            quiet: Quiet::default(),
            backend,
            registry: RefCell::default(),
            earlier_calls: EarlierCalls::default(),
            twins: Twins::default(),
            asking_count: Cell::new(0),
            upgrade_rate: UpgradeRate::new(core.upgrades_per_second_max, env.reactor.now()),
            session_limits: RefCell::new(session_limits(env).into()),
            connections_begun: Cell::new(0),
            connections_adopted: Cell::new(0),
            outputs: Cell::default(),
            receive_buffer: Cell::new(vec![0; core.read_buffer.max(RECORD_LEN_MAX)].into()),
            send_buffer: RefCell::default(),
        })
    }

    /// How many are connected.
    pub fn len(&self) -> usize {
        self.registry.borrow().len()
    }

    /// True when nobody is connected and nobody is about to be.
    pub fn is_empty(&self) -> bool {
        self.registry.borrow().is_empty() && self.handshakes.count() == 0
    }

    /// Opening handshakes under way.
    pub fn handshakes_count(&self) -> usize {
        self.handshakes.count()
    }

    /// The client's connection. The registry is free again: what is done to the connection may change it.
    pub fn find(&self, client: &ClientId) -> Option<Rc<Connection<C>>> {
        self.registry.borrow().get(client).cloned()
    }

    /// Every connection of this shard, in no order.
    pub fn all(&self) -> Vec<Rc<Connection<C>>> {
        self.registry.borrow().iter().cloned().collect()
    }

    /// Up to `limit` connections from `slot` on, and the slot to go on from; see `Registry::page`.
    pub fn page(&self, slot: usize, limit: usize) -> (Vec<Rc<Connection<C>>>, Option<usize>) {
        self.registry.borrow().page(slot, limit)
    }

    /// The same of those that are meant, which takes longer: fewer slots are looked at.
    pub fn page_of(
        &self,
        slot: usize,
        limit: usize,
        is_meant: impl Fn(&ClientId) -> bool,
    ) -> (Vec<Rc<Connection<C>>>, Option<usize>) {
        self.registry.borrow().page_of(slot, limit, is_meant)
    }

    /// How a client is.
    pub fn describe(&self, connection: &Connection<C>) -> Description {
        let since = connection.since().duration_since(UNIX_EPOCH).unwrap_or_default();
        let identity = connection.identity();
        let address = forwarded::client_address(identity.forwarded_for());
        Description {
            identity: Identity::clone(identity),
            address: address.to_owned(),
            since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            pending: connection.pending(),
            traffic: connection.traffic(),
            silent_for: connection.silent_for(),
        }
    }

    /// The shard's config has changed.
    pub fn handle_reload(&self) {
        let core = &self.env.core;
        self.upgrade_rate
            .set(core.upgrades_per_second_max, self.env.reactor.now());
        self.tls_rate
            .set(core.tls_handshakes_per_second_max, self.env.reactor.now());
        *self.session_limits.borrow_mut() = session_limits(&self.env).into();
    }

    /// True when no frame waits for the end of the pass.
    pub fn has_no_deferred_writes(&self) -> bool {
        self.deferred_writes.is_empty()
    }

    /// Sends the frames that wait for the end of the pass.
    pub fn send_deferred_writes(&self) {
        self.deferred_writes
            .send(|connection, bytes| connection.write_deferred(bytes));
    }

    pub(super) fn backend(&self) -> Rc<dyn Backend<C>> {
        self.backend.upgrade().expect("the backend outlives the clients")
    }

    pub(super) fn session_limits(&self) -> Rc<Limits> {
        self.session_limits.borrow().clone()
    }

    /// A name for a connection that begins now.
    pub(super) fn next_connection_id(&self) -> ConnectionId {
        let count = self.connections_begun.replace(self.connections_begun.get() + 1);
        let number = ConnectionId::number_of(self.env.generation, count);
        ConnectionId::new(self.env.line, self.env.index, number)
    }

    /// Puts an adopted connection in order behind those before it.
    pub(super) fn next_adopted(&self) -> u64 {
        self.connections_adopted.replace(self.connections_adopted.get() + 1)
    }

    /// What the shard's own bounds say to one client more.
    pub(super) fn check_bounds(&self, client: &ClientId, now: Instant) -> Result<(), BoundReached> {
        // It takes the place of its own older connection.
        let replaces = self.registry.borrow().get(client).is_some();
        if self.env.is_draining() {
            Err(BoundReached::Draining)
        } else if !replaces && self.len() + self.asking_count.get() >= self.env.core.clients_max {
            Err(BoundReached::ClientsMax)
        } else if !self.upgrade_rate.try_take(now) {
            Err(BoundReached::UpgradesPerSecondMax)
        } else {
            Ok(())
        }
    }

    /// A handshake asks the backend from now on, or no longer.
    pub(super) fn count_asking(&self, change: isize) {
        self.asking_count
            .set(self.asking_count.get().wrapping_add_signed(change));
    }

    /// A connection of `client` has ended while `count` of its Calls were at the backend.
    pub(super) fn add_earlier_calls(&self, client: &ClientId, count: usize) {
        self.earlier_calls.add(client, count);
    }

    /// One of these was answered. The client's connection that there is now may have waited for it.
    pub(super) fn handle_earlier_call_over(&self, client: &ClientId) {
        let left = self.earlier_calls.remove_one(client);
        if let Some(connection) = self.find(client) {
            connection.handle_earlier_calls(left);
        }
    }

    /// How many there are.
    pub(super) fn earlier_calls(&self, client: &ClientId) -> usize {
        self.earlier_calls.count(client)
    }

    pub(super) fn register(&self, connection: Rc<Connection<C>>) {
        self.backend().here(&connection);
        self.registry.borrow_mut().insert(connection);
    }

    pub(super) fn unregister(&self, connection: &Connection<C>) {
        self.registry.borrow_mut().remove(connection);
    }

    /// The shard's one buffer for what clients send. Give it back with [`return_receive_buffer`](Self::return_receive_buffer).
    pub(super) fn take_receive_buffer(&self) -> Box<[u8]> {
        let buffer = self.receive_buffer.take();
        debug_assert!(!buffer.is_empty(), "one client is read at a time");
        buffer
    }

    /// See [`take_receive_buffer`](Self::take_receive_buffer).
    pub(super) fn return_receive_buffer(&self, buffer: Box<[u8]>) {
        self.receive_buffer.set(buffer);
    }

    /// An empty list for a session's outputs. Give it back with [`return_outputs`](Self::return_outputs).
    pub(super) fn take_outputs(&self) -> Outputs {
        self.outputs.take()
    }

    /// See [`take_outputs`](Self::take_outputs).
    pub(super) fn return_outputs(&self, outputs: Outputs) {
        debug_assert!(outputs.is_empty(), "what a session decided was done");
        if outputs.capacity() <= OUTPUTS_KEPT {
            self.outputs.set(outputs);
        }
    }
}

/// What every session of a shard keeps to.
fn session_limits(env: &Env) -> Limits {
    let core = &env.core;
    let number_ids = env.node.tolerate.contains(&Tolerated::NumberIds);
    Limits {
        calls_in_flight: core.calls_in_flight,
        calls_queued: core.calls_queued,
        calls_per_second_max: core.calls_per_second_max,
        call_timeout: core.call_timeout,
        pushes_in_flight: core.pushes_in_flight,
        pushes_queued: core.pushes_queued,
        posts_queued: core.posts_queued,
        queued_len_max: core.message_max,
        push_timeout: core.push_timeout,
        bad_frames_max: u32::try_from(core.bad_frames_max).unwrap_or(u32::MAX),
        push_hold: core.push_hold,
        number_ids,
        json_depth_max: core.json_depth_max,
        ping_after: core.ping_after,
        dead_after: core.dead_after,
    }
}

const OUTPUTS_KEPT: usize = 64;

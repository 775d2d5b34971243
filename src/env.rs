//! Gives every task of a shard what it may use: its place, its configuration, clock and sockets, its counters, and
//! whether it drains. Nothing here knows clients, backends or the ingress.

pub mod buffers;
pub mod drain_signal;
pub mod home;
pub mod proxy_peers;
pub mod reloadable;

use std::cell::{Cell, RefCell, RefMut};
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use shards::Reactor;

use self::buffers::Buffers;
use self::drain_signal::DrainSignal;
use self::home::{IdHasher, home_of};
use self::reloadable::Reloadable;
use crate::config::{Core, Node};
use crate::observe::counters::Counters;
use crate::observe::refusals::Refusals;
use crate::observe::watch::Watch;
use protocol::ocpp::ClientId;
use protocol::tls::RECORD_LEN_MAX;

/// One shard's surroundings.
pub struct Env {
    /// The shard: 0 to `count - 1`.
    pub index: usize,
    /// Shards of this node.
    pub count: usize,
    /// The whole node's config.
    pub node: Reloadable<Node>,
    /// This shard's part of the configuration.
    pub core: Reloadable<Core>,
    /// The shard's reactor: clock, timers, sockets.
    pub reactor: Rc<Reactor>,
    /// What this shard has counted.
    pub counters: Rc<Counters>,
    /// The bytes that the shard holds for others.
    pub buffers: Rc<Buffers>,
    /// Who was not let in of late.
    pub refusals: Refusals,
    /// Who looks at the clients' frames.
    pub watch: Watch,
    /// Whether the shard accepts.
    pub open: Rc<DrainSignal>,
    /// Whether another process accepts in its place.
    pub taken_over: Rc<DrainSignal>,
    /// Whether the shard drains.
    pub drain: Rc<DrainSignal>,
    /// Said at the end of the drain: nothing needs the ingress any more, on any shard.
    pub end: Rc<DrainSignal>,
    /// How many processes have gone on with the clients before this one.
    pub generation: u32,
    /// Common to those processes and this one, and to no others.
    pub line: u32,
    hasher: IdHasher,
    /// When the process started: all shards of it count from then on.
    pub started: Instant,
    random: Cell<u64>,
    /// Where bytes are received that nobody keeps as they are: no task needs room of its own for them.
    scratch: RefCell<Box<[u8]>>,
}

impl Env {
    /// The surroundings of shard `index` of `count`, of a process that started then as the one of that generation in that line.
    pub fn new(
        (index, count): (usize, usize),
        (started, generation, line): (Instant, u32, u32),
        node: Node,
        core: Core,
        reactor: Rc<Reactor>,
        hasher: IdHasher,
    ) -> Rc<Self> {
        let seed = hasher.hash_one((index, "random"));
        Rc::new(Self {
            index,
            count,
            buffers: Buffers::new(core.buffers_max),
            node: Reloadable::new(node),
            core: Reloadable::new(core),
            started,
            generation,
            line,
            reactor,
            counters: Rc::default(),
            refusals: Refusals::default(),
            watch: Watch::default(),
            open: Rc::default(),
            taken_over: Rc::default(),
            drain: Rc::default(),
            end: Rc::default(),
            hasher,
            random: Cell::new(seed | 1),
            scratch: RefCell::new(vec![0; SCRATCH_LEN].into()),
        })
    }

    /// The shard that owns `client`.
    pub fn home_of(&self, client: &ClientId) -> usize {
        home_of(&self.hasher, client, self.count)
    }

    /// The `number`th value of this kind: nobody outside can foretell it, and no other start or shard has the same ones.
    pub fn keyed(&self, kind: &str, number: u64) -> u64 {
        self.hasher.hash_one((self.index, kind, number))
    }

    /// How long the process has been there.
    pub fn uptime(&self) -> Duration {
        self.since_start(self.reactor.now())
    }

    /// How long after the start that is.
    pub fn since_start(&self, time: Instant) -> Duration {
        time.saturating_duration_since(self.started)
    }

    /// A request did not become a client, and was told `status`, or nothing: for those who look for it.
    pub fn note_refused(
        &self,
        client: Option<&ClientId>,
        address: SocketAddr,
        status: Option<u16>,
        reason: &'static str,
    ) {
        self.refusals.record(client, address, status, reason);
        if self.watch.is_on() {
            self.watch
                .refused(self.uptime(), client, address, (status, reason), &self.counters);
        }
    }

    /// True from the first word of the end.
    pub fn is_draining(&self) -> bool {
        self.drain.is_triggered()
    }

    /// True once this process is not the one that new requests are for: it drains, or another one has taken over.
    pub fn is_ending(&self) -> bool {
        self.is_draining() || self.taken_over.is_triggered()
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

    /// Some KiB to receive into, for as long as it takes to copy out of them what is wanted.
    pub fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }
}

/// A record of TLS is opened in it.
const SCRATCH_LEN: usize = 16 * 1024 + 512;
const _: () = assert!(SCRATCH_LEN >= RECORD_LEN_MAX);

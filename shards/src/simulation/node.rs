//! Runs the shards of a simulated node, in the loop that moves the clock.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::handover::{Arrivals, Handover, Way};
use super::network::Network;
use super::random::Random;
use super::reactor::Reactor;
use super::task;
use crate::mesh::{self, Mesh, NodeHandle};
use crate::settings::{Executor, Settings, Tables};
use crate::shard::{Handler, Inbox, Shard};
use crate::start_error::StartError;
use crate::turn;

/// Shards on threads, which a simulation does not have.
#[derive(Debug)]
pub struct Node<M> {
    /// Messages from ordinary threads to shards.
    pub outside: Arc<NodeHandle<M>>,
}

/// A simulated shard runs in a [`Simulation`].
///
/// # Errors
/// Always.
pub fn start<M, F, Main>(_: &Settings<'_>, _: F) -> Result<Node<M>, StartError>
where
    M: Send + 'static,
    F: Fn(Shard<M>) -> Main + Clone + Send + 'static,
    Main: Future<Output = ()> + 'static,
{
    Err(io::Error::from(io::ErrorKind::Unsupported).into())
}

/// Nothing is needed of the system.
///
/// # Errors
/// Never.
pub fn probe(_: Executor) -> Result<(), StartError> {
    Ok(())
}

/// Nothing is needed of the system.
///
/// # Errors
/// Never.
pub fn probe_tables(_: Tables) -> io::Result<()> {
    Ok(())
}

impl<M> Node<M> {
    /// See the real one.
    ///
    /// # Errors
    /// Never.
    pub fn join(self) -> Result<(), StartError> {
        Ok(())
    }
}

/// Shards on one thread, with a clock that jumps from event to event. What happens depends on the seed alone.
pub struct Simulation<M> {
    network: Rc<Network>,
    outside: NodeHandle<M>,
    shards: Vec<Running<M>>,
    random: Random,
    now: Instant,
}

struct Running<M> {
    reactor: Rc<Reactor>,
    mesh: Rc<Mesh<M>>,
    inbox: Rc<RefCell<Option<Handler<M>>>>,
    ended: Rc<Cell<bool>>,
}

impl<M: 'static> Simulation<M> {
    /// Runs `main` on each of `shards_count` shards, up to the first thing that they wait for.
    ///
    /// # Panics
    /// Without descriptors for the mesh.
    pub fn new<Main>(seed: u64, shards_count: usize, mesh_capacity: usize, main: impl Fn(Shard<M>) -> Main) -> Self
    where
        Main: Future<Output = ()> + 'static,
    {
        task::clear();
        let mut random = Random::new(seed);
        let now = Instant::now();
        let network = Network::new(now, Random::new(random.number()));
        let (meshes, outside) = mesh::connect(shards_count, mesh_capacity).expect("descriptors for the mesh");
        let ways: Rc<Vec<Way>> = Rc::new((0..shards_count).map(|_| Way::default()).collect());
        let shards = meshes.into_iter().enumerate().map(|(index, mesh)| {
            let running = Running {
                reactor: Reactor::new(&network, now),
                mesh: Rc::new(mesh),
                inbox: Rc::default(),
                ended: Rc::default(),
            };
            let life = main(Shard {
                index,
                count: shards_count,
                reactor: running.reactor.clone(),
                mesh: running.mesh.clone(),
                handover: Rc::new(Handover(ways.clone())),
                arrivals: Arrivals::new(&ways, index, &running.reactor),
                inbox: Inbox(running.inbox.clone()),
                inherited: Vec::new(),
            });
            let ended = running.ended.clone();
            task::spawn(async move {
                life.await;
                ended.set(true);
            });
            running
        });
        let mut simulation = Self {
            shards: shards.collect(),
            network,
            outside,
            random,
            now,
        };
        simulation.settle();
        simulation
    }

    /// The network that the shards are in.
    #[must_use]
    pub fn network(&self) -> &Rc<Network> {
        &self.network
    }

    /// The way to the shards.
    #[must_use]
    pub fn outside(&self) -> &NodeHandle<M> {
        &self.outside
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// True when every shard's `main` has returned.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.shards.iter().all(|shard| shard.ended.get())
    }

    /// Sockets that the shards hold, listening ones among them.
    #[must_use]
    pub fn sockets_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.reactor.sockets_count()).sum()
    }

    /// How many turns the shards' tasks have had.
    #[must_use]
    pub fn turns(&self) -> u64 {
        task::turns()
    }

    /// Moves the clock to what happens next, at `limit` at the latest, and lets it happen.
    pub fn run_to_next(&mut self, limit: Instant) {
        self.settle();
        let timers = self.shards.iter().filter_map(|shard| shard.reactor.next_deadline());
        let next = timers.chain(self.network.next_arrival()).min();
        self.now = next.unwrap_or(limit).clamp(self.now, limit.max(self.now));
        self.network.advance(self.now);
        for shard in &self.shards {
            shard.reactor.advance(self.now);
        }
        self.settle();
    }

    /// Runs whoever can run.
    fn settle(&mut self) {
        let mut polls = 0;
        loop {
            let before = polls;
            for shard in self.shards.iter().filter(|shard| !shard.ended.get()) {
                if let Some(handler) = shard.inbox.borrow_mut().as_mut() {
                    polls += shard.mesh.drain(DRAIN_MAX, handler);
                }
            }
            while task::run_one(&mut self.random) {
                polls += 1;
                assert!(polls < POLLS_MAX, "a task spins: the clock would stand still for ever");
            }
            let mut was_put_off = false;
            for shard in &self.shards {
                was_put_off |= shard.reactor.end_pass();
            }
            let goes_on = turn::resume_one();
            if polls == before && !was_put_off && !goes_on {
                return;
            }
        }
    }
}

impl<M> Drop for Simulation<M> {
    fn drop(&mut self) {
        task::clear();
    }
}

const DRAIN_MAX: usize = 256;
/// Without the clock moving.
const POLLS_MAX: usize = 100_000;

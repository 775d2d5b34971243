//! Runs the shards of simulated nodes, in the loop that moves the clock.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::handover::{Arrivals, Handover, Outside, Way};
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
    /// There are none.
    pub sockets: Option<Outside>,
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
    /// The way to the shards of each node.
    outsides: Vec<NodeHandle<M>>,
    shards: Vec<Running<M>>,
    random: Random,
    now: Instant,
    /// In bytes that sockets have taken or given.
    longest_pass: usize,
}

struct Running<M> {
    reactor: Rc<Reactor>,
    mesh: Rc<Mesh<M>>,
    inbox: Rc<RefCell<Option<Handler<M>>>>,
    ended: Rc<Cell<bool>>,
    is_frozen: bool,
}

impl<M: 'static> Simulation<M> {
    /// One node: runs `main` on each of `shards_count` shards, up to the first thing that they wait for.
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
        let mut simulation = Self {
            network: Network::new(now, Random::new(random.number())),
            outsides: Vec::new(),
            shards: Vec::new(),
            random,
            now,
            longest_pass: 0,
        };
        simulation.add_node(shards_count, mesh_capacity, main);
        simulation
    }

    /// One node more in the same network, by the same clock: another process.
    ///
    /// # Panics
    /// Without descriptors for the mesh.
    pub fn add_node<Main>(&mut self, shards_count: usize, mesh_capacity: usize, main: impl Fn(Shard<M>) -> Main)
    where
        Main: Future<Output = ()> + 'static,
    {
        let (network, now, before) = (self.network.clone(), self.now, self.shards.len());
        let (meshes, outside) = mesh::connect(shards_count, mesh_capacity).expect("descriptors for the mesh");
        let ways: Rc<Vec<Way>> = Rc::new((0..shards_count).map(|_| Way::default()).collect());
        let shards = meshes.into_iter().enumerate().map(|(index, mesh)| {
            let running = Running {
                reactor: Reactor::new(&network, now),
                mesh: Rc::new(mesh),
                inbox: Rc::default(),
                ended: Rc::default(),
                is_frozen: false,
            };
            task::enter(before + index);
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
        self.shards.extend(shards);
        self.outsides.push(outside);
        self.settle();
    }

    /// The network that the shards are in.
    #[must_use]
    pub fn network(&self) -> &Rc<Network> {
        &self.network
    }

    /// The way to the shards of the first node.
    #[must_use]
    pub fn outside(&self) -> &NodeHandle<M> {
        &self.outsides[0]
    }

    /// The way to the shards of each node.
    #[must_use]
    pub fn outsides(&self) -> &[NodeHandle<M>] {
        &self.outsides
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

    /// How many shards there are.
    #[must_use]
    pub fn shards_count(&self) -> usize {
        self.shards.len()
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

    /// How often deferring was said not to pay, and to pay.
    #[must_use]
    pub fn crowds(&self) -> [u64; 2] {
        let crowds = self.shards.iter().map(|shard| shard.reactor.crowds());
        crowds.fold([0; 2], |[sparse, crowded], [one, other]| {
            [sparse + one, crowded + other]
        })
    }

    /// The most bytes that the sockets of one shard have taken and given in one pass of it.
    #[must_use]
    pub fn longest_pass(&self) -> usize {
        self.longest_pass
    }

    /// Shard `index` does nothing from now on, as one that hangs; the others go on.
    pub fn freeze(&mut self, index: usize) {
        self.shards[index].is_frozen = true;
    }

    /// It goes on: as after a sleep, with what has come on its sockets and with its timers.
    pub fn thaw(&mut self, index: usize) {
        let shard = &mut self.shards[index];
        if std::mem::take(&mut shard.is_frozen) {
            shard.reactor.tell_events(&mut self.random);
            shard.reactor.advance(self.now);
        }
    }

    /// Moves the clock to what happens next, at `limit` at the latest, and lets it happen.
    pub fn run_to_next(&mut self, limit: Instant) {
        self.settle();
        let awake = self.shards.iter().filter(|shard| !shard.is_frozen);
        let timers = awake.filter_map(|shard| shard.reactor.next_deadline());
        let next = timers.chain(self.network.next_arrival()).min();
        self.now = next.unwrap_or(limit).clamp(self.now, limit.max(self.now));
        self.network.advance(self.now);
        for shard in self.shards.iter().filter(|shard| !shard.is_frozen) {
            shard.reactor.tell_events(&mut self.random);
            shard.reactor.advance(self.now);
        }
        self.settle();
    }

    /// Runs whoever can run: one pass of each shard after the other, until nobody has anything to do.
    fn settle(&mut self) {
        let mut done = 0;
        loop {
            let before = done;
            for index in 0..self.shards.len() {
                done += self.pass(index);
            }
            if done == before {
                return;
            }
            assert!(done < WORK_MAX, "a task spins: the clock would stand still for ever");
        }
    }

    /// One pass of a shard, as its reactor does it; how much there was to do.
    fn pass(&mut self, index: usize) -> usize {
        let shard = &self.shards[index];
        if shard.is_frozen {
            return 0;
        }
        task::enter(index);
        let mut done = task::run_ready(&mut self.random);
        if !shard.ended.get()
            && let Some(handler) = shard.inbox.borrow_mut().as_mut()
        {
            done += shard.mesh.drain(DRAIN_MAX, handler);
        }
        done += usize::from(shard.reactor.end_pass());
        done += usize::from(turn::resume_one());
        done += shard.reactor.tell_events(&mut self.random);
        self.longest_pass = self.longest_pass.max(task::pass_len());
        done
    }
}

impl<M> Drop for Simulation<M> {
    fn drop(&mut self) {
        task::clear();
    }
}

const DRAIN_MAX: usize = 256;
/// Polls, messages and events, without the clock moving.
const WORK_MAX: usize = 300_000;

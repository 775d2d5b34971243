//! Carries messages between shards: a bounded ring for every ordered pair, one eventfd per receiver.
//!
//! A sender pushes, rings the receiver's `Doorbell`, and writes its eventfd only if it may sleep. The receiver looks into
//! marked rings only, so that a pass costs the same whatever the number of shards. A full ring refuses; it never blocks the
//! sender. One more sender stands for the ordinary threads beside the shards.
//!
//! Beside the queue of the log, the rings and doorbells are the only state that shards share and change.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
#[cfg(not(simulation))]
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use rtrb::{Consumer, Producer, RingBuffer};
use rustix::event::{EventfdFlags, eventfd};

use crate::doorbell::{Doorbell, WORD};

/// The ring of that shard is full; the message comes back.
#[derive(Debug)]
pub struct Full<M>(pub M);

/// One shard's ends of all rings.
#[derive(Debug)]
pub struct Mesh<M> {
    index: usize,
    outgoing: RefCell<Vec<Option<Producer<M>>>>,
    incoming: RefCell<Vec<Consumer<M>>>,
    bells: Arc<Bells>,
    /// Incoming rings that are marked and were not found empty since.
    marked: RefCell<Vec<u64>>,
    next_sender: Cell<usize>,
    depth_max: Cell<usize>,
}

/// The way in for ordinary threads (admin, signals).
#[derive(Debug)]
pub struct NodeHandle<M> {
    producers: Vec<Mutex<Producer<M>>>,
    bells: Arc<Bells>,
}

/// Makes the rings for `shards_count` shards, `capacity` messages each.
///
/// # Errors
/// When there are no descriptors for the eventfds.
pub(crate) fn connect<M>(shards_count: usize, capacity: usize) -> io::Result<(Vec<Mesh<M>>, NodeHandle<M>)> {
    let bells = Arc::new(Bells::new(shards_count)?);
    let mut incoming: Vec<Vec<Consumer<M>>> = (0..shards_count).map(|_| Vec::new()).collect();
    let mut outgoing: Vec<Vec<Option<Producer<M>>>> = Vec::with_capacity(shards_count);
    for sender in 0..shards_count {
        let to_each = incoming.iter_mut().enumerate().map(|(receiver, consumers)| {
            let (producer, consumer) = (sender != receiver).then(|| RingBuffer::new(capacity)).unzip();
            consumers.extend(consumer);
            producer
        });
        outgoing.push(to_each.collect());
    }
    let mut producers = Vec::with_capacity(shards_count);
    for receiver in &mut incoming {
        let (producer, consumer) = RingBuffer::new(OUTSIDE_CAPACITY);
        producers.push(Mutex::new(producer));
        receiver.push(consumer);
    }
    let meshes = outgoing
        .into_iter()
        .zip(incoming)
        .enumerate()
        .map(|(index, (outgoing, incoming))| Mesh {
            index,
            outgoing: RefCell::new(outgoing),
            incoming: RefCell::new(incoming),
            bells: bells.clone(),
            marked: RefCell::new(vec![0; shards_count.div_ceil(WORD)]),
            next_sender: Cell::new(0),
            depth_max: Cell::new(0),
        });
    Ok((
        meshes.collect(),
        NodeHandle {
            producers,
            bells: bells.clone(),
        },
    ))
}

impl<M> Mesh<M> {
    /// Sends `message` to another shard.
    ///
    /// # Errors
    /// [`Full`] when that shard does not keep up; the caller sheds this one request.
    pub fn try_send(&self, to: usize, message: M) -> Result<(), Full<M>> {
        assert!(to != self.index, "a shard does not mail itself");
        let mut outgoing = self.outgoing.borrow_mut();
        let producer = outgoing[to].as_mut().expect("every other shard has a ring");
        producer
            .push(message)
            .map_err(|rtrb::PushError::Full(message)| Full(message))?;
        drop(outgoing);
        // A receiver has no ring of its own among its incoming ones.
        self.bells
            .ring(to, if self.index < to { self.index } else { self.index - 1 });
        Ok(())
    }

    /// The deepest any of this shard's incoming rings was found since this was last asked.
    #[must_use]
    pub fn take_depth_max(&self) -> usize {
        self.depth_max.take()
    }

    /// Hands at most `budget` messages to `handle`, the senders in turn; returns how many.
    pub(crate) fn drain(&self, budget: usize, mut handle: impl FnMut(M)) -> usize {
        if !self.take_marks() {
            return 0;
        }
        let mut handled = 0;
        let senders_count = self.incoming.borrow().len();
        let first = self.next_sender.get();
        for sender in (first..senders_count).chain(0..first) {
            if self.marked.borrow()[sender / WORD] & (1 << (sender % WORD)) == 0 {
                continue;
            }
            let depth = self.incoming.borrow()[sender].slots();
            self.depth_max.set(self.depth_max.get().max(depth));
            let count = depth.min(budget - handled);
            for _ in 0..count {
                // Not held while the message is handled: the handler may send.
                let message = self.incoming.borrow_mut()[sender].pop();
                handle(message.expect("what was counted is there: nobody else takes it"));
            }
            handled += count;
            if count == depth {
                // Whatever comes from now on is marked anew.
                self.marked.borrow_mut()[sender / WORD] &= !(1 << (sender % WORD));
            }
            if handled == budget {
                self.next_sender.set((sender + 1) % senders_count);
                break;
            }
        }
        handled
    }

    /// Takes over what senders have marked; false when no ring is marked.
    fn take_marks(&self) -> bool {
        self.bells.doorbells[self.index].take(&mut self.marked.borrow_mut())
    }
}

/// What a real shard does besides: it sleeps.
#[cfg(not(simulation))]
impl<M> Mesh<M> {
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bells.eventfds[self.index].as_fd()
    }

    pub(crate) fn bells(&self) -> &Arc<Bells> {
        &self.bells
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.marked.borrow().iter().all(|word| *word == 0) && self.bells.doorbells[self.index].is_silent()
    }

    pub(crate) fn announce_sleep(&self, asleep: bool) {
        self.bells.doorbells[self.index].announce_sleep(asleep);
    }
}

impl<M> NodeHandle<M> {
    /// How many shards there are.
    #[must_use]
    pub fn shards_count(&self) -> usize {
        self.producers.len()
    }

    /// Sends `message` to shard `to` from an ordinary thread.
    ///
    /// # Errors
    /// [`Full`] when that shard does not keep up.
    pub fn try_send(&self, to: usize, message: M) -> Result<(), Full<M>> {
        let mut producer = self.producers[to]
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        producer
            .push(message)
            .map_err(|rtrb::PushError::Full(message)| Full(message))?;
        drop(producer);
        self.bells.ring(to, self.producers.len() - 1);
        Ok(())
    }

    /// Makes shard `to` go through a pass, at whose end it sees what was written elsewhere before this call. Unlike a message
    /// this always has room.
    pub fn wake(&self, to: usize) {
        self.bells.ring(to, self.producers.len() - 1);
    }
}

/// Each shard's doorbell, and the descriptor that wakes it.
#[derive(Debug)]
pub(crate) struct Bells {
    doorbells: Vec<Doorbell>,
    eventfds: Vec<OwnedFd>,
}

impl Bells {
    fn new(count: usize) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self {
            // A ring from each of the others and one from outside: as many as there are shards.
            doorbells: (0..count).map(|_| Doorbell::new(count)).collect(),
            eventfds: (0..count).map(|_| eventfd(0, flags)).collect::<Result<_, _>>()?,
        })
    }

    /// After something was put into the ring number `incoming` of `to`.
    fn ring(&self, to: usize, incoming: usize) {
        if self.doorbells[to].ring(incoming) {
            // Edge-triggered and never read: every write is an edge. It can't overflow in the life of a machine.
            let _ = rustix::io::write(&self.eventfds[to], &1_u64.to_ne_bytes());
        }
    }

    #[cfg(not(simulation))]
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.eventfds.iter().map(AsFd::as_fd)
    }
}

const OUTSIDE_CAPACITY: usize = 64;

#[cfg(all(test, not(simulation)))]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_gives_the_message_back() {
        let (meshes, outside) = connect::<u32>(2, 2).unwrap();
        assert!(meshes[0].try_send(1, 1).is_ok());
        assert!(meshes[0].try_send(1, 2).is_ok());
        assert_eq!(meshes[0].try_send(1, 3).unwrap_err().0, 3);
        assert!(outside.try_send(1, 4).is_ok(), "another sender has its own ring");
        let mut got = Vec::new();
        assert_eq!(meshes[1].drain(10, |message| got.push(message)), 3);
        assert_eq!(got, [1, 2, 4]);
        assert!(meshes[1].is_empty());
    }

    #[test]
    fn a_budget_is_kept_and_the_next_sender_goes_first() {
        let (meshes, _outside) = connect::<u32>(3, 8).unwrap();
        for number in 0..4 {
            meshes[0].try_send(2, number).unwrap();
            meshes[1].try_send(2, 10 + number).unwrap();
        }
        let mut got = Vec::new();
        assert_eq!(meshes[2].drain(3, |message| got.push(message)), 3);
        assert_eq!(meshes[2].drain(3, |message| got.push(message)), 3);
        assert_eq!(got, [0, 1, 2, 10, 11, 12]);
        assert_eq!(meshes[2].take_depth_max(), 4);
    }

    #[test]
    fn random_delay_ping_pongs_lose_none() {
        use rustix::event::{PollFd, PollFlags, poll};
        let (mut meshes, _outside) = connect::<u64>(2, 4).unwrap();
        let (second, first) = (meshes.pop().unwrap(), meshes.pop().unwrap());
        let rounds = 60_000_u64;
        let play = |mesh: Mesh<u64>, peer: usize, serves: bool| {
            let mut state = 88_172_645_463_325_252_u64 + peer as u64;
            let mut expected = u64::from(!serves);
            if serves {
                mesh.try_send(peer, 0).unwrap();
                expected = 1;
            }
            while expected < rounds {
                let mut got = None;
                mesh.drain(1, |message| got = Some(message));
                if let Some(message) = got {
                    assert_eq!(message % 2, u64::from(serves));
                    expected = message + 2;
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    for _ in 0..state % 200 {
                        std::hint::spin_loop();
                    }
                    mesh.try_send(peer, message + 1).unwrap();
                    continue;
                }
                mesh.announce_sleep(true);
                if mesh.is_empty() {
                    let deadline = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
                    let bell = mesh.bell();
                    let ready = poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&deadline)).unwrap();
                    assert_eq!(ready, 1, "the wake-up was lost");
                    let mut count = [0; 8];
                    let _ = rustix::io::read(bell, &mut count);
                }
                mesh.announce_sleep(false);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| play(first, 1, true));
            scope.spawn(|| play(second, 0, false));
        });
    }
}

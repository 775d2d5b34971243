//! Stands in for the network between a shard and the world: bytes take their time, windows fill, connections end or are
//! reset.
//!
//! A connection is two pipes. What is sent flies for a while, arrives in pieces, and waits until it is read; a window
//! bounds what is under way and unread. [`Peer`] is the end that the test's world holds.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::random::Random;
use super::watch::Watch;

/// All connections, and everything that flies.
#[derive(Debug)]
pub struct Network {
    now: Cell<Instant>,
    random: RefCell<Random>,
    flights: RefCell<BTreeMap<(Instant, u64), Weak<Pipe>>>,
    flights_count: Cell<u64>,
    /// Where shards listen.
    listeners: RefCell<BTreeMap<SocketAddr, Vec<Rc<Queue>>>>,
    /// Where the world listens.
    doors: RefCell<BTreeMap<SocketAddr, (Door, VecDeque<Peer>)>>,
    out_of_descriptors: Cell<bool>,
    calm: Cell<bool>,
    even: Cell<bool>,
}

/// How a place in the world takes connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// It takes them.
    Open,
    /// It refuses them.
    Shut,
    /// It never answers.
    BlackHole,
}

/// How a connection has ended for whoever reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The other side has said that there is no more.
    Finished,
    /// The other side has broken it.
    Reset,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    End(Ended),
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    flying: RefCell<VecDeque<Piece>>,
    arrived: RefCell<VecDeque<u8>>,
    /// Bytes that fly or wait.
    len: Cell<usize>,
    window: usize,
    last_due: Cell<Instant>,
    ended: Cell<Option<Ended>>,
    /// The sender has said all.
    finished: Cell<bool>,
    /// Nobody will read it: what arrives is answered with a reset.
    abandoned: Cell<bool>,
    /// The turn in which something was sent last.
    sent_in: Cell<u64>,
    opposite: RefCell<Weak<Pipe>>,
    /// Somebody has found it full: it is told when there is room.
    was_full: Cell<bool>,
    reader: RefCell<Weak<Watch>>,
    writer: RefCell<Weak<Watch>>,
}

/// One end of a connection. Dropped, it closes: orderly, or with a reset if something was not read.
#[derive(Debug)]
pub(super) struct End {
    network: Rc<Network>,
    incoming: Rc<Pipe>,
    outgoing: Rc<Pipe>,
    pub(super) peer: SocketAddr,
}

/// The end of a connection that the test's world holds.
#[derive(Debug)]
pub struct Peer(End);

/// Connections that wait to be accepted by a shard.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: RefCell<VecDeque<End>>,
    acceptor: RefCell<Option<Waker>>,
}

impl Network {
    pub(super) fn new(now: Instant, random: Random) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(now),
            random: RefCell::new(random),
            flights: RefCell::default(),
            flights_count: Cell::new(0),
            listeners: RefCell::default(),
            doors: RefCell::default(),
            out_of_descriptors: Cell::new(false),
            calm: Cell::new(false),
            even: Cell::new(false),
        })
    }

    /// A connection to whoever listens at `to`; `None`: nobody does.
    pub fn connect(self: &Rc<Self>, to: SocketAddr, from: SocketAddr) -> Option<Peer> {
        let listeners = self.listeners.borrow();
        let queues = listeners.get(&to).filter(|queues| !queues.is_empty())?;
        let queue = &queues[self.random.borrow_mut().below(queues.len())];
        let (inside, outside) = self.pair(from, to);
        queue.waiting.borrow_mut().push_back(inside);
        wake(&queue.acceptor);
        Some(Peer(outside))
    }

    /// From now on `door` is how the world takes connections at `place`.
    pub fn set_door(&self, place: SocketAddr, door: Door) {
        self.doors
            .borrow_mut()
            .entry(place)
            .or_insert((door, VecDeque::new()))
            .0 = door;
    }

    /// The connections that have come to `place`.
    pub fn accepted(&self, place: SocketAddr) -> Vec<Peer> {
        let mut doors = self.doors.borrow_mut();
        doors
            .get_mut(&place)
            .map(|(_, peers)| peers.drain(..).collect())
            .unwrap_or_default()
    }

    /// Whether shards can open or accept connections.
    pub fn set_out_of_descriptors(&self, out: bool) {
        self.out_of_descriptors.set(out);
        if !out {
            for queue in self.listeners.borrow().values().flatten() {
                wake(&queue.acceptor);
            }
        }
    }

    /// From now on nothing takes long on its way.
    pub fn set_calm(&self) {
        self.calm.set(true);
    }

    /// From now on everything takes the same time: what is sent together arrives together.
    pub fn set_even(&self) {
        self.even.set(true);
    }

    pub(super) fn listen(&self, place: SocketAddr) -> Rc<Queue> {
        let queue = Rc::<Queue>::default();
        self.listeners
            .borrow_mut()
            .entry(place)
            .or_default()
            .push(queue.clone());
        queue
    }

    pub(super) fn stop_listening(&self, queue: &Rc<Queue>) {
        for queues in self.listeners.borrow_mut().values_mut() {
            queues.retain(|other| !Rc::ptr_eq(other, queue));
        }
        // Who was not accepted is refused, late.
        for end in queue.waiting.borrow_mut().drain(..) {
            end.reset();
        }
    }

    pub(super) fn poll_accept(&self, queue: &Queue, context: &mut Context<'_>) -> Poll<Result<End, Errno>> {
        if self.out_of_descriptors.get() && !queue.waiting.borrow().is_empty() {
            return Poll::Ready(Err(Errno::MFILE));
        }
        match queue.waiting.borrow_mut().pop_front() {
            Some(end) => Poll::Ready(Ok(end)),
            None => {
                remember(&queue.acceptor, context);
                Poll::Pending
            }
        }
    }

    /// `None`: there is no answer, ever.
    pub(super) fn open(self: &Rc<Self>, to: SocketAddr) -> Option<Result<End, Errno>> {
        if self.out_of_descriptors.get() {
            return Some(Err(Errno::MFILE));
        }
        let mut doors = self.doors.borrow_mut();
        match doors.get_mut(&to) {
            Some((Door::Open, peers)) => {
                let (outside, inside) = self.pair(to, to);
                peers.push_back(Peer(outside));
                Some(Ok(inside))
            }
            Some((Door::BlackHole, _)) => None,
            Some((Door::Shut, _)) | None => Some(Err(Errno::CONNREFUSED)),
        }
    }

    /// A connection; each end knows the other's address.
    fn pair(self: &Rc<Self>, first_peer: SocketAddr, second_peer: SocketAddr) -> (End, End) {
        let (one, other) = (self.pipe(), self.pipe());
        one.opposite.replace(Rc::downgrade(&other));
        other.opposite.replace(Rc::downgrade(&one));
        let end = |incoming: &Rc<Pipe>, outgoing: &Rc<Pipe>, peer| End {
            network: self.clone(),
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
            peer,
        };
        (end(&one, &other, first_peer), end(&other, &one, second_peer))
    }

    fn pipe(&self) -> Rc<Pipe> {
        let window = WINDOWS[self.random.borrow_mut().below(WINDOWS.len())];
        Rc::new(Pipe {
            flying: RefCell::default(),
            arrived: RefCell::default(),
            len: Cell::new(0),
            window,
            last_due: Cell::new(self.now.get()),
            ended: Cell::new(None),
            finished: Cell::new(false),
            abandoned: Cell::new(false),
            sent_in: Cell::new(0),
            opposite: RefCell::default(),
            was_full: Cell::new(false),
            reader: RefCell::default(),
            writer: RefCell::default(),
        })
    }

    fn fly(&self, pipe: &Rc<Pipe>, piece: Piece) {
        let latency = Duration::from_micros(match self.random.borrow_mut().below(100) {
            0 if !self.calm.get() && !self.even.get() => 3_000_000,
            1..10 if !self.calm.get() && !self.even.get() => 40_000,
            _ if self.even.get() => 100,
            percent => 50 + percent as u64,
        });
        let due = pipe.last_due.get().max(self.now.get() + latency);
        pipe.last_due.set(due);
        pipe.flying.borrow_mut().push_back(piece);
        let number = self.flights_count.replace(self.flights_count.get() + 1);
        self.flights.borrow_mut().insert((due, number), Rc::downgrade(pipe));
    }

    /// When something arrives next.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.flights.borrow().first_key_value().map(|((due, _), _)| *due)
    }

    /// It is `now`: what was due has arrived.
    pub(super) fn advance(&self, now: Instant) {
        self.now.set(now);
        while self.next_arrival().is_some_and(|due| due <= now) {
            let flight = self.flights.borrow_mut().pop_first();
            if let Some(pipe) = flight.and_then(|(_, pipe)| pipe.upgrade()) {
                let piece = pipe.flying.borrow_mut().pop_front();
                self.arrive(&pipe, piece.expect("each flight has its piece"));
            }
        }
    }

    fn arrive(&self, pipe: &Rc<Pipe>, piece: Piece) {
        match piece {
            Piece::Bytes(_) if pipe.abandoned.get() => {
                if let Some(opposite) = pipe.opposite.borrow().upgrade() {
                    self.fly(&opposite, Piece::End(Ended::Reset));
                }
            }
            Piece::Bytes(bytes) => {
                if pipe.ended.get() != Some(Ended::Reset) {
                    pipe.arrived.borrow_mut().extend(bytes);
                }
            }
            Piece::End(ended) => {
                if ended == Ended::Reset {
                    // It overtakes what was not read, and nothing can be sent back.
                    pipe.arrived.borrow_mut().clear();
                    if let Some(opposite) = pipe.opposite.borrow().upgrade() {
                        opposite.abandoned.set(true);
                        opposite.finished.set(true);
                    }
                }
                if pipe.ended.get() != Some(Ended::Reset) {
                    pipe.ended.set(Some(ended));
                }
            }
        }
        notify(&pipe.reader);
    }

    pub(super) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(super) fn is_even(&self) -> bool {
        self.even.get()
    }

    /// A signal comes in the midst of a system call.
    pub(super) fn interrupts(&self) -> bool {
        !self.even.get() && self.random.borrow_mut().percent(2)
    }
}

impl Pipe {
    pub(super) fn set_reader(&self, watch: Option<&Rc<Watch>>) {
        self.reader.replace(watch.map(Rc::downgrade).unwrap_or_default());
    }

    pub(super) fn set_writer(&self, watch: Option<&Rc<Watch>>) {
        self.writer.replace(watch.map(Rc::downgrade).unwrap_or_default());
    }

    pub(super) fn has_arrived(&self) -> bool {
        !self.arrived.borrow().is_empty()
    }

    /// Nothing more will come, whatever waits to be read.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    pub(super) fn is_reset(&self) -> bool {
        self.ended.get() == Some(Ended::Reset)
    }

    /// Nothing more can be sent.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.get()
    }

    pub(super) fn has_room(&self) -> bool {
        self.len.get() < self.window
    }
}

impl End {
    pub(super) fn pipes(&self) -> (&Rc<Pipe>, &Rc<Pipe>) {
        (&self.incoming, &self.outgoing)
    }

    pub(super) fn interrupts(&self) -> bool {
        self.network.interrupts()
    }

    /// What a read of one byte would find, without reading it.
    pub(super) fn peek(&self) -> Option<Result<usize, Errno>> {
        if self.incoming.has_arrived() {
            return Some(Ok(1));
        }
        match self.incoming.ended.get()? {
            Ended::Finished => Some(Ok(0)),
            Ended::Reset => Some(Err(Errno::CONNRESET)),
        }
    }

    pub(super) fn try_recv(&self, buffer: &mut [u8]) -> Option<Result<usize, Errno>> {
        if !self.incoming.has_arrived() {
            return self.peek();
        }
        let mut arrived = self.incoming.arrived.borrow_mut();
        // All that is there, as TCP does; it arrives in pieces.
        let len = arrived.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(arrived.drain(..len)) {
            *to = from;
        }
        self.incoming.len.set(self.incoming.len.get() - len);
        if self.incoming.was_full.get() && self.incoming.has_room() {
            self.incoming.was_full.set(false);
            notify(&self.incoming.writer);
        }
        Some(Ok(len))
    }

    pub(super) fn try_send(&self, bytes: &[u8]) -> Option<Result<usize, Errno>> {
        let pipe = &self.outgoing;
        if pipe.finished.get() {
            return Some(Err(Errno::PIPE));
        }
        let room = pipe.window.saturating_sub(pipe.len.get()).min(bytes.len());
        pipe.was_full.set(room < bytes.len());
        if room == 0 && !bytes.is_empty() {
            return None;
        }
        let len = self.some_of(room);
        pipe.sent_in.set(super::task::turns());
        pipe.len.set(pipe.len.get() + len);
        self.network.fly(pipe, Piece::Bytes(bytes[..len].to_vec()));
        Some(Ok(len))
    }

    pub(super) fn finish(&self) {
        if !self.outgoing.finished.replace(true) {
            self.network.fly(&self.outgoing, Piece::End(Ended::Finished));
        }
    }

    pub(super) fn reset(&self) {
        self.outgoing.finished.set(true);
        self.network.fly(&self.outgoing, Piece::End(Ended::Reset));
    }

    /// Mostly all, sometimes less: a system call may do so.
    fn some_of(&self, len: usize) -> usize {
        let mut random = self.network.random.borrow_mut();
        if len > 1 && random.percent(15) {
            1 + random.below(len)
        } else {
            len
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.incoming.abandoned.set(true);
        if self.incoming.has_arrived() {
            self.reset();
        } else {
            self.finish();
        }
    }
}

impl Peer {
    /// Sends as much as there is room for; says how much that was.
    pub fn send(&self, bytes: &[u8]) -> usize {
        match self.0.try_send(bytes) {
            Some(Ok(len)) => len,
            _ => 0,
        }
    }

    /// Sends all at once, in one piece, whether or not there is room.
    pub fn send_whole(&self, bytes: &[u8]) {
        let pipe = &self.0.outgoing;
        if !pipe.finished.get() {
            pipe.len.set(pipe.len.get() + bytes.len());
            self.0.network.fly(pipe, Piece::Bytes(bytes.to_vec()));
        }
    }

    /// Reads all that has arrived.
    pub fn receive(&self) -> Vec<u8> {
        let mut received = Vec::new();
        let mut piece = [0; 4096];
        while let Some(Ok(len @ 1..)) = self.0.try_recv(&mut piece) {
            received.extend_from_slice(&piece[..len]);
        }
        received
    }

    /// Reads what has arrived, at most `len` bytes.
    pub fn receive_some(&self, len: usize) -> Vec<u8> {
        let mut received = vec![0; len];
        let taken = match self.0.try_recv(&mut received) {
            Some(Ok(taken)) => taken,
            _ => 0,
        };
        received.truncate(taken);
        received
    }

    /// The turn in which the other side has sent something last.
    pub fn answered_in(&self) -> u64 {
        self.0.incoming.sent_in.get()
    }

    /// How the other side has ended it, once all was read.
    pub fn ended(&self) -> Option<Ended> {
        self.0.incoming.ended.get().filter(|_| !self.0.incoming.has_arrived())
    }

    /// Says that no more will be sent.
    pub fn finish(&self) {
        self.0.finish();
    }

    /// Breaks it.
    pub fn reset(self) {
        self.0.reset();
    }
}

fn remember(place: &RefCell<Option<Waker>>, context: &mut Context<'_>) {
    place.replace(Some(context.waker().clone()));
}

fn wake(place: &RefCell<Option<Waker>>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

fn notify(place: &RefCell<Weak<Watch>>) {
    if let Some(watch) = place.borrow().upgrade() {
        watch.notify();
    }
}

/// Bytes that may be under way in one direction.
const WINDOWS: [usize; 3] = [600, 8 * 1024, 200 * 1024];

//! Makes the load: one thread's WebSocket clients on one epoll, from a [`Schedule`] or in a closed loop.
//!
//! A client costs its socket and the few fields of `Client`; what it must send and what it must get back is computed
//! from its number, so nothing is remembered per message but one bit. Every answer is compared with the one
//! possible right one.

mod answers;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::{io, mem};

use hdrhistogram::Histogram;

use crate::counters::{Control, Count, Counts, Slice, ThreadCounters, micros, slice_histogram};
use crate::net::{self, Received};
use crate::poller::{Event, Poller, now_ns, thread_cpu_ns};
use crate::rpc::{self, Shape};
use crate::schedule::Schedule;
use crate::websocket;

/// When clients send Calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Traffic {
    /// A client never sends.
    Silent,
    /// When the schedule says so, whatever became of the one before.
    OpenLoop,
    /// As soon as the one before is answered.
    ClosedLoop,
}

/// What one thread is to do.
#[derive(Clone, Debug)]
pub struct Load {
    /// Which thread this is, and of how many.
    pub thread: u32,
    /// Number of threads.
    pub threads: u32,
    /// Clients of this thread: at least 1.
    pub clients: u32,
    /// When what is due.
    pub schedule: Schedule,
    /// Time of the first connect.
    pub start_ns: u64,
    /// Handshakes at once per thread; `None`: by the schedule.
    pub handshakes_at_once: Option<u32>,
    /// Where to connect to, in turn.
    pub targets: Arc<[SocketAddr]>,
    /// Offered, and to be answered with.
    pub subprotocol: Option<Arc<str>>,
    /// What the Calls look like.
    pub shape: Shape,
    /// When they are sent.
    pub traffic: Traffic,
    /// A right answer after this is late.
    pub late_ns: u64,
}

/// Runs the thread's load until `control.stop`.
///
/// # Errors
/// No private descriptor table or no epoll; what happens to single clients is counted, never an error.
pub fn run(
    load: Load,
    counts: Arc<Counts>,
    control: Arc<Control>,
    slices: Sender<Slice>,
) -> io::Result<ThreadCounters> {
    let mut generator = Generator {
        poller: Poller::new()?,
        clients: (0..load.clients).map(|_| Client::default()).collect(),
        counts,
        control,
        slices,
        counters: ThreadCounters::default(),
        next_connect: 0,
        next_turn: 0,
        handshaking: 0,
        kicked: false,
        second: 0,
        cpu_read_ns: 0,
        slice_calls: slice_histogram(),
        slice_pushes: slice_histogram(),
        mask: 0x9e37_79b9 ^ load.thread,
        text: Vec::new(),
        frame: Vec::new(),
        buffer: vec![0; READ_LEN],
        load,
    };
    generator.run()?;
    Ok(generator.finish())
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Unborn,
    Handshaking,
    Open,
    Gone,
}

#[derive(Default)]
struct Client {
    socket: Option<OwnedFd>,
    state: State,
    /// The Call that is sent next.
    next_round: u32,
    /// Bit n: the Call `next_round - 1 - n` has no answer yet.
    unanswered: u64,
    /// When the connect was due; in a closed loop, when the last Call was sent.
    since_ns: u64,
    input: Vec<u8>,
    unsent: Vec<u8>,
}

// 1,000,000 clients in one process: their user memory is this and nothing else.
const _: () = assert!(size_of::<Client>() <= 96);

struct Generator {
    load: Load,
    poller: Poller,
    clients: Vec<Client>,
    counts: Arc<Counts>,
    control: Arc<Control>,
    slices: Sender<Slice>,
    counters: ThreadCounters,
    next_connect: u32,
    next_turn: u64,
    handshaking: u32,
    /// The closed loop has begun.
    kicked: bool,
    second: u64,
    cpu_read_ns: u64,
    slice_calls: Histogram<u32>,
    slice_pushes: Histogram<u32>,
    mask: u32,
    text: Vec<u8>,
    frame: Vec<u8>,
    buffer: Vec<u8>,
}

impl Generator {
    fn run(&mut self) -> io::Result<()> {
        while !self.control.stop.load(Ordering::Relaxed) {
            let now = now_ns();
            let connect_due = self.connect_due(now);
            let message_due = match self.load.traffic {
                Traffic::Silent => u64::MAX,
                Traffic::OpenLoop => self.send_due(now),
                Traffic::ClosedLoop => self.kick(now),
            };
            self.roll_second(now);
            let deadline = connect_due.min(message_due).min(now + NAP_NS);
            for index in 0..self.poller.wait(Some(deadline))? {
                let event = self.poller.event(index);
                self.handle_event(event);
            }
        }
        Ok(())
    }

    /// Begins what connects are due and says when the next is.
    fn connect_due(&mut self, now: u64) -> u64 {
        for _ in 0..CONNECTS_PER_PASS {
            if self.next_connect == self.load.clients {
                return u64::MAX;
            }
            let due = match self.load.handshakes_at_once {
                Some(at_once) if self.handshaking >= at_once => return u64::MAX,
                Some(_) => now,
                None => self.load.schedule.connect_due(self.next_connect),
            };
            if due > now || now < self.load.start_ns {
                return due.max(self.load.start_ns);
            }
            let slot = self.load.schedule.slot_of(self.next_connect);
            self.next_connect += 1;
            self.counts.bump(Count::Connecting);
            self.handshaking += 1;
            self.clients[slot as usize].since_ns = due;
            self.clients[slot as usize].next_round = self.load.schedule.first_round(slot);
            if let Err(error) = self.connect(slot) {
                self.lose(slot as usize, &error.to_string());
            }
        }
        now
    }

    fn connect(&mut self, slot: u32) -> io::Result<()> {
        let number = self.client_number(slot as usize);
        let target = self.load.targets[number as usize % self.load.targets.len()];
        let source = target.ip().is_loopback() && target.is_ipv4();
        let socket = net::connect(target, source.then(|| source_address(number)))?;
        self.poller.add(&socket, u64::from(slot))?;
        self.text.clear();
        self.text.extend_from_slice(b"GET /");
        rpc::write_client_id(&mut self.text, number);
        self.text.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        self.text.extend_from_slice(target.to_string().as_bytes());
        self.text.extend_from_slice(
            b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
        );
        self.text.extend_from_slice(&websocket::client_key(nonce(number)));
        if let Some(subprotocol) = &self.load.subprotocol {
            self.text.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            self.text.extend_from_slice(subprotocol.as_bytes());
        }
        self.text.extend_from_slice(b"\r\n\r\n");
        let client = &mut self.clients[slot as usize];
        client.state = State::Handshaking;
        net::transmit_or_keep(&socket, &self.text, &mut client.unsent, UNSENT_MAX)?;
        client.socket = Some(socket);
        Ok(())
    }

    /// Sends what Calls are due and says when the next is.
    fn send_due(&mut self, now: u64) -> u64 {
        let end = self.control.window_end();
        for _ in 0..SENDS_PER_PASS {
            let (slot, round) = self.load.schedule.turn(self.next_turn);
            let due = self.load.schedule.message_due(slot, round);
            if due >= end {
                return u64::MAX;
            }
            if due > now {
                return due;
            }
            self.next_turn += 1;
            if round < self.load.schedule.first_round(slot) {
                continue;
            }
            match self.clients[slot as usize].state {
                State::Open => self.send_until(slot as usize, round),
                State::Gone => self.counts.bump(Count::Missed),
                // Sent when the handshake is done; its latency counts from now.
                State::Unborn | State::Handshaking => {}
            }
        }
        now
    }

    fn send_until(&mut self, slot: usize, last_round: u32) {
        while self.clients[slot].state == State::Open && self.clients[slot].next_round <= last_round {
            self.send_call(slot);
        }
    }

    /// Starts the closed loop when it is time, and says when that is.
    fn kick(&mut self, now: u64) -> u64 {
        let begin = self.control.window_start().saturating_sub(WARM_UP_NS);
        if self.kicked || now < begin {
            return if self.kicked { u64::MAX } else { begin };
        }
        self.kicked = true;
        for slot in 0..self.clients.len() {
            if self.clients[slot].state == State::Open {
                self.send_call(slot);
            }
        }
        u64::MAX
    }

    fn send_call(&mut self, slot: usize) {
        let number = self.client_number(slot);
        let client = &mut self.clients[slot];
        let round = client.next_round;
        client.next_round += 1;
        client.unanswered = client.unanswered << 1 | 1;
        self.text.clear();
        self.load.shape.write_call(&mut self.text, number, round);
        let now = now_ns();
        if self.load.traffic == Traffic::ClosedLoop {
            client.since_ns = now;
        } else {
            let due = self.load.schedule.message_due(slot as u32, round);
            if due >= self.control.window_start() {
                self.counters.latencies.send_lag.saturating_record(micros(due, now));
            }
        }
        self.counts.bump(Count::Sent);
        self.send_frame(slot, websocket::TEXT);
    }

    /// Sends `self.text` as one masked frame.
    fn send_frame(&mut self, slot: usize, opcode: u8) {
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        self.frame.clear();
        websocket::write_client_frame(&mut self.frame, opcode, &self.text, self.mask.to_ne_bytes());
        let client = &mut self.clients[slot];
        let Some(socket) = &client.socket else { return };
        if let Err(error) = net::transmit_or_keep(socket, &self.frame, &mut client.unsent, UNSENT_MAX) {
            self.lose(slot, &error.to_string());
        }
    }

    fn handle_event(&mut self, event: Event) {
        let slot = event.token as usize;
        let client = &mut self.clients[slot];
        if event.writable
            && !client.unsent.is_empty()
            && let Some(socket) = &client.socket
            && let Err(error) = net::flush(socket, &mut client.unsent)
        {
            return self.lose(slot, &error.to_string());
        }
        if !event.readable {
            return;
        }
        loop {
            let Some(socket) = &self.clients[slot].socket else {
                return;
            };
            match net::receive(socket, &mut self.buffer) {
                Received::Nothing => return,
                Received::Closed => return self.lose(slot, "closed by the other side"),
                Received::Bytes(len) => {
                    let buffer = mem::take(&mut self.buffer);
                    self.handle_bytes(slot, &buffer[..len]);
                    let full = len == buffer.len();
                    self.buffer = buffer;
                    if !full && !event.closed {
                        return;
                    }
                }
            }
        }
    }

    fn lose(&mut self, slot: usize, why: &str) {
        let number = self.client_number(slot);
        let client = &mut self.clients[slot];
        let state = mem::replace(&mut client.state, State::Gone);
        (client.input, client.unsent) = (Vec::new(), Vec::new());
        client.socket = None;
        match state {
            State::Open => self.counts.bump(Count::Closed),
            State::Gone => return,
            State::Unborn | State::Handshaking => {
                self.handshaking -= 1;
                self.counts.bump(Count::Failed);
            }
        }
        self.counters
            .note(|| format!("client c{number} lost while {state:?}: {why}"));
    }

    /// Hands over the last second's latencies, once per second.
    fn roll_second(&mut self, now: u64) {
        let second = now.saturating_sub(self.load.start_ns) / 1_000_000_000;
        if second != self.second {
            self.send_slice();
            self.second = second;
        }
        if now > self.cpu_read_ns + CPU_READ_NS {
            self.cpu_read_ns = now;
            self.counts.set(Count::CpuNs, thread_cpu_ns());
        }
    }

    fn send_slice(&mut self) {
        if self.slice_calls.is_empty() && self.slice_pushes.is_empty() {
            return;
        }
        let slice = Slice {
            second: self.second,
            calls: self.slice_calls.clone(),
            pushes: self.slice_pushes.clone(),
        };
        self.slice_calls.reset();
        self.slice_pushes.reset();
        // The main thread may have given up on us; then nobody needs it.
        let _ = self.slices.send(slice);
    }

    fn finish(mut self) -> ThreadCounters {
        self.send_slice();
        for client in &mut self.clients {
            if client.state == State::Handshaking {
                self.counts.bump(Count::Failed);
                self.counters.note(|| "a handshake was never finished".to_owned());
            }
            if let Some(socket) = client.socket.take() {
                net::close_with_reset(socket);
            }
        }
        self.counters
    }

    fn client_number(&self, slot: usize) -> u32 {
        slot as u32 * self.load.threads + self.load.thread
    }
}

/// 127.0.x.y: one address for each 4,000 clients, so that a free port is found at once.
fn source_address(client: u32) -> Ipv4Addr {
    let index = client / CLIENTS_PER_ADDRESS;
    Ipv4Addr::new(127, 0, 1 + (index / 250 % 250) as u8, 1 + (index % 250) as u8)
}

fn nonce(client: u32) -> u128 {
    u128::from(crate::outcomes::digest(u64::from(client))) << 64 | u128::from(client)
}

const CLIENTS_PER_ADDRESS: u32 = 4_000;
/// The closed loop runs for so long before the measurement begins.
pub const WARM_UP_NS: u64 = 500_000_000;
const CPU_READ_NS: u64 = 50_000_000;
const NAP_NS: u64 = 100_000_000;
const CONNECTS_PER_PASS: usize = 16;
const SENDS_PER_PASS: usize = 32;
const READ_LEN: usize = 64 << 10;
const UNSENT_MAX: usize = 4 << 20;

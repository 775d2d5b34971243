//! Makes the load of hold120k: what its clients say, from a [`Schedule`] or in a closed loop.
//!
//! What a client must send and what it must get back is computed from its number, so nothing is remembered per message
//! but one bit. Every answer is compared with the one possible right one.

mod answers;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use hdrhistogram::Histogram;
use loadgen::engine::{Client, End, Engine, Script, State, Tls};

use crate::counters::{Control, Count, Counts, Slice, ThreadCounters, micros, slice_histogram};
use crate::poller::{now_ns, thread_cpu_ns};
use crate::rpc::{self, Shape};
use crate::schedule::Schedule;
use crate::websocket::Header;

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
    /// How, where they speak TLS.
    pub tls: Option<Tls>,
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
    let (thread, threads, clients) = (load.thread, load.threads, load.clients);
    let tls = load.tls.clone();
    let script = Echo {
        counts,
        control,
        slices,
        counters: ThreadCounters::default(),
        next_connect: 0,
        next_turn: 0,
        kicked: false,
        second: 0,
        cpu_read_ns: 0,
        slice_calls: slice_histogram(),
        slice_pushes: slice_histogram(),
        load,
    };
    let mut generator = Engine::new(script, thread, threads, clients)?;
    generator.tls = tls;
    generator.run()?;
    Ok(finish(generator))
}

/// What is remembered of a client.
#[derive(Default)]
struct Said {
    /// The Call that is sent next.
    next_round: u32,
    /// Bit n: the Call `next_round - 1 - n` has no answer yet.
    unanswered: u64,
    /// When the connect was due; in a closed loop, when the last Call was sent.
    since_ns: u64,
}

// 1,000,000 clients in one process: their user memory is this and nothing else.
const _: () = assert!(size_of::<Client<Said>>() <= 96);

/// The clients say what comes back to them.
struct Echo {
    load: Load,
    counts: Arc<Counts>,
    control: Arc<Control>,
    slices: Sender<Slice>,
    counters: ThreadCounters,
    next_connect: u32,
    next_turn: u64,
    /// The closed loop has begun.
    kicked: bool,
    second: u64,
    cpu_read_ns: u64,
    slice_calls: Histogram<u32>,
    slice_pushes: Histogram<u32>,
}

type Generator = Engine<Echo>;

impl Script for Echo {
    type Client = Said;

    fn is_over(&self) -> bool {
        self.control.stop.load(Ordering::Relaxed)
    }

    fn advance(generator: &mut Generator, now: u64) -> u64 {
        let connect_due = connect_due(generator, now);
        let message_due = match generator.script.load.traffic {
            Traffic::Silent => u64::MAX,
            Traffic::OpenLoop => send_due(generator, now),
            Traffic::ClosedLoop => kick(generator, now),
        };
        generator.script.roll_second(now);
        connect_due.min(message_due)
    }

    fn write_request(&self, number: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(b"GET /");
        rpc::write_client_id(out, number);
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(self.load.target(number).to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    fn subprotocol(&self, _number: u32) -> Option<&str> {
        self.load.subprotocol.as_deref()
    }

    fn handle_open(generator: &mut Generator, slot: usize) {
        answers::handle_open(generator, slot);
    }

    fn handle_data(generator: &mut Generator, slot: usize, header: Header, payload: &[u8]) {
        answers::handle_data(generator, slot, header, payload);
    }

    fn handle_ping(&mut self) {
        self.counts.bump(Count::Pings);
    }

    fn handle_end(generator: &mut Generator, slot: usize, was: State, end: &End<'_>) {
        let number = generator.number(slot);
        let echo = &mut generator.script;
        let is_open = matches!(was, State::Open | State::Closing);
        echo.counts.bump(if is_open { Count::Closed } else { Count::Failed });
        echo.counters
            .note(|| format!("client c{number} lost while {was:?}: {end}"));
    }
}

impl Load {
    fn target(&self, number: u32) -> SocketAddr {
        self.targets[number as usize % self.targets.len()]
    }
}

/// Begins what connects are due and says when the next is.
fn connect_due(generator: &mut Generator, now: u64) -> u64 {
    for _ in 0..CONNECTS_PER_PASS {
        let handshaking = generator.handshaking();
        let echo = &mut generator.script;
        if echo.next_connect == echo.load.clients {
            return u64::MAX;
        }
        let due = match echo.load.handshakes_at_once {
            Some(at_once) if handshaking >= at_once => return u64::MAX,
            Some(_) => now,
            None => echo.load.schedule.connect_due(echo.next_connect),
        };
        if due > now || now < echo.load.start_ns {
            return due.max(echo.load.start_ns);
        }
        let slot = echo.load.schedule.slot_of(echo.next_connect);
        echo.next_connect += 1;
        echo.counts.bump(Count::Connecting);
        let first_round = echo.load.schedule.first_round(slot);
        let slot = slot as usize;
        let said = generator.client(slot);
        said.since_ns = due;
        said.next_round = first_round;
        let target = generator.script.load.target(generator.number(slot));
        generator.connect(slot, target);
    }
    now
}

/// Sends what Calls are due and says when the next is.
fn send_due(generator: &mut Generator, now: u64) -> u64 {
    let end = generator.script.control.window_end();
    for _ in 0..SENDS_PER_PASS {
        let echo = &mut generator.script;
        let (slot, round) = echo.load.schedule.turn(echo.next_turn);
        let due = echo.load.schedule.message_due(slot, round);
        if due >= end {
            return u64::MAX;
        }
        if due > now {
            return due;
        }
        echo.next_turn += 1;
        if round < echo.load.schedule.first_round(slot) {
            continue;
        }
        match generator.state(slot as usize) {
            State::Open | State::Closing => send_until(generator, slot as usize, round),
            State::Gone => generator.script.counts.bump(Count::Missed),
            // Sent when the handshake is done; its latency counts from now.
            State::Unborn | State::Handshaking => {}
        }
    }
    now
}

fn send_until(generator: &mut Generator, slot: usize, last_round: u32) {
    while generator.state(slot) == State::Open && generator.client(slot).next_round <= last_round {
        send_call(generator, slot);
    }
}

/// Starts the closed loop when it is time, and says when that is.
fn kick(generator: &mut Generator, now: u64) -> u64 {
    let begin = generator.script.control.window_start().saturating_sub(WARM_UP_NS);
    let kicked = &mut generator.script.kicked;
    if *kicked || now < begin {
        return if *kicked { u64::MAX } else { begin };
    }
    *kicked = true;
    for slot in 0..generator.len() {
        if generator.state(slot) == State::Open {
            send_call(generator, slot);
        }
    }
    u64::MAX
}

fn send_call(generator: &mut Generator, slot: usize) {
    let number = generator.number(slot);
    let said = generator.client(slot);
    let round = said.next_round;
    said.next_round += 1;
    said.unanswered = said.unanswered << 1 | 1;
    generator.text.clear();
    generator
        .script
        .load
        .shape
        .write_call(&mut generator.text, number, round);
    let now = now_ns();
    if generator.script.load.traffic == Traffic::ClosedLoop {
        generator.client(slot).since_ns = now;
    } else {
        let echo = &mut generator.script;
        let due = echo.load.schedule.message_due(slot as u32, round);
        if due >= echo.control.window_start() {
            echo.counters.latencies.send_lag.saturating_record(micros(due, now));
        }
    }
    generator.script.counts.bump(Count::Sent);
    generator.send(slot);
}

fn finish(generator: Generator) -> ThreadCounters {
    let unfinished = (0..generator.len()).filter(|slot| generator.state(*slot) == State::Handshaking);
    let unfinished = unfinished.count();
    let mut echo = generator.finish();
    echo.send_slice();
    for _ in 0..unfinished {
        echo.counts.bump(Count::Failed);
        echo.counters.note(|| "a handshake was never finished".to_owned());
    }
    echo.counters
}

impl Echo {
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
}

/// The closed loop runs for so long before the measurement begins.
pub const WARM_UP_NS: u64 = 500_000_000;
const CPU_READ_NS: u64 = 50_000_000;
const CONNECTS_PER_PASS: usize = 16;
const SENDS_PER_PASS: usize = 32;

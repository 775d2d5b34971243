//! Sends the pushes: one thread plays the backend's side of the ingress, open loop, over kept connections.
//!
//! One request at a time per connection, the most recently used connection first; a push that finds none free opens
//! another, up to a bound, and then waits, its latency counting from when it was due.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use slab::Slab;

use crate::counters::{Control, ThreadCounters, micros};
use crate::net::{self, Received};
use crate::outcomes::digest;
use crate::poller::{Event, Poller, now_ns};
use crate::stats::add;
use crate::{http, rpc};

/// What the thread is to do.
#[derive(Clone, Debug)]
pub struct PushLoad {
    /// Where pushes go, in turn.
    pub ingress: Arc<[SocketAddr]>,
    /// Pushes per second.
    pub rate: u32,
    /// Clients c0 to c(clients-1) get them in turn, in an order far from that of their numbers.
    pub clients: u32,
}

/// Counters of the push thread: it alone writes them, anybody reads.
#[derive(Debug, Default)]
pub struct PushCounts {
    /// Requests begun.
    pub sent: AtomicU64,
    /// Answered with 202.
    pub accepted: AtomicU64,
    /// Answered otherwise.
    pub refused: AtomicU64,
    /// Not answered: the connection failed.
    pub failed: AtomicU64,
    /// Sum of [`digest`] over the accepted, wrapping.
    pub sum: AtomicU64,
}

impl PushCounts {
    /// Requests without an answer.
    #[must_use]
    pub fn open(&self) -> u64 {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        read(&self.sent).saturating_sub(read(&self.accepted) + read(&self.refused) + read(&self.failed))
    }
}

/// Pushes while the measurement runs; ends at `control.stop`.
///
/// # Errors
/// No epoll.
pub fn run(load: PushLoad, counts: Arc<PushCounts>, control: Arc<Control>) -> io::Result<ThreadCounters> {
    let mut pusher = Pusher {
        poller: Poller::new()?,
        load,
        counts,
        control,
        connections: Slab::new(),
        idle: Vec::new(),
        waiting: VecDeque::new(),
        next: 0,
        counters: ThreadCounters::default(),
        request: Vec::new(),
        payload: Vec::new(),
        buffer: vec![0; READ_LEN],
    };
    pusher.run()?;
    Ok(pusher.counters)
}

struct Pusher {
    poller: Poller,
    load: PushLoad,
    counts: Arc<PushCounts>,
    control: Arc<Control>,
    connections: Slab<Connection>,
    idle: Vec<usize>,
    /// Pushes that were due when no connection was free.
    waiting: VecDeque<Push>,
    next: u64,
    counters: ThreadCounters,
    request: Vec<u8>,
    payload: Vec<u8>,
    buffer: Vec<u8>,
}

struct Connection {
    socket: OwnedFd,
    input: Vec<u8>,
    unsent: Vec<u8>,
    push: Option<Push>,
}

#[derive(Clone, Copy)]
struct Push {
    number: u64,
    due_ns: u64,
}

impl Pusher {
    fn run(&mut self) -> io::Result<()> {
        while !self.control.stop.load(Ordering::Relaxed) {
            let now = now_ns();
            let due = self.send_due(now);
            for index in 0..self.poller.wait(Some(due.min(now + NAP_NS)))? {
                let event = self.poller.event(index);
                self.handle_event(event);
            }
        }
        Ok(())
    }

    fn send_due(&mut self, now: u64) -> u64 {
        let (start, end) = (self.control.window_start(), self.control.window_end());
        if start == u64::MAX {
            return u64::MAX;
        }
        for _ in 0..PUSHES_PER_PASS {
            let due_ns = start + (u128::from(self.next) * 1_000_000_000 / u128::from(self.load.rate)) as u64;
            if due_ns >= end {
                return u64::MAX;
            }
            if due_ns > now {
                return due_ns;
            }
            let push = Push {
                number: self.next,
                due_ns,
            };
            self.next += 1;
            add(&self.counts.sent, 1);
            self.counters.latencies.send_lag.saturating_record(micros(due_ns, now));
            if let Some(key) = self.idle.pop().or_else(|| self.open()) {
                self.send(key, push);
            } else if self.waiting.len() < WAITING_MAX {
                self.waiting.push_back(push);
            } else {
                add(&self.counts.failed, 1);
                self.counters
                    .note(|| format!("{WAITING_MAX} pushes wait for a connection to the ingress"));
            }
        }
        now
    }

    fn open(&mut self) -> Option<usize> {
        if self.connections.len() >= CONNECTIONS_MAX {
            return None;
        }
        let target = self.load.ingress[self.connections.len() % self.load.ingress.len()];
        let opened = net::connect(target, None).and_then(|socket| {
            let entry = self.connections.vacant_entry();
            self.poller.add(&socket, entry.key() as u64)?;
            let key = entry.key();
            entry.insert(Connection {
                socket,
                input: Vec::new(),
                unsent: Vec::new(),
                push: None,
            });
            Ok(key)
        });
        opened
            .inspect_err(|error| self.counters.note(|| format!("ingress {target}: {error}")))
            .ok()
    }

    fn send(&mut self, key: usize, push: Push) {
        // A stride coprime with any number of clients below it: neighbours in time are far apart in number.
        let client = (push.number * STRIDE % u64::from(self.load.clients)) as u32;
        self.payload.clear();
        rpc::write_push_payload(&mut self.payload, client, push.number, push.due_ns);
        self.request.clear();
        let _ = write!(
            self.request,
            "POST /call/{}/c{client}/p{} HTTP/1.1\r\nHost: ingress\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            rpc::PUSH_ACTION,
            push.number,
            self.payload.len()
        );
        self.request.extend_from_slice(&self.payload);
        let connection = &mut self.connections[key];
        connection.push = Some(push);
        let (socket, unsent) = (&connection.socket, &mut connection.unsent);
        if let Err(error) = net::transmit_or_keep(socket, &self.request, unsent, UNSENT_MAX) {
            self.close(key, &error.to_string());
        }
    }

    fn handle_event(&mut self, event: Event) {
        let key = event.token as usize;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if event.writable
            && let Err(error) = net::flush(&connection.socket, &mut connection.unsent)
        {
            return self.close(key, &error.to_string());
        }
        if !event.readable {
            return;
        }
        loop {
            let Some(connection) = self.connections.get_mut(key) else {
                return;
            };
            match net::receive(&connection.socket, &mut self.buffer) {
                Received::Nothing => return,
                Received::Closed => return self.close(key, "closed by the ingress"),
                Received::Bytes(len) => {
                    connection.input.extend_from_slice(&self.buffer[..len]);
                    self.handle_answer(key);
                }
            }
        }
    }

    fn handle_answer(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let answer = match http::parse_answer(&connection.input) {
            Ok(Some(answer)) if connection.input.len() >= answer.head_len + answer.body_len => answer,
            Ok(_) => return,
            Err(http::Malformed) => return self.close(key, "not an HTTP answer"),
        };
        let Some(push) = connection.push.take() else {
            return self.close(key, "an answer to nothing");
        };
        if answer.status == 202 {
            add(&self.counts.accepted, 1);
            add(&self.counts.sum, digest(push.number));
            self.counters
                .latencies
                .accepts
                .saturating_record(micros(push.due_ns, now_ns()));
        } else {
            add(&self.counts.refused, 1);
            let text = String::from_utf8_lossy(&connection.input).into_owned();
            self.counters
                .note(|| format!("push p{} got {}: {text:?}", push.number, answer.status));
        }
        connection.input.clear();
        if !answer.keep_alive {
            return self.close(key, "closed after the answer");
        }
        match self.waiting.pop_front() {
            Some(push) => self.send(key, push),
            None => self.idle.push(key),
        }
    }

    fn close(&mut self, key: usize, why: &str) {
        let Some(connection) = self.connections.try_remove(key) else {
            return;
        };
        self.idle.retain(|idle| *idle != key);
        if let Some(push) = connection.push {
            add(&self.counts.failed, 1);
            self.counters
                .note(|| format!("push p{} lost its connection: {why}", push.number));
        }
        if let Some(push) = self.waiting.pop_front() {
            match self.open() {
                Some(key) => self.send(key, push),
                None => self.waiting.push_front(push),
            }
        }
    }
}

const STRIDE: u64 = 2_654_435_761;
const CONNECTIONS_MAX: usize = 256;
const WAITING_MAX: usize = 100_000;
const PUSHES_PER_PASS: usize = 32;
const NAP_NS: u64 = 100_000_000;
const READ_LEN: usize = 64 << 10;
const UNSENT_MAX: usize = 1 << 20;

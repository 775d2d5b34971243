//! Plays the HTTP backend of the benchmarks: says ok to every connect, echoes every Call's payload, counts every
//! outcome.
//!
//! N threads, each with its own SO_REUSEPORT listener, edge-triggered epoll and file-descriptor table; they share
//! only the set of outcomes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bench::flags::{self, fail};
use bench::net::{self, Received};
use bench::outcomes::Outcomes;
use bench::poller::{Event, Poller, now_ns};
use bench::stats::{self, Counters};
use bench::{http, rpc};
use slab::Slab;

const HELP: &str = "\
stub_backend: the HTTP/1.1 server behind the proxy in a benchmark

  --listen ADDR     where to serve (127.0.0.1:5000)
  --threads N       threads, each with its own listener (1)
  --delay DURATION  think time before each answer to /call and /connect (0)

POST /connect \"ok\" · POST /call/<Action>/<ClientId>/<MessageId> the payload again
POST /result/… /error/… /send/… /disconnect 204, counted · GET /stats counters as JSON · POST /reset";

struct Options {
    listen: SocketAddr,
    threads: usize,
    delay: Duration,
}

fn main() -> ExitCode {
    let options = match parse_options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail("stub_backend", &error),
    };
    let _ = flags::raise_open_files();
    let counters: Arc<[Counters]> = (0..options.threads).map(|_| Counters::default()).collect();
    let outcomes = Arc::new(Outcomes::default());
    // No thread opens a socket before all have their own table: else one would hold copies of another's sockets.
    let unshared = Barrier::new(options.threads);
    std::thread::scope(|scope| {
        for index in 0..options.threads {
            let (counters, outcomes, unshared, options) = (counters.clone(), outcomes.clone(), &unshared, &options);
            scope.spawn(move || {
                let private = bench::sys::unshare_descriptors();
                unshared.wait();
                let served = private.and_then(|()| Server::new(options, index, counters, outcomes)?.run());
                let Err(error) = served;
                fail("stub_backend", &format!("{}: {error}", options.listen));
                std::process::exit(2);
            });
        }
    });
    ExitCode::SUCCESS
}

fn parse_options() -> Result<Option<Options>, String> {
    use lexopt::prelude::{Long, Short};
    let mut options = Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 5000)),
        threads: 1,
        delay: Duration::ZERO,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let flag = match argument {
            Long("help") | Short('h') => return Ok(None),
            Long(flag @ ("listen" | "threads" | "delay")) => flag.to_owned(),
            other => return Err(format!("{}; see --help", other.unexpected())),
        };
        let value = parser.value().map_err(|error| error.to_string())?;
        let value = value.to_str().ok_or_else(|| format!("--{flag}: not UTF-8"))?;
        match flag.as_str() {
            "listen" => options.listen = flags::parse_address(value)?,
            "delay" => options.delay = flags::parse_duration(value)?,
            _ => {
                options.threads = value
                    .parse()
                    .ok()
                    .filter(|threads| (1..=flags::SHARDS_MAX).contains(threads))
                    .ok_or_else(|| format!("--threads {value}: 1 to {} are allowed", flags::SHARDS_MAX))?;
            }
        }
    }
    Ok(Some(options))
}

/// One thread's server.
struct Server {
    poller: Poller,
    listener: OwnedFd,
    connections: Slab<Connection>,
    index: usize,
    counters: Arc<[Counters]>,
    outcomes: Arc<Outcomes>,
    delay_ns: u64,
    /// Answers whose think time has not passed: the delay is constant, so they are in order.
    thinking: VecDeque<Thinking>,
    buffer: Vec<u8>,
    answer: Vec<u8>,
    /// Tells a connection from a later one in the same place.
    generation: u64,
}

struct Connection {
    socket: OwnedFd,
    /// The start of a request that has not come whole.
    input: Vec<u8>,
    unsent: Vec<u8>,
    generation: u64,
}

struct Thinking {
    due_ns: u64,
    connection: usize,
    generation: u64,
    answer: Vec<u8>,
}

impl Server {
    fn new(options: &Options, index: usize, counters: Arc<[Counters]>, outcomes: Arc<Outcomes>) -> io::Result<Self> {
        let (poller, listener) = (Poller::new()?, net::listen(options.listen)?);
        poller.add_listener(&listener, LISTENER)?;
        Ok(Self {
            poller,
            listener,
            connections: Slab::new(),
            index,
            counters,
            outcomes,
            delay_ns: options.delay.as_nanos() as u64,
            thinking: VecDeque::new(),
            buffer: vec![0; READ_LEN],
            answer: Vec::with_capacity(READ_LEN),
            generation: 0,
        })
    }

    fn run(mut self) -> io::Result<Infallible> {
        loop {
            let deadline = self.thinking.front().map(|thinking| thinking.due_ns);
            for index in 0..self.poller.wait(deadline)? {
                match self.poller.event(index) {
                    Event { token: LISTENER, .. } => self.accept(),
                    event => self.handle_event(event),
                }
            }
            self.answer_due();
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_EVENT {
            // Out of descriptors: the listener is level-triggered, so it comes again.
            let Ok(Some(socket)) = net::accept(&self.listener) else {
                return;
            };
            self.generation += 1;
            let entry = self.connections.vacant_entry();
            if self.poller.add(&socket, entry.key() as u64).is_ok() {
                stats::add(&self.counters[self.index].accepted, 1);
                entry.insert(Connection {
                    socket,
                    input: Vec::new(),
                    unsent: Vec::new(),
                    generation: self.generation,
                });
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        let key = event.token as usize;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if event.writable && net::flush(&connection.socket, &mut connection.unsent).is_err() {
            self.connections.remove(key);
            return;
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
                Received::Closed => {
                    self.connections.remove(key);
                    return;
                }
                Received::Bytes(len) => {
                    self.handle_bytes(key, len);
                    if len < self.buffer.len() && !event.closed {
                        return;
                    }
                }
            }
        }
    }

    fn handle_bytes(&mut self, key: usize, len: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let mut input = std::mem::take(&mut connection.input);
        let bytes = if input.is_empty() {
            &self.buffer[..len]
        } else {
            input.extend_from_slice(&self.buffer[..len]);
            &input[..]
        };
        let generation = connection.generation;
        self.answer.clear();
        let mut rest = bytes;
        let mut healthy = true;
        while !rest.is_empty() {
            let request = match http::parse_request(rest) {
                Ok(Some(request)) if rest.len() >= request.head_len + request.body_len => request,
                Ok(_) => break,
                Err(http::Malformed) => {
                    stats::add(&self.counters[self.index].malformed, 1);
                    healthy = false;
                    break;
                }
            };
            let end = request.head_len + request.body_len;
            let start = self.answer.len();
            let thinks = answer(
                &mut self.answer,
                &request,
                &rest[request.head_len..end],
                &self.counters,
                self.index,
                &self.outcomes,
            );
            if thinks && self.delay_ns > 0 {
                let answer = self.answer.split_off(start);
                let due_ns = now_ns() + self.delay_ns;
                self.thinking.push_back(Thinking {
                    due_ns,
                    connection: key,
                    generation,
                    answer,
                });
            }
            healthy = request.keep_alive;
            rest = &rest[end..];
            if !healthy {
                break;
            }
        }
        let connection = &mut self.connections[key];
        if !rest.is_empty() {
            connection.input = rest.to_vec();
        }
        let sent = self.answer.is_empty()
            || net::transmit_or_keep(&connection.socket, &self.answer, &mut connection.unsent, UNSENT_MAX).is_ok();
        if !healthy || !sent {
            self.connections.remove(key);
        }
    }

    fn answer_due(&mut self) {
        let now = now_ns();
        while let Some(thinking) = self.thinking.pop_front_if(|thinking| thinking.due_ns <= now) {
            let Some(connection) = self.connections.get_mut(thinking.connection) else {
                continue;
            };
            let (socket, unsent) = (&connection.socket, &mut connection.unsent);
            if connection.generation == thinking.generation
                && net::transmit_or_keep(socket, &thinking.answer, unsent, UNSENT_MAX).is_err()
            {
                self.connections.remove(thinking.connection);
            }
        }
    }
}

/// Appends the answer; true if it is one that takes think time.
fn answer(
    out: &mut Vec<u8>,
    request: &http::Request<'_>,
    body: &[u8],
    counters: &[Counters],
    index: usize,
    outcomes: &Outcomes,
) -> bool {
    let own = &counters[index];
    let mut parts = request.path.split('/').skip(1);
    match (request.method, parts.next().unwrap_or("")) {
        ("POST", "call") => {
            stats::add(&own.calls, 1);
            // A relay that does not look inside sends the whole frame: it gets the whole answer frame.
            if let Some((id, payload)) = rpc::compact_call(body) {
                let len = payload.len() + id.len() + 7;
                let _ = write!(out, "{OK_JSON}{len}\r\n\r\n[3,\"");
                out.extend_from_slice(id);
                out.extend_from_slice(b"\",");
                out.extend_from_slice(payload);
                out.push(b']');
            } else {
                let _ = write!(out, "{OK_JSON}{}\r\n\r\n", body.len());
                out.extend_from_slice(body);
            }
            true
        }
        ("POST", "connect") => {
            stats::add(&own.connects, 1);
            let _ = write!(out, "{OK_JSON}4\r\n\r\n\"ok\"");
            true
        }
        ("POST", kind @ ("result" | "error")) => {
            stats::add(if kind == "result" { &own.results } else { &own.errors }, 1);
            if kind == "error" && request.made_by_proxy {
                stats::add(&own.errors_by_proxy, 1);
            }
            outcomes.handle_outcome(parts.nth(2).and_then(rpc::parse_push_id));
            out.extend_from_slice(NO_CONTENT);
            false
        }
        ("POST", "send") => {
            stats::add(&own.sends, 1);
            out.extend_from_slice(NO_CONTENT);
            false
        }
        ("POST", "disconnect") => {
            stats::add(&own.disconnects, 1);
            out.extend_from_slice(NO_CONTENT);
            false
        }
        ("GET", "stats") => {
            let stats = serde_json::to_vec(&stats::sum(counters, outcomes)).unwrap_or_default();
            let _ = write!(out, "{OK_JSON}{}\r\n\r\n", stats.len());
            out.extend_from_slice(&stats);
            false
        }
        ("POST", "reset") => {
            stats::reset(counters, outcomes);
            out.extend_from_slice(NO_CONTENT);
            false
        }
        _ => {
            stats::add(&own.strangers, 1);
            out.extend_from_slice(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            false
        }
    }
}

const OK_JSON: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const LISTENER: u64 = u64::MAX - 1;
const READ_LEN: usize = 64 << 10;
const UNSENT_MAX: usize = 8 << 20;
const ACCEPTS_PER_EVENT: usize = 64;

//! Runs one shard of the floor relay: see `bin/floor.rs` for what it is and is not.
//!
//! Everything a shard owns is in slabs; a token is the place in one of them and its kind. What another shard may do is
//! put a frame for one of our clients into our mailbox.

mod clients;
mod pushes;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rustix::event::{EventfdFlags, eventfd};
use slab::Slab;

use crate::net::{self, Received};
use crate::poller::{Event, Poller};
use crate::{http, websocket};

/// Which shard has which client: (shard, place, generation).
pub type Registry = Mutex<HashMap<Box<[u8]>, (usize, usize, u64)>>;

/// Frames from other shards, and how to wake the owner.
#[derive(Debug)]
pub struct Mail {
    letters: Mutex<Vec<Letter>>,
    wake: OwnedFd,
}

#[derive(Debug)]
struct Letter {
    client: usize,
    generation: u64,
    frame: Vec<u8>,
}

impl Mail {
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self {
            letters: Mutex::default(),
            wake,
        })
    }
}

/// See the module.
pub struct Shard {
    poller: Poller,
    listener: OwnedFd,
    ingress: OwnedFd,
    backend: SocketAddr,
    index: usize,
    mail: Arc<[Mail]>,
    registry: Arc<Registry>,
    clients: Slab<Client>,
    backends: Slab<Backend>,
    pushers: Slab<Pusher>,
    /// Backend connections without a job, the most recently used last.
    idle: Vec<usize>,
    /// Requests that found no backend connection.
    waiting: VecDeque<(Job, Vec<u8>)>,
    generation: u64,
    call_head: Vec<u8>,
    request: Vec<u8>,
    frame: Vec<u8>,
    buffer: Vec<u8>,
}

struct Client {
    socket: OwnedFd,
    generation: u64,
    /// Empty until the opening handshake has been read.
    id: Box<[u8]>,
    open: bool,
    accept: [u8; 28],
    protocol: Box<[u8]>,
    input: Vec<u8>,
    unsent: Vec<u8>,
}

struct Backend {
    socket: OwnedFd,
    input: Vec<u8>,
    unsent: Vec<u8>,
    job: Option<Job>,
}

struct Pusher {
    socket: OwnedFd,
    input: Vec<u8>,
    unsent: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Job {
    Connect { client: usize, generation: u64 },
    Call { client: usize, generation: u64 },
    Result,
}

impl Shard {
    /// `addresses`: where clients come, where pushes come, where requests go.
    ///
    /// # Errors
    /// An address is taken or not ours.
    pub fn new(
        addresses: [SocketAddr; 3],
        index: usize,
        mail: Arc<[Mail]>,
        registry: Arc<Registry>,
    ) -> io::Result<Self> {
        let [listen, ingress, backend] = addresses;
        let (poller, listener, ingress) = (Poller::new()?, net::listen(listen)?, net::listen(ingress)?);
        poller.add_listener(&listener, LISTENER)?;
        poller.add_listener(&ingress, INGRESS)?;
        poller.add_listener(&mail[index].wake, WAKE)?;
        let call_head = format!(
            "POST /call/Heartbeat/client/message HTTP/1.1\r\nHost: {backend}\r\nContent-Type: application/json\r\nContent-Length: "
        );
        Ok(Self {
            poller,
            listener,
            ingress,
            backend,
            index,
            mail,
            registry,
            clients: Slab::new(),
            backends: Slab::new(),
            pushers: Slab::new(),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            generation: 0,
            call_head: call_head.into_bytes(),
            request: Vec::new(),
            frame: Vec::new(),
            buffer: vec![0; READ_LEN],
        })
    }

    /// Serves until the poller fails.
    ///
    /// # Errors
    /// What epoll says.
    pub fn run(mut self) -> io::Result<Infallible> {
        loop {
            for index in 0..self.poller.wait(None)? {
                let event = self.poller.event(index);
                match event.token {
                    LISTENER => self.accept_clients(),
                    INGRESS => self.accept_pushers(),
                    WAKE => self.handle_mail(),
                    token => {
                        let key = (token >> 2) as usize;
                        match token & 3 {
                            CLIENT => self.handle_client(key, event),
                            BACKEND => self.handle_backend(key, event),
                            _ => self.handle_pusher(key, event),
                        }
                    }
                }
            }
        }
    }

    fn accept_clients(&mut self) {
        for _ in 0..ACCEPTS_PER_EVENT {
            let Ok(Some(socket)) = net::accept(&self.listener) else {
                return;
            };
            self.generation += 1;
            let entry = self.clients.vacant_entry();
            if self.poller.add(&socket, (entry.key() as u64) << 2 | CLIENT).is_ok() {
                entry.insert(Client {
                    socket,
                    generation: self.generation,
                    id: Box::default(),
                    open: false,
                    accept: [0; 28],
                    protocol: Box::default(),
                    input: Vec::new(),
                    unsent: Vec::new(),
                });
            }
        }
    }

    /// Sends `self.request` over an idle backend connection, a new one, or the next that becomes idle.
    fn send_request(&mut self, job: Job) {
        if let Some(key) = self.idle.pop() {
            return self.start(key, job);
        }
        if self.backends.len() < BACKENDS_MAX
            && let Ok(socket) = net::connect(self.backend, None)
        {
            let entry = self.backends.vacant_entry();
            let key = entry.key();
            if self.poller.add(&socket, (key as u64) << 2 | BACKEND).is_ok() {
                entry.insert(Backend {
                    socket,
                    input: Vec::new(),
                    unsent: Vec::new(),
                    job: None,
                });
                return self.start(key, job);
            }
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((job, self.request.clone()));
        }
    }

    fn start(&mut self, key: usize, job: Job) {
        let backend = &mut self.backends[key];
        backend.job = Some(job);
        if net::transmit_or_keep(&backend.socket, &self.request, &mut backend.unsent, UNSENT_MAX).is_err() {
            self.close_backend(key);
        }
    }

    /// The job of a failed connection is lost: its client is closed, so that nobody waits for ever.
    fn close_backend(&mut self, key: usize) {
        let Some(backend) = self.backends.try_remove(key) else {
            return;
        };
        self.idle.retain(|idle| *idle != key);
        if let Some(Job::Connect { client, generation } | Job::Call { client, generation }) = backend.job
            && self
                .clients
                .get(client)
                .is_some_and(|client| client.generation == generation)
        {
            self.close_client(client);
        }
    }

    fn handle_backend(&mut self, key: usize, event: Event) {
        let Some(backend) = self.backends.get_mut(key) else {
            return;
        };
        if event.writable && net::flush(&backend.socket, &mut backend.unsent).is_err() {
            return self.close_backend(key);
        }
        if !event.readable {
            return;
        }
        loop {
            let Some(backend) = self.backends.get_mut(key) else {
                return;
            };
            match net::receive(&backend.socket, &mut self.buffer) {
                Received::Nothing => return,
                Received::Closed => return self.close_backend(key),
                Received::Bytes(len) => {
                    let buffer = std::mem::take(&mut self.buffer);
                    let healthy = self.handle_backend_bytes(key, &buffer[..len]);
                    let full = len == buffer.len();
                    self.buffer = buffer;
                    if !healthy {
                        return self.close_backend(key);
                    }
                    if !full && !event.closed {
                        return;
                    }
                }
            }
        }
    }

    fn handle_backend_bytes(&mut self, key: usize, fresh: &[u8]) -> bool {
        let backend = &mut self.backends[key];
        let mut kept = std::mem::take(&mut backend.input);
        let bytes = if kept.is_empty() {
            fresh
        } else {
            kept.extend_from_slice(fresh);
            &kept[..]
        };
        let answer = match http::parse_answer(bytes) {
            Ok(Some(answer)) if bytes.len() >= answer.head_len + answer.body_len => answer,
            Ok(_) => {
                backend.input = bytes.to_vec();
                return true;
            }
            Err(http::Malformed) => return false,
        };
        let Some(job) = backend.job.take() else { return false };
        let body = &bytes[answer.head_len..answer.head_len + answer.body_len];
        match job {
            Job::Connect { client, generation } => self.finish_connect(client, generation, body == b"\"ok\""),
            Job::Call { client, generation } => {
                self.frame.clear();
                websocket::write_server_frame(&mut self.frame, websocket::TEXT, body);
                let frame = std::mem::take(&mut self.frame);
                self.send_frame(client, generation, &frame);
                self.frame = frame;
            }
            Job::Result => {}
        }
        if let Some((job, request)) = self.waiting.pop_front() {
            self.request = request;
            self.start(key, job);
        } else {
            self.idle.push(key);
        }
        true
    }
}

const CLIENT: u64 = 0;
const BACKEND: u64 = 1;
const PUSHER: u64 = 2;
const LISTENER: u64 = u64::MAX - 1;
const INGRESS: u64 = u64::MAX - 2;
const WAKE: u64 = u64::MAX - 3;
const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 17\r\n\r\n{\"status\":\"sent\"}";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
const READ_LEN: usize = 64 << 10;
const UNSENT_MAX: usize = 8 << 20;
const ACCEPTS_PER_EVENT: usize = 64;
const BACKENDS_MAX: usize = 512;
const WAITING_MAX: usize = 1 << 16;

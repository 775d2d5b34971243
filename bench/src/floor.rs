//! One shard of the floor relay: see `bin/floor.rs` for what it is and is not.
//!
//! Everything a shard owns is in slabs; a token is the place in one of them and its kind. What another shard may do is
//! put a frame for one of our clients into our mailbox.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use slab::Slab;

use crate::net::{self, Received};
use crate::poller::{Event, Poller};
use crate::websocket::{self, Header};
use crate::{http, rpc};

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

    fn accept_pushers(&mut self) {
        while let Ok(Some(socket)) = net::accept(&self.ingress) {
            let entry = self.pushers.vacant_entry();
            if self.poller.add(&socket, (entry.key() as u64) << 2 | PUSHER).is_ok() {
                entry.insert(Pusher {
                    socket,
                    input: Vec::new(),
                    unsent: Vec::new(),
                });
            }
        }
    }

    fn close_client(&mut self, key: usize) {
        let Some(client) = self.clients.try_remove(key) else {
            return;
        };
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if registry
            .get(&client.id)
            .is_some_and(|owner| *owner == (self.index, key, client.generation))
        {
            registry.remove(&client.id);
        }
    }

    fn handle_client(&mut self, key: usize, event: Event) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if event.writable && net::flush(&client.socket, &mut client.unsent).is_err() {
            return self.close_client(key);
        }
        if !event.readable {
            return;
        }
        loop {
            let Some(client) = self.clients.get_mut(key) else {
                return;
            };
            match net::receive(&client.socket, &mut self.buffer) {
                Received::Nothing => return,
                Received::Closed => return self.close_client(key),
                Received::Bytes(len) => {
                    // Taken out and put back, so that the bytes and the shard can be used at the same time.
                    let mut buffer = std::mem::take(&mut self.buffer);
                    let healthy = self.handle_client_bytes(key, &mut buffer[..len]);
                    let full = len == buffer.len();
                    self.buffer = buffer;
                    if !healthy {
                        return self.close_client(key);
                    }
                    if !full && !event.closed {
                        return;
                    }
                }
            }
        }
    }

    /// False: the client is to be closed.
    fn handle_client_bytes(&mut self, key: usize, fresh: &mut [u8]) -> bool {
        let client = &mut self.clients[key];
        let mut kept = std::mem::take(&mut client.input);
        let bytes = if kept.is_empty() {
            fresh
        } else {
            kept.extend_from_slice(fresh);
            &mut kept[..]
        };
        if !client.open {
            client.input = bytes.to_vec();
            return bytes.len() <= http::HEAD_LEN_MAX && self.handle_handshake(key);
        }
        let mut at = 0;
        loop {
            let header = match Header::parse(&bytes[at..]) {
                Ok(Some(header)) if bytes.len() - at >= header.frame_len() => header,
                Ok(_) => break,
                Err(_) => return false,
            };
            let payload = &mut bytes[at + header.header_len..at + header.frame_len()];
            websocket::apply_mask(payload, header.mask.unwrap_or_default());
            at += header.frame_len();
            match header.opcode {
                websocket::TEXT if payload.starts_with(b"[3,") => self.send_result(key, payload),
                websocket::TEXT => self.send_call(key, payload),
                websocket::CLOSE => return false,
                _ => {}
            }
            // Its backend connection may have failed and taken it along.
            if !self.clients.contains(key) {
                return false;
            }
        }
        if at < bytes.len()
            && let Some(client) = self.clients.get_mut(key)
        {
            client.input = bytes[at..].to_vec();
        }
        true
    }

    fn handle_handshake(&mut self, key: usize) -> bool {
        let client = &mut self.clients[key];
        if !client.id.is_empty() || !client.input.ends_with(b"\r\n\r\n") {
            return client.id.is_empty();
        }
        let head = std::mem::take(&mut client.input);
        let path = head
            .strip_prefix(b"GET /")
            .and_then(|rest| rest.split(|byte| *byte == b' ').next());
        let (Some(id), Some(websocket_key)) = (path, http::find_header(&head, "sec-websocket-key")) else {
            return false;
        };
        client.id = id.into();
        client.accept = websocket::accept_key(websocket_key);
        client.protocol = http::find_header(&head, "sec-websocket-protocol")
            .and_then(|offered| offered.split(|byte| *byte == b',').next())
            .unwrap_or_default()
            .into();
        let job = Job::Connect {
            client: key,
            generation: client.generation,
        };
        self.request.clear();
        let _ = write!(
            self.request,
            "POST /connect HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n\"",
            self.backend,
            id.len() + 2
        );
        self.request.extend_from_slice(id);
        self.request.push(b'"');
        self.send_request(job);
        true
    }

    fn send_call(&mut self, key: usize, payload: &[u8]) {
        let generation = self.clients[key].generation;
        self.request.clear();
        self.request.extend_from_slice(&self.call_head);
        let _ = write!(self.request, "{}\r\n\r\n", payload.len());
        self.request.extend_from_slice(payload);
        self.send_request(Job::Call {
            client: key,
            generation,
        });
    }

    fn send_result(&mut self, key: usize, frame: &[u8]) {
        let Some((id, payload)) = rpc::compact_result(frame) else {
            return;
        };
        self.request.clear();
        let _ = write!(self.request, "POST /result/{}/", rpc::PUSH_ACTION);
        self.request.extend_from_slice(&self.clients[key].id);
        let _ = write!(
            self.request,
            "/{id} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.backend,
            payload.len()
        );
        self.request.extend_from_slice(payload);
        self.send_request(Job::Result);
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

    fn finish_connect(&mut self, key: usize, generation: u64, ok: bool) {
        let Some(client) = self
            .clients
            .get_mut(key)
            .filter(|client| client.generation == generation)
        else {
            return;
        };
        if !ok {
            return self.close_client(key);
        }
        client.open = true;
        self.frame.clear();
        self.frame.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        self.frame.extend_from_slice(&client.accept);
        if !client.protocol.is_empty() {
            self.frame.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            self.frame.extend_from_slice(&client.protocol);
        }
        self.frame.extend_from_slice(b"\r\n\r\n");
        client.protocol = Box::default();
        let owner = (self.index, key, generation);
        self.registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(client.id.clone(), owner);
        let frame = std::mem::take(&mut self.frame);
        self.send_frame(key, generation, &frame);
        self.frame = frame;
    }

    fn send_frame(&mut self, key: usize, generation: u64, frame: &[u8]) {
        let Some(client) = self
            .clients
            .get_mut(key)
            .filter(|client| client.generation == generation)
        else {
            return;
        };
        if net::transmit_or_keep(&client.socket, frame, &mut client.unsent, UNSENT_MAX).is_err() {
            self.close_client(key);
        }
    }

    fn handle_mail(&mut self) {
        let mail = Arc::clone(&self.mail);
        let _ = rustix::io::read(&mail[self.index].wake, &mut [0; 8]);
        let letters = std::mem::take(&mut *mail[self.index].letters.lock().unwrap_or_else(PoisonError::into_inner));
        for letter in letters {
            self.send_frame(letter.client, letter.generation, &letter.frame);
        }
    }

    fn handle_pusher(&mut self, key: usize, event: Event) {
        let Some(pusher) = self.pushers.get_mut(key) else {
            return;
        };
        if event.writable && net::flush(&pusher.socket, &mut pusher.unsent).is_err() {
            self.pushers.remove(key);
            return;
        }
        if !event.readable {
            return;
        }
        loop {
            let Some(pusher) = self.pushers.get_mut(key) else {
                return;
            };
            let healthy = match net::receive(&pusher.socket, &mut self.buffer) {
                Received::Nothing => return,
                Received::Closed => false,
                Received::Bytes(len) => {
                    pusher.input.extend_from_slice(&self.buffer[..len]);
                    self.handle_pushes(key)
                }
            };
            if !healthy {
                self.pushers.remove(key);
                return;
            }
        }
    }

    fn handle_pushes(&mut self, key: usize) -> bool {
        let mut input = std::mem::take(&mut self.pushers[key].input);
        let mut at = 0;
        while at < input.len() {
            let request = match http::parse_request(&input[at..]) {
                Ok(Some(request)) if input.len() - at >= request.head_len + request.body_len => request,
                Ok(_) => break,
                Err(http::Malformed) => return false,
            };
            let body = at + request.head_len..at + request.head_len + request.body_len;
            let found = self.push(request.path, &input[body.clone()]);
            at = body.end;
            let answer = if found { ACCEPTED } else { NOT_FOUND };
            let pusher = &mut self.pushers[key];
            if net::transmit_or_keep(&pusher.socket, answer, &mut pusher.unsent, UNSENT_MAX).is_err() {
                return false;
            }
        }
        input.drain(..at);
        self.pushers[key].input = input;
        true
    }

    fn push(&mut self, path: &str, body: &[u8]) -> bool {
        let mut parts = path.split('/').skip(2);
        let (Some(action), Some(id), Some(message_id)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        let owner = self
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id.as_bytes())
            .copied();
        let Some((shard, client, generation)) = owner else {
            return false;
        };
        let mut message = Vec::with_capacity(body.len() + 64);
        let _ = write!(message, "[2,\"{message_id}\",\"{action}\",");
        message.extend_from_slice(body);
        message.push(b']');
        let mut frame = Vec::with_capacity(message.len() + 10);
        websocket::write_server_frame(&mut frame, websocket::TEXT, &message);
        if shard == self.index {
            self.send_frame(client, generation, &frame);
            return true;
        }
        let mail = &self.mail[shard];
        mail.letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Letter {
                client,
                generation,
                frame,
            });
        rustix::io::write(&mail.wake, &1_u64.to_ne_bytes()).is_ok()
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

//! Attacks the proxy while others are measured: what a shard must bear without their noticing.
//!
//! One thread holds a few clients of each [`Kind`] that send as fast as their sockets take it, [`HALVES`] with half a message of
//! [`HALF_LEN`] bytes, and opens [`STORM_PER_SECOND`] connections a second that are reset when their handshake is sent. Who is closed
//! comes again. Where clients speak TLS, it is TLS that is attacked.

mod kind;
mod strangers;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loadgen::engine::Tls;

pub use self::kind::{HALF_LEN, HALVES, Kind, OF_A_KIND, STORM_PER_SECOND, parse_kinds};
use crate::counters::Control;
use crate::net::{self, Received};
use crate::poller::{Event, Poller, now_ns};
use crate::websocket;

/// What the attack has done.
#[derive(Debug, Default)]
pub struct HostileCounts {
    /// Handshakes that were sent.
    pub connects: AtomicU64,
    /// Of TLS, those that the proxy has computed.
    pub answered: AtomicU64,
    /// Connections that the proxy has ended.
    pub ended: AtomicU64,
    /// Bytes that the proxy's sockets have taken, in the order of [`Kind::ALL`]. A storm brings none.
    pub bytes: [AtomicU64; Kind::ALL.len()],
}

/// Attacks `targets` in the ways of `kinds` from the beginning of the measurement until `control.stop`.
///
/// # Errors
/// No descriptor for an epoll; what happens to single connections is counted.
pub fn run(
    kinds: &[Kind],
    targets: Arc<[SocketAddr]>,
    tls: Option<Tls>,
    counts: Arc<HostileCounts>,
    control: Arc<Control>,
) -> io::Result<()> {
    if let Some(tls) = tls {
        return strangers::run(kinds, targets, tls, counts, &control);
    }
    let mut attack = Attack {
        targets,
        counts,
        poller: Poller::new()?,
        attackers: Vec::new(),
        made: 0,
        stormed: 0,
        buffer: vec![0; READ_LEN],
        sent_by: kinds.iter().map(|kind| (*kind, kind.bytes().into())).collect(),
    };
    while !control.stop.load(Ordering::Relaxed) {
        let begin = control.window_start();
        let now = now_ns();
        if now < begin {
            attack.wait(begin.min(now + TICK_NS))?;
            continue;
        }
        attack.advance(now, begin);
        attack.wait(now + TICK_NS)?;
    }
    Ok(())
}

struct Attacker {
    kind: Kind,
    socket: Option<OwnedFd>,
    is_open: bool,
    /// Of what it sends, so much was taken.
    sent: usize,
    /// The socket would take more; the next tick goes on, for no event tells of it again.
    has_room: bool,
    /// When a storm's connection is reset, or one that was ended comes again.
    due: u64,
}

struct Attack {
    targets: Arc<[SocketAddr]>,
    counts: Arc<HostileCounts>,
    poller: Poller,
    attackers: Vec<Attacker>,
    made: u32,
    /// Connections of the storm so far.
    stormed: u64,
    buffer: Vec<u8>,
    /// What each kind that takes part sends.
    sent_by: Vec<(Kind, Arc<[u8]>)>,
}

impl Attack {
    fn wait(&mut self, deadline: u64) -> io::Result<()> {
        for index in 0..self.poller.wait(Some(deadline))? {
            let event = self.poller.event(index);
            self.handle_event(event);
        }
        Ok(())
    }

    /// Begins, resets and repeats what is due.
    fn advance(&mut self, now: u64, begin: u64) {
        if self.attackers.is_empty() {
            for (kind, _) in &self.sent_by {
                self.attackers.extend((0..kind.count()).map(|_| Attacker {
                    kind: *kind,
                    socket: None,
                    is_open: false,
                    sent: 0,
                    has_room: false,
                    due: 0,
                }));
            }
        }
        let storm_due = (now - begin) / (1_000_000_000 / STORM_PER_SECOND);
        for slot in 0..self.attackers.len() {
            if self.attackers[slot].has_room {
                self.send(slot);
            }
            let attacker = &mut self.attackers[slot];
            let is_storm = attacker.kind == Kind::Storm;
            if is_storm
                && attacker.due <= now
                && let Some(socket) = attacker.socket.take()
            {
                net::close_with_reset(socket);
            }
            let comes = attacker.socket.is_none() && attacker.due <= now;
            if !comes || is_storm && self.stormed >= storm_due {
                continue;
            }
            self.stormed += u64::from(is_storm);
            if self.connect(slot).is_err() {
                self.attackers[slot].due = now + PAUSE_NS;
            }
        }
    }

    fn connect(&mut self, slot: usize) -> io::Result<()> {
        let target = self.targets[slot % self.targets.len()];
        self.made += 1;
        let source = (target.is_ipv4() && target.ip().is_loopback()).then_some(SOURCE);
        let socket = net::connect(target, source)?;
        self.poller.add(&socket, slot as u64)?;
        let attacker = &mut self.attackers[slot];
        (attacker.socket, attacker.is_open, attacker.sent, attacker.has_room) = (Some(socket), false, 0, false);
        attacker.due = now_ns() + STORM_LIFE_NS;
        Ok(())
    }

    fn handle_event(&mut self, event: Event) {
        let slot = event.token as usize;
        if event.writable {
            self.send(slot);
        }
        if event.readable {
            self.receive(slot);
        }
    }

    fn receive(&mut self, slot: usize) {
        loop {
            let Some(socket) = &self.attackers[slot].socket else {
                return;
            };
            match net::receive(socket, &mut self.buffer) {
                Received::Nothing => return,
                Received::Closed => return self.end(slot),
                Received::Bytes(len) => {
                    let attacker = &mut self.attackers[slot];
                    if !attacker.is_open && self.buffer[..len].starts_with(b"HTTP/1.1 101") {
                        (attacker.is_open, attacker.sent) = (true, 0);
                        self.send(slot);
                    }
                }
            }
        }
    }

    fn end(&mut self, slot: usize) {
        self.counts.ended.fetch_add(1, Ordering::Relaxed);
        let attacker = &mut self.attackers[slot];
        (attacker.socket, attacker.has_room) = (None, false);
        attacker.due = now_ns() + PAUSE_NS;
    }

    /// Sends what the socket takes of what this kind sends.
    fn send(&mut self, slot: usize) {
        let attacker = &self.attackers[slot];
        let Some(socket) = &attacker.socket else { return };
        if !attacker.is_open {
            if attacker.sent == 0 {
                let request = handshake(attacker.kind, slot, self.made);
                // A whole request fits into a new socket; one that fails shows as closed.
                let sent = net::transmit(socket, request.as_bytes()).unwrap_or(0);
                self.attackers[slot].sent = sent;
                self.counts.connects.fetch_add(u64::from(sent > 0), Ordering::Relaxed);
            }
            return;
        }
        let kind = attacker.kind;
        let Some((_, bytes)) = self.sent_by.iter().find(|(known, _)| *known == kind) else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        let (mut sent, mut has_room) = (attacker.sent, true);
        // Not more in one go than the others' turn allows.
        for _ in 0..kind.writes() {
            if sent == bytes.len() {
                if !kind.repeats() {
                    has_room = false;
                    break;
                }
                sent = 0;
            }
            let end = bytes.len().min(sent + kind.write_len());
            match net::transmit(socket, &bytes[sent..end]) {
                Ok(0) | Err(_) => {
                    has_room = false;
                    break;
                }
                Ok(len) => {
                    sent += len;
                    self.counts.bytes[kind as usize].fetch_add(len as u64, Ordering::Relaxed);
                }
            }
        }
        (self.attackers[slot].sent, self.attackers[slot].has_room) = (sent, has_room);
    }
}

fn handshake(kind: Kind, slot: usize, made: u32) -> String {
    // A storm's ids are many; the others keep theirs.
    let id = match kind {
        Kind::Storm => format!("STORM{made}"),
        _ => format!("HOSTILE{slot}"),
    };
    let key = websocket::client_key(u128::from(made));
    format!(
        "GET /{id} HTTP/1.1\r\nHost: hostile\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {}\r\nSec-WebSocket-Protocol: ocpp2.1\r\n\r\n",
        String::from_utf8_lossy(&key)
    )
}

/// Of all attackers, where the proxy is on this machine.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);
const STORM_LIFE_NS: u64 = 50_000_000;
const PAUSE_NS: u64 = 100_000_000;
const TICK_NS: u64 = 2_000_000;
const READ_LEN: usize = 16 << 10;

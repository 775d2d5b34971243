//! Attacks the proxy while others are measured: what a shard must bear without their noticing.
//!
//! One thread holds [`FLOODS`] clients that send OCPP 2.1's SEND as fast as the socket takes them, [`EMPTIES`] that continue one message
//! with empty frames, [`HALVES`] with half a message of [`HALF_LEN`] bytes, and opens [`STORM_PER_SECOND`] connections a second that are
//! reset when their handshake is sent. Who is closed comes again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::counters::Control;
use crate::net::{self, Received};
use crate::poller::{Event, Poller, now_ns};
use crate::websocket;

/// What the attack has done.
#[derive(Debug, Default)]
pub struct HostileCounts {
    /// Handshakes that were sent.
    pub connects: AtomicU64,
    /// Connections that the proxy has ended.
    pub ended: AtomicU64,
    /// Bytes that the proxy's sockets have taken.
    pub bytes: AtomicU64,
}

/// Attacks `targets` from the beginning of the measurement until `control.stop`.
///
/// # Errors
/// No descriptor for an epoll; what happens to single connections is counted.
pub fn run(targets: Arc<[SocketAddr]>, counts: Arc<HostileCounts>, control: Arc<Control>) -> io::Result<()> {
    let mut attack = Attack {
        targets,
        counts,
        poller: Poller::new()?,
        attackers: Vec::new(),
        made: 0,
        stormed: 0,
        buffer: vec![0; READ_LEN],
        endless: [Kind::Flood, Kind::Empty].map(|kind| kind.endless().into()),
        half: half_message().into(),
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

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Flood,
    Empty,
    Half,
    Storm,
}

impl Kind {
    /// What is sent again and again: whole frames.
    fn endless(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < ENDLESS_LEN {
            match self {
                Self::Flood => {
                    websocket::write_client_frame(&mut bytes, websocket::TEXT, br#"[6,"1","N",{}]"#, MASK);
                }
                _ => bytes.extend_from_slice(&EMPTY_CONTINUATION),
            }
        }
        bytes
    }
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
    endless: [Arc<[u8]>; 2],
    half: Arc<[u8]>,
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
            let kinds = [
                (Kind::Flood, FLOODS),
                (Kind::Empty, EMPTIES),
                (Kind::Half, HALVES),
                (Kind::Storm, STORM_AT_ONCE),
            ];
            for (kind, count) in kinds {
                self.attackers.extend((0..count).map(|_| Attacker {
                    kind,
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
        let source = (target.is_ipv4() && target.ip().is_loopback()).then_some(Ipv4Addr::new(127, 66, 0, 1));
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
        let (bytes, repeats) = match attacker.kind {
            Kind::Flood => (self.endless[0].clone(), true),
            Kind::Empty => (self.endless[1].clone(), true),
            Kind::Half => (self.half.clone(), false),
            Kind::Storm => return,
        };
        let (mut sent, mut has_room) = (attacker.sent, true);
        // Not more in one go than the others' turn allows.
        for _ in 0..WRITES_PER_EVENT {
            if sent == bytes.len() {
                if !repeats {
                    has_room = false;
                    break;
                }
                sent = 0;
            }
            match net::transmit(socket, &bytes[sent..]) {
                Ok(0) | Err(_) => {
                    has_room = false;
                    break;
                }
                Ok(len) => {
                    sent += len;
                    self.counts.bytes.fetch_add(len as u64, Ordering::Relaxed);
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

/// The first half of a message of [`HALF_LEN`] bytes.
fn half_message() -> Vec<u8> {
    let mut text = br#"[2,"1","Half",{"a":""#.to_vec();
    text.resize(HALF_LEN, b'a');
    let mut frame = Vec::new();
    websocket::write_client_frame(&mut frame, websocket::TEXT, &text, MASK);
    frame.truncate(HALF_LEN / 2);
    frame
}

/// Clients that flood.
pub const FLOODS: u32 = 16;
/// Clients that continue a message with nothing.
pub const EMPTIES: u32 = 16;
/// Clients with half a message.
pub const HALVES: u32 = 400;
/// Bytes of the message of which they send half.
pub const HALF_LEN: usize = 512 << 10;
/// Connections per second that are given up.
pub const STORM_PER_SECOND: u64 = 500;

const STORM_AT_ONCE: u32 = 100;
const STORM_LIFE_NS: u64 = 50_000_000;
const PAUSE_NS: u64 = 100_000_000;
const TICK_NS: u64 = 2_000_000;
const READ_LEN: usize = 16 << 10;
const ENDLESS_LEN: usize = 64 << 10;
const WRITES_PER_EVENT: usize = 4;
const MASK: [u8; 4] = [7, 77, 177, 217];
/// RFC 6455, 5.2: not final, opcode 0, masked, no payload.
const EMPTY_CONTINUATION: [u8; 6] = [0x00, 0x80, 7, 77, 177, 217];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_whole_frames_and_half_a_message_is_half() {
        let flood = Kind::Flood.endless();
        let len = websocket::Header::parse(&flood).unwrap().unwrap().frame_len();
        assert_eq!(flood.len() % len, 0);
        assert_eq!(Kind::Empty.endless().len() % EMPTY_CONTINUATION.len(), 0);
        let half = half_message();
        let header = websocket::Header::parse(&half).unwrap().unwrap();
        assert_eq!((header.payload_len, half.len()), (HALF_LEN, HALF_LEN / 2));
    }
}

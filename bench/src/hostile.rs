//! Attacks the proxy while others are measured: what a shard must bear without their noticing.
//!
//! One thread holds a few clients of each [`Kind`] that send as fast as their sockets take it, [`HALVES`] with half a message of
//! [`HALF_LEN`] bytes, and opens [`STORM_PER_SECOND`] connections a second that are reset when their handshake is sent. Who is closed
//! comes again.

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
    counts: Arc<HostileCounts>,
    control: Arc<Control>,
) -> io::Result<()> {
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

/// What an attacker does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Sends OCPP 2.1's SEND without end.
    Sends,
    /// Continues one message with empty frames.
    Empties,
    /// Sends pings that each want a pong, and reads them.
    Pings,
    /// Continues one message with frames of one byte, up to the largest there is.
    Crumbs,
    /// Sends SENDs of almost 1 MiB, 1 KiB at a time.
    Pieces,
    /// Sends half a message, and waits.
    Halves,
    /// Sends a handshake, and resets the connection.
    Storm,
}

impl Kind {
    /// All of them, by the names that `--hostile=` takes.
    pub const ALL: [(&'static str, Self); 7] = [
        ("sends", Self::Sends),
        ("empties", Self::Empties),
        ("pings", Self::Pings),
        ("crumbs", Self::Crumbs),
        ("pieces", Self::Pieces),
        ("halves", Self::Halves),
        ("storm", Self::Storm),
    ];

    /// How many of them are there at once.
    fn count(self) -> u32 {
        match self {
            Self::Halves => HALVES,
            Self::Storm => STORM_AT_ONCE,
            _ => OF_A_KIND,
        }
    }

    /// Whether it begins again when all was sent.
    fn repeats(self) -> bool {
        self != Self::Halves
    }

    /// Bytes of one write.
    fn write_len(self) -> usize {
        if self == Self::Pieces { 1 << 10 } else { ENDLESS_LEN }
    }

    /// So many of them in one go.
    fn writes(self) -> usize {
        if self == Self::Pieces { 64 } else { 4 }
    }

    /// What is sent: whole frames, again and again where it repeats.
    fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Sends => endless(|bytes| {
                websocket::write_client_frame(bytes, websocket::TEXT, br#"[6,"1","N",{}]"#, MASK);
            }),
            Self::Empties => endless(|bytes| bytes.extend_from_slice(&EMPTY_CONTINUATION)),
            Self::Pings => {
                endless(|bytes| websocket::write_client_frame(bytes, websocket::PING, b"are you there?", MASK))
            }
            Self::Crumbs => {
                for place in 0..CRUMBS {
                    let byte = CRUMB_MESSAGE.get(place).copied().unwrap_or(b' ');
                    let first = if place == 0 {
                        TEXT_NOT_FINAL
                    } else {
                        CONTINUATION_NOT_FINAL
                    };
                    let first = if place + 1 == CRUMBS { FINAL_CONTINUATION } else { first };
                    bytes.extend_from_slice(&[first, MASKED | 1]);
                    bytes.extend_from_slice(&MASK);
                    bytes.push(byte ^ MASK[0]);
                }
                bytes
            }
            Self::Pieces => {
                let mut text = br#"[6,"1","N",{"a":""#.to_vec();
                text.resize(PIECES_LEN - 3, b'a');
                text.extend_from_slice(br#""}]"#);
                websocket::write_client_frame(&mut bytes, websocket::TEXT, &text, MASK);
                bytes
            }
            Self::Halves => half_message(),
            Self::Storm => bytes,
        }
    }
}

/// Reads the names of kinds, with commas between them.
///
/// # Errors
/// In words: a name that is none.
pub fn parse_kinds(text: &str) -> Result<Vec<Kind>, String> {
    text.split(',')
        .map(|name| {
            let known = Kind::ALL.iter().find(|(known, _)| *known == name);
            known.map(|(_, kind)| *kind).ok_or_else(|| {
                let names: Vec<_> = Kind::ALL.iter().map(|(name, _)| *name).collect();
                format!("--hostile={name}: the kinds are {}", names.join(", "))
            })
        })
        .collect()
}

fn endless(add: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < ENDLESS_LEN {
        add(&mut bytes);
    }
    bytes
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

/// The first half of a message of [`HALF_LEN`] bytes.
fn half_message() -> Vec<u8> {
    let mut text = br#"[2,"1","Half",{"a":""#.to_vec();
    text.resize(HALF_LEN, b'a');
    let mut frame = Vec::new();
    websocket::write_client_frame(&mut frame, websocket::TEXT, &text, MASK);
    frame.truncate(HALF_LEN / 2);
    frame
}

/// Clients of each kind that sends without end.
pub const OF_A_KIND: u32 = 16;
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
const MASK: [u8; 4] = [7, 77, 177, 217];
/// Bytes of a message in pieces; with its frame it is below the 1 MiB that a message may have.
const PIECES_LEN: usize = (1 << 20) - 64;
/// Bytes of a message in crumbs, one in each frame: blanks follow the text.
const CRUMBS: usize = 100_000;
const CRUMB_MESSAGE: &[u8] = br#"[6,"1","N",{}]"#;
/// RFC 6455, 5.2: the first byte of a frame, and the mask bit of the second.
const TEXT_NOT_FINAL: u8 = 0x01;
const CONTINUATION_NOT_FINAL: u8 = 0x00;
const FINAL_CONTINUATION: u8 = 0x80;
const MASKED: u8 = 0x80;
/// RFC 6455, 5.2: not final, opcode 0, masked, no payload.
const EMPTY_CONTINUATION: [u8; 6] = [0x00, 0x80, 7, 77, 177, 217];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_whole_frames_and_half_a_message_is_half() {
        for (name, kind) in Kind::ALL {
            let bytes = kind.bytes();
            if kind == Kind::Halves || kind == Kind::Storm {
                continue;
            }
            let mut rest = &bytes[..];
            let mut frames = 0;
            while !rest.is_empty() {
                let header = websocket::Header::parse(rest).unwrap().unwrap();
                rest = &rest[header.frame_len()..];
                frames += 1;
            }
            assert!(frames == 1 || bytes.len() / frames <= 64, "{name}: {frames} frames");
        }
        let half = half_message();
        let header = websocket::Header::parse(&half).unwrap().unwrap();
        assert_eq!((header.payload_len, half.len()), (HALF_LEN, HALF_LEN / 2));
    }

    #[test]
    fn kinds_have_names_and_others_are_refused() {
        assert_eq!(parse_kinds("pings,storm"), Ok(vec![Kind::Pings, Kind::Storm]));
        assert!(parse_kinds("pongs").unwrap_err().contains("pings, crumbs"));
        assert!(parse_kinds("").is_err());
    }
}

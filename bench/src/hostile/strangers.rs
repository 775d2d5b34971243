//! Attacks a proxy's TLS by connections that never become clients.
//!
//! So many of each [`Kind`] are there at once. One that was answered is reset and comes again, and so does, after a pause, one that the
//! proxy has ended.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use loadgen::engine::Tls;
use loadgen::stream::{self, BUFFER_LEN_MIN, Stream};

use super::{HostileCounts, Kind, PAUSE_NS, SOURCE, TICK_NS};
use crate::counters::Control;
use crate::poller::{Event, Poller, now_ns};

/// As [`super::run`].
pub(super) fn run(
    kinds: &[Kind],
    targets: Arc<[SocketAddr]>,
    tls: Tls,
    counts: Arc<HostileCounts>,
    control: &Control,
) -> io::Result<()> {
    let strangers = kinds
        .iter()
        .flat_map(|kind| (0..kind.count()).map(|_| Stranger::new(*kind)));
    let mut crowd = Crowd {
        targets,
        hello: stream::hello(&tls.first, &tls.name)?,
        tls,
        counts,
        poller: Poller::new()?,
        strangers: strangers.collect(),
        buffer: vec![0; BUFFER_LEN_MIN],
        wire: Vec::new(),
    };
    while !control.stop.load(Ordering::Relaxed) {
        let now = now_ns();
        if now >= control.window_start() {
            crowd.advance(now);
        }
        crowd.wait(now + TICK_NS)?;
    }
    Ok(())
}

struct Stranger {
    kind: Kind,
    stream: Option<Stream>,
    has_begun: bool,
    is_answered: bool,
    /// When it comes, or gives up.
    due: u64,
}

impl Stranger {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            stream: None,
            has_begun: false,
            is_answered: false,
            due: 0,
        }
    }
}

struct Crowd {
    targets: Arc<[SocketAddr]>,
    tls: Tls,
    /// A first message that is as good as any.
    hello: Vec<u8>,
    counts: Arc<HostileCounts>,
    poller: Poller,
    strangers: Vec<Stranger>,
    buffer: Vec<u8>,
    wire: Vec<u8>,
}

impl Crowd {
    fn wait(&mut self, deadline: u64) -> io::Result<()> {
        for index in 0..self.poller.wait(Some(deadline))? {
            let event = self.poller.event(index);
            self.handle_event(event);
        }
        Ok(())
    }

    /// Begins and gives up what is due.
    fn advance(&mut self, now: u64) {
        for slot in 0..self.strangers.len() {
            if self.strangers[slot].due > now {
                continue;
            }
            self.leave(slot, now);
            if self.connect(slot, now).is_err() {
                self.strangers[slot].due = now + PAUSE_NS;
            }
        }
    }

    fn connect(&mut self, slot: usize, now: u64) -> io::Result<()> {
        let target = self.targets[slot % self.targets.len()];
        let source = (target.is_ipv4() && target.ip().is_loopback()).then_some(SOURCE);
        let kind = self.strangers[slot].kind;
        let tls = (kind == Kind::Handshakes).then_some((&self.tls.first, &self.tls.name));
        let stream = Stream::connect(target, source, tls)?;
        self.poller.add(&stream, slot as u64)?;
        self.strangers[slot] = Stranger {
            stream: Some(stream),
            due: match kind {
                Kind::Stalls => u64::MAX,
                _ => now + PATIENCE_NS,
            },
            ..Stranger::new(kind)
        };
        Ok(())
    }

    fn handle_event(&mut self, event: Event) {
        let slot = event.token as usize;
        if event.writable {
            self.send(slot);
        }
        if event.readable {
            self.receive(slot, event.closed);
        }
    }

    /// Sends the first bytes, which a new socket takes whole. Where a handshake is meant, the stream has them.
    fn send(&mut self, slot: usize) {
        let stranger = &mut self.strangers[slot];
        let Some(stream) = &mut stranger.stream else { return };
        let (first, len) = match stranger.kind {
            Kind::Handshakes => (&[][..], self.hello.len()),
            Kind::Stalls => (&self.hello[..self.hello.len() / 2], self.hello.len() / 2),
            Kind::Garbage => (&NOISE[slot % NOISE.len()][..], NOISE_LEN),
            _ => (&self.hello[..], self.hello.len()),
        };
        let is_first = !std::mem::replace(&mut stranger.has_begun, true);
        let sent = match is_first && !first.is_empty() {
            true => stream.send(first, &mut self.wire),
            false => stream.flush(),
        };
        if is_first && sent.is_ok() {
            self.counts.connects.fetch_add(1, Ordering::Relaxed);
            self.counts.bytes[stranger.kind as usize].fetch_add(len as u64, Ordering::Relaxed);
        }
    }

    fn receive(&mut self, slot: usize, is_closing: bool) {
        loop {
            let stranger = &mut self.strangers[slot];
            let Some(stream) = &mut stranger.stream else { return };
            let received = stream.receive(&mut self.buffer, &mut self.wire, is_closing);
            if stranger.is_answered {
                // What comes behind a handshake: the other side has seen its end.
                return self.leave(slot, 0);
            }
            if received.end.is_some() {
                self.counts.ended.fetch_add(1, Ordering::Relaxed);
                return self.leave(slot, now_ns() + PAUSE_NS);
            }
            stranger.is_answered = match stranger.kind {
                Kind::Handshakes => stream.is_sealed(),
                // The other side has computed all that there is to compute.
                Kind::Hellos => received.len > 0 && self.buffer[0] == HANDSHAKE,
                // An alert; the end follows.
                _ => false,
            };
            if stranger.is_answered {
                self.counts.answered.fetch_add(1, Ordering::Relaxed);
                if stranger.kind == Kind::Hellos {
                    return self.leave(slot, 0);
                }
            }
            if !received.has_more {
                return;
            }
        }
    }

    fn leave(&mut self, slot: usize, due: u64) {
        let stranger = &mut self.strangers[slot];
        stranger.due = due;
        if let Some(stream) = stranger.stream.take() {
            stream.reset();
        }
    }
}

/// Who is not answered for so long goes, and comes again.
const PATIENCE_NS: u64 = 2_000_000_000;
/// The first byte of a record with a message of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
const NOISE_LEN: usize = 64;
/// What is no TLS by its first byte, and a record of what is no message.
const NOISE: [[u8; NOISE_LEN]; 2] = [[0xa5; NOISE_LEN], {
    let mut record = [0x5a; NOISE_LEN];
    (record[0], record[1], record[2], record[3], record[4]) = (HANDSHAKE, 3, 1, 0, NOISE_LEN as u8 - 5);
    record
}];

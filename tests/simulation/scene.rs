//! Holds a few shards, a backend that behaves, and whoever connects: for tests that say themselves what happens when.

use std::time::{Duration, Instant};

use shards::simulation::network::{Door, Peer};
use shards::simulation::node::Simulation;
use shards::simulation::random::Random;
use ws2api::shard::mail::Mail;

use super::backend::Backend;
use super::ledger::Ledger;
use super::world::{BACKEND, LISTEN, address, start};

pub struct Scene {
    pub simulation: Simulation<Mail>,
    random: Random,
    backend: Backend,
    pub ledger: Ledger,
}

impl Scene {
    /// One shard. `bounds` are keys of the config.
    pub fn new(bounds: &[(&str, &str)]) -> Self {
        Self::of_shards(1, bounds)
    }

    /// With so many shards.
    pub fn of_shards(shards_count: usize, bounds: &[(&str, &str)]) -> Self {
        let mut random = Random::new(17);
        let (simulation, _) = start(&mut random, shards_count, bounds);
        simulation.network().set_door(address(BACKEND), Door::Open);
        simulation.network().set_even();
        let mut backend = Backend::new();
        backend.behaves = true;
        Self {
            simulation,
            random,
            backend,
            ledger: Ledger::default(),
        }
    }

    /// Goes on for so long.
    pub fn pass(&mut self, time: Duration) {
        let end = self.simulation.now() + time;
        while self.simulation.now() < end {
            self.step(end);
        }
    }

    /// Goes on until `is_done`.
    pub fn until(&mut self, mut is_done: impl FnMut() -> bool) {
        for _ in 0..STEPS_MAX {
            if is_done() {
                return;
            }
            self.step(self.simulation.now() + Duration::from_millis(10));
        }
        panic!("it never happens");
    }

    fn step(&mut self, end: Instant) {
        let now = self.simulation.now();
        self.backend
            .act(self.simulation.network(), now, &mut self.random, &mut self.ledger);
        self.simulation.run_to_next(end);
    }

    pub fn connect(&mut self, name: &str, subprotocol: &str) -> Peer {
        let network = self.simulation.network();
        let peer = network.connect(address(LISTEN), address("192.0.2.1:40000"));
        let peer = peer.expect("somebody listens");
        let request = format!(
            "GET /{name} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        );
        peer.send_whole(request.as_bytes());
        self.until(|| peer.receive().starts_with(b"HTTP/1.1 101"));
        peer
    }
}

/// A frame with the mask 0.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(len @ ..126) => bytes.push(0x80 | len as u8),
        Ok(len) => {
            bytes.push(0x80 | 126);
            bytes.extend(len.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

const STEPS_MAX: usize = 10_000;

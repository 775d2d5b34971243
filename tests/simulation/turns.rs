//! Counts the turns that tasks have: whoever brings much work at once does it in many, and others have theirs between.

use shards::simulation::network::{Door, Peer};
use shards::simulation::node::Simulation;
use shards::simulation::random::Random;
use ws2api::shard::mail::Mail;

use super::backend::Backend;
use super::ledger::Ledger;
use super::world::{BACKEND, INGRESS, LISTEN, address, start};

struct Scene {
    simulation: Simulation<Mail>,
    random: Random,
    backend: Backend,
}

impl Scene {
    fn new() -> Self {
        let mut random = Random::new(17);
        let bounds = [("subprotocol_required", "false"), ("pushes_queued", "1024")];
        let (simulation, _) = start(&mut random, 1, &bounds);
        simulation.network().set_door(address(BACKEND), Door::Open);
        simulation.network().set_even();
        let mut backend = Backend::new();
        backend.behaves = true;
        Self {
            simulation,
            random,
            backend,
        }
    }

    /// Goes on until `is_done`.
    fn until(&mut self, mut is_done: impl FnMut() -> bool) {
        let mut ledger = Ledger::default();
        for _ in 0..STEPS_MAX {
            if is_done() {
                return;
            }
            let now = self.simulation.now();
            self.backend
                .act(self.simulation.network(), now, &mut self.random, &mut ledger);
            self.simulation.run_to_next(now + std::time::Duration::from_millis(10));
        }
        panic!("it never happens");
    }

    fn connect(&mut self, name: &str, subprotocol: &str) -> Peer {
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
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
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

#[test]
fn what_a_client_brings_at_once_is_done_in_many_turns_and_others_have_theirs_between() {
    let continued = |payload: &[u8], count| [frame(0x01, b"["), frame(0x00, payload).repeat(count)].concat();
    // Each with the turns that it takes at least.
    let attacks = [
        ("empty continuations", "ocpp2.1", continued(b"", 8000), 25),
        ("one byte per frame", "ocpp2.1", continued(b" ", 8000), 25),
        ("pings", "ocpp2.1", frame(0x89, b"?").repeat(2000), 25),
        ("idle messages", "ocpp2.1", frame(0x81, b"").repeat(1000), 25),
        ("a message of 1 MiB", "ocpp2.1", frame(0x81, &vec![b' '; 1 << 20]), 16),
        (
            "frames behind a refused subprotocol",
            "soap",
            frame(0x81, &[b' '; 100]).repeat(8000),
            12,
        ),
    ];
    for (what, subprotocol, bytes, turns_min) in attacks {
        let mut scene = Scene::new();
        let other = scene.connect("CP1", "ocpp2.1");
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|number| scene.connect(&format!("X{number}"), subprotocol))
            .collect();
        scene.until(|| true);
        let before = scene.simulation.turns();
        for attacker in &attackers {
            attacker.send_whole(&bytes);
        }
        other.send_whole(&frame(0x89, b"!"));
        scene.until(|| !other.receive().is_empty());
        let answered_after = other.answered_in() - before;
        assert!(
            answered_after <= 3 * ATTACKERS,
            "{what}: another one is answered after {answered_after} turns"
        );
        let mut rest = 20;
        scene.until(|| {
            rest -= 1;
            rest == 0
        });
        let turns = scene.simulation.turns() - before;
        assert!(turns >= ATTACKERS * turns_min, "{what}: done in {turns} turns");
    }
}

#[test]
fn a_body_in_chunks_of_one_byte_is_read_in_many_turns() {
    let mut scene = Scene::new();
    let network = scene.simulation.network();
    let peer = network.connect(address(INGRESS), address("10.0.0.1:40000"));
    let peer = peer.expect("somebody listens");
    let head = "POST /call/A/CP1/1 HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = "1\r\n \r\n".repeat(100_000);
    let before = scene.simulation.turns();
    peer.send_whole([head, &chunks, "2\r\n{}\r\n0\r\n\r\n"].concat().as_bytes());
    scene.until(|| peer.receive().starts_with(b"HTTP/1.1 404"));
    let turns = scene.simulation.turns() - before;
    assert!(turns >= 9, "done in {turns} turns");
}

const ATTACKERS: u64 = 4;
const STEPS_MAX: usize = 10_000;

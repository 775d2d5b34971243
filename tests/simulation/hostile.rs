//! Puts hostile clients beside well-behaved ones and compares what these notice.
//!
//! The clock of a simulation does not move with work. What an attack takes of the backend's time shows in how long the others' Calls
//! take; what it takes of a shard's shows in the bytes that one turn of a task reads, which are bounded in every simulation
//! (shards/src/simulation/task.rs), in those of a pass, and in the bytes that the shard holds: never more than its bound
//! (src/env/buffers.rs asserts that here), and none when the attack is over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shards::simulation::network::{Door, Network, Peer};
use shards::simulation::node::Simulation;
use shards::simulation::random::Random;
use shards::turn::TURN_LEN;
use ws2api::shard::mail::Mail;

use super::backend::Backend;
use super::client::Client;
use super::ledger::Ledger;
use super::world::{BACKEND, LISTEN, address, held, start};

/// What an attacker does, again and again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// OCPP 2.1's SEND, type 6.
    Sends,
    /// OCPP 2.1's CallResultError, type 5, which answers nothing.
    ResultErrors,
    /// Calls, each with an id of its own.
    Calls,
    /// Answers to nothing.
    Results,
    /// Frames that are none.
    Nonsense,
    /// Pings, whose pongs it does not read.
    Pings,
    /// One message, continued with nothing.
    EmptyContinuations,
    /// One byte per frame.
    OneBytePerFrame,
    /// A Call near the bound.
    LargeCalls,
    /// A SEND near the bound.
    LargeSends,
    /// A message above the bound, compressed to little where that is agreed on; it is closed and comes again.
    TooLarge,
    /// Half a message; then it waits.
    HalfMessages,
    /// Frames behind a handshake that no subprotocol was found for.
    UnknownSubprotocol,
    /// It connects with an id of its own, and resets.
    Storm,
    /// It connects with the one id of all, and stays until it is replaced.
    StormOfOneId,
    /// It connects, and leaves as soon as it is let in.
    ComesAndGoes,
    /// It connects and says nothing.
    Silent,
}

const KINDS: [Kind; 17] = [
    Kind::Sends,
    Kind::ResultErrors,
    Kind::Calls,
    Kind::Results,
    Kind::Nonsense,
    Kind::Pings,
    Kind::EmptyContinuations,
    Kind::OneBytePerFrame,
    Kind::LargeCalls,
    Kind::LargeSends,
    Kind::TooLarge,
    Kind::HalfMessages,
    Kind::UnknownSubprotocol,
    Kind::Storm,
    Kind::StormOfOneId,
    Kind::ComesAndGoes,
    Kind::Silent,
];

struct Attacker {
    kind: Kind,
    name: String,
    peer: Option<Peer>,
    is_open: bool,
    came: Instant,
    times: usize,
    out: VecDeque<u8>,
    /// What it may send until its next burst.
    budget: usize,
}

impl Attacker {
    fn act(&mut self, network: &std::rc::Rc<Network>, now: Instant) {
        let lives_for = match self.kind {
            Kind::Storm => Duration::from_millis(2),
            Kind::StormOfOneId => Duration::from_millis(20),
            Kind::ComesAndGoes if self.is_open => Duration::ZERO,
            _ => Duration::MAX,
        };
        if self.peer.is_some() && now - self.came >= lives_for {
            let peer = self.peer.take().expect("it is there");
            if self.kind != Kind::ComesAndGoes {
                peer.reset();
            }
        }
        if self.peer.is_none() {
            // It comes again a little later.
            if self.times > 0 && now - self.came < Duration::from_millis(5) {
                return;
            }
            self.come(network, now);
        }
        let Some(peer) = self.peer.take() else { return };
        if self.kind != Kind::Pings && peer.receive().starts_with(b"HTTP/1.1 101") {
            self.is_open = true;
        }
        while self.budget > 0 {
            if self.out.is_empty() {
                let more = self.says();
                if more.is_empty() {
                    break;
                }
                self.out.extend(more);
            }
            let (front, _) = self.out.as_slices();
            let sent = peer.send(&front[..front.len().min(self.budget)]);
            if sent == 0 {
                break;
            }
            self.out.drain(..sent);
            self.budget -= sent;
        }
        self.peer = Some(peer).filter(|peer| peer.ended().is_none());
    }

    fn come(&mut self, network: &std::rc::Rc<Network>, now: Instant) {
        self.times += 1;
        (self.came, self.is_open) = (now, false);
        let name = match self.kind {
            Kind::Storm => format!("{}-{}", self.name, self.times),
            Kind::StormOfOneId => "one".to_owned(),
            _ => self.name.clone(),
        };
        let subprotocol = match self.kind {
            Kind::UnknownSubprotocol => "soap",
            _ => "ocpp2.1",
        };
        let request = format!(
            "GET /{name} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        );
        self.out = request.into_bytes().into();
        self.peer = network.connect(address(LISTEN), address("192.0.2.66:6666"));
    }

    /// What it says next: nothing, or whole frames, also before it is let in.
    fn says(&mut self) -> Vec<u8> {
        self.times += 1;
        let number = self.times;
        match self.kind {
            Kind::Sends => frame(0x81, format!("[6,\"{number}\",\"N\",{{}}]").as_bytes()),
            Kind::ResultErrors => frame(0x81, format!("[5,\"{number}\",\"GenericError\",\"\",{{}}]").as_bytes()),
            Kind::Calls => frame(0x81, format!("[2,\"{}-{number}\",\"Act\",{{}}]", self.name).as_bytes()),
            Kind::Results => frame(0x81, format!("[3,\"{number}\",{{}}]").as_bytes()),
            Kind::Nonsense | Kind::UnknownSubprotocol => frame(0x81, b"[2,"),
            Kind::Pings => frame(0x89, b"????????"),
            Kind::EmptyContinuations if number == 2 => frame(0x01, b"["),
            Kind::EmptyContinuations => frame(0x00, b""),
            Kind::OneBytePerFrame if number == 2 => frame(0x01, b"["),
            Kind::OneBytePerFrame => frame(0x00, b" "),
            Kind::LargeCalls => {
                let pad = "a".repeat(MESSAGE_MAX - 100);
                frame(
                    0x81,
                    format!("[2,\"{}-{number}\",\"Act\",{{\"a\":\"{pad}\"}}]", self.name).as_bytes(),
                )
            }
            Kind::LargeSends => {
                let pad = "a".repeat(MESSAGE_MAX - 100);
                frame(0x81, format!("[6,\"{number}\",\"N\",{{\"a\":\"{pad}\"}}]").as_bytes())
            }
            Kind::TooLarge => frame(0x81, &vec![b' '; MESSAGE_MAX + 1]),
            Kind::HalfMessages if number == 2 => {
                let mut whole = frame(0x81, &vec![b' '; MESSAGE_MAX - 100]);
                whole.truncate(MESSAGE_MAX / 2);
                whole
            }
            Kind::HalfMessages | Kind::Storm | Kind::StormOfOneId | Kind::ComesAndGoes | Kind::Silent => Vec::new(),
        }
    }
}

/// A frame with the mask 0.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..0x1_0000 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

struct Scene {
    simulation: Simulation<Mail>,
    random: Random,
    backend: Backend,
    clients: Vec<Client>,
    attackers: Vec<Attacker>,
    ledger: Ledger,
}

impl Scene {
    fn new(seed: u64, kind: Option<Kind>) -> Self {
        let mut random = Random::new(seed);
        let bounds = [
            ("backend_connections_max", "4"),
            ("message_max", "64KiB"),
            ("buffers_max", "1MiB"),
            ("subprotocols", "ocpp2.1, ocpp1.6"),
            ("subprotocol_required", "false"),
        ];
        let (simulation, _) = start(&mut random, 1 + (seed % 2) as usize, &bounds);
        simulation.network().set_door(address(BACKEND), Door::Open);
        simulation.network().set_calm();
        let mut backend = Backend::new();
        backend.behaves = true;
        backend.takes = Some(TAKES);
        let now = simulation.now();
        let attackers = kind.into_iter().flat_map(|kind| {
            let count = if kind == Kind::HalfMessages { HALVES } else { ATTACKERS };
            (0..count).map(move |number| Attacker {
                kind,
                name: format!("X{number}"),
                peer: None,
                is_open: false,
                came: now,
                times: 0,
                out: VecDeque::new(),
                budget: 0,
            })
        });
        Self {
            attackers: attackers.collect(),
            clients: (0..CLIENTS).map(|number| Client::new(&format!("CP{number}"))).collect(),
            ledger: Ledger::default(),
            simulation,
            random,
            backend,
        }
    }

    fn pass(&mut self, time: Duration, attacks: bool) {
        let end = self.simulation.now() + time;
        while self.simulation.now() < end {
            let next = (self.simulation.now() + BURST_EVERY).min(end);
            for attacker in &mut self.attackers {
                attacker.budget = BURST_LEN;
            }
            while self.simulation.now() < next {
                let now = self.simulation.now();
                self.backend
                    .act(self.simulation.network(), now, &mut self.random, &mut self.ledger);
                for client in &mut self.clients {
                    client.act(now, &mut self.ledger);
                }
                for attacker in self.attackers.iter_mut().filter(|_| attacks) {
                    attacker.act(self.simulation.network(), now);
                }
                let due = self.backend.next_due().filter(|due| *due > now).unwrap_or(next);
                self.simulation.run_to_next(due.min(next));
            }
        }
    }

    /// Those who attack go. Nothing is held for them, and no pass was longer than a turn of each that has much to say or to be said,
    /// and what the others have.
    fn check_shards(&mut self) {
        let pass_max = (2 * self.attackers.len() + 4) * TURN_LEN;
        let longest = self.simulation.longest_pass();
        assert!(longest <= pass_max, "one pass moves {longest} bytes");
        for attacker in self.attackers.drain(..) {
            attacker.peer.into_iter().for_each(Peer::reset);
        }
        self.pass(5 * SECOND, false);
        assert_eq!(held(&mut self.simulation), 0, "bytes are held for who has gone");
        assert!(self.clients.iter().all(Client::is_connected), "who behaves stays");
    }

    /// How long the well-behaved clients' Calls took, in order of length.
    fn run(mut self) -> Vec<Duration> {
        for client in &mut self.clients {
            client.come(
                self.simulation.network(),
                self.simulation.now(),
                &mut self.random,
                &mut self.ledger,
            );
        }
        self.pass(SECOND, false);
        assert!(self.clients.iter().all(Client::is_connected));
        // The attack is under way before anybody is looked at.
        self.pass(SECOND / 2, true);
        for _ in 0..ROUNDS {
            for (client, len) in self.clients.iter_mut().zip(LENS) {
                client.calls(self.simulation.now(), len, &mut self.ledger);
            }
            self.pass(SECOND / 5, true);
        }
        self.pass(SECOND, true);
        assert!(
            self.clients.iter().all(|client| client.waits().is_none()),
            "all are answered"
        );
        self.check_shards();
        assert_eq!(self.ledger.happened.get("error"), None, "and by the backend");
        let mut took = std::mem::take(&mut self.ledger.took);
        assert_eq!(took.len(), ROUNDS * CLIENTS);
        took.sort_unstable();
        took
    }
}

/// With every kind of attack, Calls of the others take at most twice as long as without: at the median, and the slowest too.
#[test]
fn well_behaved_clients_calls_take_at_most_twice_as_long_whoever_attacks() {
    for seed in 0..SEEDS {
        let quiet = Scene::new(seed, None).run();
        for kind in KINDS {
            let took = Scene::new(seed, Some(kind)).run();
            let (middle, last) = (took.len() / 2, took.len() - 1);
            println!(
                "{seed} {kind:?}: {:?} {:?}, quiet {:?} {:?}",
                took[middle], took[last], quiet[middle], quiet[last]
            );
            assert!(took[middle] <= 2 * quiet[middle], "{kind:?}, seed {seed}: the median");
            assert!(
                took[last] <= 2 * quiet[last] + TAKES,
                "{kind:?}, seed {seed}: the slowest"
            );
        }
    }
}

const SEEDS: u64 = 2;
const CLIENTS: usize = 4;
const ATTACKERS: usize = 2;
/// Half messages that are more than the shard may hold.
const HALVES: usize = 100;
/// How long their Calls are: one beyond what may wait for the end of a pass.
const LENS: [usize; CLIENTS] = [0, 200, 6000, 0];
const ROUNDS: usize = 5;
const SECOND: Duration = Duration::from_secs(1);
/// The backend's work on any request.
const TAKES: Duration = Duration::from_millis(20);
const MESSAGE_MAX: usize = 64 << 10;
/// Each attacker sends as much at once, more than a turn may read.
const BURST_LEN: usize = 150 << 10;
const BURST_EVERY: Duration = Duration::from_millis(200);

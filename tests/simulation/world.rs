//! Holds the world of one run: who is in it, and what happens next.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use protocol::ocpp::ClientId;
use protocol::takeover::Message;
use shards::simulation::network::Door;
use shards::simulation::node::Simulation;
use shards::simulation::random::Random;
use ws2api::config::{self, Overrides};
use ws2api::env::home::IdHasher;
use ws2api::shard::control_plane::{ControlPlane, ShardSecrets};
use ws2api::shard::mail::{Control, HandOver, Mail, Moved};
use ws2api::shard::{self, Listening, Plan};

use super::backend::Backend;
use super::client::Client;
use super::ledger::Ledger;
use super::lengths::{MESSAGE_MAX, some_len};
use super::lines::{Line, carry};
use super::pusher::Pusher;

pub const LISTEN: &str = "192.0.2.10:4000";
pub const INGRESS: &str = "10.0.0.10:4001";
pub const BACKEND: &str = "10.0.0.1:5000";

/// See the module.
pub struct World {
    simulation: Simulation<Mail>,
    /// Of all nodes.
    shards_count: usize,
    /// What each node says.
    lines: Vec<Line>,
    /// Nothing of it is heard meanwhile.
    lines_hang: bool,
    random: Random,
    clients: Vec<Client>,
    backend: Backend,
    pusher: Pusher,
    /// Who was handed over.
    moved: (mpsc::Sender<Moved>, mpsc::Receiver<Moved>),
    pub ledger: Ledger,
    /// The backend's place and the descriptors are as they should be from then on.
    trouble_until: Option<Instant>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let shards_count = 1 + random.below(2);
        let nodes_count = 1 + random.below(2);
        let bounds = [
            ("calls_in_flight", "1".to_owned()),
            ("calls_queued", (1 + random.below(4)).to_string()),
            ("pushes_in_flight", (1 + random.below(2)).to_string()),
            ("pushes_queued", random.below(4).to_string()),
            ("backend_connections_max", (1 + random.below(4)).to_string()),
            ("backend_waiters_max", (1 + random.below(8)).to_string()),
            ("mesh_queue", (16 + random.below(16)).to_string()),
            ("call_timeout", "5s".to_owned()),
            ("connect_timeout", "1s".to_owned()),
            ("push_timeout", ["5s", "60s"][random.below(2)].to_owned()),
            ("handshakes_max", (1 + random.below(6)).to_string()),
            ("handshake_timeout", "4s".to_owned()),
            // Nothing of what the backend must learn is given up here.
            ("result_ttl", "1h".to_owned()),
            ("ping_after", "20s".to_owned()),
            ("dead_after", "40s".to_owned()),
            ("send_timeout", "5s".to_owned()),
            ("send_queue_bytes", "4KiB".to_owned()),
            ("message_max", format!("{MESSAGE_MAX}B")),
            ("buffers_max", ["1MiB", "256MiB"][random.below(2)].to_owned()),
            ("deflate_window", "512B".to_owned()),
            ("deflate_min", format!("{}B", random.below(60))),
            ("drain_timeout", "20s".to_owned()),
            ("drain_spread", "5s".to_owned()),
        ];
        let bounds = bounds.each_ref().map(|(key, value)| (*key, value.as_str()));
        let (mut simulation, line) = start_node(&mut random, shards_count, &bounds);
        let mut lines = vec![line];
        if nodes_count > 1 {
            // Another process of the same configuration, with as many shards or not. Both accept; the second one takes over.
            let (plan, mesh_queue, said) = plan(1, 1 + random.below(2), &bounds);
            plan.control.wait_for_opening(true);
            lines.push(Line::new(said, plan.control.clone(), plan.hasher.clone()));
            simulation.add_node(plan.cores.len(), mesh_queue, |shard| live(shard, &plan));
            lines.iter().for_each(|line| line.control.meet_other_process());
            plan.control.open(&simulation.outsides()[1]);
        }
        simulation.network().set_door(address(BACKEND), Door::Open);
        World {
            shards_count: simulation.shards_count(),
            simulation,
            lines,
            lines_hang: false,
            random,
            clients: (0..CLIENTS).map(|number| Client::new(&format!("CP{number}"))).collect(),
            backend: Backend::new(),
            pusher: Pusher::default(),
            moved: mpsc::channel(),
            ledger: Ledger::default(),
            trouble_until: None,
        }
    }

    /// One thing happens, and time passes.
    pub fn step(&mut self) {
        let now = self.simulation.now();
        let who = self.random.below(CLIENTS);
        let (random, ledger) = (&mut self.random, &mut self.ledger);
        let client = &mut self.clients[who];
        match random.below(100) {
            0..10 if client.is_gone() || random.percent(20) => {
                client.come(self.simulation.network(), now, random, ledger);
            }
            10..38 => client.calls(now, some_len(random), ledger),
            38..45 => client.sends(some_len(random), ledger),
            45..60 => {
                let who = format!("CP{}", random.below(CLIENTS + 1));
                let wait = random.percent(30).then(|| random.below(8));
                self.pusher
                    .push(self.simulation.network(), &who, (some_len(random), wait), ledger);
            }
            60..78 => client.answers(random, ledger),
            78..81 => client.pings(ledger),
            81 => client.talks_nonsense(random, ledger),
            82..85 => client.turns_deaf(now + Duration::from_millis(random.below(12_000) as u64), ledger),
            85..88 => client.goes(random, ledger),
            88..90 => self.pusher.resets(random, ledger),
            90..92 => self.backend.close_idle(random, ledger),
            92 => self.backend.restart(ledger),
            93..95 => self.make_trouble(),
            95..98 => self.hand_over(who),
            98 => {
                let who = format!("CP{who}");
                self.pusher.describe(self.simulation.network(), &who);
            }
            _ => {}
        }
        let pause = Duration::from_micros(match self.random.below(20) {
            0 => 1_500_000,
            1..4 => 60_000,
            other => 40 * other as u64,
        });
        self.pass(pause);
    }

    /// A client, or all that there are, goes on in another process as soon as it is quiet.
    fn hand_over(&mut self, who: usize) {
        let client = ClientId::parse(&format!("CP{who}")).expect("a name");
        let takes = Duration::from_micros([0, 100, 70_000][self.random.below(3)]);
        let hand_over = HandOver {
            client: (!self.random.percent(30)).then_some(client),
            to: self.random.below(self.lines.len()) as u32,
            takes,
            moved: self.moved.0.clone(),
        };
        for outside in self.simulation.outsides() {
            for shard in 0..outside.shards_count() {
                let mail = Control::HandOver(hand_over.clone()).into();
                // One that hangs may have no room.
                drop(outside.try_send(shard, mail));
            }
        }
    }

    fn note_moved(&mut self) {
        while let Ok(moved) = self.moved.1.try_recv() {
            for (what, happened) in [
                ("handed over", true),
                ("handed over with a push in flight", moved.pending.pushes_in_flight > 0),
                ("handed over with a push queued", moved.pending.pushes_queued > 0),
                ("handed over with a deferred call", moved.pending.calls_deferred > 0),
                ("handed over with a call queued", moved.pending.calls_queued > 0),
                ("handed over with a post", moved.posts > 0),
            ] {
                if happened {
                    self.ledger.happen(what);
                }
            }
        }
    }

    fn make_trouble(&mut self) {
        if self.trouble_until.is_some() {
            return;
        }
        let network = self.simulation.network();
        let mut long = Duration::from_millis(self.random.below(6_000) as u64);
        match self.random.below(5) {
            0 => {
                self.ledger.happen("door shut");
                network.set_door(address(BACKEND), Door::Shut);
                self.backend.restart(&mut self.ledger);
            }
            1 => {
                self.ledger.happen("door a black hole");
                network.set_door(address(BACKEND), Door::BlackHole);
            }
            2 => {
                self.ledger.happen("out of descriptors");
                network.set_out_of_descriptors(true);
            }
            3 => {
                self.ledger.happen("processes don't hear each other");
                self.lines_hang = true;
                if self.random.percent(30) {
                    long *= 8;
                }
            }
            _ => {
                self.ledger.happen("shard hangs");
                self.simulation.freeze(self.random.below(self.shards_count));
                // Longer than questions to it wait, sometimes.
                if self.random.percent(30) {
                    long *= 8;
                }
            }
        }
        self.trouble_until = Some(self.simulation.now() + long);
    }

    fn end_trouble(&mut self) {
        self.trouble_until = None;
        self.lines_hang = false;
        self.simulation.network().set_door(address(BACKEND), Door::Open);
        self.simulation.network().set_out_of_descriptors(false);
        for shard in 0..self.shards_count {
            self.simulation.thaw(shard);
        }
    }

    /// Time passes, in which everybody does what they are about.
    fn pass(&mut self, time: Duration) {
        let end = self.simulation.now() + time;
        loop {
            let now = self.simulation.now();
            if self.trouble_until.is_some_and(|until| until <= now) {
                self.end_trouble();
            }
            self.backend
                .act(self.simulation.network(), now, &mut self.random, &mut self.ledger);
            for client in &mut self.clients {
                client.act(now, &mut self.ledger);
            }
            self.pusher.answer_late(self.simulation.network(), &mut self.ledger);
            self.pusher.act(&mut self.ledger);
            self.note_moved();
            if !self.lines_hang {
                carry(&mut self.lines, self.simulation.outsides(), &mut self.ledger);
            }
            if now >= end {
                return;
            }
            let due = self.backend.next_due().filter(|due| *due > now).unwrap_or(end);
            self.simulation.run_to_next(due.min(end));
        }
    }

    /// From now on everybody behaves, and all that is under way comes to its end.
    pub fn make_peace(&mut self) {
        self.end_trouble();
        self.backend.behaves = true;
        self.simulation.network().set_calm();
        if self.random.percent(50) {
            self.backend.restart(&mut self.ledger);
        }
        let now = self.simulation.now();
        for client in &mut self.clients {
            client.hears_again(now);
        }
        for _ in 0..400 {
            self.pass(Duration::from_millis(500));
            for client in &mut self.clients {
                client.answers(&mut self.random, &mut self.ledger);
            }
        }
    }

    pub fn check_peace(&mut self) {
        assert!(!self.pusher.waits(), "the ingress owes an answer");
        for client in &self.clients {
            assert!(!client.is_held_back(), "{} should be gone", client.name);
            if client.is_connected() {
                let owed = client
                    .waits()
                    .map(|asked| (&asked.id, self.simulation.now() - asked.at));
                assert!(owed.is_none(), "{} has no answer: {owed:?}", client.name);
            }
        }
        self.ledger.check();
        // Whoever comes now is served.
        for who in 0..CLIENTS {
            let now = self.simulation.now();
            if self.clients[who].is_gone() {
                self.clients[who].come(self.simulation.network(), now, &mut self.random, &mut self.ledger);
                self.pass(SOON);
            }
            assert!(self.clients[who].is_connected(), "CP{who} can't connect");
            // More than may wait: it is read again when there is room.
            for _ in 0..BURST {
                self.clients[who].calls(now, 0, &mut self.ledger);
            }
            let results = self.ledger.happened["result"];
            self.pass(SOON);
            assert!(self.clients[who].waits().is_none(), "CP{who} is not served");
            assert_eq!(self.ledger.happened["result"], results + BURST);
        }
        for client in &self.clients {
            client.check_sends(&self.ledger);
        }
        self.pass(SOON);
        assert_eq!(held(&mut self.simulation), 0, "bytes are held for nobody");
        for (what, count) in ["sparse pass", "crowded pass"]
            .into_iter()
            .zip(self.simulation.crowds())
        {
            *self.ledger.happened.entry(what).or_default() += count as usize;
        }
    }

    /// In peace a push finds every client, whichever process it reaches.
    pub fn check_reach(&mut self) {
        for who in (0..CLIENTS).cycle().take(3 * CLIENTS) {
            if !self.clients[who].is_connected() {
                continue;
            }
            // The next connection may be another process's.
            self.pusher.resets(&mut self.random, &mut self.ledger);
            let name = self.clients[who].name.clone();
            self.pusher
                .push(self.simulation.network(), &name, (0, None), &mut self.ledger);
            self.pass(Duration::from_secs(1));
            let push = self.ledger.pushes.get(&self.pusher.last_id()).expect("it was pushed");
            assert!(
                !self.clients[who].is_connected() || push.accepted && push.seen == 1,
                "{name} is not found: {push:?}"
            );
            self.clients[who].answers(&mut self.random, &mut self.ledger);
            self.pass(Duration::from_secs(1));
        }
    }

    /// SIGTERM: everybody is told, and nothing stays behind.
    pub fn drain(&mut self) {
        self.backend.answers_calls = self.random.percent(50);
        for who in 0..CLIENTS {
            self.pusher.push(
                self.simulation.network(),
                &format!("CP{who}"),
                (0, None),
                &mut self.ledger,
            );
            self.clients[who].calls(self.simulation.now(), 0, &mut self.ledger);
        }
        let pause = self.random.below(10);
        self.pass(Duration::from_millis(pause as u64));
        for (line, outside) in self.lines.iter().zip(self.simulation.outsides()) {
            line.control.drain(outside);
        }
        let begun = self.simulation.now();
        while !self.simulation.has_ended() {
            self.pass(Duration::from_millis(100));
            assert!(
                self.simulation.now() - begun < Duration::from_secs(21),
                "the drain takes longer than it may"
            );
        }
        self.pass(Duration::from_secs(4));
        for client in &self.clients {
            assert!(client.is_gone(), "{} was not told", client.name);
        }
        self.ledger.check();
    }
}

/// A node whose config says these `bounds` and is as it is by itself otherwise, and the way to stop it.
pub fn start(
    random: &mut Random,
    shards_count: usize,
    bounds: &[(&str, &str)],
) -> (Simulation<Mail>, Arc<ControlPlane>) {
    let (simulation, line) = start_node(random, shards_count, bounds);
    (simulation, line.control)
}

fn start_node(random: &mut Random, shards_count: usize, bounds: &[(&str, &str)]) -> (Simulation<Mail>, Line) {
    let (plan, mesh_queue, said) = plan(0, shards_count, bounds);
    let simulation = Simulation::new(random.number(), shards_count, mesh_queue, |shard| live(shard, &plan));
    (simulation, Line::new(said, plan.control, plan.hasher))
}

/// What the shards of one node are told, how long their mesh's queues are, and what they say to another process.
fn plan(node: u32, shards_count: usize, bounds: &[(&str, &str)]) -> (Plan, usize, mpsc::Receiver<Message>) {
    let mut overrides = Overrides {
        cores: Some(vec![0; shards_count]),
        ..Overrides::default()
    };
    let backend = format!("http://{BACKEND}");
    let places = [("backend", backend.as_str()), ("listen", LISTEN), ("ingress", INGRESS)];
    for (key, value) in bounds.iter().chain(&places) {
        overrides.set(key, *value);
    }
    let config = config::resolve(None, &overrides, &[0]).unwrap_or_else(|error| panic!("{error}"));
    let (to_other_process, said) = mpsc::channel();
    let plan = Plan {
        started: Instant::now(),
        generation: node,
        line: 1,
        node: config.node.clone().into(),
        cores: config.cores.clone().into(),
        listen: Some(Listening::On(address(LISTEN))),
        listen_tls: None,
        ingress: Listening::On(address(INGRESS)),
        addresses: vec![vec![address(BACKEND)]].into(),
        secrets: ShardSecrets::default(),
        hasher: IdHasher::with_seed(node.into()),
        traced: None,
        control: ControlPlane::new(vec![0; shards_count]),
        to_other_process,
        node_name: "node".into(),
        cluster: None,
    };
    (plan, config.cores[0].mesh_queue, said)
}

fn live(shard: shards::Shard<Mail>, plan: &Plan) -> impl Future<Output = ()> + 'static + use<> {
    let (started, _starts) = mpsc::channel();
    let life = shard::run(shard, plan.clone(), started);
    async move { _ = life.await }
}

/// Bytes that all shards hold for others, by their own account.
pub fn held(simulation: &mut Simulation<Mail>) -> usize {
    let (reply, replies) = mpsc::channel();
    for outside in simulation.outsides() {
        for shard in 0..outside.shards_count() {
            let question = Mail::from(Control::Report(reply.clone()));
            assert!(outside.try_send(shard, question).is_ok());
        }
    }
    let now = simulation.now();
    simulation.run_to_next(now);
    let reports: Vec<_> = replies.try_iter().collect();
    assert_eq!(reports.len(), simulation.shards_count(), "each says how it is");
    reports.iter().map(|report| report.gauges.buffers_bytes as usize).sum()
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

const CLIENTS: usize = 6;
const BURST: usize = 10;
/// In peace all is done by then, and no timer has helped.
const SOON: Duration = Duration::from_secs(2);

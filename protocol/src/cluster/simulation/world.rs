//! Holds the world of one run: nodes, NATS between them, clients that jump, backends that push.

use std::time::{Duration, Instant};

use super::ledger::{Checked, Ledger};
use super::nats::{Arrival, Mishaps, Nats};
use super::shard::{Asked, Connection, Push, Question, Shard, Wait, Waiter};
use crate::cluster::member::Fault;
use crate::cluster::{Asker, Failure, Limits, Member, NodeId, Now, Output, Own};
use crate::mapping::ConnectionId;
use crate::ocpp::ClientId;
use crate::random::Random;

pub(super) struct World {
    pub(super) ledger: Ledger,
    random: Random,
    fault: Option<Fault>,
    start: Instant,
    now: Duration,
    nats: Nats,
    mishaps: Mishaps,
    nodes: Vec<NodeWorld>,
    chargers: Vec<Charger>,
    /// Numbers everything that has to be unique.
    count: u64,
    /// Clocks differ: who is newest is what they say.
    is_skewed: bool,
}

/// One place where a node runs.
struct NodeWorld {
    id: NodeId,
    /// `None`: it is dead.
    member: Option<Member>,
    shard: Shard,
    skew_ms: i64,
    /// Since when NATS is there for it, or is not.
    link_since: Duration,
    /// When it went last.
    link_lost: Duration,
}

struct Charger {
    id: ClientId,
    /// The connection that it uses, and where.
    at: Option<(usize, ConnectionId)>,
    /// It has begun two connections in the same instant: either may stay.
    is_tie: bool,
}

impl World {
    pub(super) fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut random = Random::new(seed);
        let is_skewed = random.percent(50);
        let mut world = Self {
            ledger: Ledger::default(),
            fault,
            start: Instant::now(),
            now: Duration::from_secs(1),
            nats: Nats::default(),
            mishaps: Mishaps {
                is_noisy: true,
                ..Mishaps::default()
            },
            nodes: Vec::new(),
            chargers: Vec::new(),
            count: 0,
            is_skewed,
            random: random.clone(),
        };
        for _ in 0..3 {
            let skew_ms = if is_skewed { random.below(3_000) as i64 } else { 0 };
            let node = NodeWorld {
                id: NodeId::new(0),
                member: None,
                shard: Shard::default(),
                skew_ms,
                link_since: Duration::ZERO,
                link_lost: Duration::ZERO,
            };
            world.nodes.push(node);
        }
        for number in 0..5 {
            let id = ClientId::parse(&format!("CP {number}")).unwrap();
            world.chargers.push(Charger {
                id,
                at: None,
                is_tie: false,
            });
        }
        world.nats.is_up = true;
        for at in 0..world.nodes.len() {
            world.start_node(at);
        }
        world
    }

    pub(super) fn step(&mut self) -> Checked {
        let millis = [0, 1, 10, 50, 200, 1_000][self.random.below(6)];
        self.now += Duration::from_millis(millis);
        self.surprise()?;
        self.go_on()
    }

    /// Nothing goes wrong any more, and nothing new begins: everything must come to its end.
    pub(super) fn finish(&mut self) -> Checked {
        for (what, count) in [
            ("message lost", self.mishaps.lost),
            ("message doubled", self.mishaps.doubled),
            ("message late", self.mishaps.late),
        ] {
            *self.ledger.happened.entry(what).or_insert(0) += count;
        }
        self.mishaps.is_noisy = false;
        self.nats.is_up = true;
        for at in 0..self.nodes.len() {
            self.start_node(at);
            self.link(at);
        }
        let end = self.now + QUIET;
        while self.now < end {
            self.now = self.next_event().clamp(self.now + Duration::from_millis(1), end);
            self.go_on()?;
        }
        self.check_places()?;
        self.ledger.check_end()
    }

    fn next_event(&self) -> Duration {
        let mut next = self.now + Duration::from_secs(1);
        for node in &self.nodes {
            if let Some(member) = &node.member {
                let deadline = member.next_deadline(self.start + self.now);
                next = next.min(deadline.saturating_duration_since(self.start));
            }
        }
        self.nats.next_due().map_or(next, |due| next.min(due))
    }

    fn check_places(&self) -> Checked {
        for charger in &self.chargers {
            let places: Vec<_> = (0..self.nodes.len())
                .filter(|at| self.nodes[*at].shard.connections.contains_key(&charger.id))
                .collect();
            if places.len() > 1 {
                return Err(format!("{} is at several nodes: {places:?}", charger.id));
            }
            if let Some((at, _)) = charger.at
                && places != [at]
            {
                return Err(format!("{} is at {at}, and not at {places:?}", charger.id));
            }
        }
        Ok(())
    }

    fn go_on(&mut self) -> Checked {
        self.nats.work(self.now, &mut self.random, &mut self.mishaps);
        for (node, arrival) in self.nats.arrivals(self.now) {
            if let Some(at) = self.nodes.iter().position(|known| known.id == node) {
                self.arrive(at, arrival)?;
            }
        }
        for at in 0..self.nodes.len() {
            self.drive(at)?;
            self.live(at)?;
        }
        Ok(())
    }

    /// The node's own deadlines, a slice at a time.
    fn drive(&mut self, at: usize) -> Checked {
        let now = self.at(at);
        let Some(member) = &mut self.nodes[at].member else {
            return Ok(());
        };
        if member.next_deadline(now.instant) > now.instant {
            return Ok(());
        }
        let mut out = Vec::new();
        member.handle_deadline(now, &mut out);
        self.act(at, out)
    }

    fn arrive(&mut self, at: usize, arrival: Arrival) -> Checked {
        let now = self.at(at);
        let Some(member) = &mut self.nodes[at].member else {
            return Ok(());
        };
        let mut out = Vec::new();
        match arrival {
            Arrival::Message(subject, bytes) => {
                let is_understood = member.handle_message(subject, &bytes, now, &mut out);
                assert!(is_understood, "nodes understand each other");
            }
            Arrival::Nobody(number) => member.handle_nobody(number, now, &mut out),
        }
        self.act(at, out)
    }

    /// Something happens.
    fn surprise(&mut self) -> Checked {
        let at = self.random.below(self.nodes.len());
        let who = self.random.below(self.chargers.len());
        // Nothing else begins in the same millisecond.
        self.now += Duration::from_millis(1);
        match self.random.below(1_000) {
            0..80 => self.connect(who, at),
            80..100 => {
                self.ledger.count("client connects to two nodes at once");
                self.connect(who, at)?;
                let other = (at + 1) % self.nodes.len();
                let newest = self.chargers[who].at;
                self.connect(who, other)?;
                let charger = &mut self.chargers[who];
                charger.is_tie = true;
                let is_there = |(at, connection): (usize, ConnectionId)| {
                    let known = self.nodes[at].shard.connections.get(&charger.id);
                    known.is_some_and(|known| known.id == connection)
                };
                if newest.is_some_and(is_there) && self.random.percent(50) {
                    charger.at = newest;
                }
                Ok(())
            }
            100..120 => match self.chargers[who].at.take() {
                Some((at, connection)) => {
                    self.ledger.count("client goes");
                    self.end(at, who, connection)
                }
                None => Ok(()),
            },
            120..520 => self.request(at, who),
            520..525 => {
                for _ in 0..8 {
                    self.request(at, who)?;
                }
                Ok(())
            }
            525..545 => {
                let waits = self.nodes[at].shard.waits.values_mut();
                for wait in waits {
                    if let Wait::Request { has_gone: false, .. } = wait
                        && self.random.percent(30)
                    {
                        self.ledger.count("request that waits hangs up");
                        let Wait::Request { has_gone, .. } = wait else { continue };
                        *has_gone = true;
                    }
                }
                Ok(())
            }
            545..553 => {
                self.ledger.count("a node loses NATS");
                self.unlink(at)
            }
            553..557 => {
                self.ledger.count("NATS goes");
                self.nats.is_up = false;
                (0..self.nodes.len()).try_for_each(|at| self.unlink(at))
            }
            557..600 => {
                self.nats.is_up |= self.random.percent(20);
                if self.nats.is_up {
                    self.link(at);
                }
                Ok(())
            }
            600..604 => {
                self.kill(at);
                Ok(())
            }
            604..620 => {
                self.start_node(at);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start_node(&mut self, at: usize) {
        if self.nodes[at].member.is_some() {
            return;
        }
        self.count += 1;
        let id = NodeId::new(self.count);
        let own = Own {
            id,
            name: format!("n{at}"),
            version: "0.1.0".to_owned(),
            since_ms: 0,
        };
        let mut member = Member::new(own, LIMITS, self.start + self.now);
        member.fault = self.fault;
        let node = &mut self.nodes[at];
        (node.id, node.member, node.shard) = (id, Some(member), Shard::default());
        if self.nats.is_up {
            self.link(at);
        }
    }

    fn kill(&mut self, at: usize) {
        if self.nodes[at].member.take().is_none() {
            return;
        }
        self.ledger.count("a node dies");
        self.nats.disconnect(self.nodes[at].id);
        self.ledger.note_death(self.nodes[at].id);
        self.nodes[at].shard = Shard::default();
        for charger in &mut self.chargers {
            charger.at.take_if(|(place, _)| *place == at);
        }
    }

    fn link(&mut self, at: usize) {
        let now = self.at(at);
        let node = &mut self.nodes[at];
        let Some(member) = node.member.as_mut().filter(|_| !self.nats.is_linked(node.id)) else {
            return;
        };
        node.link_since = self.now;
        self.nats.connect(node.id, at % 2);
        let mut out = Vec::new();
        member.handle_connected(now, &mut out);
        self.act(at, out).expect("nothing but words to NATS");
    }

    fn unlink(&mut self, at: usize) -> Checked {
        let node = &mut self.nodes[at];
        let Some(member) = node.member.as_mut().filter(|_| self.nats.disconnect(node.id)) else {
            return Ok(());
        };
        (node.link_since, node.link_lost) = (self.now, self.now);
        let mut out = Vec::new();
        member.handle_lost(&mut out);
        self.act(at, out)
    }

    /// A client connects; the connection that it had may stay behind, as one that nobody knows to be dead.
    fn connect(&mut self, who: usize, at: usize) -> Checked {
        let now = self.at(at);
        if self.nodes[at].member.is_none() {
            return Ok(());
        }
        self.ledger.count("client connects");
        let before = self.chargers[who].at.take();
        if let Some((at, connection)) = before
            && self.random.percent(30)
        {
            self.end(at, who, connection)?;
        }
        self.count += 1;
        let connection = ConnectionId::new(at as u32, 0, self.count);
        let client = self.chargers[who].id.clone();
        self.chargers[who].at = Some((at, connection));
        self.chargers[who].is_tie = false;
        let node = &mut self.nodes[at];
        let mut new = Connection::new(connection, self.now);
        let old = node.shard.connections.remove(&client);
        let mut lost = None;
        if let Some(old) = old {
            lost = old.in_flight;
            for push in old.queued {
                self.ledger.count("push moves within a node");
                assert!(new.push(push, self.now), "as many have room");
            }
        }
        node.shard.connections.insert(client.clone(), new);
        let mut out = Vec::new();
        if let Some(member) = &mut node.member {
            member.handle_client(client, connection, 0, now, &mut out);
        }
        self.act(at, out)?;
        lost.map_or(Ok(()), |(push, _)| self.outcome(at, push))
    }

    /// A connection ends, and its pushes with it.
    fn end(&mut self, at: usize, who: usize, id: ConnectionId) -> Checked {
        let client = self.chargers[who].id.clone();
        let node = &mut self.nodes[at];
        let is_it = |connection: &&Connection| connection.id == id;
        if node.shard.connections.get(&client).filter(is_it).is_none() {
            return Ok(());
        }
        let connection = node.shard.connections.remove(&client).expect("it is there");
        let mut out = Vec::new();
        if let Some(member) = &mut node.member {
            member.handle_gone(&client, &id, &mut out);
        }
        self.act(at, out)?;
        let pushes = connection.in_flight.into_iter().map(|(push, _)| push);
        pushes
            .chain(connection.queued)
            .try_for_each(|push| self.outcome(at, push))
    }

    /// The backend pushes at some node.
    fn request(&mut self, at: usize, who: usize) -> Checked {
        if self.nodes[at].member.is_none() {
            return Ok(());
        }
        self.count += 1;
        let number = self.count;
        let mut token = None;
        if self.random.percent(40) {
            let until = self.now + Duration::from_secs(2 + self.random.below(40) as u64);
            let request = Wait::Request {
                push: number,
                until,
                has_gone: false,
            };
            self.nodes[at].shard.waits.insert(number, request);
            token = Some(number);
        }
        self.ledger.note_touched(number, self.nodes[at].id);
        let client = self.chargers[who].id.clone();
        if let Some(connection) = self.nodes[at].shard.connections.get_mut(&client) {
            self.ledger.count("push to a client here");
            let waiter = token.map(Waiter::Here);
            let is_taken = connection.push(Push { number, waiter }, self.now);
            match token {
                // Who waits was told nothing yet.
                Some(_) if is_taken => {}
                Some(token) => drop(self.nodes[at].shard.waits.remove(&token)),
                None if is_taken => self.ledger.note_accepted(number),
                None => {}
            }
            return Ok(());
        }
        self.ledger.count("push to another node");
        self.ask(at, client, (number, token), false)
    }

    fn ask(&mut self, at: usize, client: ClientId, (push, token): (u64, Option<u64>), is_theirs: bool) -> Checked {
        self.count += 1;
        let question = Question {
            number: self.count,
            push: Some((push, token.map(|token| (token, is_theirs)))),
        };
        let now = self.at(at);
        let node = &mut self.nodes[at];
        self.ledger.note_asked(question.number, node.id, self.now);
        let asked = Asked {
            client: client.clone(),
            push: Some((push, token)),
        };
        node.shard.asked.insert(question.number, asked);
        let asker = Asker {
            shard: 0,
            token: question.number,
        };
        let mut out = Vec::new();
        if let Some(member) = &mut node.member {
            member.handle_ask(asker, client, question.text(), now, &mut out);
            if member.asked_count() > LIMITS.asked_max {
                return Err(format!("{} questions are open", member.asked_count()));
            }
        }
        self.act(at, out)
    }

    fn act(&mut self, at: usize, out: Vec<Output>) -> Checked {
        for output in out {
            match output {
                Output::Question {
                    number,
                    from,
                    client,
                    question,
                    ..
                } => self.carry_out(at, (number, from), &client, &question)?,
                Output::Answer { asker, answer } => self.answered(at, asker.token, answer)?,
                Output::Outcome(bytes) => {
                    let [_, token] = numbers(&bytes);
                    self.settle(at, token)?;
                }
                Output::PostOutcome(bytes) => {
                    self.ledger.count("outcome posted since nobody is there");
                    let [push, _] = numbers(&bytes);
                    self.ledger.note_outcome(push)?;
                }
                Output::Replaced {
                    client, connection, by, ..
                } => self.replace(at, &client, connection, by)?,
                to_nats => self.nats.send(self.nodes[at].id, to_nats, self.now, &mut self.random),
            }
        }
        Ok(())
    }

    /// The shard answers a question of another node.
    fn carry_out(&mut self, at: usize, (number, from): (u64, NodeId), client: &ClientId, bytes: &[u8]) -> Checked {
        let question = Question::read(bytes);
        let now = self.now;
        let id = self.nodes[at].id;
        let answer = if self.random.percent(2) {
            None
        } else if let Some((push, waiter)) = question.push
            && let Some(connection) = self.nodes[at].shard.connections.get_mut(client)
        {
            let waiter = waiter.map(|(token, is_theirs)| Waiter::There {
                node: from,
                token,
                is_theirs,
            });
            if connection.push(Push { number: push, waiter }, now) {
                self.ledger.count("push taken");
                self.ledger.note_touched(push, id);
                self.ledger.note_carried_out(question.number, now)?;
                Some(&b"taken"[..])
            } else {
                self.ledger.count("push refused");
                Some(&b"refused"[..])
            }
        } else {
            Some(&b"gone"[..])
        };
        let mut out = Vec::new();
        if let Some(member) = &mut self.nodes[at].member {
            member.handle_answer(number, answer, &mut out);
        }
        self.act(at, out)
    }

    /// A question of this node has its answer.
    fn answered(&mut self, at: usize, question: u64, answer: Result<Vec<u8>, Failure>) -> Checked {
        self.ledger.note_answer(question, answer.as_ref().err().copied())?;
        let asked = self.nodes[at].shard.asked.remove(&question).expect("it was asked");
        if answer == Err(Failure::Nobody) {
            self.check_nobody(at, &asked.client, self.ledger.asked(question))?;
        }
        let Some((push, token)) = asked.push else {
            return Ok(());
        };
        let is_taken = answer.as_deref() == Ok(&b"taken"[..]);
        match token.and_then(|token| self.nodes[at].shard.waits.get(&token)) {
            None if token.is_none() && is_taken => self.ledger.note_accepted(push),
            None => {}
            Some(_) if is_taken => {}
            Some(Wait::Request { .. }) => drop(self.nodes[at].shard.waits.remove(&token.unwrap_or_default())),
            Some(Wait::Moved { .. }) => return self.settle(at, token.unwrap_or_default()),
        }
        Ok(())
    }

    /// Nobody is said to have that client. Is that so?
    fn check_nobody(&self, at: usize, client: &ClientId, asked: Duration) -> Checked {
        let while_ago = asked.saturating_sub(Duration::from_secs(4));
        let asker = &self.nodes[at];
        let known = asker.member.as_ref().map(|member| member.nodes(self.at(at)));
        for node in &self.nodes {
            let Some(connection) = node.shard.connections.get(client) else {
                continue;
            };
            let is_steady = connection.since < while_ago && node.link_since < while_ago;
            // It went when NATS went for the one that asks, and was not back when that was.
            let is_missed = connection.since < while_ago
                && node.link_lost > connection.since
                && node.link_lost <= asker.link_since
                && (!self.nats.is_linked(node.id) || node.link_since > asker.link_since)
                && self.now < asker.link_since + Duration::from_secs(15)
                && known.iter().flatten().any(|known| known.id == node.id);
            if is_missed || is_steady && self.nats.is_linked(node.id) {
                return Err(format!("nobody has {client}, it was said, and {} has it", node.id));
            }
        }
        Ok(())
    }

    /// The client is at a newer node: what was not sent goes there, and what becomes of it is told from here.
    fn replace(&mut self, at: usize, client: &ClientId, id: ConnectionId, by: ConnectionId) -> Checked {
        self.ledger.count("client is replaced by another node's");
        self.ledger.note_replaced(id.as_str(), by.as_str())?;
        let node = &mut self.nodes[at];
        let Some(connection) = node.shard.connections.remove(client) else {
            return Ok(());
        };
        assert_eq!(connection.id, id);
        let charger = self.chargers.iter_mut().find(|charger| charger.id == *client);
        let charger = charger.expect("it is one of them");
        if charger.at.is_some_and(|(_, connection)| connection == id) {
            if !self.is_skewed && !charger.is_tie {
                return Err(format!("{client} is replaced, though {id} is its newest connection"));
            }
            charger.at = None;
        }
        if let Some((push, _)) = connection.in_flight {
            self.outcome(at, push)?;
        }
        for push in connection.queued {
            self.ledger.count("push moves to another node");
            self.count += 1;
            let token = self.count;
            let moved = Wait::Moved {
                push,
                until: self.now + MOVED_MAX,
                client: client.clone(),
            };
            self.nodes[at].shard.waits.insert(token, moved);
            self.ask(at, client.clone(), (push.number, Some(token)), true)?;
        }
        Ok(())
    }

    /// What becomes of a push is known.
    fn outcome(&mut self, at: usize, push: Push) -> Checked {
        match push.waiter {
            None => self.ledger.note_outcome(push.number),
            Some(Waiter::Here(token)) => self.settle(at, token),
            Some(Waiter::There { node, token, is_theirs }) => {
                let now = self.at(at);
                let bytes = format!("{} {token}", push.number).into_bytes();
                let mut out = Vec::new();
                if let Some(member) = &mut self.nodes[at].member {
                    member.handle_outcome((node, is_theirs), bytes, now, &mut out);
                }
                self.act(at, out)
            }
        }
    }

    /// Whoever waits under that token is told, if somebody still does.
    fn settle(&mut self, at: usize, token: u64) -> Checked {
        match self.nodes[at].shard.waits.remove(&token) {
            None => {
                self.ledger.count("outcome comes when nobody waits");
                Ok(())
            }
            Some(Wait::Request { push, has_gone, .. }) => {
                if !has_gone {
                    self.ledger.count("request that waits is told");
                }
                self.ledger.note_outcome(push)
            }
            Some(Wait::Moved { push, .. }) => self.outcome(at, push),
        }
    }

    /// Time passes at a node's shard.
    fn live(&mut self, at: usize) -> Checked {
        let now = self.now;
        let mut over = Vec::new();
        let mut ended = Vec::new();
        let node = &mut self.nodes[at];
        for (client, connection) in &mut node.shard.connections {
            let who = self.chargers.iter().position(|charger| charger.id == *client);
            let who = who.expect("it is one of them");
            let is_alive = self.chargers[who].at == Some((at, connection.id));
            if is_alive {
                connection.heard = now;
            } else if self.mishaps.is_noisy && now >= connection.heard + DEAD_AFTER {
                ended.push((who, connection.id));
            }
            if let Some((push, sent)) = connection.in_flight {
                let is_late = now >= sent + PUSH_TIMEOUT;
                if is_late || is_alive && self.random.percent(20) {
                    let what = if is_late { "push timed out" } else { "push answered" };
                    self.ledger.count(what);
                    connection.in_flight = None;
                    connection.send(now);
                    over.push(push);
                }
            }
        }
        let mut late = Vec::new();
        node.shard.waits.retain(|token, wait| match wait {
            Wait::Request { until, has_gone, .. } if *until <= now && !*has_gone => {
                self.ledger.count("request that waits is told nothing");
                false
            }
            Wait::Moved { until, push, client } if *until <= now => {
                late.push((*token, push.number, client.clone()));
                true
            }
            _ => true,
        });
        for push in over {
            self.outcome(at, push)?;
        }
        for (who, connection) in ended {
            self.ledger.count("ghost found dead");
            self.end(at, who, connection)?;
        }
        for (token, push, client) in late {
            if self.ledger.is_whole(push) {
                return Err(format!(
                    "the outcome of push {push} for {client} was not told to who waits"
                ));
            }
            self.settle(at, token)?;
        }
        Ok(())
    }

    fn at(&self, at: usize) -> Now {
        let unix_ms = 1_700_000_000_000 + self.now.as_millis() as i64 + self.nodes[at].skew_ms;
        Now {
            instant: self.start + self.now,
            unix_ms: unix_ms as u64,
        }
    }
}

fn numbers(bytes: &[u8]) -> [u64; 2] {
    let text = str::from_utf8(bytes).expect("its own");
    let numbers: Vec<u64> = text.split(' ').map(|number| number.parse().expect("its own")).collect();
    [numbers[0], numbers[1]]
}

const LIMITS: Limits = Limits {
    shards: 1,
    asked_max: 6,
    len_max: 400,
    served_max: 8,
};
const PUSH_TIMEOUT: Duration = Duration::from_secs(30);
const DEAD_AFTER: Duration = Duration::from_secs(15);
/// Longer than outcomes are held where they come from.
const MOVED_MAX: Duration = Duration::from_secs(620);
/// A round of announcements, and an outcome that is told again until somebody hears it.
const QUIET: Duration = Duration::from_secs(700);

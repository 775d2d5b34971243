//! Drives the [`Member`]: the thread that owns the connection to NATS.
//!
//! It waits for three things at once: what the shards say, what NATS says, and deadlines. Each turn does a slice of what is there, and
//! nothing in it blocks.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shards::mesh::NodeHandle;

use super::going::Going;
use super::line::{Ear, Word};
use super::link::{Event, Link};
use super::status::Status;
use super::unsent::Unsent;
use crate::env::home::{IdHasher, home_of};
use crate::observe::cluster::{self as seen, ClusterSeen};
use crate::shard::mail::{FromCluster, Mail};
use protocol::cluster::{Asker, Bounds, Failure, Limits, Member, NodeId, Now, Output, Own, Subject, check, check_told};
use protocol::ocpp::{FailReason, Outcome, Waiter};
use protocol::question::{About, PushOutcome, Question, Told};

/// What the thread is made of.
pub struct Parts {
    /// The connection.
    pub link: Link,
    /// What the shards say.
    pub ear: Ear,
    /// Who this node is.
    pub own: Own,
    /// How much there may be at once.
    pub limits: Limits,
    /// `cluster_name`
    pub name: String,
    /// What another node may ask of each shard.
    pub bounds: Vec<Bounds>,
    /// The way to the shards.
    pub outside: Arc<NodeHandle<Mail>>,
    /// Says which of them is a client's home.
    pub hasher: IdHasher,
    /// Where it says how it is.
    pub status: Arc<Status>,
}

/// Starts it. It ends after [`Word::End`].
///
/// # Errors
/// When there can be no thread.
pub fn start(parts: Parts) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("cluster".into())
        .spawn(move || Thread::new(parts).run())
}

struct Thread {
    link: Link,
    ear: Ear,
    own: NodeId,
    name: String,
    bounds: Vec<Bounds>,
    outside: Arc<NodeHandle<Mail>>,
    hasher: IdHasher,
    status: Arc<Status>,
    member: Member,
    going: Going,
    unsent: Unsent,
    /// What NATS takes at most.
    max_payload: usize,
    seen: ClusterSeen,
    seen_due: Instant,
    /// What is to be done next.
    out: Vec<Output>,
    /// It was told to end.
    ends: bool,
}

impl Thread {
    fn new(parts: Parts) -> Self {
        let now = Instant::now();
        let Parts {
            link,
            ear,
            own,
            limits,
            name,
            bounds,
            outside,
            hasher,
            status,
        } = parts;
        let seen = ClusterSeen::new(&name, now);
        Self {
            unsent: Unsent::new(outside.shards_count()),
            own: own.id,
            member: Member::new(own, limits, now),
            link,
            ear,
            name,
            bounds,
            outside,
            hasher,
            status,
            going: Going::default(),
            max_payload: usize::MAX,
            seen,
            seen_due: now,
            out: Vec::new(),
            ends: false,
        }
    }

    fn run(mut self) {
        let mut events = Vec::new();
        loop {
            let now = now();
            self.ear.listen();
            let has_more = self.take_words(now);
            self.do_what_is_due(now);
            self.unsent.send_what_fits(&self.outside);
            self.link.handle(now.instant, &mut events);
            let has_come = !events.is_empty();
            for event in events.drain(..) {
                self.handle_event(event, now);
            }
            self.tell(now);
            if self.ends {
                return self.link.finish(LAST_WORDS);
            }
            // What NATS has said is answered before it is waited for.
            if !has_more && !has_come {
                self.wait(now.instant);
            }
        }
    }

    /// True: there are more of them.
    fn take_words(&mut self, now: Now) -> bool {
        for _ in 0..WORDS_PER_TURN {
            let Some(word) = self.ear.next() else {
                return false;
            };
            self.handle_word(word, now);
            self.act(now);
        }
        true
    }

    fn handle_word(&mut self, word: Word, now: Now) {
        let out = &mut self.out;
        match word {
            Word::Here {
                shard,
                client,
                connection,
                moved_since_ms,
            } => {
                self.going.remove(&client);
                match moved_since_ms {
                    None => self.member.handle_client(client, connection, shard, now, out),
                    Some(since_ms) => {
                        self.member
                            .handle_moved_in(client, (connection, since_ms), shard, now, out);
                    }
                }
            }
            Word::Gone { client, connection } => self.member.handle_gone(&client, &connection, out),
            Word::Moved { client, connection } => self.going.add(client, connection, now.instant),
            Word::Ask { asker, question } => self.ask(asker, &question, now),
            Word::Answer { number, told } => {
                let told = told.map(|told| told.to_bytes());
                self.member.handle_answer(number, told.as_deref(), out);
            }
            Word::Outcome { node, outcome } => self.tell_outcome(node, *outcome, now),
            Word::Nodes(asker) => {
                let nodes = self.member.nodes(now);
                let token = asker.token;
                self.mail(asker.shard.into(), FromCluster::Nodes { token, nodes });
            }
            Word::Drain => self.member.handle_drain(now, out),
            Word::GiveUp => self.member.handle_end(out),
            Word::End => self.ends = true,
        }
    }

    fn ask(&mut self, asker: Asker, question: &Question, now: Now) {
        let bytes = question.to_bytes();
        if self.member.is_connected() && bytes.len() + ROOM_FOR_NAMES > self.max_payload {
            return self.answer(asker, Err(Failure::TooLong));
        }
        let client = question.client.clone();
        self.member.handle_ask(asker, client, bytes, now, &mut self.out);
    }

    fn tell_outcome(&mut self, node: NodeId, outcome: PushOutcome, now: Now) {
        let is_theirs = outcome.waiter.is_moved;
        let mut bytes = outcome.to_bytes();
        if bytes.len() + ROOM_FOR_NAMES > self.max_payload {
            if !is_theirs {
                return self.post(outcome);
            }
            let reason = FailReason::BadAnswer;
            let failed = PushOutcome {
                outcome: Outcome::Failed { reason, sent: true },
                ..outcome
            };
            bytes = failed.to_bytes();
        }
        self.member.handle_outcome((node, is_theirs), bytes, now, &mut self.out);
    }

    fn do_what_is_due(&mut self, now: Now) {
        while let Some((client, connection)) = self.going.take_over(now.instant) {
            self.member.handle_gone(&client, &connection, &mut self.out);
        }
        self.member.set_room(self.has_room());
        if self.member.next_deadline(now.instant) <= now.instant {
            self.member.handle_deadline(now, &mut self.out);
        }
        self.act(now);
    }

    fn handle_event(&mut self, event: Event, now: Now) {
        match event {
            Event::Connected { max_payload, server } => {
                tracing::info!("cluster: NATS is there: {server}");
                self.max_payload = max_payload;
                self.seen.handle_connected(server, now.instant);
                self.seen_due = now.instant;
                self.member.handle_connected(now, &mut self.out);
                self.status.set_connected(true);
            }
            Event::Lost { why } => {
                // Before anybody is told: who asks again is not asked about.
                self.status.set_connected(false);
                tracing::warn!("cluster: NATS has gone: {why}");
                if self.member.is_connected() {
                    self.member.handle_lost(&mut self.out);
                }
                self.seen.handle_lost(why, now.instant);
                self.seen_due = now.instant;
            }
            Event::Failed { server, why } => {
                let why = format!("{server}: {why}");
                // Once for each reason: it is tried again and again.
                if self.seen.why != why {
                    tracing::warn!("cluster: NATS is not there: {why}");
                }
                self.seen.handle_lost(why, now.instant);
            }
            Event::Complaint { what } => {
                self.seen.counts.bad += 1;
                tracing::warn!("cluster: NATS: {what}");
            }
            Event::Message {
                subject,
                payload,
                is_no_responders,
                ..
            } => {
                self.seen.counts.received += 1;
                let subject = Subject::parse(&self.name, &subject);
                let is_understood = match subject {
                    Some(Subject::Node(node, number)) if is_no_responders => {
                        if node == self.own {
                            self.member.handle_nobody(number, now, &mut self.out);
                        }
                        true
                    }
                    Some(subject) => self.member.handle_message(subject, &payload, now, &mut self.out),
                    None => false,
                };
                self.seen.counts.bad += u64::from(!is_understood);
            }
        }
        self.act(now);
    }

    fn act(&mut self, now: Now) {
        while !self.out.is_empty() {
            for output in std::mem::take(&mut self.out) {
                self.act_on(output, now);
            }
        }
    }

    fn act_on(&mut self, output: Output, now: Now) {
        match output {
            Output::SubscribeOwn => {
                self.link.subscribe(SID_NODES, &Subject::Nodes.text(&self.name), None);
                self.link
                    .subscribe(SID_OWN, &Subject::all_to(&self.name, self.own), None);
            }
            Output::Subscribe { slot, client } => {
                let [asked, took] = sids(slot);
                let text = Subject::Client(client.clone()).text(&self.name);
                self.link.subscribe(asked, &text, Some(QUEUE));
                self.link.subscribe(took, &Subject::Took(client).text(&self.name), None);
            }
            Output::Unsubscribe { slot } => sids(slot).into_iter().for_each(|sid| self.link.unsubscribe(sid)),
            Output::Publish { to, reply, bytes } => {
                self.seen.counts.sent += 1;
                let reply = reply.map(|number| Subject::Node(self.own, number).text(&self.name));
                // What is not taken is lost, as anything may be.
                let published = self.link.publish(&to.text(&self.name), reply.as_deref(), &bytes);
                self.seen.counts.lost += u64::from(published.is_err());
            }
            Output::Question {
                shard,
                number,
                from,
                question,
                ..
            } => {
                self.seen.counts.served += 1;
                self.pass_on(shard.into(), number, from, &question, now);
            }
            Output::Answer { asker, answer } => {
                let bounds = self.bounds_of(asker.shard.into());
                let answer = answer.and_then(|bytes| match Told::read(&bytes) {
                    Ok(told) if check_told(&told, bounds) => Ok(Box::new(told)),
                    _ => {
                        self.seen.counts.bad += 1;
                        Err(Failure::Unanswered)
                    }
                });
                self.answer(asker, answer);
            }
            Output::Outcome(bytes) => {
                if let Some(outcome) = self.read_outcome(&bytes) {
                    let shard = outcome.waiter.shard.into();
                    self.mail(shard, FromCluster::Outcome(Box::new(outcome)));
                }
            }
            Output::PostOutcome(bytes) => {
                if let Some(outcome) = self.read_outcome(&bytes) {
                    self.post(outcome);
                }
            }
            Output::Replaced {
                shard,
                client,
                connection,
                by,
                node,
            } => {
                self.seen.counts.replaced += 1;
                let word = FromCluster::Replaced {
                    client,
                    connection,
                    by,
                    node,
                };
                self.mail(shard.into(), word);
            }
        }
    }

    /// A question of another node goes to the client's home, if it is one.
    fn pass_on(&mut self, shard: usize, number: u64, from: NodeId, question: &[u8], now: Now) {
        let read = Question::read(question)
            .ok()
            .filter(|question| check(question, self.bounds_of(shard)));
        if read.is_none() {
            self.seen.counts.bad += 1;
        }
        let has_room = self.unsent.len_of(shard) < UNSENT_MAX;
        let Some(mut question) = read.filter(|_| has_room) else {
            return self.member.handle_answer(number, None, &mut self.out);
        };
        name_waiter(&mut question.about, from);
        let question = FromCluster::Question {
            number,
            answer_by: now.instant + CARRY_OUT_WITHIN,
            question: Box::new(question),
        };
        self.mail(shard, question);
    }

    fn answer(&mut self, asker: Asker, answer: Result<Box<Told>, Failure>) {
        let token = asker.token;
        self.mail(asker.shard.into(), FromCluster::Answer { token, answer });
    }

    fn post(&mut self, outcome: PushOutcome) {
        let home = home_of(&self.hasher, &outcome.identity.client, self.outside.shards_count());
        self.mail(home, FromCluster::PostOutcome(Box::new(outcome)));
    }

    fn read_outcome(&mut self, bytes: &[u8]) -> Option<PushOutcome> {
        let len_max = self.bounds.iter().map(|bounds| bounds.payload_len_max).max();
        let depth_max = self.bounds.iter().map(|bounds| bounds.json_depth_max).max();
        let read = PushOutcome::read(bytes, len_max.unwrap_or(0), depth_max.unwrap_or(0)).ok();
        self.seen.counts.bad += u64::from(read.is_none());
        let mut outcome = read?;
        outcome.waiter.node = 0;
        Some(outcome)
    }

    fn mail(&mut self, shard: usize, word: FromCluster) {
        self.unsent.send(&self.outside, shard, Mail::Cluster(Box::new(word)));
    }

    fn bounds_of(&self, shard: usize) -> Bounds {
        self.bounds.get(shard).copied().unwrap_or(Bounds {
            payload_len_max: 0,
            json_depth_max: 0,
        })
    }

    fn has_room(&self) -> bool {
        self.link.waiting_len() < WAITING_LEN_MAX
    }

    /// Says how it is: to the shards at once, to operators from time to time.
    fn tell(&mut self, now: Now) {
        let clients = self.member.clients_count();
        self.status
            .set_unfinished(clients + self.going.len() + self.member.owed_count());
        if now.instant < self.seen_due {
            return;
        }
        self.seen_due = now.instant + SEEN_EVERY;
        self.seen.clients = clients;
        self.seen.asked = self.member.asked_count();
        self.seen.waiting_len = self.link.waiting_len();
        self.seen.has_room = self.has_room();
        self.seen.nodes = self.member.nodes(now);
        self.seen.max_payload = self.max_payload;
        seen::set(self.seen.clone());
    }

    fn wait(&self, now: Instant) {
        let deadlines = [
            Some(self.member.next_deadline(now)),
            Some(self.link.next_deadline(now)),
            self.going.next_deadline(),
            (!self.unsent.is_empty()).then(|| now + UNSENT_PAUSE),
        ];
        let next = deadlines.into_iter().flatten().fold(now + LOOK, Instant::min);
        let timeout = next.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(timeout).ok();
        let wants = self.link.wants();
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, wants.reads);
        wanted.set(PollFlags::OUT, wants.writes);
        let bell = PollFd::new(&self.ear.bell, PollFlags::IN);
        // Interrupted, it looks again.
        let _ = match &wants.fd {
            Some(socket) => poll(&mut [bell, PollFd::new(socket, wanted)], timeout.as_ref()),
            None => poll(&mut [bell], timeout.as_ref()),
        };
    }
}

/// From here on it is known which node the request waits at.
fn name_waiter(about: &mut About, node: NodeId) {
    let name = |waiter: &mut Waiter| waiter.node = node.number();
    match about {
        About::Push(push) => push.waiter.iter_mut().for_each(name),
        About::EndWait { waiter, .. } | About::ForgetWait { waiter, .. } => name(waiter),
        _ => {}
    }
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        instant: Instant::now(),
        unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    }
}

/// The subscriptions of a client: to what is asked about it, and to where else it is.
fn sids(slot: usize) -> [u64; 2] {
    let first = SID_CLIENTS + 2 * slot as u64;
    [first, first + 1]
}

const SID_NODES: u64 = 1;
const SID_OWN: u64 = 2;
const SID_CLIENTS: u64 = 16;
const QUEUE: &str = "node";
const WORDS_PER_TURN: usize = 1024;
/// What a message has besides what is asked or told.
const ROOM_FOR_NAMES: usize = 64;
/// Bytes that NATS has not taken yet; beyond that nothing new is asked or announced.
const WAITING_LEN_MAX: usize = 2 << 20;
/// Mail that waits for one shard; beyond that nothing new is carried out.
const UNSENT_MAX: usize = 1024;
const UNSENT_PAUSE: Duration = Duration::from_millis(1);
/// A shard that takes longer does not carry it out: whoever has asked waits for ten seconds, eight of which may be over.
const CARRY_OUT_WITHIN: Duration = Duration::from_millis(1_500);
const SEEN_EVERY: Duration = Duration::from_millis(500);
/// How often it looks around when nothing happens.
const LOOK: Duration = Duration::from_millis(500);
const LAST_WORDS: Duration = Duration::from_millis(500);

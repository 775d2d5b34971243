//! Holds the world of one run: clients that call, shards that send for them, and a backend of so many workers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::backend::{Arrival, Service, Work, Workers};
use crate::balance::KINDS;
use crate::capacity::{Borrower, Claim, Concurrency, Grant, Keeper, Limit};
use crate::random::Random;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    /// The client has its next Call.
    Due(usize),
    /// A worker is done with the client's Call.
    Finish(usize),
    /// The answer is with the shard.
    Answer(usize),
    /// The shard looks at what it has to say.
    Look(usize),
    /// The keeper does.
    Keep,
    /// A message arrives.
    Mail(usize),
}

#[derive(Debug)]
enum Mail {
    Claim(usize, Claim),
    Grant(usize, Grant),
}

pub(super) struct Shard {
    borrower: Borrower,
    waiting: VecDeque<usize>,
    pub(super) in_use: usize,
    looks_at: Option<u64>,
    stalled_until: u64,
    pub(super) answered: usize,
    ended: bool,
}

struct Client {
    shard: usize,
    asked: u64,
    sent: u64,
    due: u64,
    turned_away: bool,
    /// It was let in; what it asks from now on are Calls.
    is_in: bool,
}

/// What was seen in a window of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// The part of what the workers can do that was done.
    pub(super) goodput: f64,
    /// Requests that waited inside the backend, on average.
    pub(super) queue: f64,
    /// The longest that a client waited, in seconds.
    pub(super) longest: f64,
    /// Answers, by shard.
    pub(super) answered: Vec<usize>,
    pub(super) in_use_max: usize,
    pub(super) refused: usize,
}

pub(super) struct World {
    random: Random,
    pub(super) now: u64,
    base: Instant,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    pub(super) workers: Workers,
    pub(super) keeper: Keeper,
    keeps_at: Option<u64>,
    pub(super) shards: Vec<Shard>,
    clients: Vec<Client>,
    mail: Vec<Option<Mail>>,
    free_mail: Vec<usize>,
    pub(super) mail_count: usize,
    /// Of a hundred messages so many are lost.
    pub(super) lost_percent: usize,
    pause: u64,
    area_at: u64,
    busy: f64,
    queue: f64,
    window: Window,
}

impl World {
    /// `load`: how much more is wanted than the workers can do.
    pub(super) fn new(
        seed: u64,
        workers: Workers,
        concurrency: Concurrency,
        shards: usize,
        clients: usize,
        load: f64,
    ) -> Self {
        let base = Instant::now();
        let max = 256 * shards;
        let keeper = Keeper::new(base, Limit::new(concurrency, shards, max), shards);
        let start = keeper.limit().get();
        let shard = |index| Shard {
            borrower: Borrower::new(start, index, shards),
            waiting: VecDeque::new(),
            in_use: 0,
            looks_at: None,
            stalled_until: 0,
            answered: 0,
            ended: false,
        };
        let mut random = Random::new(seed);
        let pause = (clients as f64 * workers.mean / (load * workers.count as f64)) as u64;
        let client = |_| Client {
            // As clients are spread by a hash: not evenly.
            shard: random.below(shards),
            asked: 0,
            sent: 0,
            due: random.below(pause as usize + 1) as u64,
            turned_away: false,
            is_in: true,
        };
        let clients: Vec<Client> = (0..clients).map(client).collect();
        let mut world = Self {
            random,
            now: 0,
            base,
            events: BinaryHeap::new(),
            number: 0,
            workers,
            keeper,
            keeps_at: None,
            shards: (0..shards).map(shard).collect(),
            clients,
            mail: Vec::new(),
            free_mail: Vec::new(),
            mail_count: 0,
            lost_percent: 0,
            pause,
            area_at: 0,
            busy: 0.0,
            queue: 0.0,
            window: Window::default(),
        };
        for client in 0..world.clients.len() {
            world.at(world.clients[client].due, Event::Due(client));
        }
        world
    }

    /// All clients ask at once to be let in, before any of them calls.
    pub(super) fn knock_first(&mut self) {
        self.events.clear();
        for client in 0..self.clients.len() {
            self.clients[client].is_in = false;
            self.at(0, Event::Due(client));
        }
    }

    /// From now on the shard does nothing until then.
    pub(super) fn stall(&mut self, shard: usize, seconds: f64) {
        self.shards[shard].stalled_until = self.now + (seconds * 1e6) as u64;
    }

    /// The shard and its clients are gone.
    pub(super) fn end(&mut self, shard: usize) {
        self.shards[shard].ended = true;
    }

    /// So many clients are of this shard.
    pub(super) fn crowd(&mut self, shard: usize, clients: usize) {
        for client in &mut self.clients[..clients] {
            client.shard = shard;
        }
    }

    /// How many clients each shard has.
    pub(super) fn clients_of_shards(&self) -> Vec<usize> {
        let count = |shard| self.clients.iter().filter(|client| client.shard == shard).count();
        (0..self.shards.len()).map(count).collect()
    }

    pub(super) fn run(&mut self, seconds: f64) -> Window {
        let (start, end) = (self.now, self.now + (seconds * 1e6) as u64);
        self.measure();
        (self.busy, self.queue) = (0.0, 0.0);
        self.window = Window::default();
        let answered: Vec<usize> = self.shards.iter().map(|shard| shard.answered).collect();
        while let Some(&Reverse((at, _, event))) = self.events.peek()
            && at <= end
        {
            self.events.pop();
            self.now = at;
            if let Some(until) = self.stalled(event) {
                self.at(until, event);
                continue;
            }
            self.handle(event);
        }
        self.now = end;
        self.measure();
        let length = (end - start) as f64;
        let mut window = std::mem::take(&mut self.window);
        window.goodput = self.busy / (self.workers.count as f64 * length);
        window.queue = self.queue / length;
        let after = self.shards.iter().map(|shard| shard.answered);
        window.answered = after.zip(answered).map(|(after, before)| after - before).collect();
        window
    }

    fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at, self.number, event)));
    }

    fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    /// Whom an event is for may be unable to handle it now.
    fn stalled(&self, event: Event) -> Option<u64> {
        let shard = match event {
            Event::Due(client) | Event::Answer(client) => self.clients[client].shard,
            Event::Look(shard) => shard,
            Event::Keep => 0,
            Event::Mail(index) => match &self.mail[index] {
                Some(Mail::Grant(to, _)) => *to,
                _ => 0,
            },
            Event::Finish(_) => return None,
        };
        let until = self.shards[shard].stalled_until;
        (until > self.now).then_some(until)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Due(client) => {
                let shard = self.clients[client].shard;
                if self.shards[shard].ended {
                    return;
                }
                if !std::mem::take(&mut self.clients[client].turned_away) {
                    self.clients[client].asked = self.now;
                }
                self.shards[shard].waiting.push_back(client);
                self.advance(shard);
            }
            Event::Finish(client) => {
                self.measure();
                if let Some((next, until)) = self.workers.finish(self.now, &mut self.random) {
                    self.at(until, Event::Finish(next));
                }
                self.at(self.now + ROUND_TRIP, Event::Answer(client));
            }
            Event::Answer(client) => self.answer(client, false),
            Event::Look(shard) => {
                self.shards[shard].looks_at = None;
                self.advance(shard);
            }
            Event::Keep => {
                self.keeps_at = None;
                self.keep();
            }
            Event::Mail(index) => {
                self.free_mail.push(index);
                match self.mail[index].take().expect("it is on its way") {
                    Mail::Claim(from, claim) => {
                        self.keeper.handle_claim(self.instant(), from, claim);
                        self.keep();
                    }
                    Mail::Grant(to, grant) => {
                        if !self.shards[to].ended {
                            self.shards[to].borrower.handle_grant(grant);
                            self.advance(to);
                        }
                    }
                }
            }
        }
    }

    fn answer(&mut self, client: usize, is_refused: bool) {
        let index = self.clients[client].shard;
        let latency = Duration::from_micros(self.now - self.clients[client].sent);
        let shard = &mut self.shards[index];
        shard.in_use -= 1;
        shard.borrower.handle_answered(latency, is_refused);
        if is_refused {
            self.window.refused += 1;
            self.clients[client].turned_away = true;
            self.at(self.now + 100_000, Event::Due(client));
        } else if !std::mem::replace(&mut self.clients[client].is_in, true) {
            let due = self.now + self.clients[client].due;
            self.clients[client].due = due;
            self.at(due, Event::Due(client));
        } else {
            shard.answered += 1;
            let waited = (self.now - self.clients[client].asked) as f64 * 1e-6;
            self.window.longest = self.window.longest.max(waited);
            let due = (self.clients[client].due + self.pause).max(self.now);
            self.clients[client].due = due;
            self.at(due, Event::Due(client));
        }
        self.advance(index);
    }

    /// Sends what may be sent, and says what is to be said.
    fn advance(&mut self, index: usize) {
        let shard = &mut self.shards[index];
        if shard.ended {
            return;
        }
        while self.shards[index].in_use < self.shards[index].borrower.places()
            && let Some(client) = self.shards[index].waiting.pop_front()
        {
            self.shards[index].in_use += 1;
            self.clients[client].sent = self.now;
            self.measure();
            let work = if self.clients[client].is_in {
                Work::Call
            } else {
                Work::Knock
            };
            match self.workers.arrive(self.now, client, work, &mut self.random) {
                Arrival::Works { until } => self.at(until, Event::Finish(client)),
                Arrival::Waits => {}
                Arrival::TurnedAway => {
                    self.answer(client, true);
                }
            }
        }
        let in_use = self.shards.iter().map(|shard| shard.in_use).sum();
        self.window.in_use_max = self.window.in_use_max.max(in_use);
        let now = self.instant();
        let shard = &mut self.shards[index];
        let waiting = shard.waiting.len();
        if shard.borrower.may_claim(shard.in_use, waiting > 0) {
            let mut kinds = [0; KINDS];
            kinds[0] = waiting as u32;
            if let Some(claim) = shard.borrower.poll_claim(now, shard.in_use, kinds) {
                if index == 0 {
                    self.keeper.handle_claim(now, 0, claim);
                    self.keep();
                } else {
                    self.mail(Mail::Claim(index, claim));
                }
            }
            let shard = &mut self.shards[index];
            if shard.in_use < shard.borrower.places() && !shard.waiting.is_empty() {
                // Its keeper is silent.
                self.advance(index);
                return;
            }
            if let Some(next) = shard.borrower.next_deadline(shard.in_use, !shard.waiting.is_empty()) {
                let at = ((next - self.base).as_micros() as u64).max(self.now + 1);
                if shard.looks_at.is_none_or(|looks_at| at < looks_at) {
                    shard.looks_at = Some(at);
                    self.at(at, Event::Look(index));
                }
            }
        }
    }

    fn keep(&mut self) {
        let mut out = Vec::new();
        let now = self.instant();
        self.keeper.poll(now, &mut out);
        if let Some(next) = self.keeper.next_deadline() {
            let at = ((next - self.base).as_micros() as u64).max(self.now + 1);
            if self.keeps_at.is_none_or(|keeps_at| at < keeps_at) {
                self.keeps_at = Some(at);
                self.at(at, Event::Keep);
            }
        }
        for (to, grant) in out {
            if to == 0 {
                self.shards[0].borrower.handle_grant(grant);
                self.advance(0);
            } else {
                self.mail(Mail::Grant(to, grant));
            }
        }
    }

    fn mail(&mut self, mail: Mail) {
        self.mail_count += 1;
        if self.random.percent(self.lost_percent) {
            return;
        }
        let index = self.free_mail.pop().unwrap_or_else(|| {
            self.mail.push(None);
            self.mail.len() - 1
        });
        self.mail[index] = Some(mail);
        self.at(self.now + MAIL, Event::Mail(index));
    }

    fn measure(&mut self) {
        let elapsed = (self.now - self.area_at) as f64;
        self.busy += elapsed * self.workers.working.min(self.workers.count) as f64;
        self.queue += elapsed * self.workers.waiting.len() as f64;
        self.area_at = self.now;
    }
}

pub(super) fn workers(count: usize, mean_ms: f64, service: Service) -> Workers {
    Workers::new(count, mean_ms * 1000.0, service)
}

/// From the worker's end to the shard's next request, in µs.
const ROUND_TRIP: u64 = 300;
/// From shard to shard, in µs; in the order of its sending, as a ring keeps it.
const MAIL: u64 = 60;

//! Holds the world of one run: backends with moods, connections, requests, the clock, the dice.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::ledger::{Checked, Ledger, Link, Places, Reason, Record, Waiting, ensure};
use crate::balance::queue::SCAN_PAUSE;
use crate::balance::{Balance, ConnectFailure, Job, Kind, Limits, LinkId, Output, Refusal, Retry};
use crate::capacity::{Borrower, Grant};
use crate::random::Random;

/// A rule broken on purpose, by what the balance is told: the ledger has to notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// It believes that it may have one connection more.
    OneConnectionTooMany,
    /// It believes that one request more may wait.
    OneWaiterTooMany,
    /// It gets two requests in the wrong order.
    Overtaken,
    /// It is asked for deadlines an hour late.
    DeadlineForgotten,
    /// It does not hear of broken connections.
    FailureForgotten,
    /// It does not hear of requests that have no answer in time.
    TimeOutForgotten,
    /// It believes that nothing is tried again.
    RefusedAtOnce,
    /// It does not hear of every connection's end.
    EndForgotten,
    /// A connection is said to be idle while it works.
    BusyLinkIsIdle,
    /// Not every request that it hands out is written.
    UseForgotten,
    /// It believes that it has one place more at each backend.
    OnePlaceTooMany,
}

/// How a backend behaves for now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mood {
    Works,
    Refuses,
    Breaks,
    /// Connects neither succeed nor fail.
    Silent,
}

pub(super) struct World {
    random: Random,
    now: Instant,
    fault: Option<Fault>,
    balance: Balance<u32>,
    moods: Vec<Mood>,
    ledger: Ledger,
    out: Vec<Output<u32>>,
    /// Numbers the requests.
    count: u32,
    /// A request that the ledger has and the balance not yet.
    held: Option<Job<u32>>,
    is_finishing: bool,
    /// Numbers the grants of places.
    grants: u32,
    /// How often each thing happened.
    pub(super) happened: BTreeMap<&'static str, usize>,
}

impl World {
    /// `is_limited`: backends have places.
    pub(super) fn new(seed: u64, fault: Option<Fault>, is_limited: bool) -> Self {
        let mut random = Random::new(seed);
        let limits = Limits {
            connections_max: [1, 2, 3, 5, 8, 24][random.below(6)],
            pipeline_max: [1, 1, 2, 4][random.below(4)],
            waiters_max: [1, 4, 12, 40][random.below(4)],
            retry: Duration::from_secs([0, 2, 5][random.below(3)]),
        };
        let upstreams = 1 + random.below(3);
        let mut believed = limits;
        believed.connections_max += usize::from(fault == Some(Fault::OneConnectionTooMany));
        if fault == Some(Fault::RefusedAtOnce) {
            believed.retry = Duration::ZERO;
        }
        believed.waiters_max += usize::from(fault == Some(Fault::OneWaiterTooMany));
        let mut balance = Balance::new(upstreams, believed);
        let mut ledger = Ledger::new(limits, upstreams);
        let now = Instant::now();
        if is_limited {
            for upstream in 0..upstreams {
                balance.limit(upstream, Borrower::new(3, 0, 1));
                ledger.places[upstream] = Places { count: 3, since: now };
            }
        }
        Self {
            random,
            now,
            fault,
            balance,
            moods: vec![Mood::Works; upstreams],
            ledger,
            out: Vec::new(),
            count: 0,
            held: None,
            is_finishing: false,
            grants: 0,
            happened: BTreeMap::new(),
        }
    }

    pub(super) fn step(&mut self) -> Checked {
        match self.random.below(100) {
            0..28 => self.submit(),
            28..48 => self.finish_connect(),
            48..52 => self.slow_connect(),
            52..80 => self.work(),
            80..83 => self.die(),
            83..90 => self.send(),
            90..96 => self.pass_time(),
            96 => self.withdraw(),
            97 => self.look_up(),
            98 if self.ledger.is_limited(0) => self.grant(),
            _ => self.change_mood(),
        }?;
        self.check()
    }

    fn waiting(&self, job: &Job<u32>) -> Waiting {
        Waiting {
            request: job.request,
            kind: job.kind,
            deadline: job.deadline,
            since: job.came.unwrap_or(self.now),
        }
    }

    fn happen(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    fn check(&mut self) -> Checked {
        if self.held.is_some() {
            return Ok(());
        }
        self.ledger.check()?;
        let waiting = self.balance.waiting_count();
        ensure!(
            waiting == self.ledger.waiting.len() + self.ledger.later.len(),
            "{waiting} wait instead of {:?}",
            self.ledger.waiting
        );
        let idle = (0..self.moods.len()).map(|upstream| self.ledger.idle(upstream).count());
        let counts = (self.ledger.count(), idle.sum());
        let told = self.balance.connections_count();
        ensure!(told == counts, "connections: {told:?} instead of {counts:?}");
        let waiting = self.ledger.waiting.iter().chain(self.ledger.later.values());
        let earliest = waiting.map(|waiting| waiting.deadline).min();
        if let Some(earliest) = earliest {
            let watched = self.balance.next_deadline();
            ensure!(
                watched.is_some_and(|watched| watched <= earliest + SCAN_PAUSE),
                "deadline {watched:?} is watched instead of {earliest:?}"
            );
        }
        let there = (0..self.moods.len()).filter(|upstream| !self.ledger.records[*upstream].is_gone);
        let outages: Vec<_> = there
            .map(|upstream| self.balance.health(self.now, upstream).outage)
            .collect();
        if outages.iter().all(Option::is_some) {
            self.happen("down");
        }
        // Nobody has to ask to learn that it is back.
        if counts.0 == 0 && self.ledger.limits.connections_max > 1 && outages.iter().any(Option::is_some) {
            self.happen("down and not asked");
            ensure!(self.balance.next_deadline().is_some(), "who is down is not probed");
        }
        Ok(())
    }

    fn submit(&mut self) -> Checked {
        self.count += 1;
        let deadline = self.now + Duration::from_millis([500, 5_000, 25_000][self.random.below(3)]);
        let len = [10, 1_000, 70_000][self.random.below(3)];
        let kind = [Kind::Call, Kind::Call, Kind::Connect][self.random.below(3)];
        let mut job = Job::new(self.count, kind, deadline, len);
        if let Some(held) = &self.held {
            job.kind = held.kind;
        }
        self.ledger.waiting.push_back(self.waiting(&job));
        if self.fault == Some(Fault::Overtaken) && self.held.is_none() {
            self.held = Some(job);
            return Ok(());
        }
        self.hand_in(job)?;
        match self.held.take() {
            Some(held) => self.hand_in(held),
            None => Ok(()),
        }
    }

    fn hand_in(&mut self, job: Job<u32>) -> Checked {
        let (request, kind) = (job.request, job.kind);
        let taken = self.balance.handle_request(self.now, job, &mut self.out);
        if taken.is_err() {
            // Whose pause is over waits, too.
            let later = self.ledger.later.values().filter(|waiting| waiting.kind == kind);
            let count = self.ledger.waiting_count(kind) + later.count();
            let full = count > self.ledger.limits.waiters_max;
            ensure!(full, "{request} is shed though there is room");
            self.ledger.take(request);
            self.happen("request shed");
            return self.act_on(None);
        }
        self.ledger.taken += 1;
        self.act_on(Some(request))?;
        let waiting = self.ledger.waiting_count(kind);
        let waits = self.ledger.waiting.back().is_some_and(|last| last.request == request);
        ensure!(
            !waits || waiting <= self.ledger.limits.waiters_max,
            "{waiting} of one kind wait"
        );
        Ok(())
    }

    /// Does what the balance wants done. `new`: the request that has just been handed in.
    fn act_on(&mut self, new: Option<u32>) -> Checked {
        self.ledger.returned.clear();
        while !self.out.is_empty() {
            for output in std::mem::take(&mut self.out) {
                match output {
                    Output::Use { link, job } => self.write(link, job, new)?,
                    Output::Connect {
                        upstream, is_awaited, ..
                    } => {
                        self.ledger.connect(upstream, is_awaited)?;
                        self.happen(["connect that nobody awaits", "connect"][usize::from(is_awaited)]);
                    }
                    Output::Close(link) => {
                        let link = self.link(link)?;
                        link.closing = true;
                        let upstream = link.upstream;
                        let is_gone = self.ledger.records[upstream].is_gone;
                        self.happen(["closed to make room", "closed since its address is gone"][usize::from(is_gone)]);
                    }
                    Output::Refuse(request, Refusal::Refused) => {
                        self.ledger.refuse(self.now, request)?;
                        self.happen("refused");
                    }
                    Output::Refuse(request, Refusal::Deadline) => {
                        self.ledger.expire(self.now, request)?;
                        self.happen("deadline");
                    }
                    Output::Retry(Retry::Refused) => self.happen("tried again after a refusal"),
                    Output::Retry(Retry::NoWorkers) => self.happen("tried again after it was turned away"),
                    Output::Claim { upstream, claim } => {
                        ensure!(self.ledger.is_limited(upstream), "a claim without places");
                        let busy = self.ledger.with_requests(upstream);
                        ensure!(claim.in_use >= busy, "it has {busy}, and says {}", claim.in_use);
                        self.happen("claim");
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, id: LinkId, job: Job<u32>, new: Option<u32>) -> Checked {
        if self.fault == Some(Fault::UseForgotten) && self.random.percent(2) {
            // As if it had been written: nobody answers it.
            self.ledger.take(job.request);
            self.link(id)?.closing = true;
            return Ok(());
        }
        let is_new = new == Some(job.request);
        if self
            .ledger
            .links
            .get(&id)
            .is_some_and(|link| link.dead && !link.closing)
        {
            // The request never knew it.
            let link = self.link(id)?;
            link.closing = true;
            self.happen("idle connection found dead");
            self.ledger.returned.push(job.request);
            let front = std::iter::once(job);
            self.balance.handle_unsent(self.now, id, front, &mut self.out);
            return Ok(());
        }
        let what = self.ledger.use_link(self.now, id, job, is_new)?;
        self.happen(what);
        Ok(())
    }

    fn link(&mut self, id: LinkId) -> Result<&mut Link, String> {
        self.ledger
            .links
            .get_mut(&id)
            .ok_or_else(|| format!("{id:?} is not open"))
    }

    fn finish_connect(&mut self) -> Checked {
        if self.ledger.connects.is_empty() {
            return Ok(());
        }
        let index = self.random.below(self.ledger.connects.len());
        let connect = self.ledger.connects[index];
        let (upstream, is_awaited) = (connect.upstream, connect.is_awaited);
        let failure = match self.moods[upstream] {
            Mood::Silent => return Ok(()),
            Mood::Refuses => Some(ConnectFailure::Backend),
            _ if self.random.percent(4) => Some(ConnectFailure::NoRoom),
            _ => None,
        };
        self.ledger.connects.swap_remove(index);
        if let Some(failure) = failure {
            let is_noted = failure == ConnectFailure::Backend || self.ledger.links.is_empty();
            if is_noted {
                self.ledger.records[upstream].fail(self.now, Reason::Unreachable);
            }
            self.ledger.no_room = !is_noted;
            if is_noted {
                self.ledger.note_down(self.now, true);
            }
            self.happen(["connect without room", "connect refused"][usize::from(is_noted)]);
            self.balance
                .handle_connect_failed(self.now, upstream, is_awaited, failure, &mut self.out);
            return self.act_on(None);
        }
        self.ledger.no_room = false;
        self.ledger.down_since = None;
        self.ledger.records[upstream].connected();
        let id = self
            .balance
            .handle_connected(self.now, upstream, is_awaited, &mut self.out);
        let link = Link {
            upstream,
            jobs: VecDeque::new(),
            sent: self.now,
            gathers: false,
            closing: false,
            dead: false,
            owes: false,
        };
        let before = self.ledger.links.insert(id, link);
        ensure!(before.is_none(), "{id:?} is the name of two connections");
        self.act_on(None)
    }

    fn slow_connect(&mut self) -> Checked {
        let slow = |connect: &super::ledger::Connect| connect.is_awaited && !connect.is_slow;
        let Some(index) = self.ledger.connects.iter().position(slow) else {
            return Ok(());
        };
        self.happen("slow connect");
        let upstream = self.ledger.connects[index].upstream;
        self.ledger.connects[index].is_slow = true;
        let is_awaited = self.balance.handle_slow_connect(self.now, upstream, &mut self.out);
        self.ledger.connects[index].is_awaited = is_awaited;
        if !is_awaited {
            self.happen("slow connect awaited no longer");
        }
        self.act_on(None)
    }

    /// One connection goes on: it answers, breaks, or reports its end.
    fn work(&mut self) -> Checked {
        let ids: Vec<LinkId> = self.ledger.links.keys().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let id = ids[self.random.below(ids.len())];
        let link = &self.ledger.links[&id];
        let mood = self.moods[link.upstream];
        if link.closing && link.jobs.is_empty() {
            return self.end(id);
        }
        if link.owes {
            return self.owe(id);
        }
        if link.jobs.is_empty() {
            return Ok(());
        }
        if link.gathers {
            // It can answer, and break, when it has been asked.
            return self.send();
        }
        match mood {
            Mood::Works if !self.is_finishing && self.random.percent(10) => self.turn_away(id),
            Mood::Works => self.answer(id),
            Mood::Breaks => self.break_off(id),
            Mood::Silent => self.time_out(id),
            _ if self.random.percent(30) => self.break_off(id),
            _ => self.answer(id),
        }
    }

    fn answer(&mut self, id: LinkId) -> Checked {
        let link = self.link(id)?;
        link.jobs.pop_front();
        let (upstream, mut is_idle) = (link.upstream, link.jobs.is_empty() && !link.closing);
        self.ledger.ended += 1;
        self.happen("answer");
        self.ledger.records[upstream].answered(self.now);
        self.balance.handle_answered(self.now, id);
        is_idle |= self.fault == Some(Fault::BusyLinkIsIdle);
        if is_idle {
            self.balance.handle_idle(self.now, id, &mut self.out);
        }
        self.act_on(None)
    }

    /// The backend has no worker for a request.
    fn turn_away(&mut self, id: LinkId) -> Checked {
        let link = self.link(id)?;
        let job = link.jobs.pop_front().expect("it works on one");
        let (upstream, is_idle) = (link.upstream, link.jobs.is_empty() && !link.closing);
        self.ledger.records[upstream].answered(self.now);
        self.balance.handle_answered(self.now, id);
        if is_idle {
            self.balance.handle_idle(self.now, id, &mut self.out);
        }
        self.act_on(None)?;
        let waiting = self.waiting(&job);
        match self.balance.handle_turned_away(self.now, job, &mut self.out) {
            Ok(()) => {
                self.ledger.later.insert(waiting.request, waiting);
            }
            Err(_) => {
                self.ledger.ended += 1;
                self.happen("turned away for good");
            }
        }
        self.act_on(None)
    }

    fn break_off(&mut self, id: LinkId) -> Checked {
        let link = self.link(id)?;
        let upstream = link.upstream;
        let lost = std::mem::take(&mut link.jobs);
        link.closing = true;
        self.ledger.ended += lost.len();
        self.happen("broken");
        self.ledger.records[upstream].fail(self.now, Reason::Broken);
        if self.fault != Some(Fault::FailureForgotten) {
            self.balance.handle_broken(self.now, id);
        }
        self.end(id)
    }

    /// Its requests have no answer in time.
    fn time_out(&mut self, id: LinkId) -> Checked {
        let now = self.now;
        let link = self.link(id)?;
        let (upstream, sent) = (link.upstream, link.sent);
        let late = std::mem::take(&mut link.jobs);
        self.ledger.ended += late.len();
        self.happen("time-out");
        for _ in late {
            self.ledger.records[upstream].timed_out(now, sent);
            if self.fault != Some(Fault::TimeOutForgotten) {
                self.balance.handle_timed_out(now, id, sent);
            }
        }
        if self.balance.is_witness(id) {
            let is_room = self.ledger.count() < self.ledger.limits.connections_max;
            ensure!(is_room, "{id:?} is kept, and there is little room");
            let owing = self
                .ledger
                .links
                .values()
                .filter(|link| link.owes && link.upstream == upstream);
            ensure!(owing.count() == 0, "{id:?} is kept, and another one of {upstream}");
            self.happen("kept for what is owed");
            self.link(id)?.owes = true;
            return Ok(());
        }
        self.link(id)?.closing = true;
        self.end(id)
    }

    /// A connection that is kept for an answer that nobody waits for: it comes, or is not needed any more, or the connection breaks.
    fn owe(&mut self, id: LinkId) -> Checked {
        let upstream = self.link(id)?.upstream;
        if matches!(self.moods[upstream], Mood::Works | Mood::Refuses) || self.random.percent(30) {
            self.happen("what was owed");
            self.link(id)?.owes = false;
            self.ledger.records[upstream].answered(self.now);
            self.balance.handle_answered(self.now, id);
            self.balance.handle_idle(self.now, id, &mut self.out);
            return self.act_on(None);
        }
        if self.balance.is_witness(id) && self.moods[upstream] != Mood::Breaks {
            return Ok(());
        }
        self.link(id)?.closing = true;
        self.end(id)
    }

    /// A name has another address, or one less.
    fn look_up(&mut self) -> Checked {
        let there: Vec<usize> = (0..self.moods.len())
            .filter(|upstream| !self.ledger.records[*upstream].is_gone)
            .collect();
        if there.len() > 1 && (there.len() > 4 || self.random.percent(50)) {
            let gone = there[self.random.below(there.len())];
            self.ledger.records[gone].is_gone = true;
            self.happen("address gone");
            self.balance.handle_upstream_gone(self.now, gone, &mut self.out);
            return self.act_on(None);
        }
        self.happen("new address");
        let name = self.balance.handle_upstream();
        ensure!(!there.contains(&name), "two backends are called {name}");
        if name == self.moods.len() {
            self.moods.push(Mood::Works);
            self.ledger.records.push(Record::default());
            self.ledger.places.push(Places::unlimited(self.now));
        }
        self.moods[name] = Mood::Works;
        self.ledger.records[name] = Record::default();
        self.ledger.places[name] = Places::unlimited(self.now);
        Ok(())
    }

    /// A keeper gives or takes places.
    fn grant(&mut self) -> Checked {
        let count = self.random.below(7);
        for upstream in 0..self.moods.len() {
            if self.random.percent(60) {
                self.grant_places(upstream, count)?;
            }
        }
        Ok(())
    }

    fn grant_places(&mut self, upstream: usize, count: usize) -> Checked {
        if !self.ledger.is_limited(upstream) {
            return Ok(());
        }
        self.ledger.places[upstream] = Places { count, since: self.now };
        self.grants += 1;
        let grant = Grant {
            number: self.grants,
            places: count + usize::from(self.fault == Some(Fault::OnePlaceTooMany)),
            is_watched: self.random.percent(50),
        };
        self.happen("grant");
        self.balance.handle_grant(self.now, upstream, grant, &mut self.out);
        self.act_on(None)
    }

    fn end(&mut self, id: LinkId) -> Checked {
        self.ledger.links.remove(&id);
        if self.fault == Some(Fault::EndForgotten) && self.random.percent(50) {
            return Ok(());
        }
        self.balance.handle_ended(self.now, id, &mut self.out);
        self.act_on(None)
    }

    /// A connection dies while nothing was sent on it: idle, or while it gathers.
    fn die(&mut self) -> Checked {
        let unsent = |link: &Link| !link.closing && !link.owes && (link.jobs.is_empty() || link.gathers);
        let found = self.ledger.links.iter().find(|(_, link)| unsent(link));
        let Some((id, _)) = found else { return Ok(()) };
        let id = *id;
        let link = self.link(id)?;
        if link.jobs.is_empty() {
            link.dead = true;
            return Ok(());
        }
        link.closing = true;
        let unsent = std::mem::take(&mut link.jobs);
        for job in &unsent {
            let waiting = self.waiting(job);
            self.ledger.wait_again(waiting);
        }
        self.happen("unsent");
        self.balance
            .handle_unsent(self.now, id, unsent.into_iter(), &mut self.out);
        self.act_on(None)
    }

    /// The pass ends.
    fn send(&mut self) -> Checked {
        for link in self.ledger.links.values_mut().filter(|link| link.gathers) {
            link.gathers = false;
            link.sent = self.now;
        }
        self.balance.handle_sent();
        Ok(())
    }

    fn pass_time(&mut self) -> Checked {
        self.now += match self.balance.next_deadline() {
            Some(next) if self.random.percent(30) => next.saturating_duration_since(self.now),
            _ => Duration::from_millis(self.random.below(1_500) as u64),
        };
        let told = match self.fault {
            Some(Fault::DeadlineForgotten) => self.now - Duration::from_secs(3_600),
            _ => self.now,
        };
        self.ledger.note_down(self.now, false);
        self.balance.handle_deadline(told, &mut self.out);
        self.act_on(None)?;
        let mut waiting = self.ledger.waiting.iter().chain(self.ledger.later.values());
        let late = waiting.find(|waiting| waiting.deadline + SCAN_PAUSE <= self.now);
        ensure!(
            late.is_none() || self.held.is_some(),
            "{late:?} waits beyond its deadline"
        );
        Ok(())
    }

    fn withdraw(&mut self) -> Checked {
        let remainder = self.random.below(8) as u32;
        let is_given_up = |request: &u32| request % 8 == remainder;
        for request in self.balance.withdraw(is_given_up) {
            ensure!(is_given_up(&request), "{request} was not to be withdrawn");
            self.ledger.take(request);
            self.ledger.ended += 1;
            self.happen("withdrawn");
        }
        let mut waiting = self.ledger.waiting.iter().chain(self.ledger.later.values());
        let left = waiting.find(|waiting| is_given_up(&waiting.request));
        ensure!(left.is_none() || self.held.is_some(), "{left:?} was to be withdrawn");
        Ok(())
    }

    fn change_mood(&mut self) -> Checked {
        let upstream = self.random.below(self.moods.len());
        let moods = [Mood::Works, Mood::Works, Mood::Refuses, Mood::Breaks, Mood::Silent];
        self.moods[upstream] = moods[self.random.below(moods.len())];
        Ok(())
    }

    /// All backends work again, and all requests end.
    pub(super) fn finish(&mut self) -> Checked {
        self.moods.fill(Mood::Works);
        for upstream in 0..self.moods.len() {
            self.grant_places(upstream, 100)?;
        }
        if let Some(held) = self.held.take() {
            self.hand_in(held)?;
        }
        self.is_finishing = true;
        for step in 0..2_000 {
            if step % 50 == 0 {
                self.pass_time()?;
            }
            self.finish_connect()?;
            self.send()?;
            self.work()?;
            self.check()?;
        }
        let ids: Vec<LinkId> = self.ledger.links.keys().copied().collect();
        for id in ids {
            while self.ledger.links.get(&id).is_some_and(|link| !link.jobs.is_empty()) {
                self.send()?;
                self.answer(id)?;
            }
        }
        let Ledger { taken, ended, .. } = self.ledger;
        ensure!(
            taken == ended,
            "{taken} requests were taken, {ended} ended: without an end"
        );
        Ok(())
    }
}

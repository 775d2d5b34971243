//! Decides which backend gets the next request, who is left alone, when to connect and whom to probe, without I/O.
//!
//! Requests, the news of connections and the time enter through `handle_*`; what is to be done comes out as
//! [`Output`]s, in the order in which it is to be done. The caller owns the sockets, passes `now`, and calls
//! [`handle_deadline`](Balance::handle_deadline) at [`next_deadline`](Balance::next_deadline).
//!
//! Of several backends the least busy one comes first. One that fails (refuses connections, ends them without an
//! answer, or answers nothing at all in a request's time) is left alone for a while, longer each time, and then probed:
//! with a connection that no request waits for, and with one request at a time until it has answered one.
//!
//! Invariants:
//! - There are never more than `connections_max` connections, connects under way included.
//! - A connection gets a request when it is idle, or, with `pipeline_max` above 1, while what it has got was not sent yet.
//! - At most `waiters_max` requests wait, not counting those that come back. Those of a kind are served in the order of arrival, also
//!   those that come back.
//! - No backend has more requests than this shard has places there, but for those that it had before it lost some.
//! - Every request that was taken comes out again: to be used, to be refused, or withdrawn.

mod connecting;
mod health;
mod later;
mod links;
mod places;
mod queue;
mod upstream;

use std::time::{Duration, Instant};

pub use self::health::{Health, Outage, OutageReason};
pub use self::links::LinkId;
pub(crate) use self::queue::WEIGHTS;
pub use self::queue::{Job, KINDS, Kind};

use self::later::Later;
use self::links::Links;
use self::queue::Queue;
use self::upstream::Upstream;
use crate::capacity::Claim;

/// The bounds on connections and waiting requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections to all backends together.
    pub connections_max: usize,
    /// Requests in flight on one of them; 1: none is pipelined.
    pub pipeline_max: usize,
    /// Requests of each kind that wait for one.
    pub waiters_max: usize,
    /// For so long a request is tried again that cannot have been executed.
    pub retry: Duration,
}

/// What is to be done.
#[derive(Debug, Eq, PartialEq)]
pub enum Output<R> {
    /// Write this request to this connection, behind those that it has got and that were not sent yet.
    Use {
        /// It is idle or still gathers requests.
        link: LinkId,
        /// The request to write, or that nothing is left to write but a connection's end.
        job: Job<R>,
    },
    /// Open a connection, and report how that went.
    Connect {
        /// The backend's index in the configuration.
        upstream: usize,
        /// A request waits for it. Goes back with the report.
        is_awaited: bool,
        /// Not before so much time has passed.
        pause: Option<Duration>,
    },
    /// Close this connection, and report its end.
    Close(LinkId),
    /// Answer this request: it was not sent.
    Refuse(R, Refusal),
    /// A request is tried again.
    Retry(Retry),
    /// Say this to the keeper of this backend's places.
    Claim {
        /// The backend's index in the configuration.
        upstream: usize,
        /// How things are here.
        claim: Claim,
    },
}

/// Why a request is tried again: it was not executed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// No connection could be opened.
    Refused,
    /// The backend had no worker for it.
    NoWorkers,
}

/// Why a request is not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No connection could be opened.
    Refused,
    /// No connection was free in time.
    Deadline,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectFailure {
    /// The backend did not take it.
    Backend,
    /// It took it, and no TLS came about.
    Tls,
    /// We have no room for one connection more: nobody's fault.
    NoRoom,
}

/// A shard's connections to all backends, as far as choosing among them goes. `R` is a request.
#[derive(Debug)]
pub struct Balance<R> {
    limits: Limits,
    upstreams: Vec<Upstream>,
    links: Links,
    waiting: Queue<R>,
    /// Those that were turned away and are tried again in a while.
    later: Later<R>,
    /// Numbers the requests.
    arrivals: u32,
    /// There is no connection, and nobody to open one to who has not failed.
    down: Option<Down>,
    /// Connects under way, for whichever waiting request comes first.
    awaited: usize,
    /// The connection that got the last request, while it can get another one.
    shared: Option<Shared>,
    /// A connection is being closed so that another backend can have one.
    is_making_room: bool,
}

#[derive(Debug)]
struct Down {
    /// When the first connect failed.
    since: Instant,
    /// When the last one did.
    failed: Instant,
}

#[derive(Debug)]
struct Shared {
    link: LinkId,
    kind: Kind,
    count: usize,
    len: usize,
}

impl<R> Balance<R> {
    /// A choice among `upstreams_count` backends, to none of which there is a connection.
    #[must_use]
    pub fn new(upstreams_count: usize, limits: Limits) -> Self {
        assert!(upstreams_count > 0, "the config has a backend");
        debug_assert!(limits.connections_max > 0);
        debug_assert!(limits.pipeline_max > 0);
        Self {
            limits,
            upstreams: (0..upstreams_count).map(|_| Upstream::default()).collect(),
            links: Links::default(),
            waiting: Queue::default(),
            later: Later::default(),
            arrivals: 0,
            down: None,
            awaited: 0,
            shared: None,
            is_making_room: false,
        }
    }

    /// A new request: it gets an idle connection. If there is none, it shares one, or waits.
    ///
    /// # Errors
    /// The request comes back when too many of its kind wait already.
    #[inline]
    pub fn handle_request(&mut self, now: Instant, mut job: Job<R>, out: &mut Vec<Output<R>>) -> Result<(), R> {
        self.arrivals = self.arrivals.wrapping_add(1);
        job.arrival = self.arrivals;
        self.level(now, out);
        if let Some(link) = self.checkout(now) {
            self.begin(link, job, out);
            return Ok(());
        }
        if let Some(link) = self.share(&job) {
            out.push(Output::Use { link, job });
            return Ok(());
        }
        if self.waiting.len_of(job.kind) >= self.limits.waiters_max {
            return Err(job.request);
        }
        let came = Some(now);
        self.waiting.push_back(Job { came, ..job });
        self.connect_more(now, out);
        self.poll_claims(now, out);
        Ok(())
    }

    /// These requests were not sent, not a byte of them, because their connection is of no more use: they get another, before all that
    /// came after them.
    pub fn handle_unsent(
        &mut self,
        now: Instant,
        link: LinkId,
        jobs: impl Iterator<Item = Job<R>>,
        out: &mut Vec<Output<R>>,
    ) {
        self.share_no_more(link);
        let mut jobs = jobs.peekable();
        while jobs.peek().is_some()
            && let Some(link) = self.checkout(now)
        {
            let first = jobs.next().expect("it was looked at");
            self.begin(link, first, out);
        }
        jobs.for_each(|job| self.wait_again(now, job));
        self.connect_more(now, out);
        self.poll_claims(now, out);
    }

    /// All requests that were to be used have been sent: they share their connections with no others.
    pub fn handle_sent(&mut self) {
        self.shared = None;
    }

    /// A connect has succeeded. Returns the connection's name, which outputs use from now on.
    pub fn handle_connected(
        &mut self,
        now: Instant,
        upstream: usize,
        is_awaited: bool,
        out: &mut Vec<Output<R>>,
    ) -> LinkId {
        self.awaited -= usize::from(is_awaited);
        self.down = None;
        let link = self.links.insert(upstream);
        self.upstreams[upstream].connects -= 1;
        self.upstreams[upstream].handle_connected(now, link);
        self.handle_idle(now, link, out);
        self.connect_more(now, out);
        link
    }

    /// A connect has failed.
    pub fn handle_connect_failed(
        &mut self,
        now: Instant,
        upstream: usize,
        is_awaited: bool,
        failure: ConnectFailure,
        out: &mut Vec<Output<R>>,
    ) {
        self.awaited -= usize::from(is_awaited);
        self.upstreams[upstream].connects -= 1;
        self.upstreams[upstream].count -= 1;
        if failure == ConnectFailure::NoRoom && !self.links.is_empty() {
            // The backend has refused nothing: those that wait get one of the open connections in their turn.
            return;
        }
        let reason = match failure {
            ConnectFailure::Backend => OutageReason::Unreachable,
            ConnectFailure::Tls => OutageReason::Tls,
            ConnectFailure::NoRoom => OutageReason::NoRoom,
        };
        self.upstreams[upstream].handle_connect_failed(now, reason);
        if self.is_without_hope() {
            let since = self.down.as_ref().map_or(now, |down| down.since);
            self.down = Some(Down { since, failed: now });
        }
        self.refuse(now, out);
        if is_awaited && !self.waiting.is_empty() && self.links.is_empty() {
            out.push(Output::Retry(Retry::Refused));
        }
        self.connect_more(now, out);
    }

    /// A connect that is awaited takes long. Returns whether it still is: where another backend works, that one is
    /// asked too, lest who waits depends on this one.
    pub fn handle_slow_connect(&mut self, now: Instant, upstream: usize, out: &mut Vec<Output<R>>) -> bool {
        if !self.has_other_good(upstream) {
            return true;
        }
        self.awaited -= 1;
        self.connect_more(now, out);
        false
    }

    /// A connection has nothing to do: the longest waiting requests get it, or it waits on top of the idle ones.
    #[inline]
    pub fn handle_idle(&mut self, now: Instant, link: LinkId, out: &mut Vec<Output<R>>) {
        let upstream = self.links.upstream(link);
        if self.upstreams[upstream].is_gone {
            out.push(Output::Close(link));
            return;
        }
        if self.must_make_room(now, upstream) {
            self.is_making_room = true;
            out.push(Output::Close(link));
            return;
        }
        // It is not among the idle ones now.
        let first = match self.upstreams[upstream].is_over() {
            true => None,
            false => self.waiting.pop(),
        };
        let Some(first) = first else {
            self.upstreams[upstream].idle.push(link);
            self.poll_claims(now, out);
            return;
        };
        let kind = first.kind;
        self.begin(link, first, out);
        for _ in 1..self.limits.pipeline_max {
            let Some(job) = self.waiting.pop_of(kind) else { break };
            let Some(link) = self.share(&job) else {
                self.waiting.put_back(job);
                break;
            };
            out.push(Output::Use { link, job });
        }
        self.poll_claims(now, out);
    }

    /// A backend has answered a request.
    #[inline]
    pub fn handle_answered(&mut self, now: Instant, link: LinkId) {
        self.upstreams[self.links.upstream(link)].handle_answered(now, link);
    }

    /// A request that was sent at `sent` has no answer in time. The connection may be of use all the same: see
    /// [`is_witness`](Self::is_witness).
    pub fn handle_timed_out(&mut self, now: Instant, link: LinkId, sent: Instant) {
        // Where all are taken, those that wait need it.
        let has_room = self.count() < self.limits.connections_max;
        let upstream = &mut self.upstreams[self.links.upstream(link)];
        upstream.handle_timed_out(now, sent);
        upstream.keep_witness(link, has_room);
    }

    /// Whether this connection is kept for the answer that a silent backend owes on it, which would be the first sign that it is back.
    #[must_use]
    pub fn is_witness(&self, link: LinkId) -> bool {
        self.upstreams[self.links.upstream(link)].is_witness(link)
    }

    /// A backend has ended this connection without an answer to the request on it.
    pub fn handle_broken(&mut self, now: Instant, link: LinkId) {
        self.upstreams[self.links.upstream(link)].handle_broken(now);
    }

    /// The backend has taken a connection, and then refused us on it: it is down as one is whose handshake fails.
    pub fn handle_refused(&mut self, now: Instant, link: LinkId) {
        self.upstreams[self.links.upstream(link)].handle_refused(now);
    }

    /// The backend had no worker for this request, and has not executed it.
    ///
    /// # Errors
    /// It comes back when there is no time, or no room, for another try.
    pub fn handle_turned_away(&mut self, now: Instant, job: Job<R>, out: &mut Vec<Output<R>>) -> Result<(), Job<R>> {
        if self.later.len() >= self.limits.waiters_max {
            return Err(job);
        }
        self.later.keep(now, job, self.limits.retry)?;
        out.push(Output::Retry(Retry::NoWorkers));
        Ok(())
    }

    /// A connection has ended, whoever ended it.
    pub fn handle_ended(&mut self, now: Instant, link: LinkId, out: &mut Vec<Output<R>>) {
        self.upstreams[self.links.remove(link)].handle_ended(now, link);
        self.share_no_more(link);
        self.is_making_room = false;
        self.level(now, out);
        self.use_places(now, out);
        self.poll_claims(now, out);
    }

    /// There is one backend more. Returns its name; that of one that has gone is given again.
    pub fn handle_upstream(&mut self) -> usize {
        let is_free = |upstream: &Upstream| upstream.is_gone && upstream.count == 0;
        if let Some(free) = self.upstreams.iter().position(is_free) {
            self.upstreams[free] = Upstream::default();
            return free;
        }
        self.upstreams.push(Upstream::default());
        self.upstreams.len() - 1
    }

    /// This is no backend any more. Its connections end when they have nothing to do; requests go to the others, of
    /// which there must be one.
    pub fn handle_upstream_gone(&mut self, now: Instant, upstream: usize, out: &mut Vec<Output<R>>) {
        let gone = &mut self.upstreams[upstream];
        gone.is_gone = true;
        out.extend(gone.idle.drain(..).map(Output::Close));
        if self
            .shared
            .as_ref()
            .is_some_and(|shared| self.links.upstream(shared.link) == upstream)
        {
            self.shared = None;
        }
        assert!(self.upstreams().next().is_some(), "there is another backend");
        self.connect_more(now, out);
    }

    /// Refuses the waiting requests whose time is over, tries those again whose pause is, and probes who is down and not asked.
    pub fn handle_deadline(&mut self, now: Instant, out: &mut Vec<Output<R>>) {
        while let Some(job) = self.later.pop_due(now) {
            if job.deadline > now
                && let Some(link) = self.checkout(now)
            {
                self.begin(link, job, out);
            } else {
                self.wait_again(now, job);
            }
        }
        let expired = self.waiting.take_expired(now).into_iter();
        out.extend(expired.map(|job| Output::Refuse(job.request, Refusal::Deadline)));
        self.refuse(now, out);
        self.poll_claims(now, out);
        self.use_places(now, out);
        self.probe(now, out);
    }

    /// When [`handle_deadline`](Self::handle_deadline) is to be called; too early does no harm.
    #[must_use]
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        let probe = self.upstreams.iter().filter_map(Upstream::probe_at).min();
        let probe = probe.filter(|_| self.may_probe());
        let claim = self.next_claim();
        if self.waiting_count() == 0 {
            return [probe, claim].into_iter().flatten().min();
        }
        let hopeless = self.down.as_ref().and_then(|down| {
            let refused = self.waiting.fronts().filter_map(|job| self.refused_at(down, job));
            refused.min()
        });
        let times = [self.waiting.next_deadline(), self.later.next(), hopeless, probe, claim];
        times.into_iter().flatten().min()
    }

    /// Takes out the waiting requests for which `is_given_up` says so.
    pub fn withdraw(&mut self, is_given_up: impl Fn(&R) -> bool) -> Vec<R> {
        let mut given_up = self.waiting.withdraw(&is_given_up);
        given_up.extend(self.later.withdraw(is_given_up));
        given_up
    }

    /// Requests that wait for a connection, or for their next try.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.waiting.len() + self.later.len()
    }

    /// Connections open or being opened, and how many of them are idle.
    #[must_use]
    pub fn connections_count(&self) -> (usize, usize) {
        let idle = self.upstreams.iter().map(|upstream| upstream.idle.len());
        (self.count(), idle.sum())
    }

    /// How the backend of that name is, by what was heard of it last, however long ago that was.
    #[must_use]
    pub fn health(&self, now: Instant, upstream: usize) -> Health {
        self.upstreams[upstream].health(now)
    }

    /// Gives an idle connection, which is not among the idle ones any more, its request.
    #[inline]
    fn begin(&mut self, link: LinkId, job: Job<R>, out: &mut Vec<Output<R>>) {
        if self.limits.pipeline_max > 1 {
            self.shared = Some(Shared {
                link,
                kind: job.kind,
                count: 1,
                len: job.len,
            });
        }
        out.push(Output::Use { link, job });
    }

    /// Adds a request to those of the connection that got the last one, if they are of one kind: a quick one does not
    /// wait behind those that may take long.
    #[inline]
    fn share(&mut self, job: &Job<R>) -> Option<LinkId> {
        let pipeline_max = self.limits.pipeline_max;
        let shared = self.shared.as_mut()?;
        let has_room = shared.has_room(pipeline_max) && shared.kind == job.kind;
        has_room.then(|| {
            shared.count += 1;
            shared.len += job.len;
            shared.link
        })
    }

    fn share_no_more(&mut self, link: LinkId) {
        if self.shared.as_ref().is_some_and(|shared| shared.link == link) {
            self.shared = None;
        }
    }

    /// An idle connection of the least busy backend.
    #[inline]
    fn checkout(&mut self, now: Instant) -> Option<LinkId> {
        if !self.waiting.is_empty() {
            // They came first, and a connect is under way for them.
            return None;
        }
        self.take_idle(now)
    }

    /// An idle connection of the least busy backend at which a place is free.
    #[inline]
    fn take_idle(&mut self, now: Instant) -> Option<LinkId> {
        let may_connect = self.count() < self.limits.connections_max;
        let is_any_good = self.is_any_good();
        let is_ready = |upstream: &Upstream| !upstream.idle.is_empty() && upstream.has_place();
        let ready = self.upstreams.iter_mut().filter(|upstream| is_ready(upstream));
        let upstream = ready.min_by_key(|upstream| (!upstream.is_open(now), upstream.busy_count()))?;
        if !upstream.is_open(now) && is_any_good && may_connect {
            // Rather a new connection to one that works.
            return None;
        }
        upstream.idle.pop()
    }

    /// A request that has had a connection, or should have, waits again, where it would stand if it had waited all the time.
    fn wait_again(&mut self, now: Instant, mut job: Job<R>) {
        job.came.get_or_insert(now);
        self.waiting.put_back(job);
    }

    /// Gives those back that have waited for long enough for a backend that is down. While connections work they wait for one of
    /// them instead: a backend that is busy also refuses.
    fn refuse(&mut self, now: Instant, out: &mut Vec<Output<R>>) {
        if !self.is_without_hope() {
            self.down = None;
        }
        loop {
            let Some(down) = &self.down else { return };
            let is_hopeless = |job: &&Job<R>| self.refused_at(down, job).is_some_and(|at| at <= now);
            let Some(kind) = self.waiting.fronts().find(is_hopeless).map(|job| job.kind) else {
                return;
            };
            let job = self.waiting.pop_of(kind).expect("it is in front");
            out.push(Output::Refuse(job.request, Refusal::Refused));
        }
    }

    /// When a request is given up that waits for a backend that is down. One connect at least has to fail after it came.
    fn refused_at(&self, down: &Down, job: &Job<R>) -> Option<Instant> {
        let came = job.came.unwrap_or(down.since);
        (down.failed > came).then(|| came.max(down.since) + self.limits.retry)
    }

    /// There is no connection, and nobody to open one to who has not failed.
    fn is_without_hope(&self) -> bool {
        self.links.is_empty() && !self.is_any_good()
    }

    /// True when a backend that has not failed is there beside this one.
    fn has_other_good(&self, index: usize) -> bool {
        let mut others = self.upstreams.iter().enumerate().filter(|(other, _)| *other != index);
        others.any(|(_, upstream)| !upstream.is_gone && !upstream.is_suspect())
    }

    /// True when one of the backends has not failed.
    fn is_any_good(&self) -> bool {
        self.upstreams().any(|upstream| !upstream.is_suspect())
    }

    /// Those that have not gone.
    fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.upstreams.iter().filter(|upstream| !upstream.is_gone)
    }

    /// Connections to all backends, connects under way included.
    fn count(&self) -> usize {
        self.upstreams.iter().map(|upstream| upstream.count).sum()
    }

    /// Connects under way, awaited or not.
    fn connecting_count(&self) -> usize {
        self.upstreams.iter().map(|upstream| upstream.connects).sum()
    }
}

impl Shared {
    fn has_room(&self, pipeline_max: usize) -> bool {
        self.count < pipeline_max && self.len < SHARED_LEN_MAX
    }
}

/// A connection with requests of so many bytes gets no further one.
const SHARED_LEN_MAX: usize = 64 * 1024;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

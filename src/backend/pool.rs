//! Keeps a shard's connections to the backend, and does with them what [`Balance`] decides.
//!
//! [`Pool::submit`] gives a request to an idle connection, if there is one; it leaves at once, or in a pass with many events
//! at its end ([`Pool::send_batch`]), with no task between. The answer comes through [`Exchange::finish`], exactly once for
//! every request that was taken. A request is tried again only where it cannot have been executed: the connect failed,
//! nothing of it was written, or the backend says so.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use shards::{Reactor, Timer, spawn};

use super::batch::Batch;
use super::connect::Place;
use super::exchange::Exchange;
use super::lending::{Lending, Neighbours, PlacesKey};
use super::limits::PoolLimits;
use super::link::{Answered, Link, Owner, Shared};
use super::targets;
use crate::env::buffers::Buffers;
use crate::observe::backends::{AddressReport, BackendReport, BackendTally, Places};
use crate::observe::counters::Counters;
use protocol::balance::{Balance, Job, Limits, LinkId, Output, Refusal, Retry};
use protocol::http::{Failure, RequestTemplate};

mod addresses;
mod connecting;

/// A shard's connections to all backends.
pub struct Pool<E: Exchange> {
    reactor: Rc<Reactor>,
    shared: Rc<Shared>,
    balance: RefCell<Balance<E>>,
    /// An empty list, for what the balance wants done.
    outputs: Cell<Vec<Output<E>>>,
    /// In the order of the configuration.
    backends: Vec<Backend>,
    /// Each address of each backend; the balance names them by their place here.
    upstreams: RefCell<Vec<Upstream>>,
    /// All that are open, by their names.
    links: RefCell<Vec<Option<Rc<Link<E>>>>>,
    /// Where requests are put together.
    batch: RefCell<Batch<E>>,
    watcher: Watcher,
    lending: Lending,
}

/// One backend of the configuration.
struct Backend {
    name: Arc<str>,
    tally: Rc<BackendTally>,
}

/// One address of a backend.
#[derive(Clone)]
struct Upstream {
    /// The backend's index in the configuration.
    backend: usize,
    place: Place,
    template: Rc<RequestTemplate>,
    /// The name of its places.
    places: PlacesKey,
    is_gone: bool,
}

/// Watches the waiting requests' deadlines.
#[derive(Default)]
struct Watcher {
    waker: Cell<Option<Waker>>,
    watched: Cell<Option<Instant>>,
}

impl<E: Exchange> Pool<E> {
    /// A pool for these backends.
    pub fn new(
        reactor: &Rc<Reactor>,
        limits: PoolLimits,
        (counters, buffers): (Rc<Counters>, Rc<Buffers>),
        backends: Vec<targets::Backend>,
        neighbours: Neighbours,
    ) -> Rc<Self> {
        let bounds = Limits {
            connections_max: limits.connections_max,
            pipeline_max: limits.pipeline_max,
            waiters_max: limits.waiters_max,
            retry: limits.retry,
        };
        let shared = Shared {
            limits,
            counters,
            buffers,
            incoming: RefCell::new(vec![0; INCOMING_LEN]),
        };
        let named = backends.iter().map(|backend| Backend {
            name: backend.name.as_str().into(),
            tally: Rc::default(),
        });
        let named = named.collect();
        let lending = Lending::new(neighbours);
        let lends = &lending;
        let upstreams = backends.into_iter().enumerate().flat_map(|(backend, known)| {
            let template = Rc::new(known.template);
            known.target.places().into_iter().map(move |place| Upstream {
                backend,
                places: lends.key(backend, &place),
                place,
                template: template.clone(),
                is_gone: false,
            })
        });
        let upstreams: Vec<Upstream> = upstreams.collect();
        let mut balance = Balance::new(upstreams.len(), bounds);
        for upstream in 0..upstreams.len() {
            balance.limit(upstream, lending.borrower());
        }
        let pool = Rc::new(Self {
            reactor: reactor.clone(),
            shared: Rc::new(shared),
            balance: RefCell::new(balance),
            outputs: Cell::default(),
            backends: named,
            upstreams: RefCell::new(upstreams),
            links: RefCell::default(),
            batch: RefCell::default(),
            watcher: Watcher::default(),
            lending,
        });
        spawn(pool.clone().watch());
        pool
    }

    /// Sends a request, in this pass or when a connection is free.
    ///
    /// # Errors
    /// The request comes back when too many wait already; the caller finishes it.
    pub fn submit(self: &Rc<Self>, exchange: E) -> Result<(), E> {
        let (kind, deadline, len) = (exchange.kind(), exchange.deadline(), exchange.content_len());
        let job = Job::new(exchange, kind, deadline, len);
        let taken = self.handle(|balance, now, out| balance.handle_request(now, job, out));
        if taken.is_err() {
            self.shared.counters.backend_shed.add();
        }
        taken
    }

    /// Requests that wait for a connection.
    pub fn waiting_count(&self) -> usize {
        self.balance.borrow().waiting_count()
    }

    /// Connections open or being opened, and how many of them are idle.
    pub fn connections_count(&self) -> (usize, usize) {
        self.balance.borrow().connections_count()
    }

    /// How each backend is, and what became of its requests.
    pub fn report(&self) -> Vec<BackendReport> {
        let (balance, upstreams, now) = (self.balance.borrow(), self.upstreams.borrow(), self.reactor.now());
        let addresses = |backend| {
            let own = upstreams.iter().enumerate();
            let own = own.filter(move |(_, upstream)| upstream.backend == backend && !upstream.is_gone);
            own.map(|(name, upstream)| AddressReport {
                address: upstream.place.to_string(),
                health: balance.health(now, name),
                places: {
                    let (count, in_use) = balance.places(name).unwrap_or_default();
                    let lent = self.lending.lent(upstream.places);
                    Places { count, in_use, lent }
                },
            })
        };
        let backends = self.backends.iter().enumerate();
        let reports = backends.map(|(index, backend)| BackendReport {
            name: backend.name.clone(),
            addresses: addresses(index).collect(),
            results: backend.tally.read(),
        });
        reports.collect()
    }

    /// Gives up those that wait and for which `is_given_up` says so.
    pub fn withdraw(&self, is_given_up: impl Fn(&E) -> bool) {
        let withdrawn = self.balance.borrow_mut().withdraw(is_given_up);
        for exchange in withdrawn {
            exchange.finish(Err(Failure::Shutdown));
        }
    }

    /// Gives up every request for which `is_given_up` says so, waiting or at the backend.
    pub fn give_up(&self, is_given_up: impl Fn(&E) -> bool) {
        let mut given_up = self.balance.borrow_mut().withdraw(&is_given_up);
        let links = self.links.borrow();
        given_up.extend(links.iter().flatten().flat_map(|link| link.give_up(&is_given_up)));
        drop(links);
        for exchange in given_up {
            exchange.finish(Err(Failure::Shutdown));
        }
    }

    /// Ends the connections that have no request: the shard is at its end, and nothing is to be asked any more.
    pub fn close_idle(&self) {
        let links = self.links.borrow();
        for link in links.iter().flatten().filter(|link| link.is_idle()) {
            link.close();
        }
    }

    /// True when nothing is gathered.
    pub fn is_batch_empty(&self) -> bool {
        self.batch.borrow().is_empty()
    }

    /// Sends what was gathered. Called at the end of every pass.
    pub fn send_batch(self: &Rc<Self>) {
        while !self.is_batch_empty() {
            self.balance.borrow_mut().handle_sent();
            let mut batch = self.batch.take();
            batch.send(|link, unsent| self.handle_unsent(link, unsent));
            let mut next = self.batch.borrow_mut();
            if next.is_empty() && batch.is_of_use() {
                *next = batch;
            }
        }
    }

    /// Tells the balance what has happened, and does what it decides. Requests leave now, unless more are to be
    /// expected.
    fn handle<T>(self: &Rc<Self>, event: impl FnOnce(&mut Balance<E>, Instant, &mut Vec<Output<E>>) -> T) -> T {
        let mut outputs = self.outputs.take();
        let result = event(&mut self.balance.borrow_mut(), self.reactor.now(), &mut outputs);
        self.act_on(outputs);
        let is_gathering = self.shared.limits.pipeline_max > 1 || self.reactor.is_crowded();
        if !is_gathering || self.batch.borrow().is_full() {
            self.send_batch();
        }
        result
    }

    fn act_on(self: &Rc<Self>, mut outputs: Vec<Output<E>>) {
        let mut more = Vec::new();
        loop {
            for output in outputs.drain(..) {
                match output {
                    Output::Use { link, job } => self.write(link, job, &mut more),
                    Output::Connect {
                        upstream,
                        is_awaited,
                        pause,
                    } => spawn(self.clone().connect(upstream, is_awaited, pause)),
                    Output::Close(link) => self.link(link).close(),
                    Output::Refuse(exchange, Refusal::Refused) => exchange.finish(Err(Failure::Refused)),
                    Output::Refuse(exchange, Refusal::Deadline) => {
                        self.shared.counters.backend_no_connection.add();
                        exchange.finish(Err(Failure::Deadline));
                    }
                    Output::Retry(Retry::Refused) => self.shared.counters.backend_retries_refused.add(),
                    Output::Retry(Retry::NoWorkers) => self.shared.counters.backend_retries_no_workers.add(),
                    Output::Claim { upstream, claim } => {
                        let (places, now) = (self.upstreams.borrow()[upstream].places, self.reactor.now());
                        if let Some(grant) = self.lending.claim(now, places, claim) {
                            let mut balance = self.balance.borrow_mut();
                            balance.handle_grant(now, upstream, grant, &mut more);
                        }
                    }
                }
            }
            if more.is_empty() {
                break;
            }
            std::mem::swap(&mut outputs, &mut more);
        }
        if outputs.capacity() <= OUTPUTS_KEPT {
            self.outputs.set(outputs);
        }
        let next = self.balance.borrow().next_deadline();
        self.watcher.watch(next);
        self.watcher.watch(self.lending.next_deadline());
    }

    fn write(self: &Rc<Self>, id: LinkId, job: Job<E>, more: &mut Vec<Output<E>>) {
        let link = self.link(id);
        let now = self.reactor.now();
        if link.is_usable(now) {
            self.batch.borrow_mut().add(&link, job);
        } else {
            // It ended while it was idle: the request never knew it.
            link.close();
            self.balance
                .borrow_mut()
                .handle_unsent(now, id, std::iter::once(job), more);
        }
    }

    fn link(&self, id: LinkId) -> Rc<Link<E>> {
        let links = self.links.borrow();
        links[id.index()].clone().expect("the balance knows which are open")
    }

    /// Answers waiting requests whose deadline has passed.
    async fn watch(self: Rc<Self>) {
        let mut timer = Timer::new(&self.reactor);
        loop {
            poll_fn(|context| {
                self.watcher.waker.set(Some(context.waker().clone()));
                timer.set(self.watcher.watched.get());
                timer.poll_expired(context)
            })
            .await;
            self.watcher.watched.set(None);
            self.handle(Balance::handle_deadline);
            for (places, grant) in self.lending.poll(self.reactor.now()) {
                self.handle_grant(places, grant);
            }
            self.watcher.watch(self.lending.next_deadline());
        }
    }
}

impl<E: Exchange> Owner<E> for Rc<Pool<E>> {
    fn handle_answered(&self, link: LinkId, answered: Answered, is_idle: bool) {
        self.handle(|balance, now, out| {
            balance.handle_answered(now, link);
            balance.handle_latency(link, answered.latency, answered.is_refused);
            if is_idle {
                balance.handle_idle(now, link, out);
            }
        });
    }

    fn handle_turned_away(&self, job: Job<E>) -> Result<(), Job<E>> {
        self.handle(|balance, now, out| balance.handle_turned_away(now, job, out))
    }

    fn handle_timed_out(&self, link: LinkId, sent: Instant) {
        self.handle(|balance, now, _| balance.handle_timed_out(now, link, sent));
    }

    fn is_witness(&self, link: LinkId) -> bool {
        self.balance.borrow().is_witness(link)
    }

    fn handle_broken(&self, link: LinkId) {
        self.balance.borrow_mut().handle_broken(self.reactor.now(), link);
    }

    /// Whoever has sent the others sends these, too; at the latest the pass does at its end.
    fn handle_unsent(&self, link: LinkId, jobs: VecDeque<Job<E>>) {
        self.shared.counters.backend_retries.add_many(jobs.len() as u64);
        let mut outputs = self.outputs.take();
        let now = self.reactor.now();
        self.balance
            .borrow_mut()
            .handle_unsent(now, link, jobs.into_iter(), &mut outputs);
        self.act_on(outputs);
    }

    fn handle_ended(&self, link: LinkId) {
        self.links.borrow_mut()[link.index()] = None;
        self.handle(|balance, now, out| balance.handle_ended(now, link, out));
    }
}

impl Watcher {
    fn watch(&self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if self.watched.get().is_none_or(|watched| deadline < watched) {
            self.watched.set(Some(deadline));
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}

/// Answers are received in pieces of this size.
const INCOMING_LEN: usize = 64 * 1024;
const OUTPUTS_KEPT: usize = 64;

// On real sockets.
#[cfg(all(test, not(simulation)))]
mod tests;

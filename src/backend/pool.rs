//! A shard's connections to the backend: most recently used first, bounded, with a bounded queue of waiting requests.
//!
//! [`Pool::submit`] gives a request to an idle connection, if there is one; it leaves at once, or in a pass with many events
//! at its end ([`Pool::send_batch`]), with no task between. With `pipeline_max` above 1, requests of the same pass share a
//! connection. The answer comes through [`Exchange::finish`], exactly once for every request that was taken. A request is tried a
//! second time only where it cannot have been executed: the connect failed, or nothing of it was written.
//!
//! With several backends the least busy one comes first. One that fails (refuses connections, or ends them without an
//! answer) is left alone for a while, longer each time, and then probed: with a connection that no request waits for,
//! and with one request at a time until it has answered one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use shards::{Reactor, Socket, Timer, spawn};

use super::batch::Batch;
use super::link::Link;
use super::upstream::Upstream;
use crate::observe::counters::Counters;
use protocol::http::Failure;
use protocol::http::{RequestTemplate, ResponseHead};

/// One request and what is to be done with its answer.
pub trait Exchange: 'static {
    /// When the answer must be there.
    fn deadline(&self) -> Instant;
    /// Appends the request. Called again for a second try.
    fn write(&self, template: &RequestTemplate, out: &mut Vec<u8>);
    /// Takes the answer, or why there is none.
    fn finish(self, response: Result<Response<'_>, Failure>);
}

/// A backend's whole answer.
#[derive(Debug)]
pub struct Response<'a> {
    /// Status and headers.
    pub head: &'a ResponseHead<'a>,
    /// Decoded from any transfer coding.
    pub content: &'a [u8],
}

/// Where one backend is.
#[derive(Clone, Debug)]
pub enum Target {
    /// The addresses that its host name has, in the order to try; empty while it has none.
    Tcp(Vec<SocketAddr>),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The pool's bounds and times, from the shard's config.
#[derive(Clone, Debug)]
pub struct PoolLimits {
    /// Connections to all backends together.
    pub connections_max: usize,
    /// Requests in flight on one of them; 1: none is pipelined.
    pub pipeline_max: usize,
    /// Requests that wait for one.
    pub waiters_max: usize,
    /// An unused connection is closed after this.
    pub idle_timeout: Duration,
    /// A connection must be open within this.
    pub connect_timeout: Duration,
    /// Bytes of an answer's head.
    pub head_max: usize,
    /// Bytes of an answer's content.
    pub content_max: usize,
}

/// A shard's connections to all backends.
pub struct Pool<E: Exchange> {
    reactor: Rc<Reactor>,
    limits: PoolLimits,
    counters: Rc<Counters>,
    state: RefCell<State<E>>,
    /// Where answers are received: one per shard, whatever the connections.
    incoming: RefCell<Vec<u8>>,
    /// Where requests are put together.
    pub(super) batch: RefCell<Batch<E>>,
}

struct State<E: Exchange> {
    upstreams: Vec<Upstream<E>>,
    waiting: VecDeque<Waiting<E>>,
    /// Connects under way, for whichever waiting request comes first.
    connects: usize,
    /// All that are open.
    links: Vec<Rc<Link<E>>>,
    /// One of them is being closed so that another backend can have one.
    is_making_room: bool,
    /// Watches the waiting requests' deadlines.
    watcher: Option<Waker>,
    watched: Option<Instant>,
}

struct Waiting<E> {
    exchange: E,
    retried: bool,
}

impl<E: Exchange> Pool<E> {
    /// A pool for the backends `targets`, each with the constant parts of its requests.
    pub fn new(
        reactor: &Rc<Reactor>,
        limits: PoolLimits,
        counters: Rc<Counters>,
        targets: Vec<(Target, RequestTemplate)>,
    ) -> Rc<Self> {
        assert!(!targets.is_empty(), "the config has a backend");
        let upstreams = targets
            .into_iter()
            .map(|(target, template)| Upstream::new(target, template));
        let state = State {
            upstreams: upstreams.collect(),
            waiting: VecDeque::new(),
            connects: 0,
            links: Vec::new(),
            is_making_room: false,
            watcher: None,
            watched: None,
        };
        let pool = Rc::new(Self {
            reactor: reactor.clone(),
            limits,
            counters,
            state: RefCell::new(state),
            incoming: RefCell::new(vec![0; INCOMING_LEN]),
            batch: RefCell::default(),
        });
        spawn(pool.clone().watch());
        pool
    }

    /// Sends a request, in this pass or when a connection is free.
    ///
    /// # Errors
    /// The request comes back when too many wait already; the caller finishes it.
    pub fn submit(self: &Rc<Self>, exchange: E) -> Result<(), E> {
        let mut exchange = exchange;
        if self.limits.pipeline_max > 1 {
            exchange = match self.join_batch(exchange) {
                Ok(()) => return Ok(()),
                Err(exchange) => exchange,
            };
        }
        self.level(&mut self.state.borrow_mut());
        if let Some(link) = self.checkout() {
            self.begin_batch(link, exchange);
            return Ok(());
        }
        let mut state = self.state.borrow_mut();
        if state.waiting.len() >= self.limits.waiters_max {
            self.counters.backend_shed.add();
            return Err(exchange);
        }
        let deadline = exchange.deadline();
        state.waiting.push_back(Waiting {
            exchange,
            retried: false,
        });
        state.watch_deadline(deadline);
        self.connect_more(&mut state);
        Ok(())
    }

    /// Requests that wait for a connection.
    pub fn waiting_count(&self) -> usize {
        self.state.borrow().waiting.len()
    }

    /// Connections open or being opened, and how many of them are idle.
    pub fn connections_count(&self) -> (usize, usize) {
        let state = self.state.borrow();
        let open = state.upstreams.iter().map(|upstream| upstream.count).sum();
        (open, state.upstreams.iter().map(|upstream| upstream.idle.len()).sum())
    }

    /// Replaces the addresses of backend `index` (its name was looked up again).
    pub fn set_addresses(&self, index: usize, addresses: Vec<SocketAddr>) {
        if let Some(upstream) = self.state.borrow_mut().upstreams.get_mut(index) {
            upstream.target = Target::Tcp(addresses);
        }
    }

    /// True while every backend refused the last try to connect and has not answered since, however long ago that was.
    pub fn is_down(&self) -> bool {
        self.state.borrow().upstreams.iter().all(Upstream::is_unreachable)
    }

    /// Gives up every request for which `is_given_up` says so, waiting or at the backend.
    pub fn give_up(&self, is_given_up: impl Fn(&E) -> bool) {
        let mut state = self.state.borrow_mut();
        let (given_up, kept) = state
            .waiting
            .drain(..)
            .partition(|waiting| is_given_up(&waiting.exchange));
        state.waiting = kept;
        let mut given_up: Vec<E> = VecDeque::into_iter(given_up).map(|waiting| waiting.exchange).collect();
        given_up.extend(state.links.iter().flat_map(|link| link.give_up(&is_given_up)));
        drop(state);
        for exchange in given_up {
            exchange.finish(Err(Failure::Shutdown));
        }
    }

    /// Whether requests wait for the end of the pass: not where few are to be expected, but for those that share connections.
    pub(super) fn is_gathering(&self) -> bool {
        self.limits.pipeline_max > 1 || self.reactor.is_crowded()
    }

    pub(super) fn limits(&self) -> &PoolLimits {
        &self.limits
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn incoming(&self) -> &RefCell<Vec<u8>> {
        &self.incoming
    }

    /// A connection has nothing to do: the longest waiting requests get it, or it waits on top of the idle ones.
    pub(super) fn release(self: &Rc<Self>, link: &Rc<Link<E>>) {
        if self.must_make_room(link.upstream()) {
            self.state.borrow_mut().is_making_room = true;
            link.close();
            return;
        }
        let mut state = self.state.borrow_mut();
        let Some(first) = state.waiting.pop_front() else {
            state.upstreams[link.upstream()].idle.push(link.clone());
            return;
        };
        drop(state);
        self.begin_batch(link.clone(), first.exchange);
        for _ in 1..self.limits.pipeline_max {
            let Some(Waiting { exchange, retried }) = self.state.borrow_mut().waiting.pop_front() else {
                break;
            };
            if let Err(exchange) = self.join_batch(exchange) {
                let waiting = Waiting { exchange, retried };
                self.state.borrow_mut().waiting.push_front(waiting);
                break;
            }
        }
    }

    /// Requests of which nothing was written, from a connection that is of no more use: they are the next that get another.
    pub(super) fn retry(self: &Rc<Self>, exchanges: VecDeque<E>) {
        self.counters.backend_retries.add_many(exchanges.len() as u64);
        for exchange in exchanges.into_iter().rev() {
            if let Some(link) = self.checkout() {
                // Whoever has sent the others sends these, too; at the latest the pass does at its end.
                self.gather(link, exchange);
                continue;
            }
            let mut state = self.state.borrow_mut();
            let deadline = exchange.deadline();
            state.waiting.push_front(Waiting {
                exchange,
                retried: false,
            });
            state.watch_deadline(deadline);
            self.connect_more(&mut state);
        }
    }

    /// True when the connections are used up, and this backend has more than its share of them while another one that
    /// works has too few: the one that grew alone gives back what the other one left.
    fn must_make_room(&self, index: usize) -> bool {
        let state = self.state.borrow();
        if state.upstreams.len() == 1 || state.is_making_room || state.count() < self.limits.connections_max {
            return false;
        }
        let now = self.reactor.now();
        let open = state.upstreams.iter().filter(|upstream| upstream.is_open(now));
        let least = open.map(|upstream| upstream.count).min();
        least.is_some_and(|least| least + 1 < state.upstreams[index].count)
    }

    /// A connection has ended.
    pub(super) fn forget(self: &Rc<Self>, link: &Rc<Link<E>>) {
        let mut state = self.state.borrow_mut();
        let upstream = &mut state.upstreams[link.upstream()];
        upstream.count -= 1;
        upstream.idle.retain(|idle| !Rc::ptr_eq(idle, link));
        state.links.retain(|open| !Rc::ptr_eq(open, link));
        state.is_making_room = false;
        self.level(&mut state);
        self.connect_more(&mut state);
    }

    /// Backend `index` has answered a request.
    pub(super) fn handle_answered(&self, index: usize) {
        let mut state = self.state.borrow_mut();
        state.upstreams[index].handle_answered();
    }

    /// Backend `index` has ended a connection without an answer to the request on it.
    pub(super) fn handle_broken(&self, index: usize) {
        let now = self.reactor.now();
        self.state.borrow_mut().upstreams[index].fail(now, false);
    }

    /// An idle connection of the least busy backend.
    fn checkout(&self) -> Option<Rc<Link<E>>> {
        let mut state = self.state.borrow_mut();
        if !state.waiting.is_empty() {
            // They came first, and a connect is under way for them.
            return None;
        }
        let now = self.reactor.now();
        loop {
            let may_connect = state.count() < self.limits.connections_max;
            let is_other_open = state.upstreams.iter().any(|upstream| !upstream.is_suspect());
            let upstreams = state.upstreams.iter_mut().filter(|upstream| !upstream.idle.is_empty());
            let upstream = upstreams.min_by_key(|upstream| (!upstream.is_open(now), upstream.busy_count()))?;
            if !upstream.is_open(now) && is_other_open && may_connect {
                // Rather a new connection to one that works.
                return None;
            }
            let link = upstream.idle.pop()?;
            if link.is_usable(now) {
                return Some(link);
            }
            link.close();
        }
    }

    /// Sees to it, ahead of any need, that the least busy backend has a connection to take its share with, and probes one
    /// that has been left alone for long enough. No request waits for these.
    fn level(self: &Rc<Self>, state: &mut State<E>) {
        // With nobody else to ask, the requests themselves are the probe.
        let is_any_good = || state.upstreams.iter().any(|upstream| !upstream.is_suspect());
        if state.upstreams.len() == 1 || state.count() >= self.limits.connections_max || !is_any_good() {
            return;
        }
        let now = self.reactor.now();
        let ready = state.upstreams.iter().filter(|upstream| !upstream.idle.is_empty());
        let busy = ready.map(Upstream::busy_count).min();
        let wanted = |upstream: &Upstream<E>| {
            let is_less_busy = busy.is_some_and(|busy| upstream.busy_count() < busy);
            upstream.connects == 0
                && upstream.idle.is_empty()
                && upstream.is_open(now)
                && (upstream.is_suspect() || is_less_busy)
        };
        if let Some(index) = state.upstreams.iter().position(wanted) {
            self.begin_connect(state, index, false);
        }
    }

    fn connect_more(self: &Rc<Self>, state: &mut State<E>) {
        let now = self.reactor.now();
        while state.connects < state.waiting.len() && state.connecting_count() < CONNECTS_AT_ONCE {
            if state.count() >= self.limits.connections_max {
                return;
            }
            let least = |(_, upstream): &(usize, &Upstream<E>)| {
                // One that has not let anybody in yet shows first whether it does.
                let is_unproven = upstream.connects > 0 && upstream.connects == upstream.count;
                (
                    upstream.is_suspect(),
                    upstream.is_failing(now),
                    is_unproven,
                    upstream.count,
                )
            };
            let (index, _) = state
                .upstreams
                .iter()
                .enumerate()
                .min_by_key(least)
                .expect("there is a backend");
            self.begin_connect(state, index, true);
        }
    }

    /// `is_awaited`: for one of the waiting requests.
    fn begin_connect(self: &Rc<Self>, state: &mut State<E>, index: usize, is_awaited: bool) {
        state.upstreams[index].count += 1;
        state.upstreams[index].connects += 1;
        state.connects += usize::from(is_awaited);
        spawn(self.clone().connect(index, is_awaited));
    }

    async fn connect(self: Rc<Self>, index: usize, is_awaited: bool) {
        let wait = {
            let state = self.state.borrow();
            let failing = state.upstreams[index].unreachable_for(self.reactor.now());
            failing.map(|duration| duration.min(RETRY_PAUSE))
        };
        if let Some(wait) = wait {
            shards::timer::sleep(&self.reactor, wait).await;
        }
        let target = self.state.borrow().upstreams[index].target.clone();
        let mut is_awaited = is_awaited;
        let mut patience = Timer::new(&self.reactor);
        patience.set(is_awaited.then(|| self.reactor.now() + CONNECT_PATIENCE));
        let mut connecting = std::pin::pin!(self.connect_to(target));
        let connected = poll_fn(|context| {
            let connected = connecting.as_mut().poll(context);
            if connected.is_pending() && is_awaited && patience.poll_expired(context).is_ready() {
                let mut state = self.state.borrow_mut();
                if state.has_other_good(index) {
                    // Whoever waits for it should not depend on it: another one is asked too.
                    is_awaited = false;
                    state.connects -= 1;
                    self.connect_more(&mut state);
                }
            }
            connected
        })
        .await;
        let mut state = self.state.borrow_mut();
        state.connects -= usize::from(is_awaited);
        state.upstreams[index].connects -= 1;
        match connected {
            Ok(socket) => {
                self.counters.backend_connects.add();
                state.upstreams[index].handle_connected();
                let template = state.upstreams[index].template.clone();
                drop(state);
                let link = Link::new(socket, index, template, &self);
                self.state.borrow_mut().links.push(link.clone());
                spawn(link.clone().run(self.clone()));
                self.release(&link);
                self.connect_more(&mut self.state.borrow_mut());
            }
            Err(error) => {
                self.counters.backend_connect_failures.add();
                if is_for_want_of_descriptors(&error) && !state.links.is_empty() {
                    // The backend has refused nothing: those that wait get one of its open connections in their turn.
                    state.upstreams[index].count -= 1;
                    return;
                }
                let now = self.reactor.now();
                state.upstreams[index].count -= 1;
                state.upstreams[index].fail(now, true);
                let refused = if is_awaited {
                    state.blame_connect(&self.counters)
                } else {
                    None
                };
                self.connect_more(&mut state);
                drop(state);
                if let Some(exchange) = refused {
                    exchange.finish(Err(Failure::Refused));
                }
            }
        }
    }

    async fn connect_to(&self, target: Target) -> io::Result<Socket> {
        let deadline = self.reactor.now() + self.limits.connect_timeout;
        let reactor = &self.reactor;
        match target {
            Target::Unix(path) => loop {
                let result = within(reactor, deadline, Socket::connect_unix(reactor, &path)).await;
                // Its queue is full, and the kernel says nothing when there is room again.
                let is_full = matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
                if !is_full || reactor.now() >= deadline {
                    return result;
                }
                shards::timer::sleep(reactor, UNIX_RETRY_PAUSE).await;
            },
            Target::Tcp(addresses) => {
                let mut result = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
                for (tried, address) in addresses.iter().enumerate() {
                    // Each gets its share of what is left, lest one that does not answer uses all of it.
                    let now = reactor.now();
                    let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
                    let until = now + deadline.saturating_duration_since(now) / left;
                    result = within(reactor, until, Socket::connect(reactor, *address)).await;
                    if result.is_ok() {
                        break;
                    }
                }
                result
            }
        }
    }

    /// Answers waiting requests whose deadline has passed.
    async fn watch(self: Rc<Self>) {
        let mut timer = Timer::new(&self.reactor);
        loop {
            poll_fn(|context| {
                let mut state = self.state.borrow_mut();
                state.watcher = Some(context.waker().clone());
                timer.set(state.watched);
                timer.poll_expired(context)
            })
            .await;
            let expired = self.state.borrow_mut().take_expired(self.reactor.now());
            self.counters.backend_no_connection.add_many(expired.len() as u64);
            for exchange in expired {
                exchange.finish(Err(Failure::Deadline));
            }
        }
    }
}

impl<E: Exchange> State<E> {
    /// Connections to all backends, connects under way included.
    fn count(&self) -> usize {
        self.upstreams.iter().map(|upstream| upstream.count).sum()
    }

    /// Connects under way, awaited or not.
    fn connecting_count(&self) -> usize {
        self.upstreams.iter().map(|upstream| upstream.connects).sum()
    }

    /// True when a backend that has not failed is there beside this one.
    fn has_other_good(&self, index: usize) -> bool {
        let others = self.upstreams.iter().enumerate().filter(|(other, _)| *other != index);
        others
            .map(|(_, upstream)| upstream)
            .any(|upstream| !upstream.is_suspect())
    }

    fn watch_deadline(&mut self, deadline: Instant) {
        if self.watched.is_none_or(|watched| deadline < watched) {
            self.watched = Some(deadline);
            if let Some(watcher) = self.watcher.take() {
                watcher.wake();
            }
        }
    }

    /// A connect has failed: the request that has waited longest is tried once more, and then given back as refused. While
    /// other connections work, it waits for one of them instead: a backend that is busy also refuses. While another backend
    /// has not failed, that one is tried, too.
    fn blame_connect(&mut self, counters: &Counters) -> Option<E> {
        if !self.links.is_empty() {
            return None;
        }
        let is_other_good = self.upstreams.iter().any(|upstream| !upstream.is_suspect());
        let waiting = self.waiting.front_mut()?;
        if waiting.retried && !is_other_good {
            return self.waiting.pop_front().map(|waiting| waiting.exchange);
        }
        // Nothing was sent: the one retry that is safe.
        counters.backend_retries.add();
        waiting.retried = true;
        None
    }

    fn take_expired(&mut self, now: Instant) -> Vec<E> {
        let mut expired = Vec::new();
        let mut left = VecDeque::with_capacity(self.waiting.len());
        for waiting in self.waiting.drain(..) {
            if waiting.exchange.deadline() <= now {
                expired.push(waiting.exchange);
            } else {
                left.push_back(waiting);
            }
        }
        self.waiting = left;
        self.watched = self.waiting.iter().map(|waiting| waiting.exchange.deadline()).min();
        expired
    }
}

/// `future`, or a time-out at `deadline`.
async fn within<T>(
    reactor: &Rc<Reactor>,
    deadline: Instant,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut future = std::pin::pin!(future);
    let mut timer = Timer::new(reactor);
    timer.set(Some(deadline));
    poll_fn(|context| {
        if let Poll::Ready(result) = future.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        timer
            .poll_expired(context)
            .map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)))
    })
    .await
}

/// We have no descriptor, or the kernel no memory, for one connection more.
fn is_for_want_of_descriptors(error: &io::Error) -> bool {
    const ERRNOS: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    ERRNOS
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Answers are received in pieces of this size.
const INCOMING_LEN: usize = 64 * 1024;
/// Connects under way at once. A burst of requests must not become a burst of connects that overflows the backend's backlog:
/// each that is done takes the next request, and so do the connections that there are.
const CONNECTS_AT_ONCE: usize = 16;
/// A connect that takes longer is not relied on where there is another backend: a request that waits gets that one.
const CONNECT_PATIENCE: Duration = Duration::from_millis(250);
/// Between a refused connect and the one retry.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A Unix socket whose queue is full is tried again after this.
const UNIX_RETRY_PAUSE: Duration = Duration::from_millis(20);

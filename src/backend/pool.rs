//! A shard's connections to the backend: most recently used first, bounded, with a bounded queue of waiting requests.
//!
//! [`Pool::submit`] writes a request at once when a connection is idle, so that a CALL costs no task switch. With
//! `pipeline_max` above 1, requests of the same pass of the reactor share a connection instead and leave together. The
//! answer comes through [`Exchange::finish`], exactly once for every request that was taken. A request is tried a
//! second time only where it cannot have been executed: the connect failed, or nothing of it was written.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shards::{Reactor, Socket, Timer, spawn};

use super::link::Link;
use crate::counters::Counters;
use crate::http::{RequestTemplate, ResponseHead};
use crate::protocol::Failure;

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
    /// Where requests are put together and answers received: one of each per shard, whatever the connections.
    outgoing: RefCell<Vec<u8>>,
    incoming: RefCell<Vec<u8>>,
    batch: RefCell<Batch<E>>,
}

/// The requests of this pass that leave together at its end.
struct Batch<E: Exchange> {
    link: Option<Rc<Link<E>>>,
    count: usize,
    bytes: Vec<u8>,
    sender: Option<Waker>,
}

struct State<E: Exchange> {
    upstreams: Vec<Upstream<E>>,
    waiting: VecDeque<Waiting<E>>,
    /// Connects under way, for whichever waiting request comes first.
    connects: usize,
    /// All that are open.
    links: Vec<Rc<Link<E>>>,
    /// Watches the waiting requests' deadlines.
    watcher: Option<Waker>,
    watched: Option<Instant>,
}

struct Upstream<E: Exchange> {
    target: Target,
    template: Rc<RequestTemplate>,
    /// The most recently used last.
    idle: Vec<Rc<Link<E>>>,
    /// Open ones, idle or not, and connects under way.
    count: usize,
    /// After a failed connect it is left alone until then.
    failing_until: Option<Instant>,
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
        let upstreams = targets.into_iter().map(|(target, template)| Upstream {
            target,
            template: Rc::new(template),
            idle: Vec::new(),
            count: 0,
            failing_until: None,
        });
        let state = State {
            upstreams: upstreams.collect(),
            waiting: VecDeque::new(),
            connects: 0,
            links: Vec::new(),
            watcher: None,
            watched: None,
        };
        let pool = Rc::new(Self {
            reactor: reactor.clone(),
            limits,
            counters,
            state: RefCell::new(state),
            outgoing: RefCell::new(Vec::new()),
            incoming: RefCell::new(vec![0; INCOMING_LEN]),
            batch: RefCell::new(Batch {
                link: None,
                count: 0,
                bytes: Vec::new(),
                sender: None,
            }),
        });
        spawn(pool.clone().watch());
        if pool.limits.pipeline_max > 1 {
            spawn(pool.clone().send_batches());
        }
        pool
    }

    /// Sends a request, now or when a connection is free.
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
        while let Some(link) = self.checkout() {
            if self.limits.pipeline_max > 1 {
                self.begin_batch(link, exchange);
                return Ok(());
            }
            let mut outgoing = self.outgoing.borrow_mut();
            link.push(exchange, &mut outgoing);
            match link.send(self, &mut outgoing) {
                Ok(()) => return Ok(()),
                // It was closed under our hands and nothing was written: the next one.
                Err(mut back) => {
                    self.counters.backend_retries.add();
                    exchange = back.pop_front().expect("what was pushed comes back");
                }
            }
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

    /// True while no backend could be connected to lately.
    pub fn is_down(&self) -> bool {
        let now = self.reactor.now();
        self.state
            .borrow()
            .upstreams
            .iter()
            .all(|upstream| upstream.is_failing(now))
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
    pub(super) fn release(&self, link: &Rc<Link<E>>) {
        let mut state = self.state.borrow_mut();
        if state.waiting.is_empty() {
            state.upstreams[link.upstream()].idle.push(link.clone());
            return;
        }
        let count = state.waiting.len().min(self.limits.pipeline_max);
        let mut outgoing = self.outgoing.borrow_mut();
        for waiting in state.waiting.drain(..count) {
            link.push(waiting.exchange, &mut outgoing);
        }
        if let Err(back) = link.send(self, &mut outgoing) {
            self.counters.backend_retries.add_many(back.len() as u64);
            for exchange in back.into_iter().rev() {
                state.waiting.push_front(Waiting {
                    exchange,
                    retried: false,
                });
            }
        }
    }

    /// Adds a request to those that leave at the end of this pass.
    ///
    /// # Errors
    /// It comes back when there are none, or enough.
    fn join_batch(&self, exchange: E) -> Result<(), E> {
        let mut batch = self.batch.borrow_mut();
        let Batch { link, count, bytes, .. } = &mut *batch;
        match link {
            Some(link) if *count < self.limits.pipeline_max && bytes.len() < BATCH_LEN_MAX => {
                link.push(exchange, bytes);
                *count += 1;
                Ok(())
            }
            _ => Err(exchange),
        }
    }

    fn begin_batch(self: &Rc<Self>, link: Rc<Link<E>>, exchange: E) {
        self.send_batch();
        let mut batch = self.batch.borrow_mut();
        link.push(exchange, &mut batch.bytes);
        batch.count = 1;
        batch.link = Some(link);
        if let Some(sender) = batch.sender.take() {
            sender.wake();
        }
    }

    fn send_batch(self: &Rc<Self>) {
        let sent = {
            let mut batch = self.batch.borrow_mut();
            match batch.link.take() {
                Some(link) => link.send(self, &mut batch.bytes),
                None => return,
            }
        };
        for exchange in sent.err().into_iter().flatten() {
            // The connection was closed under our hands and nothing was written: another one.
            self.counters.backend_retries.add();
            if let Err(exchange) = self.submit(exchange) {
                exchange.finish(Err(Failure::Overloaded));
            }
        }
    }

    /// Sends what was gathered once everybody who was ready in this pass has run: woken by the first request, it is last in
    /// the queue.
    async fn send_batches(self: Rc<Self>) {
        loop {
            poll_fn(|context| {
                let mut batch = self.batch.borrow_mut();
                if batch.link.is_some() {
                    return Poll::Ready(());
                }
                batch.sender = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
            self.send_batch();
        }
    }

    /// A connection has ended.
    pub(super) fn forget(self: &Rc<Self>, link: &Rc<Link<E>>) {
        let mut state = self.state.borrow_mut();
        let upstream = &mut state.upstreams[link.upstream()];
        upstream.count -= 1;
        upstream.idle.retain(|idle| !Rc::ptr_eq(idle, link));
        state.links.retain(|open| !Rc::ptr_eq(open, link));
        self.connect_more(&mut state);
    }

    /// An idle connection of the least busy backend.
    fn checkout(&self) -> Option<Rc<Link<E>>> {
        let mut state = self.state.borrow_mut();
        if !state.waiting.is_empty() {
            // They came first, and a connect is under way for them.
            return None;
        }
        loop {
            let upstreams = state.upstreams.iter_mut().filter(|upstream| !upstream.idle.is_empty());
            let upstream = upstreams.min_by_key(|upstream| upstream.count - upstream.idle.len())?;
            let link = upstream.idle.pop()?;
            if link.is_usable(self.reactor.now()) {
                return Some(link);
            }
            link.close();
        }
    }

    fn connect_more(self: &Rc<Self>, state: &mut State<E>) {
        let now = self.reactor.now();
        while state.connects < state.waiting.len().min(CONNECTS_AT_ONCE) {
            let count: usize = state.upstreams.iter().map(|upstream| upstream.count).sum();
            if count >= self.limits.connections_max {
                return;
            }
            let least = |(_, upstream): &(usize, &Upstream<E>)| (upstream.is_failing(now), upstream.count);
            let (index, _) = state
                .upstreams
                .iter()
                .enumerate()
                .min_by_key(least)
                .expect("there is a backend");
            state.upstreams[index].count += 1;
            state.connects += 1;
            spawn(self.clone().connect(index));
        }
    }

    async fn connect(self: Rc<Self>, index: usize) {
        let wait = {
            let state = self.state.borrow();
            let failing_until = state.upstreams[index].failing_until;
            failing_until.map(|until| until.saturating_duration_since(self.reactor.now()).min(RETRY_PAUSE))
        };
        if let Some(wait) = wait {
            shards::timer::sleep(&self.reactor, wait).await;
        }
        let target = self.state.borrow().upstreams[index].target.clone();
        let connected = self.connect_to(target).await;
        let mut state = self.state.borrow_mut();
        state.connects -= 1;
        match connected {
            Ok(socket) => {
                self.counters.backend_connects.add();
                state.upstreams[index].failing_until = None;
                let template = state.upstreams[index].template.clone();
                drop(state);
                let link = Link::new(socket, index, template, &self);
                self.state.borrow_mut().links.push(link.clone());
                spawn(link.clone().run(self.clone()));
                self.release(&link);
                self.connect_more(&mut self.state.borrow_mut());
            }
            Err(_) => {
                self.counters.backend_connect_failures.add();
                let now = self.reactor.now();
                state.upstreams[index].count -= 1;
                state.upstreams[index].failing_until = Some(now + FAILING_PAUSE);
                let refused = state.blame_connect(&self.counters);
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
            Target::Unix(path) => within(reactor, deadline, Socket::connect_unix(reactor, &path)).await,
            Target::Tcp(addresses) => {
                let mut result = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
                for address in addresses {
                    result = within(reactor, deadline, Socket::connect(reactor, address)).await;
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
    fn watch_deadline(&mut self, deadline: Instant) {
        if self.watched.is_none_or(|watched| deadline < watched) {
            self.watched = Some(deadline);
            if let Some(watcher) = self.watcher.take() {
                watcher.wake();
            }
        }
    }

    /// A connect has failed: the request that has waited longest is tried once more, and then given back as refused. While
    /// other connections work, it waits for one of them instead: a backend that is busy also refuses.
    fn blame_connect(&mut self, counters: &Counters) -> Option<E> {
        if !self.links.is_empty() {
            return None;
        }
        let waiting = self.waiting.front_mut()?;
        if waiting.retried {
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

impl<E: Exchange> Upstream<E> {
    fn is_failing(&self, now: Instant) -> bool {
        self.failing_until.is_some_and(|until| now < until)
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

/// A batch with so many bytes is not added to.
const BATCH_LEN_MAX: usize = 64 * 1024;
/// Answers are received in pieces of this size.
const INCOMING_LEN: usize = 64 * 1024;
/// Connects under way at once. A burst of requests must not become a burst of connects that overflows the backend's backlog:
/// each that is done takes the next request, and so do the connections that there are.
const CONNECTS_AT_ONCE: usize = 16;
/// Between a refused connect and the one retry.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A backend that refused is left alone for this long while there is another.
const FAILING_PAUSE: Duration = Duration::from_secs(1);

//! Keeps a shard's connections to the backend, and does with them what [`Balance`] decides.
//!
//! [`Pool::submit`] gives a request to an idle connection, if there is one; it leaves at once, or in a pass with many events
//! at its end ([`Pool::send_batch`]), with no task between. The answer comes through [`Exchange::finish`], exactly once for
//! every request that was taken. A request is tried again only where it cannot have been executed: the connect failed,
//! nothing of it was written, or the backend says so.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use shards::{Reactor, spawn};

use self::watcher::Watcher;
use super::batch::Batch;
use super::connect::Place;
use super::exchange::Exchange;
use super::lending::{Lending, Neighbours, PlacesKey};
use super::limits::PoolLimits;
use super::link::{Link, Owner as _, Shared};
use super::targets;
use super::trust::Trust;
use crate::env::buffers::Buffers;
use crate::observe::backends::BackendTally;
use crate::observe::counters::Counters;
use protocol::balance::{Balance, Job, Limits, Output};
use protocol::http::RequestTemplate;

mod addresses;
mod connecting;
mod ending;
mod news;
mod outputs;
mod report;
mod watcher;

/// A shard's connections to all backends.
pub struct Pool<E: Exchange> {
    reactor: Rc<Reactor>,
    shared: Rc<Shared>,
    balance: RefCell<Balance<E>>,
    /// An empty list, for what the balance wants done.
    outputs: Cell<Vec<Output<E>>>,
    /// In the order of the configuration.
    backends: Vec<Backend>,
    /// How those over TLS are asked who they are; `None` where there is none.
    tls: RefCell<Option<Rc<ClientConfig>>>,
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
    /// Whose certificate it shows; `None`: it speaks no TLS.
    server_name: Option<ServerName<'static>>,
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
            server_name: backend.server_name.clone(),
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
            tls: RefCell::default(),
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

    /// What backends over TLS are verified by and are shown from now on. Connections that are open stay.
    pub fn set_trust(&self, trust: Option<&Trust>) {
        let config = trust.map(|trust| Rc::new(trust.of_shard()));
        self.tls.replace(config);
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
}

/// Answers are received in pieces of this size.
const INCOMING_LEN: usize = 64 * 1024;

// On real sockets.
#[cfg(all(test, not(simulation)))]
mod tests;

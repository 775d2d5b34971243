//! Asks other shards, and the other process of a takeover, and keeps the tasks that wait for the replies.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shards::Timer;
use shards::mesh::Mesh;

use super::home::Home;
use crate::env::Env;
use crate::shard::mail::{self, Asker, ClientReply, ClientRequest, Mail};
use protocol::cluster::Failure;
use protocol::question::{Question, Told};

/// A shard's open queries. Bounded by the ingress connections: each asks one at a time.
pub struct Queries {
    env: Rc<Env>,
    mesh: Rc<Mesh<Mail>>,
    open: RefCell<HashMap<u64, Query, foldhash::fast::RandomState>>,
    next: Cell<u64>,
    /// Questions that the other process has, and their bytes.
    elsewhere: Cell<(usize, usize)>,
    /// Questions that other nodes of the cluster have.
    in_cluster: Cell<usize>,
}

#[derive(Default)]
struct Query {
    /// The other process is asked.
    is_elsewhere: bool,
    /// Within: `None`, if it was not carried out.
    reply: Option<Option<ClientReply>>,
    waker: Option<Waker>,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotAsked {
    /// The other shard did not take the query, or did not reply in time.
    Overloaded,
    /// Nor did the other process of a takeover.
    Elsewhere,
    /// Nor did the node of the cluster that has the client, if any has it.
    Cluster(Failure),
}

impl NotAsked {
    /// Nobody knows whether it was done.
    #[must_use]
    pub fn may_be_done(self) -> bool {
        self == Self::Cluster(Failure::Unanswered)
    }
}

impl Queries {
    /// Makes an empty list of queries.
    pub fn new(env: &Rc<Env>, mesh: &Rc<Mesh<Mail>>) -> Self {
        Self {
            env: env.clone(),
            mesh: mesh.clone(),
            open: RefCell::default(),
            next: Cell::new(0),
            elsewhere: Cell::default(),
            in_cluster: Cell::default(),
        }
    }

    /// A number that no request of this shard had before.
    pub fn next_token(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    /// The reply to a query. One that came too late is dropped.
    pub fn handle_reply(&self, token: u64, reply: Option<ClientReply>) {
        if let Some(query) = self.open.borrow_mut().get_mut(&token) {
            query.reply = Some(reply);
            if let Some(waker) = query.waker.take() {
                waker.wake();
            }
        }
    }

    /// The other process is gone: it replies to nothing any more.
    pub fn forget_elsewhere(&self) {
        for query in self.open.borrow_mut().values_mut() {
            if query.is_elsewhere && query.reply.is_none() {
                query.reply = Some(None);
                if let Some(waker) = query.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Asks shard `home`, which is another one.
    ///
    /// # Errors
    /// `Overloaded`; the caller answers 503.
    pub async fn ask(&self, home: usize, request: ClientRequest) -> Result<ClientReply, NotAsked> {
        let token = self.next_token();
        let now = self.env.reactor.exact_now();
        self.open.borrow_mut().insert(token, Query::default());
        let mail = Mail::Query(Box::new(mail::Query {
            from: Asker::Shard(self.env.index as u16),
            token,
            answer_by: now + ANSWER_TIMEOUT,
            request,
        }));
        if self.mesh.try_send(home, mail).is_err() {
            self.env.counters.mesh_shed.add();
            self.open.borrow_mut().remove(&token);
            return Err(NotAsked::Overloaded);
        }
        self.reply(token, now).await.ok_or(NotAsked::Overloaded)
    }

    /// Asks the other process of a takeover, which `home` leads to.
    ///
    /// # Errors
    /// `Elsewhere`; the caller answers 503.
    pub async fn ask_elsewhere(&self, home: &dyn Home, question: Vec<u8>) -> Result<ClientReply, NotAsked> {
        let (count, len) = self.elsewhere.get();
        let more = question.len();
        if count >= ELSEWHERE_MAX || count > 0 && len + more > ELSEWHERE_LEN_MAX {
            return Err(NotAsked::Elsewhere);
        }
        let token = self.next_token();
        let now = self.env.reactor.exact_now();
        if !home.ask_other_process(token, now + ANSWER_TIMEOUT, question) {
            return Err(NotAsked::Elsewhere);
        }
        let query = Query {
            is_elsewhere: true,
            ..Query::default()
        };
        self.open.borrow_mut().insert(token, query);
        self.elsewhere.set((count + 1, len + more));
        let reply = self.reply(token, now).await;
        let (count, len) = self.elsewhere.get();
        self.elsewhere.set((count - 1, len - more));
        reply.ok_or(NotAsked::Elsewhere)
    }

    /// Asks the node of the cluster that has the client, to which `home` leads.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask_cluster(&self, home: &dyn Home, question: Box<Question>) -> Result<Told, Failure> {
        let count = self.in_cluster.get();
        if count >= self.env.core.cluster_requests_max {
            return Err(Failure::Full);
        }
        let token = self.next_token();
        home.ask_cluster(token, question)?;
        self.open.borrow_mut().insert(token, Query::default());
        self.in_cluster.set(count + 1);
        let reply = self.reply(token, self.env.reactor.exact_now()).await;
        self.in_cluster.set(self.in_cluster.get() - 1);
        match reply {
            Some(ClientReply::Told(told)) => Ok(told),
            Some(ClientReply::NotTold(failure)) => Err(failure),
            _ => Err(Failure::Unanswered),
        }
    }

    /// A question begins whose reply comes under the number that is returned: for [`reply_until`](Self::reply_until).
    pub fn begin(&self) -> u64 {
        let token = self.next_token();
        self.open.borrow_mut().insert(token, Query::default());
        token
    }

    /// The reply to what was asked at `asked`, when it comes.
    async fn reply(&self, token: u64, asked: Instant) -> Option<ClientReply> {
        self.reply_until(token, asked + REPLY_TIMEOUT).await
    }

    /// The reply, when it comes, if it does before.
    pub async fn reply_until(&self, token: u64, until: Instant) -> Option<ClientReply> {
        let mut timer = Timer::new(&self.env.reactor);
        timer.set(Some(until));
        let mut is_last_look = false;
        let reply = poll_fn(|context| {
            let mut open = self.open.borrow_mut();
            let query = open.get_mut(&token).expect("a query is open until its reply is taken");
            if let Some(reply) = query.reply.take() {
                return Poll::Ready(reply);
            }
            query.waker = Some(context.waker().clone());
            if timer.poll_expired(context).is_pending() {
                return Poll::Pending;
            }
            if std::mem::replace(&mut is_last_look, true) {
                return Poll::Ready(None);
            }
            // After a stop of the whole process timers are noticed before what has come meanwhile.
            timer.set(Some(self.env.reactor.now() + LAST_LOOK));
            timer.poll_expired(context).map(|()| None)
        })
        .await;
        self.open.borrow_mut().remove(&token);
        reply
    }
}

/// Far longer than a shard that lives takes.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// What is carried out is carried out before: its reply is there in time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);
/// Questions that the other process has at once, of one shard, and their bytes unless one alone has more.
const ELSEWHERE_MAX: usize = 256;
const ELSEWHERE_LEN_MAX: usize = 4 << 20;
const LAST_LOOK: Duration = Duration::from_secs(1);
const _: () = assert!(ANSWER_TIMEOUT.as_secs() + LAST_LOOK.as_secs() < REPLY_TIMEOUT.as_secs());

//! Posts what the backend must learn at least once: `/result`, `/error`, `/send`, `/resulterror`, `/disconnect`.
//!
//! A post is tried at once. If that fails it waits here, with a back-off that doubles, until `result_ttl` has passed;
//! every try carries the same `Idempotency-Key`. Outcomes, SENDs and ends have a share each: of more than `results_queued_max`
//! that wait, or more than `results_queued_bytes`, one of the same kind is dropped and counted. SENDs of one client keep their
//! order, and so do its ends: one is at the backend at a time, also while it is tried again.

mod moving;
mod post;
mod share;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shards::{Reactor, Timer, spawn};

use self::post::Notice;
pub use self::post::{OutboxLimits, Post};
use self::share::{Evicted, Share};
use super::requests::Request;
use crate::backend::{Pool, Response};
use crate::client::Connection;
use crate::env::Env;
use crate::env::buffers::Buffers;
use crate::observe::counters::Counters;
use crate::observe::incidents::{Details, IncidentKind};
use protocol::balance::Kind;
use protocol::http::Failure;
use protocol::mapping::Identity;
use protocol::mapping::outgoing::PostKey;
use protocol::ocpp::{Action, ClientId, MessageId, PostContent};
use protocol::trace_context::TraceParent;

/// How a post is over.
#[derive(Clone, Copy)]
enum End {
    Delivered,
    /// The backend does not want it.
    Refused,
    Expired,
    Shed,
}

/// How much of each kind is not delivered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Undelivered {
    /// What became of pushes.
    pub outcomes: usize,
    /// What clients say unasked: SENDs and CallResultErrors.
    pub sends: usize,
    /// The notices that connections have ended.
    pub disconnects: usize,
}

impl Undelivered {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            outcomes: self.outcomes + other.outcomes,
            sends: self.sends + other.sends,
            disconnects: self.disconnects + other.disconnects,
        }
    }
}

/// A shard's undelivered posts.
pub struct Outbox {
    /// Its shard's: a connection's outcomes may be posted from the shard where a request waited for them.
    index: usize,
    reactor: Rc<Reactor>,
    counters: Rc<Counters>,
    buffers: Rc<Buffers>,
    pool: Weak<Pool<Request>>,
    limits: OutboxLimits,
    outcomes: RefCell<Share>,
    sends: RefCell<Share>,
    disconnects: RefCell<Share>,
    next_number: Cell<u64>,
    /// When the backend has taken one, or said that it does not want it.
    last_taken: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

impl Outbox {
    /// An empty outbox that posts through `pool`.
    pub fn new(env: &Env, pool: &Rc<Pool<Request>>, limits: OutboxLimits) -> Rc<Self> {
        let outbox = Rc::new(Self {
            index: env.index,
            reactor: env.reactor.clone(),
            counters: env.counters.clone(),
            buffers: env.buffers.clone(),
            pool: Rc::downgrade(pool),
            limits,
            outcomes: RefCell::default(),
            sends: RefCell::default(),
            disconnects: RefCell::default(),
            next_number: Cell::new(u64::from(env.generation) << GENERATION_SHIFT),
            last_taken: Cell::new(None),
            waker: RefCell::new(None),
        });
        spawn(outbox.clone().retry());
        outbox
    }

    /// Posts `content` under these names, with the push's trace. If it is a client's own word, `sender` is told when it is over: delivered or given up.
    pub fn post(
        self: &Rc<Self>,
        identity: Rc<Identity>,
        (action, message_id): (Action, MessageId),
        (content, trace): (PostContent, Option<Box<TraceParent>>),
        sender: Option<Weak<Connection>>,
    ) {
        let sender = sender.zip(content.client_len());
        self.add(identity, Notice::Post(action, message_id, content, trace), sender);
    }

    /// Tells of a connection that has ended.
    pub fn disconnect(self: &Rc<Self>, identity: Rc<Identity>, body: Vec<u8>) {
        self.add(identity, Notice::Disconnect(body), None);
    }

    /// Posts that are not delivered yet, `/disconnect` not counted.
    pub fn len(&self) -> usize {
        self.outcomes.borrow().count() + self.sends.borrow().count()
    }

    /// What is not delivered yet, by kind.
    pub fn undelivered(&self) -> Undelivered {
        Undelivered {
            outcomes: self.outcomes.borrow().count(),
            sends: self.sends.borrow().count(),
            disconnects: self.disconnects.borrow().count(),
        }
    }

    /// Names what is not delivered, at the end of the process.
    pub fn name_undelivered(&self) {
        for share in self.shares() {
            share
                .borrow()
                .iter()
                .for_each(|post| self.name(post, IncidentKind::PostUndelivered));
        }
    }

    /// When the backend has taken one last.
    pub fn last_taken(&self) -> Option<Instant> {
        self.last_taken.get()
    }

    pub(super) fn handle_response(self: &Rc<Self>, post: Box<Post>, response: Result<Response<'_>, Failure>) {
        self.share(&post).borrow_mut().in_flight -= 1;
        let end = match response.map(|response| response.head.status) {
            Ok(200..300) => End::Delivered,
            // The backend understood and does not want it: asking again would change nothing.
            Ok(400..=407 | 409..=428 | 430..500) => End::Refused,
            _ => return self.keep(post),
        };
        self.last_taken.set(Some(self.reactor.now()));
        if let Some(next) = self.finish(post, end) {
            self.try_post(next);
        }
    }

    fn add(self: &Rc<Self>, identity: Rc<Identity>, notice: Notice, sender: Option<(Weak<Connection>, usize)>) {
        let number = self.next_number.replace(self.next_number.get() + 1);
        let key = PostKey {
            shard: self.index,
            number,
        };
        let now = self.reactor.now();
        let mut post = Box::new(Post {
            identity,
            notice,
            key,
            number,
            first_try: now,
            deadline: now + self.limits.try_timeout,
            tries: 0,
            sender,
            held: self.buffers.hold(0),
        });
        let len = post.len();
        post.held.set(len);
        let (kind, client) = (post.request_kind(), post.identity.clone());
        let entered = self.share_of(kind).borrow_mut().enter(post);
        match entered {
            Some(post) => self.try_post(post),
            None => self.make_room(kind, &client.client),
        }
    }

    fn try_post(self: &Rc<Self>, mut post: Box<Post>) {
        post.tries += 1;
        post.deadline = self.reactor.now() + self.limits.try_timeout;
        let Some(pool) = self.pool.upgrade() else {
            self.counters.posts_shed.add();
            return;
        };
        let kind = post.request_kind();
        self.share_of(kind).borrow_mut().in_flight += 1;
        if let Err(Request::Post(_, post)) = pool.submit(Request::Post(self.clone(), post)) {
            self.share_of(kind).borrow_mut().in_flight -= 1;
            self.keep(post);
        }
    }

    /// It was not delivered: it is tried again, or its time is over.
    fn keep(&self, post: Box<Post>) {
        let now = self.reactor.now();
        let pause = BACK_OFF_FIRST * 2_u32.saturating_pow(post.tries.saturating_sub(1).min(BACK_OFF_DOUBLINGS));
        if now + pause > post.first_try + self.limits.ttl {
            self.give_up(post, End::Expired);
            return;
        }
        let (kind, identity) = (post.request_kind(), post.identity.clone());
        self.wait(now + pause, post);
        self.make_room(kind, &identity.client);
    }

    fn wait(&self, due: Instant, post: Box<Post>) {
        self.share(&post).borrow_mut().wait(due, post);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn make_room(&self, kind: Kind, client: &ClientId) {
        loop {
            let evicted = self.share_of(kind).borrow_mut().evict(client, &self.limits);
            match evicted {
                Some(Evicted::Behind(post)) => self.count_end(&post, End::Shed),
                Some(Evicted::Due(post)) => self.give_up(post, End::Shed),
                None => return,
            }
        }
    }

    /// It is over. What was behind it is tried in a later turn: it may be given up, too.
    fn give_up(&self, post: Box<Post>, end: End) {
        if let Some(next) = self.finish(post, end) {
            self.wait(self.reactor.now(), next);
        }
    }

    /// It is over, one way or another. Gives back what was behind it.
    fn finish(&self, post: Box<Post>, end: End) -> Option<Box<Post>> {
        let next = match post.is_in_order() {
            true => self.share(&post).borrow_mut().next_of(post.client()),
            false => None,
        };
        self.count_end(&post, end);
        next
    }

    fn count_end(&self, post: &Post, end: End) {
        let counters = &self.counters;
        match (&post.notice, end) {
            (Notice::Disconnect(_), End::Delivered) => {}
            (Notice::Disconnect(_), _) => counters.disconnects_lost.add(),
            (Notice::Post(..), End::Delivered) => counters.posts_delivered.add(),
            (Notice::Post(..), End::Refused) => counters.posts_refused.add(),
            (Notice::Post(..), End::Expired) => counters.posts_expired.add(),
            (Notice::Post(..), End::Shed) => counters.posts_shed.add(),
        }
        self.name_lost(post, end);
        if let Some((connection, len)) = &post.sender
            && let Some(connection) = connection.upgrade()
        {
            connection.handle_post_over(*len);
        }
    }

    /// What is lost is named: somebody waits for it at the backend.
    fn name_lost(&self, post: &Post, end: End) {
        let kind = match (&post.notice, end) {
            (_, End::Delivered) => return,
            (Notice::Disconnect(_), _) => IncidentKind::DisconnectLost,
            (Notice::Post(..), End::Refused) => IncidentKind::PostRefused,
            (Notice::Post(..), End::Expired) => IncidentKind::PostExpired,
            (Notice::Post(..), End::Shed) => IncidentKind::PostShed,
        };
        self.name(post, kind);
    }

    fn name(&self, post: &Post, kind: IncidentKind) {
        let mut details = Details {
            detail: post.kind_name(),
            ..Details::default()
        };
        if let Notice::Post(action, message_id, _, trace) = &post.notice {
            details.trace_id = trace.as_ref().map(|trace| trace.trace_id());
            details.action = Some(action.as_str());
            details.message_id = Some(message_id.as_str());
        }
        let incidents = &self.counters.incidents;
        incidents.note(self.reactor.now(), kind, &post.identity, &details);
    }

    fn share(&self, post: &Post) -> &RefCell<Share> {
        self.share_of(post.request_kind())
    }

    fn share_of(&self, kind: Kind) -> &RefCell<Share> {
        match kind {
            Kind::Send => &self.sends,
            Kind::Disconnect => &self.disconnects,
            _ => &self.outcomes,
        }
    }

    fn shares(&self) -> [&RefCell<Share>; 3] {
        [&self.outcomes, &self.sends, &self.disconnects]
    }

    async fn retry(self: Rc<Self>) {
        let mut timer = Timer::new(&self.reactor);
        loop {
            poll_fn(|context| {
                *self.waker.borrow_mut() = Some(context.waker().clone());
                let next = self.shares().iter().filter_map(|share| share.borrow().next_due()).min();
                timer.set(next);
                if next.is_none() {
                    Poll::Pending
                } else {
                    timer.poll_expired(context)
                }
            })
            .await;
            for share in self.shares() {
                self.retry_due(share);
            }
            shards::yield_now().await;
        }
    }

    fn retry_due(self: &Rc<Self>, share: &RefCell<Share>) {
        let now = self.reactor.now();
        // A few at a time: a backend that has just come back is not met by everything at once.
        for _ in 0..RETRIES_AT_ONCE {
            let Some(post) = share.borrow_mut().pop_due(now) else {
                return;
            };
            if now > post.first_try + self.limits.ttl {
                self.give_up(post, End::Expired);
                continue;
            }
            if post.tries > 0 && matches!(post.notice, Notice::Post(..)) {
                self.counters.posts_retried.add();
            }
            self.try_post(post);
        }
    }
}

/// Of the posts of one process; the next one goes on with its connections, and begins with a higher number.
const GENERATION_SHIFT: u32 = 40;
const BACK_OFF_FIRST: Duration = Duration::from_millis(250);
const BACK_OFF_DOUBLINGS: u32 = 5;
const RETRIES_AT_ONCE: usize = 64;

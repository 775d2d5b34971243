//! Posts what the backend must learn at least once: `/result`, `/error`, `/send`, `/resulterror`.
//!
//! A post is tried at once. If that fails it waits here, with a back-off that doubles, until `result_ttl` has passed;
//! every try carries the same `Idempotency-Key`. When more than `results_queued_max` wait, the oldest is dropped and
//! counted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shards::{Reactor, Timer, spawn};

use super::requests::Request;
use crate::backend::{Pool, Response};
use crate::observe::counters::Counters;
use protocol::balance::Kind;
use protocol::http::Failure;
use protocol::http::RequestTemplate;
use protocol::mapping::Identity;
use protocol::mapping::outgoing::{self, PostKey};
use protocol::ocpp::{Action, MessageId, PostContent};

/// One thing that the backend must learn.
#[derive(Debug)]
pub struct Post {
    identity: Rc<Identity>,
    action: Action,
    message_id: MessageId,
    content: PostContent,
    key: PostKey,
    first_try: Instant,
    deadline: Instant,
    tries: u32,
}

/// A shard's undelivered posts.
pub struct Outbox {
    /// Its shard's: a connection's outcomes may be posted from the shard where a request waited for them.
    index: usize,
    reactor: Rc<Reactor>,
    counters: Rc<Counters>,
    pool: Weak<Pool<Request>>,
    limits: OutboxLimits,
    waiting: RefCell<VecDeque<(Instant, Box<Post>)>>,
    in_flight: Cell<usize>,
    next_number: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

/// The outbox's bounds, from the shard's config.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// How long a post is tried again: `result_ttl`.
    pub ttl: Duration,
    /// How many posts may wait: `results_queued_max`.
    pub waiting_max: usize,
    /// A single try takes no longer than a Call may.
    pub try_timeout: Duration,
}

impl Outbox {
    /// An empty outbox that posts through `pool`.
    pub fn new(
        index: usize,
        reactor: &Rc<Reactor>,
        counters: Rc<Counters>,
        pool: &Rc<Pool<Request>>,
        limits: OutboxLimits,
    ) -> Rc<Self> {
        let outbox = Rc::new(Self {
            index,
            reactor: reactor.clone(),
            counters,
            pool: Rc::downgrade(pool),
            limits,
            waiting: RefCell::new(VecDeque::new()),
            in_flight: Cell::new(0),
            next_number: Cell::new(0),
            waker: RefCell::new(None),
        });
        spawn(outbox.clone().retry());
        outbox
    }

    /// Posts `content` under these names.
    pub fn post(
        self: &Rc<Self>,
        identity: Rc<Identity>,
        (action, message_id): (Action, MessageId),
        content: PostContent,
    ) {
        let key = PostKey {
            shard: self.index,
            number: self.next_number.replace(self.next_number.get() + 1),
        };
        let now = self.reactor.now();
        let deadline = now + self.limits.try_timeout;
        let post = Post {
            identity,
            action,
            message_id,
            content,
            key,
            first_try: now,
            deadline,
            tries: 0,
        };
        self.try_post(Box::new(post));
    }

    /// Posts that are not delivered yet.
    pub fn len(&self) -> usize {
        self.waiting.borrow().len() + self.in_flight.get()
    }

    /// True when everything was delivered or given up.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn handle_response(self: &Rc<Self>, post: Box<Post>, response: Result<Response<'_>, Failure>) {
        self.in_flight.set(self.in_flight.get() - 1);
        match response.map(|response| response.head.status) {
            Ok(200..300) => self.counters.posts_delivered.add(),
            // The backend understood and does not want it: asking again would change nothing.
            Ok(400..=407 | 409..=428 | 430..500) => self.counters.posts_refused.add(),
            _ => self.keep(post),
        }
    }

    fn try_post(self: &Rc<Self>, mut post: Box<Post>) {
        post.tries += 1;
        post.deadline = self.reactor.now() + self.limits.try_timeout;
        let Some(pool) = self.pool.upgrade() else {
            self.counters.posts_shed.add();
            return;
        };
        self.in_flight.set(self.in_flight.get() + 1);
        if let Err(Request::Post(_, post)) = pool.submit(Request::Post(self.clone(), post)) {
            self.in_flight.set(self.in_flight.get() - 1);
            self.keep(post);
        }
    }

    fn keep(&self, post: Box<Post>) {
        let now = self.reactor.now();
        let pause = BACK_OFF_FIRST * 2_u32.saturating_pow(post.tries.saturating_sub(1).min(BACK_OFF_DOUBLINGS));
        let due = now + pause;
        if due > post.first_try + self.limits.ttl {
            self.counters.posts_expired.add();
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= self.limits.waiting_max {
            waiting.pop_front();
            self.counters.posts_shed.add();
        }
        waiting.push_back((due, post));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn retry(self: Rc<Self>) {
        let mut timer = Timer::new(&self.reactor);
        loop {
            poll_fn(|context| {
                *self.waker.borrow_mut() = Some(context.waker().clone());
                let next = self.waiting.borrow().iter().map(|(due, _)| *due).min();
                timer.set(next);
                if next.is_none() {
                    Poll::Pending
                } else {
                    timer.poll_expired(context)
                }
            })
            .await;
            for post in self.take_due() {
                self.counters.posts_retried.add();
                self.try_post(post);
            }
            shards::yield_now().await;
        }
    }

    // They stay in the boxes that they travel in.
    #[allow(clippy::vec_box)]
    fn take_due(&self) -> Vec<Box<Post>> {
        let now = self.reactor.now();
        let mut due = Vec::new();
        let mut left = VecDeque::new();
        for (at, post) in self.waiting.borrow_mut().drain(..) {
            // A few at a time: a backend that has just come back is not met by everything at once.
            if at <= now && due.len() < RETRIES_AT_ONCE {
                due.push(post);
            } else {
                left.push_back((at, post));
            }
        }
        *self.waiting.borrow_mut() = left;
        due
    }
}

impl Post {
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn request_kind(&self) -> Kind {
        match self.content {
            PostContent::Outcome(_) => Kind::Outcome,
            PostContent::Send(_) | PostContent::ResultError(_) => Kind::Send,
        }
    }

    pub(super) fn body_len(&self) -> usize {
        outgoing::post_body(&self.content).len()
    }

    pub(super) fn write(&self, template: &RequestTemplate, out: &mut Vec<u8>) {
        let names = (&self.action, &self.message_id);
        outgoing::write_post(template, &self.identity, names, &self.content, self.key, out);
    }
}

const BACK_OFF_FIRST: Duration = Duration::from_millis(250);
const BACK_OFF_DOUBLINGS: u32 = 5;
const RETRIES_AT_ONCE: usize = 64;

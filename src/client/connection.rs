//! Serves one client's WebSocket: does what its session decides.
//!
//! The connection's task reads and waits; whoever has news for the client writes the frame without waking the task: at
//! once, or an answer of the backend in a pass with many events at its end, with those for other clients. The task is
//! woken only for what must wait: a socket that is full, a deadline, an end.
//!
//! Invariants: `finish` runs once, and from then on the connection is in no registry. The session is not touched
//! while it borrows anything of ours.

mod ending;
mod moving;
mod reading;
mod writing;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use shards::Timer;

use super::clients::Clients;
use super::conversation::Conversation;
use super::end::{CLOSE_LOST, CLOSE_REPLACED, CLOSE_TRY_AGAIN, End};
use super::frame::Frame;
use super::registry::Registered;
use super::websocket::{CLOSE_TIMEOUT, WebSocket};
use super::write_queue::WriteQueue;
use crate::env::Env;
use crate::env::buffers::Holder;
use crate::observe::counters::Ended;
use crate::wire::Wire;
use protocol::http::Failure;
use protocol::mapping::{Answer, ConnectionId, Identity, Reply};
use protocol::ocpp::{
    Accepted, Action, CallKey, CallText, DeferredRefusal, FailReason, MessageId, Output, Outputs, Pending,
};
use protocol::ocpp::{PostContent, Push, PushRefusal, Session, Subprotocol, Traffic, WaitOver, Waiter};
use protocol::trace_context::TraceParent;
use protocol::websocket::deflate::{Agreement, Deflate};

/// A connected client.
pub struct Connection<C: Conversation = Session> {
    /// Itself, for the requests that hold it until they are answered.
    me: Weak<Self>,
    clients: Rc<Clients<C>>,
    identity: Rc<Identity>,
    since: SystemTime,
    /// Of its own words, how many were over while the session was busy, and their lengths together.
    posts_over: Cell<(u32, usize)>,
    state: RefCell<State<C>>,
}

struct State<C> {
    session: C,
    /// `None` once the connection is over: a Call at the backend may hold the rest for longer.
    stream: Option<WebSocket>,
    timer: Timer,
    /// Only while the socket takes no more.
    queue: Option<Box<WriteQueue>>,
    phase: Phase,
    /// When it is over at the latest, once it closes.
    ends_at: Option<Instant>,
    opened: Instant,
    finished: bool,
    /// Bytes of the frames that leave at the end of this pass.
    deferred_len: u16,
    /// Not read until the session wants to.
    paused: bool,
    /// The bytes that the shard's account has for it.
    counted_len: u32,
    /// When it was told last to wait for room.
    room_round: u32,
    leaving: Leaving,
}

/// What a connection waits for before it is closed, while the process drains, or before another process takes it.
#[derive(Clone, Copy, PartialEq)]
enum Leaving {
    No,
    /// Nothing is under way.
    OnceQuiet,
    /// The backend has answered. Nothing more is read meanwhile.
    OnceAnswered,
    /// Nothing is under way that could not go on in another process: it moves there and is not closed.
    OnceMovable,
    /// It is among those that may move now.
    Listed,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    /// Our close frame is on its way; the client's is awaited.
    Closing,
    /// Both sides have closed: it is over once our frame has left.
    Ending,
    /// The client broke the protocol: what it still sends is read and dropped until it closes, so that our close frame
    /// is not lost to a reset.
    Lingering,
    Over,
}

impl<C: Conversation> Connection<C> {
    /// A client whose opening handshake is done. [`run`](Self::run) is its life.
    /// `deflate`: what was agreed on compression.
    pub fn new(
        clients: &Rc<Clients<C>>,
        identity: Rc<Identity>,
        session: C,
        wire: Wire,
        deflate: Option<Agreement>,
    ) -> Rc<Self> {
        let stream = WebSocket::new(wire, deflate.map(Deflate::new));
        let now = clients.env.reactor.now();
        Self::begin(clients, identity, session, Some(stream), (SystemTime::now(), now))
    }

    fn begin(
        clients: &Rc<Clients<C>>,
        identity: Rc<Identity>,
        session: C,
        stream: Option<WebSocket>,
        (since, opened): (SystemTime, Instant),
    ) -> Rc<Self> {
        let state = State {
            session,
            stream,
            timer: Timer::new(&clients.env.reactor),
            queue: None,
            phase: Phase::Open,
            ends_at: None,
            opened,
            finished: false,
            deferred_len: 0,
            paused: false,
            counted_len: 0,
            room_round: 0,
            leaving: Leaving::No,
        };
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            clients: clients.clone(),
            identity,
            since,
            posts_over: Cell::default(),
            state: RefCell::new(state),
        })
    }

    /// The client's id, connection and address, as the backend is told.
    pub fn identity(&self) -> &Rc<Identity> {
        &self.identity
    }

    /// When the handshake was done.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// What is under way.
    pub fn pending(&self) -> Pending {
        self.state.borrow().session.pending()
    }

    /// What has gone to and fro.
    pub fn traffic(&self) -> Traffic {
        self.state.borrow().session.traffic()
    }

    /// How long nothing was heard of the client.
    pub fn silent_for(&self) -> Duration {
        self.state.borrow().session.silent_for(self.env().reactor.now())
    }

    /// Runs the connection's task: reads, waits for deadlines, and ends with the connection.
    pub async fn run(self: Rc<Self>) {
        poll_fn(|context| self.poll(context)).await;
        let mut state = self.state.borrow_mut();
        state.release();
        self.count_held(&mut state);
    }

    /// The backend's answer to one of its Calls.
    pub fn handle_answer(&self, key: CallKey, arrived: Instant, answer: Answer<'_>) {
        let counters = &self.env().counters;
        counters.count_answer(&answer);
        counters
            .call_latency
            .record(self.env().reactor.now().saturating_duration_since(arrived));
        // If it ends with this answer, nothing is left of this Call to be counted.
        let was_over = self.state.borrow().finished;
        self.with_session(|session, now, out| session.handle_answer(now, key, answer, out));
        if was_over {
            self.clients.handle_earlier_call_over(&self.identity.client);
        }
    }

    /// The backend has answered, or has not answered, a Call with a trace.
    pub fn note_traced(&self, trace: &TraceParent, call: &CallText, answer: &Answer<'_>) {
        self.clients.note_traced(&self.identity, trace, call, answer);
    }

    /// The backend still works on `count` Calls of the client's earlier connections.
    pub fn handle_earlier_calls(&self, count: usize) {
        self.with_session(|session, now, out| session.handle_earlier_calls(now, count, out));
    }

    /// Something that the client said has been delivered to the backend, or given up: `len` bytes of it.
    pub fn handle_post_over(&self, len: usize) {
        let Ok(mut state) = self.state.try_borrow_mut() else {
            // The session is busy: it is told when it has done what it decided.
            let (count, sum) = self.posts_over.get();
            self.posts_over.set((count + 1, sum + len));
            return;
        };
        state.session.handle_post_over(self.env().reactor.now(), len);
        self.settle(&mut state);
    }

    /// For those that tell it something when there is something to be told.
    pub fn weak(&self) -> Weak<Self> {
        self.me.clone()
    }

    /// Pushes that its predecessor had not sent.
    pub fn adopt(&self, pushes: Vec<Push>) {
        if !pushes.is_empty() {
            self.with_session(|session, now, out| session.adopt(now, pushes, out));
        }
    }

    /// A newer connection of the same ClientId has taken its place, on that node if it is another one: closed with 4001. Gives back
    /// the pushes that were not sent.
    pub fn handle_replaced(&self, by: ConnectionId, node: Option<&str>) -> Vec<Push> {
        let mut state = self.state.borrow_mut();
        let end = End {
            code: CLOSE_REPLACED,
            reason: "replaced",
            pushes: FailReason::Replaced,
            replaced_by: Some((by, node)),
            ended: Ended::Replaced,
        };
        let pushes = self.finish(&mut state, &end);
        self.start_closing(&mut state, CLOSE_REPLACED, "replaced");
        pushes
    }

    /// Closes it with `code` and `reason` (at most 123 bytes).
    pub fn close(&self, code: u16, reason: &str) {
        let mut state = self.state.borrow_mut();
        let end = End {
            code,
            reason,
            pushes: FailReason::Disconnected,
            replaced_by: None,
            ended: Ended::Kicked,
        };
        self.finish(&mut state, &end);
        self.start_closing(&mut state, code, reason);
    }

    /// The process drains: no push is begun any more.
    pub fn handle_shutdown(&self) {
        self.with_session(|session, now, out| session.handle_shutdown(now, out));
    }

    /// Closes it with 1001, as soon as its Calls and the pushes that it got are answered.
    pub fn leave(&self) {
        self.leave_once(Leaving::OnceQuiet);
    }

    /// The process drains, and it is its turn: as [`leave`](Self::leave), and what has not begun is not begun any more.
    pub fn leave_in_turn(&self) {
        self.with_session(|session, now, out| session.handle_leave(now, out));
        self.leave();
    }

    /// The drain has waited long enough for clients: closes it with 1001, as soon as the Calls that are at the backend
    /// are answered.
    pub fn leave_once_answered(&self) {
        self.leave_once(Leaving::OnceAnswered);
    }

    fn leave_once(&self, leaving: Leaving) {
        let mut state = self.state.borrow_mut();
        state.leaving = leaving;
        self.settle(&mut state);
    }

    /// The drain is at its end: closes it with 1001 whatever is under way.
    pub fn leave_now(&self) {
        let mut state = self.state.borrow_mut();
        self.send_away(&mut state);
    }

    fn env(&self) -> &Env {
        &self.clients.env
    }

    fn with_session<R>(&self, handle: impl FnOnce(&mut C, Instant, &mut Outputs) -> R) -> R {
        let mut state = self.state.borrow_mut();
        let mut out = self.clients.take_outputs();
        let result = handle(&mut state.session, self.env().reactor.now(), &mut out);
        self.act(&mut state, &mut out);
        self.clients.return_outputs(out);
        self.settle(&mut state);
        result
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        if let Some(stream) = &mut state.stream {
            stream.set_waker(context.waker());
        }
        let mut out = self.clients.take_outputs();
        self.flush(&mut state, &mut out);
        self.read(&mut state, &mut out);
        self.settle(&mut state);
        while state.phase != Phase::Over && state.timer.poll_expired(context).is_ready() {
            self.handle_deadline(&mut state, &mut out);
            self.act(&mut state, &mut out);
            self.settle(&mut state);
        }
        self.clients.return_outputs(out);
        if state.phase == Phase::Over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn handle_deadline(&self, state: &mut State<C>, out: &mut Outputs) {
        let now = self.env().reactor.now();
        let send_deadline = state
            .queue
            .as_ref()
            .map(|queue| queue.progress_at() + self.env().core.send_timeout);
        match state.phase {
            Phase::Closing | Phase::Ending | Phase::Lingering
                if state.ends_at.is_some_and(|ends_at| now >= ends_at) =>
            {
                state.phase = Phase::Over;
            }
            Phase::Open if send_deadline.is_some_and(|deadline| now >= deadline) => self.end_slow(state),
            Phase::Open => state.session.handle_deadline(now, out),
            _ => {}
        }
    }

    fn next_deadline(&self, state: &State<C>) -> Option<Instant> {
        match state.phase {
            Phase::Closing | Phase::Ending | Phase::Lingering => state.ends_at,
            Phase::Over => None,
            Phase::Open => {
                let send_deadline = state
                    .queue
                    .as_ref()
                    .map(|queue| queue.progress_at() + self.env().core.send_timeout);
                let session = state.session.next_deadline();
                send_deadline.into_iter().chain(session).min()
            }
        }
    }

    /// Does what the session decided. More may follow from it (a Call that finds no place has its answer at once).
    fn act(&self, state: &mut State<C>, out: &mut Outputs) {
        if out.is_empty() {
            return;
        }
        let mut more = Outputs::default();
        while !out.is_empty() {
            for output in out.drain(..) {
                self.act_on(state, output, &mut more);
            }
            out.append(&mut more);
        }
        out.recycle_from(&mut more);
    }

    fn act_on(&self, state: &mut State<C>, output: Output, more: &mut Outputs) {
        match output {
            Output::Send { frame, push } => {
                self.env().counters.count_sent(frame.as_bytes());
                self.send(state, Frame::text(frame, push), more);
            }
            Output::Call {
                key,
                text,
                deadline,
                arrived,
            } => {
                self.env().counters.calls_started.add();
                let connection = self.me.upgrade().expect("a connection that acts is held by somebody");
                let backend = self.clients.backend();
                if backend.call(connection, key, text, deadline, arrived).is_err() {
                    let answer = Answer::Failed(Failure::Overloaded);
                    self.env().counters.count_answer(&answer);
                    state.session.handle_answer(self.env().reactor.now(), key, answer, more);
                    if state.finished {
                        self.clients.handle_earlier_call_over(&self.identity.client);
                    }
                }
            }
            Output::Post {
                action,
                message_id,
                content,
                trace,
            } => {
                if let PostContent::Outcome(outcome) = &content {
                    self.env().counters.count_outcome(outcome);
                }
                let backend = self.clients.backend();
                backend.post(self, (action, message_id), content, trace);
            }
            Output::Outcome {
                action,
                message_id,
                waiter,
                outcome,
                trace,
            } => {
                self.env().counters.count_outcome(&outcome);
                let backend = self.clients.backend();
                backend.answer_push(&self.identity, waiter, (action, message_id), outcome, trace);
            }
            Output::Ping => {
                self.env().counters.sent_ping.add();
                self.send(state, Frame::ping(), more);
            }
            Output::Close { code, reason } => self.close_now(state, code, reason, FailReason::Disconnected),
            Output::Drop => {
                let end = End {
                    code: CLOSE_LOST,
                    reason: "silent",
                    pushes: FailReason::Disconnected,
                    replaced_by: None,
                    ended: Ended::Silent,
                };
                self.finish(state, &end);
                self.end_now(state);
            }
            Output::PushAnswered { after } => self.env().counters.push_latency.record(after),
            Output::Count(event) => self.clients.note_event(&self.identity, event),
        }
    }

    /// After anything was decided outside of the connection's task: what the task must know of it.
    fn settle(&self, state: &mut State<C>) {
        let (count, mut len) = self.posts_over.take();
        for _ in 0..count {
            let now = self.env().reactor.now();
            state.session.handle_post_over(now, std::mem::take(&mut len));
        }
        if state.may_leave() {
            self.send_away(state);
        }
        if state.leaving == Leaving::OnceMovable && state.is_quiet() {
            state.leaving = Leaving::Listed;
            self.clients.quiet.extend(self.me.upgrade());
        }
        if state.phase == Phase::Ending && state.queue.is_none() {
            state.phase = Phase::Over;
        }
        if state.paused && state.wants_read() {
            state.paused = false;
            state.wake();
        }
        self.count_held(state);
        let deadline = self.next_deadline(state);
        state.timer.set(deadline);
    }

    /// Brings the shard's account up to date.
    fn count_held(&self, state: &mut State<C>) {
        let held = u32::try_from(state.held_len()).unwrap_or(u32::MAX);
        if held != state.counted_len {
            let before = std::mem::replace(&mut state.counted_len, held);
            let number = self.identity.connection.number();
            self.env()
                .buffers
                .change(number, || self.me.clone(), before as usize, held as usize);
        }
    }

    /// Bytes that are held for the client.
    pub(super) fn held_len(&self) -> usize {
        self.state.borrow().counted_len as usize
    }
}

impl<C: Conversation> Holder for Connection<C> {
    fn make_room(&self) {
        let mut state = self.state.borrow_mut();
        self.close_now(
            &mut state,
            CLOSE_TRY_AGAIN,
            "too much is held here",
            FailReason::Disconnected,
        );
        if state.queue.is_some() {
            // It does not read: the close frame would wait behind what is to go.
            self.end_now(&mut state);
            state.queue = None;
        } else if state.phase != Phase::Over {
            state.enter(Phase::Lingering, self.env().reactor.now());
            self.finish_lingering_send(&mut state);
        }
        if let Some(stream) = &mut state.stream {
            stream.forget();
        }
        self.settle(&mut state);
    }
}

/// What the backend asks of a client.
impl Connection {
    /// The rules that its subprotocol sets.
    pub fn subprotocol(&self) -> Subprotocol {
        self.state.borrow().session.subprotocol()
    }

    /// A Call from the backend.
    ///
    /// # Errors
    /// See [`PushRefusal`].
    pub fn handle_push(&self, push: Push) -> Result<Accepted, PushRefusal> {
        self.with_session(|session, now, out| session.handle_push(now, push, out))
    }

    /// The request that waited for a push waits no longer.
    pub fn handle_wait_over(&self, id: &MessageId, waiter: Waiter) -> WaitOver {
        self.with_session(|session, _, _| session.handle_wait_over(id, waiter))
    }

    /// The backend's answer to a Call that it had deferred.
    ///
    /// # Errors
    /// See [`DeferredRefusal`].
    pub fn handle_deferred(&self, action: &Action, id: &MessageId, reply: &Reply<'_>) -> Result<(), DeferredRefusal> {
        self.with_session(|session, now, out| session.handle_deferred(now, action, id, reply, out))
    }
}

impl<C: Conversation> Registered for Connection<C> {
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl<C: Conversation> State<C> {
    fn wants_read(&self) -> bool {
        self.leaving != Leaving::OnceAnswered && self.session.wants_read()
    }

    fn may_leave(&self) -> bool {
        match self.leaving {
            Leaving::No | Leaving::OnceMovable | Leaving::Listed => false,
            Leaving::OnceQuiet => self.session.pending() == Pending::default(),
            Leaving::OnceAnswered => {
                let pending = self.session.pending();
                pending.calls_in_flight == pending.calls_deferred && pending.calls_queued == 0
            }
        }
    }

    /// From now on the connection is on its way to its end.
    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.ends_at = Some(now + CLOSE_TIMEOUT);
    }

    /// Bytes that are kept of messages in part, Calls, pushes, and frames that the client does not take.
    fn held_len(&self) -> usize {
        let received = self.stream.as_ref().map_or(0, WebSocket::held_len);
        let queued = self.queue.as_ref().map_or(0, |queue| queue.len());
        received + queued + self.session.held_len()
    }

    /// The connection is over: nothing of it is needed but what a request at the backend refers to.
    fn release(&mut self) {
        let queue = self.queue.take();
        if let (Some(mut stream), None) = (self.stream.take(), queue) {
            stream.say_goodbye();
        }
        self.timer.set(None);
    }

    fn wake(&self) {
        // Before the task's first turn nobody is woken: the turn comes anyway.
        if let Some(stream) = &self.stream {
            stream.waker().wake_by_ref();
        }
    }
}

#[cfg(all(not(test), not(simulation), target_pointer_width = "64"))]
const _: () = assert!(
    size_of::<Connection>() <= 512 - 2 * size_of::<usize>(),
    "an idle client's largest allocation, with its counts"
);

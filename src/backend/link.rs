//! Runs one keep-alive connection to a backend: it writes a request (or a few together), reads the answers in order,
//! and says whether there may be another.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use shards::{Socket, Timer};

use super::exchange::{Exchange, Response};
use super::limits::PoolLimits;
use super::tls::{Ended, Received, Tls};
use crate::env::buffers::{Buffers, Held};
use crate::observe::backends::{BackendResult, BackendTally};
use crate::observe::counters::Counters;
use protocol::balance::{Job, Kind, LinkId};
use protocol::http::{
    BodyDecoder, BodyError, Failure, HeadError, RequestTemplate, ResponseHead, parse_response, whole_body,
};

/// Whoever gives a connection its requests, and hears of it.
pub(super) trait Owner<E: Exchange> {
    /// A request has been answered. `is_idle`: the connection has nothing to do, and may be given more.
    fn handle_answered(&self, link: LinkId, answered: Answered, is_idle: bool);
    /// The backend had no worker for a request, and has not executed it.
    ///
    /// # Errors
    /// It comes back when it is not tried again.
    fn handle_turned_away(&self, job: Job<E>) -> Result<(), Job<E>>;
    /// A request that was sent at `sent` has no answer in time.
    fn handle_timed_out(&self, link: LinkId, sent: Instant);
    /// Whether the connection is kept for an answer that nobody waits for.
    fn is_witness(&self, link: LinkId) -> bool;
    /// The backend has ended the connection without an answer to the request on it.
    fn handle_broken(&self, link: LinkId);
    /// The backend has refused us as soon as it knew who we are, by TLS.
    fn handle_refused(&self, link: LinkId);
    /// The connection is of no more use, and of these requests not a byte was written.
    fn handle_unsent(&self, link: LinkId, jobs: VecDeque<Job<E>>);
    /// The connection has ended: nothing more is heard of it.
    fn handle_ended(&self, link: LinkId);
}

/// What an answer says of the backend's capacity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    /// From the request's first byte on.
    pub(super) latency: Duration,
    /// It says that it is too much.
    pub(super) is_refused: bool,
}

/// What all connections of a shard use.
pub(super) struct Shared {
    pub(super) limits: PoolLimits,
    pub(super) counters: Rc<Counters>,
    /// Answers in part count among the bytes that the shard holds.
    pub(super) buffers: Rc<Buffers>,
    /// Where answers are received: one per shard, whatever the connections.
    pub(super) incoming: RefCell<Vec<u8>>,
}

/// One connection. Its owner knows it by its name and has it while it lives, and so does its task.
pub(super) struct Link<E: Exchange> {
    id: LinkId,
    socket: Socket,
    /// What its bytes go through.
    tls: Option<RefCell<Tls>>,
    shared: Rc<Shared>,
    template: Rc<RequestTemplate>,
    /// Its backend's.
    tally: Rc<BackendTally>,
    state: RefCell<State<E>>,
}

struct State<E> {
    /// Answered in this order. One, unless `backend_pipeline_max` allows more. `None`: given up, its answer is
    /// nobody's.
    in_flight: VecDeque<Option<Job<E>>>,
    /// Those in flight are gathered: nothing of them was written yet.
    gathering: bool,
    /// What of the requests the socket has not taken yet.
    unsent: Vec<u8>,
    /// So many of them have been taken since.
    unsent_taken: usize,
    /// An answer that did not come in one piece.
    partial: Option<Box<Partial>>,
    timer: Timer,
    idle_since: Instant,
    /// So long it may have nothing to do. The backend says at its first answer how long it waits itself.
    idle_timeout: Duration,
    has_answered: bool,
    started: Instant,
    waker: Option<Waker>,
    closed: bool,
}

struct Partial {
    /// The head's bytes (and before it is complete, all bytes).
    received: Vec<u8>,
    /// Once the head is complete.
    body: Option<(BodyDecoder, Vec<u8>)>,
    held: Held,
}

/// What became of the bytes so far.
enum Progress {
    More,
    /// The answer is whole. What the backend says of the connection, and how many of the bytes are not this answer's.
    Whole {
        keep_alive: bool,
        surplus: usize,
    },
    Failed(Failure),
}

impl<E: Exchange> Link<E> {
    pub(super) fn new(
        id: LinkId,
        (socket, tls): (Socket, Option<Tls>),
        shared: Rc<Shared>,
        template: Rc<RequestTemplate>,
        tally: Rc<BackendTally>,
    ) -> Rc<Self> {
        let now = socket.reactor().now();
        let mut timer = Timer::new(socket.reactor());
        timer.set(Some(now + shared.limits.idle_timeout));
        let state = State {
            in_flight: VecDeque::new(),
            gathering: false,
            unsent: Vec::new(),
            unsent_taken: 0,
            partial: None,
            timer,
            idle_since: now,
            idle_timeout: shared.limits.idle_timeout,
            has_answered: false,
            started: now,
            waker: None,
            closed: false,
        };
        Rc::new(Self {
            id,
            socket,
            tls: tls.map(RefCell::new),
            shared,
            template,
            tally,
            state: RefCell::new(state),
        })
    }

    pub(super) fn id(&self) -> LinkId {
        self.id
    }

    /// True when a request may be written. One that has been idle for a while is asked, because the news of its end
    /// may still be on its way through epoll.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        let state = self.state.borrow();
        if state.closed || self.socket.peer_closed() {
            return false;
        }
        now.saturating_duration_since(state.idle_since) < TRUSTED_IDLE || self.socket.ask_idle()
    }

    /// Ends the connection; its task cleans up.
    pub(super) fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.closed = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// True when nobody waits for an answer on it: nothing is lost when it ends.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        state.in_flight.iter().all(Option::is_none) && !state.gathering
    }

    /// Takes back the requests that it works on and for which `is_given_up` says so. The connection is of no more use
    /// then.
    pub(super) fn give_up(&self, is_given_up: impl Fn(&E) -> bool) -> Vec<E> {
        let mut state = self.state.borrow_mut();
        let places = state.in_flight.iter_mut();
        let given_up = places.filter_map(|place| place.take_if(|job| is_given_up(&job.request)));
        let given_up: Vec<E> = given_up.map(|job| job.request).collect();
        drop(state);
        if !given_up.is_empty() {
            self.close();
        }
        given_up
    }

    /// Adds a request to those that [`send`](Self::send) will write: its bytes go to `outgoing`.
    pub(super) fn push(&self, job: Job<E>, outgoing: &mut Vec<u8>) {
        job.request.write(&self.template, outgoing);
        let mut state = self.state.borrow_mut();
        state.in_flight.push_back(Some(job));
        state.gathering = true;
    }

    /// Writes the requests that were added, all at once: `outgoing`.
    ///
    /// # Errors
    /// The requests come back, in order, when the connection is dead and nothing of them was written.
    pub(super) fn send(&self, outgoing: &[u8]) -> Result<(), VecDeque<Job<E>>> {
        self.state.borrow_mut().gathering = false;
        // One that ended since the first was added has given them back: nothing of them may be written.
        let is_closed = self.state.borrow().closed;
        let sealed;
        let outgoing = match &self.tls {
            None => Some(outgoing),
            Some(_) if is_closed => None,
            Some(tls) => {
                sealed = tls.borrow_mut().seal(outgoing);
                sealed.as_deref()
            }
        };
        let outgoing = outgoing.filter(|_| !is_closed).ok_or(());
        let sent = outgoing.and_then(|outgoing| {
            let sent = self.socket.try_send(outgoing).unwrap_or(Ok(0)).map_err(drop)?;
            Ok(outgoing.get(sent..).unwrap_or_default())
        });
        let unsent = match sent {
            Ok(unsent) => unsent,
            Err(()) => {
                self.close();
                let unsent = std::mem::take(&mut self.state.borrow_mut().in_flight);
                return Err(unsent.into_iter().flatten().collect());
            }
        };
        let mut state = self.state.borrow_mut();
        self.shared
            .counters
            .backend_requests
            .add_many(state.in_flight.len() as u64);
        state.watch_deadline();
        state.started = self.socket.reactor().now();
        if !unsent.is_empty() {
            state.unsent = unsent.to_vec();
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
        Ok(())
    }

    /// Reads answers until the connection ends, and tells `owner`.
    pub(super) async fn run(self: Rc<Self>, owner: impl Owner<E>) {
        poll_fn(|context| self.poll(context, &owner)).await;
        self.take_leave();
        owner.handle_ended(self.id);
    }

    fn poll(&self, context: &mut Context<'_>, owner: &impl Owner<E>) -> Poll<()> {
        loop {
            {
                let mut state = self.state.borrow_mut();
                if state.closed {
                    drop(state);
                    self.end_without_blame(owner);
                    return Poll::Ready(());
                }
                match &mut state.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                if state.timer.poll_expired(context).is_ready() {
                    drop(state);
                    if !self.expire(owner) {
                        self.end_without_blame(owner);
                        return Poll::Ready(());
                    }
                    continue;
                }
                if self.poll_unsent(&mut state, context).is_err() {
                    drop(state);
                    self.end(owner, Failure::CutOff);
                    return Poll::Ready(());
                }
            }
            let mut incoming = self.shared.incoming.borrow_mut();
            let received = match self.poll_recv(context, &mut incoming) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(received) => received,
            };
            let bytes = incoming.get(..received.plain_len).unwrap_or_default();
            let goes_on = bytes.is_empty() || self.handle_bytes(bytes, owner);
            let goes_on = goes_on
                && match received.end {
                    None => true,
                    Some(Ended::Closed) => self.handle_end(owner),
                    Some(Ended::Refused) => {
                        self.shared.counters.backend_tls_failed.add();
                        owner.handle_refused(self.id);
                        self.end_without_blame(owner);
                        false
                    }
                    // No answer ends so, also none that ends with its connection.
                    Some(Ended::Broken) => {
                        self.end(owner, Failure::CutOff);
                        false
                    }
                };
            if !goes_on {
                return Poll::Ready(());
            }
        }
    }

    /// Receives, and takes TLS off where there is any. Its end without the word that it is the end is none: bytes may be missing.
    fn poll_recv(&self, context: &mut Context<'_>, incoming: &mut [u8]) -> Poll<Received> {
        let ended = |end| Received {
            plain_len: 0,
            end: Some(end),
        };
        let mut tls = self.tls.as_ref().map(RefCell::borrow_mut);
        let kept = tls.as_mut().map_or(0, |tls| tls.prepare(incoming));
        let received = ready!(
            self.socket
                .poll_recv(context, incoming.get_mut(kept..).unwrap_or_default())
        );
        Poll::Ready(match (received, &mut tls) {
            (Ok(0), None) => ended(Ended::Closed),
            (Ok(0), Some(_)) | (Err(_), _) => ended(Ended::Broken),
            (Ok(plain_len), None) => Received { plain_len, end: None },
            (Ok(len), Some(tls)) => tls.open(incoming.get_mut(..kept + len).unwrap_or_default()),
        })
    }

    /// The connection ends: whoever speaks TLS hears that it does, if all that was said before has left.
    fn take_leave(&self) {
        if let (Some(tls), true) = (&self.tls, self.state.borrow().unsent.is_empty()) {
            // It may be gone already.
            let _ = self.socket.try_send(&tls.borrow_mut().last_word());
        }
    }

    fn poll_unsent(&self, state: &mut State<E>, context: &mut Context<'_>) -> std::io::Result<()> {
        while let Some(unsent @ [_, ..]) = state.unsent.get(state.unsent_taken..) {
            match self.socket.poll_send(context, unsent) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(len)) => state.unsent_taken += len,
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        if state.unsent_taken > 0 {
            state.unsent = Vec::new();
            state.unsent_taken = 0;
        }
        Ok(())
    }

    /// False when the connection has ended.
    fn handle_bytes(&self, bytes: &[u8], owner: &impl Owner<E>) -> bool {
        let mut rest = bytes;
        loop {
            let mut state = self.state.borrow_mut();
            if state.in_flight.is_empty() || state.gathering {
                // Bytes that nobody asked for: what comes next could not be told from them.
                drop(state);
                self.end(owner, Failure::Malformed);
                return false;
            }
            if state.partial.is_none() {
                match parse_response(rest, self.shared.limits.head_max) {
                    Ok(Some(head)) => {
                        let (_, after_head) = rest.split_at(head.len);
                        if let Some(content) = whole_body(head.framing, after_head)
                            && content.len() <= self.shared.limits.content_max
                        {
                            (_, rest) = after_head.split_at(content.len());
                            let keep_alive = head.keep_alive;
                            drop(state);
                            self.complete(&head, content, keep_alive, rest.len(), owner);
                            if !self.goes_on(keep_alive, owner) {
                                return false;
                            }
                            if rest.is_empty() {
                                return true;
                            }
                            continue;
                        }
                    }
                    Ok(None) => {}
                    Err(error) => {
                        drop(state);
                        self.end(owner, head_failure(error));
                        return false;
                    }
                }
            }
            let progress = state.advance(rest, &self.shared);
            drop(state);
            match self.handle_progress(progress, owner) {
                Some(0) => return true,
                Some(surplus) => (_, rest) = rest.split_at(rest.len() - surplus),
                None => return false,
            }
        }
    }

    /// The backend closed its side. False: so does the connection.
    #[cold]
    fn handle_end(&self, owner: &impl Owner<E>) -> bool {
        let is_whole = self.state.borrow_mut().partial.as_mut().is_some_and(|partial| {
            partial
                .body
                .as_mut()
                .is_some_and(|(decoder, _)| decoder.finish().is_ok())
        });
        if is_whole {
            let progress = Progress::Whole {
                keep_alive: false,
                surplus: 0,
            };
            self.handle_progress(progress, owner);
            return false;
        }
        self.end(owner, Failure::CutOff);
        false
    }

    /// How many of the bytes are still to be looked at; `None` when the connection has ended.
    fn handle_progress(&self, progress: Progress, owner: &impl Owner<E>) -> Option<usize> {
        let (keep_alive, surplus) = match progress {
            Progress::More => return Some(0),
            Progress::Failed(failure) => {
                self.end(owner, failure);
                return None;
            }
            Progress::Whole { keep_alive, surplus } => (keep_alive, surplus),
        };
        let partial = self.state.borrow_mut().partial.take().expect("an answer in pieces");
        let (_, content) = partial.body.expect("a whole answer has a body");
        let head = parse_response(&partial.received, self.shared.limits.head_max)
            .ok()
            .flatten();
        let head = head.expect("the head was parsed before");
        self.complete(&head, &content, keep_alive, surplus, owner);
        self.goes_on(keep_alive, owner).then_some(surplus)
    }

    /// After an answer: false when no more can come, and then nobody waits for one any longer.
    fn goes_on(&self, keep_alive: bool, owner: &impl Owner<E>) -> bool {
        let closed = self.state.borrow().closed;
        if !keep_alive || closed {
            self.end_without_blame(owner);
            return false;
        }
        true
    }

    /// Hands the oldest request's answer over. If it was the last, the connection goes back to its owner first, so that
    /// what the answer sets off can use it; with `surplus` bytes after it, it is not used again.
    fn complete(
        &self,
        head: &ResponseHead<'_>,
        content: &[u8],
        keep_alive: bool,
        surplus: usize,
        owner: &impl Owner<E>,
    ) {
        let (job, elapsed, reusable) = {
            let mut state = self.state.borrow_mut();
            let job = state.in_flight.pop_front().expect("an answer is to a request");
            let now = self.socket.reactor().now();
            let elapsed = now.saturating_duration_since(state.started);
            if !std::mem::replace(&mut state.has_answered, true)
                && let Some(kept) = head.keep_alive_timeout()
            {
                // Ours ends first, lest a request meets the backend's end on its way.
                state.idle_timeout = state.idle_timeout.min(kept - KEPT_MARGIN.min(kept / 2));
            }
            let mut reusable = false;
            if state.in_flight.is_empty() {
                reusable = keep_alive && surplus == 0 && state.unsent.is_empty() && !self.socket.peer_closed();
                state.idle_since = now;
                let idle_timeout = state.idle_timeout;
                reusable &= !idle_timeout.is_zero();
                state.closed |= !reusable;
                state.timer.set(Some(now + idle_timeout));
            } else {
                state.watch_deadline();
                if state.in_flight.iter().all(Option::is_none) {
                    // Nobody waits for what it still has to say, but what comes next does.
                    state.timer.set(Some(now + self.shared.limits.idle_timeout));
                }
            }
            (job, elapsed, reusable)
        };
        let answered = Answered {
            latency: elapsed,
            is_refused: matches!(head.status, 429 | 503) || is_turned_away(head),
        };
        owner.handle_answered(self.id, answered, reusable);
        // What was given up has had its end.
        let Some(mut job) = job else { return };
        if is_turned_away(head) {
            match owner.handle_turned_away(job) {
                Ok(()) => return,
                Err(back) => job = back,
            }
        }
        self.shared.counters.backend_latency.record(elapsed);
        let counters = &self.shared.counters;
        counters.count_backend_answer(head.status);
        let result = result(head, job.request.kind());
        // Whoever knows what the content is about says whether it is JSON, in this very turn.
        let not_json = counters.answers_not_json.get();
        job.request.finish(Ok(Response { head, content }));
        let is_json = counters.answers_not_json.get() == not_json;
        self.tally.count(if is_json { result } else { BackendResult::NotJson });
    }

    /// Gives up the requests whose deadline has passed. False when the connection is of no more use: it has waited for
    /// them alone, or for none for too long, and is not kept for what the backend owes.
    #[cold]
    fn expire(&self, owner: &impl Owner<E>) -> bool {
        let (expired, started, waits) = {
            let mut state = self.state.borrow_mut();
            if state.gathering {
                return false;
            }
            let now = self.socket.reactor().now();
            let places = state.in_flight.iter_mut();
            let expired = places.filter_map(|place| place.take_if(|job| job.deadline <= now));
            let expired: Vec<_> = expired.collect();
            let waits = state.in_flight.iter().any(Option::is_some);
            if waits {
                state.watch_deadline();
            }
            (expired, state.started, waits)
        };
        for job in expired {
            owner.handle_timed_out(self.id, started);
            self.count_failure(Failure::Deadline);
            job.request.finish(Err(Failure::Deadline));
        }
        let is_kept = !waits && owner.is_witness(self.id);
        if is_kept {
            let look_again = self.socket.reactor().now() + self.shared.limits.idle_timeout;
            self.state.borrow_mut().timer.set(Some(look_again));
        }
        waits || is_kept
    }

    fn count_failure(&self, failure: Failure) {
        self.shared.counters.count_backend_failure(failure);
        self.tally.count(match failure {
            Failure::Malformed => BackendResult::Malformed,
            Failure::TooLarge => BackendResult::TooLarge,
            Failure::Deadline => BackendResult::Deadline,
            _ => BackendResult::CutOff,
        });
    }

    /// The connection ends, and that is not the backend's fault.
    #[cold]
    fn end_without_blame(&self, owner: &impl Owner<E>) {
        for job in self.take_cut_off(owner) {
            self.count_failure(Failure::CutOff);
            job.request.finish(Err(Failure::CutOff));
        }
    }

    /// No answer comes any more: `failure` is why the first has none. What was not written goes elsewhere.
    #[cold]
    pub(super) fn end(&self, owner: &impl Owner<E>, failure: Failure) {
        for (index, job) in self.take_cut_off(owner).into_iter().enumerate() {
            let failure = if index == 0 { failure } else { Failure::CutOff };
            self.count_failure(failure);
            if matches!(failure, Failure::CutOff | Failure::Malformed) {
                owner.handle_broken(self.id);
            }
            job.request.finish(Err(failure));
        }
    }

    /// The connection is of no more use. Returns the requests that were written and have no answer.
    #[cold]
    fn take_cut_off(&self, owner: &impl Owner<E>) -> VecDeque<Job<E>> {
        let (in_flight, gathering) = {
            let mut state = self.state.borrow_mut();
            state.closed = true;
            (std::mem::take(&mut state.in_flight), state.gathering)
        };
        let in_flight = in_flight.into_iter().flatten().collect();
        if gathering {
            owner.handle_unsent(self.id, in_flight);
            return VecDeque::new();
        }
        in_flight
    }
}

impl<E> State<E> {
    /// The earliest deadline of the requests in flight.
    fn watch_deadline(&mut self) {
        let earliest = self.in_flight.iter().flatten().map(|job| job.deadline).min();
        self.timer.set(earliest);
    }

    fn advance(&mut self, bytes: &[u8], shared: &Shared) -> Progress {
        let partial = self.partial.get_or_insert_with(|| {
            Box::new(Partial {
                received: Vec::new(),
                body: None,
                held: shared.buffers.hold(0),
            })
        });
        let progress = partial.advance(bytes, shared.limits.head_max, shared.limits.content_max);
        let content_len = partial.body.as_ref().map_or(0, |(_, content)| content.capacity());
        partial.held.set(partial.received.capacity() + content_len);
        match progress {
            Ok(progress) => progress,
            Err(failure) => Progress::Failed(failure),
        }
    }
}

impl Partial {
    fn advance(&mut self, bytes: &[u8], head_max: usize, content_max: usize) -> Result<Progress, Failure> {
        if let Some((decoder, content)) = &mut self.body {
            let head = parse_response(&self.received, head_max)
                .ok()
                .flatten()
                .ok_or(Failure::Malformed)?;
            return decode(decoder, bytes, content, head.keep_alive);
        }
        self.received.extend_from_slice(bytes);
        let Some(head) = parse_response(&self.received, head_max).map_err(head_failure)? else {
            return Ok(Progress::More);
        };
        let mut decoder = BodyDecoder::new(head.framing, content_max).map_err(body_failure)?;
        let mut content = Vec::new();
        let head_len = head.len;
        let (_, after_head) = self.received.split_at(head_len);
        let progress = decode(&mut decoder, after_head, &mut content, head.keep_alive)?;
        self.received.truncate(head_len);
        self.body = Some((decoder, content));
        Ok(progress)
    }
}

fn decode(
    decoder: &mut BodyDecoder,
    bytes: &[u8],
    content: &mut Vec<u8>,
    keep_alive: bool,
) -> Result<Progress, Failure> {
    let decoded = decoder.decode(bytes, content).map_err(body_failure)?;
    if !decoded.done {
        return Ok(Progress::More);
    }
    Ok(Progress::Whole {
        keep_alive,
        surplus: bytes.len() - decoded.consumed,
    })
}

/// What an answer counts as.
fn result(head: &ResponseHead<'_>, kind: Kind) -> BackendResult {
    match head.status {
        300..400 => BackendResult::Redirect,
        500.. if is_turned_away(head) => BackendResult::NoWorkers,
        // Its own word: the newcomer is to come back.
        503 if kind == Kind::Connect => BackendResult::ConnectUnavailable,
        // It does not have that Action.
        501 => BackendResult::Ok,
        500.. => BackendResult::ServerError,
        _ => BackendResult::Ok,
    }
}

/// RoadRunner says so when its pool is exhausted: the request was not executed.
fn is_turned_away(head: &ResponseHead<'_>) -> bool {
    head.status >= 500
        && head
            .header("no-workers")
            .is_some_and(|value| value.eq_ignore_ascii_case(b"true"))
}

fn head_failure(error: HeadError) -> Failure {
    match error {
        HeadError::TooLong { .. } => Failure::TooLarge,
        _ => Failure::Malformed,
    }
}

fn body_failure(error: BodyError) -> Failure {
    match error {
        BodyError::TooLong { .. } => Failure::TooLarge,
        BodyError::Truncated => Failure::CutOff,
        _ => Failure::Malformed,
    }
}

/// A connection ends so long before the backend would end it.
const KEPT_MARGIN: Duration = Duration::from_secs(1);
/// A connection used so recently is written to without asking the kernel first.
const TRUSTED_IDLE: Duration = Duration::from_millis(50);

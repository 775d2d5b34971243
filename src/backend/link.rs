//! One keep-alive connection to a backend: one request at a time, its answer, and whether there may be another.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use shards::{Socket, Timer};

use super::pool::{Exchange, Pool, Response};
use crate::http::{BodyDecoder, BodyError, HeadError, RequestTemplate, ResponseHead, parse_response, whole_body};
use crate::protocol::Failure;

/// One connection. The pool holds it while it is idle; its task holds it while it lives.
pub(super) struct Link<E: Exchange> {
    socket: Socket,
    upstream: usize,
    template: Rc<RequestTemplate>,
    pool: Weak<Pool<E>>,
    state: RefCell<State<E>>,
}

struct State<E> {
    current: Option<E>,
    /// What of the request the socket has not taken yet.
    unsent: Vec<u8>,
    /// An answer that did not come in one piece.
    partial: Option<Box<Partial>>,
    timer: Timer,
    idle_since: Instant,
    started: Instant,
    waker: Option<Waker>,
    closed: bool,
}

struct Partial {
    /// The head's bytes (and before it is complete, all bytes).
    received: Vec<u8>,
    /// Once the head is complete.
    body: Option<(BodyDecoder, Vec<u8>)>,
}

/// What became of the bytes so far.
enum Progress {
    More,
    /// The answer is whole; the connection may be used again.
    Reusable,
    /// The answer is whole; the connection is not to be used again.
    Spent,
    Failed(Failure),
}

impl<E: Exchange> Link<E> {
    pub(super) fn new(socket: Socket, upstream: usize, template: Rc<RequestTemplate>, pool: &Rc<Pool<E>>) -> Rc<Self> {
        let now = socket.reactor().now();
        let mut timer = Timer::new(socket.reactor());
        timer.set(Some(now + pool.limits().idle_timeout));
        let state = State {
            current: None,
            unsent: Vec::new(),
            partial: None,
            timer,
            idle_since: now,
            started: now,
            waker: None,
            closed: false,
        };
        Rc::new(Self {
            socket,
            upstream,
            template,
            pool: Rc::downgrade(pool),
            state: RefCell::new(state),
        })
    }

    pub(super) fn upstream(&self) -> usize {
        self.upstream
    }

    /// True when a request may be written. One that has been idle for a while is asked, because the news of its end
    /// may still be on its way through epoll.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        let state = self.state.borrow();
        if state.closed || self.socket.is_closed() {
            return false;
        }
        now.saturating_duration_since(state.idle_since) < TRUSTED_IDLE || !self.socket.is_spent()
    }

    /// Ends the connection; its task cleans up.
    pub(super) fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.closed = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Takes back the request that it works on, if `is_given_up` says so. The connection is of no more use then.
    pub(super) fn give_up(&self, is_given_up: impl Fn(&E) -> bool) -> Option<E> {
        let exchange = self
            .state
            .borrow_mut()
            .current
            .take_if(|exchange| is_given_up(exchange))?;
        self.close();
        Some(exchange)
    }

    /// Writes a request.
    ///
    /// # Errors
    /// The request comes back when the connection is dead and nothing of it was written.
    pub(super) fn start(&self, exchange: E) -> Result<(), E> {
        let Some(pool) = self.pool.upgrade() else {
            return Err(exchange);
        };
        let mut outgoing = pool.outgoing().borrow_mut();
        outgoing.clear();
        exchange.write(&self.template, &mut outgoing);
        let sent = match self.socket.try_send(&outgoing) {
            Some(Ok(len)) => len,
            None => 0,
            Some(Err(_)) => {
                self.close();
                return Err(exchange);
            }
        };
        pool.counters().backend_requests.add();
        let mut state = self.state.borrow_mut();
        debug_assert!(state.current.is_none(), "one request at a time");
        state.timer.set(Some(exchange.deadline()));
        state.started = self.socket.reactor().now();
        state.current = Some(exchange);
        if sent < outgoing.len() {
            state.unsent = outgoing[sent..].to_vec();
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
        if outgoing.capacity() > OUTGOING_KEPT {
            *outgoing = Vec::new();
        }
        Ok(())
    }

    /// The connection's life.
    pub(super) async fn run(self: Rc<Self>, pool: Rc<Pool<E>>) {
        poll_fn(|context| self.poll(context, &pool)).await;
        pool.forget(&self);
    }

    fn poll(self: &Rc<Self>, context: &mut Context<'_>, pool: &Rc<Pool<E>>) -> Poll<()> {
        loop {
            {
                let mut state = self.state.borrow_mut();
                if state.closed {
                    drop(state);
                    self.end(pool, Failure::CutOff);
                    return Poll::Ready(());
                }
                state.waker = Some(context.waker().clone());
                if state.timer.poll_expired(context).is_ready() {
                    drop(state);
                    self.end(pool, Failure::Deadline);
                    return Poll::Ready(());
                }
                if self.poll_unsent(&mut state, context).is_err() {
                    drop(state);
                    self.end(pool, Failure::CutOff);
                    return Poll::Ready(());
                }
            }
            let mut incoming = pool.incoming().borrow_mut();
            let received = match self.socket.poll_recv(context, &mut incoming) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(received) => received.unwrap_or(0),
            };
            let go_on = if received == 0 {
                self.handle_end(pool)
            } else {
                self.handle_bytes(&incoming[..received], pool)
            };
            if !go_on {
                return Poll::Ready(());
            }
        }
    }

    fn poll_unsent(&self, state: &mut State<E>, context: &mut Context<'_>) -> std::io::Result<()> {
        while !state.unsent.is_empty() {
            match self.socket.poll_send(context, &state.unsent) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(len)) => drop(state.unsent.drain(..len)),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        if state.unsent.capacity() > 0 {
            state.unsent = Vec::new();
        }
        Ok(())
    }

    /// False when the connection has ended.
    fn handle_bytes(self: &Rc<Self>, bytes: &[u8], pool: &Rc<Pool<E>>) -> bool {
        let mut state = self.state.borrow_mut();
        if state.current.is_none() {
            // Bytes that nobody asked for: what comes next could not be told from them.
            drop(state);
            self.end(pool, Failure::Malformed);
            return false;
        }
        if state.partial.is_none() {
            match parse_response(bytes, pool.limits().head_max) {
                Ok(Some(head)) => {
                    if let Some(content) = whole_body(head.framing, &bytes[head.len..])
                        && content.len() <= pool.limits().content_max
                    {
                        let reusable = head.keep_alive
                            && head.len + content.len() == bytes.len()
                            && state.unsent.is_empty()
                            && !self.socket.is_closed();
                        drop(state);
                        return self.complete(&head, content, reusable, pool);
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    drop(state);
                    self.end(pool, head_failure(error));
                    return false;
                }
            }
        }
        let progress = state.advance(bytes, pool);
        drop(state);
        self.handle_progress(progress, pool)
    }

    /// The backend closed its side. False: so does the connection.
    fn handle_end(self: &Rc<Self>, pool: &Rc<Pool<E>>) -> bool {
        let partial = self.state.borrow_mut().partial.as_mut().is_some_and(|partial| {
            partial
                .body
                .as_mut()
                .is_some_and(|(decoder, _)| decoder.finish().is_ok())
        });
        if partial {
            return self.handle_progress(Progress::Spent, pool);
        }
        self.end(pool, Failure::CutOff);
        false
    }

    fn handle_progress(self: &Rc<Self>, progress: Progress, pool: &Rc<Pool<E>>) -> bool {
        let reusable = match progress {
            Progress::More => return true,
            Progress::Failed(failure) => {
                self.end(pool, failure);
                return false;
            }
            Progress::Reusable => !self.socket.is_closed() && self.state.borrow().unsent.is_empty(),
            Progress::Spent => false,
        };
        let partial = self.state.borrow_mut().partial.take().expect("an answer in pieces");
        let (_, content) = partial.body.expect("a whole answer has a body");
        let head = parse_response(&partial.received, pool.limits().head_max).ok().flatten();
        self.complete(&head.expect("the head was parsed before"), &content, reusable, pool)
    }

    /// Hands the answer over; the connection goes back to the pool first, so that what the answer sets off can use it.
    fn complete(self: &Rc<Self>, head: &ResponseHead<'_>, content: &[u8], reusable: bool, pool: &Rc<Pool<E>>) -> bool {
        let exchange = {
            let mut state = self.state.borrow_mut();
            let now = self.socket.reactor().now();
            state.idle_since = now;
            let elapsed = now.saturating_duration_since(state.started);
            pool.counters().backend_latency.record(elapsed);
            state.timer.set(Some(now + pool.limits().idle_timeout));
            state.closed |= !reusable;
            state.current.take().expect("an answer is to a request")
        };
        if reusable {
            pool.release(self);
        }
        pool.counters().count_backend_answer(head.status);
        exchange.finish(Ok(Response { head, content }));
        reusable
    }

    fn end(self: &Rc<Self>, pool: &Rc<Pool<E>>, failure: Failure) {
        let exchange = {
            let mut state = self.state.borrow_mut();
            state.closed = true;
            state.current.take()
        };
        if let Some(exchange) = exchange {
            pool.counters().count_backend_failure(failure);
            exchange.finish(Err(failure));
        }
    }
}

impl<E: Exchange> State<E> {
    fn advance(&mut self, bytes: &[u8], pool: &Pool<E>) -> Progress {
        let partial = self.partial.get_or_insert_with(|| {
            Box::new(Partial {
                received: Vec::new(),
                body: None,
            })
        });
        match partial.advance(bytes, pool.limits().head_max, pool.limits().content_max) {
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
        let progress = decode(&mut decoder, &self.received[head_len..], &mut content, head.keep_alive)?;
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
    Ok(match (decoded.done, keep_alive && decoded.consumed == bytes.len()) {
        (false, _) => Progress::More,
        (true, true) => Progress::Reusable,
        (true, false) => Progress::Spent,
    })
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

/// A connection used so recently is written to without asking the kernel first.
const TRUSTED_IDLE: Duration = Duration::from_millis(50);
/// The shared buffer for requests gives back what a large one needed beyond this.
const OUTGOING_KEPT: usize = 64 * 1024;

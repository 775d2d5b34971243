//! Serves one connection of the backend to the ingress: requests one after the other, pipelined or not.
//!
//! Whatever it does for its peer it takes a turn for ([`Turns`](super::turns::Turns)); while it waits for its peer it has to make
//! room for others ([`Place`]).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use shards::{Socket, Timer, spawn};

use super::answer::Answer;
use super::outcome_waits::Settle;
use super::places::Place;
use super::request::Request;
use super::{Ingress, push};
use crate::env::Env;
use crate::env::buffers::Held;
use crate::env::drain_signal::DrainWatch;
use crate::env::proxy_peers::{Listener, is_believed};
use crate::stream::{linger, linger_for, poll_recv, send_all};
use protocol::buffers::MUCH;
use protocol::http::{BodyDecoder, BodyError, Framing, parse_request, write_continue, write_response_head};
use protocol::proxy_protocol;

/// Why a connection is at its end.
enum End {
    /// The backend closed, or was silent: nobody is there to be told.
    Silent,
    /// The last answer on it.
    Last(Answer),
    /// Another process goes on with it.
    Moves,
}

/// What is known of a connection that another process had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// See [`Place::set_let_in`].
    pub(super) is_let_in: bool,
}

/// Serves one connection until it ends.
pub(super) async fn serve(
    ingress: &Rc<Ingress>,
    place: Place,
    socket: Socket,
    (peer, known): (SocketAddr, Option<Known>),
) {
    place.set_let_in(known.is_some_and(|known| known.is_let_in));
    let mut reader = Reader {
        ingress: ingress.clone(),
        place,
        socket,
        buffer: Vec::new(),
        timer: Timer::new(&ingress.env.reactor),
        is_head: false,
        end: ingress.env.end.watch(),
        taken_over: ingress.env.taken_over.watch(),
    };
    match reader.serve(peer, known.is_some()).await {
        Err(End::Last(answer)) => {
            ingress.env.counters.ingress_bad.add();
            reader.place.begin_wait();
            if reader.send(&answer, false).await.is_ok() {
                reader.linger().await;
            }
        }
        Err(End::Moves) => {
            let is_let_in = reader.place.is_let_in();
            let Reader { socket, place, .. } = reader;
            drop(place);
            ingress.hand_over(socket, peer, is_let_in);
        }
        Err(End::Silent) | Ok(()) => {}
    }
}

struct Reader {
    ingress: Rc<Ingress>,
    place: Place,
    socket: Socket,
    /// Received and not yet used: at most a head, or a piece of a body.
    buffer: Vec<u8>,
    /// One for all that it waits for, one after the other: most deadlines are later than the one before.
    timer: Timer,
    /// Whether the request that is being answered is a HEAD.
    is_head: bool,
    end: DrainWatch,
    taken_over: DrainWatch,
}

impl Reader {
    async fn serve(&mut self, peer: SocketAddr, is_introduced: bool) -> Result<(), End> {
        if self.env().node.ingress_proxy_protocol && !is_introduced {
            self.skip_proxy_header(peer).await?;
        }
        loop {
            self.is_head = false;
            let request = self.read_request_head().await?;
            self.is_head = request.is_head;
            self.env().counters.ingress_requests.add();
            let route = match request.route {
                Ok(route) => route,
                Err(answer) => {
                    // A body that was announced with `Expect` never comes; another one is read over, if it is small, so that
                    // the next request is found.
                    if request.expect_continue || self.skip_body(request.framing).await.is_err() {
                        return Err(End::Last(answer));
                    }
                    self.ingress.turns.take(1).await;
                    self.env().counters.ingress_bad.add();
                    self.respond(answer, request.keep_alive).await?;
                    continue;
                }
            };
            self.place.set_let_in(true);
            if request.expect_continue {
                BodyDecoder::new(request.framing, self.env().core.message_max).map_err(End::bad_body)?;
                let mut interim = Vec::new();
                write_continue(&mut interim);
                self.send_bytes(&interim).await.map_err(|_| End::Silent)?;
            }
            let (body, _held) = self.read_body(request.framing).await?;
            self.place.end_wait();
            self.ingress.turns.take(cost(body.len(), JUDGED_LEN)).await;
            let Some(answer) =
                push::answer(&self.ingress, route, body, (request.wait, request.trace), &self.socket).await
            else {
                return Err(End::Silent);
            };
            self.respond(answer, request.keep_alive).await?;
        }
    }

    fn env(&self) -> &Env {
        &self.ingress.env
    }

    async fn respond(&mut self, mut answer: Answer, keep_alive: bool) -> Result<(), End> {
        // While it drains nobody is to keep a connection that may end any time, perhaps with a request on its way.
        let may_end = self.env().is_ending() && !self.ingress.hands_over();
        let keep_alive = keep_alive && !(may_end && self.buffer.is_empty());
        let settle = std::mem::take(&mut answer.settle);
        self.place.begin_wait();
        // The kernel takes an answer also for a peer that has closed; an outcome would be lost so.
        let gone = !matches!(settle, Settle::Nothing) && self.socket.ask_ended();
        let written = !gone && self.send(&answer, keep_alive).await.is_ok();
        if let Some(wait) = self.ingress.outcome_waits.settle(settle, written) {
            spawn(self.ingress.clone().forget_wait(wait));
        }
        if !written {
            return Err(End::Silent);
        }
        if keep_alive {
            return Ok(());
        }
        self.linger().await;
        Err(End::Silent)
    }

    /// Waits until the other side has the last answer. It makes room before all others meanwhile.
    async fn linger(&self) {
        self.place.set_let_in(false);
        let mut lingering = pin!(linger(self.env(), &self.socket));
        poll_fn(|context| match lingering.as_mut().poll(context) {
            Poll::Pending => self.place.poll_must_go(context),
            Poll::Ready(()) => Poll::Ready(()),
        })
        .await;
    }

    async fn read_request_head(&mut self) -> Result<Request, End> {
        let idle_deadline = self.env().reactor.now()
            + if self.place.is_let_in() {
                IDLE_TIMEOUT
            } else {
                self.env().core.handshake_timeout
            };
        let mut head_deadline = None;
        loop {
            if !self.buffer.is_empty() {
                match parse_request(&self.buffer, self.env().core.head_max) {
                    Err(error) => {
                        if proxy_protocol::begins(&self.buffer) {
                            self.env().counters.ingress_proxy_unexpected.add();
                        }
                        return Err(End::Last(Answer::error(error.status(), &error.to_string())));
                    }
                    Ok(None) => {}
                    Ok(Some(head)) => {
                        let request = Request::from_head(&self.ingress, &head);
                        let len = head.len;
                        self.buffer.drain(..len);
                        return Ok(request);
                    }
                }
                head_deadline.get_or_insert(self.env().reactor.now() + self.env().core.handshake_timeout);
            }
            let between_requests = self.buffer.is_empty();
            self.receive(head_deadline.unwrap_or(idle_deadline), between_requests)
                .await?;
        }
    }

    async fn read_body(&mut self, framing: Framing) -> Result<(Vec<u8>, Held), End> {
        let mut decoder = BodyDecoder::new(framing, self.env().core.message_max).map_err(End::bad_body)?;
        let mut deadline = self.env().reactor.now() + self.env().core.handshake_timeout;
        let mut body = Vec::new();
        let mut held = self.env().buffers.hold(0);
        let mut counted = 0;
        loop {
            let decoded = decoder.decode(&self.buffer, &mut body).map_err(End::bad_body)?;
            self.buffer.drain(..decoded.consumed);
            held.set(body.capacity());
            if decoded.done {
                return Ok((body, held));
            }
            if body.len() >= MUCH && self.env().buffers.is_tight() {
                return Err(End::Last(push::overloaded()));
            }
            if body.len() - counted >= BODY_PROGRESS_LEN {
                counted = body.len();
                deadline = self.env().reactor.now() + self.env().core.handshake_timeout;
                self.place.begin_wait();
            }
            self.receive(deadline, false).await?;
        }
    }

    /// Reads over a body that nobody wants. An error: it is large, or broken, or does not come.
    async fn skip_body(&mut self, framing: Framing) -> Result<(), ()> {
        let mut decoder = BodyDecoder::new(framing, SKIPPED_LEN_MAX).map_err(|_| ())?;
        let deadline = self.env().reactor.now() + self.env().core.handshake_timeout;
        let mut skipped = Vec::new();
        loop {
            let decoded = decoder.decode(&self.buffer, &mut skipped).map_err(|_| ())?;
            skipped.clear();
            self.buffer.drain(..decoded.consumed);
            if decoded.done {
                return Ok(());
            }
            self.receive(deadline, false).await.map_err(|_| ())?;
        }
    }

    async fn skip_proxy_header(&mut self, peer: SocketAddr) -> Result<(), End> {
        let deadline = self.env().reactor.now() + self.env().core.handshake_timeout;
        loop {
            match proxy_protocol::parse(&self.buffer) {
                Ok(Some(header)) => {
                    if !is_believed(self.env(), Listener::Ingress, peer) {
                        return Err(End::Silent);
                    }
                    self.buffer.drain(..header.len);
                    return Ok(());
                }
                Ok(None) => self.receive(deadline, false).await?,
                Err(_) => {
                    self.env().counters.ingress_proxy_missing.add();
                    return Err(End::Silent);
                }
            }
        }
    }

    /// Waits for more bytes, and for the turn to look at them. Between requests a draining shard ends the connection.
    async fn receive(&mut self, deadline: Instant, between_requests: bool) -> Result<(), End> {
        self.timer.set(Some(deadline));
        let Self {
            ingress,
            place,
            socket,
            buffer,
            timer,
            end,
            taken_over,
            ..
        } = self;
        let mut must_go = false;
        let mut is_over = false;
        let mut moves = false;
        let received = poll_fn(|context| {
            // What has come and was not read goes along.
            moves = between_requests && taken_over.poll_triggered(context).is_ready() && ingress.hands_over();
            if moves {
                return Poll::Ready(0);
            }
            let received = poll_recv(&ingress.env, context, socket, |bytes| buffer.extend_from_slice(bytes));
            match received {
                Poll::Ready(received) => return Poll::Ready(received.unwrap_or(0)),
                Poll::Pending if between_requests && end.poll_triggered(context).is_ready() && socket.ask_idle() => {
                    is_over = true;
                    let stays_until = ingress.env.drain.since().map(|since| since + KEPT_FOR);
                    timer.set(stays_until.map(|until| until.min(deadline)));
                }
                Poll::Pending => {}
            }
            must_go = place.poll_must_go(context).is_ready();
            if must_go {
                return Poll::Ready(0);
            }
            timer.poll_expired(context).map(|()| 0)
        })
        .await;
        if buffer.is_empty() {
            *buffer = Vec::new();
        }
        if received > 0 {
            ingress.turns.take(cost(received, RECEIVED_LEN)).await;
            return Ok(());
        }
        if moves {
            return Err(End::Moves);
        }
        if is_over {
            // In order, and not with a reset: a request may be on its way.
            linger_for(self.env(), &self.socket, IDLE_LINGER).await;
        }
        if must_go || between_requests || self.socket.peer_closed() {
            return Err(End::Silent);
        }
        Err(End::Last(Answer::error(408, "the request did not arrive in time")))
    }

    async fn send(&self, answer: &Answer, keep_alive: bool) -> io::Result<()> {
        let headers: Vec<(&str, &str)> = answer.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut bytes = Vec::with_capacity(HEAD_LEN + answer.body.len());
        write_response_head(&mut bytes, answer.status, &headers, answer.body.len(), keep_alive);
        if !self.is_head {
            bytes.extend_from_slice(&answer.body);
        }
        self.send_bytes(&bytes).await
    }

    async fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        // A pass may have been long: the time of the sending begins with it.
        let deadline = self.env().reactor.exact_now() + self.env().core.send_timeout;
        let mut sending = pin!(send_all(self.env(), &self.socket, bytes, deadline));
        poll_fn(|context| match sending.as_mut().poll(context) {
            Poll::Pending => self
                .place
                .poll_must_go(context)
                .map(|()| Err(io::ErrorKind::ConnectionAborted.into())),
            sent => sent,
        })
        .await
    }
}

impl End {
    fn bad_body(error: BodyError) -> Self {
        Self::Last(Answer::error(error.status(), &error.to_string()))
    }
}

/// The turns that so many bytes take, of which `unit` cost as much as a small request.
fn cost(len: usize, unit: usize) -> u32 {
    u32::try_from(1 + len / unit).unwrap_or(u32::MAX)
}

/// A connection that the backend keeps for its next push. One that was never let in has as long as for a head.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// A body that makes so much progress gets as much time again as a head.
const BODY_PROGRESS_LEN: usize = 16 * 1024;
/// A larger body of a refused request is not worth waiting for its end.
const SKIPPED_LEN_MAX: usize = 64 * 1024;
const HEAD_LEN: usize = 256;
/// So long after the beginning of a drain a connection without a request stays: others learn meanwhile that they are to go elsewhere.
const KEPT_FOR: Duration = Duration::from_secs(1);
/// A request that was on its way when its connection ended has come by then.
const IDLE_LINGER: Duration = Duration::from_millis(250);
/// Bytes that cost as much to receive, in the worst of framings, as a small request to answer.
const RECEIVED_LEN: usize = 2 * 1024;
/// Bytes of JSON that cost as much to look through.
const JUDGED_LEN: usize = 4 * 1024;

//! One connection of the backend to the ingress: requests one after the other, pipelined or not.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use shards::{Socket, Timer};

use super::outcome_waits::Settle;
use super::push;
use crate::client::handshake::{linger, send_all};
use crate::shard::Shard;
use crate::shard::drain_signal::DrainWatch;
use protocol::http::{BodyDecoder, Framing, RequestHead, parse_request, write_continue, write_response};
use protocol::mapping::bodies;
use protocol::mapping::routes::{Route, RouteError, route};
use protocol::proxy_protocol;

/// An answer to be written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) settle: Settle,
}

/// What a request's head says, kept while its body is read.
struct Request {
    route: Result<Route, Answer>,
    framing: Framing,
    keep_alive: bool,
    expect_continue: bool,
    /// `Prefer: wait`
    wait: Option<Duration>,
}

/// Why a connection is at its end.
enum End {
    /// The backend closed, or was silent: nobody is there to be told.
    Silent,
    /// The last answer on it.
    Told(Answer),
}

/// Serves one connection until it ends.
pub(super) async fn serve(shard: &Rc<Shard>, socket: Socket, _peer: SocketAddr) {
    let mut reader = Reader {
        shard: shard.clone(),
        socket,
        buffer: Vec::new(),
        timer: Timer::new(&shard.reactor),
        drain: shard.drain.watch(),
    };
    let end = reader.serve().await;
    if let Err(End::Told(answer)) = end {
        shard.counters.ingress_bad.add();
        if reader.send(&answer, false).await.is_ok() {
            linger(shard, &reader.socket).await;
        }
    }
}

struct Reader {
    shard: Rc<Shard>,
    socket: Socket,
    /// Received and not yet used: at most a head, or a piece of a body.
    buffer: Vec<u8>,
    /// One for all that it waits for, one after the other: most deadlines are later than the one before.
    timer: Timer,
    drain: DrainWatch,
}

impl Reader {
    async fn serve(&mut self) -> Result<(), End> {
        if self.shard.node.ingress_proxy_protocol {
            self.skip_proxy_header().await?;
        }
        loop {
            let request = self.read_request_head().await?;
            self.shard.counters.ingress_requests.add();
            let mut body = Vec::new();
            if let Err(answer) = request.route {
                // A body that was announced with `Expect` never comes; another one is read so that the next request
                // is found.
                if request.expect_continue {
                    return Err(End::Told(answer));
                }
                self.read_body(&request.framing, &mut body).await?;
                self.shard.counters.ingress_bad.add();
                self.respond(answer, request.keep_alive).await?;
                continue;
            }
            if request.expect_continue {
                BodyDecoder::new(request.framing, self.shard.core.message_max)
                    .map_err(|error| End::Told(Answer::error(error.status(), &error.to_string())))?;
                let mut interim = Vec::new();
                write_continue(&mut interim);
                self.send_bytes(&interim).await.map_err(|_| End::Silent)?;
            }
            self.read_body(&request.framing, &mut body).await?;
            let Ok(route) = request.route else {
                unreachable!("handled above")
            };
            let Some(answer) = push::answer(&self.shard, route, body, request.wait, &self.socket).await else {
                return Err(End::Silent);
            };
            self.respond(answer, request.keep_alive).await?;
        }
    }

    async fn respond(&mut self, mut answer: Answer, keep_alive: bool) -> Result<(), End> {
        let keep_alive = keep_alive && !(self.shard.is_draining() && self.buffer.is_empty());
        let settle = std::mem::take(&mut answer.settle);
        // The kernel takes an answer also for a peer that has closed; an outcome would be lost so.
        let gone = !matches!(settle, Settle::Nothing) && self.socket.is_ended();
        let written = !gone && self.send(&answer, keep_alive).await.is_ok();
        self.shard.settle(settle, written);
        if !written {
            return Err(End::Silent);
        }
        if keep_alive {
            return Ok(());
        }
        linger(&self.shard, &self.socket).await;
        Err(End::Silent)
    }

    async fn read_request_head(&mut self) -> Result<Request, End> {
        let idle_deadline = self.shard.reactor.now() + IDLE_TIMEOUT;
        let mut head_deadline = None;
        loop {
            if !self.buffer.is_empty() {
                match parse_request(&self.buffer, self.shard.core.head_max) {
                    Err(error) => return Err(End::Told(Answer::error(error.status(), &error.to_string()))),
                    Ok(None) => {}
                    Ok(Some(head)) => {
                        let request = Request::from_head(&self.shard, &head);
                        let len = head.len;
                        self.buffer.drain(..len);
                        return Ok(request);
                    }
                }
                head_deadline.get_or_insert(self.shard.reactor.now() + self.shard.core.handshake_timeout);
            }
            let between_requests = self.buffer.is_empty();
            self.receive(head_deadline.unwrap_or(idle_deadline), between_requests)
                .await?;
        }
    }

    async fn read_body(&mut self, framing: &Framing, body: &mut Vec<u8>) -> Result<(), End> {
        let told = |error: protocol::http::BodyError| End::Told(Answer::error(error.status(), &error.to_string()));
        let mut decoder = BodyDecoder::new(*framing, self.shard.core.message_max).map_err(told)?;
        let mut deadline = self.shard.reactor.now() + self.shard.core.handshake_timeout;
        let mut counted = 0;
        loop {
            let decoded = decoder.decode(&self.buffer, body).map_err(told)?;
            self.buffer.drain(..decoded.consumed);
            if decoded.done {
                return Ok(());
            }
            if body.len() - counted >= BODY_PROGRESS_LEN {
                counted = body.len();
                deadline = self.shard.reactor.now() + self.shard.core.handshake_timeout;
            }
            self.receive(deadline, false).await?;
        }
    }

    async fn skip_proxy_header(&mut self) -> Result<(), End> {
        let deadline = self.shard.reactor.now() + self.shard.core.handshake_timeout;
        loop {
            match proxy_protocol::parse(&self.buffer) {
                Ok(Some(header)) => {
                    self.buffer.drain(..header.len);
                    return Ok(());
                }
                Ok(None) => self.receive(deadline, false).await?,
                Err(_) => return Err(End::Silent),
            }
        }
    }

    /// OutcomeWaits for more bytes. Between requests a draining shard ends the connection.
    async fn receive(&mut self, deadline: Instant, between_requests: bool) -> Result<(), End> {
        self.timer.set(Some(deadline));
        let Self {
            shard,
            socket,
            buffer,
            timer,
            drain,
        } = self;
        let received = poll_fn(|context| {
            let received = shard.poll_recv(context, socket, |bytes| buffer.extend_from_slice(bytes));
            match received {
                Poll::Ready(received) => Poll::Ready(received.is_ok_and(|len| len > 0)),
                Poll::Pending if between_requests && drain.poll_triggered(context).is_ready() => Poll::Ready(false),
                Poll::Pending => timer.poll_expired(context).map(|()| false),
            }
        })
        .await;
        if buffer.is_empty() {
            *buffer = Vec::new();
        }
        if received {
            return Ok(());
        }
        if between_requests || self.socket.is_closed() {
            return Err(End::Silent);
        }
        Err(End::Told(Answer::error(408, "the request did not arrive in time")))
    }

    async fn send(&self, answer: &Answer, keep_alive: bool) -> std::io::Result<()> {
        let headers: Vec<(&str, &str)> = answer.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut bytes = Vec::with_capacity(HEAD_LEN + answer.body.len());
        write_response(&mut bytes, answer.status, &headers, &answer.body, keep_alive);
        self.send_bytes(&bytes).await
    }

    async fn send_bytes(&self, bytes: &[u8]) -> std::io::Result<()> {
        let deadline = self.shard.reactor.now() + self.shard.core.send_timeout;
        send_all(&self.shard, &self.socket, bytes, deadline).await
    }
}

impl Request {
    fn from_head(shard: &Shard, head: &RequestHead<'_>) -> Self {
        Self {
            route: Self::check(shard, head),
            framing: head.framing,
            keep_alive: head.keep_alive,
            expect_continue: head.expect_continue,
            wait: wait(head),
        }
    }

    fn check(shard: &Shard, head: &RequestHead<'_>) -> Result<Route, Answer> {
        if let Some(token) = &*shard.ingress_token
            && !head.header("authorization").is_some_and(|value| token.fits(value))
        {
            let challenge = ("WWW-Authenticate", "Bearer realm=\"ws2api\"".to_owned());
            return Err(Answer {
                headers: vec![challenge],
                ..Answer::error(401, "missing or wrong token")
            });
        }
        let route = route(head).map_err(|error| {
            let mut answer = Answer::error(error.status(), &error.to_string());
            if let RouteError::Method { allow } = error {
                answer.headers.push(("Allow", allow.to_owned()));
            }
            answer
        })?;
        let has_body = matches!(route, Route::Push { .. } | Route::Answer { .. });
        if has_body && !head.header("content-type").is_none_or(is_json) {
            return Err(Answer::error(415, "the body is to be application/json"));
        }
        Ok(route)
    }
}

impl Answer {
    pub(super) fn json(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
            settle: Settle::Nothing,
        }
    }

    pub(super) fn error(status: u16, description: &str) -> Self {
        Self::json(status, bodies::refusal(description).into_bytes())
    }

    pub(super) fn with_retry_after(mut self, seconds: &str) -> Self {
        self.headers.push(("Retry-After", seconds.to_owned()));
        self
    }
}

/// `application/json` or another JSON type, with or without parameters.
fn is_json(value: &[u8]) -> bool {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    let Some((application, subtype)) = essence.trim_ascii().split_at_checked(b"application/".len()) else {
        return false;
    };
    let suffix = subtype.len().saturating_sub(b"+json".len());
    application.eq_ignore_ascii_case(b"application/")
        && (subtype.eq_ignore_ascii_case(b"json") || subtype[suffix..].eq_ignore_ascii_case(b"+json"))
}

/// `Prefer: wait=SECONDS` (RFC 7240, 4.3). Anything else in it is not for us; 0 is no wait.
fn wait(head: &RequestHead<'_>) -> Option<Duration> {
    head.elements("prefer")
        .find_map(|preference| {
            let preference = str::from_utf8(preference).ok()?;
            let (name, value) = preference.split_once('=')?;
            if !name.trim().eq_ignore_ascii_case("wait") {
                return None;
            }
            let seconds: u64 = value.split(';').next()?.trim().trim_matches('"').parse().ok()?;
            Some(Duration::from_secs(seconds.min(WAIT_MAX_SECONDS)))
        })
        .filter(|wait| !wait.is_zero())
}

/// A connection that the backend keeps for its next push.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
const WAIT_MAX_SECONDS: u64 = 3600;
/// A body that makes so much progress gets as much time again as a head.
const BODY_PROGRESS_LEN: usize = 16 * 1024;
const HEAD_LEN: usize = 256;

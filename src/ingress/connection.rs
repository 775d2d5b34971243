//! Serves one connection of the backend to the ingress: requests one after the other, pipelined or not.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use shards::{Socket, Timer};

use super::answer::Answer;
use super::outcome_waits::Settle;
use super::{Ingress, push};
use crate::env::Env;
use crate::env::drain_signal::DrainWatch;
use crate::stream::{linger, poll_recv, send_all};
use protocol::http::{BodyDecoder, CrossSite, Framing, RequestHead, Site};
use protocol::http::{bearer_token, parse_request, write_continue, write_response_head};
use protocol::mapping::routes::{Route, RouteError, route};
use protocol::proxy_protocol;

/// What a request's head says, kept while its body is read.
struct Request {
    route: Result<Route, Answer>,
    framing: Framing,
    keep_alive: bool,
    expect_continue: bool,
    /// `Prefer: wait`
    wait: Option<Duration>,
    /// HEAD: the answer is its head alone.
    is_head: bool,
}

/// Why a connection is at its end.
enum End {
    /// The backend closed, or was silent: nobody is there to be told.
    Silent,
    /// The last answer on it.
    Last(Answer),
}

/// Serves one connection until it ends.
pub(super) async fn serve(ingress: &Rc<Ingress>, socket: Socket, _peer: SocketAddr) {
    let mut reader = Reader {
        ingress: ingress.clone(),
        socket,
        buffer: Vec::new(),
        timer: Timer::new(&ingress.env.reactor),
        is_head: false,
        end: ingress.env.end.watch(),
    };
    let end = reader.serve().await;
    if let Err(End::Last(answer)) = end {
        ingress.env.counters.ingress_bad.add();
        if reader.send(&answer, false).await.is_ok() {
            linger(&ingress.env, &reader.socket).await;
        }
    }
}

struct Reader {
    ingress: Rc<Ingress>,
    socket: Socket,
    /// Received and not yet used: at most a head, or a piece of a body.
    buffer: Vec<u8>,
    /// One for all that it waits for, one after the other: most deadlines are later than the one before.
    timer: Timer,
    /// Whether the request that is being answered is a HEAD.
    is_head: bool,
    end: DrainWatch,
}

impl Reader {
    async fn serve(&mut self) -> Result<(), End> {
        if self.env().node.ingress_proxy_protocol {
            self.skip_proxy_header().await?;
        }
        loop {
            self.is_head = false;
            let request = self.read_request_head().await?;
            self.is_head = request.is_head;
            self.env().counters.ingress_requests.add();
            let mut body = Vec::new();
            if let Err(answer) = request.route {
                // A body that was announced with `Expect` never comes; another one is read so that the next request
                // is found.
                if request.expect_continue {
                    return Err(End::Last(answer));
                }
                self.read_body(&request.framing, &mut body).await?;
                self.env().counters.ingress_bad.add();
                self.respond(answer, request.keep_alive).await?;
                continue;
            }
            if request.expect_continue {
                BodyDecoder::new(request.framing, self.env().core.message_max)
                    .map_err(|error| End::Last(Answer::error(error.status(), &error.to_string())))?;
                let mut interim = Vec::new();
                write_continue(&mut interim);
                self.send_bytes(&interim).await.map_err(|_| End::Silent)?;
            }
            self.read_body(&request.framing, &mut body).await?;
            let Ok(route) = request.route else {
                unreachable!("handled above")
            };
            let Some(answer) = push::answer(&self.ingress, route, body, request.wait, &self.socket).await else {
                return Err(End::Silent);
            };
            self.respond(answer, request.keep_alive).await?;
        }
    }

    fn env(&self) -> &Env {
        &self.ingress.env
    }

    async fn respond(&mut self, mut answer: Answer, keep_alive: bool) -> Result<(), End> {
        let keep_alive = keep_alive && !(self.env().end.is_triggered() && self.buffer.is_empty());
        let settle = std::mem::take(&mut answer.settle);
        // The kernel takes an answer also for a peer that has closed; an outcome would be lost so.
        let gone = !matches!(settle, Settle::Nothing) && self.socket.ask_ended();
        let written = !gone && self.send(&answer, keep_alive).await.is_ok();
        self.ingress.outcome_waits.settle(settle, written);
        if !written {
            return Err(End::Silent);
        }
        if keep_alive {
            return Ok(());
        }
        linger(self.env(), &self.socket).await;
        Err(End::Silent)
    }

    async fn read_request_head(&mut self) -> Result<Request, End> {
        let idle_deadline = self.env().reactor.now() + IDLE_TIMEOUT;
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

    async fn read_body(&mut self, framing: &Framing, body: &mut Vec<u8>) -> Result<(), End> {
        let refuse = |error: protocol::http::BodyError| End::Last(Answer::error(error.status(), &error.to_string()));
        let mut decoder = BodyDecoder::new(*framing, self.env().core.message_max).map_err(refuse)?;
        let mut deadline = self.env().reactor.now() + self.env().core.handshake_timeout;
        let mut counted = 0;
        loop {
            let decoded = decoder.decode(&self.buffer, body).map_err(refuse)?;
            self.buffer.drain(..decoded.consumed);
            if decoded.done {
                return Ok(());
            }
            if body.len() - counted >= BODY_PROGRESS_LEN {
                counted = body.len();
                deadline = self.env().reactor.now() + self.env().core.handshake_timeout;
            }
            self.receive(deadline, false).await?;
        }
    }

    async fn skip_proxy_header(&mut self) -> Result<(), End> {
        let deadline = self.env().reactor.now() + self.env().core.handshake_timeout;
        loop {
            match proxy_protocol::parse(&self.buffer) {
                Ok(Some(header)) => {
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

    /// Waits for more bytes. Between requests a draining shard ends the connection.
    async fn receive(&mut self, deadline: Instant, between_requests: bool) -> Result<(), End> {
        self.timer.set(Some(deadline));
        let Self {
            ingress,
            socket,
            buffer,
            timer,
            end,
            ..
        } = self;
        let received = poll_fn(|context| {
            let received = poll_recv(&ingress.env, context, socket, |bytes| buffer.extend_from_slice(bytes));
            match received {
                Poll::Ready(received) => Poll::Ready(received.is_ok_and(|len| len > 0)),
                Poll::Pending if between_requests && end.poll_triggered(context).is_ready() => Poll::Ready(false),
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
        if between_requests || self.socket.peer_closed() {
            return Err(End::Silent);
        }
        Err(End::Last(Answer::error(408, "the request did not arrive in time")))
    }

    async fn send(&self, answer: &Answer, keep_alive: bool) -> std::io::Result<()> {
        let headers: Vec<(&str, &str)> = answer.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut bytes = Vec::with_capacity(HEAD_LEN + answer.body.len());
        write_response_head(&mut bytes, answer.status, &headers, answer.body.len(), keep_alive);
        if !self.is_head {
            bytes.extend_from_slice(&answer.body);
        }
        self.send_bytes(&bytes).await
    }

    async fn send_bytes(&self, bytes: &[u8]) -> std::io::Result<()> {
        let deadline = self.env().reactor.now() + self.env().core.send_timeout;
        send_all(self.env(), &self.socket, bytes, deadline).await
    }
}

impl Request {
    fn from_head(ingress: &Ingress, head: &RequestHead<'_>) -> Self {
        Self {
            route: Self::check(ingress, head),
            framing: head.framing,
            keep_alive: head.keep_alive,
            expect_continue: head.expect_continue,
            wait: wait(head),
            is_head: head.method == "HEAD",
        }
    }

    fn check(ingress: &Ingress, head: &RequestHead<'_>) -> Result<Route, Answer> {
        let site = Site {
            hosts: &ingress.env.node.ingress_hosts,
            any_host: ingress.token.is_some(),
            has_pages: false,
        };
        site.check(head).map_err(|refusal| {
            Answer::error(403, &match refusal {
                CrossSite::Origin | CrossSite::FetchSite => "no page in a browser may ask here".to_owned(),
                CrossSite::Host(host) => format!(
                    "{host} may be the name of a stranger's page in a browser: if it is ours, add it to ingress_hosts, or set a token"
                ),
            })
        })?;
        if let Some(token) = &*ingress.token
            && !head
                .only("authorization")
                .and_then(bearer_token)
                .is_some_and(|secret| token.is(secret))
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

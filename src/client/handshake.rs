//! The opening handshake: from an accepted connection to a client, or to an answer that says why not.
//!
//! The shard that accepted reads the request, checks all that needs no state, and finds the ClientId's home shard; the
//! rest happens there. The backend is asked last, and only about a request that is good in every other way.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::protocol::CloseFrame;
use shards::handover::Handover;
use shards::parcel::Parcel;
use shards::{Socket, Timer, spawn};

use super::clients::{BoundReached, Clients};
use super::connection::Connection;
use super::conversation::Conversation;
use super::permit::HandshakePermit;
use super::verdict::Verdict;
use super::websocket;
use crate::config::Network;
use crate::env::Env;
use crate::observe::counters::Member;
use crate::stream::{LAST_WORD_TIMEOUT, linger, recv, send_all};
use protocol::http::{self, HeaderLines, RequestHead, is_request_decided, parse_request};
use protocol::mapping::forwarded::{self, Hops};
use protocol::mapping::{Admission, Identity};
use protocol::ocpp::subprotocol::negotiate;
use protocol::ocpp::{ClientId, Negotiated, Subprotocol};
use protocol::proxy_protocol;
use protocol::websocket::{UpgradeRefusal, check_upgrade};

/// A connection was accepted here.
pub(super) async fn begin<C: Conversation>(
    clients: Rc<Clients<C>>,
    _permit: HandshakePermit,
    handover: Rc<Handover>,
    socket: Socket,
    address: SocketAddr,
) {
    let env = &clients.env;
    let deadline = env.reactor.now() + env.core.handshake_timeout;
    let peer = Peer {
        address,
        is_trusted: Network::any_contains(&env.node.trusted_proxies, address.ip()),
    };
    let Some((head, peer)) = read_head(env, &socket, peer, deadline).await else {
        env.counters.handshakes_unfinished.add();
        return;
    };
    let checked = check(env, &head, peer.is_trusted);
    let home = checked
        .as_ref()
        .map_or(env.index, |checked| env.home_of(&checked.client));
    if home == env.index {
        return enter(&clients, socket, checked, peer, deadline).await;
    }
    drop(checked);
    env.counters.handovers_sent.add();
    let left = deadline.saturating_duration_since(env.reactor.now());
    let parcel = Parcel {
        socket: socket.into_fd(),
        bytes: pack(peer, left, &head),
    };
    if let Err(parcel) = handover.try_send(home, parcel) {
        env.counters.handovers_failed.add();
        if let Ok(socket) = Socket::adopt(&env.reactor, parcel.socket) {
            let refusal = Refusal::shed(|counters| &counters.handshakes_handover);
            refuse(env, socket, &refusal, deadline).await;
        }
    }
}

/// Another shard read the request; this one is the ClientId's home.
pub(super) async fn resume<C: Conversation>(
    clients: Rc<Clients<C>>,
    _permit: HandshakePermit,
    socket: Socket,
    bytes: Vec<u8>,
) {
    let env = &clients.env;
    let Some((peer, left, head)) = unpack(&bytes) else {
        unreachable!("shards pack what they hand over");
    };
    let deadline = env.reactor.now() + left;
    enter(&clients, socket, check(env, head, peer.is_trusted), peer, deadline).await;
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Peer {
    /// The client's, as far as we know: its own, or what the PROXY protocol header says.
    address: SocketAddr,
    /// Our own peer is among `trusted_proxies`: its word on certificates is believed.
    is_trusted: bool,
}

/// Why a request does not become a client.
#[derive(Debug)]
struct Refusal {
    status: u16,
    headers: Vec<(&'static str, String)>,
    count: Member,
}

/// A request that is good as far as it can be told without the backend.
struct Checked<'h> {
    client: ClientId,
    key: &'h [u8],
    /// `None`: offered, but none in common; the handshake is finished and the connection closed at once.
    subprotocol: Option<(Subprotocol, Option<&'h str>)>,
    head: RequestHead<'h>,
    /// The headers that `/connect` carries.
    passing: Vec<(&'h str, &'h str)>,
}

/// At the home shard: everything that needs its state, then the backend, then the client's life.
async fn enter<C: Conversation>(
    clients: &Rc<Clients<C>>,
    socket: Socket,
    checked: Result<Checked<'_>, Refusal>,
    peer: Peer,
    deadline: Instant,
) {
    let env = &clients.env;
    let Checked {
        client,
        key,
        subprotocol,
        head,
        passing,
    } = match checked {
        Ok(checked) => checked,
        Err(refusal) => return refuse(env, socket, &refusal, deadline).await,
    };
    let Some((subprotocol, name)) = subprotocol else {
        env.counters.handshakes_subprotocol.add();
        return finish_and_close(env, socket, key, deadline).await;
    };
    let now = env.reactor.now();
    if let Err(bound) = clients.check_bounds(now) {
        return refuse(env, socket, &Refusal::from_bound(bound), deadline).await;
    }
    let (identity, lines) = introduce(clients, client, name, &head, &passing, peer);
    let admission = ask(clients, &identity, lines, deadline).await;
    if let Some(refusal) = Refusal::from_admission(admission) {
        return refuse(env, socket, &refusal, deadline).await;
    }
    let mut answer = Vec::with_capacity(ANSWER_LEN);
    http::write_switching_protocols(&mut answer, key, identity.subprotocol());
    // If it can't be written the client has gone; its end is noticed and reported like any other.
    let _ = send_all(env, &socket, &answer, deadline.max(now + LAST_WORD_TIMEOUT)).await;
    let session = C::new(
        subprotocol,
        clients.session_limits(),
        env.next_random(),
        env.reactor.now(),
    );
    let stream = websocket::open(socket, &env.core).await;
    let connection = Connection::new(clients, identity, session, stream);
    admit(clients, connection);
}

/// Who comes, and the header lines that the backend is asked with.
fn introduce<C: Conversation>(
    clients: &Clients<C>,
    client: ClientId,
    subprotocol: Option<&str>,
    head: &RequestHead<'_>,
    passing: &[(&str, &str)],
    peer: Peer,
) -> (Rc<Identity>, HeaderLines) {
    let node = &clients.env.node;
    let is_trusted = |address| Network::any_contains(&node.trusted_proxies, address);
    let hops = Hops::read(head, peer.address.ip(), is_trusted);
    let identity = Identity::new(client, clients.next_connection_id(), subprotocol, &hops.chain);
    let lines = identity.lines().with(passing);
    (Rc::new(identity), lines)
}

/// The newest connection wins, now that the backend has said ok.
fn admit<C: Conversation>(clients: &Rc<Clients<C>>, connection: Rc<Connection<C>>) {
    clients.env.counters.clients_opened.add();
    spawn(connection.clone().run());
    let id = connection.identity().connection;
    let present = clients.find(&connection.identity().client);
    if let Some(present) = present {
        let newest = present.identity().connection;
        if newest.is_newer_than(&id) {
            // The backend answered the two in the other order.
            connection.handle_replaced(newest);
            return;
        }
        let pushes = present.handle_replaced(id);
        clients.register(connection.clone());
        connection.adopt(pushes);
    } else {
        clients.register(connection.clone());
    }
    if clients.env.is_draining() {
        connection.handle_shutdown();
        connection.leave();
    }
}

async fn ask<C: Conversation>(
    clients: &Clients<C>,
    identity: &Rc<Identity>,
    lines: HeaderLines,
    deadline: Instant,
) -> Admission {
    let verdict = Rc::new(Verdict::default());
    let asked = clients
        .backend()
        .connect(identity.clone(), lines, deadline, verdict.clone());
    if asked.is_err() {
        return Admission::Unanswered { status: 503 };
    }
    clients.count_asking(1);
    let admission = verdict.wait().await;
    clients.count_asking(-1);
    admission
}

/// Reads the request, and the PROXY protocol header before it where one is due. `None`: the client went, or was slow.
/// A head that is refused is answered here.
async fn read_head(env: &Env, socket: &Socket, peer: Peer, deadline: Instant) -> Option<(Vec<u8>, Peer)> {
    let mut bytes = Vec::new();
    let mut peer = peer;
    let mut expects_proxy = env.node.proxy_protocol;
    let mut timer = Timer::new(&env.reactor);
    timer.set(Some(deadline));
    loop {
        let received = recv(env, socket, &mut timer, |piece| bytes.extend_from_slice(piece)).await;
        if received == 0 {
            return None;
        }
        if expects_proxy {
            match proxy_protocol::parse(&bytes) {
                Ok(None) => continue,
                Ok(Some(header)) => {
                    bytes.drain(..header.len);
                    peer = Peer {
                        address: header.source.unwrap_or(peer.address),
                        ..peer
                    };
                    expects_proxy = false;
                }
                Err(_) => {
                    env.counters.proxy_missing.add();
                    return None;
                }
            }
            if bytes.is_empty() {
                continue;
            }
        }
        // Complete, broken or too long: `check` says which.
        if is_request_decided(&bytes, env.core.head_max) {
            return Some((bytes, peer));
        }
    }
}

/// All that can be said of a request without state: the answer is the same on every shard.
fn check<'h>(env: &'h Env, head: &'h [u8], is_trusted: bool) -> Result<Checked<'h>, Refusal> {
    let bad = |status| Refusal::new(status, |counters| &counters.handshakes_bad);
    let refused = Refusal::new;
    let bad_id = || refused(404, |counters| &counters.handshakes_client_id);
    let node = &env.node;
    let request = match parse_request(head, env.core.head_max) {
        Ok(Some(request)) => request,
        Ok(None) => return Err(bad(400)),
        Err(error) => {
            if proxy_protocol::begins(head) {
                env.counters.proxy_unexpected.add();
            }
            return Err(bad(error.status()));
        }
    };
    let upgrade = check_upgrade(&request).map_err(|refusal| Refusal::from_upgrade(refusal, bad(refusal.status())))?;
    if request.len != head.len() {
        // Nothing may come before the 101 (RFC 6455, 4.1): who passes it on is who gets smuggled to (CVE-2026-2833).
        return Err(bad(400));
    }
    let path = request.target.split_once('?').map_or(request.target, |(path, _)| path);
    let segment = path.strip_prefix(&*node.path_prefix).ok_or_else(bad_id)?;
    let client = ClientId::from_percent_encoded(segment).map_err(|_| bad_id())?;
    let is_allowed = |origin: &[u8]| node.origins.iter().any(|allowed| allowed.as_bytes() == origin);
    if !node.origins.is_empty() && !request.headers("origin").all(is_allowed) {
        return Err(refused(403, |counters| &counters.handshakes_origin));
    }
    if node.basic_user_is_client_id && !forwarded::basic_user_fits(&request, &client) {
        let challenge = (
            "WWW-Authenticate",
            "Basic realm=\"ws2api\", charset=\"UTF-8\"".to_owned(),
        );
        return Err(Refusal {
            headers: vec![challenge],
            ..refused(401, |counters| &counters.handshakes_user)
        });
    }
    let trusted_headers = if is_trusted { &node.trusted_headers[..] } else { &[] };
    let passing = forwarded::passing_headers(&request, &node.forward_headers, trusted_headers)
        .map_err(|error| bad(error.status()))?;
    let offered = request
        .headers("sec-websocket-protocol")
        .filter_map(|value| str::from_utf8(value).ok());
    let negotiated = negotiate(offered, &node.subprotocols, node.subprotocol_required);
    let subprotocol = match negotiated {
        Negotiated::Chosen { subprotocol, name } => Some((subprotocol, Some(name))),
        Negotiated::NoneOffered => Some((Subprotocol::None, None)),
        Negotiated::Required => {
            return Err(refused(400, |counters| &counters.handshakes_subprotocol));
        }
        Negotiated::NoneInCommon => None,
    };
    Ok(Checked {
        client,
        key: upgrade.key,
        subprotocol,
        head: request,
        passing,
    })
}

/// Finishes the handshake without a subprotocol and closes with 1002 (OCPP-J 1.6, 3.2).
async fn finish_and_close(env: &Env, socket: Socket, key: &[u8], deadline: Instant) {
    let mut answer = Vec::with_capacity(ANSWER_LEN);
    http::write_switching_protocols(&mut answer, key, None);
    if send_all(env, &socket, &answer, deadline).await.is_err() {
        return;
    }
    let mut stream = websocket::open(socket, &env.core).await;
    let frame = CloseFrame {
        code: 1002.into(),
        reason: "no subprotocol in common".into(),
    };
    let mut timer = Timer::new(&env.reactor);
    timer.set(Some(env.reactor.now() + LAST_WORD_TIMEOUT));
    let mut closing = std::pin::pin!(async {
        if stream.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) =
                poll_fn(|context| futures_core::Stream::poll_next(std::pin::Pin::new(&mut stream), context)).await
            {
            }
        }
    });
    poll_fn(|context| match closing.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => timer.poll_expired(context),
    })
    .await;
}

/// Answers, and closes so that the answer is not lost to a reset.
async fn refuse(env: &Env, socket: Socket, refusal: &Refusal, deadline: Instant) {
    (refusal.count)(&env.counters).add();
    let mut answer = Vec::with_capacity(ANSWER_LEN);
    let headers: Vec<(&str, &str)> = refusal.headers.iter().map(|(name, value)| (*name, &**value)).collect();
    http::write_response(&mut answer, refusal.status, &headers, b"", false);
    let deadline = deadline.max(env.reactor.now() + LAST_WORD_TIMEOUT);
    if send_all(env, &socket, &answer, deadline).await.is_ok() {
        linger(env, &socket).await;
    }
}

impl Refusal {
    fn new(status: u16, count: Member) -> Self {
        Self {
            status,
            headers: Vec::new(),
            count,
        }
    }

    fn shed(count: Member) -> Self {
        let retry = ("Retry-After", RETRY_AFTER.to_owned());
        Self {
            status: 503,
            headers: vec![retry],
            count,
        }
    }

    fn from_upgrade(refusal: UpgradeRefusal, bad: Self) -> Self {
        let headers = refusal.headers().iter();
        Self {
            headers: headers.map(|(name, value)| (*name, (*value).to_owned())).collect(),
            ..bad
        }
    }

    fn from_bound(bound: BoundReached) -> Self {
        Self::shed(match bound {
            BoundReached::Draining => |counters| &counters.handshakes_draining,
            BoundReached::ClientsMax => |counters| &counters.handshakes_full,
            BoundReached::UpgradesPerSecondMax => |counters| &counters.handshakes_rate,
        })
    }

    fn from_admission(admission: Admission) -> Option<Self> {
        match admission {
            Admission::Admitted => None,
            Admission::Denied { status, headers } => Some(Self {
                status,
                headers,
                count: |counters| &counters.handshakes_denied,
            }),
            Admission::Unanswered { status: 503 } => Some(Self::shed(|counters| &counters.handshakes_overloaded)),
            Admission::Unanswered { status: 504 } => {
                Some(Self::new(504, |counters| &counters.handshakes_backend_timeout))
            }
            Admission::Unanswered { status } => Some(Self::new(status, |counters| &counters.handshakes_backend_failed)),
        }
    }
}

/// A request with its sender and the time that it has left, as it travels to the home shard.
fn pack(peer: Peer, left: Duration, head: &[u8]) -> Vec<u8> {
    let address = match peer.address.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    [
        &address.octets()[..],
        &peer.address.port().to_be_bytes(),
        &[peer.is_trusted.into()],
        &left_ms.to_be_bytes(),
        head,
    ]
    .concat()
}

fn unpack(bytes: &[u8]) -> Option<(Peer, Duration, &[u8])> {
    let (address, rest) = bytes.split_first_chunk::<16>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (is_trusted, rest) = rest.split_first()?;
    let (left_ms, head) = rest.split_first_chunk::<4>()?;
    let address = Ipv6Addr::from(*address).to_canonical();
    let peer = Peer {
        address: SocketAddr::new(address, u16::from_be_bytes(*port)),
        is_trusted: *is_trusted != 0,
    };
    let left = Duration::from_millis(u32::from_be_bytes(*left_ms).into());
    Some((peer, left, head))
}

/// For those who should not come back at once.
const RETRY_AFTER: &str = "5";
const ANSWER_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_arrives_as_it_was() {
        for (address, is_trusted) in [("10.1.2.3:4567", false), ("[2001:db8::7]:1", true)] {
            let address = address.parse().unwrap();
            let peer = Peer { address, is_trusted };
            let left = Duration::from_millis(9_876);
            let bytes = pack(peer, left, b"GET / HTTP/1.1\r\n\r\n");
            assert_eq!(unpack(&bytes), Some((peer, left, &b"GET / HTTP/1.1\r\n\r\n"[..])));
        }
    }
}

//! Takes an accepted connection through the opening handshake, to a client or to an answer that says why not.
//!
//! The shard that accepted reads the request, checks all that needs no state, and finds the ClientId's home shard; the
//! rest happens there. The backend is asked last, and only about a request that is good in every other way.

mod ask;
mod check;
mod farewell;
mod introduction;
mod parcel;
mod reason;
mod refusal;
mod secure;
mod unread;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use shards::handover::Handover;
use shards::parcel::Parcel;
use shards::{Socket, Timer, spawn};

use self::ask::{Asked, ask};
use self::check::{Checked, check};
use self::farewell::{finish_and_close, refuse};
use self::introduction::Introduced;
use self::parcel::Peer;
use self::reason::Reason;
use self::refusal::Refusal;
use self::secure::{Secured, secure};
use self::unread::{Unread, receive};
use super::clients::{BoundReached, Clients};
use super::compression;
use super::connection::Connection;
use super::conversation::Conversation;
use super::parcel::Content;
use super::permit::HandshakePermit;
use crate::config::Network;
use crate::env::Env;
use crate::env::proxy_peers::Listener;
use crate::stream::LAST_WORD_TIMEOUT;
use crate::wire::Wire;
use protocol::http::{self, HeaderLines, RequestHead, is_request_decided};
use protocol::mapping::Identity;
use protocol::mapping::forwarded::Hops;
use protocol::ocpp::ClientId;

/// A connection was accepted here, at the listener for TLS or at the other one.
pub(super) async fn begin<C: Conversation>(
    clients: Rc<Clients<C>>,
    permit: HandshakePermit,
    handover: Rc<Handover>,
    socket: Socket,
    address: SocketAddr,
    is_tls: bool,
) {
    let env = &clients.env;
    let deadline = env.reactor.now() + env.core.handshake_timeout;
    let introduced = match env.node.proxy_protocol {
        true => {
            let listener = if is_tls { Listener::ListenTls } else { Listener::Listen };
            introduction::hear(env, listener, &socket, &permit, address, deadline).await
        }
        false => Ok(introduction::direct(address)),
    };
    let introduced = match introduced {
        Ok(introduced) => introduced,
        Err(Unread::Draining) if !is_tls => {
            drop(permit);
            return turn_away(clients, Wire::Plain(socket), address).await;
        }
        Err(unread) => return give_up(env, &unread, address),
    };
    // Who hands over the client's words is who connects.
    let is_trusted = Network::any_contains(&env.node.trusted_proxies, address.ip());
    let Introduced { address, tls, received } = introduced;
    let (permit, secured) = match is_tls {
        false => {
            let wire = Wire::Plain(socket);
            let facts = None;
            (permit, Secured { wire, facts, received })
        }
        true => match secure(&clients, permit, socket, received, address, deadline).await {
            Ok(Some(secured)) => secured,
            Ok(None) => return,
            Err(unread) => return give_up(env, &unread, address),
        },
    };
    let Secured { wire, facts, received } = secured;
    let peer = Peer {
        address,
        is_trusted,
        // Of a client that speaks TLS with the balancer that counts: ours is the balancer's.
        tls: tls.or(facts),
    };
    greet(clients, permit, handover, wire, received, peer, deadline).await;
}

/// A connection in which nobody can be told anything.
fn give_up(env: &Env, unread: &Unread, address: SocketAddr) {
    match unread {
        Unread::Gone => env.counters.handshakes_unfinished.add(),
        Unread::PlaceLost => env.counters.handshakes_made_room.add(),
        Unread::Draining => leave_out(env, address),
    }
}

/// Reads the request, of which some has been `received`, and finds who goes on with it.
async fn greet<C: Conversation>(
    clients: Rc<Clients<C>>,
    mut permit: HandshakePermit,
    handover: Rc<Handover>,
    mut wire: Wire,
    received: Vec<u8>,
    peer: Peer,
    deadline: Instant,
) {
    let env = &clients.env;
    let head = match read_head(env, &mut wire, received, &permit, deadline).await {
        Ok(head) => head,
        Err(Unread::Draining) => {
            drop(permit);
            return turn_away(clients, wire, peer.address).await;
        }
        Err(unread) => return give_up(env, &unread, peer.address),
    };
    if wire.is_broken() {
        // What follows the request is no record: it was told so already.
        env.counters.tls_records_bad.add();
        return env.counters.handshakes_unfinished.add();
    }
    permit.handle_request();
    let checked = check(env, &head, &peer).and_then(|checked| match wire.held_len() {
        0 => Ok(checked),
        // A record in part: as if it were whole.
        _ => Err(Refusal::new(Reason::EarlyBytes, 400)),
    });
    let home = checked
        .as_ref()
        .map_or(env.index, |checked| env.home_of(&checked.client));
    if home == env.index {
        return enter(&clients, permit, wire, checked, peer, deadline).await;
    }
    drop(checked);
    env.counters.handovers_sent.add();
    let (socket, records) = wire.into_parts();
    let bytes = parcel::pack(&peer, records.as_ref(), env.since_start(deadline), &head);
    let parcel = Parcel {
        socket: socket.into_fd(),
        bytes: Content::Handshake(&bytes).pack(),
    };
    if let Err(parcel) = handover.try_send(home, parcel) {
        env.counters.handovers_failed.add();
        match Socket::adopt(&env.reactor, parcel.socket) {
            Ok(socket) => {
                let refusal = Refusal::shed(Reason::Handover);
                refusal.tell(env, peer.address);
                let wire = Wire::new(socket, records);
                refuse(&clients, Some(permit), wire, &refusal, deadline).await;
            }
            Err(_) => lose(env, peer.address),
        }
    }
}

/// A connection that was accepted is gone, for want of a descriptor or of the kernel's memory: that is counted and told.
pub(super) fn lose(env: &Env, address: SocketAddr) {
    Refusal::lost().tell(env, address);
}

/// The same of one that another shard has handed over with these `bytes`.
pub(super) fn lose_parcel<C: Conversation>(clients: &Clients<C>, bytes: &[u8]) {
    let env = &clients.env;
    env.counters.handovers_lost.add();
    let Some((peer, _, _, head)) = parcel::unpack(bytes) else {
        unreachable!("shards pack what they hand over");
    };
    let Ok(Checked { client, .. }) = check(env, head, &peer) else {
        return lose(env, peer.address);
    };
    let refusal = Refusal::lost().of(&client);
    refusal.tell(env, peer.address);
}

/// The shard takes no client any more, and this one has no TLS yet in which it could be told so.
pub(super) fn leave_out(env: &Env, address: SocketAddr) {
    Refusal::lost_for(Reason::Draining).tell(env, address);
}

/// The shard takes no client any more: whatever the request is, it is told so.
pub(super) async fn turn_away<C: Conversation>(clients: Rc<Clients<C>>, wire: Wire, address: SocketAddr) {
    let refusal = Refusal::from_bound(BoundReached::Draining);
    refusal.tell(&clients.env, address);
    let deadline = clients.env.reactor.now();
    refuse(&clients, None, wire, &refusal, deadline).await;
}

/// Another shard read the request; this one is the ClientId's home.
pub(super) async fn resume<C: Conversation>(
    clients: Rc<Clients<C>>,
    permit: HandshakePermit,
    socket: Socket,
    bytes: Vec<u8>,
) {
    let env = &clients.env;
    let Some((peer, records, deadline, head)) = parcel::unpack(&bytes) else {
        unreachable!("shards pack what they hand over");
    };
    let deadline = env.started + deadline;
    let checked = check(env, head, &peer);
    enter(&clients, permit, Wire::new(socket, records), checked, peer, deadline).await;
}

/// At the home shard: everything that needs its state, then the backend, then the client's life.
async fn enter<C: Conversation>(
    clients: &Rc<Clients<C>>,
    permit: HandshakePermit,
    mut wire: Wire,
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
        Err(refusal) => {
            refusal.tell(env, peer.address);
            return refuse(clients, Some(permit), wire, &refusal, deadline).await;
        }
    };
    let tell = |refusal: &Refusal| refusal.tell(env, peer.address);
    let Some((subprotocol, names)) = subprotocol else {
        let came = head.header("sec-websocket-protocol").map(String::from_utf8_lossy);
        let refusal = Refusal::new(Reason::Subprotocol, 101).of(&client);
        tell(&refusal.with_detail(&came.unwrap_or_default(), &env.node.subprotocols.join(" ")));
        return finish_and_close(clients, permit, wire, key, deadline).await;
    };
    let now = env.reactor.now();
    if let Err(bound) = clients.check_bounds(&client, now) {
        let refusal = Refusal::from_bound(bound).of(&client);
        tell(&refusal);
        return refuse(clients, Some(permit), wire, &refusal, deadline).await;
    }
    let (identity, lines) = introduce(
        clients,
        client.clone(),
        names.map(|(name, _)| name),
        &head,
        &passing,
        &peer,
    );
    let refusal = match ask(clients, wire.socket(), &identity, lines, deadline).await {
        Asked::Draining => Some(Refusal::from_bound(BoundReached::Draining)),
        Asked::Answered(admission) => Refusal::from_admission(admission),
        Asked::Superseded => Some(Refusal::shed(Reason::Superseded)),
        Asked::Gone => {
            env.counters.handshakes_unfinished.add();
            return;
        }
    };
    if let Some(refusal) = refusal.map(|refusal| refusal.of(&client)) {
        tell(&refusal);
        return refuse(clients, Some(permit), wire, &refusal, deadline).await;
    }
    let mut answer = Vec::with_capacity(ANSWER_LEN);
    let deflate = compression::agree(&env.node, &env.core, &head);
    let extension = deflate.map(|agreement| agreement.header());
    http::write_switching_protocols(
        &mut answer,
        key,
        names.map(|(_, spelling)| spelling),
        extension.as_deref(),
    );
    // If it can't be written the client has gone; its end is noticed and reported like any other.
    let until = deadline.max(now + LAST_WORD_TIMEOUT);
    let _ = wire.send_all(env, &answer, false, until).await;
    let session = C::new(
        subprotocol,
        clients.session_limits(),
        env.next_random(),
        env.reactor.now(),
    );
    let connection = Connection::new(clients, identity, session, wire, deflate);
    env.counters.clients_opened.add();
    if env.watch.is_on() {
        env.watch.connected(env.uptime(), connection.identity(), &env.counters);
    }
    spawn(connection.clone().run());
    clients.admit(&connection);
    clients.backend().begun(connection.identity());
}

/// Who comes, and the header lines that the backend is asked with.
fn introduce<C: Conversation>(
    clients: &Clients<C>,
    client: ClientId,
    subprotocol: Option<&str>,
    head: &RequestHead<'_>,
    passing: &[(&str, &str)],
    peer: &Peer,
) -> (Rc<Identity>, HeaderLines) {
    let node = &clients.env.node;
    let is_trusted = |address| Network::any_contains(&node.trusted_proxies, address);
    let hops = Hops::read(head, peer.address.ip(), is_trusted);
    let identity = Identity::new(client, clients.next_connection_id(), subprotocol, &hops.chain);
    let mut lines = identity.lines().with(passing);
    if let Some(tls) = &peer.tls {
        let headers = tls.headers();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        lines = lines.with(&headers);
    }
    (Rc::new(identity), lines)
}

/// Reads the request, of which some has been `received`.
/// A head that is refused is answered here.
async fn read_head(
    env: &Env,
    wire: &mut Wire,
    received: Vec<u8>,
    permit: &HandshakePermit,
    deadline: Instant,
) -> Result<Vec<u8>, Unread> {
    let mut bytes = received;
    let mut timer = Timer::new(&env.reactor);
    timer.set(Some(deadline));
    // Complete, broken or too long: `check` says which. What came before may be all of it.
    while bytes.is_empty() || !is_request_decided(&bytes, env.core.head_max) {
        let receiving = wire.recv(env, &mut timer, |piece| bytes.extend_from_slice(piece));
        receive(env, permit, receiving).await?;
    }
    Ok(bytes)
}

const ANSWER_LEN: usize = 384;

//! Takes a connection at `listen_tls` through its TLS handshake.
//!
//! What a handshake computes takes 0.1 to 0.3 ms, and many may begin at once. Each has a turn of its own for it, and a pass of the
//! shard resumes one of those that wait for theirs.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use rustls::ServerConfig;
use shards::turn::{self, TURN_LEN};
use shards::{Socket, Timer};

use super::Unread;
use super::farewell::{leave, refuse};
use super::reason::Reason;
use super::refusal::Refusal;
use crate::client::clients::Clients;
use crate::client::conversation::Conversation;
use crate::client::permit::HandshakePermit;
use crate::observe::counters::Counters;
use crate::stream::{recv, send_all, until};
use crate::wire::Wire;
use protocol::mapping::TlsFacts;
use protocol::mapping::tls_facts::ClientCertificate;
use protocol::tls::{Established, Facts, HandshakeError, ServerHandshake};

/// A connection whose TLS handshake is done.
pub(super) struct Secured {
    pub(super) wire: Wire,
    pub(super) facts: Option<Box<TlsFacts>>,
    /// What has come behind the handshake.
    pub(super) received: Vec<u8>,
}

/// Why there is no TLS.
enum Failure {
    Unread(Unread),
    /// The rate is reached.
    Rate,
    /// The client was told so, if it could be told.
    Handshake(HandshakeError),
}

/// `Ok(None)`: it is at its end, and that was counted and told.
pub(super) async fn secure<C: Conversation>(
    clients: &Clients<C>,
    permit: HandshakePermit,
    socket: Socket,
    address: SocketAddr,
    deadline: Instant,
) -> Result<Option<(HandshakePermit, Secured)>, Unread> {
    let counters = &clients.env.counters;
    // There is a configuration as long as there is a listener.
    let Some(config) = clients.tls.config() else {
        return Err(Unread::Gone);
    };
    let established = match shake(clients, &permit, &socket, &config, deadline).await {
        Ok(established) => established,
        Err(Failure::Unread(unread)) => return Err(unread),
        Err(Failure::Rate) => {
            Refusal::lost_for(Reason::TlsRate).tell(&clients.env, address);
            return Ok(None);
        }
        Err(Failure::Handshake(error)) => {
            count_failure(counters, &error);
            if matches!(error, HandshakeError::PlainHttp) {
                let refusal = Refusal::new(Reason::PlainHttp, 400);
                refusal.tell(&clients.env, address);
                refuse(clients, Some(permit), Wire::Plain(socket), &refusal, deadline).await;
                return Ok(None);
            }
            let accepted = "TLS 1.2 and 1.3, as far as tls_versions has them";
            let refusal = Refusal::lost_for(Reason::Tls).with_detail(&error.to_string(), accepted);
            refusal.tell(&clients.env, address);
            leave(clients, Some(permit), Wire::Plain(socket)).await;
            return Ok(None);
        }
    };
    let Established {
        mut records,
        facts,
        unopened: mut received,
    } = established;
    if facts.is_resumed {
        counters.tls_resumed.add();
    } else {
        counters.tls_full.add();
    }
    let opened = records.open(&mut received);
    received.truncate(opened.plain_len);
    if opened.end.is_some() {
        return Err(Unread::Gone);
    }
    let secured = Secured {
        wire: Wire::new(socket, Some(records)),
        facts: told(&facts).map(Box::new),
        received,
    };
    Ok(Some((permit, secured)))
}

async fn shake<C: Conversation>(
    clients: &Clients<C>,
    permit: &HandshakePermit,
    socket: &Socket,
    config: &Rc<ServerConfig>,
    deadline: Instant,
) -> Result<Established, Failure> {
    let env = &clients.env;
    let mut timer = Timer::new(&env.reactor);
    timer.set(Some(deadline));
    let drain = env.drain.watch();
    let mut held = env.buffers.hold(0);
    let mut handshake: Option<ServerHandshake> = None;
    let mut out = Vec::new();
    loop {
        let mut received = Vec::new();
        let receiving = recv(env, socket, &mut timer, |piece| received.extend_from_slice(piece));
        let is_no_use = |context: &mut Context<'_>| match drain.poll_triggered(context) {
            Poll::Pending => permit.poll_lost(context),
            triggered => triggered,
        };
        match until(is_no_use, receiving).await {
            None if permit.is_lost() => return Err(Failure::Unread(Unread::PlaceLost)),
            None => return Err(Failure::Unread(Unread::Draining)),
            Some(0) => return Err(Failure::Unread(Unread::Gone)),
            Some(_) => {}
        }
        let mut current = match handshake.take() {
            Some(begun) => begun,
            None if !clients.tls_rate.try_take(env.reactor.now()) => return Err(Failure::Rate),
            None => ServerHandshake::new(config).map_err(Failure::Handshake)?,
        };
        own_turn().await;
        let result = current.advance(&received, &mut out);
        held.set(current.held_len());
        // An alert, too, if there is one.
        let sent = send_all(env, socket, &out, deadline).await;
        out.clear();
        let is_done = result.map_err(Failure::Handshake)?;
        sent.map_err(|_| Failure::Unread(Unread::Gone))?;
        if is_done {
            return current.finish().map_err(Failure::Handshake);
        }
        handshake = Some(current);
    }
}

/// Waits for a turn in which no other task has what it waits for.
async fn own_turn() {
    turn::spend(TURN_LEN);
    poll_fn(|context| match turn::may_go_on(context.waker()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// What the backend is told.
fn told(facts: &Facts) -> Option<TlsFacts> {
    let certificate = match &facts.peer_certificate {
        None => ClientCertificate::Absent,
        Some(_) => ClientCertificate::Verified {
            common_name: facts.peer_common_name().map(|name| name.into_bytes().into()),
        },
    };
    let (version, suite) = (facts.version().name().as_bytes(), facts.suite.name().as_bytes());
    let nameless = || TlsFacts::new(version, Some(suite), ClientCertificate::Verified { common_name: None });
    // A name that is too long to be told is none.
    TlsFacts::new(version, Some(suite), certificate).or_else(nameless)
}

fn count_failure(counters: &Counters, error: &HandshakeError) {
    let count = match error.reason() {
        "plain_http" => &counters.tls_plain_http,
        "not_tls" => &counters.tls_not_tls,
        "too_long" => &counters.tls_too_long,
        "incompatible" => &counters.tls_incompatible,
        "certificate" => &counters.tls_certificate,
        "alert" => &counters.tls_alert,
        "internal" => &counters.tls_internal,
        _ => &counters.tls_protocol,
    };
    count.add();
}

//! Takes a connection at `listen_tls` through its TLS handshake.
//!
//! What a handshake computes takes 0.1 to 0.3 ms, and many may begin at once. Each has a turn of its own for it, and a pass of the
//! shard resumes one of those that wait for theirs.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use rustls::{AlertDescription, Error, ServerConfig};
use shards::turn::{self, TURN_LEN};
use shards::{Socket, Timer};

use super::farewell::{leave, refuse};
use super::reason::Reason;
use super::refusal::Refusal;
use super::unread::{Unread, receive};
use crate::authorities;
use crate::client::clients::Clients;
use crate::client::conversation::Conversation;
use crate::client::permit::HandshakePermit;
use crate::observe::counters::Counters;
use crate::stream::{recv, send_all};
use crate::wire::Wire;
use protocol::mapping::TlsFacts;
use protocol::mapping::tls_facts::ClientCertificate;
use protocol::proxy_protocol;
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
    /// It has not begun.
    Unread(Unread),
    /// It has, and was cut off, or took too long.
    Unfinished(Unread),
    /// The rate is reached.
    Rate,
    /// It begins with a PROXY protocol header, and none is expected.
    Introduced,
    /// The client was told so, if it could be told.
    Handshake(HandshakeError),
}

/// Some of it has been `received`. `Ok(None)`: it is at its end, and that was counted and told.
pub(super) async fn secure<C: Conversation>(
    clients: &Clients<C>,
    permit: HandshakePermit,
    socket: Socket,
    received: Vec<u8>,
    address: SocketAddr,
    deadline: Instant,
) -> Result<Option<(HandshakePermit, Secured)>, Unread> {
    let counters = &clients.env.counters;
    // There is a configuration as long as there is a listener.
    let Some(config) = clients.tls.config() else {
        return Err(Unread::Gone);
    };
    let established = match shake(clients, &permit, &socket, received, &config, deadline).await {
        Ok(established) => established,
        Err(Failure::Unread(unread)) => return Err(unread),
        Err(Failure::Unfinished(unread)) => {
            counters.tls_unfinished.add();
            return Err(unread);
        }
        Err(Failure::Rate) => {
            Refusal::lost_for(Reason::TlsRate).tell(&clients.env, address);
            return Ok(None);
        }
        Err(Failure::Introduced) => {
            counters.tls_proxy_unexpected.add();
            counters.tls_not_tls.add();
            let refusal = Refusal::lost_for(Reason::Tls);
            let refusal = refusal.with_detail("a PROXY protocol header", "TLS, since proxy_protocol is false");
            refusal.tell(&clients.env, address);
            leave(clients, Some(permit), Wire::Plain(socket)).await;
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
            let (came, accepted) = words(&error);
            let refusal = Refusal::lost_for(Reason::Tls).with_detail(&came, accepted);
            refusal.tell(&clients.env, address);
            leave(clients, Some(permit), Wire::Plain(socket)).await;
            return Ok(None);
        }
    };
    let Established {
        records,
        facts,
        unopened,
    } = established;
    if facts.is_resumed {
        counters.tls_resumed.add();
    } else {
        counters.tls_full.add();
    }
    let (wire, received) = Wire::secured(socket, records, unopened);
    let secured = Secured {
        wire,
        facts: told(&facts).map(Box::new),
        received,
    };
    Ok(Some((permit, secured)))
}

async fn shake<C: Conversation>(
    clients: &Clients<C>,
    permit: &HandshakePermit,
    socket: &Socket,
    mut received: Vec<u8>,
    config: &Rc<ServerConfig>,
    deadline: Instant,
) -> Result<Established, Failure> {
    let env = &clients.env;
    let mut timer = Timer::new(&env.reactor);
    timer.set(Some(deadline));
    let mut held = env.buffers.hold(0);
    let mut handshake: Option<ServerHandshake> = None;
    let mut out = Vec::new();
    loop {
        if received.is_empty() {
            let receiving = recv(env, socket, &mut timer, |piece| received.extend_from_slice(piece));
            let received = receive(env, permit, receiving).await;
            received.map_err(match handshake {
                None => Failure::Unread,
                Some(_) => Failure::Unfinished,
            })?;
        }
        let mut current = match handshake.take() {
            Some(begun) => begun,
            None if proxy_protocol::begins(&received) => return Err(Failure::Introduced),
            None if !clients.tls_rate.try_take(env.reactor.now()) => return Err(Failure::Rate),
            None => ServerHandshake::new(config).map_err(Failure::Handshake)?,
        };
        own_turn().await;
        let result = current.advance(&received, &mut out);
        received.clear();
        held.set(current.held_len());
        // An alert, too, if there is one.
        let sent = send_all(env, socket, &out, deadline).await;
        out.clear();
        let is_done = result.map_err(Failure::Handshake)?;
        sent.map_err(|_| Failure::Unfinished(Unread::Gone))?;
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

/// What came, and what would be accepted, for whoever can mend it.
fn words(error: &HandshakeError) -> (String, &'static str) {
    let HandshakeError::Tls(error) = error else {
        return (error.to_string(), SPOKEN);
    };
    match error {
        Error::InvalidCertificate(error) => (
            authorities::why_not(
                error,
                "is who signs it in tls_client_ca, and does it show those between?",
            ),
            "certificates that those in tls_client_ca have signed",
        ),
        Error::NoCertificatesPresented => (
            "no certificate of its own".to_owned(),
            "certificates that those in tls_client_ca have signed (tls_client_auth = required)",
        ),
        Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError),
        ) => (
            format!("its word that it does not take our certificate ({alert:?})"),
            "clients that know who signs it; tls_certificates has to show those between, too",
        ),
        other => (other.to_string(), SPOKEN),
    }
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
        "ended" => &counters.tls_unfinished,
        _ => &counters.tls_protocol,
    };
    count.add();
}

const SPOKEN: &str = "TLS 1.2 and 1.3, as far as tls_versions has them, with AEAD suites";

//! Says the last word to who does not become a client, and sees to it that it is not lost to a reset.

use std::time::Instant;

use super::refusal::Refusal;
use crate::client::clients::Clients;
use crate::client::conversation::Conversation;
use crate::client::permit::HandshakePermit;
use crate::stream::{LAST_WORD_TIMEOUT, linger, until};
use crate::wire::Wire;
use protocol::http;
use protocol::mapping::bodies;
use protocol::websocket;

/// Answers with the reason.
pub(super) async fn refuse<C: Conversation>(
    clients: &Clients<C>,
    permit: Option<HandshakePermit>,
    wire: Wire,
    refusal: &Refusal,
    deadline: Instant,
) {
    let mut answer = Vec::with_capacity(ANSWER_LEN);
    let headers: Vec<(&str, &str)> = refusal.headers.iter().map(|(name, value)| (*name, &**value)).collect();
    let body = bodies::refusal(refusal.reason.text());
    http::write_response(&mut answer, refusal.status, &headers, body.as_bytes(), false);
    say(clients, permit, wire, &answer, deadline).await;
}

/// Finishes the handshake without a subprotocol and closes with 1002 (OCPP-J 1.6, 3.2).
pub(super) async fn finish_and_close<C: Conversation>(
    clients: &Clients<C>,
    permit: HandshakePermit,
    wire: Wire,
    key: &[u8],
    deadline: Instant,
) {
    let mut answer = Vec::with_capacity(ANSWER_LEN);
    http::write_switching_protocols(&mut answer, key, None, None);
    answer.extend(websocket::close(Some((1002, "no subprotocol in common"))));
    say(clients, Some(permit), wire, &answer, deadline).await;
}

async fn say<C: Conversation>(
    clients: &Clients<C>,
    permit: Option<HandshakePermit>,
    mut wire: Wire,
    answer: &[u8],
    deadline: Instant,
) {
    let env = &clients.env;
    let deadline = deadline.max(env.reactor.now() + LAST_WORD_TIMEOUT);
    if wire.send_all(env, answer, true, deadline).await.is_ok() {
        leave(clients, permit, wire).await;
    }
}

/// Closes our side. Then it is no handshake any more: the other side has some time to read what was said and to close, as long as
/// others do not need the place.
pub(super) async fn leave<C: Conversation>(clients: &Clients<C>, permit: Option<HandshakePermit>, wire: Wire) {
    let env = &clients.env;
    drop(permit);
    if clients.lingering.count() >= env.core.handshakes_max {
        clients.lingering.take_back_oldest();
    }
    let place = clients.lingering.take(env.reactor.now());
    until(|context| place.poll_lost(context), linger(env, wire.socket())).await;
}

const ANSWER_LEN: usize = 320;

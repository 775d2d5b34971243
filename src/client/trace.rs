//! Shows the clients' frames to whoever looks: those of one client in the log, and those that taps want.

use std::net::SocketAddr;

use super::frame::Frame;
use crate::env::Env;
use crate::observe::watch::Shown;
use protocol::mapping::Identity;
use protocol::ocpp::ClientId;
use protocol::tap::{Direction, Kind};
use protocol::websocket::Incoming;

/// What the client has sent.
#[cold]
pub(super) fn show_incoming(env: &Env, identity: &Identity, incoming: &Incoming<'_>) {
    let shown = match incoming {
        Incoming::Text(text) => Shown::Text(text),
        Incoming::Binary(bytes) | Incoming::Deflated { bytes, .. } => Shown::Other(Kind::Binary, bytes.len()),
        Incoming::Ping(bytes) => Shown::Other(Kind::Ping, bytes.len()),
        Incoming::Pong(bytes) => Shown::Other(Kind::Pong, bytes.len()),
        Incoming::Close(close) => close
            .as_ref()
            .map_or(Shown::Close(0, ""), |close| Shown::Close(close.code, &close.reason)),
    };
    show(env, identity, Direction::In, shown);
}

/// What it is sent.
#[cold]
pub(super) fn show_outgoing(env: &Env, identity: &Identity, frame: &Frame) {
    let payload = frame.payload();
    let shown = match (frame.kind(), payload) {
        ("text", _) => Shown::Text(str::from_utf8(payload).unwrap_or_default()),
        ("binary", _) => Shown::Other(Kind::Binary, payload.len()),
        ("ping", _) => Shown::Other(Kind::Ping, payload.len()),
        ("close", [high, low, reason @ ..]) => Shown::Close(
            u16::from_be_bytes([*high, *low]),
            str::from_utf8(reason).unwrap_or_default(),
        ),
        ("close", _) => Shown::Close(0, ""),
        _ => Shown::Other(Kind::Pong, payload.len()),
    };
    show(env, identity, Direction::Out, shown);
}

fn show(env: &Env, identity: &Identity, direction: Direction, shown: Shown<'_>) {
    if env.watch.is_traced(&identity.client) {
        let (client, connection) = (identity.client.as_str(), identity.connection.to_string());
        let (kind, len, text) = match shown {
            Shown::Text(text) => ("text", text.len(), text),
            Shown::Other(kind, len) => (kind.name(), len, ""),
            Shown::Close(0, _) => ("close", 0, ""),
            Shown::Close(_, reason) => ("close", 2 + reason.len(), ""),
        };
        let direction = direction.name();
        tracing::info!(client, connection, direction, kind, len, frame = cut(text), "trace");
    }
    env.watch.frame(env.uptime(), identity, direction, shown, &env.counters);
}

/// Logs that the connection ended, and how.
#[cold]
pub(super) fn show_end(env: &Env, identity: &Identity, code: u16, reason: &str) {
    env.watch
        .disconnected(env.uptime(), identity, (code, reason), &env.counters);
    if !env.watch.is_traced(&identity.client) {
        return;
    }
    let (client, connection) = (identity.client.as_str(), identity.connection.to_string());
    tracing::info!(
        client,
        connection,
        direction = "end",
        code = code,
        reason = reason,
        "trace"
    );
}

/// A request of it that did not become a connection.
#[cold]
pub(super) fn show_refusal(client: &ClientId, address: SocketAddr, status: u16, why: &str, detail: &str) {
    tracing::info!(client = client.as_str(), %address, direction = "refused", status, why, detail, "trace");
}

fn cut(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(SHOWN_LEN_MAX)).0
}

/// The bytes of a message that are logged at most.
const SHOWN_LEN_MAX: usize = 4096;

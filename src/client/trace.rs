//! Writes one client's frames to the log, for whoever looks into its faults.

use std::net::SocketAddr;

use super::frame::Frame;
use protocol::mapping::Identity;
use protocol::ocpp::ClientId;
use protocol::websocket::Incoming;

/// What the client has sent.
#[cold]
pub(super) fn show_incoming(identity: &Identity, incoming: &Incoming<'_>) {
    let (kind, len, text) = match incoming {
        Incoming::Text(text) => ("text", text.len(), &**text),
        Incoming::Binary(bytes) | Incoming::Deflated { bytes, .. } => ("binary", bytes.len(), ""),
        Incoming::Ping(bytes) => ("ping", bytes.len(), ""),
        Incoming::Pong(bytes) => ("pong", bytes.len(), ""),
        Incoming::Close(close) => ("close", close.as_ref().map_or(0, |close| 2 + close.reason.len()), ""),
    };
    show(identity, "in", kind, len, text);
}

/// What it is sent.
#[cold]
pub(super) fn show_outgoing(identity: &Identity, frame: &Frame) {
    let (kind, payload) = (frame.kind(), frame.payload());
    let text = if kind == "text" { payload } else { &[] };
    show(
        identity,
        "out",
        kind,
        payload.len(),
        str::from_utf8(text).unwrap_or_default(),
    );
}

fn show(identity: &Identity, direction: &str, kind: &str, len: usize, text: &str) {
    let (client, connection) = (identity.client.as_str(), identity.connection.to_string());
    tracing::info!(client, connection, direction, kind, len, frame = cut(text), "trace");
}

/// Logs that the connection ended, and how.
#[cold]
pub(super) fn show_end(identity: &Identity, code: u16, reason: &str) {
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
    &text[..text.floor_char_boundary(SHOWN_LEN_MAX)]
}

/// The bytes of a message that are logged at most.
const SHOWN_LEN_MAX: usize = 4096;

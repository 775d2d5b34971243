//! Writes one client's frames to the log, for whoever looks into its faults.

use std::net::SocketAddr;

use async_tungstenite::tungstenite::Message;

use protocol::mapping::Identity;
use protocol::ocpp::ClientId;

/// A message in (`in`) or out.
#[cold]
pub(super) fn show(identity: &Identity, direction: &str, message: &Message) {
    let (kind, text) = match message {
        Message::Text(text) => ("text", cut(text)),
        Message::Binary(_) | Message::Frame(_) => ("binary", ""),
        Message::Ping(_) => ("ping", ""),
        Message::Pong(_) => ("pong", ""),
        Message::Close(_) => ("close", ""),
    };
    let (client, connection) = (identity.client.as_str(), identity.connection.to_string());
    tracing::info!(
        client,
        connection,
        direction,
        kind,
        len = message.len(),
        frame = text,
        "trace"
    );
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

//! One client's frames in the log, for whoever looks into its troubles.

use async_tungstenite::tungstenite::Message;

use crate::shard::Shard;
use protocol::mapping::Identity;
use protocol::ocpp::ClientId;

impl Shard {
    /// Shows the frames of `client` from now on, and those of no other.
    pub fn trace(&self, client: Option<ClientId>) {
        let before = self.traced.replace(client.clone());
        let registry = self.registry.borrow();
        for (client, traced) in [(before, false), (client, true)] {
            if let Some(connection) = client.and_then(|client| registry.get(&client)) {
                connection.set_traced(traced);
            }
        }
    }
}

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

/// Its end.
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

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_LEN_MAX)]
}

/// Of each message.
const SHOWN_LEN_MAX: usize = 4096;

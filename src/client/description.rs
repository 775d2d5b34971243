//! Describes a client to people and programs.

use std::time::{Duration, UNIX_EPOCH};

use protocol::mapping::{Identity, bodies};
use protocol::ocpp::{Pending, Traffic};

/// A client, for people and programs.
#[derive(Clone, Debug)]
pub struct Description {
    /// The client's id, connection and address.
    pub identity: Identity,
    /// The client's own, behind the proxies that we trust.
    pub address: String,
    /// Milliseconds since 1970.
    pub since_ms: u64,
    /// What is under way.
    pub pending: Pending,
    /// What has gone to and fro since then.
    pub traffic: Traffic,
    /// How long nothing was heard of the client.
    pub silent_for: Duration,
}

impl Description {
    /// The description as a JSON object, as `GET /clients/<ClientId>` answers it.
    #[must_use]
    pub fn json(&self) -> String {
        let since = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.since_ms)).to_string();
        bodies::client(
            &self.identity,
            &since,
            &self.address,
            &self.pending,
            &self.traffic,
            self.silent_for.as_secs(),
        )
    }
}

//! What a connection to NATS tells, and why it takes something not.

/// What has happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A server has let us in. Nothing is subscribed to.
    Connected {
        /// What it calls itself, its version, and where it is.
        server: String,
        /// The longest payload that it takes, in bytes.
        max_payload: usize,
    },
    /// The connection is over, and with it all subscriptions. Others are tried.
    Lost {
        /// In words.
        why: String,
    },
    /// There was none, and this attempt has brought none. Others follow.
    Failed {
        /// Which server.
        server: String,
        /// In words.
        why: String,
    },
    /// Something was published where there is a subscription.
    Message {
        /// Which subscription.
        sid: u64,
        /// Where.
        subject: String,
        /// Where answers are to go.
        reply: Option<String>,
        /// What.
        payload: Vec<u8>,
        /// Nobody subscribes to where something was published with `subject` as its reply.
        is_no_responders: bool,
    },
    /// The server, or what it has brought, is not as it should be, and the connection goes on: permissions mostly. Of very many one in ten
    /// seconds is told.
    Complaint {
        /// In words.
        what: String,
    },
}

/// Why something is not published.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// No server has let us in.
    #[error("NATS is away")]
    Away,
    /// NATS takes less than there is: so much waits already, in bytes.
    #[error("{waiting} bytes wait for NATS already")]
    Full {
        /// Not taken yet.
        waiting: usize,
    },
    /// Longer than the server takes.
    #[error("{len} bytes are more than NATS takes, {limit}")]
    TooLong {
        /// The length of what was to be published.
        len: usize,
        /// `max_payload` of the server.
        limit: usize,
    },
    /// No server would know where that is.
    #[error("this is no subject")]
    Subject,
}

//! Names why a client's bytes are no WebSocket message, and the close code that says so.

/// The peer's fault, never ours (RFC 6455, 5 and 7.4.1). The connection is failed; nothing that follows has a meaning.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WebSocketError {
    /// RSV1 without permessage-deflate or not on a message's first frame, RSV2 or RSV3 (5.2).
    #[error("reserved bit")]
    ReservedBit,
    /// 3 to 7, or 11 to 15 (5.2).
    #[error("opcode {0}")]
    Opcode(u8),
    /// A client's frame must be masked (5.1).
    #[error("unmasked frame")]
    Unmasked,
    /// A control frame in fragments (5.5).
    #[error("fragmented control frame")]
    ControlFragmented,
    /// A control frame of more than 125 bytes (5.5).
    #[error("control frame of {len} bytes")]
    ControlTooLong {
        /// The length that the frame declares, in bytes.
        len: u64,
    },
    /// A continuation of nothing (5.4).
    #[error("continuation of no message")]
    ContinuationUnexpected,
    /// A message inside of another one (5.4).
    #[error("message inside of a message")]
    ContinuationExpected,
    /// A close frame whose payload is one byte, or has a code that no endpoint may send (5.5.1, 7.4).
    #[error("bad close frame")]
    Close,
    /// A text message or a close reason that is not UTF-8 (8.1).
    #[error("invalid UTF-8")]
    Utf8,
    /// A message larger than `message_max`, compressed or not.
    #[error("message larger than {limit} bytes")]
    TooLong {
        /// The bound, `message_max`, in bytes.
        limit: usize,
    },
    /// A compressed message that cannot be inflated (RFC 7692, 7.2.2).
    #[error("bad compressed data")]
    Deflate,
}

impl WebSocketError {
    /// The close code for the client (RFC 6455, 7.4.1).
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::Utf8 | Self::Deflate => 1007,
            Self::TooLong { .. } => 1009,
            _ => 1002,
        }
    }

    /// The close reason for the client.
    #[must_use]
    pub fn close_reason(self) -> &'static str {
        match self {
            Self::Utf8 => "invalid UTF-8",
            Self::Deflate => "bad compressed data",
            Self::TooLong { .. } => "message too large",
            _ => "protocol error",
        }
    }
}

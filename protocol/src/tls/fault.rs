//! Names how a connection's records end, and the alert that says so (RFC 8446, 6).

/// Why nothing more is received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The peer has said that nothing more comes. The end of a connection without this word may be somebody else's doing.
    CloseNotify,
    /// The peer's alert: its description. There is nothing to answer.
    Alert(u8),
    /// The peer's records are wrong.
    Fault(Fault),
}

/// The peer's fault, never ours. What follows has no meaning.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A record that is too long.
    #[error("record too long")]
    Overflow,
    /// Forged, garbled, in the wrong order, or sealed with another key.
    #[error("bad record MAC")]
    BadMac,
    /// A record, alert or message whose length is wrong.
    #[error("malformed record")]
    Malformed,
    /// A record of another version.
    #[error("record of another version")]
    Version,
    /// A content or message that has no place here.
    #[error("unexpected message")]
    Unexpected,
    /// A message with a value that it cannot have.
    #[error("illegal parameter")]
    Illegal,
    /// Record upon record, and no text in any of them.
    #[error("records without content")]
    Fruitless,
    /// Another handshake is asked for, in TLS 1.2. It is refused.
    #[error("renegotiation")]
    Renegotiation,
}

impl Fault {
    /// The alert's description (RFC 8446, 6).
    #[must_use]
    pub fn alert(self) -> u8 {
        match self {
            Self::Unexpected | Self::Fruitless => 10,
            Self::BadMac => 20,
            Self::Overflow => 22,
            Self::Illegal => 47,
            Self::Malformed => 50,
            Self::Version => 70,
            Self::Renegotiation => NO_RENEGOTIATION,
        }
    }

    /// A word for a counter's label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::BadMac => "bad_mac",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::Unexpected => "unexpected",
            Self::Illegal => "illegal",
            Self::Fruitless => "fruitless",
            Self::Renegotiation => "renegotiation",
        }
    }
}

/// Why a text is not sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The key has sealed as many records as it may, and TLS 1.2 has no way to another one. The connection has to be closed.
    #[error("the key is used up")]
    Exhausted,
    /// An alert or close_notify has been sealed already.
    #[error("closed")]
    Closed,
}

/// An alert that is always a warning (RFC 5246, 7.2.2).
pub(super) const NO_RENEGOTIATION: u8 = 100;

//! Names why a handshake fails.

use rustls::{AlertDescription, Error};

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The first bytes are a request in plain HTTP, to judge by the first.
    #[error("plain HTTP")]
    PlainHttp,
    /// The first byte begins no record.
    #[error("no TLS")]
    NotTls,
    /// It takes more than [`HANDSHAKE_LEN_MAX`](super::HANDSHAKE_LEN_MAX) bytes.
    #[error("handshake too long")]
    TooLong,
    /// The peer has closed, or this one has failed already.
    #[error("handshake ended")]
    Ended,
    /// None of our certificates is of a kind that the client knows.
    #[error("no certificate of ours is of a kind that it knows, by its suites and signatures")]
    NoCertificate,
    /// What rustls says of it. The alert has been written.
    #[error("{0}")]
    Tls(Error),
}

impl HandshakeError {
    /// A word for a counter's label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::TooLong => "too_long",
            Self::Ended | Self::Tls(Error::AlertReceived(AlertDescription::CloseNotify)) => "ended",
            // Versions, suites, groups, signatures: all that two sides may not have in common.
            Self::NoCertificate | Self::Tls(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => {
                "incompatible"
            }
            Self::Tls(
                Error::InvalidCertificate(_)
                | Error::NoCertificatesPresented
                | Error::UnsupportedNameType
                | Error::InvalidCertRevocationList(_),
            ) => "certificate",
            Self::Tls(Error::AlertReceived(_)) => "alert",
            Self::Tls(
                Error::General(_)
                | Error::EncryptError
                | Error::HandshakeNotComplete
                | Error::BadMaxFragmentSize
                | Error::InconsistentKeys(_)
                | Error::FailedToGetCurrentTime
                | Error::FailedToGetRandomBytes
                | Error::Other(_),
            ) => "internal",
            Self::Tls(_) => "protocol",
        }
    }
}

// Without its standard library rustls' error is none of `std`'s, so nothing derives this.
impl From<Error> for HandshakeError {
    fn from(error: Error) -> Self {
        Self::Tls(error)
    }
}

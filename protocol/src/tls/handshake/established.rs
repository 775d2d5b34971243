//! Holds what a handshake leaves.

use rustls::pki_types::CertificateDer;
use rustls::{CommonState, ConnectionTrafficSecrets, Error, ExtractedSecrets, HandshakeKind};

use super::HandshakeError;
use super::secrets::Secrets;
use crate::tls::certificate::Certificate;
use crate::tls::keys::Keys;
use crate::tls::records::{Records, Side};
use crate::tls::suite::{Suite, Version};

/// A connection that is made.
#[derive(Debug)]
pub struct Established {
    /// For all that follows.
    pub records: Records,
    /// What was agreed on, and with whom.
    pub facts: Facts,
    /// What was received behind the handshake: to be opened before anything else that is received.
    pub unopened: Vec<u8>,
}

/// What is known of a connection.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The suite, and with it the version.
    pub suite: Suite,
    /// The name that the client has asked for.
    pub server_name: Option<Box<str>>,
    /// Whether a protocol was agreed on by name (ALPN).
    pub has_alpn: bool,
    /// Whether it goes on with an earlier session.
    pub is_resumed: bool,
    /// The peer's own certificate, of which the configuration's verifier has approved; without it, it has shown none.
    pub peer_certificate: Option<CertificateDer<'static>>,
}

impl Facts {
    /// What can be told before rustls is taken apart.
    pub(super) fn of(common: &CommonState, server_name: Option<Box<str>>) -> Result<Self, HandshakeError> {
        let suite = common.negotiated_cipher_suite();
        let suite = suite.and_then(|suite| Suite::from_number(suite.suite().into()));
        let certificates = common.peer_certificates().unwrap_or_default();
        Ok(Self {
            suite: suite.ok_or_else(unknown)?,
            server_name,
            has_alpn: common.alpn_protocol().is_some(),
            is_resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            peer_certificate: certificates.first().cloned(),
        })
    }

    /// The version that was agreed on.
    #[must_use]
    pub fn version(&self) -> Version {
        self.suite.version()
    }

    /// The common name of the peer's certificate.
    #[must_use]
    pub fn peer_common_name(&self) -> Option<String> {
        let der = self.peer_certificate.as_ref()?;
        Certificate::read(der)?.common_name
    }
}

impl Records {
    /// What is made of what a handshake leaves.
    pub(super) fn established(
        suite: Suite,
        side: Side,
        extracted: &ExtractedSecrets,
        secrets: &Secrets,
    ) -> Result<Self, HandshakeError> {
        let (sending, receiving) = match side {
            Side::Client => (secrets.client(), secrets.server()),
            Side::Server => (secrets.server(), secrets.client()),
        };
        let sending = keys(suite, &extracted.tx, sending).ok_or_else(unknown)?;
        let receiving = keys(suite, &extracted.rx, receiving).ok_or_else(unknown)?;
        Ok(Self::new(suite, side, sending, receiving))
    }
}

fn keys(suite: Suite, (sequence, extracted): &(u64, ConnectionTrafficSecrets), secret: Option<&[u8]>) -> Option<Keys> {
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = extracted
    else {
        return None;
    };
    let extracted = Keys::of_tls12(suite, key.as_ref(), iv.as_ref(), *sequence)?;
    match suite.version() {
        Version::Tls12 => Some(extracted),
        // Made of the secret they are the same, or the secret is another one.
        Version::Tls13 => Keys::of_secret(suite, secret?, *sequence)
            .ok()
            .filter(|keys| keys.is_same(&extracted)),
    }
}

fn unknown() -> HandshakeError {
    Error::General("rustls has left no keys that are known here".into()).into()
}

//! Says in words why no TLS comes about with a backend, to whoever can mend it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use protocol::tls::HandshakeError;
use rustls::{AlertDescription, Error};

use crate::authorities;

/// What is wrong, behind the backend's name.
#[must_use]
pub fn words(error: &HandshakeError) -> String {
    let HandshakeError::Tls(error) = error else {
        return match error {
            HandshakeError::Ended => "it ends the connection in the middle of the handshake".to_owned(),
            _ => "what it answers is no TLS: is it http:// there?".to_owned(),
        };
    };
    match error {
        Error::InvalidCertificate(error) => authorities::why_not(
            error,
            "set backend_ca to whoever signs it, and let it show those between",
        ),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate of ours: set backend_certificate".into()
        }
        Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied),
        ) => format!("it does not take our certificate, backend_certificate ({alert:?})"),
        Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(_) => format!("it speaks no version or suite of TLS that is spoken here: {error}"),
        other => other.to_string(),
    }
}

/// Tells the log, of each backend (by its place in the configuration) once in five minutes, on whichever shard.
pub(super) fn tell(index: usize, name: &str, words: &str) {
    let Some(told_at) = TOLD_AT_MS.get(index) else { return };
    let since = BEGAN.get_or_init(Instant::now).elapsed();
    let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
    let before = told_at.load(Ordering::Relaxed);
    let is_due = before == 0 || now_ms.saturating_sub(before) >= TOLD_EVERY_MS;
    let exchanged = || told_at.compare_exchange(before, now_ms, Ordering::Relaxed, Ordering::Relaxed);
    if is_due && exchanged().is_ok() {
        tracing::error!(
            "no TLS with the backend {name}: {words}; more of this are counted and not told for five minutes"
        );
    }
}

/// Shared by the shards as the log is; as many as a configuration has backends.
static TOLD_AT_MS: [AtomicU64; 128] = [const { AtomicU64::new(0) }; 128];
static BEGAN: OnceLock<Instant> = OnceLock::new();
const TOLD_EVERY_MS: u64 = 5 * 60 * 1000;

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{CertificateError, PeerIncompatible};

    use super::*;

    #[test]
    fn what_is_wrong_with_a_backend_is_said_with_what_to_change() {
        let name = ServerName::try_from("api.example.org").expect("a name");
        let certificate = |error| HandshakeError::Tls(Error::InvalidCertificate(error));
        let alert = |alert| HandshakeError::Tls(Error::AlertReceived(alert));
        let other_name = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: name.clone(),
            presented: presented.iter().map(|name| (*name).to_owned()).collect(),
        };
        for (error, expected) in [
            (certificate(CertificateError::Expired), "expired"),
            (certificate(CertificateError::NotValidYet), "clock"),
            (
                certificate(other_name(&["DnsName(\"a.example.org\")", "IpAddress(10.0.0.1)"])),
                "not for api.example.org but for a.example.org, 10.0.0.1",
            ),
            (certificate(other_name(&[])), "should name api.example.org"),
            (
                certificate(other_name(&["Unsupported(0x01)"])),
                "should name api.example.org",
            ),
            (certificate(CertificateError::UnknownIssuer), "backend_ca"),
            (
                certificate(CertificateError::BadSignature),
                "of the same name has signed it",
            ),
            (certificate(CertificateError::BadSignature), "backend_ca"),
            (alert(AlertDescription::CertificateRequired), "set backend_certificate"),
            (alert(AlertDescription::UnknownCA), "backend_certificate (UnknownCA)"),
            (alert(AlertDescription::ProtocolVersion), "no version"),
            (
                HandshakeError::Tls(Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)),
                "no version or suite",
            ),
            (HandshakeError::NotTls, "http://"),
            (HandshakeError::Ended, "in the middle"),
        ] {
            assert!(words(&error).contains(expected), "{error:?}: {}", words(&error));
        }
    }
}

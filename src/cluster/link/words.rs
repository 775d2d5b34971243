//! Says in words what is wrong with a server, to whoever can mend it.

use std::io;

use rustls::{AlertDescription, Error};

use crate::authorities;

/// Why nothing can be read or written.
pub(super) fn of_io(error: &io::Error) -> String {
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(error) => of_tls(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it ends the connection in the middle of TLS".to_owned()
        }
        None => format!("the connection broke: {error}"),
    }
}

/// Why no TLS comes about.
pub(super) fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => authorities::why_not(error, "set cluster_ca to whoever signs it"),
        Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::BadCertificate) => {
            "it wants a certificate of ours, and none is shown here: use cluster_credentials_file (in its tls, verify: false)".to_owned()
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(_) => format!("it speaks no version or suite of TLS that is spoken here: {error}"),
        Error::InvalidMessage(_) => "what it answers is no TLS".to_owned(),
        other => other.to_string(),
    }
}

/// What a server says with `-ERR`.
pub(super) fn of_error(text: &[u8]) -> String {
    let said = printable(text);
    let is = |words: &str| said.to_ascii_lowercase().starts_with(words);
    if is("authorization violation") || is("authentication timeout") {
        return format!("it does not let us in ({said}): see the user in cluster, or cluster_credentials_file");
    }
    if is("user authentication expired") || is("account authentication expired") || is("user authentication revoked") {
        return format!("what cluster_credentials_file says is good no more ({said})");
    }
    if is("slow consumer") {
        return format!("this node reads too slowly what it says ({said})");
    }
    format!("it says: {said}")
}

/// Whether the connection stays: it was about one subject.
pub(super) fn is_passing(text: &[u8]) -> bool {
    let begins = |words: &[u8]| {
        text.get(..words.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(words))
    };
    begins(b"permissions violation") || begins(b"invalid subject") || begins(b"maximum subscriptions exceeded")
}

/// What may stand in a log.
fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..WORDS_LEN_MAX).unwrap_or(text));
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

const WORDS_LEN_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_told_with_what_to_change() {
        for (said, told) in [
            (&b"Authorization Violation"[..], "cluster_credentials_file"),
            (b"User Authentication Expired", "good no more"),
            (b"Slow Consumer Detected", "too slowly"),
            (b"Unknown Protocol Operation", "it says: Unknown Protocol Operation"),
            (b"\x1b[2J\xff", "\u{fffd}[2J\u{fffd}"),
        ] {
            assert!(of_error(said).contains(told), "{}", of_error(said));
        }
        assert!(of_error(&[b'x'; 4000]).len() < 300);
        assert!(
            is_passing(b"Permissions Violation for Publish to \"x\"") && is_passing(b"maximum subscriptions exceeded")
        );
        assert!(!is_passing(b"Authorization Violation") && !is_passing(b""));
    }

    #[test]
    fn what_is_wrong_with_its_tls_is_told_with_what_to_change() {
        use rustls::CertificateError;
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(of_io(&io::Error::other(unknown)).contains("cluster_ca"));
        assert!(of_io(&io::ErrorKind::ConnectionReset.into()).contains("broke"));
        assert!(of_io(&io::ErrorKind::UnexpectedEof.into()).contains("TLS"));
    }
}

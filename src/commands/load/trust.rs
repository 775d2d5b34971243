//! Decides which servers chargers believe with TLS, and says in words why not one of the others.

use std::sync::Arc;

use loadgen::engine::Tls;
use protocol::tls::HandshakeError;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error, crypto};

use super::options::Options;
use crate::authorities::{self, AuthoritiesError};
use crate::commands::failure::Failure;

/// With what chargers shake hands; `None` where the server speaks none.
///
/// # Errors
/// There is nothing to verify the server by, or its name is one that no certificate has.
pub(super) fn read(options: &Options) -> Result<Option<Tls>, Failure> {
    let target = &options.target;
    if !target.is_tls {
        return Ok(None);
    }
    let name = ServerName::try_from(target.host().to_owned())
        .map_err(|_| Failure::Usage(format!("{}: no certificate can have this name", target.host())))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let mut first = builder
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_root_certificates(authorities::read(options.ca.as_deref()).map_err(refuse)?)
        .with_no_client_auth();
    // A charger that comes for the first time has no session.
    first.resumption = Resumption::disabled();
    let again = first.clone();
    Ok(Some(Tls { name, first, again }))
}

/// For one thread: its chargers that come again go on with one of its sessions, and wait for no other thread.
pub(super) fn of_thread(tls: &Tls) -> Tls {
    let mut tls = tls.clone();
    tls.again.resumption = Resumption::in_memory_sessions(1);
    tls
}

/// Why there is no TLS with the server.
pub(super) fn words(error: &HandshakeError) -> String {
    match error {
        HandshakeError::Ended => "closed in the middle of the handshake of TLS".to_owned(),
        HandshakeError::Tls(Error::InvalidCertificate(error)) => {
            let why = authorities::why_not(error, "--ca FILE names whoever signs it");
            format!("refused: {why}")
        }
        HandshakeError::Tls(error) => error.to_string(),
        _ => "what it answers is no TLS: is it ws:// there?".to_owned(),
    }
}

fn refuse(error: AuthoritiesError) -> Failure {
    Failure::Usage(match error {
        AuthoritiesError::None => {
            "the system has no root certificates: install them (Debian: ca-certificates), or name some with --ca FILE"
                .to_owned()
        }
        AuthoritiesError::File { file, why } => format!("--ca {}: {why}", file.display()),
    })
}

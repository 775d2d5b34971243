//! Decides which backends over TLS are believed, and what we show them: reads the certificates that the configuration names.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, crypto};

use super::targets;
use crate::authorities::{self, AuthoritiesError};
use crate::config::{BackendUrl, CertificateFiles, Node};

/// What backends over TLS are verified by and are shown. Read beside the shards, which get copies.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

/// Why backends over TLS can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file can't be read, or is none.
    #[error("{key} = {}: {why}", .file.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// Where it is.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is nothing to verify a backend by.
    #[error(
        "the system has no root certificates to verify the backend's by: install them (Debian: ca-certificates), or set backend_ca"
    )]
    NoRoots,
    /// A host that no certificate can name.
    #[error("backend = {0}: no certificate can have this host's name")]
    Host(BackendUrl),
}

impl Trust {
    /// Reads what `node` names; `None` if no backend is asked over TLS.
    ///
    /// # Errors
    /// [`TrustError`] says what to change.
    pub fn read(node: &Node) -> Result<Option<Self>, TrustError> {
        let mut secure = node.backends.iter().filter(|url| url.is_tls()).peekable();
        if secure.peek().is_none() {
            return Ok(None);
        }
        if let Some(url) = secure.find(|url| targets::server_name(url).is_none()) {
            return Err(TrustError::Host(url.clone()));
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has suites for both versions");
        let roots = authorities::read(node.backend_ca.as_deref()).map_err(|error| match error {
            AuthoritiesError::None => TrustError::NoRoots,
            AuthoritiesError::File { file, why } => TrustError::File {
                key: "backend_ca",
                file,
                why,
            },
        })?;
        let builder = builder.with_root_certificates(roots);
        let mut config = match &node.backend_certificate {
            None => builder.with_no_client_auth(),
            Some(CertificateFiles { chain, key }) => {
                let file = |file: &PathBuf| {
                    let file = file.clone();
                    move |why: String| TrustError::File {
                        key: "backend_certificate",
                        file,
                        why,
                    }
                };
                let certificates = authorities::certificates(chain).map_err(file(chain))?;
                let secret = PrivateKeyDer::from_pem_file(key)
                    .map_err(authorities::words)
                    .map_err(file(key))?;
                builder
                    .with_client_auth_cert(certificates, secret)
                    .map_err(|error| match error {
                        rustls::Error::InvalidCertificate(error) => authorities::why_not(&error, ""),
                        other => other.to_string(),
                    })
                    .map_err(file(key))?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Some(Self(Arc::new(config))))
    }

    /// For one shard: sessions are resumed there, and no other shard waits for it.
    pub(super) fn of_shard(&self) -> ClientConfig {
        let mut config = ClientConfig::clone(&self.0);
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        config
    }

    /// For one connection that resumes nothing.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.0
    }
}

/// Servers whose sessions a shard remembers: more than a configuration has backends.
const SESSIONS_MAX: usize = 256;

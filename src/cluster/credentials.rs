//! Reads what NATS servers are shown and by what they are believed, from files.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::nats::Credentials;
use rustls::client::Resumption;
use rustls::{ClientConfig, crypto};

use crate::authorities::{self, AuthoritiesError};

/// Why there are no credentials, or nothing to verify a server by.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsFileError {
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
    /// There is nothing to verify a server by.
    #[error(
        "the system has no root certificates to verify the NATS server's by: install them (Debian: ca-certificates), or set cluster_ca"
    )]
    NoRoots,
}

/// Reads `cluster_credentials_file`.
///
/// # Errors
/// [`CredentialsFileError`] says what is wrong with it.
pub fn read(file: &Path) -> Result<Credentials, CredentialsFileError> {
    let text = text(file).and_then(|text| Credentials::parse(&text).map_err(|error| error.to_string()));
    text.map_err(|why| CredentialsFileError::File {
        key: "cluster_credentials_file",
        file: file.to_owned(),
        why,
    })
}

/// By what servers over TLS are verified: `cluster_ca`, or else the system's authorities.
///
/// # Errors
/// [`CredentialsFileError`] says what to change.
pub fn trust(ca: Option<&Path>) -> Result<Arc<ClientConfig>, CredentialsFileError> {
    let roots = authorities::read(ca).map_err(|error| match error {
        AuthoritiesError::None => CredentialsFileError::NoRoots,
        AuthoritiesError::File { file, why } => CredentialsFileError::File {
            key: "cluster_ca",
            file,
            why,
        },
    })?;
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let mut config = builder
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn text(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let open = File::open(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    })?;
    open.take(LEN_MAX)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

/// More than any of them has.
const LEN_MAX: u64 = 64 * 1024;

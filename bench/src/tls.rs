//! Makes the certificate that a proxy is started with for `--tls`, and says with what clients shake hands.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loadgen::engine::Tls;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup, RootCertStore, crypto};

/// A certificate of our own and its key, in files that are there until it is dropped.
#[derive(Debug)]
pub struct Certificate {
    folder: PathBuf,
}

impl Certificate {
    /// # Errors
    /// In words: there is no room for the files.
    pub fn make() -> Result<Self, String> {
        let words = |error: std::io::Error| format!("no certificate for --tls: {error}");
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(|error| error.to_string())?;
        let folder = std::env::temp_dir().join(format!("hold120k-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder).map_err(words)?;
        let own = Self { folder };
        fs::write(own.chain(), made.cert.pem()).map_err(words)?;
        // ws2api warns of a key that others can read.
        let key = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(own.key());
        key.and_then(|mut file| file.write_all(made.signing_key.serialize_pem().as_bytes()))
            .map_err(words)?;
        Ok(own)
    }

    /// The file that clients trust.
    #[must_use]
    pub fn chain(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    /// As the configuration names both files.
    #[must_use]
    pub fn setting(&self) -> String {
        let (chain, key) = (self.chain(), self.key());
        format!(
            "tls_certificates={{ chain = \"{}\", key = \"{}\" }}",
            chain.display(),
            key.display()
        )
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Clients that believe who shows a certificate of this file, or one that it has signed. Each handshake is a full one, or, where they
/// resume, one that goes on with a session of another client before it: then only those are full for whom there is none yet.
///
/// # Errors
/// In words: what is wrong with the file.
pub fn trusting(file: &Path, resume: bool) -> Result<Tls, String> {
    let words = |why: String| format!("--tls: {}: {why}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| words(error.to_string()))? {
        let certificate = certificate.map_err(|error| words(error.to_string()))?;
        roots.add(certificate).map_err(|error| words(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(words("it holds no certificate in PEM".to_owned()));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| words(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = match resume {
        true => Resumption::store(Arc::new(Sessions::default())),
        false => Resumption::disabled(),
    };
    Ok(Tls {
        name: ServerName::try_from(NAME).map_err(|error| error.to_string())?,
        first: config.clone(),
        again: config,
    })
}

/// The tickets of all clients, for whoever comes next: each is used once. A client that gets one at its handshake leaves it to another.
#[derive(Debug, Default)]
struct Sessions(Mutex<VecDeque<Tls13ClientSessionValue>>);

impl Sessions {
    fn tickets(&self) -> MutexGuard<'_, VecDeque<Tls13ClientSessionValue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut tickets = self.tickets();
        if tickets.len() == TICKETS_MAX {
            tickets.pop_front();
        }
        tickets.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tickets().pop_front()
    }
}

/// Of every proxy that is measured.
const NAME: &str = "localhost";
/// More than there are handshakes at once.
const TICKETS_MAX: usize = 1_000;

//! Knows which authorities are believed when a server shows its certificate, and says in words why one is not good.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{CertificateError, RootCertStore};

/// Why there is nothing to verify a certificate by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthoritiesError {
    /// The file can't be read, or is none.
    File {
        /// Where it is.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system has none.
    None,
}

/// Reads those of a file in PEM, or else the system's.
///
/// # Errors
/// There is none, or the file is wrong.
pub fn read(file: Option<&Path>) -> Result<RootCertStore, AuthoritiesError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        // What is unreadable among them is the system's: others may do.
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return match roots.is_empty() {
            true => Err(AuthoritiesError::None),
            false => Ok(roots),
        };
    };
    let refuse = |why: String| AuthoritiesError::File {
        file: file.to_owned(),
        why,
    };
    for certificate in certificates(file).map_err(refuse)? {
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    Ok(roots)
}

/// All certificates of a file, one at least.
///
/// # Errors
/// What is wrong with it, in words.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(words)?.collect();
    let certificates = certificates.map_err(words)?;
    if certificates.is_empty() {
        return Err("it holds no certificate in PEM".to_owned());
    }
    Ok(certificates)
}

/// What is wrong with a file in PEM.
#[must_use]
pub fn words(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => "there is no such file".to_owned(),
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "it holds nothing of the kind in PEM".to_owned(),
        error => error.to_string(),
    }
}

/// What is wrong with a server's certificate. `advice`: what to do where nobody who is known has signed it.
#[must_use]
pub fn why_not(error: &CertificateError, advice: &str) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet, by this machine's clock".into()
        }
        CertificateError::NotValidForName => "its certificate is for another name than the URL's".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            // Mail addresses and their like are nobody's host.
            let hosts = presented.iter().filter(|name| !name.starts_with("Unsupported"));
            let presented: Vec<&str> = hosts.map(|name| plain(name)).collect();
            match presented.is_empty() {
                true => format!("its certificate names nobody, and should name {expected} (subjectAltName)"),
                false => format!("its certificate is not for {expected} but for {}", presented.join(", ")),
            }
        }
        CertificateError::BadSignature => format!(
            "its certificate is not signed by who it says. Most likely another one of the same name has signed it, say one whose key was \
             made anew: {advice}"
        ),
        CertificateError::UnknownIssuer => format!("its certificate is signed by nobody who is known: {advice}"),
        CertificateError::Revoked => "its certificate is revoked".into(),
        other if other.to_string().contains("UnsupportedCertVersion") => {
            "its certificate is of version 1, as OpenSSL makes them without extensions: it has to be of version 3, with a subjectAltName"
                .into()
        }
        other => format!("its certificate is not good: {other}"),
    }
}

/// A name as rustls prints it, `DnsName("a.example.org")`, as whoever looks for it writes it.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name, |name| name.trim_matches('"'))
}

//! Reads the certificates of `listen_tls`, and makes of them what its handshakes need.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use ring::digest;
use rustls::crypto;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::DefaultTimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, RootCertStore, ServerConfig};

use crate::client::tickets::Trust;
use crate::client::tls::Terms;
use crate::config::{CertificateFiles, Node, TlsClientAuth, TlsVersion, Warning};
use crate::observe::certificates::CertificateSeen;
use protocol::tls::certificate::Certificate;
use protocol::tls::certificates::{Certificates, ServerCertificate};

/// What clients are met with.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What their handshakes are begun with.
    pub terms: Terms,
    /// What of it operators see.
    pub seen: Vec<CertificateSeen>,
    warnings: Vec<Warning>,
}

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// There is none.
    #[error("listen_tls: tls_certificates is empty")]
    None,
    /// A file can't be read.
    #[error("{key}: {}: {error}", .file.display())]
    Read {
        /// The key of the file.
        key: &'static str,
        /// The file's path.
        file: PathBuf,
        /// The kernel's word.
        error: io::Error,
    },
    /// It is no PEM file of what it should be.
    #[error("{key}: {}: {what}", .file.display())]
    Content {
        /// The key of the file.
        key: &'static str,
        /// The file's path.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Certificate and key are of two pairs.
    #[error("tls_certificates: the key in {} is not that of the certificate in {}", .0.key.display(), .0.chain.display())]
    KeyDoesNotFit(CertificateFiles),
    /// rustls will not have it.
    #[error("tls_client_ca: {0}")]
    Authorities(String),
}

/// Reads what `node` names; `None`: nobody comes with TLS.
///
/// # Errors
/// What has to be fixed before there can be TLS.
pub fn load(node: &Node) -> Result<Option<Loaded>, CertificateError> {
    if node.listen_tls.is_none() {
        return Ok(None);
    }
    let mut provider = crypto::ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| !CHEAP_SUITES.contains(&suite.suite()));
    let provider = Arc::new(provider);
    let versions: Vec<_> = node
        .tls_versions
        .iter()
        .map(|version| match version {
            TlsVersion::Tls12 => &TLS12,
            TlsVersion::Tls13 => &TLS13,
        })
        .collect();
    let (mut own, mut seen, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for files in &node.tls_certificates {
        let chain = read_chain("tls_certificates", &files.chain)?;
        let bits = chain.first().and_then(|der| Certificate::read(der)?.rsa_bits);
        let key = read_key(files)?;
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateError::KeyDoesNotFit(files.clone()),
            rustls::Error::InvalidCertificate(_) => CertificateError::Content {
                key: "tls_certificates",
                file: files.chain.clone(),
                what: "its certificate can't be read".to_owned(),
            },
            other => CertificateError::Content {
                key: "tls_certificates",
                file: files.key.clone(),
                what: match bits {
                    Some(bits @ ..RSA_BITS_MIN) => {
                        format!("an RSA key of {bits} bits can't be used: {RSA_BITS_MIN} at least, or an ECDSA key")
                    }
                    _ => format!("this key can't be used: {other}"),
                },
            },
        })?;
        let about = look(files, &key)?;
        warnings.extend(about.warnings(SystemTime::now()));
        own.push(ServerCertificate {
            hosts: about.seen.hosts.clone(),
            key: Arc::new(key),
        });
        seen.push(about.seen);
    }
    if own.is_empty() {
        return Err(CertificateError::None);
    }
    let authorities = match &node.tls_client_ca {
        Some(file) if node.tls_client_auth != TlsClientAuth::None => read_chain("tls_client_ca", file)?,
        _ => Vec::new(),
    };
    let trust = trust(node.tls_client_auth, &authorities);
    let suites = provider.cipher_suites.iter().copied();
    let suites = suites.filter(|suite| {
        versions
            .iter()
            .any(|version| version.version == suite.version().version)
    });
    let resolver = Certificates::new(own, suites.collect());
    let no_suite = |error: rustls::Error| CertificateError::Authorities(error.to_string());
    let builder = ServerConfig::builder_with_details(provider.clone(), Arc::new(DefaultTimeProvider))
        .with_protocol_versions(&versions)
        .map_err(no_suite)?;
    let builder = match node.tls_client_auth {
        TlsClientAuth::None => builder.with_no_client_auth(),
        auth => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                let added = roots.add(authority);
                added.map_err(|error| CertificateError::Authorities(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match auth {
                TlsClientAuth::Optional => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier.build();
            builder
                .with_client_cert_verifier(verifier.map_err(|error| CertificateError::Authorities(error.to_string()))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS;
    // Most clients prefer AES-256, which is no better for them.
    config.ignore_client_order = true;
    Ok(Some(Loaded {
        terms: Terms {
            config: Arc::new(config),
            trust,
        },
        seen,
        warnings,
    }))
}

impl Loaded {
    /// What is worth fixing, though there is TLS.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// For whoever looks at the configuration, line by line.
    #[must_use]
    pub fn rows(&self, now: SystemTime) -> Vec<String> {
        let row = |seen: &CertificateSeen| {
            let hosts = if seen.hosts.is_empty() {
                "no host".to_owned()
            } else {
                seen.hosts.join(", ")
            };
            format!("{}: {}, for {hosts}; {}", seen.file, seen.kind, seen.until(now))
        };
        self.seen.iter().map(row).collect()
    }
}

/// Other authorities, and whether a certificate is asked for at all, make it another one.
fn trust(auth: TlsClientAuth, authorities: &[CertificateDer<'_>]) -> Trust {
    let mut digest = digest::Context::new(&digest::SHA256);
    digest.update(&[match auth {
        TlsClientAuth::None => 0,
        TlsClientAuth::Optional => 1,
        TlsClientAuth::Required => 2,
    }]);
    for authority in authorities {
        digest.update(&authority.len().to_be_bytes());
        digest.update(authority);
    }
    let mut trust = Trust::default();
    trust.copy_from_slice(digest.finish().as_ref());
    trust
}

/// A certificate, and how its chain hangs together.
struct About {
    seen: CertificateSeen,
    not_before: i64,
    /// The first that was not issued by the one behind it, counted from 1.
    broken_at: Option<usize>,
    /// What can be forged of it, by the places of the certificates, counted from 1.
    weak: Vec<(usize, String)>,
}

impl About {
    fn warnings(&self, now: SystemTime) -> Vec<Warning> {
        let file = &self.seen.file;
        let mut found = Vec::new();
        let mut warn = |what: String, fix: &str| {
            found.push(Warning {
                what: format!("tls_certificates: {file}: {what}"),
                fix: fix.to_owned(),
            });
        };
        if self.seen.seconds_left(now) <= SOON {
            warn(
                format!(
                    "{}: then no client that checks it connects any more",
                    self.seen.until(now)
                ),
                "get a new one, put it there, and let SIGHUP read it",
            );
        }
        if self.not_before > crate::observe::certificates::unix_seconds(now) {
            warn(
                "it is not good yet".to_owned(),
                "set the clock right, or wait with this certificate",
            );
        }
        if self.seen.hosts.is_empty() {
            warn(
                "it names no host: clients that check that do not connect".to_owned(),
                "get one with the name that chargers are given, as an alternative name",
            );
        }
        if let Some(place) = self.broken_at {
            warn(
                format!(
                    "its certificate {} was not issued by its certificate {}",
                    place,
                    place + 1
                ),
                "put the certificate first, and each issuer behind what it has issued",
            );
        }
        for (place, what) in &self.weak {
            warn(
                format!("its certificate {place} {what}: clients of today do not believe that"),
                "get one with an ECDSA key, or an RSA key of 2048 bits at least, that is signed with SHA-256 or better",
            );
        }
        found
    }
}

fn look(files: &CertificateFiles, key: &CertifiedKey) -> Result<About, CertificateError> {
    let refuse = |what: String| CertificateError::Content {
        key: "tls_certificates",
        file: files.chain.clone(),
        what,
    };
    let read: Option<Vec<Certificate<'_>>> = key.cert.iter().map(|der| Certificate::read(der)).collect();
    let read = read.ok_or_else(|| refuse("a certificate in it can't be read".to_owned()))?;
    let first = read
        .first()
        .ok_or_else(|| refuse("there is no certificate in it".to_owned()))?;
    let mut pairs = read.iter().zip(read.iter().skip(1));
    let broken_at = pairs.position(|(one, next)| one.issuer != next.subject);
    let weak = read.iter().enumerate().flat_map(|(index, own)| {
        let rsa = own.rsa_bits.filter(|bits| *bits < RSA_BITS_MIN);
        // Nobody looks at what an authority has signed itself with.
        let signature = own.weak_signature.filter(|_| own.issuer != own.subject);
        let words = [
            rsa.map(|bits| format!("has an RSA key of {bits} bits")),
            signature.map(|name| format!("is signed with {name}")),
        ];
        words.into_iter().flatten().map(move |words| (index + 1, words))
    });
    Ok(About {
        weak: weak.collect(),
        seen: CertificateSeen {
            file: files.chain.display().to_string(),
            kind: format!("{:?}", key.key.algorithm()),
            hosts: first.hosts.clone(),
            not_after: read.iter().map(|own| own.not_after).min().unwrap_or(first.not_after),
        },
        not_before: first.not_before,
        broken_at: broken_at.map(|index| index + 1),
    })
}

fn read_chain(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read_file(key, file)?).collect();
    let refuse = |what: String| CertificateError::Content {
        key,
        file: file.to_owned(),
        what,
    };
    match read {
        Ok(chain) if chain.is_empty() => Err(refuse("there is no certificate in it (PEM is wanted)".to_owned())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(refuse(error.to_string())),
    }
}

fn read_key(files: &CertificateFiles) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let bytes = read_file("tls_certificates", &files.key)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| CertificateError::Content {
        key: "tls_certificates",
        file: files.key.clone(),
        what: match error {
            pem::Error::NoItemsFound => "there is no private key in it that can be read without a password".to_owned(),
            other => other.to_string(),
        },
    })
}

fn read_file(key: &'static str, file: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(file).map_err(|error| CertificateError::Read {
        key,
        file: file.to_owned(),
        error,
    })
}

/// OCPP's security profiles want as much, and ring signs with no shorter one.
const RSA_BITS_MIN: usize = 2048;
/// From here on a certificate's end is worth a word, in seconds.
const SOON: i64 = 14 * 86_400;
/// For each client of TLS 1.3 in its handshake: it has one connection, and resumes it once.
const TICKETS: usize = 1;
/// Those with AES-128 and SHA-256 come first. A handshake derives some forty keys, and processors that have instructions for SHA-256 have
/// none for SHA-384: that was a fifth of a full handshake, and a third of a resumed one.
const CHEAP_SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

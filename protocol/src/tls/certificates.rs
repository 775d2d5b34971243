//! Chooses the certificate that a client gets: by the host that it asks for, and by the kind of key that it knows.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::names_match;

/// A server's certificates, in the order in which they are tried.
#[derive(Debug)]
pub struct Certificates {
    certificates: Vec<ServerCertificate>,
    suites: Vec<SupportedCipherSuite>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    /// The names of hosts that it is for.
    pub hosts: Vec<String>,
    /// The certificate, those that it hangs on, and its key.
    pub key: Arc<CertifiedKey>,
}

impl Certificates {
    /// `suites`: what the server speaks.
    #[must_use]
    pub fn new(certificates: Vec<ServerCertificate>, suites: Vec<SupportedCipherSuite>) -> Self {
        Self { certificates, suites }
    }

    /// The first that is for that host and that the client can use; or else, since a charger may ask for a name that it got from an
    /// old configuration, the first that it can use.
    fn choose(&self, host: Option<&str>, can_use: impl Fn(&CertifiedKey) -> bool) -> Option<&Arc<CertifiedKey>> {
        let is_for =
            |own: &&ServerCertificate| host.is_some_and(|host| own.hosts.iter().any(|name| names_match(name, host)));
        let usable = || self.certificates.iter().filter(|own| can_use(&own.key));
        let chosen = usable().find(is_for).or_else(|| usable().next());
        chosen.map(|own| &own.key)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (schemes, offered) = (hello.signature_schemes(), hello.cipher_suites());
        // TLS 1.2: a suite names the kind of key, and not all clients know each kind's.
        let can_use = |key: &CertifiedKey| {
            let algorithm = key.key.algorithm();
            let mut common = self.suites.iter().filter(|suite| offered.contains(&suite.suite()));
            common.any(|suite| suite.usable_for_signature_algorithm(algorithm))
                && key.key.choose_scheme(schemes).is_some()
        };
        self.choose(hello.server_name(), can_use).cloned()
    }
}

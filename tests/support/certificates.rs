//! Issues certificates: an authority of the test's own, and what it signs.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256,
};

use super::open_to_all;

/// A folder of a test's own, which is gone when the test is over.
#[derive(Debug)]
pub struct Folder(PathBuf);

/// One that the test trusts.
pub struct Authority {
    own: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub chain: String,
    pub key: String,
}

/// What a certificate says, before it is issued.
pub struct Wanted {
    params: CertificateParams,
    key: KeyPair,
}

impl Folder {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ws2api-{}-{name}-{count}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        open_to_all(&folder);
        Self(folder)
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let own = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { own }
    }

    pub fn pem(&self) -> String {
        self.own.pem()
    }

    pub fn der(&self) -> Vec<u8> {
        self.own.der().to_vec()
    }

    /// A server's, for these hosts.
    pub fn server(&self, hosts: &[&str]) -> Certificate {
        self.issue(Wanted::server(hosts))
    }

    /// A client's.
    pub fn client(&self, common_name: &str) -> Certificate {
        self.issue(Wanted::client(common_name))
    }

    pub fn issue(&self, request: Wanted) -> Certificate {
        let Wanted { params, key } = request;
        let certificate = params.signed_by(&key, &self.own).unwrap();
        Certificate {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Wanted {
    pub fn server(hosts: &[&str]) -> Self {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Self {
            params,
            key: KeyPair::generate().unwrap(),
        }
    }

    pub fn client(common_name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Self {
            params,
            key: KeyPair::generate().unwrap(),
        }
    }

    /// With a key of the other kind. All tests have the same one: to make one takes a second.
    pub fn rsa(mut self) -> Self {
        self.key =
            KeyPair::from_pem_and_sign_algo(include_str!("../../protocol/src/tls/tests/rsa.pem"), &PKCS_RSA_SHA256)
                .unwrap();
        self
    }

    /// Good until then.
    pub fn ends(mut self, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap();
        self.params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since;
        self
    }

    /// Good for as long from then on: a year, a month and a day each.
    pub fn valid(mut self, from: (i32, u8, u8), until: (i32, u8, u8)) -> Self {
        self.params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        self.params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        self
    }
}

impl Certificate {
    /// Writes both files, and says what `tls_certificates` has of them.
    pub fn save(&self, folder: &Path, name: &str) -> String {
        let (chain, key) = self.files(folder, name);
        std::fs::write(&chain, &self.chain).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        open_to_all(&chain);
        open_to_all(&key);
        format!("{{ chain = \"{}\", key = \"{}\" }}", chain.display(), key.display())
    }

    fn files(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")))
    }
}

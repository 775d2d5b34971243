//! Names the files of a certificate.

use std::fmt;
use std::path::PathBuf;

use super::value::{Raw, quote};

/// The files of one certificate, in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFiles {
    /// The certificate, and behind it those that it hangs on.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Reads `{ chain = "…", key = "…" }`. `None`: it is something else.
    pub(super) fn from_raw(raw: &Raw) -> Option<Self> {
        let Raw::Table(entries) = raw else { return None };
        let file = |name: &str| {
            let (_, value) = entries.iter().find(|(key, _)| key == name)?;
            let text = value.text().filter(|text| !text.is_empty() && !text.contains('\0'))?;
            Some(PathBuf::from(text))
        };
        let files = Self {
            chain: file("chain")?,
            key: file("key")?,
        };
        (entries.len() == 2).then_some(files)
    }
}

/// As the config file would hold it.
impl fmt::Display for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (chain, key) = (self.chain.to_string_lossy(), self.key.to_string_lossy());
        write!(f, "{{ chain = {}, key = {} }}", quote(&chain), quote(&key))
    }
}

//! Names the versions and suites whose records can be read and written.

use ring::{aead, hkdf};
use rustls::CipherSuite;

/// A version of TLS. Older ones are spoken by nobody here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// RFC 5246
    Tls12,
    /// RFC 8446
    Tls13,
}

impl Version {
    /// As OpenSSL says it, and HAProxy in the PROXY protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// A cipher suite.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "their names are the specifications'")]
pub enum Suite {
    Aes128GcmSha256,
    Aes256GcmSha384,
    Chacha20Poly1305Sha256,
    EcdheEcdsaAes128GcmSha256,
    EcdheEcdsaAes256GcmSha384,
    EcdheRsaAes128GcmSha256,
    EcdheRsaAes256GcmSha384,
    EcdheRsaChacha20Poly1305,
    EcdheEcdsaChacha20Poly1305,
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Aes128GcmSha256,
        Self::Aes256GcmSha384,
        Self::Chacha20Poly1305Sha256,
        Self::EcdheEcdsaAes128GcmSha256,
        Self::EcdheEcdsaAes256GcmSha384,
        Self::EcdheRsaAes128GcmSha256,
        Self::EcdheRsaAes256GcmSha384,
        Self::EcdheRsaChacha20Poly1305,
        Self::EcdheEcdsaChacha20Poly1305,
    ];

    /// That of a number of IANA's list.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.number() == number)
    }

    /// Its number in IANA's list.
    #[must_use]
    pub fn number(self) -> u16 {
        self.row().0.into()
    }

    /// As OpenSSL says it, and HAProxy in the PROXY protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The version that has it: no suite is in two.
    #[must_use]
    pub fn version(self) -> Version {
        match self {
            Self::Aes128GcmSha256 | Self::Aes256GcmSha384 | Self::Chacha20Poly1305Sha256 => Version::Tls13,
            _ => Version::Tls12,
        }
    }

    pub(super) fn aead(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128GcmSha256 | Self::EcdheEcdsaAes128GcmSha256 | Self::EcdheRsaAes128GcmSha256 => {
                &aead::AES_128_GCM
            }
            Self::Aes256GcmSha384 | Self::EcdheEcdsaAes256GcmSha384 | Self::EcdheRsaAes256GcmSha384 => {
                &aead::AES_256_GCM
            }
            Self::Chacha20Poly1305Sha256 | Self::EcdheRsaChacha20Poly1305 | Self::EcdheEcdsaChacha20Poly1305 => {
                &aead::CHACHA20_POLY1305
            }
        }
    }

    /// What the secrets of TLS 1.3 are derived with.
    pub(super) fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Aes256GcmSha384 => hkdf::HKDF_SHA384,
            _ => hkdf::HKDF_SHA256,
        }
    }

    /// In TLS 1.2, AES-GCM has a part of its nonce in each record (RFC 5288, 3).
    pub(super) fn explicit_nonce_len(self) -> usize {
        match self {
            Self::EcdheEcdsaAes128GcmSha256
            | Self::EcdheRsaAes128GcmSha256
            | Self::EcdheEcdsaAes256GcmSha384
            | Self::EcdheRsaAes256GcmSha384 => 8,
            _ => 0,
        }
    }

    /// So many records may be sealed with one key (RFC 8446, 5.5; for TLS 1.2 it is as true).
    pub(super) fn records_max(self) -> u64 {
        if self.aead() == &aead::CHACHA20_POLY1305 {
            return u64::MAX;
        }
        AES_GCM_RECORDS_MAX
    }

    fn row(self) -> (CipherSuite, &'static str) {
        match self {
            Self::Aes128GcmSha256 => (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
            Self::Aes256GcmSha384 => (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
            Self::Chacha20Poly1305Sha256 => (
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
                "TLS_CHACHA20_POLY1305_SHA256",
            ),
            Self::EcdheEcdsaAes128GcmSha256 => (
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                "ECDHE-ECDSA-AES128-GCM-SHA256",
            ),
            Self::EcdheEcdsaAes256GcmSha384 => (
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                "ECDHE-ECDSA-AES256-GCM-SHA384",
            ),
            Self::EcdheRsaAes128GcmSha256 => (
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                "ECDHE-RSA-AES128-GCM-SHA256",
            ),
            Self::EcdheRsaAes256GcmSha384 => (
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                "ECDHE-RSA-AES256-GCM-SHA384",
            ),
            Self::EcdheRsaChacha20Poly1305 => (
                CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                "ECDHE-RSA-CHACHA20-POLY1305",
            ),
            Self::EcdheEcdsaChacha20Poly1305 => (
                CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                "ECDHE-ECDSA-CHACHA20-POLY1305",
            ),
        }
    }
}

/// Of the longest texts; 2^24.5 are within the specification's margin, and rustls stops at the same number.
const AES_GCM_RECORDS_MAX: u64 = 1 << 24;

//! Names what is known of the TLS that a client speaks, by our own handshake or by a load balancer's word, and tells the backend.

use std::borrow::Cow;

use arrayvec::{ArrayString, ArrayVec};
use percent_encoding::percent_encode;

use crate::ocpp::{ClientId, RESERVED};

/// A client's TLS. Of use until the backend was asked about the client; nobody keeps it longer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFacts {
    version: ArrayString<VERSION_LEN_MAX>,
    /// Empty where nobody says.
    cipher: ArrayString<CIPHER_LEN_MAX>,
    certificate: ClientCertificate,
}

/// The certificate that a client has shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientCertificate {
    /// None.
    Absent,
    /// One that is believed by nobody: what stands in it is of no use.
    Unverified,
    /// One whose signer is known, and who has its key.
    Verified {
        /// The bytes of its CN, whatever they are; `None`: it has none.
        common_name: Option<Box<[u8]>>,
    },
}

impl TlsFacts {
    /// `version` is `TLSv1.2`, `TLSv1.3` or the like, and `cipher`, where it is known, a suite: both as OpenSSL names them. `None`:
    /// they are no visible ASCII or longer than any such name, or the CN is longer than [`COMMON_NAME_LEN_MAX`].
    #[must_use]
    pub fn new(version: &[u8], cipher: Option<&[u8]>, certificate: ClientCertificate) -> Option<Self> {
        let is_cn_bounded = certificate.common_name().len() <= COMMON_NAME_LEN_MAX;
        Some(Self {
            version: word(version)?,
            cipher: cipher.map_or(Some(ArrayString::new()), word)?,
            certificate,
        })
        .filter(|_| is_cn_bounded)
    }

    /// False when a verified certificate is not this client's: its CN is another one, or it has none.
    #[must_use]
    pub fn cn_fits(&self, client: &ClientId) -> bool {
        match &self.certificate {
            ClientCertificate::Absent | ClientCertificate::Unverified => true,
            ClientCertificate::Verified { common_name } => common_name.as_deref() == Some(client.as_str().as_bytes()),
        }
    }

    /// The CN of a verified certificate, percent-encoded as `X-Client-Id` is.
    #[must_use]
    pub fn encoded_common_name(&self) -> Option<Cow<'_, str>> {
        match &self.certificate {
            ClientCertificate::Verified {
                common_name: Some(name),
            } if !name.is_empty() => Some(percent_encode(name, RESERVED).into()),
            _ => None,
        }
    }

    /// The headers of `/connect` that tell it. A CN that nobody has verified is not among them: it would be the client's own word.
    #[must_use]
    pub fn headers(&self) -> ArrayVec<(&'static str, Cow<'_, str>), 4> {
        let mut headers = ArrayVec::new();
        headers.push(("X-Tls-Version", Cow::Borrowed(&*self.version)));
        if !self.cipher.is_empty() {
            headers.push(("X-Tls-Cipher", Cow::Borrowed(&*self.cipher)));
        }
        headers.extend(self.encoded_common_name().map(|name| ("X-Client-Cert-Cn", name)));
        let is_verified = match self.certificate {
            ClientCertificate::Absent => return headers,
            ClientCertificate::Unverified => "false",
            ClientCertificate::Verified { .. } => "true",
        };
        headers.push(("X-Client-Cert-Verified", Cow::Borrowed(is_verified)));
        headers
    }

    /// Appends it, for another shard.
    pub fn write(&self, out: &mut Vec<u8>) {
        let kind = match self.certificate {
            ClientCertificate::Absent => ABSENT,
            ClientCertificate::Unverified => UNVERIFIED,
            ClientCertificate::Verified { common_name: None } => NAMELESS,
            ClientCertificate::Verified { common_name: Some(_) } => NAMED,
        };
        out.push(kind);
        let name = self.certificate.common_name();
        for part in [self.version.as_bytes(), self.cipher.as_bytes(), name] {
            out.push(u8::try_from(part.len()).expect("bounded below 256"));
            out.extend_from_slice(part);
        }
    }

    /// Reads what [`write`](Self::write) wrote; the bytes behind it are left. `None`: it is no such thing.
    #[must_use]
    pub fn read(bytes: &mut &[u8]) -> Option<Self> {
        let kind = *bytes.split_off_first()?;
        let mut part = || {
            let len = *bytes.split_off_first()?;
            bytes.split_off(..usize::from(len))
        };
        let (version, cipher, name) = (part()?, part()?, part()?);
        let certificate = match kind {
            ABSENT => ClientCertificate::Absent,
            UNVERIFIED => ClientCertificate::Unverified,
            NAMELESS => ClientCertificate::Verified { common_name: None },
            NAMED => ClientCertificate::Verified {
                common_name: Some(name.into()),
            },
            _ => return None,
        };
        Self::new(version, Some(cipher).filter(|cipher| !cipher.is_empty()), certificate)
    }
}

impl ClientCertificate {
    fn common_name(&self) -> &[u8] {
        match self {
            Self::Verified {
                common_name: Some(name),
            } => name,
            _ => &[],
        }
    }
}

/// A name that can stand in a header.
fn word<const LEN_MAX: usize>(text: &[u8]) -> Option<ArrayString<LEN_MAX>> {
    let is_visible = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
    let text = str::from_utf8(text).ok().filter(|_| is_visible)?;
    ArrayString::from(text).ok()
}

/// X.520 allows 64 characters, and a ClientId has at most 128 bytes.
pub const COMMON_NAME_LEN_MAX: usize = 255;
const VERSION_LEN_MAX: usize = 16;
const CIPHER_LEN_MAX: usize = 64;

const ABSENT: u8 = 0;
const UNVERIFIED: u8 = 1;
const NAMELESS: u8 = 2;
const NAMED: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(name: Option<&[u8]>) -> ClientCertificate {
        ClientCertificate::Verified {
            common_name: name.map(Into::into),
        }
    }

    fn facts(certificate: ClientCertificate) -> TlsFacts {
        TlsFacts::new(b"TLSv1.3", Some(b"TLS_AES_128_GCM_SHA256"), certificate).expect("fine")
    }

    fn lines(facts: &TlsFacts) -> Vec<String> {
        let headers = facts.headers();
        headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn the_backend_is_told_what_is_known_and_no_more() {
        let all = ["X-Tls-Version: TLSv1.3", "X-Tls-Cipher: TLS_AES_128_GCM_SHA256"];
        assert_eq!(lines(&facts(ClientCertificate::Absent)), all);
        let no_cipher = TlsFacts::new(b"TLSv1.2", None, ClientCertificate::Absent).expect("fine");
        assert_eq!(lines(&no_cipher), ["X-Tls-Version: TLSv1.2"]);
        let unverified = lines(&facts(ClientCertificate::Unverified));
        assert_eq!(unverified[2..], ["X-Client-Cert-Verified: false"]);
        assert_eq!(lines(&facts(verified(None)))[2..], ["X-Client-Cert-Verified: true"]);
        for (name, encoded) in [
            (&b"CP1"[..], "CP1"),
            (b"CP 1%", "CP%201%25"),
            ("Lades\u{e4}ule".as_bytes(), "Lades%C3%A4ule"),
            (b"a\r\nX-Client-Id: b\0\xff", "a%0D%0AX-Client-Id%3A%20b%00%FF"),
        ] {
            let told = lines(&facts(verified(Some(name))));
            let cn = format!("X-Client-Cert-Cn: {encoded}");
            assert_eq!(told[2..], [&*cn, "X-Client-Cert-Verified: true"]);
        }
    }

    #[test]
    fn a_verified_certificate_is_that_of_one_client_byte_for_byte() {
        let client = ClientId::parse("CP1").unwrap();
        for other in [&b"CP2"[..], b"cp1", b"CP", b"CP1 ", b"CP1\0", b"", b"\xff"] {
            assert!(!facts(verified(Some(other))).cn_fits(&client), "{other:?}");
        }
        assert!(facts(verified(Some(b"CP1"))).cn_fits(&client));
        assert!(!facts(verified(None)).cn_fits(&client));
        // Those say nothing of who it is.
        assert!(facts(ClientCertificate::Absent).cn_fits(&client));
        assert!(facts(ClientCertificate::Unverified).cn_fits(&client));
    }

    #[test]
    fn what_no_header_can_carry_and_what_is_too_long_is_refused() {
        let of = |version: &[u8], cipher: &[u8]| TlsFacts::new(version, Some(cipher), ClientCertificate::Absent);
        assert!(of(&b"v".repeat(VERSION_LEN_MAX), &b"c".repeat(CIPHER_LEN_MAX)).is_some());
        assert!(of(&b"v".repeat(VERSION_LEN_MAX + 1), b"c").is_none());
        assert!(of(b"v", &b"c".repeat(CIPHER_LEN_MAX + 1)).is_none());
        for bad in [&b""[..], b"a b", b"a\r\n", b"\0", b"\xc3\xa4"] {
            assert!(of(bad, b"c").is_none() && of(b"v", bad).is_none(), "{bad:?}");
        }
        let named = |len| TlsFacts::new(b"v", None, verified(Some(&b"n".repeat(len))));
        assert!(named(COMMON_NAME_LEN_MAX).is_some());
        assert!(named(COMMON_NAME_LEN_MAX + 1).is_none());
    }

    #[test]
    fn another_shard_reads_what_was_written() {
        let long = b"\xff".repeat(COMMON_NAME_LEN_MAX);
        for certificate in [
            ClientCertificate::Absent,
            ClientCertificate::Unverified,
            verified(None),
            verified(Some(b"")),
            verified(Some(&long)),
        ] {
            for facts in [
                facts(certificate.clone()),
                TlsFacts::new(b"TLSv1.2", None, certificate).expect("fine"),
            ] {
                let mut bytes = Vec::new();
                facts.write(&mut bytes);
                for len in 0..bytes.len() {
                    assert_eq!(TlsFacts::read(&mut &bytes[..len]), None);
                }
                bytes.extend_from_slice(b"rest");
                let mut rest = &*bytes;
                assert_eq!(TlsFacts::read(&mut rest), Some(facts));
                assert_eq!(rest, b"rest");
            }
        }
        assert_eq!(TlsFacts::read(&mut &[4, 1, b'v', 0, 0][..]), None);
    }
}

//! Handshakes with rustls, in pieces of any length, on either side: untouched they are done, and a text goes each way; with bytes
//! changed, left out or put in they are done or fail, and hold no more than they may. And any bytes as a peer's.
#![no_main]

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use protocol::tls::{ClientHandshake, Established, HANDSHAKE_LEN_MAX, HandshakeError, RECORD_LEN_MAX, ServerHandshake};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
};

fuzz_target!(|input: &[u8]| {
    let mut input = Choices(input);
    match input.below(4) {
        0 => nonsense(Handshake::server(&input.version()), input.0),
        1 => nonsense(Handshake::client(&input.version()), input.0),
        2 => {
            let version = input.version();
            let theirs = ClientConnection::new(CLIENTS[version.0].clone(), localhost()).expect("it begins");
            converse(Handshake::server(&version), theirs.into(), &mut input);
        }
        _ => {
            let version = input.version();
            let theirs = ServerConnection::new(SERVERS[version.0].clone()).expect("it begins");
            converse(Handshake::client(&version), theirs.into(), &mut input);
        }
    }
});

enum Handshake {
    Server(ServerHandshake),
    Client(ClientHandshake, Vec<u8>),
}

impl Handshake {
    fn server(version: &Choice) -> Self {
        Self::Server(ServerHandshake::new(&SERVERS[version.0]).expect("it begins"))
    }

    fn client(version: &Choice) -> Self {
        let mut hello = Vec::new();
        let handshake = ClientHandshake::new(&CLIENTS[version.0], localhost(), &mut hello).expect("it begins");
        Self::Client(handshake, hello)
    }

    fn advance(&mut self, received: &[u8], out: &mut Vec<u8>) -> Result<bool, HandshakeError> {
        let is_done = match self {
            Self::Server(handshake) => handshake.advance(received, out),
            Self::Client(handshake, _) => handshake.advance(received, out),
        };
        let held = match self {
            Self::Server(handshake) => handshake.held_len(),
            Self::Client(handshake, _) => handshake.held_len(),
        };
        assert!(held <= 2 * (HANDSHAKE_LEN_MAX + received.len()), "{held}");
        if is_done.is_err() {
            assert!(matches!(self.advance_again(), Err(HandshakeError::Ended)));
        }
        is_done
    }

    fn advance_again(&mut self) -> Result<bool, HandshakeError> {
        let mut out = Vec::new();
        let result = match self {
            Self::Server(handshake) => handshake.advance(b"", &mut out),
            Self::Client(handshake, _) => handshake.advance(b"", &mut out),
        };
        assert!(out.is_empty());
        result
    }

    fn finish(self) -> Established {
        match self {
            Self::Server(handshake) => handshake.finish().expect("it is done"),
            Self::Client(handshake, _) => handshake.finish().expect("it is done").0,
        }
    }
}

/// All at once, and cut anywhere, it is the same to us.
fn nonsense(mut handshake: Handshake, bytes: &[u8]) {
    let mut out = Vec::new();
    for piece in bytes.chunks(1 + bytes.len() / 3) {
        match handshake.advance(piece, &mut out) {
            Ok(is_done) => assert!(!is_done, "who knows no key ends no handshake"),
            Err(_) => return,
        }
    }
}

fn converse(mut ours: Handshake, mut theirs: Connection, input: &mut Choices<'_>) {
    let mut is_touched = false;
    let mut out = match &mut ours {
        Handshake::Server(_) => Vec::new(),
        Handshake::Client(_, hello) => std::mem::take(hello),
    };
    let mut is_done = false;
    // Text that comes with the end of the handshake.
    theirs.writer().write_all(b"early").expect("a buffer");
    loop {
        is_touched |= input.touch(&mut out);
        if given(&mut theirs, &out).is_none() {
            assert!(is_touched);
            // Its alert.
            let _ = ours.advance(&taken(&mut theirs), &mut Vec::new());
            return;
        }
        out.clear();
        if is_done {
            break;
        }
        let mut sent = taken(&mut theirs);
        is_touched |= input.touch(&mut sent);
        if sent.is_empty() {
            assert!(is_touched, "both wait");
            return;
        }
        while !sent.is_empty() {
            let len = (1 + input.below(256) * 5).min(sent.len());
            let piece: Vec<u8> = sent.drain(..len).collect();
            match ours.advance(&piece, &mut out) {
                Ok(done) => is_done = done,
                Err(error) => {
                    assert!(is_touched, "{error}");
                    assert!(out.len() < 1 << 14);
                    return;
                }
            }
        }
    }
    let Established {
        mut records, unopened, ..
    } = ours.finish();
    let rest = [unopened, taken(&mut theirs)].concat();
    let mut buffer = vec![0; rest.len().max(RECORD_LEN_MAX)];
    buffer[..rest.len()].copy_from_slice(&rest);
    let opened = records.open(&mut buffer[..rest.len()]);
    if !is_touched {
        assert_eq!((&buffer[..opened.plain_len], opened.end), (&b"early"[..], None));
        let mut sealed = Vec::new();
        records.seal(&[b"answer"], &mut sealed).expect("nothing is closed");
        assert_eq!(given(&mut theirs, &sealed).as_deref(), Some(&b"answer"[..]));
    }
}

fn given(theirs: &mut Connection, mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    while !bytes.is_empty() {
        theirs.read_tls(&mut bytes).ok()?;
        theirs.process_new_packets().ok()?;
        let _ = theirs.reader().read_to_end(&mut text);
    }
    Some(text)
}

fn taken(theirs: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while theirs.wants_write() {
        theirs.write_tls(&mut bytes).expect("a buffer");
    }
    bytes
}

struct Identity(CertificateDer<'static>, PrivateKeyDer<'static>);

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key");
    Identity(certificate.der().clone(), key)
});

/// TLS 1.2, 1.3, and 1.3 with a certificate of the client.
static SERVERS: LazyLock<[Arc<ServerConfig>; 3]> = LazyLock::new(|| {
    [
        (&rustls::version::TLS12, false),
        (&rustls::version::TLS13, false),
        (&rustls::version::TLS13, true),
    ]
    .map(|(version, asks): (&'static SupportedProtocolVersion, bool)| {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .expect("a version");
        let builder = if asks {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots()), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let config = builder.with_single_cert(vec![IDENTITY.0.clone()], IDENTITY.1.clone_key());
        Arc::new(config.expect("a certificate"))
    })
});

/// None is resumed: one input has nothing to do with another.
static CLIENTS: LazyLock<[Arc<ClientConfig>; 3]> = LazyLock::new(|| {
    [
        (&rustls::version::TLS12, false),
        (&rustls::version::TLS13, false),
        (&rustls::version::TLS13, true),
    ]
    .map(|(version, shows): (&'static SupportedProtocolVersion, bool)| {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots());
        let mut config = if shows {
            builder
                .with_client_auth_cert(vec![IDENTITY.0.clone()], IDENTITY.1.clone_key())
                .expect("a certificate")
        } else {
            builder.with_no_client_auth()
        };
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    })
});

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(IDENTITY.0.clone()).expect("a root");
    roots
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

struct Choice(usize);

struct Choices<'i>(&'i [u8]);

impl Choices<'_> {
    fn below(&mut self, limit: usize) -> usize {
        self.0.split_off_first().map_or(0, |byte| usize::from(*byte) % limit)
    }

    fn version(&mut self) -> Choice {
        Choice(self.below(3))
    }

    /// Changes, leaves out or puts in a byte, or nothing.
    fn touch(&mut self, bytes: &mut Vec<u8>) -> bool {
        let how = self.below(8);
        if how < 5 || bytes.is_empty() {
            return false;
        }
        let at = (self.below(256) << 8 | self.below(256)) % bytes.len();
        match how {
            5 => bytes[at] ^= 1 << self.below(8),
            6 => bytes.truncate(at),
            _ => bytes.insert(at, self.below(256) as u8),
        }
        true
    }
}

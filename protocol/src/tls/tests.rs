//! Plays both sides of a connection, with rustls as the other one: a connection of its own on a buffer of its own.

mod agreement;
mod handshakes;
mod hostile;
mod key_updates;
mod moving;

use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::*;

/// A certificate for `localhost`, and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn new(key: KeyPair) -> Self {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "CP1");
        Self {
            certificate: params.self_signed(&key).unwrap().der().clone(),
            key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        }
    }

    fn of(suite: Suite) -> &'static Self {
        if suite.name().contains("-RSA-") { &RSA } else { &ECDSA }
    }
}

static ECDSA: LazyLock<Identity> =
    LazyLock::new(|| Identity::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()));
/// ring makes no keys for RSA.
static RSA: LazyLock<Identity> =
    LazyLock::new(|| Identity::new(KeyPair::from_pem(include_str!("tests/rsa.pem")).unwrap()));

fn provider(suite: Suite) -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .retain(|known| u16::from(known.suite()) == suite.number());
    assert_eq!(provider.cipher_suites.len(), 1, "{suite:?}");
    Arc::new(provider)
}

fn version(suite: Suite) -> &'static SupportedProtocolVersion {
    match suite.version() {
        Version::Tls12 => &rustls::version::TLS12,
        Version::Tls13 => &rustls::version::TLS13,
    }
}

fn server_config(suite: Suite) -> ServerConfig {
    let identity = Identity::of(suite);
    let mut config = ServerConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(&[version(suite)])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .unwrap();
    config.ticketer = ring::Ticketer::new().unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// One that wants to see a certificate.
fn strict_server_config(suite: Suite) -> ServerConfig {
    let provider = provider(suite);
    let identity = Identity::of(suite);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(suite)), provider.clone())
        .build()
        .unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version(suite)])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .unwrap()
}

fn roots(suite: Suite) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(Identity::of(suite).certificate.clone()).unwrap();
    roots
}

fn client_config(suite: Suite) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(&[version(suite)])
        .unwrap()
        .with_root_certificates(roots(suite))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// A connection of ours with one of rustls.
struct Pair {
    ours: Records,
    theirs: Connection,
    facts: Facts,
    tickets: Option<Tickets>,
}

impl Pair {
    /// One in which we are the server.
    fn server(suite: Suite) -> Self {
        let theirs = ClientConnection::new(Arc::new(client_config(suite)), localhost()).unwrap();
        Self::accepted(&server_config(suite), theirs.into(), usize::MAX)
    }

    /// One in which we are the client.
    fn client(suite: Suite) -> Self {
        let theirs = ServerConnection::new(Arc::new(server_config(suite))).unwrap();
        Self::connected(&client_config(suite), theirs.into(), usize::MAX)
    }

    fn all() -> impl Iterator<Item = Self> {
        Suite::ALL
            .into_iter()
            .flat_map(|suite| [Self::server(suite), Self::client(suite)])
    }

    /// What comes, comes in pieces of `len` bytes.
    fn accepted(config: &ServerConfig, mut theirs: Connection, len: usize) -> Self {
        let mut handshake = ServerHandshake::new(config).unwrap();
        shake_hands(&mut theirs, Vec::new(), len, |received, out| {
            handshake.advance(received, out).unwrap()
        });
        Self::established(handshake.finish().unwrap(), theirs, None)
    }

    fn connected(config: &ClientConfig, mut theirs: Connection, len: usize) -> Self {
        let mut out = Vec::new();
        let mut handshake = ClientHandshake::new(config, localhost(), &mut out).unwrap();
        shake_hands(&mut theirs, out, len, |received, out| {
            handshake.advance(received, out).unwrap()
        });
        let (established, tickets) = handshake.finish().unwrap();
        Self::established(established, theirs, tickets)
    }

    fn established(established: Established, theirs: Connection, tickets: Option<Tickets>) -> Self {
        let Established {
            records,
            facts,
            mut unopened,
        } = established;
        let mut pair = Self {
            ours: records,
            theirs,
            facts,
            tickets,
        };
        let opened = pair.ours.open(&mut unopened);
        assert_eq!((opened.plain_len, opened.end), (0, None));
        pair.take(&opened);
        // What they have left to say: tickets.
        assert_eq!(pair.receive(usize::MAX), b"");
        pair
    }

    fn take(&mut self, opened: &Opened) {
        for ticket in &opened.tickets {
            self.tickets.as_mut().unwrap().handle(ticket).unwrap();
        }
    }

    /// They get what we seal.
    fn send(&mut self, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        self.ours.seal(parts, &mut out).unwrap();
        given(&mut self.theirs, &out).unwrap()
    }

    /// We get what they have to send, in pieces of `len` bytes.
    fn receive(&mut self, len: usize) -> Vec<u8> {
        let sent = taken(&mut self.theirs);
        self.open(&sent, len)
    }

    fn open(&mut self, sent: &[u8], len: usize) -> Vec<u8> {
        let mut plain = Vec::new();
        for piece in sent.chunks(len.min(BUFFER_LEN - RECORD_LEN_MAX)) {
            let opened = open(&mut self.ours, piece, &mut plain);
            assert_eq!(opened.end, None);
            self.take(&opened);
        }
        plain
    }
}

/// As the socket does it.
fn open(records: &mut Records, piece: &[u8], plain: &mut Vec<u8>) -> Opened {
    let mut buffer = vec![0xa5; BUFFER_LEN];
    let kept = records.begin(&mut buffer);
    buffer[kept..kept + piece.len()].copy_from_slice(piece);
    let opened = records.open(&mut buffer[..kept + piece.len()]);
    plain.extend_from_slice(&buffer[..opened.plain_len]);
    assert!(records.held_len() <= RECORD_LEN_MAX + (32 << 10));
    opened
}

/// Until neither has anything to say.
fn shake_hands(
    theirs: &mut Connection,
    mut out: Vec<u8>,
    len: usize,
    mut advance: impl FnMut(&[u8], &mut Vec<u8>) -> bool,
) {
    let mut is_done = false;
    loop {
        given(theirs, &out).unwrap();
        out.clear();
        let sent = taken(theirs);
        if sent.is_empty() {
            assert!(is_done && !theirs.is_handshaking());
            return;
        }
        for piece in sent.chunks(len) {
            is_done = advance(piece, &mut out);
        }
    }
}

/// They are given bytes. Returns the text that is in them.
fn given(theirs: &mut Connection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        theirs.read_tls(&mut bytes).unwrap();
        theirs.process_new_packets()?;
        match theirs.reader().read_to_end(&mut plain) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) => break,
            Err(error) => panic!("{error}"),
        }
    }
    Ok(plain)
}

/// What they have to send.
fn taken(theirs: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while theirs.wants_write() {
        theirs.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// They seal a text.
fn sealed(theirs: &mut Connection, text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in text.chunks(1 << 14) {
        theirs.writer().write_all(piece).unwrap();
        bytes.append(&mut taken(theirs));
    }
    bytes
}

/// A client and a server, both of ours.
fn both(suite: Suite) -> (Records, Records) {
    let mut out = Vec::new();
    let mut client = ClientHandshake::new(&client_config(suite), localhost(), &mut out).unwrap();
    let mut server = ServerHandshake::new(&server_config(suite)).unwrap();
    let (mut is_done, mut back) = ((false, false), Vec::new());
    while is_done != (true, true) {
        is_done.0 = server.advance(&std::mem::take(&mut out), &mut back).unwrap();
        is_done.1 = client.advance(&std::mem::take(&mut back), &mut out).unwrap();
    }
    let (client, mut tickets) = client.finish().unwrap();
    let (mut client, mut unopened) = (client.records, client.unopened);
    let opened = client.open(&mut unopened);
    assert_eq!(opened.end, None);
    for ticket in opened.tickets {
        tickets.as_mut().unwrap().handle(&ticket).unwrap();
    }
    (client, server.finish().unwrap().records)
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

const BUFFER_LEN: usize = 64 << 10;

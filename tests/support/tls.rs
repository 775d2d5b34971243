//! Speaks TLS as a client, with rustls.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore,
    SupportedProtocolVersion,
};

use super::certificates::{Authority, Certificate};
use super::http::{Connection, Http, Stream};
use super::{Client, DEADLINE, Handshake};

/// How clients of a test connect. Those of one share their tickets.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    host: String,
}

/// A connection under TLS.
#[derive(Debug)]
pub struct TlsStream {
    pub connection: ClientConnection,
    pub socket: TcpStream,
}

impl Tls {
    /// All versions, no certificate.
    pub fn trusting(authority: &Authority) -> Self {
        Self::new(authority, rustls::ALL_VERSIONS, None)
    }

    /// One that nobody has issued.
    pub fn trusting_itself(certificate: &Certificate) -> Self {
        let der = CertificateDer::from_pem_slice(certificate.chain.as_bytes()).unwrap();
        Self::with(
            der,
            rustls::crypto::ring::default_provider(),
            rustls::ALL_VERSIONS,
            None,
        )
    }

    /// That version alone.
    pub fn version(authority: &Authority, version: &'static SupportedProtocolVersion) -> Self {
        Self::new(authority, &[version], None)
    }

    /// Shows a certificate.
    pub fn showing(authority: &Authority, own: &Certificate) -> Self {
        Self::new(authority, rustls::ALL_VERSIONS, Some(own))
    }

    /// That suite alone.
    pub fn suite(authority: &Authority, suite: CipherSuite) -> Self {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.retain(|known| known.suite() == suite);
        let version = provider.cipher_suites[0].version();
        Self::with(authority.der().into(), provider, &[version], None)
    }

    fn new(authority: &Authority, versions: &[&'static SupportedProtocolVersion], own: Option<&Certificate>) -> Self {
        Self::with(
            authority.der().into(),
            rustls::crypto::ring::default_provider(),
            versions,
            own,
        )
    }

    fn with(
        root: CertificateDer<'static>,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Certificate>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        let builder = ClientConfig::builder_with_provider(provider.into());
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.chain.as_bytes()).map(Result::unwrap);
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain.collect(), key).unwrap()
            }
        };
        Self {
            config: Arc::new(config),
            host: "localhost".to_owned(),
        }
    }

    /// Asks for another host.
    pub fn host(&self, host: &str) -> Self {
        Self {
            host: host.to_owned(),
            ..self.clone()
        }
    }

    /// Connects, and says nothing yet.
    #[track_caller]
    pub fn begin(&self, address: SocketAddr) -> TlsStream {
        self.try_begin(address).unwrap()
    }

    fn try_begin(&self, address: SocketAddr) -> io::Result<TlsStream> {
        let socket = TcpStream::connect_timeout(&address, DEADLINE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        let host = ServerName::try_from(self.host.clone()).unwrap();
        let connection = ClientConnection::new(self.config.clone(), host).unwrap();
        Ok(TlsStream { connection, socket })
    }

    /// Connects, and shakes hands.
    pub fn try_connect(&self, address: SocketAddr) -> io::Result<TlsStream> {
        self.try_connect_behind(b"", address)
    }

    /// The same behind a header that a load balancer writes.
    pub fn try_connect_behind(&self, header: &[u8], address: SocketAddr) -> io::Result<TlsStream> {
        let mut stream = self.try_begin(address)?;
        stream.socket.write_all(header)?;
        while stream.connection.is_handshaking() {
            stream.connection.complete_io(&mut stream.socket)?;
        }
        Ok(stream)
    }

    /// The same, which has to succeed.
    #[track_caller]
    pub fn connect(&self, address: SocketAddr) -> TlsStream {
        self.try_connect(address)
            .unwrap_or_else(|error| panic!("no TLS: {error}"))
    }

    /// A WebSocket.
    #[track_caller]
    pub fn open(&self, handshake: &Handshake, address: SocketAddr) -> Client {
        let mut http = self.connect(address).into_http();
        http.send(handshake.bytes());
        Client::upgrade(http)
    }
}

impl TlsStream {
    pub fn into_http(self) -> Http {
        Http {
            connection: Connection::new(Stream::Tls(Box::new(self))),
        }
    }

    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub fn version(&self) -> Option<ProtocolVersion> {
        self.connection.protocol_version()
    }

    /// The server's certificate.
    pub fn certificate(&self) -> Vec<u8> {
        self.connection.peer_certificates().unwrap()[0].to_vec()
    }
}

impl Read for TlsStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, &mut self.socket).read(buf)
    }
}

impl Write for TlsStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = rustls::Stream::new(&mut self.connection, &mut self.socket).write(buf)?;
        self.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        rustls::Stream::new(&mut self.connection, &mut self.socket).flush()
    }
}

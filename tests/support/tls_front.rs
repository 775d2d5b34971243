//! Ends TLS before a scripted backend, as a server of its own would.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::Backend;
use super::certificates::{Authority, Certificate};

/// A TLS server; what comes goes on to a backend in plain text.
pub struct TlsFront {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    config: Arc<ServerConfig>,
    seen: Vec<Seen>,
    /// Connections end without the word that they do.
    cuts_off: bool,
    stopping: bool,
}

/// A connection whose handshake is over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    pub is_resumed: bool,
    pub server_name: Option<String>,
    pub alpn: Option<Vec<u8>>,
    pub has_certificate: bool,
}

impl TlsFront {
    /// Before that backend, with that certificate.
    pub fn start(backend: &Backend, leaf: &Certificate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared {
            config: config(leaf, None, rustls::ALL_VERSIONS),
            seen: Vec::new(),
            cuts_off: false,
            stopping: false,
        }));
        let (shares, behind) = (shared.clone(), backend.address());
        let accepting = thread::spawn(move || {
            for client in listener.incoming() {
                if shares.lock().unwrap().stopping {
                    break;
                }
                let (client, shared) = (client.unwrap(), shares.clone());
                thread::spawn(move || {
                    // The program may go at any time.
                    let _ = serve(client, behind, &shared);
                });
            }
        });
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// Its URL, by that host.
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.address.port())
    }

    /// From now on it shows another certificate.
    pub fn show(&self, leaf: &Certificate) {
        self.shared.lock().unwrap().config = config(leaf, None, rustls::ALL_VERSIONS);
    }

    /// From now on it wants one that `authority` has signed, and speaks these versions.
    pub fn want(&self, leaf: &Certificate, authority: &Authority, versions: &[&'static SupportedProtocolVersion]) {
        self.shared.lock().unwrap().config = config(leaf, Some(authority), versions);
    }

    /// From now on connections end without the word that they do.
    pub fn cut_off(&self) {
        self.shared.lock().unwrap().cuts_off = true;
    }

    /// The connections whose handshake is over, in the order of their ends.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().unwrap().seen.clone()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.shared.lock().unwrap().stopping = true;
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn config(
    leaf: &Certificate,
    authority: Option<&Authority>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
            roots.add(root).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).map(Result::unwrap);
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain.collect(), key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.into()
}

fn serve(mut client: TcpStream, behind: SocketAddr, shared: &Mutex<Shared>) -> io::Result<()> {
    let config = shared.lock().unwrap().config.clone();
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut client)?;
    }
    shared.lock().unwrap().seen.push(Seen {
        is_resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        server_name: tls.server_name().map(str::to_owned),
        alpn: tls.alpn_protocol().map(<[u8]>::to_vec),
        has_certificate: tls.peer_certificates().is_some(),
    });
    let mut backend = TcpStream::connect(behind)?;
    let mut buffer = [0; 16 * 1024];
    loop {
        // What came behind the handshake is there already.
        match tls.reader().read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                backend.write_all(&buffer[..len])?;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while tls.wants_write() {
            tls.write_tls(&mut client)?;
        }
        let [from_client, from_backend] = {
            let mut fds = [client.as_fd(), backend.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            poll(&mut fds, None)?;
            fds.map(|fd| !fd.revents().is_empty())
        };
        if from_client {
            if tls.read_tls(&mut client)? == 0 {
                break;
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
        if from_backend {
            let len = backend.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            tls.writer().write_all(&buffer[..len])?;
        }
    }
    if !shared.lock().unwrap().cuts_off {
        tls.send_close_notify();
    }
    while tls.wants_write() {
        tls.write_tls(&mut client)?;
    }
    client.shutdown(Shutdown::Write)?;
    // What it still has to say is nobody's; a close now might take away what it has not read.
    let _ = io::copy(&mut client, &mut io::sink());
    Ok(())
}

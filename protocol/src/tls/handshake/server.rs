//! Shakes hands with a client.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::server::{ClientHello, ResolvesServerCert, ServerConnectionData, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::UnbufferedStatus;
use rustls::{CommonState, Error, ServerConfig};

use super::HandshakeError;
use super::established::{Established, Facts};
use super::progress::{Progress, Side};
use super::secrets::Secrets;
use crate::tls::records::{self, Records};

/// One with a client that has just come.
pub struct ServerHandshake {
    connection: UnbufferedServerConnection,
    progress: Progress,
    secrets: Arc<Secrets>,
    names: Arc<Names>,
}

impl ServerHandshake {
    /// Begins one.
    ///
    /// # Errors
    /// The configuration is not one to work with.
    pub fn new(config: &ServerConfig) -> Result<Self, HandshakeError> {
        let secrets = Arc::new(Secrets::default());
        let names = Arc::new(Names {
            resolver: config.cert_resolver.clone(),
            server_name: OnceLock::new(),
            is_vain: OnceLock::new(),
        });
        let mut config = config.clone();
        config.key_log = secrets.clone();
        config.cert_resolver = names.clone();
        config.enable_secret_extraction = true;
        // Text that comes before the end of a handshake can be repeated by others.
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        Ok(Self {
            connection: UnbufferedServerConnection::new(Arc::new(config))?,
            progress: Progress::default(),
            secrets,
            names,
        })
    }

    /// Takes what was received, and appends what is to be sent; also when it fails. True: it is done.
    ///
    /// # Errors
    /// There will be no connection.
    pub fn advance(&mut self, received: &[u8], out: &mut Vec<u8>) -> Result<bool, HandshakeError> {
        let start = out.len();
        let advanced = self.progress.advance(&mut self.connection, received, out);
        advanced.map_err(|error| match error {
            // rustls calls that a fault of its own.
            HandshakeError::Tls(Error::General(_)) if self.names.is_vain.get().is_some() => {
                correct_alert(out.get_mut(start..).unwrap_or_default());
                HandshakeError::NoCertificate
            }
            error => error,
        })
    }

    /// How many received bytes are held, but for what rustls keeps of them.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.progress.held_len()
    }

    /// What it leaves, when it is done and what is to be sent was appended.
    ///
    /// # Errors
    /// It is not done.
    pub fn finish(self) -> Result<Established, HandshakeError> {
        let server_name = self.names.server_name.get().cloned();
        let facts = Facts::of(&self.connection, server_name)?;
        let (extracted, _) = self.connection.dangerous_into_kernel_connection()?;
        let records = Records::established(facts.suite, records::Side::Server, &extracted, &self.secrets)?;
        Ok(Established {
            records,
            facts,
            unopened: self.progress.into_rest(),
        })
    }
}

impl fmt::Debug for ServerHandshake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ServerHandshake")
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

/// Where none of our certificates is of a kind that the client knows rustls says access_denied. There is a word for nothing in common
/// (RFC 8446, 4.1.1; RFC 5246, 7.4.3), and programs that look for what a server speaks wait for that.
fn correct_alert(records: &mut [u8]) {
    if let [21, _, _, 0, 2, 2, description @ ACCESS_DENIED] = records {
        *description = HANDSHAKE_FAILURE;
    }
}

const ACCESS_DENIED: u8 = 49;
const HANDSHAKE_FAILURE: u8 = 40;

/// Sees which name the client has asked for: rustls tells it to nobody else here.
#[derive(Debug)]
struct Names {
    resolver: Arc<dyn ResolvesServerCert>,
    server_name: OnceLock<Box<str>>,
    /// There was no certificate for it.
    is_vain: OnceLock<()>,
}

impl ResolvesServerCert for Names {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = client_hello.server_name() {
            let _ = self.server_name.set(name.into());
        }
        let resolved = self.resolver.resolve(client_hello);
        if resolved.is_none() {
            let _ = self.is_vain.set(());
        }
        resolved
    }

    fn only_raw_public_keys(&self) -> bool {
        self.resolver.only_raw_public_keys()
    }
}

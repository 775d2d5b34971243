//! Shakes hands with a server.

use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::UnbufferedStatus;
use rustls::{ClientConfig, CommonState};

use super::HandshakeError;
use super::established::{Established, Facts};
use super::progress::{Progress, Side};
use super::secrets::Secrets;
use crate::tls::records::{self, Records};
use crate::tls::suite::Version;

/// One with a server that we have connected to.
pub struct ClientHandshake {
    connection: UnbufferedClientConnection,
    progress: Progress,
    secrets: Arc<Secrets>,
}

impl ClientHandshake {
    /// Begins one with the server of this name, and appends its first message.
    ///
    /// # Errors
    /// The configuration is not one to work with.
    pub fn new(config: &ClientConfig, name: ServerName<'static>, out: &mut Vec<u8>) -> Result<Self, HandshakeError> {
        let secrets = Arc::new(Secrets::default());
        let mut config = config.clone();
        config.key_log = secrets.clone();
        config.enable_secret_extraction = true;
        config.enable_early_data = false;
        let mut handshake = Self {
            connection: UnbufferedClientConnection::new(Arc::new(config), name)?,
            progress: Progress::default(),
            secrets,
        };
        handshake.advance(&[], out)?;
        Ok(handshake)
    }

    /// Takes what was received, and appends what is to be sent; also when it fails. True: it is done.
    ///
    /// # Errors
    /// There will be no connection.
    pub fn advance(&mut self, received: &[u8], out: &mut Vec<u8>) -> Result<bool, HandshakeError> {
        self.progress.advance(&mut self.connection, received, out)
    }

    /// How many received bytes are held, but for what rustls keeps of them.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.progress.held_len()
    }

    /// What it leaves, when it is done and what is to be sent was appended; and who takes the server's tickets. In TLS 1.2 they
    /// have come already.
    ///
    /// # Errors
    /// It is not done.
    pub fn finish(self) -> Result<(Established, Option<Tickets>), HandshakeError> {
        let facts = Facts::of(&self.connection, None)?;
        let (extracted, rest) = self.connection.dangerous_into_kernel_connection()?;
        let records = Records::established(facts.suite, records::Side::Client, &extracted, &self.secrets)?;
        let tickets = (facts.version() == Version::Tls13).then_some(Tickets(rest));
        let established = Established {
            records,
            facts,
            unopened: self.progress.into_rest(),
        };
        Ok((established, tickets))
    }
}

/// Takes the tickets that a server sends behind the handshake, for the configuration's next one. What is left of rustls is in it.
pub struct Tickets(KernelConnection<ClientConnectionData>);

impl Tickets {
    /// Takes one of [`Opened::tickets`](crate::tls::Opened::tickets).
    ///
    /// # Errors
    /// It is none.
    pub fn handle(&mut self, ticket: &[u8]) -> Result<(), HandshakeError> {
        Ok(self.0.handle_new_session_ticket(ticket)?)
    }
}

impl fmt::Debug for ClientHandshake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientHandshake")
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tickets")
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

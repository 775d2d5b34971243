//! Takes the traffic secrets of TLS 1.3 out of a handshake.

use std::fmt;
use std::sync::OnceLock;

use rustls::KeyLog;
use zeroize::Zeroizing;

/// Those of one handshake.
#[derive(Default)]
pub(super) struct Secrets {
    client: OnceLock<Zeroizing<Vec<u8>>>,
    server: OnceLock<Zeroizing<Vec<u8>>>,
}

impl Secrets {
    /// What the client's records are sealed with.
    pub(super) fn client(&self) -> Option<&[u8]> {
        self.client.get().map(|secret| &secret[..])
    }

    /// What the server's records are sealed with.
    pub(super) fn server(&self) -> Option<&[u8]> {
        self.server.get().map(|secret| &secret[..])
    }

    fn place(&self, label: &str) -> Option<&OnceLock<Zeroizing<Vec<u8>>>> {
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => Some(&self.client),
            "SERVER_TRAFFIC_SECRET_0" => Some(&self.server),
            _ => None,
        }
    }
}

impl KeyLog for Secrets {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if let Some(place) = self.place(label) {
            // There is one of each in a handshake.
            let _ = place.set(Zeroizing::new(secret.to_vec()));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        self.place(label).is_some()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets")
    }
}

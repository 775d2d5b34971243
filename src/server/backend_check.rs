//! Tries whether backends over TLS are who they should be: for `ws2api check`.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::backend::{Trust, mistrust_words, targets};
use crate::config::{BackendUrl, Config, Warning};
use protocol::tls::{ClientHandshake, Facts, HandshakeError};
use rustls::pki_types::ServerName;

/// A line for each that is who it should be, and what is wrong with the others.
#[must_use]
pub fn backends(config: &Config) -> (Vec<String>, Vec<Warning>) {
    let (mut rows, mut warnings) = (Vec::new(), Vec::new());
    let Ok(Some(trust)) = Trust::read(&config.node) else {
        // There are none; or the start fails, too.
        return (rows, warnings);
    };
    let timeout = config
        .cores
        .iter()
        .map(|core| core.connect_timeout)
        .max()
        .unwrap_or_default();
    for url in config.node.backends.iter().filter(|url| url.is_tls()) {
        match ask(url, &trust, timeout) {
            Ok(facts) => rows.push(format!(
                "# {url}: {}, {}; its certificate is good",
                facts.version().name(),
                facts.suite.name()
            )),
            Err(why) => warnings.push(Warning {
                what: format!("backend {url}: {why}"),
                fix: "until then clients get 502".to_owned(),
            }),
        }
    }
    (rows, warnings)
}

/// A handshake with it, and no request.
fn ask(url: &BackendUrl, trust: &Trust, timeout: Duration) -> Result<Facts, String> {
    let name = targets::server_name(url).ok_or("no certificate can have this host's name")?;
    let addresses = targets::look_up(url);
    let mut why = "its name has no address".to_owned();
    for address in addresses {
        match shake_hands(address, name.clone(), trust, timeout) {
            Ok(Ok(facts)) => return Ok(facts),
            Ok(Err(error)) => return Err(mistrust_words(&error)),
            Err(error) => why = format!("it can't be connected to at {address}: {error}"),
        }
    }
    Err(why)
}

fn shake_hands(
    address: SocketAddr,
    name: ServerName<'static>,
    trust: &Trust,
    timeout: Duration,
) -> io::Result<Result<Facts, HandshakeError>> {
    let mut socket = TcpStream::connect_timeout(&address, timeout)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.set_write_timeout(Some(timeout))?;
    let (mut out, mut received) = (Vec::new(), [0; 4096]);
    let mut handshake = match ClientHandshake::new(trust.config(), name, &mut out) {
        Ok(handshake) => handshake,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        socket.write_all(&out)?;
        out.clear();
        let len = match socket.read(&mut received) {
            Ok(0) => return Ok(Err(HandshakeError::Ended)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let advanced = handshake.advance(&received[..len], &mut out);
        if !matches!(advanced, Ok(false)) {
            // That it hears why is a courtesy.
            let _ = socket.write_all(&out);
            return Ok(advanced.and_then(|_| Ok(handshake.finish()?.0.facts)));
        }
    }
}

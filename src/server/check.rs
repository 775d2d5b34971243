//! Tries what a start asks of this machine, without starting: `ws2api check`, and the warnings of the start itself.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::net::{AddressFamily, SocketType, bind, socket};

use super::certificates::{self, Loaded};
use super::listeners::ListenError;
use super::{ServeError, host, token_files, tokens};
use crate::backend::Trust;
use crate::config::{self, CertificateFiles, ClientIdPlace, Config, Warning, Word as _};

/// Whether a start would find its tokens and its addresses here. A port that is in use is no fault: a server with this
/// configuration may be running.
///
/// # Errors
/// The [`ServeError`] that the start would end with.
pub fn check(config: &Config) -> Result<(), ServeError> {
    let node = &config.node;
    tokens(node)?;
    certificates::load(node)?;
    Trust::read(node)?;
    for (key, address) in [
        ("listen", node.listen),
        ("listen_tls", node.listen_tls),
        ("ingress", Some(node.ingress)),
        ("admin", Some(node.admin)),
    ] {
        let Some(address) = address else { continue };
        match try_bind(address) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(ListenError::Address { key, address, error }.into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes the address for a moment, without listening: nobody's connection ends here.
fn try_bind(address: SocketAddr) -> io::Result<()> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    Ok(bind(&socket, &address)?)
}

/// Who gets in with this configuration, line by line: for whoever looks for why a charger does not connect.
#[must_use]
pub fn admission_rows(config: &Config) -> Vec<String> {
    let node = &config.node;
    let or_none = |list: String, none: &str| if list.is_empty() { none.to_owned() } else { list };
    let place = match node.client_id {
        ClientIdPlace::OneSegment => "<ClientId>",
        ClientIdPlace::LastSegment => "…/<ClientId>",
    };
    let paths = node.path_prefix.iter().map(|prefix| format!("{prefix}{place}"));
    let tolerated = node.tolerate.iter().map(|word| word.spelling()).collect::<Vec<_>>();
    let none_offered = if node.subprotocol_required {
        ", and no client without one"
    } else {
        ", or none at all"
    };
    vec![
        format!("# path: {}", paths.collect::<Vec<_>>().join(" or ")),
        format!("# subprotocol: {}{none_offered}", node.subprotocols.join(", ")),
        format!("# Origin: {}", or_none(node.origins.join(", "), "any")),
        format!("# tolerated: {}", or_none(tolerated.join(", "), "nothing that breaks RFC 6455 or OCPP-J")),
        "# A charger does not connect? The log says why, once per reason and five minutes; docs/operating.md goes from there.".to_owned(),
    ]
}

/// The certificates of `listen_tls`, line by line; nothing where there are none, or none that can be used.
#[must_use]
pub fn certificate_rows(config: &Config) -> Vec<String> {
    let rows = certificates(config).map(|loaded| loaded.rows(SystemTime::now()));
    rows.unwrap_or_default().iter().map(|row| format!("# {row}")).collect()
}

fn certificates(config: &Config) -> Option<Loaded> {
    certificates::load(&config.node).ok().flatten()
}

/// What is worth fixing before `config` runs here, on a machine with these limits; the gravest first.
#[must_use]
pub fn warnings(config: &Config, limits: &host::Limits) -> Vec<Warning> {
    let mut found = host::warnings(config, limits);
    found.extend(token_files(&config.node).into_iter().filter_map(token_for_all));
    if let Some(loaded) = certificates(config) {
        found.extend_from_slice(loaded.warnings());
        found.extend(config.node.tls_certificates.iter().filter_map(key_for_all));
    }
    found.append(&mut config::warnings(config));
    found
}

fn token_for_all((key, file): (&str, Option<&PathBuf>)) -> Option<Warning> {
    let file = file?;
    let power = match key {
        "ingress_token_file" => "command every client",
        _ => "see clients and profiles",
    };
    is_for_all(file).then(|| Warning {
        what: format!(
            "{key} = {}: every user of this machine can read it, and with it {power}",
            file.display()
        ),
        fix: format!(
            "chmod o= {}, and let it belong to the user that ws2api runs as",
            file.display()
        ),
    })
}

fn key_for_all(files: &CertificateFiles) -> Option<Warning> {
    let key = files.key.display();
    is_for_all(&files.key).then(|| Warning {
        what: format!(
            "tls_certificates: {key}: every user of this machine can read this key, and with it be this server"
        ),
        fix: format!("chmod o= {key}, and let it belong to the user that ws2api runs as"),
    })
}

fn is_for_all(file: &Path) -> bool {
    let metadata = std::fs::metadata(file);
    metadata.is_ok_and(|metadata| metadata.permissions().mode() & OTHERS_READ != 0)
}

/// S_IROTH.
const OTHERS_READ: u32 = 0o004;

//! Finds where the process is and what lets one in: by the configuration's file, the flags, or the defaults.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::http::Client;
use crate::cli::ServeArgs;
use crate::config::{self, Node};

/// A listener that commands ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Listener {
    Ingress,
    Admin,
}

impl Listener {
    /// Its key, which is its flag, too.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Admin => "admin",
        }
    }

    /// The key of the file that holds its token.
    pub(super) fn token_key(self) -> &'static str {
        match self {
            Self::Ingress => "ingress_token_file",
            Self::Admin => "admin_token_file",
        }
    }
}

/// The addresses and tokens of one process.
#[derive(Debug)]
pub(super) struct Place {
    node: Node,
    /// `--ingress` and `--admin`, which may also be names.
    named: [Option<String>; 2],
}

impl Place {
    /// What the file and the flags say. The file may be another machine's.
    ///
    /// # Errors
    /// When the configuration is none.
    pub(super) fn find(args: &ServeArgs) -> Result<Self, Failure> {
        let mut overrides = args.overrides.clone();
        overrides.elsewhere = true;
        let named = [Listener::Ingress, Listener::Admin].map(|listener| {
            let flag = format!("--{}", listener.key());
            let found = overrides.set.iter().rev().find(|set| set.flag == flag);
            let value = found.and_then(|set| set.values.last().cloned());
            overrides.set.retain(|set| set.flag != flag);
            value
        });
        // CPUs do not matter here; there has to be one.
        let config = config::load(args.config.as_deref(), &overrides, &[0]);
        let config = config.map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Self {
            node: config.node,
            named,
        })
    }

    /// Where clients connect, and what stands before their ids.
    ///
    /// # Errors
    /// They connect with TLS alone.
    pub(super) fn clients_address(&self) -> Result<(SocketAddr, String), Failure> {
        let prefix = self.node.path_prefix.first().cloned().unwrap_or_default();
        let listen = self.node.listen.ok_or_else(|| {
            Failure::Usage("listen is empty: clients connect with TLS alone; say where to with a URL".to_owned())
        })?;
        Ok((reachable(listen), prefix))
    }

    /// The way to a listener, with its token.
    ///
    /// # Errors
    /// When the configuration names no address that one can connect to, or its token can't be read.
    pub(super) fn client(&self, listener: Listener) -> Result<Client, Failure> {
        let (named, own, token) = match listener {
            Listener::Ingress => (&self.named[0], self.node.ingress, &self.node.ingress_token_file),
            Listener::Admin => (&self.named[1], self.node.admin, &self.node.admin_token_file),
        };
        let address = match named {
            Some(named) if named.contains(':') => named.clone(),
            Some(named) => {
                let key = listener.key();
                return Err(Failure::Usage(format!(
                    "--{key} {named}: written as host:port, such as 127.0.0.1:4002"
                )));
            }
            None => reachable(own).to_string(),
        };
        if address.ends_with(":0") {
            let key = listener.key();
            return Err(Failure::Usage(format!(
                "{key} = {address}: the port is the system's choice; say which with --{key} (the process prints it at its start)"
            )));
        }
        let token = token.as_ref().map(|file| read_token(listener, file)).transpose()?;
        Ok(Client::new(listener, address, token))
    }
}

/// An address that one can connect to: of a listener on every address of the machine, its own.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

/// The first line: where there are two, either is good.
fn read_token(listener: Listener, file: &PathBuf) -> Result<(PathBuf, String), Failure> {
    let refuse = |why: &str| {
        let key = listener.token_key();
        Failure::Usage(format!(
            "{key} = {}: {why}; run as a user who may read it, or name another file with --set {key}=FILE",
            file.display()
        ))
    };
    let text = std::fs::read_to_string(Path::new(file)).map_err(|error| refuse(&error.to_string()))?;
    let token = text.lines().next().map_or("", str::trim);
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refuse("its first line is no token"));
    }
    Ok((file.clone(), token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_asked_on_this_machine() {
        for (listens, asked) in [
            ("0.0.0.0:4001", "127.0.0.1:4001"),
            ("[::]:4001", "[::1]:4001"),
            ("10.0.0.7:4001", "10.0.0.7:4001"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
